"""Weights of bfloat16, as uint16 of their bits: their numbers, and products with one row. quantized.py has the other loops."""

import numpy as np

from nbkeras.kernels.dense import add_up
from nbkeras.kernels.loops.half_rows import CHUNK, ROWS, add_rows, pair, prefetch_rows
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.lazy import overload, types
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 131072  # minimum numbers of w in a share of a product
_MAX_SHARES = 8  # each share has sums for all columns


@overload(inline="always")
def number(kind, x):
    """Returns an element of weights, or of sums, as a float of a dtype; a uint16 holds the bits of a bfloat16."""
    if x == types.uint16:
        return lambda kind, x: kind(np.int32(np.uint32(x) << np.uint32(16)).view(np.float32))
    return lambda kind, x: kind(x)


def multiply_row(x: Array, w: Array, y: Array) -> None:
    """Computes y = x @ w for x (k,), w (k, n) of uint16 and y (1, n)."""
    k, n = w.shape
    depth = -(-k // share_count(k * n, _SHARE, _MAX_SHARES))
    depth += -depth % ROWS
    partial = device.empty((-(-k // depth), n), x.dtype)
    launch_shares(multiply_row_of_halves, len(partial), x, w, w.reshape(-1), partial, depth)
    launch_shares(add_up, 1, partial[:, None], device.empty((0,), x.dtype), y, 0)


@compiled
def multiply_row_of_halves(x, w, flat, partial, depth, share, shares):
    """Kernel: partial[share] = x[rows] @ w[rows] for a share of `depth` rows of w, of bfloat16. Rows are read whole.

    flat: the numbers of w. Numba's own reshape would call a function of its runtime, which a wheel does not have.
    """
    out, kind, n = partial[share], partial.dtype.type, w.shape[1]
    first, last = share * depth, min(x.size, share * depth + depth)
    end, whole = first + (last - first) // ROWS * ROWS, n // pair(out) * pair(out)
    for j in range(n):
        out[j] = kind(0)
    for p in range(first, end, ROWS):
        for j in range(0, whole, CHUNK):
            prefetch_rows(flat, (p + ROWS) * n + j, n)
            add_rows(x, p, flat, p * n + j, n, out, j, min(CHUNK, whole - j))
    for p in range(first, last):
        row = w[p]
        for j in range(whole if p < end else 0, n):
            out[j] += x[p] * number(kind, row[j])
