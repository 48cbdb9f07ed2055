"""Reductions: sum, mean, extrema, products, running sums, logsumexp. NumPy's loops, started by `device.launch`.

Float sums are pairwise along a contiguous axis (NumPy's own) and by blocks of about sqrt(n) rows along any other, so that
the rounding error of a float32 sum grows like sqrt(n) at most.
"""

import math

import numpy as np

from nbkeras.kernels import device

Array = np.ndarray
_BLOCK = 256  # rows above which a sum of rows goes by blocks


def sum(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Sum over `axes` (non-negative); bool and small integers add up in int32."""
    dtype = x.dtype if x.dtype.kind == "f" or x.dtype.itemsize >= 4 else np.dtype(np.int32)
    y = x
    for first, last in _groups(axes):
        outer, n, inner = math.prod(y.shape[:first]), math.prod(y.shape[first:last]), math.prod(y.shape[last:])
        total = device.empty((outer, inner), dtype)
        if inner > 1 and n > _BLOCK:
            partial = device.empty((outer, math.isqrt(n), inner), dtype)
            device.launch(sum_by_blocks, y.reshape(outer, n, inner), partial, total)
        else:
            device.launch(sum_middle, y.reshape(outer, n, inner), total)
        y = total.reshape(y.shape[:first] + y.shape[last:])
    if y.dtype != dtype:
        y = device.empty(x.shape, dtype)
        device.launch(device.copy, x, y)
    return y.reshape(kept(x.shape, axes)) if keepdims else y, (x.shape, axes)


def sum_vjp(saved, dy, needs):
    shape, axes = saved
    dx = device.output(needs[0], shape, dy.dtype)
    device.launch(device.copy, dy.reshape(kept(shape, axes)), dx)
    return (dx,)


def sum_middle(x: Array, out: Array) -> None:
    """Kernel: out[i, k] = sum over j of x[i, j, k]."""
    if x.shape[2] == 1:  # NumPy adds pairwise where it sees that the summed axis is contiguous
        np.add.reduce(x[:, :, 0], axis=1, out=out[:, 0])
    else:
        np.add.reduce(x, axis=1, out=out)


def sum_by_blocks(x: Array, partial: Array, out: Array) -> None:
    """Kernel: out[i, k] = sum over j of x[i, j, k], by blocks of j whose sums are kept in `partial`."""
    blocks = partial.shape[1]
    size = -(-x.shape[1] // blocks)
    for i in range(blocks):
        np.add.reduce(x[:, i * size : (i + 1) * size], axis=1, out=partial[:, i])
    np.add.reduce(partial, axis=1, out=out)


def kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with 1 in place of the reduced axes."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _groups(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of neighbouring axes as (first, one past last), the last run first: each run is reduced by one launch."""
    runs: list[list[int]] = []
    for axis in sorted(axes):
        if runs and runs[-1][1] == axis:
            runs[-1][1] = axis + 1
        else:
            runs.append([axis, axis + 1])
    return [(first, last) for first, last in reversed(runs)]
