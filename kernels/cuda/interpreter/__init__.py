"""Twins of the launches of NumPy's loops, and of chains of them."""
