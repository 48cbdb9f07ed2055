"""Kernels on gradients before an optimizer's step: they undo a loss scale, accumulate over batches, and limit norms.

`g` holds gradients, 1-D, of one float dtype; all kernels work in place. The condition of a launch is an int64 (1,), see
`device.only_if`.
`optimizers.launch` adds `share` and `shares`.
"""

import math

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.optimizers import CHUNK, share_range
from nbkeras.kernels.runtime.cache import compiled

# Gradients of a scaled loss


unscale = Map("unscale", __name__, formulas.unscale, "g")


@compiled
def all_finite(sums, finite):
    """Kernel: finite[0] = 1 if all `sums` (of squares, see `square_sums`) are finite, else 0."""
    finite[0] = 1
    for c in range(sums.size):
        if not math.isfinite(sums[c]):
            finite[0] = 0


@compiled
def adjust_scale(finite, scale, count, growth_steps):
    """Kernel: halves scale (1,) after a non-finite gradient; doubles it after growth_steps finite ones, counted in count (1,)."""
    if finite[0] == 0:
        scale[0] *= scale.dtype.type(0.5)
        count[0] = 0
    elif count[0] == growth_steps - 1:
        scale[0] *= scale.dtype.type(2)
        count[0] = 0
    else:
        count[0] += 1


# Gradients accumulated over batches


@compiled
def count_batches(batches, every, due, steps):
    """Kernel: due[0] = 1 if the weights change after the next batch, the last of `every`, else 0; steps[0] = batches // every."""
    due[0] = 1 if (batches[0] + 1) % every == 0 else 0
    steps[0] = batches[0] // every


@compiled
def accumulate(g, total, due, every, share, shares):
    """total += g if due[0] is 0; else g = (g + total) / every and total = 0."""
    count, zero = g.dtype.type(every), g.dtype.type(0)
    if due[0] == 0:
        for i in share_range(g.size, share, shares):
            total[i] = total[i] + g[i]
    else:
        for i in share_range(g.size, share, shares):
            g[i] = (g[i] + total[i]) / count
            total[i] = zero


# Clipping


def chunks(size: int) -> int:
    """The number of sums that `square_sums` computes from `size` elements."""
    return -(-size // CHUNK)


@compiled(fastmath={"nsz", "contract", "reassoc"})
def _square_sum(g):
    """Returns the sum of squares; the flag 'reassoc' lets LLVM vectorise it."""
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@compiled
def square_sums(g, sums, share, shares):
    """Kernel: computes sums, float64 (chunks(g.size),), the sum of squares of each chunk. Threads do not change the chunks."""
    for c in range(sums.size * share // shares, sums.size * (share + 1) // shares):
        sums[c] = _square_sum(g[c * CHUNK : (c + 1) * CHUNK])


@compiled
def limit_norm(g, sums, limit, share, shares):
    """Kernel: g *= limit / norm if norm > limit, where norm = sqrt(sum(sums))."""
    total = 0.0
    for c in range(sums.size):
        total += sums[c]
    norm = math.sqrt(total)
    if norm <= limit:
        return
    scale = g.dtype.type(limit / norm + (norm - norm))  # NaN if the norm is infinite or NaN
    for i in share_range(g.size, share, shares):
        g[i] *= scale


clip = Map("clip", __name__, formulas.clip_both_ways, "g")
