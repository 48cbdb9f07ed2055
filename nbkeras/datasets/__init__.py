"""Data sets: `digits` ships with the package, `mnist` is downloaded."""

from nbkeras.datasets import digits, mnist

__all__ = ["digits", "mnist"]
