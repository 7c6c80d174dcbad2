"""Secret files, which only their owner may read, and files that the system changes."""
