"""What all tests share."""

import os

from hypothesis import HealthCheck, settings

# A slow example on a busy machine is no failure; how fast things are is for benchmarks/ to say. In CI the same
# examples each time, so that a change is judged by itself; fresh seeds are for `simmig verify`, which prints them.
settings.register_profile(
    "simmig",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("simmig")
