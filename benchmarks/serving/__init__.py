"""`nbkeras serve` compared with other servers under load: `python -m benchmarks.serving`."""
