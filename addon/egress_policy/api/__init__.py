"""The management API and its page: one more face of ``management``."""
