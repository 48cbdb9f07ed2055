"""The GPU itself, real and simulated: memory, streams, launches, checks."""
