"""Configures Hypothesis: no deadline, and no database folder."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None, database=None)
settings.load_profile("unhurried")
