"""Twins of gradients.py."""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels import gradients
from nbkeras.kernels.cuda.loops.lanes import ADD, BLOCK, WARP, fold_lanes
from nbkeras.kernels.cuda.machine.kernel import device_module, kernel, start
from nbkeras.kernels.cuda.optimizers import grid_range, run
from nbkeras.kernels.gradients import CHUNK
from nbkeras.kernels.runtime import device

_BITS = BLOCK.bit_length() - 1  # all threads of a block are the lanes of one row
_formulas = device_module(gradients)


# Gradients of a scaled loss


@kernel
def _all_finite(sums, finite):
    shared, bad = cuda.shared.array(WARP, np.float64), np.float64(0)
    for c in range(cuda.threadIdx.x, sums.size, cuda.blockDim.x):
        if not math.isfinite(sums[c]):
            bad = np.float64(1)
    bad = fold_lanes(ADD, bad, _BITS, shared)
    if cuda.threadIdx.x == 0:
        finite[0] = 0 if bad > 0 else 1


def all_finite(sums, finite):
    start(_all_finite, 1, BLOCK, sums, finite)


@kernel
def _adjust_scale(finite, scale, count, growth_steps):
    _formulas.adjust_scale(finite, scale, count, growth_steps)


def adjust_scale(finite, scale, count, growth_steps):
    start(_adjust_scale, 1, 1, finite, scale, count, growth_steps)


# Gradients accumulated over batches


@kernel
def _count_batches(batches, every, due, steps):
    _formulas.count_batches(batches, every, due, steps)


def count_batches(batches, every, due, steps):
    start(_count_batches, 1, 1, batches, every, due, steps)


@kernel
def _accumulate(g, total, due, every):
    done, zero = due[0] != 0, g.dtype.type(0)
    i, count, stride = grid_range(g)
    while i < count:
        added = g[i] + total[i]
        if done:
            g[i] = added / every
            total[i] = zero
        else:
            total[i] = added
        i += stride


def accumulate(g, total, due, every):
    run(_accumulate, g, total, due, g.dtype.type(every))


# Clipping


@kernel
def _square_sums(g, sums):
    """Computes sums of squares; a block has a chunk.

    It uses float64, as on the CPU, because the squares of large gradients may exceed float32.
    """
    shared, stride = cuda.shared.array(WARP, np.float64), np.uint64(cuda.blockDim.x)
    i = np.uint64(cuda.blockIdx.x) * np.uint64(CHUNK)
    last = min(np.uint64(g.size), i + np.uint64(CHUNK))
    i += np.uint64(cuda.threadIdx.x)
    total = np.float64(0)
    while i + stride * np.uint64(3) < last:  # issue four loads at a time
        a, b = np.float64(g[i]), np.float64(g[i + stride])
        c, d = np.float64(g[i + stride * np.uint64(2)]), np.float64(g[i + stride * np.uint64(3)])
        total += a * a + b * b + (c * c + d * d)
        i += stride * np.uint64(4)
    while i < last:
        x = np.float64(g[i])
        total += x * x
        i += stride
    total = fold_lanes(ADD, total, _BITS, shared)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


def square_sums(g, sums):
    start(_square_sums, sums.size, BLOCK, g, sums)


@kernel
def _norm_scale(sums, limit, scale):
    shared, total = cuda.shared.array(WARP, np.float64), np.float64(0)
    for c in range(cuda.threadIdx.x, sums.size, cuda.blockDim.x):
        total += sums[c]
    norm = math.sqrt(fold_lanes(ADD, total, _BITS, shared))
    if cuda.threadIdx.x == 0:
        scale[0] = 1.0 if norm <= limit else limit / norm + (norm - norm)  # NaN if the norm is infinite or NaN


@kernel
def _scale(g, scale):
    factor = scale[0]
    if factor != g.dtype.type(1):
        i, count, stride = grid_range(g)
        while i < count:
            g[i] *= factor
            i += stride


def limit_norm(g, sums, limit):
    scale = device.gpu().scratch("limit_norm", (1,), g.dtype)
    start(_norm_scale, 1, BLOCK, sums, float(limit), scale)
    run(_scale, g, scale)
