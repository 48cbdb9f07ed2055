"""Attention over heads: products of (batch, steps, heads, size) without a copy, and the softmax of masked, scaled scores.

`inner` computes scores (batch, heads, queries, keys), `weighted` computes sums with such weights. Each is the other's
derivative. Keys and values may have fewer heads, each used by neighbouring heads of the queries (grouped-query attention;
Ainslie et al., 2023).
"""

import math

import numpy as np

from nbkeras.kernels import dense
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.vmath import bounded_exp
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count
from nbkeras.kernels.softmax import dot, larger, largest, total

Array = np.ndarray
MINIMUM = -1e38  # replaces a masked score; a row whose scores are all this low has no allowed score
_ROWS = 128  # max rows of a result in one product
_SHARE_WORK = 250_000  # min multiply-adds of a share
_SHARE = 4096  # minimum elements of a share of a softmax


# -------------------- products over heads --------------------


def inner(x: Array, y: Array):
    """Computes z[b, n, t, s] = x[b, t, n] . y[b, s, n]. Shapes: (b, t, n, h) and (b, s, k, h) -> (b, n, t, s); k divides n."""
    return _inner(x, y, True), (x, y)


def inner_vjp(saved, dz, needs):
    x, y = saved
    dx = None if needs[0] is False else _weighted(dz, y, needs[0])
    dy = None if needs[1] is False else _summed(dz, x, y.shape, needs[1])
    return dx, dy


def weighted(w: Array, y: Array):
    """Computes z[b, t, n] = sum over s of w[b, n, t, s] y[b, s, n]. Shapes: (b, n, t, s) and (b, s, k, h) -> (b, t, n, h)."""
    return _weighted(w, y, True), (w, y)


def weighted_vjp(saved, dz, needs):
    w, y = saved
    dw = None if needs[0] is False else _inner(dz, y, needs[0])
    dy = None if needs[1] is False else _summed(w, dz, y.shape, needs[1])
    return dw, dy


def _inner(x: Array, y: Array, need) -> Array:
    (batch, t, n, h), (s, k) = x.shape, y.shape[1:3]
    z = device.output(need, (batch, n, t, s), x.dtype)
    if device.gpu() is not None:
        left = _heads_first(x).reshape(batch, k, n // k * t, h)
        dense.matmul(left, _heads_first(y), False, True, into=z.reshape(batch, k, n // k * t, s))
    else:
        _launch(0, 1, x, y, z, (batch, n, 1, t, s, h), (t * n * h, h, 0), n * h, (s * k * h, h), k * h, n // k, s)
    return z


def _weighted(w: Array, y: Array, need) -> Array:
    (batch, n, t, s), (k, h) = w.shape, y.shape[2:]
    z = device.output(need, (batch, t, n, h), w.dtype)
    if device.gpu() is not None:
        product, _ = dense.matmul(w.reshape(batch, k, n // k * t, s), _heads_first(y))
        device.launch(device.copy, product.reshape(batch, n, t, h).transpose(0, 2, 1, 3), z)
    else:
        _launch(0, 0, w, y, z, (batch, n, 1, t, h, s), (n * t * s, t * s, 0), s, (s * k * h, h), k * h, n // k, n * h)
    return z


def _summed(w: Array, x: Array, shape: tuple[int, ...], need) -> Array:
    """Computes z[b, s, m] = the sum of w[b, n, t, s] x[b, t, n] over t, and over the query heads n that use m."""
    (batch, n, t, s), (k, h) = w.shape, shape[2:]
    z = device.output(need, shape, w.dtype)
    if device.gpu() is not None:
        right = _heads_first(x).reshape(batch, k, n // k * t, h)
        product, _ = dense.matmul(w.reshape(batch, k, n // k * t, s), right, True, False)
        device.launch(device.copy, product.transpose(0, 2, 1, 3), z)
    else:
        groups, step = n // k, t * s
        sizes = (batch, k, groups, s, h, t)
        _launch(1, 0, w, x, z, sizes, (n * step, groups * step, step), s, (t * n * h, h), n * h, 1, k * h)
    return z


def _heads_first(x: Array) -> Array:
    """Returns a view of (b, t, n, h) as (b, n, t, h)."""
    out = device.empty((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), x.dtype)
    device.launch(device.copy, x.transpose(0, 2, 1, 3), out)
    return out


def _launch(ta, tb, a, b, c, sizes, a_steps, lda, b_steps, ldb, served, ldc) -> None:
    if c.size == 0:
        return
    if 0 in sizes:
        device.launch(device.fill, c, 0)
        return
    batch, heads, groups, m, n, k = sizes
    c_steps = (c.size // batch, n if ldc > n else m * n)
    flat = (a.reshape(-1), b.reshape(-1), c.reshape(-1))
    shares = share_count(c.size * k * groups, _SHARE_WORK, batch * heads * -(-m // _ROWS))
    steps = (*a_steps, lda, *b_steps, ldb, served, *c_steps, ldc)
    launch_shares(multiply_heads, shares, ta, tb, *flat, *sizes, *steps)


@compiled
def multiply_heads(
    ta, tb, a, b, c, batch, heads, groups, m, n, k, a_batch, a_head, a_group, lda, b_batch, b_head, ldb, served,
    c_batch, c_head, ldc, share, shares,
):  # fmt: skip
    """Kernel: C = sum over groups of op(A) @ op(B) for each batch and head; computes a share of the row blocks of C.

    C[i, j] is (m, n) at i * c_batch + j * c_head, with rows ldc apart. Group g of A's head j is at i * a_batch + j * a_head +
    g * a_group. It uses B's head (j * groups + g) // served, at i * b_batch + head * b_head.
    """
    zero, one = c.dtype.type(0), c.dtype.type(1)
    blocks = (m + 127) // 128
    total = batch * heads * blocks
    for task in range(total * share // shares, total * (share + 1) // shares):
        i, rest = task // (heads * blocks), task % (heads * blocks)
        j, row = rest // blocks, rest % blocks * 128
        height, at = min(128, m - row), i * c_batch + j * c_head + row * ldc
        for g in range(groups):
            a_at = i * a_batch + j * a_head + g * a_group + (row if ta != 0 else row * lda)
            b_at = i * b_batch + (j * groups + g) // served * b_head
            beta = zero if g == 0 else one
            gemm(ta, tb, height, n, k, a, a_at, lda, b, b_at, ldb, beta, c, at, ldc)


# -------------------- softmax --------------------


def masked_softmax(x: Array, mask: Array | None, scale: float, causal: bool, spread: bool):
    """Softmax of scale * x along the last axis where mask is True; 0 elsewhere. x: (b, n, t, s); mask: bool, broadcasts to x.

    scale must be positive: the kernel finds the largest score before it scales.
    causal: query t uses only keys up to t. A row without an allowed score is 0, or 1 / s with `spread`.
    """
    batch, heads, queries, keys = x.shape
    y, empty = device.empty(x.shape, x.dtype), device.empty((batch * heads * queries,), np.bool_)
    steps = [0] * 4
    if mask is not None:
        sizes = (1,) * (4 - mask.ndim) + mask.shape
        steps = [math.prod(sizes[axis + 1 :]) if sizes[axis] > 1 else 0 for axis in range(4)]
    if x.size:
        flags = device.empty(0, np.bool_) if mask is None else mask.reshape(-1)
        rows = (x.reshape(-1, keys), y.reshape(-1, keys))
        options = (x.dtype.type(scale), int(causal), int(spread))
        shares = share_count(x.size, _SHARE, len(empty))
        launch_shares(masked_forward, shares, *rows, flags, empty, *options, heads, queries, *steps)
    return y, (y, empty, scale)


def masked_softmax_vjp(saved, dy, needs):
    y, empty, scale = saved
    dx = device.output(needs[0], dy.shape, dy.dtype)
    if dx.size:
        rows = (array.reshape(-1, dy.shape[-1]) for array in (y, dy, dx))
        launch_shares(masked_backward, share_count(dx.size, _SHARE, len(empty)), *rows, empty, dy.dtype.type(scale))
    return (dx, None)


@compiled
def masked_forward(
    x, y, mask, empty, scale, causal, spread, heads, queries, of_batch, of_head, of_query, of_key, share, shares
):
    """Kernel: computes softmax of scale * x for each row (batch, head, query), where mask[batch * of_batch + ...] is True.

    A mask of size 0 allows all. scale is positive. Masked scores up to the next full vector get exponentials too: for 64 scores
    of a causal attention, stopping exactly at the end took twice as long.
    """
    minimum, zero, n = x.dtype.type(MINIMUM), x.dtype.type(0), x.shape[1]
    for r in range(len(x) * share // shares, len(x) * (share + 1) // shares):
        query = r % queries
        end = min(n, query + 1) if causal != 0 else n
        full = min(n, (end + 15) // 16 * 16)
        value, out = x[r, :full], y[r, :full]
        at = r // (heads * queries) * of_batch + r // queries % heads * of_head + query * of_query
        by_key = mask.size > 0 and of_key != 0
        if by_key:
            top = largest_allowed(value[:end], mask[at : at + end], minimum)
        elif mask.size > 0 and not mask[at]:
            top = minimum
        else:
            top = largest(value[:end])
        empty[r] = top <= minimum
        if empty[r]:
            whole, share_of_each = y[r], x.dtype.type(spread) / x.dtype.type(n)
            for i in range(n):
                whole[i] = share_of_each
            continue
        for i in range(full):
            out[i] = bounded_exp((value[i] - top) * scale)
        for i in range(end, n):
            y[r, i] = zero
        if by_key:
            allowed = mask[at : at + end]
            for i in range(end):
                out[i] = out[i] if allowed[i] else zero
        factor = x.dtype.type(1) / total(out)
        for i in range(full):
            out[i] *= factor


@compiled
def largest_allowed(x, allowed, minimum):
    """Returns the largest allowed element, or `minimum` if there is none. If some are NaN, the result is undefined."""
    result = minimum
    for i in range(x.size):
        result = larger(x[i] if allowed[i] else minimum, result)
    return result


@compiled
def masked_backward(y, dy, dx, empty, scale, share, shares):
    """Kernel: dx = scale * y (dy - sum(dy y)) for each row, 0 for an empty row."""
    for r in range(len(y) * share // shares, len(y) * (share + 1) // shares):
        value, slope, out = y[r], dy[r], dx[r]
        mean, factor = dot(value, slope), dx.dtype.type(0) if empty[r] else scale
        for i in range(out.size):
            out[i] = value[i] * (slope[i] - mean) * factor
