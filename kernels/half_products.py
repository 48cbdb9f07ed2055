"""Products of float32 arrays whose elements are numbers of 16 bits, by instructions for such numbers where they exist.

A processor with AVX512-BF16 multiplies bfloat16 numbers: both operands are copied as pairs of them in words of 32 bits. A GPU
multiplies both dtypes on its tensor cores, if cuBLAS was chosen. Elsewhere, and where the copies cost more than the instructions
gain, the product is float32's: it has the same terms, in another order.
"""

import functools

import numpy as np

from nbkeras.kernels import dense as dense_kernels
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import BIAS, RECTIFIED
from nbkeras.kernels.loops.half_gemm import COLUMNS, HAS_PAIR_PRODUCTS, HIGH, WIDE, lanes, multiply_block, pack_square
from nbkeras.kernels.runtime import cublas, device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 65536  # minimum numbers that a share copies
_SHARE_WORK = 1_000_000  # min multiply-adds of a share
_ROWS = 256  # rows of a tile of C
# pairs of a sum that are added at a time: panels of B stay in the cache, and errors of rounding add up less
_DEPTH = 256
# products with fewer rows, columns, terms or multiply-adds are not faster, because of the copies
_MINIMUM, _MIN_WORK = 32, 2**20


def dense(x: Array, w: Array, b: Array | None, rectify: bool = False, kind: str = "bfloat16"):
    """Computes `dense.dense` for numbers of a dtype of 16 bits."""
    y, saved = dense_kernels.dense(x, w, b, rectify, _PRODUCTS[kind])
    return y, (saved, kind)


def dense_vjp(saved, dy, needs):
    return dense_kernels.dense_vjp(saved[0], dy, needs, _PRODUCTS[saved[1]])


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, kind: str = "bfloat16"):
    """Computes `dense.matmul` for numbers of a dtype of 16 bits."""
    c, saved = dense_kernels.matmul(a, b, transpose_a, transpose_b, product=_PRODUCTS[kind])
    return c, (saved, kind)


def matmul_vjp(saved, dy, needs):
    return dense_kernels.matmul_vjp(saved[0], dy, needs, _PRODUCTS[saved[1]])


def is_faster(m: int, n: int, k: int) -> bool:
    """True if the CPU computes a product by instructions for bfloat16."""
    return HAS_PAIR_PRODUCTS and min(m, n, k) >= _MINIMUM and m * n * k >= _MIN_WORK


def multiply_halves(kind, ta, tb, a, b, bias, c, batches, m, n, k, a_step, b_step, rectify) -> None:
    """Kernel: `dense.float_product` for numbers of 16 bits. Only its twin has instructions for them, a GPU's tensor cores."""
    dense_kernels.float_product(ta, tb, a, b, c, batches, m, n, k, a_step, b_step, bias, rectify)


def _product(kind, ta, tb, a, b, c, batches, m, n, k, a_step=0, b_step=0, bias=None, rectify=False) -> None:
    """`dense.float_product` for numbers of 16 bits."""
    if device.gpu() is not None and cublas.chosen():
        device.launch(multiply_halves, kind, ta, tb, a, b, bias, c, batches, m, n, k, a_step, b_step, rectify)
        return
    if device.gpu() is not None or kind != "bfloat16" or batches > 1 or not is_faster(m, n, k):
        dense_kernels.float_product(ta, tb, a, b, c, batches, m, n, k, a_step, b_step, bias, rectify)
        return
    depth, panels = (k + 1) // 2, -(-n // COLUMNS)
    left, right = device.empty((m * depth,), np.uint32), device.empty((panels * COLUMNS * depth,), np.uint32)
    launch_shares(pack_left, share_count(m * k, _SHARE), int(ta), a.reshape(-1), left, m, k)
    launch_shares(pack_right_transposed if tb else pack_right, share_count(n * k, _SHARE), b.reshape(-1), right, n, k)
    bias = device.empty((0,), c.dtype) if bias is None else bias
    shares = share_count(m * n * k, _SHARE_WORK, panels * -(-m // _ROWS))
    launch_shares(multiply_pairs, shares, int(ta), left, right, bias, c.reshape(-1), m, n, depth, int(rectify))


_PRODUCTS = {kind: functools.partial(_product, kind) for kind in ("bfloat16", "float16")}


@compiled
def _word(x, first, second):
    """Returns the bits of x[first] and x[second] as a pair."""
    return load(x, first) >> np.uint32(16) | load(x, second) & np.uint32(0xFFFF0000)


@compiled
def pack_left(ta, a, out, m, k, share, shares):
    """Kernel: copies a share of A, (m, k) or its transpose, as pairs: out (m, k / 2) or its transpose. An odd k gets a 0."""
    words, depth = a.view(np.uint32), (k + 1) // 2
    if ta != 0:
        for p in range(depth * share // shares, depth * (share + 1) // shares):
            if 2 * p + 1 < k:
                for i in range(m):
                    store(out, p * m + i, _word(words, 2 * p * m + i, (2 * p + 1) * m + i))
            else:
                for i in range(m):
                    store(out, p * m + i, load(words, 2 * p * m + i) >> np.uint32(16))
        return
    for i in range(m * share // shares, m * (share + 1) // shares):
        for p in range(k // 2):
            store(out, i * depth + p, _word(words, i * k + 2 * p, i * k + 2 * p + 1))
        if k % 2 == 1:
            store(out, i * depth + depth - 1, load(words, i * k + k - 1) >> np.uint32(16))


@compiled
def pack_right(b, out, n, k, share, shares):
    """Kernel: copies a share of B (k, n) as pairs, in panels of COLUMNS columns, padded by 0."""
    words, depth, zero = b.view(np.uint32), (k + 1) // 2, np.uint32(0)
    for p in range(depth * share // shares, depth * (share + 1) // shares):
        for j in range(0, n, COLUMNS):
            width, first, to = min(COLUMNS, n - j), 2 * p * n + j, j * depth + p * COLUMNS
            if 2 * p + 1 < k:
                for q in range(width):
                    store(out, to + q, _word(words, first + q, first + n + q))
            else:
                for q in range(width):
                    store(out, to + q, load(words, first + q) >> np.uint32(16))
            for q in range(width, COLUMNS):
                store(out, to + q, zero)


@compiled
def pack_right_transposed(b, out, n, k, share, shares):
    """Kernel: `pack_right` for B stored transposed, (n, k)."""
    words, depth, side = b.view(np.uint32), (k + 1) // 2, lanes(b)
    groups = (n + COLUMNS - 1) // COLUMNS * (COLUMNS // side)
    for group in range(groups * share // shares, groups * (share + 1) // shares):
        j = group * side
        to, whole = j // COLUMNS * COLUMNS * depth + j % COLUMNS, 0
        while j + side <= n and 2 * (whole + side) <= k:
            pack_square(b, j * k + 2 * whole, k, out, to + whole * COLUMNS)
            whole += side
        for p in range(whole, depth):
            for q in range(side):
                word = np.uint32(0)
                if j + q < n:
                    word = load(words, (j + q) * k + 2 * p) >> np.uint32(16)
                    if 2 * p + 1 < k:
                        word = _word(words, (j + q) * k + 2 * p, (j + q) * k + 2 * p + 1)
                store(out, to + p * COLUMNS + q, word)


@compiled
def multiply_pairs(ta, left, right, bias, c, m, n, depth, rectify, share, shares):
    """Kernel: C (m, n) = A @ B + bias, or its positive part if rectify, for copies by `pack_left` and `pack_right`.

    Computes a share of the tiles, which are as wide as a panel.
    """
    down, zero = (m + _ROWS - 1) // _ROWS, c.dtype.type(0)
    tiles = (n + COLUMNS - 1) // COLUMNS * down
    row_step, k_step = (1, m) if ta != 0 else (depth, 1)
    all_ends = (BIAS if bias.size > 0 else 0) + (RECTIFIED if rectify != 0 else 0)
    for tile in range(tiles * share // shares, tiles * (share + 1) // shares):
        j, first = tile // down * COLUMNS, tile % down * _ROWS
        for p in range(0, depth, _DEPTH):
            count, beta = min(_DEPTH, depth - p), zero if p == 0 else zero + 1
            ends = all_ends if p + count == depth else 0
            for at in range(j, min(n, j + COLUMNS), WIDE):
                width, panel = min(WIDE, min(n, j + COLUMNS) - at), j * depth + p * COLUMNS + at - j
                for i in range(first, min(m, first + _ROWS), HIGH):
                    multiply_block(
                        *(count, min(HIGH, m - i), left, i * row_step + p * k_step, row_step, k_step, right, panel),
                        *(c.dtype.type(beta), c, i * n + at, n, bias, at, ends, width),
                    )
