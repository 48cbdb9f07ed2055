"""Convolution: one op, several algorithms."""
