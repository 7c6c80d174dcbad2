"""Hypothesis without a deadline an example: machines are busy, and time is no property here."""

from hypothesis import settings

settings.register_profile("egress", deadline=None)
settings.load_profile("egress")
