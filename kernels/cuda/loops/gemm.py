"""`product`, matrix products on a GPU: row-major, any transpose, leading dimension, offset, beta, batches, bias and relu.

A block of threads computes a square tile of C. The sum runs by stages of 8 terms, which are loaded to shared memory so that the
numbers of a term are contiguous. While the threads multiply one stage, they load the next one to their registers. A thread holds
8 by 8 sums of a large tile (8 by 4, 4 by 4 of smaller ones) and reads shared memory 128 bits at a time: 4 loads for 64
multiply-adds. Its rows and columns form quads spread over the warp's part of the tile. The lanes are ordered so that a load of A
touches 4 different quads and one of B touches 8, contiguous, without bank conflicts (as in NVIDIA's CUTLASS).

`_plan` chooses the tile, and cuts the sum into parts if tiles alone would leave processors idle. A second kernel adds the parts
in a fixed order. Products with a vector have separate kernels (gemv.py).
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops import gemv as gemv_cuda
from nbkeras.kernels.cuda.loops.registers import (
    gather_quad,
    load_quad,
    multiply_add,
    row_of,
    spread_quad,
    store_quad,
    zero_block,
)
from nbkeras.kernels.cuda.loops.sums import Target, add_parts, outcome, parts_of
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime import cublas, device
from nbkeras.kernels.runtime.device_array import DeviceArray

_DEPTH = size(8, simulated=4)  # the terms of a stage
_TERMS = tuple(range(_DEPTH))
_DOWN, _ACROSS = size(4, simulated=2), size(8, simulated=4)  # lanes of a warp along the rows and the columns of C
_LANES = _DOWN * _ACROSS
_ONE, _TWO_ROWS, _TWO_COLUMNS = (0,), (0, 4 * _DOWN), (0, 4 * _ACROSS)  # the offsets of a thread's quads in its warp
_PAD = 4  # unused numbers after each term, so that threads that write the terms of a line use different banks

_MAX_BATCHES = 65535  # CUDA's max blocks along z

_LARGE, _MEDIUM, _SMALL = 32 * _DOWN, 16 * _DOWN, 8 * _DOWN  # the sides of the tiles
_LARGE_THREADS, _MEDIUM_THREADS, _SMALL_THREADS = 8 * _LANES, 4 * _LANES, 2 * _LANES
_LARGE_STAGES, _MEDIUM_STAGES, _SMALL_STAGES = (4 * _DEPTH * (side + _PAD) for side in (_LARGE, _MEDIUM, _SMALL))


# -------------------- the work of a block of threads --------------------


@device_function
def _load_pattern(operand, thread, side, first, extent):
    """Returns which four numbers a thread loads from each stage of an operand.

    The result is: the first number's line and term, the distance between numbers in terms and in the stage, the first number's
    offset in the stage.
    """
    _, _, terms, _, wide, _, _ = operand
    pitch = side + _PAD
    if terms == 1:  # load four contiguous terms of a line
        line, term = thread // (_DEPTH // 4), thread % (_DEPTH // 4) * 4
        return min(first + line, extent - 1), term, 1, pitch, term * pitch + line
    if wide != 0:  # load a term of four contiguous lines
        line, term = thread % (side // 4) * 4, thread // (side // 4)
        return min(first + line, extent - 4), term, 0, 1, term * pitch + line
    line, term, apart = thread % side, thread // side, _DEPTH // 4
    return min(first + line, extent - 1), term, apart, apart * pitch, term * pitch + line


@device_function
def _read_start(x, at, apart, term, terms_apart, count):
    """Returns a thread's four numbers of the first stage, which has `count` terms; zeros beyond them."""
    zero = x.dtype.type(0)
    return (
        x[at] if term < count else zero,
        x[at + apart] if term + terms_apart < count else zero,
        x[at + 2 * apart] if term + 2 * terms_apart < count else zero,
        x[at + 3 * apart] if term + 3 * terms_apart < count else zero,
    )


@device_function
def _read(x, at, apart, wide):
    if wide != 0:
        return load_quad(x, at)
    return gather_quad(x, at, apart)


@device_function
def _keep(stage, to, apart, quad):
    if apart == 1:
        store_quad(stage, to, quad)
    else:
        spread_quad(stage, to, apart, quad)


@device_function
def _write(quad, c, at, count, wide, beta, bias, j, rectify):
    """Writes the first `count` of four sums to C."""
    if count <= 0:
        return
    s, t, u, v = quad
    s = outcome(s, c, at, beta, bias, j, rectify)
    if count > 1:
        t = outcome(t, c, at + 1, beta, bias, j + 1, rectify)
    if count > 2:
        u = outcome(u, c, at + 2, beta, bias, j + 2, rectify)
    if count > 3:
        v = outcome(v, c, at + 3, beta, bias, j + 3, rectify)
    if wide != 0:
        store_quad(c, at, (s, t, u, v))
        return
    c[at] = s
    if count > 1:
        c[at + 1] = t
    if count > 2:
        c[at + 2] = u
    if count > 3:
        c[at + 3] = v


@device_function
def _multiply(rows, columns, side, warps, stages, sizes, a, left, b, right, c, form, beta, bias, rectify):
    """Computes a tile of C, the part `blockIdx.y` of its sums, for the product `blockIdx.z`.

    rows, columns: the offsets of a thread's quads. warps: the number of warps across a tile. stages: two stages of A, then of B.
    """
    m, n, k, depth = sizes
    thread, part, batch = cuda.threadIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
    down, across = (m + side - 1) // side, (n + side - 1) // side
    if across <= down:  # neighbouring blocks read the same part of the longer side
        i, j = np.int32(cuda.blockIdx.x // across * side), np.int32(cuda.blockIdx.x % across * side)
    else:
        i, j = np.int32(cuda.blockIdx.x % down * side), np.int32(cuda.blockIdx.x // down * side)
    start = part * depth
    length = min(k - start, depth)
    count = min(length, (length - 1) % _DEPTH + 1)  # the first stage may be shorter than the others

    a_line, a_term, a_terms, a_spread, a_to = _load_pattern(left, thread, side, i, m)
    b_line, b_term, b_terms, b_spread, b_to = _load_pattern(right, thread, side, j, n)
    a_at, a_lines, a_distance, a_step, a_quads, a_apart, a_stage = left
    b_at, b_lines, b_distance, b_step, b_quads, b_apart, b_stage = right
    a_at += batch * a_step + a_line * a_lines + (start + a_term) * a_distance
    b_at += batch * b_step + b_line * b_lines + (start + b_term) * b_distance
    pitch, stage = side + _PAD, _DEPTH * (side + _PAD)
    b_to += 2 * stage
    _keep(stages, a_to, a_spread, _read_start(a, a_at, a_apart, a_term, a_terms, count))
    _keep(stages, b_to, b_spread, _read_start(b, b_at, b_apart, b_term, b_terms, count))
    a_at += count * a_distance
    b_at += count * b_distance
    cuda.syncthreads()

    lane, warp = thread % _LANES, thread // _LANES
    row = np.int32((warp // warps * _DOWN * len(rows) + lane // (2 * _ACROSS) * 2 + lane % 2) * 4)
    column = np.int32((warp % warps * _ACROSS * len(columns) + lane // 2 % _ACROSS) * 4)
    sums = zero_block(c, rows, columns)
    now = np.int32(0)  # the offset of the current stage in `stages`
    rest = np.int32(length - count)
    quads = a_quads != 0 and b_quads != 0  # one test for both operands selects the fast path
    while True:
        if rest > 0:
            if quads:
                x, y = load_quad(a, a_at), load_quad(b, b_at)
            else:
                x, y = _read(a, a_at, a_apart, a_quads), _read(b, b_at, b_apart, b_quads)
            a_at += a_stage
            b_at += b_stage
        sums = multiply_add(
            sums, stages, now + row, pitch, rows, stages, now + column + 2 * stage, pitch, columns, _TERMS
        )
        if rest <= 0:
            break
        rest = np.int32(rest - _DEPTH)
        now = np.int32(stage - now)
        _keep(stages, now + a_to, a_spread, x)
        _keep(stages, now + b_to, b_spread, y)
        cuda.syncthreads()

    at, ldc, step, part_step, wide = form
    i, j = i + row, j + column
    at += batch * step + part * part_step + i * ldc + j
    for r in range(4 * len(rows)):
        down = r // 4 * (4 * _DOWN) + r % 4
        if i + down < m:
            values = row_of(sums, columns, r)
            _write(values[:4], c, at + down * ldc, n - j, wide, beta, bias, j, rectify)
            if len(columns) > 1:
                j_2 = j + 4 * _ACROSS
                _write(values[-4:], c, at + down * ldc + 4 * _ACROSS, n - j_2, wide, beta, bias, j_2, rectify)


@kernel(launch_bounds=(_LARGE_THREADS, 2))
def _multiply_large(sizes, a, left, b, right, c, form, beta, bias, rectify):
    stages = cuda.shared.array(_LARGE_STAGES, a.dtype, alignment=16)
    _multiply(_TWO_ROWS, _TWO_COLUMNS, _LARGE, 2, stages, sizes, a, left, b, right, c, form, beta, bias, rectify)


@kernel(launch_bounds=(_MEDIUM_THREADS, 5))
def _multiply_medium(sizes, a, left, b, right, c, form, beta, bias, rectify):
    stages = cuda.shared.array(_MEDIUM_STAGES, a.dtype, alignment=16)
    _multiply(_TWO_ROWS, _ONE, _MEDIUM, 2, stages, sizes, a, left, b, right, c, form, beta, bias, rectify)


@kernel(launch_bounds=_MEDIUM_THREADS)
def _multiply_double(sizes, a, left, b, right, c, form, beta, bias, rectify):
    """Computes a medium tile in float64, whose sums take twice the registers."""
    stages = cuda.shared.array(_MEDIUM_STAGES, a.dtype, alignment=16)
    _multiply(_TWO_ROWS, _ONE, _MEDIUM, 2, stages, sizes, a, left, b, right, c, form, beta, bias, rectify)


@kernel(launch_bounds=_SMALL_THREADS)
def _multiply_small(sizes, a, left, b, right, c, form, beta, bias, rectify):
    stages = cuda.shared.array(_SMALL_STAGES, a.dtype, alignment=16)
    _multiply(_ONE, _ONE, _SMALL, 1, stages, sizes, a, left, b, right, c, form, beta, bias, rectify)


# -------------------- products --------------------


def product(
    ta, tb, m, n, k, a, a_at, lda, b, b_at, ldb, beta, c, c_at, ldc,
    bias=None, rectify=False, batches=1, a_step=0, b_step=0, c_step=0, kind=None,
) -> None:  # fmt: skip
    """C[m, n] = op(A)[m, k] @ op(B)[k, n] + beta * C + bias, or its positive part if rectify, for each of `batches` products.

    a, b, c: contiguous arrays of one dtype, float32 or float64, taken as flat memory; c overlaps neither a nor b. a_at, b_at,
    c_at: the offsets of the first elements. lda, ldb, ldc: the distance between stored rows (at least their length). ta, tb: True
    if A or B is stored transposed, as (k, m) or (n, k). With beta 0, C is not read. bias: (n,), None or of size 0. The i-th
    product is at a_at + i * a_step, b_at + i * b_step, c_at + i * c_step; a step of 0 uses the same matrix for all. k may be 0.
    The same shapes always give the same bits on GPUs with the same number of processors. kind: the dtype of 16 bits that a and b
    are numbers of, for cuBLAS.
    """
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    bias = c[:0] if bias is None else bias
    if 0 in (m, n, batches):
        return
    for first in range(0, batches, _MAX_BATCHES):
        count = min(_MAX_BATCHES, batches - first)
        left = _form(a, a_at + first * a_step, lda, a_step, not ta, m, k)
        right = _form(b, b_at + first * b_step, ldb, b_step, tb, n, k)
        target = Target(c, c_at + first * c_step, ldc, c_step, c.dtype.type(beta), bias, int(rectify))
        if cublas.chosen() and k > 0:
            simple = bias.size == 0 and not rectify
            result = target if simple else parts_of(target, count, 1, m, n)
            operands = a, left[0], lda, b, right[0], ldb, result.beta, result.c, result.at, result.ld
            cublas.gemm(ta, tb, m, n, k, *operands, count, a_step, b_step, result.step, kind)
            if not simple:
                add_parts(result, target, count, 1, m, n)
        elif n == 1:
            gemv_cuda.gemv(m, n, k, a, left, b, _vector(b, right), target, count)
        elif m == 1:
            gemv_cuda.gemv(m, n, k, b, right, a, _vector(a, left), target, count)
        else:
            _start(m, n, k, a, left, b, right, target, count)


def _form(x: DeviceArray, at: int, ld: int, step: int, along: bool, extent: int, k: int) -> tuple:
    """Returns an operand's form: (offset, distances between lines, terms and matrices, whether quads load).

    A's lines are its rows, B's lines are its columns. along: True if a line's terms are contiguous, False if a term's lines are.
    """
    quads = _has_quads(x, at, ld, step) and (k if along else extent) % 4 == 0
    return (at, ld, 1, step, int(quads)) if along else (at, 1, ld, step, int(quads))


def _vector(x: DeviceArray, form: tuple) -> tuple:
    """Returns a vector's form: (offset, distances between numbers and vectors, whether quads load)."""
    at, _, apart, step, _ = form
    return at, apart, step, int(apart == 1 and _has_quads(x, at, step))


def _has_quads(x: DeviceArray, at: int, *distances: int) -> bool:
    """True if 128-bit loads are aligned at every fourth number from `at` on, and at multiples of the distances from there."""
    return (x.address + at * x.itemsize) % 16 == 0 and all(distance % 4 == 0 for distance in distances)


def _start(m, n, k, a, left, b, right, target, batches) -> None:
    tile, parts = _plan(m, n, k, batches, target.c.itemsize, device.gpu().processors)
    depth = _part(k, parts)
    partial = target if parts == 1 else parts_of(target, batches, parts, m, n)
    c, at, ld, step, *rest = partial
    form = at, ld, step, m * n, int(n % 4 == 0 and _has_quads(c, at, ld, step, m * n if parts > 1 else 0))
    grid = blocks(m, tile.side) * blocks(n, tile.side), parts, batches
    args = (m, n, k, depth), a, _operand(left), b, _operand(right), c, form, *rest
    start(tile.kernel, grid, tile.threads, *args)
    if parts > 1:
        add_parts(partial, target, batches, parts, m, n)


def _operand(form: tuple) -> tuple:
    """Returns the form, and the distances in memory of the numbers that a thread loads (see `_load_pattern`) and of stages."""
    _, _, terms, _, quads = form
    return *form, 1 if terms == 1 or quads else _DEPTH // 4 * terms, _DEPTH * terms


def _part(k: int, parts: int) -> int:
    """Returns the terms of a part, which has whole stages."""
    depth = -(-k // parts)
    return max(depth + -depth % _DEPTH, _DEPTH)


# -------------------- the choice of the tile and the number of parts --------------------


class _Tile(NamedTuple):
    """A kernel, and estimates of its speed from the instructions of its loop.

    speed: the multiply-adds of a full processor, as a fraction of its limit. alone: cycles per term if a block is alone on a
    processor. resident: the number of blocks that a processor holds.
    """

    kernel: Kernel
    side: int
    threads: int
    speed: float
    alone: int
    resident: int


# by the bytes of a number: the tiles, the largest first
_TILES = {
    4: (
        _Tile(_multiply_large, _LARGE, _LARGE_THREADS, 0.8, 165, 2),
        _Tile(_multiply_medium, _MEDIUM, _MEDIUM_THREADS, 0.7, 62, 5),
        _Tile(_multiply_small, _SMALL, _SMALL_THREADS, 0.45, 42, 10),
    ),
    8: (
        _Tile(_multiply_double, _MEDIUM, _MEDIUM_THREADS, 0.35, 96, 3),
        _Tile(_multiply_small, _SMALL, _SMALL_THREADS, 0.25, 64, 8),
    ),
}
_PARTS = 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128
_MINIMUM = 4 * _DEPTH  # minimum terms of a part
_BEGIN, _ADD = 1500, 2500  # cycles of a block outside its loop, and of an additional kernel
_BYTES = 15  # bytes that memory moves per cycle


@functools.cache
def _plan(m: int, n: int, k: int, batches: int, itemsize: int, processors: int) -> tuple[_Tile, int]:
    """Returns the tile and the number of parts with the fewest estimated cycles, see `_cycles`."""
    plans = [
        (_cycles(tile, parts, m, n, k, batches, itemsize, processors), tile, parts)
        for tile in _TILES[itemsize]
        for parts in {max(1, -(-k // _part(k, parts))) for parts in _PARTS if parts == 1 or k >= parts * _MINIMUM}
    ]
    _, tile, parts = min(plans, key=lambda plan: plan[0])
    return tile, parts


def _cycles(tile: _Tile, parts: int, m: int, n: int, k: int, batches: int, itemsize: int, processors: int) -> float:
    """Estimates the cycles at 128 multiply-adds per cycle and processor. These bound it, or blocks that run one by one."""
    each = blocks(blocks(m, tile.side) * blocks(n, tile.side) * batches * parts, processors)
    depth = _part(k, parts)
    busy = each * tile.side**2 * depth / (128 * tile.speed)
    waiting = blocks(each, tile.resident) * (depth * tile.alone + _BEGIN)
    adding = _ADD + 2 * parts * batches * m * n * itemsize / (processors * _BYTES) if parts > 1 else 0
    return max(busy, waiting) + adding
