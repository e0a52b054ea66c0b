"""Settings of all tests."""

from hypothesis import settings

# Machines differ in speed: how long an example takes is no reason to fail.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
