"""Settings of all tests: property tests give the same examples in every run and no deadline on slow machines."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100, database=None)
settings.load_profile("repeatable")
