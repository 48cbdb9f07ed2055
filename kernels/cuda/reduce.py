"""Twins of reduce.py: sums, products, extrema and where they are, running sums and products.

Reductions are of (outer, n, inner) arrays to (outer, inner). Floats are combined in their own dtype by trees of short
chains, integers in int64, which leaves the same lowest bits. Where few results are made of much, the n are cut into parts,
whose results are reduced again.
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
    MOST,
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
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.reduce import groups
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_ENOUGH = size(512, simulated=8)  # blocks that keep a GPU busy
_RESULTS = size(65536, simulated=64)  # results from which a thread makes each by itself
_FEW = size(16, simulated=2)  # numbers that it may do so with for fewer
_PART = size(4096, simulated=16)  # least numbers of a part
_MOST_DEEP = 65535  # blocks along z
_LINES = size(4096, simulated=16)  # lines from which a thread runs along each

_CODES: dict[np.ufunc, int] = {np.add: ADD, np.multiply: MULTIPLY, np.maximum: LARGEST, np.minimum: SMALLEST}
_TRUTHS: dict[np.ufunc, int] = {np.logical_or: LARGEST, np.logical_and: SMALLEST}
_UNSIGNED = {LARGEST: LARGEST_UNSIGNED, SMALLEST: SMALLEST_UNSIGNED}


# -------------------- dtypes --------------------


def _operand(x: DeviceArray, op: int) -> tuple[DeviceArray, int, np.dtype]:
    """An array as kernels take it, the op as they do it, and the dtype that they do it in."""
    if x.dtype == np.bool_:
        x = x.view(np.uint8)
    if x.dtype == np.uint64:
        x, op = x.view(np.int64), _UNSIGNED.get(op, op)
    return x, op, x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)


def _identity(op: int, dtype: np.dtype):
    """What changes nothing when it is combined."""
    least, most = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    return dtype.type({ADD: 0, MULTIPLY: 1, LARGEST: least, SMALLEST: most, LARGEST_UNSIGNED: 0}.get(op, -1))


def _room(name: str, shape: tuple[int, ...], dtype) -> DeviceArray:
    """Scratch memory of a shape and dtype."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    return device.gpu().scratch(f"reduce {name}", nbytes).at(0, shape, dtype)


# -------------------- reductions --------------------


@device_function
def _read(out, x, at, truth):
    """x[at], or whether it is true, in the dtype of `out`."""
    value = x[np.uint64(at)]
    if truth != 0:
        return out.dtype.type(1) if value != x.dtype.type(0) else out.dtype.type(0)
    return out.dtype.type(value)


@device_function
def _walk(op, truth, identity, out, x, at, end, step):
    """x[at], x[at + step], ... up to the end, combined."""
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
def _fold_rows(x, out, op, truth, identity, n, inner, parts, each, bits):
    """2**bits lanes for each number of out (outer, parts, inner), of `each` of the n."""
    shared = cuda.shared.array(WARP, out.dtype)
    at, lane = row_and_lane(bits)
    total = identity
    if at < out.size:
        task, k = divided(at, inner)
        i, part = divided(task, parts)
        first, base = np.int64(part) * each, np.int64(i) * n * inner + k
        last = base + min(first + each, n) * inner
        total = _walk(op, truth, total, out, x, base + (first + lane) * inner, last, inner << bits)
    total = fold_lanes(op, total, bits, shared)
    if at < out.size and lane == 0:
        out[np.uint64(at)] = total


@kernel(launch_bounds=MOST)
def _fold_columns(x, out, op, truth, identity, outer, n, inner, parts, each):
    """Blocks for each tile of columns and part of the n in out (outer, parts, inner)."""
    shared = cuda.shared.array(MOST, out.dtype)
    k, row, rows = cuda.grid(1), cuda.threadIdx.y, cuda.blockDim.y
    part, i = cuda.blockIdx.y, cuda.blockIdx.z
    first = part * each
    while i < outer:
        total, base = identity, i * n * inner + k
        if k < inner:
            last = base + min(first + each, n) * inner
            total = _walk(op, truth, total, out, x, base + (first + row) * inner, last, rows * inner)
        total = fold_columns(op, total, shared)
        if row == 0 and k < inner:
            out[np.uint64((i * parts + part) * inner + k)] = total
        i += cuda.gridDim.z


def _reduce(x: DeviceArray, out: DeviceArray, op: int, truth: bool = False) -> None:
    """out[i, b, k] = x[i, j, k] combined over part b of the j; out has the dtype that this is done in."""
    if not out.size:
        return
    (outer, n, inner), parts = x.shape, out.shape[1]
    each = blocks(n, parts)
    identity = out.dtype.type(op in (SMALLEST, SMALLEST_UNSIGNED)) if truth else _identity(op, out.dtype)
    args = (x.reshape(-1), out.reshape(-1), op, int(truth), identity)
    if inner == 1 or out.size >= _RESULTS or each <= _FEW:
        bits = lane_bits(each) if inner == 1 else 0
        start(_fold_rows, *over_rows(out.size, bits), *args, n, inner, parts, each, bits)
    else:
        tiles, threads = over_columns(inner)
        if outer * parts * tiles < _ENOUGH // 4:
            _, threads = over_columns(inner, MOST)
        grid = (tiles, parts, min(outer, _MOST_DEEP))
        start(_fold_columns, grid, threads, *args, outer, n, inner, parts, each)


def _parts(outer: int, n: int, inner: int) -> int:
    """Into how many parts to cut the n for a first pass."""
    if not outer * inner:
        return 1
    tiles, (width, _) = over_columns(inner)
    return max(1, min(_ENOUGH // (outer * tiles), n * width // _PART))


def sum_blocks(x: DeviceArray, out: DeviceArray) -> None:
    """out[i, b, k] = sum over j of x[i, j, k] in block b of the j."""
    x, op, dtype = _operand(x, ADD)
    total = out if out.dtype == dtype else _room("total", out.shape, dtype)
    _reduce(x, total, op)
    if total is not out:
        device_cuda.copy(total, out)


def fold(x: DeviceArray, ufunc: np.ufunc, axes: tuple[int, ...], out: DeviceArray) -> None:
    """out = x with the elements along `axes` combined by np.add, multiply, maximum, minimum, logical_or or logical_and."""
    truth = ufunc in _TRUTHS
    x, op, dtype = _operand(x, _TRUTHS[ufunc] if truth else _CODES[ufunc])
    runs = groups(axes) or [(0, 0)]
    for number, (first, last) in enumerate(runs):
        outer, n, inner = math.prod(x.shape[:first]), math.prod(x.shape[first:last]), math.prod(x.shape[last:])
        shape = x.shape[:first] + x.shape[last:]
        final = number == len(runs) - 1 and out.dtype == dtype
        total = out if final else _room(f"total {number}", shape, dtype)
        parts, rows = _parts(outer, n, inner), x.reshape(outer, n, inner)
        if parts > 1:
            partial = _room("parts", (outer, parts, inner), dtype)
            _reduce(rows, partial, op, truth)
            rows = partial
        _reduce(rows, total.reshape(outer, 1, inner), op, truth)
        x = total
    if not final:
        device_cuda.copy(x, out)


# -------------------- where the extrema are --------------------


@kernel(launch_bounds=LANES)
def _find(x, places, values, found, op, n, inner, parts, each, bits):
    """2**bits lanes for each number of `found` (outer, parts, inner): the place of the best of x among `each` of the n.

    places: where the numbers of x were found before; of size 0 where x is what is searched.
    """
    shared_values, shared_places = cuda.shared.array(WARP, values.dtype), cuda.shared.array(WARP, np.int64)
    at, lane = row_and_lane(bits)
    value, place = values.dtype.type(0), np.int64(0)
    if at < found.size:
        task, k = divided(at, inner)
        i, part = divided(task, parts)
        place, base = np.int64(part) * each, np.int64(i) * n * inner + k
        j, last = place + lane, min(place + each, n)
        value = values.dtype.type(x[np.uint64(base + place * inner)])
        while j < last:
            other = values.dtype.type(x[np.uint64(base + j * inner)])
            if beats(op, other, j, value, place):
                value, place = other, j
            j += 1 << bits
        if places.size > 0:
            place = places[np.uint64(base + place * inner)]
    value, place = find_lanes(op, value, place, bits, shared_values, shared_places)
    if at < found.size and lane == 0:
        values[np.uint64(at)] = value
        found[np.uint64(at)] = place


def _find_best(x: DeviceArray, axis: int, out: DeviceArray, op: int) -> None:
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    x, op, dtype = _operand(x, op)
    x, places, found = x.reshape(-1), out.reshape(-1)[:0], out.reshape(-1)
    parts = max(1, min(_ENOUGH // max(1, outer * inner), n // _PART))
    if parts > 1:
        each = blocks(n, parts)
        parts = blocks(n, each)  # so that none is empty
        values = _room("values", (outer * parts * inner,), dtype)
        places = _room("places", (outer * parts * inner,), np.int64)
        bits = lane_bits(each)
        start(_find, *over_rows(places.size, bits), x, found[:0], values, places, op, n, inner, parts, each, bits)
        x, n = values, parts
    bits = 0 if inner > 1 and found.size >= _RESULTS else lane_bits(n)
    best = _room("best", (found.size,), dtype)
    start(_find, *over_rows(found.size, bits), x, places, best, found, op, n, inner, 1, n, bits)


def find_largest(x: DeviceArray, axis: int, out: DeviceArray) -> None:
    """out = the first position of the largest element along an axis, that of the first NaN if there is one."""
    _find_best(x, axis, out, LARGEST)


def find_smallest(x: DeviceArray, axis: int, out: DeviceArray) -> None:
    """out = the first position of the smallest element along an axis, that of the first NaN if there is one."""
    _find_best(x, axis, out, SMALLEST)


# -------------------- running sums and products --------------------


@kernel
def _run_along(x, out, op, identity, lines, n, inner, x_at, x_step, out_at, out_step, exclusive):
    """A thread for each line."""
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


@kernel(launch_bounds=MOST)
def _scan_lines(x, out, carried, op, identity, n, inner, x_at, x_step, out_at, out_step, exclusive):
    """A block for each line: by pieces of a number for each thread, scanned in warps and then across them.

    carried: of size 0, of the dtype in which this is done.
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
    """An array, perhaps backwards along an axis, as flat memory; where its lines start in it and their step."""
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
        start(_run_along, blocks(lines, BLOCK), BLOCK, x, out, op, _identity(op, dtype), lines, *sizes)
    else:
        threads = MOST if n > BLOCK and lines < _ENOUGH else BLOCK
        start(_scan_lines, lines, threads, x, out, _room("carried", (0,), dtype), op, _identity(op, dtype), *sizes)


def accumulate(x: DeviceArray, ufunc: np.ufunc, axis: int, out: DeviceArray) -> None:
    """out = running sums (np.add) or products (np.multiply) along an axis; x and out may be backwards along it."""
    _scan(x, _CODES[ufunc], axis, out, False)


def products_before(x: DeviceArray, out: DeviceArray) -> None:
    """out[i, j] = product of x[i, :j]; x and out may be backwards along the rows."""
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
    """dx_i = y_(i-1) s_i with s_i = dy_i + x_(i+1) s_(i+1); a thread for each line, one step after the other."""
    if x.size:
        n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
        lines, flat = x.size // n, (each.reshape(-1) for each in (x, y, dy, dx))
        start(_slopes, blocks(lines, BLOCK), BLOCK, *flat, lines, n, inner)


@kernel
def _keep_finite(x, out):
    i = cuda.grid(1)
    if i < out.size:
        value = x[np.uint64(i)]
        out[np.uint64(i)] = value if value - value == x.dtype.type(0) else x.dtype.type(0)


def keep_finite(x: DeviceArray, out: DeviceArray) -> None:
    """out = x, 0 where it is not finite."""
    start(_keep_finite, blocks(x.size, BLOCK), BLOCK, x.reshape(-1), out.reshape(-1))
