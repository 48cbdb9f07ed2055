"""`nbkeras serve` beside other servers, under load: `python -m benchmarks.serving`."""
