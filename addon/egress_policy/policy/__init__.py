"""Decisions: pure functions of a frozen snapshot and a target. No I/O, no clock, no randomness."""
