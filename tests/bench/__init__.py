"""Measurements against what people use today. `python -m tests.bench`; no test runs them."""
