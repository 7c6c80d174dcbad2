"""The use cases of every face: what is in force, how it is configured, and how it fares."""
