"""Weights in panels: a copy with groups of columns stored side by side, which products read as one stream. See `gemm`.

This makes a product that runs many times with the same weights faster: in a program that predicts (it copies a weight only after
the weight changed), and for the recurrent weights of a sequence (each step reads them).
"""

import itertools

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import LINE, panel_width
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 32768  # minimum numbers that a share copies
_MINIMUM = 4096  # smaller matrices get no copy in panels


def is_worth_panels(weight: Array) -> bool:
    """True if a matrix also gets a copy in panels: it is large enough, and a program that predicts rarely changes it."""
    return weight.size >= _MINIMUM and device.prepares(weight)


def panels_of(weight: Array, transposed: bool = False, cuts: tuple[int, ...] = ()) -> Array:
    """Copies a matrix (k, n), or its transpose, into the panels that `gemm` takes with PANELS. `ldb` is the result's columns.

    cuts: the columns where the weight is cut into parts. The parts' panels follow one another and have the same width. The result
    is flat memory: its rows are not rows of panels.
    """
    rows, columns = weight.shape
    edges = [(first, last - first) for first, last in itertools.pairwise((0, *cuts, columns))]
    parts = [(first, *((count, rows) if transposed else (rows, count))) for first, count in edges]
    width, line = panel_width(max(n for _, _, n in parts), weight.itemsize), LINE // weight.itemsize
    sizes = [k * -(-n // line) * line for _, k, n in parts]
    with device.prepared(weight):
        panels = device.empty((-(-sum(sizes) // width), width), weight.dtype)
        start = 0
        for (first, k, n), size in zip(parts, sizes, strict=True):
            arrays = weight.reshape(-1), first, columns, panels.reshape(-1)[start:]
            launch_shares(fill_panels, share_count(size, _SHARE, -(-n // width)), int(transposed), *arrays, k, n, width)
            start += size
    return panels


@compiled
def fill_panels(tb, b, at, ldb, panels, k, n, width, share, shares):
    """Kernel: fills a share of B's panels, flat. B[p, j] = b[at + p * ldb + j], or b[at + j * ldb + p] if tb is not 0.

    It writes zeros after the last panel; the next part overwrites them.
    """
    count, zero, line = (n + width - 1) // width, b.dtype.type(0), LINE // b.itemsize
    for i in range(count * share // shares, count * (share + 1) // shares):
        first, there = i * width, min(width, n - i * width)
        row = (there + line - 1) // line * line
        for p in range(k):
            to = first * k + p * row
            for j in range(there):
                store(panels, to + j, load(b, at + (first + j) * ldb + p if tb != 0 else at + p * ldb + first + j))
            for j in range(there, row):
                store(panels, to + j, zero)
    if share == shares - 1:
        for j in range((n + line - 1) // line * line * k, panels.size):
            store(panels, j, zero)
