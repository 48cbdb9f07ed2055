"""Decompositions and inverses of matrices in the last two axes, and norms, as in keras.ops.linalg.

Floats; integers become floatx. A matrix that cannot be inverted or decomposed raises a ValueError when the kernel runs.
Formulas of gradients: Giles, "An extended collection of matrix derivative results", 2008; Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions", 2011 (QR); Golub and Pereyra, 1973 (the pseudo-inverse).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import linalg
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import as_float, axes_of, floats, promote
from nbkeras.ops.creation import eye
from nbkeras.ops.dense import matmul
from nbkeras.ops.elementwise import add, divide, multiply, negative, subtract
from nbkeras.ops.functions import divide_no_nan
from nbkeras.ops.indexing import getitem, tril, triu
from nbkeras.ops.shape import broadcast_to, concatenate, expand_dims, moveaxis, reshape, squeeze, swapaxes


def _applied(kernel: Callable, slopes: Callable, tensors: list[Tensor], **constants: Any) -> Any:
    """Apply a kernel whose gradients are slopes(*saved, *dy), one for each tensor; an unused result's dy is None."""

    def backward(saved, dy, needs):
        known = [Tensor(array) for array in saved]
        dys = dy if isinstance(dy, tuple) else (dy,)
        grads = slopes(*known, *(None if array is None else Tensor(array) for array in dys))
        grads = grads if isinstance(grads, tuple) else (grads,)
        return tuple(None if need is False else grad.data for grad, need in zip(grads, needs, strict=True))

    return apply(kernel, backward, tensors, **constants)


def _matrix(name: str, x: Any, square: bool = True) -> Tensor:
    x = as_float(x)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        raise ValueError(
            f"{name}: expected {'square ' * square}matrices in the last two axes, received shape {x.shape}"
        )
    return x


def _turned(x: Tensor) -> Tensor:
    return swapaxes(x, -1, -2)


def _columns(x: Tensor) -> Tensor:
    """A vector as a factor of each column of a matrix."""
    return expand_dims(x, -2)


def _symmetric(x: Tensor) -> Tensor:
    return multiply(add(x, _turned(x)), 0.5)


# -------------------- inverses --------------------


@op
def inv(x) -> Tensor:
    """The inverse matrix: (..., n, n)."""

    def slopes(y, dy):
        return negative(matmul(_turned(y), matmul(dy, _turned(y))))

    return _applied(linalg.inv, slopes, [_matrix("inv", x)])


@op
def solve(a, b) -> Tensor:
    """The solution x of a x = b: a (..., n, n), b (..., n, k) or a vector (..., n)."""
    a, b = floats(a, b)
    _matrix("solve", a)
    is_vector = b.shape == a.shape[:-1]
    column = expand_dims(b, -1) if is_vector else b
    if column.ndim < 2 or column.shape[-2] != a.shape[-1] or broadcast_shape(a.shape[:-2], column.shape[:-2]) is None:
        raise ValueError(
            f"solve: expected a (..., n, n) and b (..., n, k) or (..., n), received {a.shape} and {b.shape}"
        )

    def slopes(a, x, dx):
        db = solve(_turned(a), dx)
        return negative(matmul(db, _turned(x))), db

    x = _applied(linalg.solve, slopes, [a, column])
    return squeeze(x, -1) if is_vector else x


@op
def solve_triangular(a, b, lower: bool = False) -> Tensor:
    """The solution x of a x = b, using only the upper (or lower) triangle of a; see `solve`."""
    a, b = promote(a, b)
    return solve(tril(a) if lower else triu(a), b)


@op
def pinv(x, rcond: float | None = None) -> Tensor:
    """The pseudo-inverse: (..., m, n) -> (..., n, m). Singular values below rcond times the largest count as 0.

    rcond: 10 max(m, n) times the dtype's precision by default, as in JAX.
    """
    x = _matrix("pinv", x, square=False)
    least = 10 * max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rcond is None else float(rcond)

    def slopes(x, y, dy):
        turned, g = _turned(y), _turned(dy)
        left = subtract(eye(x.shape[-2], dtype=x.dtype), matmul(x, y))
        right = subtract(eye(x.shape[-1], dtype=x.dtype), matmul(y, x))
        first = matmul(turned, matmul(dy, turned))
        second = matmul(left, matmul(g, matmul(y, turned)))
        third = matmul(matmul(turned, y), matmul(g, right))
        return subtract(add(second, third), first)

    return _applied(linalg.pinv, slopes, [x], rcond=least)


@op
def lstsq(a, b, rcond: float | None = None) -> Tensor:
    """The least-squares solution: the shortest x with the least |a x - b|; a (m, n), b (m, k) or (m,). rcond: see `pinv`."""
    a, b = floats(a, b)
    _matrix("lstsq", a, square=False)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(f"lstsq: expected a (m, n) and b (m, k) or (m,), received {a.shape} and {b.shape}")
    return matmul(pinv(a, rcond), b)


# -------------------- determinants --------------------


@op
def det(x) -> Tensor:
    """The determinant: (..., n, n) -> (...). The gradient's formula requires an invertible matrix."""

    def slopes(x, y, dy):
        factor = expand_dims(multiply(y, dy), (-2, -1))
        return multiply(_turned(inv(x)), factor)

    return _applied(linalg.det, slopes, [_matrix("det", x)])


@op
def slogdet(x) -> tuple[Tensor, Tensor]:
    """The determinant's sign, and the logarithm of its absolute value."""

    def slopes(x, dsign, dlog):
        return multiply(x, 0) if dlog is None else multiply(_turned(inv(x)), expand_dims(dlog, (-2, -1)))

    return _applied(linalg.slogdet, slopes, [_matrix("slogdet", x)])


@op
def logdet(x) -> Tensor:
    """The logarithm of the determinant of a positive definite matrix."""
    return slogdet(x)[1]


# -------------------- decompositions --------------------


@op
def cholesky(x, upper: bool = False) -> Tensor:
    """The lower triangle L with L L^T = x (or the upper one) of a positive definite x. x is made symmetric first."""

    def slopes(y, dy):
        inner = tril(matmul(_turned(y), dy))
        inner = subtract(inner, multiply(inner, 0.5 * np.eye(y.shape[-1])))
        half = solve(_turned(y), inner)
        return _symmetric(_turned(solve(_turned(y), _turned(half))))

    y = _applied(linalg.cholesky, slopes, [_symmetric(_matrix("cholesky", x))])
    return _turned(y) if upper else y


@op
def cholesky_inverse(x, upper: bool = False) -> Tensor:
    """The inverse of the matrix whose Cholesky factor is x."""
    x = _matrix("cholesky_inverse", x)
    factor = solve_triangular(x, broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape), lower=not upper)
    return matmul(factor, _turned(factor)) if upper else matmul(_turned(factor), factor)


@op
def eigh(x) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order and eigenvectors (columns): (..., n, n) -> (..., n), (..., n, n). x is made symmetric first."""

    def slopes(values, vectors, dvalues, dvectors):
        turned = _turned(vectors)
        inner = matmul(multiply(vectors, 0.0 if dvalues is None else _columns(dvalues)), turned)
        if dvectors is not None:
            apart = divide_no_nan(1, subtract(_columns(values), expand_dims(values, -1)))
            inner = add(inner, matmul(vectors, matmul(multiply(apart, matmul(turned, dvectors)), turned)))
        return inner

    return _applied(linalg.eigh, slopes, [_symmetric(_matrix("eigh", x))])


@op
def qr(x, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """Q with orthonormal columns and an upper triangle R with Q R = x: (..., m, n) -> (..., m, k), (..., k, n).

    k is the smaller of m and n, or m for mode 'complete', which has a gradient only for m <= n.
    """
    one_of("qr", "mode", mode, ("reduced", "complete"))
    return _applied(linalg.qr, _qr_slopes, [_matrix("qr", x, square=False)], mode=mode)


def _qr_slopes(x, q, r, dq, dr):
    if q.shape[-1] > r.shape[-1]:
        raise ValueError(f"qr: no gradient of mode 'complete' for a matrix with more rows than columns, {x.shape}")
    dq = multiply(q, 0) if dq is None else dq
    dr = multiply(r, 0) if dr is None else dr
    m = q.shape[-2]
    if r.shape[-1] > m:  # the columns of x after the first m are Q times those of R
        later, ahead = (..., slice(m, None)), (..., slice(None, m))
        dlater = getitem(dr, later)
        dq = add(dq, matmul(getitem(x, later), _turned(dlater)))
        first = _qr_slopes(x, q, getitem(r, ahead), dq, getitem(dr, ahead))
        return concatenate([first, matmul(q, dlater)], -1)
    inner = subtract(matmul(r, _turned(dr)), matmul(_turned(dq), q))
    inner = add(tril(inner), _turned(tril(inner, -1)))
    return _turned(solve(r, _turned(add(dq, matmul(q, inner)))))


@op
def svd(x, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """The singular value decomposition U s V^T = x, s in falling order: (U, s, V^T), or only s without compute_uv.

    Shapes: (..., m, n) -> (..., m, m), (..., k), (..., n, n) with k the smaller of m and n. Without full_matrices U and V^T
    are (..., m, k) and (..., k, n). For a matrix that is not square, U and V^T have a gradient only without full_matrices.
    """
    x = _matrix("svd", x, square=False)
    u, s, v = _applied(linalg.svd, _svd_slopes, [x], full_matrices=full_matrices and compute_uv)
    return (u, s, v) if compute_uv else s


def _svd_slopes(u, s, v, du, ds, dv):
    if (
        (du is not None or dv is not None)
        and u.shape[-2] != v.shape[-1]
        and u.shape[-1] * v.shape[-2] != s.shape[-1] ** 2
    ):
        raise ValueError("svd: no gradient of the rotations of a matrix that is not square with full_matrices=True")
    k = s.shape[-1]
    u, v = getitem(u, (..., slice(k))), getitem(v, (..., slice(k), slice(None)))
    squares = elementwise.square(s)
    apart = divide_no_nan(1, subtract(_columns(squares), expand_dims(squares, -1)))
    inner = multiply(eye(k, dtype=s.dtype), _columns(multiply(s, 0) if ds is None else ds))
    dx = None
    if du is not None:
        turn = matmul(_turned(u), du)
        inner = add(inner, multiply(multiply(apart, subtract(turn, _turned(turn))), _columns(s)))
        rest = subtract(du, matmul(u, turn))
        dx = matmul(divide(rest, _columns(s)), v)
    if dv is not None:
        turn = matmul(v, _turned(dv))
        inner = add(inner, multiply(multiply(apart, subtract(turn, _turned(turn))), expand_dims(s, -1)))
        rest = matmul(divide(u, _columns(s)), subtract(dv, matmul(_turned(turn), v)))
        dx = rest if dx is None else add(dx, rest)
    main = matmul(u, matmul(inner, v))
    return main if dx is None else add(main, dx)


@op
def lu_factor(x) -> tuple[Tensor, Tensor]:
    """Both triangles in one matrix, and the row that each row was exchanged with, int32, as scipy.linalg. No gradient."""
    return apply(linalg.lu, None, [_matrix("lu_factor", x, square=False)])


@op
def matrix_rank(x, tol: float | None = None) -> Tensor:
    """The number of singular values above tol, int32.

    tol: by default max(m, n) times the dtype's precision times the largest singular value.
    """
    x = _matrix("matrix_rank", x, square=False)
    s = svd(x, compute_uv=False)
    least = multiply(reduce.max(s, -1, keepdims=True), max(x.shape[-2:]) * float(np.finfo(x.dtype).eps))
    return reduce.count_nonzero(elementwise.greater(s, least if tol is None else as_tensor(tol, x.dtype)), -1)


# -------------------- norms --------------------


@op
def norm(x, ord: Any = None, axis=None, keepdims: bool = False) -> Tensor:
    """Norm of vectors along one axis, or of matrices along two axes; if ord and axis are None, of all elements as one vector.

    ord for vectors: 2 (None), 1, inf, -inf, 0 (the number of elements that are not 0), another number p: sum(|x|^p)^(1/p).
    ord for matrices: 'fro' (None), 'nuc' (the sum of the singular values), 2 and -2 (the largest and the smallest singular
    value), 1 and -1 (the largest and the smallest sum of a column's absolute values), inf and -inf (of a row's).
    """
    x = as_float(x)
    axes = axes_of("norm", axis, x.ndim)
    if ord is None or (len(axes) == 2 and ord == "fro") or (len(axes) == 1 and ord == 2):
        return elementwise.sqrt(reduce.sum(elementwise.square(x), axes, keepdims))
    if len(axes) == 1 and not isinstance(ord, str):
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2 and ord in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        given = axes if axis is None else tuple(a % x.ndim for a in axis)
        y = _matrix_norm(moveaxis(x, given, (-2, -1)), ord)
        return reshape(y, [1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y
    raise ValueError(f"norm: ord {ord!r} is not defined over {len(axes)} axes (axis={axis} of shape {x.shape})")


def _vector_norm(x: Tensor, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    sizes = elementwise.absolute(x)
    if ord in (math.inf, -math.inf):
        return (reduce.max if ord > 0 else reduce.min)(sizes, axes, keepdims)
    if ord == 0:
        return reduce.sum(as_tensor(elementwise.not_equal(x, 0), x.dtype), axes, keepdims)
    if ord == 1:
        return reduce.sum(sizes, axes, keepdims)
    return elementwise.power(reduce.sum(elementwise.power(sizes, ord), axes, keepdims), 1 / ord)


def _matrix_norm(x: Tensor, ord: Any) -> Tensor:
    if ord in ("nuc", 2, -2):
        s = svd(x, compute_uv=False)
        return reduce.sum(s, -1) if ord == "nuc" else (reduce.max if ord > 0 else reduce.min)(s, -1)
    sums = reduce.sum(elementwise.absolute(x), -2 if abs(ord) == 1 else -1)
    return (reduce.max if ord > 0 else reduce.min)(sums, -1)


_lazy_names.attach(globals())
