"""Twins of reduce.py: sums, products, extrema and their positions, running sums and products.

Reductions are from (outer, n, inner) to (outer, inner). Floats are combined in their own dtype, by trees of short chains.
Integers are combined in int64, which gives the same lowest bits. If there are few results of many numbers, the n numbers are cut
into parts, and the parts' results are reduced again.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    BLOCK,
    LANES,
    LARGEST,
    LARGEST_UNSIGNED,
    MAXIMUM,
    MULTIPLY,
    SMALLEST,
    SMALLEST_UNSIGNED,
    WARP,
    beats,
    combine,
    find_lanes,
    fold_columns,
    fold_lanes,
    lane_bits,
    over_columns,
    over_rows,
    row_and_lane,
)
from nbkeras.kernels.cuda.loops.walk import divided, span
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start, start_each
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.reduce import groups
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_ENOUGH = size(512, simulated=8)  # enough blocks to keep a GPU busy
_RESULTS = size(65536, simulated=64)  # with at least this many results, one thread computes each result
_FEW = size(16, simulated=2)  # one thread also computes a result of at most this many numbers
_PART = size(4096, simulated=16)  # the least size of a part
_MAX_DEEP = 65535  # CUDA's max blocks along z
_LINES = size(4096, simulated=16)  # with at least this many lines, one thread runs along each line

_CODES: dict[np.ufunc, int] = {np.add: ADD, np.multiply: MULTIPLY, np.maximum: LARGEST, np.minimum: SMALLEST}
_TRUTHS: dict[np.ufunc, int] = {np.logical_or: LARGEST, np.logical_and: SMALLEST}
_UNSIGNED = {LARGEST: LARGEST_UNSIGNED, SMALLEST: SMALLEST_UNSIGNED}


# -------------------- dtypes --------------------


def _operand(x: DeviceArray, op: int) -> tuple[DeviceArray, int, np.dtype]:
    """Returns the array, the op and the dtype that the kernels use for an array and an op."""
    if x.dtype == np.bool_:
        x = x.view(np.uint8)
    if x.dtype == np.uint64:
        x, op = x.view(np.int64), _UNSIGNED.get(op, op)
    return x, op, x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)


def _identity(op: int, dtype: np.dtype):
    """The identity element of an op."""
    minimum, maximum = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    return dtype.type({ADD: 0, MULTIPLY: 1, LARGEST: minimum, SMALLEST: maximum, LARGEST_UNSIGNED: 0}.get(op, -1))


def _scratch(name: str, shape: tuple[int, ...], dtype) -> DeviceArray:
    return device.gpu().scratch(f"reduce {name}", shape, dtype)


# -------------------- reductions --------------------


@device_function
def _read(out, x, at, truth):
    """Returns x[at], or its truth value, in the dtype of `out`."""
    value = x[np.uint64(at)]
    if truth != 0:
        return out.dtype.type(1) if value != x.dtype.type(0) else out.dtype.type(0)
    return out.dtype.type(value)


@device_function
def _walk(op, truth, identity, out, x, at, end, step):
    """Combines x[at], x[at + step], ... up to the end."""
    total, other = identity, identity
    while at < end:
        a = _read(out, x, at, truth)
        b = _read(out, x, at + step, truth) if at + step < end else identity
        c = _read(out, x, at + 2 * step, truth) if at + 2 * step < end else identity
        d = _read(out, x, at + 3 * step, truth) if at + 3 * step < end else identity
        total = combine(op, total, combine(op, a, b))
        other = combine(op, other, combine(op, c, d))
        at += 4 * step
    return combine(op, total, other)


@kernel(launch_bounds=LANES)
def _fold_rows(x, out, op, truth, identity, n, inner, parts, part_size, bits):
    """2**bits lanes compute each number of out (outer, parts, inner), from part_size of the n numbers."""
    shared = cuda.shared.array(WARP, out.dtype)
    at, lane = row_and_lane(bits)
    total = identity
    if at < out.size:
        task, k = divided(at, inner)
        i, part = divided(task, parts)
        first, base = np.int64(part) * part_size, np.int64(i) * n * inner + k
        last = base + min(first + part_size, n) * inner
        total = _walk(op, truth, total, out, x, base + (first + lane) * inner, last, inner << bits)
    total = fold_lanes(op, total, bits, shared)
    if at < out.size and lane == 0:
        out[np.uint64(at)] = total


@kernel(launch_bounds=MAXIMUM)
def _fold_columns(x, out, op, truth, identity, outer, n, inner, parts, part_size):
    """A block has a tile of columns and a part of the n numbers. out: (outer, parts, inner)."""
    shared = cuda.shared.array(MAXIMUM, out.dtype)
    k, row, rows = cuda.grid(1), cuda.threadIdx.y, cuda.blockDim.y
    part, i = cuda.blockIdx.y, cuda.blockIdx.z
    first = part * part_size
    while i < outer:
        total, base = identity, i * n * inner + k
        if k < inner:
            last = base + min(first + part_size, n) * inner
            total = _walk(op, truth, total, out, x, base + (first + row) * inner, last, rows * inner)
        total = fold_columns(op, total, shared)
        if row == 0 and k < inner:
            out[np.uint64((i * parts + part) * inner + k)] = total
        i += cuda.gridDim.z


def _reduce(x: DeviceArray, out: DeviceArray, op: int, truth: bool = False) -> None:
    """out[i, b, k] = x[i, j, k] combined over the j in part b. out has the dtype of the computation."""
    if not out.size:
        return
    (outer, n, inner), parts = x.shape, out.shape[1]
    part_size = blocks(n, parts)
    identity = out.dtype.type(op in (SMALLEST, SMALLEST_UNSIGNED)) if truth else _identity(op, out.dtype)
    args = (x.reshape(-1), out.reshape(-1), op, int(truth), identity)
    if inner == 1 or out.size >= _RESULTS or part_size <= _FEW:
        bits = lane_bits(part_size) if inner == 1 else 0
        start(_fold_rows, *over_rows(out.size, bits), *args, n, inner, parts, part_size, bits)
    else:
        tiles, threads = over_columns(inner)
        if outer * parts * tiles < _ENOUGH // 4:
            _, threads = over_columns(inner, MAXIMUM)
        grid = (tiles, parts, min(outer, _MAX_DEEP))
        start(_fold_columns, grid, threads, *args, outer, n, inner, parts, part_size)


def _parts(outer: int, n: int, inner: int) -> int:
    """Returns the number of parts of the n numbers in a first pass."""
    if not outer * inner:
        return 1
    tiles, (width, _) = over_columns(inner)
    return max(1, min(_ENOUGH // (outer * tiles), n * width // _PART))


def sum_blocks(x: DeviceArray, out: DeviceArray) -> None:
    """out[i, b, k] = sum of x[i, j, k] over the j in block b."""
    x, op, dtype = _operand(x, ADD)
    total = out if out.dtype == dtype else _scratch("total", out.shape, dtype)
    _reduce(x, total, op)
    if total is not out:
        device_cuda.copy(total, out)


def fold(x: DeviceArray, ufunc: np.ufunc, axes: tuple[int, ...], out: DeviceArray) -> None:
    """Combines the elements of x along `axes` by np.add, multiply, maximum, minimum, logical_or or logical_and."""
    truth = ufunc in _TRUTHS
    x, op, dtype = _operand(x, _TRUTHS[ufunc] if truth else _CODES[ufunc])
    runs = groups(axes) or [(0, 0)]
    for number, (first, last) in enumerate(runs):
        outer, n, inner = math.prod(x.shape[:first]), math.prod(x.shape[first:last]), math.prod(x.shape[last:])
        shape = x.shape[:first] + x.shape[last:]
        final = number == len(runs) - 1 and out.dtype == dtype
        total = out if final else _scratch(f"total {number}", shape, dtype)
        parts, rows = _parts(outer, n, inner), x.reshape(outer, n, inner)
        if parts > 1:
            partial = _scratch("parts", (outer, parts, inner), dtype)
            _reduce(rows, partial, op, truth)
            rows = partial
        _reduce(rows, total.reshape(outer, 1, inner), op, truth)
        x = total
    if not final:
        device_cuda.copy(x, out)


# -------------------- positions of extrema --------------------


@kernel(launch_bounds=LANES)
def _find(x, indices, values, found, op, n, inner, parts, part_size, bits):
    """2**bits lanes compute each number of `found` (outer, parts, inner), the position of the best of part_size numbers.

    indices: the positions of x's numbers from an earlier pass; size 0 in the first pass.
    """
    shared_values, shared_places = cuda.shared.array(WARP, values.dtype), cuda.shared.array(WARP, np.int64)
    at, lane = row_and_lane(bits)
    value, index = values.dtype.type(0), np.int64(0)
    if at < found.size:
        task, k = divided(at, inner)
        i, part = divided(task, parts)
        index, base = np.int64(part) * part_size, np.int64(i) * n * inner + k
        j, last = index + lane, min(index + part_size, n)
        value = values.dtype.type(x[np.uint64(base + index * inner)])
        while j < last:
            other = values.dtype.type(x[np.uint64(base + j * inner)])
            if beats(op, other, j, value, index):
                value, index = other, j
            j += 1 << bits
        if indices.size > 0:
            index = indices[np.uint64(base + index * inner)]
    value, index = find_lanes(op, value, index, bits, shared_values, shared_places)
    if at < found.size and lane == 0:
        values[np.uint64(at)] = value
        found[np.uint64(at)] = index


def _find_best(x: DeviceArray, axis: int, out: DeviceArray, op: int) -> None:
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    x, op, dtype = _operand(x, op)
    x, indices, found = x.reshape(-1), out.reshape(-1)[:0], out.reshape(-1)
    parts = max(1, min(_ENOUGH // max(1, outer * inner), n // _PART))
    if parts > 1:
        part_size = blocks(n, parts)
        parts = blocks(n, part_size)  # recomputed, so that no part is empty
        values = _scratch("values", (outer * parts * inner,), dtype)
        indices = _scratch("indices", (outer * parts * inner,), np.int64)
        bits = lane_bits(part_size)
        start(
            _find, *over_rows(indices.size, bits), x, found[:0], values, indices, op, n, inner, parts, part_size, bits
        )
        x, n = values, parts
    bits = 0 if inner > 1 and found.size >= _RESULTS else lane_bits(n)
    best = _scratch("best", (found.size,), dtype)
    start(_find, *over_rows(found.size, bits), x, indices, best, found, op, n, inner, 1, n, bits)


def find_largest(x: DeviceArray, axis: int, out: DeviceArray) -> None:
    """out = the first position of the largest element along an axis, or of the first NaN if there is one."""
    _find_best(x, axis, out, LARGEST)


def find_smallest(x: DeviceArray, axis: int, out: DeviceArray) -> None:
    """out = the first position of the smallest element along an axis, or of the first NaN if there is one."""
    _find_best(x, axis, out, SMALLEST)


# -------------------- running sums and products --------------------


@kernel
def _run_along(x, out, op, identity, lines, n, inner, x_at, x_step, out_at, out_step, exclusive):
    """One thread computes each line."""
    line = cuda.grid(1)
    if line < lines:
        i, k = divided(line, inner)
        base, total = np.int64(i) * n * inner + k, identity
        at, to = base + x_at, base + out_at
        for _ in range(n):
            value = x[np.uint64(at)]
            if exclusive == 0:
                total = combine(op, total, value)
            out[np.uint64(to)] = out.dtype.type(total)
            if exclusive != 0:
                total = combine(op, total, value)
            at += x_step
            to += out_step


@kernel(launch_bounds=MAXIMUM)
def _scan_lines(x, out, carried, op, identity, n, inner, x_at, x_step, out_at, out_step, exclusive):
    """A block has a line. It scans pieces with one number per thread, in warps and then across warps.

    carried: an empty array with the dtype of the computation.
    """
    shared = cuda.shared.array(WARP, carried.dtype)
    line, thread = cuda.blockIdx.x, cuda.threadIdx.x
    lane, warp, warps = thread % WARP, thread // WARP, cuda.blockDim.x // WARP
    i, k = divided(line, inner)
    base, carry = np.int64(i) * n * inner + k, identity
    j = thread
    while j - thread < n:
        total = combine(op, identity, x[np.uint64(base + x_at + j * x_step)]) if j < n else identity
        reach = 1
        while reach < WARP:
            before = cuda.shfl_up_sync(0xFFFFFFFF, total, reach)
            if lane >= reach:
                total = combine(op, before, total)
            reach <<= 1
        before = cuda.shfl_up_sync(0xFFFFFFFF, total, 1)
        if lane == WARP - 1:
            shared[warp] = total
        cuda.syncthreads()
        held = carry
        for w in range(warps):
            if w < warp:
                held = combine(op, held, shared[w])
            carry = combine(op, carry, shared[w])
        cuda.syncthreads()
        if exclusive != 0:
            total = before if lane > 0 else identity
        if j < n:
            out[np.uint64(base + out_at + j * out_step)] = out.dtype.type(combine(op, held, total))
        j += cuda.blockDim.x


def _line(x: DeviceArray, axis: int) -> tuple[DeviceArray, int, int]:
    """Returns an array (possibly reversed along an axis) as flat memory, and the offset and the step of its lines."""
    inner = math.prod(x.shape[axis + 1 :])
    backwards = x.shape[axis] > 1 and x.strides[axis] < 0
    return span(x), (x.shape[axis] - 1) * inner if backwards else 0, -inner if backwards else inner


def _scan(x: DeviceArray, op: int, axis: int, out: DeviceArray, exclusive: bool) -> None:
    if not x.size:
        return
    x, op, dtype = _operand(x, op)
    out, _, _ = _operand(out, op)
    n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    lines = x.size // n
    (x, *x_line), (out, *out_line) = _line(x, axis), _line(out, axis)
    sizes = (n, inner, *x_line, *out_line, int(exclusive))
    if n <= WARP or (inner > 1 and lines >= _LINES):
        start_each(_run_along, lines, x, out, op, _identity(op, dtype), lines, *sizes)
    else:
        threads = MAXIMUM if n > BLOCK and lines < _ENOUGH else BLOCK
        start(_scan_lines, lines, threads, x, out, _scratch("carried", (0,), dtype), op, _identity(op, dtype), *sizes)


def accumulate(x: DeviceArray, ufunc: np.ufunc, axis: int, out: DeviceArray) -> None:
    """out = the running sums (np.add) or products (np.multiply) along an axis. x and out may be reversed along it."""
    _scan(x, _CODES[ufunc], axis, out, False)


def products_before(x: DeviceArray, out: DeviceArray) -> None:
    """out[i, j] = product of x[i, :j]; x and out may be reversed along the rows."""
    _scan(x, MULTIPLY, 1, out, True)


@kernel
def _slopes(x, y, dy, dx, lines, n, inner):
    line = cuda.grid(1)
    if line < lines:
        i, k = divided(line, inner)
        base = np.int64(i) * n * inner + k
        at = base + (n - 1) * inner
        slope = dy[np.uint64(at)]
        while at > base:
            before = at - inner
            dx[np.uint64(at)] = slope * y[np.uint64(before)]
            slope = x[np.uint64(at)] * slope + dy[np.uint64(before)]
            at = before
        dx[np.uint64(at)] = slope


def cumprod_slope(x: DeviceArray, y: DeviceArray, dy: DeviceArray, axis: int, dx: DeviceArray) -> None:
    """dx_i = y_(i-1) s_i with s_i = dy_i + x_(i+1) s_(i+1). One thread computes each line sequentially."""
    if x.size:
        n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
        lines, flat = x.size // n, (array.reshape(-1) for array in (x, y, dy, dx))
        start_each(_slopes, lines, *flat, lines, n, inner)
