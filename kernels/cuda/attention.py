"""Twins of attention.py's softmax: several lanes compute a row of scores."""

import math

from numba import cuda

from nbkeras.kernels.attention import MINIMUM
from nbkeras.kernels.cuda.loops.lanes import ADD, LANES, LARGEST, WARP, fold_lanes, row_and_lane, start_rows
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel
from nbkeras.kernels.runtime.device_array import DeviceArray


@device_function
def _first_flag(r, heads, queries, of_batch, of_head, of_query):
    """Returns the offset of the mask of a row of scores."""
    return r // (heads * queries) * of_batch + r // queries % heads * of_head + r % queries * of_query


@kernel(launch_bounds=(LANES, 1))
def _masked(
    x, y, mask, empty, scale, causal, spread, heads, queries, of_batch, of_head, of_query, of_key, rows, n, bits, wide
):
    shared = cuda.shared.array(WARP, x.dtype)
    row, lane = row_and_lane(bits)
    lanes, minimum, zero = 1 << bits, x.dtype.type(MINIMUM), x.dtype.type(0)
    at = _first_flag(row, heads, queries, of_batch, of_head, of_query)
    end = 0
    if row < rows:
        end = min(n, row % queries + 1) if causal != 0 else n
    top, i = minimum, lane
    while i < end:
        if mask.size == 0 or mask[at + i * of_key]:
            value = x[row * n + i] * scale
            if value > top or value != value:
                top = value
        i += lanes
    top = fold_lanes(LARGEST, top, bits, shared)
    none = top <= minimum
    total, i = zero, lane
    while i < end:
        if mask.size == 0 or mask[at + i * of_key]:
            total += math.exp(x[row * n + i] * scale - top)
        i += lanes
    total = fold_lanes(ADD, total, bits, shared)
    if row >= rows:
        return
    if lane == 0:
        empty[row] = none
    i = lane
    while i < n:
        result = zero
        if none:
            result = x.dtype.type(spread) / x.dtype.type(n)
        elif i < end and (mask.size == 0 or mask[at + i * of_key]):
            result = math.exp(x[row * n + i] * scale - top) / total
        y[row * n + i] = result
        i += lanes


@kernel(launch_bounds=LANES)
def _masked_slope(y, dy, dx, empty, scale, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, y.dtype)
    row, lane = row_and_lane(bits)
    lanes, zero = 1 << bits, y.dtype.type(0)
    end = n if row < rows else 0
    mean, i = zero, lane
    while i < end:
        mean += y[row * n + i] * dy[row * n + i]
        i += lanes
    mean = fold_lanes(ADD, mean, bits, shared)
    i = lane
    while i < end:
        slope = y[row * n + i] * (dy[row * n + i] - mean) * scale
        dx[row * n + i] = zero if empty[row] else slope
        i += lanes


def masked_forward(
    x: DeviceArray,
    y: DeviceArray,
    mask: DeviceArray,
    empty: DeviceArray,
    scale: float,
    causal: int,
    spread: int,
    heads: int,
    queries: int,
    of_batch: int,
    of_head: int,
    of_query: int,
    of_key: int,
) -> None:
    """Computes the softmax of the allowed scores of each row."""
    options = (scale, causal, spread, heads, queries, of_batch, of_head, of_query, of_key)
    start_rows(_masked, x.shape[1], len(x), (x, y, mask, empty), *options)


def masked_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray, empty: DeviceArray, scale: float) -> None:
    """dx = scale * y (dy - sum(dy y)) for each row, 0 for an empty row."""
    start_rows(_masked_slope, y.shape[1], len(y), (y, dy, dx, empty), scale)
