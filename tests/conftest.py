"""What all tests share."""

from hypothesis import settings

# A slow example on a busy machine is no failure; how fast things are is for benchmarks/ to say.
settings.register_profile("simmig", deadline=None)
settings.load_profile("simmig")
