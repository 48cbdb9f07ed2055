"""Twins of unfold.py. A thread computes one number of the result; for a sum it gathers the terms."""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import divided, ints
from nbkeras.kernels.cuda.machine.kernel import kernel, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray

_i = np.int32


def _start(kernel, result: DeviceArray, windows: DeviceArray, x: DeviceArray, *line: int) -> None:
    """Starts a kernel(x, windows, sizes, line) with a thread for each number of the result."""
    if windows.size >= 1 << 31:
        raise ValueError(
            f"windows on a GPU must have fewer than 2**31 elements, received shape {windows.shape}: use smaller batches"
        )
    _, count, between, groups, taps, channels = windows.shape
    sizes = ints(x.shape[1], count, between * groups, taps, channels)
    arrays = x.reshape(-1), windows.reshape(-1)
    start_each(kernel, result.size, *arrays, sizes, ints(*line))


@kernel
def _unfold(x, y, sizes, line):
    length, count, runs, taps, channels = sizes
    stride, dilation, before = line
    i = cuda.grid(1)
    if i < y.size:
        rest, c = divided(i, channels)
        rest, tap = divided(rest, taps)
        rest, run = divided(rest, runs)
        n, window = divided(rest, count)
        position = _i(window * stride + tap * dilation - before)
        inside = position >= 0 and position < length
        y[i] = x[((n * length + position) * runs + run) * channels + c] if inside else y.dtype.type(0)


@kernel
def _fold(x, y, sizes, line):
    length, count, runs, taps, channels = sizes
    stride, dilation, before = line
    i = cuda.grid(1)
    if i < x.size:
        rest, c = divided(i, channels)
        rest, run = divided(rest, runs)
        n, position = divided(rest, length)
        total = x.dtype.type(0)
        for tap in range(taps):
            reach = _i(position + before - tap * dilation)
            window, left = divided(max(reach, 0), stride)
            if reach >= 0 and left == 0 and window < count:
                total += y[(((n * count + window) * runs + run) * taps + tap) * channels + c]
        x[i] = total


def unfold_rows(x: DeviceArray, y: DeviceArray, stride: int, dilation: int, before: int) -> None:
    """Copies windows: y[n, i, run, k, c] = x[n, i * stride + k * dilation - before, run, c], 0 outside of x."""
    _start(_unfold, y, y, x, stride, dilation, before)


def fold_rows(y: DeviceArray, x: DeviceArray, stride: int, dilation: int, before: int) -> None:
    """Sums windows: x[n, j, run, c] = the sum of y[n, i, run, k, c] over i * stride + k * dilation - before = j."""
    _start(_fold, x, y, x, stride, dilation, before)
