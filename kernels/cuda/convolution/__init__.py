"""Twins of convolution."""
