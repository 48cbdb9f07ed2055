"""Twins of softmax.py: several lanes compute a row; one pass finds its maximum and its sum of exponentials."""

import math

from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    LANES,
    LARGEST,
    WARP,
    fold_lanes,
    load_four,
    row_and_lane,
    share_of_lane,
    start_rows,
    store_four,
)
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel
from nbkeras.kernels.runtime.device_array import DeviceArray


@device_function
def _larger(a, b):
    return a if a > b else b


@device_function
def logsumexp_parts(x, first, end, step, bits, wide, shared):
    """max(x) and the sum of e^(x - max) of a row, in each of its lanes; NaN and +inf make the sum NaN."""
    least, zero = x.dtype.type(-math.inf), x.dtype.type(0)
    top, total, at = least, zero, first
    while at < end:
        a, b, c, d = load_four(x, at, end, step, wide, least)
        most = _larger(_larger(a, b), _larger(c, d))
        if most > top:
            total *= math.exp(top - most)
            top = most
        shift = top if top > least else zero  # so that -inf contributes 0
        total += (math.exp(a - shift) + math.exp(b - shift)) + (math.exp(c - shift) + math.exp(d - shift))
        at += 4 << bits
    highest = fold_lanes(LARGEST, top, bits, shared)
    if top != highest:
        total *= math.exp(top - highest)
    return highest, fold_lanes(ADD, total, bits, shared)


@kernel(launch_bounds=LANES)
def _softmax(x, y, in_logs, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, x.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    top, total = logsumexp_parts(x, first, end, step, bits, wide, shared)
    scale, logarithm, at = x.dtype.type(1) / total, math.log(total), first
    while at < end:
        a, b, c, d = load_four(x, at, end, step, wide, top)
        a, b, c, d = a - top, b - top, c - top, d - top
        if in_logs != 0:
            four = a - logarithm, b - logarithm, c - logarithm, d - logarithm
        else:
            four = math.exp(a) * scale, math.exp(b) * scale, math.exp(c) * scale, math.exp(d) * scale
        store_four(y, at, end, step, wide, four)
        at += 4 << bits


@kernel(launch_bounds=LANES)
def _softmax_slope(y, dy, dx, in_logs, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, y.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    zero = y.dtype.type(0)
    total, at = zero, first
    while at < end:
        a, b, c, d = load_four(dy, at, end, step, wide, zero)
        if in_logs == 0:
            p, q, r, s = load_four(y, at, end, step, wide, zero)
            a, b, c, d = a * p, b * q, c * r, d * s
        total += (a + b) + (c + d)
        at += 4 << bits
    total, at = fold_lanes(ADD, total, bits, shared), first
    while at < end:
        a, b, c, d = load_four(dy, at, end, step, wide, zero)
        p, q, r, s = load_four(y, at, end, step, wide, zero)
        if in_logs != 0:
            a, b = a - math.exp(p) * total, b - math.exp(q) * total
            c, d = c - math.exp(r) * total, d - math.exp(s) * total
        else:
            a, b, c, d = p * (a - total), q * (b - total), r * (c - total), s * (d - total)
        store_four(dx, at, end, step, wide, (a, b, c, d))
        at += 4 << bits


def softmax_forward(x: DeviceArray, y: DeviceArray) -> None:
    """Softmax of each row."""
    start_rows(_softmax, x.shape[1], len(x), (x, y), 0)


def softmax_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = y (dy - sum(dy y)) for each row."""
    start_rows(_softmax_slope, y.shape[1], len(y), (y, dy, dx), 0)


def log_softmax_forward(x: DeviceArray, y: DeviceArray) -> None:
    """Log-softmax of each row."""
    start_rows(_softmax, x.shape[1], len(x), (x, y), 1)


def log_softmax_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy - e^y sum(dy) for each row."""
    start_rows(_softmax_slope, y.shape[1], len(y), (y, dy, dx), 1)
