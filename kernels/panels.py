"""Weights in panels: a copy whose columns lie side by side in groups, which products read as one stream. See `gemm`.

A product that runs many times with the same weights reads them faster so: those of a program that predicts, for which the copy is
made when a weight has changed, and the recurrent weights of a sequence, which each step reads.
"""

import itertools

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import panel_width
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

    cuts: columns of the weight at which it is cut; the parts' panels follow one another, all of one width.
    """
    rows, columns = weight.shape
    edges = 0, *cuts, columns
    parts = [(last - first, rows) if transposed else (rows, last - first) for first, last in itertools.pairwise(edges)]
    width = panel_width(max(n for _, n in parts), weight.itemsize)
    counts = [-(-n // width) for _, n in parts]
    with device.prepared(weight):
        panels = device.empty(
            (sum(count * k for count, (k, _) in zip(counts, parts, strict=True)), width), weight.dtype
        )
        start = 0
        for first, count, (k, n) in zip(edges, counts, parts, strict=False):  # the last edge is the end
            part = panels[start : start + count * k].reshape(count, k, width)
            shares = share_count(k * n, _SHARE, count)
            launch_shares(fill_panels, shares, int(transposed), weight.reshape(-1), first, columns, part, n)
            start += count * k
    return panels


@compiled
def fill_panels(tb, b, at, ldb, panels, n, share, shares):
    """Kernel: panels[i, p, j] = B[p, i * width + j], 0 from the n-th column on; fills a share of the panels.

    B[p, j] = b[at + p * ldb + j], or b[at + j * ldb + p] if tb is not 0.
    """
    count, k, width = panels.shape
    zero = b.dtype.type(0)
    for i in range(count * share // shares, count * (share + 1) // shares):
        first, there = i * width, min(width, n - i * width)
        for p in range(k):
            to = (i * k + p) * width
            for j in range(there):
                store(panels, to + j, load(b, at + (first + j) * ldb + p if tb != 0 else at + p * ldb + first + j))
            for j in range(there, width):
                store(panels, to + j, zero)
