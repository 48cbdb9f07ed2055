"""The GPU itself, real and simulated: memory, streams, launches, checks."""

from numba import config

SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
