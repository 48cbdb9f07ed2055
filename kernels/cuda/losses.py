"""Twins of losses.py: softmax cross-entropies with several lanes per row, sigmoid cross-entropy with a thread per number.

A label outside 0 <= label < classes gives NaN as its loss and its gradients, as on the CPU.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    LANES,
    WARP,
    fold_lanes,
    load_four,
    row_and_lane,
    share_of_lane,
    start_rows,
    store_four,
)
from nbkeras.kernels.cuda.machine.kernel import kernel, start_each
from nbkeras.kernels.cuda.softmax import logsumexp_parts
from nbkeras.kernels.runtime.device_array import DeviceArray

# -------------------- softmax, dense targets --------------------


@kernel(launch_bounds=LANES)
def _dense(target, logits, probabilities, loss, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, logits.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    top, total = logsumexp_parts(logits, first, end, step, bits, wide, shared)
    zero, scale, logarithm = logits.dtype.type(0), logits.dtype.type(1) / total, math.log(total)
    result, at = zero, first
    while at < end:
        a, b, c, d = load_four(logits, at, end, step, wide, top)
        p, q, r, s = load_four(target, at, end, step, wide, zero)
        a, b, c, d = a - top, b - top, c - top, d - top
        result += (p * (logarithm - a) + q * (logarithm - b)) + (r * (logarithm - c) + s * (logarithm - d))
        four = math.exp(a) * scale, math.exp(b) * scale, math.exp(c) * scale, math.exp(d) * scale
        store_four(probabilities, at, end, step, wide, four)
        at += 4 << bits
    result = fold_lanes(ADD, result, bits, shared)
    if lane == 0 and row < rows:
        loss[np.uint64(row)] = result


def softmax_crossentropy_forward(
    target: DeviceArray, logits: DeviceArray, probabilities: DeviceArray, loss: DeviceArray
) -> None:
    """Loss and probabilities of each row."""
    start_rows(_dense, logits.shape[1], len(logits), (target, logits, probabilities, loss))


@kernel(launch_bounds=LANES)
def _dense_slope(target, probabilities, slope, dlogits, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, dlogits.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    zero = dlogits.dtype.type(0)
    total, at = zero, first
    while at < end:
        a, b, c, d = load_four(target, at, end, step, wide, zero)
        total += (a + b) + (c + d)
        at += 4 << bits
    total, at = fold_lanes(ADD, total, bits, shared), first
    weight = slope[np.uint64(row)] if row < rows else zero
    while at < end:
        a, b, c, d = load_four(target, at, end, step, wide, zero)
        p, q, r, s = load_four(probabilities, at, end, step, wide, zero)
        a, b = weight * (p * total - a), weight * (q * total - b)
        c, d = weight * (r * total - c), weight * (s * total - d)
        store_four(dlogits, at, end, step, wide, (a, b, c, d))
        at += 4 << bits


def softmax_crossentropy_backward(
    target: DeviceArray, probabilities: DeviceArray, slope: DeviceArray, dlogits: DeviceArray
) -> None:
    """dlogits = slope (probabilities sum(target) - target) for each row."""
    start_rows(_dense_slope, dlogits.shape[1], len(dlogits), (target, probabilities, slope, dlogits))


@kernel(launch_bounds=(LANES, 1))
def _target_slope(logits, slope, dtarget, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, logits.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    top, total = logsumexp_parts(logits, first, end, step, bits, wide, shared)
    logarithm, at = math.log(total), first
    weight = slope[np.uint64(row)] if row < rows else top
    while at < end:
        a, b, c, d = load_four(logits, at, end, step, wide, top)
        a, b = weight * (logarithm - (a - top)), weight * (logarithm - (b - top))
        c, d = weight * (logarithm - (c - top)), weight * (logarithm - (d - top))
        store_four(dtarget, at, end, step, wide, (a, b, c, d))
        at += 4 << bits


def softmax_crossentropy_target(logits: DeviceArray, slope: DeviceArray, dtarget: DeviceArray) -> None:
    """dtarget = -slope log_softmax(logits) for each row."""
    start_rows(_target_slope, logits.shape[1], len(logits), (logits, slope, dtarget))


# -------------------- softmax, integer targets --------------------


@kernel(launch_bounds=LANES)
def _sparse(target, logits, probabilities, loss, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, logits.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    top, total = logsumexp_parts(logits, first, end, step, bits, wide, shared)
    scale, at = logits.dtype.type(1) / total, first
    while at < end:
        a, b, c, d = load_four(logits, at, end, step, wide, top)
        a, b = math.exp(a - top) * scale, math.exp(b - top) * scale
        c, d = math.exp(c - top) * scale, math.exp(d - top) * scale
        store_four(probabilities, at, end, step, wide, (a, b, c, d))
        at += 4 << bits
    if lane == 0 and row < rows:
        label, value = np.int64(target[np.uint64(row)]), logits.dtype.type(math.nan)
        if 0 <= label < n:
            value = math.log(total) - (logits[np.uint64(row * n + label)] - top)
        loss[np.uint64(row)] = value


def sparse_crossentropy_forward(
    target: DeviceArray, logits: DeviceArray, probabilities: DeviceArray, loss: DeviceArray
) -> None:
    """Loss and probabilities of each row."""
    start_rows(_sparse, logits.shape[1], len(logits), (target, logits, probabilities, loss))


@kernel(launch_bounds=LANES)
def _sparse_slope(target, probabilities, slope, dlogits, rows, n, bits, wide):
    row, lane = row_and_lane(bits)
    at, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    if at < end:
        zero, weight, label = dlogits.dtype.type(0), slope[np.uint64(row)], np.int64(target[np.uint64(row)])
        if not 0 <= label < n:
            weight = dlogits.dtype.type(math.nan)
        label += row * n
        while at < end:
            a, b, c, d = load_four(probabilities, at, end, step, wide, zero)
            a = weight * a - (weight if at == label else zero)
            b = weight * b - (weight if at + step == label else zero)
            c = weight * c - (weight if at + 2 * step == label else zero)
            d = weight * d - (weight if at + 3 * step == label else zero)
            store_four(dlogits, at, end, step, wide, (a, b, c, d))
            at += 4 << bits


def sparse_crossentropy_backward(
    target: DeviceArray, probabilities: DeviceArray, slope: DeviceArray, dlogits: DeviceArray
) -> None:
    """dlogits = slope (probabilities - 1 at the label) for each row."""
    start_rows(_sparse_slope, dlogits.shape[1], len(dlogits), (target, probabilities, slope, dlogits))
