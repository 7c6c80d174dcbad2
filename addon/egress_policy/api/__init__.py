"""The management API and its page, on tornado: one more face of ``management``."""
