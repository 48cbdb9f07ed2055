"""Weights in panels: a copy whose columns lie side by side in groups, which products read as one stream. See `gemm`.

A product that runs many times with the same weights reads them faster so: those of a program that predicts, for which the copy is
made when a weight has changed, and the recurrent weights of a sequence, which each step reads.
"""

import itertools

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import LINE, panel_width
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 32768  # numbers to copy in a share
_LEAST = 4096  # numbers of a matrix that is kept a second time


def is_worth_panels(weight: Array) -> bool:
    """Whether a matrix is kept in panels as well, because it is large enough and changes rarely: in a program that predicts."""
    return weight.size >= _LEAST and device.prepares(weight)


def panels_of(weight: Array, transposed: bool = False, cuts: tuple[int, ...] = ()) -> Array:
    """A matrix (k, n), or its transpose, as `gemm` takes it with PANELS and a leading dimension of the result's columns.

    cuts: columns of the weight at which it is cut; the parts' panels follow one another, all of one width. The result is flat
    memory: its rows are no rows of panels.
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
    """Kernel: fill a share of the panels of B, flat; B[p, j] = b[at + p * ldb + j], or b[at + j * ldb + p] if tb is not 0.

    Zeros follow, of which the next part takes the place.
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
