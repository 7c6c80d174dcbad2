"""Files that hold a secret for their owner alone, and files that the system changes."""
