"""Settings that all tests share."""

import os

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. CI takes the same examples every time, so that a red run can be repeated;
# elsewhere each run explores further and keeps what it found in .hypothesis/.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("local"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "local"))
