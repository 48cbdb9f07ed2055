"""Kernels of loops in recorded programs: an iteration reads and writes its own row of an array.

Rows are bytes, or words of 8 bytes, so there is one version of each kernel for all dtypes and shapes: see `rows_of`.
"""

import math

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray


def rows_of(array: Array, count: int) -> Array:
    """Returns a contiguous array as `count` rows of words of 8 bytes, or of bytes. The number of words depends on the shape."""
    size = math.prod(array.shape) * array.dtype.itemsize // count
    dtype, owner = np.dtype(np.int64 if size % 8 == 0 else np.uint8), device.root(array)
    start = device.address(array) - device.address(owner)
    return device.view_at(owner, start, (count, size // dtype.itemsize), dtype)


@compiled
def read_row(rows, number, last, row):
    """Kernel: row = rows[number[0]]; if `last` is not negative, row = rows[last - number[0]]."""
    i = number[0] if last < 0 else last - number[0]
    for j in range(row.shape[1]):
        row[0, j] = rows[i, j]


@compiled
def write_row(row, number, last, rows):
    """Kernel: rows[number[0]] = row; if `last` is not negative, rows[last - number[0]] = row."""
    i = number[0] if last < 0 else last - number[0]
    for j in range(row.shape[1]):
        rows[i, j] = row[0, j]
