"""Twins of the runtime's kernels."""
