"""NumPy's loops, and chains of them, as programs that one compiled function runs; chains are for all devices."""
