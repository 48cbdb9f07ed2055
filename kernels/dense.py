"""Matrix products: the dense layer act(x @ w + b), and matmul with broadcasting and free transposes. Op, vjp and loops.

One compiled loop computes all products: it cuts C into tiles by shape and runs `gemm` on each tile, in shares if there is enough
work. It applies bias and relu to sums while they are in registers.
"""

import functools
import math
from typing import Any

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.loops.gemm import BIAS, PANELS, PLAIN, RECTIFIED, TRANSPOSED, gemm_ended
from nbkeras.kernels.panels import is_worth_panels, panels_of
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE_WORK = 250_000  # min multiply-adds of a share, about 3 us: another thread needs 1 us to find its share
_COLUMNS = 64  # minimum columns of a tile, where C would otherwise be a single tile
_SUM_SHARE = 32768  # minimum numbers that a share sums
_ROW_SHARE = 32768  # minimum numbers of B that a share reads in a product with one row: 1 to 2 us
# up to this many rows, weights in panels are faster; with more rows, the product's own copy costs little
_PANEL_ROWS = 64
# with at least this many rows of A, copy a transposed B before multiplying (100 instead of 85 GF/s)
_TRANSPOSE_ROWS = 1024


# by the size of an element: an array without elements, in place of a bias
_NOTHING = {4: np.empty(0, np.float32), 8: np.empty(0, np.float64)}


# -------------------- the dense layer --------------------


def dense(x: Array, w: Array, b: Array | None, rectify: bool = False, product: Any = None):
    """Computes y = x @ w + b, or its positive part if rectify; x (..., k), w (k, n), b (n,) or None.

    product: in place of `float_product`; half_products.py has another one.
    """
    product = product or float_product
    rows, (k, n) = math.prod(x.shape[:-1]), w.shape
    y = device.empty((*x.shape[:-1], n), x.dtype)
    product(False, False, x, w, y, 1, rows, n, k, bias=b, rectify=rectify)
    return y, (x, w, b is not None, y if rectify else None)


def dense_vjp(saved, dy, needs, product=None):
    product = product or float_product
    x, w, has_bias, y = saved
    rows, (k, n) = math.prod(x.shape[:-1]), w.shape
    wants_db = has_bias and needs[2] is not False
    db = device.output(needs[2], (n,), dy.dtype) if wants_db else None
    dz = dy
    if y is not None:
        dz = _rectifier_backward(y.reshape(rows, n), dy.reshape(rows, n), db)
    elif db is not None:
        reduce.sum_rows(dy.reshape(1, rows, n), db[None])
    dw = dx = None
    if needs[1] is not False:
        dw = device.output(needs[1], w.shape, dy.dtype)
        product(True, False, x, dz, dw, 1, k, n, rows)
    if needs[0] is not False:
        dx = device.output(needs[0], x.shape, dy.dtype)
        product(False, True, dz, w, dx, 1, rows, k, n)
    return dx, dw, db


def _rectifier_backward(y: Array, dy: Array, db: Array | None) -> Array:
    """Computes dz = dy where y > 0, else 0, and in the same pass db, the column sums of dz."""
    rows, n = y.shape
    dz = device.empty(dy.shape, dy.dtype)
    block = max(16, 16384 // max(n, 1))
    blocks = -(-rows // block)
    if blocks <= 1:
        sums = device.empty((n,), dy.dtype) if db is None else db
        launch_shares(rectifier_backward, 1, y, dy, dz, sums[None], rows)
    else:
        partial = device.empty((blocks, n), dy.dtype)
        launch_shares(rectifier_backward, share_count(blocks, 1), y, dy, dz, partial, block)
        if db is not None:
            reduce.sum_rows(partial[None], db[None])
    return dz


@compiled
def rectifier_backward(y, dy, dz, partial, block, share, shares):
    """Kernel: dz = dy where y > 0, else 0; partial[i] = column sums of dz's i-th block of rows. Computes a share of blocks."""
    zero, n, blocks = dy.dtype.type(0), dy.shape[1], partial.shape[0]
    for t in range(blocks * share // shares, blocks * (share + 1) // shares):
        sums = partial[t]
        for j in range(n):
            sums[j] = zero
        for i in range(t * block, min(dy.shape[0], t * block + block)):
            out, slope, value = dz[i], dy[i], y[i]
            for j in range(n):
                out[j] = slope[j] if value[j] > zero else zero
            for j in range(n):
                sums[j] += out[j]


# -------------------- matmul --------------------


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, into=None, product=None):
    """Computes op(a) @ op(b) over the last two axes, where op may swap them; leading axes broadcast.

    into: the output array. product: as for `dense`.
    """
    product = product or float_product
    if a.ndim == 2 == b.ndim and into is None and not (transpose_a or transpose_b):
        (m, k), n = a.shape, b.shape[1]
        c = device.empty((m, n), a.dtype)
        product(False, False, a, b, c, 1, m, n, k)
        return c, (a, b, False, False)
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]
    batch = () if a.ndim == b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, m, n)
    c = device.empty(shape, a.dtype) if into is None else device.output(into, shape, a.dtype)
    if _is_one_product(a, b, transpose_a):
        product(False, transpose_b, a, b, c, 1, math.prod(batch) * m, n, k)
    else:
        (left, left_step), (right, right_step) = _steps(a, batch), _steps(b, batch)
        product(transpose_a, transpose_b, left, right, c, math.prod(batch), m, n, k, left_step, right_step)
    return c, (a, b, transpose_a, transpose_b)


def matmul_vjp(saved, dy, needs, product=None):
    product = product or float_product
    a, b, transpose_a, transpose_b = saved
    da = db = None
    if needs[0] is not False:
        if transpose_a:
            da = matmul(b, dy, transpose_b, True, into=needs[0], product=product)[0]
        else:
            da = matmul(dy, b, False, not transpose_b, into=needs[0], product=product)[0]
    if needs[1] is not False:
        if _is_one_product(a, b, transpose_a):  # the product includes the sum over the batch
            rows, k, n = math.prod(a.shape[:-1]), a.shape[-1], dy.shape[-1]
            db = device.output(needs[1], b.shape, dy.dtype)
            if transpose_b:
                product(True, False, dy, a, db, 1, n, k, rows)
            else:
                product(True, False, a, dy, db, 1, k, n, rows)
        elif transpose_b:
            db = matmul(dy, a, True, transpose_a, into=needs[1], product=product)[0]
        else:
            db = matmul(a, dy, not transpose_a, False, into=needs[1], product=product)[0]
    return da, db


def _is_one_product(a: Array, b: Array, transpose_a: bool) -> bool:
    """True if the leading axes of a can be treated as rows because b is one matrix."""
    return not transpose_a and (b.ndim == 2 or math.prod(b.shape[:-2]) == 1)


def _steps(a: Array, batch: tuple[int, ...]) -> tuple[Array, int]:
    """Returns the array with equal steps between the matrices of `batch`, and that step (0 for a single matrix)."""
    if math.prod(a.shape[:-2]) == 1:
        return a, 0
    size = a.shape[-2] * a.shape[-1]
    if a.shape[:-2] == (1,) * (a.ndim - 2 - len(batch)) + batch:
        return a, size
    whole = device.empty((*batch, *a.shape[-2:]), a.dtype)
    device.launch(device.copy, a, whole)
    return whole, size


# -------------------- the loop --------------------


def float_product(ta, tb, a, b, c, batches, m, n, k, a_step=0, b_step=0, bias=None, rectify=False) -> None:
    """Launch C[i] (m, n) = op(A[i]) (m, k) @ op(B[i]) (k, n) for i < batches, with A[i] starting at i * a_step."""
    if batches == 1 and device.is_plain() and (steps := _steps_of_one_share(ta, tb, m, n, k)):
        bias = _NOTHING[c.itemsize] if bias is None else bias
        form, flat = TRANSPOSED if tb else PLAIN, c.reshape(-1)
        device.launch(multiply, int(ta), form, a.reshape(-1), b.reshape(-1), bias, flat, *steps, int(rectify), 0, 1)
        return
    if c.size == 0:
        return
    if k == 0:
        device.launch(device.fill, c, 0)
        return
    if device.gpu() is not None:  # the twin reads B without a copy, and splits long sums
        lda, ldb = m if ta else k, k if tb else n
        _launch(ta, int(tb), a, b, c, batches, m, n, k, batches * k, lda, ldb, a_step, b_step, bias, rectify)
        return
    form, ldb = (TRANSPOSED, k) if tb else (PLAIN, n)
    if not ta and batches == 1 and m <= _PANEL_ROWS and is_worth_panels(b):
        b, form = panels_of(b.reshape(n, k) if tb else b.reshape(k, n), tb), PANELS
        ldb = b.shape[1]
    elif tb and m >= _TRANSPOSE_ROWS and b_step == 0:
        with device.prepared(b):
            plain = device.empty((k, n), b.dtype)
            device.launch(device.copy, b.reshape(n, k).T, plain)
        b, form, ldb = plain, PLAIN, n
    shares = share_count(k * n, _ROW_SHARE) if m == batches == 1 and form == PLAIN else 1
    parts = _parts(batches, m, n, k) if m > 1 and form == PLAIN else shares
    lda = m if ta else k
    if parts == 1:
        _launch(ta, form, a, b, c, batches, m, n, k, batches * k, lda, ldb, a_step, b_step, bias, rectify)
        return
    # C is small and its sums are long: shares compute parts of the sums, which are added afterwards
    depth = -(-k // parts)
    depth += -depth % 4 if shares > 1 else 0  # multiply_row processes four rows at a time
    partial = device.empty((-(-k // depth), m, n), c.dtype)
    if shares > 1:
        launch_shares(multiply_row, len(partial), a.reshape(k), b.reshape(k, n), partial.reshape(-1, n), depth)
    else:
        a_step = depth * m if ta else depth
        _launch(ta, form, a, b, partial, len(partial), m, n, depth, k, lda, ldb, a_step, depth * n, None, False)
    summand = _NOTHING[c.itemsize] if bias is None else bias
    shares = share_count(partial.size, _SUM_SHARE, m)
    launch_shares(add_up, shares, partial, summand, c.reshape(m, n), int(rectify))


def _launch(ta, form, a, b, c, batches, m, n, k, depth, lda, ldb, a_step, b_step, bias, rectify) -> None:
    rows, columns, shares = _cut(batches, m, n, k, ldb if form == PANELS else 0)
    bias = _NOTHING[c.itemsize] if bias is None else bias
    flat = (a.reshape(-1), b.reshape(-1), bias, c.reshape(-1))
    steps = (batches, m, n, k, depth, lda, ldb, a_step, b_step, rows, columns)
    launch_shares(multiply, shares, int(ta), form, *flat, *steps, int(rectify))


@functools.lru_cache(maxsize=1024)
def _steps_of_one_share(ta: bool, tb: bool, m: int, n: int, k: int) -> tuple[int, ...]:
    """Returns the numbers that an eager launch of a small product takes; () if it is not one launch of one share."""
    if tb:
        is_one = m < _TRANSPOSE_ROWS
    else:
        is_one = (share_count(k * n, _ROW_SHARE) if m == 1 else _parts(1, m, n, k)) == 1
    rows, columns, shares = _cut(1, m, n, k, 0) if m * n * k else (0, 0, 0)
    return (1, m, n, k, k, m if ta else k, k if tb else n, 0, 0, rows, columns) if is_one and shares == 1 else ()


@functools.lru_cache(maxsize=1024)
def _cut(batches: int, m: int, n: int, k: int, panel: int) -> tuple[int, int, int]:
    """Returns the rows and columns of a tile of C, and the number of shares. panel: the columns of a panel of B, 0 for none."""
    # reading B bounds products with few rows, so eight rows are added to the count
    wanted = share_count(batches * (m + 8) * n * k, _SHARE_WORK)
    rows, columns = _tile_size(batches, m, n, wanted)
    if panel:
        columns = panel * -(-columns // panel)
        if m == 1:
            wanted = share_count(k * n, _ROW_SHARE)
            columns = panel * max(1, -(-n // (wanted * panel)))
    return rows, columns, min(wanted, _tile_count(batches, m, n, rows, columns))


def _parts(batches: int, m: int, n: int, k: int) -> int:
    """The number of parts that a product's sum is split into: more than one if C has too few tiles for several cores."""
    if batches > 1 or m * n > 65536 or k < 2048:
        return 1
    return min(8, k // 1024)


@compiled
def multiply_row(x, w, partial, depth, share, shares):
    """Kernel: partial[share] = x[rows] @ w[rows] for a share of `depth` of w's rows.

    A product with one row is bound by reading w. Full rows, four at a time, are read at 110 GB/s from the second-level cache,
    tiles at 75 GB/s (one core).
    """
    out, zero, first, last = partial[share], w.dtype.type(0), share * depth, min(x.size, share * depth + depth)
    for j in range(out.size):
        out[j] = zero
    fours = first + (last - first) // 4 * 4
    for p in range(first, fours, 4):
        x0, x1, x2, x3, w0, w1, w2, w3 = x[p], x[p + 1], x[p + 2], x[p + 3], w[p], w[p + 1], w[p + 2], w[p + 3]
        for j in range(out.size):
            out[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
    for p in range(fours, last):
        row = w[p]
        for j in range(out.size):
            out[j] += x[p] * row[j]


@compiled
def add_up(partial, bias, c, rectify, share, shares):
    """Kernel: c = the sum of partial, plus bias (size 0: none), or its positive part if rectify; computes a share of the rows."""
    zero, rows = c.dtype.type(0), c.shape[0]
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        out = c[r]
        for j in range(out.size):
            out[j] = zero
        for i in range(partial.shape[0]):
            row = partial[i, r]
            for j in range(out.size):
                out[j] += row[j]
        for j in range(bias.size):
            out[j] += bias[j]
        if rectify != 0:
            for j in range(out.size):
                out[j] = zero if out[j] < zero else out[j]  # NaN stays NaN


def _tile_size(batches: int, m: int, n: int, shares: int) -> tuple[int, int]:
    """The rows and columns of a tile of C: small enough for several cores, larger if there are many tiles.

    shares: the number of shares that have enough work.
    """
    rows, columns = 128, 128
    while rows > 32 and rows >= m / 2 and _tile_count(batches, m, n, rows, columns) < 4:
        rows //= 2
    while columns > _COLUMNS and _tile_count(batches, m, n, rows, columns) < min(2, shares):
        columns //= 2
    while _tile_count(batches, m, n, rows, columns) > 128 and (rows < 256 or columns < 256):
        if rows < m and rows <= columns:
            rows *= 2
        elif columns < n:
            columns *= 2
        else:
            break
    return rows, columns


def _tile_count(batches: int, m: int, n: int, rows: int, columns: int) -> int:
    return batches * -(-m // rows) * -(-n // columns)


@compiled
def multiply(
    ta, tb, a, b, bias, c, batches, m, n, k, depth, lda, ldb, a_step, b_step, rows, columns, rectify, share, shares
):
    """Kernel: C[i] = op(A[i]) @ op(B[i]) + bias, or its positive part if rectify; computes a share of the tiles.

    All arrays are flat. ta, tb: how A[i], B[i] are stored, as for `gemm`. C[i] is (m, n) at i * m * n; A[i] starts at
    i * a_step with rows lda apart, B[i] at i * b_step with rows ldb apart; the i-th sum has min(k, depth - i * k) terms. rows,
    columns: the size of a tile. Adjacent tiles of a share are computed as one.
    """
    across, down = (n + columns - 1) // columns, (m + rows - 1) // rows
    tiles = batches * across * down
    tile, end = tiles * share // shares, tiles * (share + 1) // shares
    while tile < end:
        rest = tile % (across * down)
        # A share is a range of tiles: along the rows for a weight gradient (as in the optimizer's shares), else along the
        # columns.
        if ta != 0:
            i, j = rest // across, rest % across
            count = min(end - tile, across - j)
            height, width = rows, columns * count
        else:
            i, j = rest % down, rest // down
            count = min(end - tile, down - i)
            height, width = rows * count, columns
        i, j = i * rows, j * columns
        height, width = min(height, m - i), min(width, n - j)
        batch = tile // (across * down)
        a_at, length = batch * a_step + (i if ta != 0 else i * lda), min(k, depth - batch * k)
        b_at = batch * b_step + (j if tb == PLAIN else j * k)
        ends = (BIAS if bias.size > 0 else 0) + (RECTIFIED if rectify != 0 else 0)
        to, zero = (batch * m + i) * n + j, c.dtype.type(0)
        gemm_ended(ta, tb, height, width, length, a, a_at, lda, b, b_at, ldb, zero, c, to, n, bias, j, ends)
        tile += count
