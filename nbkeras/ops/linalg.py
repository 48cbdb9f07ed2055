"""Decompositions and inverses of matrices in the last two axes, and norms, as in keras.ops.linalg.

Floats; integers become floatx. A matrix that cannot be inverted or decomposed raises a ValueError when the kernel runs, in each
replay too: see kernels/linalg.py.
Formulas of gradients: Giles, "An extended collection of matrix derivative results", 2008; Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions", 2011 (QR); Golub and Pereyra, 1973 (the pseudo-inverse).
"""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op, promote
from nbkeras.kernels import linalg as kernels
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import axes_of
from nbkeras.ops.contractions import matmul
from nbkeras.ops.creation import eye
from nbkeras.ops.elementwise import add, divide, multiply, negative, subtract
from nbkeras.ops.functions import divide_no_nan
from nbkeras.ops.indexing import getitem, take, tril, triu
from nbkeras.ops.shape import broadcast_to, concatenate, expand_dims, moveaxis, reshape, squeeze, swapaxes

if TYPE_CHECKING:  # imported at first use
    from nbkeras.autodiff.transforms import jvp as jvp
    from nbkeras.ops.complex_numbers import eig as eig


def _applied(
    kernel: Callable, slopes: Callable, tensors: list[Tensor], composition: Callable | None = None, **constants: Any
) -> Any:
    """Apply a kernel whose gradients are slopes(*saved, *dy), one for each tensor; an unused result's dy is None.

    composition: The same function made of ops, for derivatives of higher order; None differentiates the slopes.
    """

    def backward(saved, dy, needs):
        known = [Tensor(array) for array in saved]
        dys = dy if isinstance(dy, tuple) else (dy,)
        grads = slopes(*known, *(None if array is None else Tensor(array) for array in dys))
        grads = grads if isinstance(grads, tuple) else (grads,)
        return tuple(None if need is False else grad.data for grad, need in zip(grads, needs, strict=True))

    # for derivatives of higher order: see autodiff/rules.py
    backward.derivative = lambda rules: (  # type: ignore[attr-defined]
        rules.Composed(composition) if composition else rules.OfSaved(slopes)
    )
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
    """The inverse matrix.

    Args:
        x: Floats (..., n, n); integers become floatx.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if the matrices are not square, or one of them cannot be inverted.

    Example:
        >>> ops.inv([[2.0, 0.0], [0.0, 4.0]]).numpy()
        array([[0.5 , 0.  ],
               [0.  , 0.25]], dtype=float32)
    """
    return _inverse("inv", _matrix("inv", x))


def _inverse(op: str, x: Tensor) -> Tensor:
    def slopes(y, dy):
        return negative(matmul(_turned(y), matmul(dy, _turned(y))))

    return _applied(kernels.inv, slopes, [x], needed_by=op)


@op
def solve(a, b) -> Tensor:
    """The solution x of the linear equations a x = b.

    Args:
        a: Floats (..., n, n); integers become floatx.
        b: Floats (..., n, k), whose leading axes broadcast with a's; or vectors, of a's shape without
            its last axis.

    Returns:
        A float tensor (..., n, k), or (..., n) for vectors.

    Raises:
        ValueError: if the shapes do not fit, or a matrix cannot be inverted.

    Example:
        >>> ops.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).numpy()
        array([1. , 0.5], dtype=float32)
    """
    return _solution("solve", a, b)


def _solution(op: str, a: Any, b: Any) -> Tensor:
    """`solve` for the public function or gradient `op`, which errors name."""
    a, b = floats(a, b)
    _matrix(op, a)
    is_vector = b.shape == a.shape[:-1]
    column = expand_dims(b, -1) if is_vector else b
    if column.ndim < 2 or column.shape[-2] != a.shape[-1] or broadcast_shape(a.shape[:-2], column.shape[:-2]) is None:
        raise ValueError(
            f"{op}: expected a (..., n, n) and b (..., n, k) or (..., n), received {a.shape} and {b.shape}"
        )

    def slopes(a, x, dx):
        db = _solution(f"gradient of {op}", _turned(a), dx)
        return negative(matmul(db, _turned(x))), db

    x = _applied(kernels.solve, slopes, [a, column], needed_by=op)
    return squeeze(x, -1) if is_vector else x


@op
def solve_triangular(a, b, lower: bool = False) -> Tensor:
    """The solution x of a x = b, where a is the upper or the lower triangle of a matrix.

    Args:
        a: Floats (..., n, n); integers become floatx. The other triangle is not used.
        b: Floats (..., n, k), whose leading axes broadcast with a's; or vectors, of a's shape without
            its last axis.
        lower: Whether a is the lower triangle.

    Returns:
        A float tensor (..., n, k), or (..., n) for vectors.

    Raises:
        ValueError: if the shapes do not fit, or the diagonal has a 0.

    Example:
        >>> ops.solve_triangular([[2.0, 9.0], [1.0, 4.0]], [2.0, 5.0], lower=True).numpy()
        array([1., 1.], dtype=float32)
    """
    return _triangular_solution("solve_triangular", a, b, lower)


def _triangular_solution(op: str, a: Any, b: Any, lower: bool) -> Tensor:
    a, b = promote(a, b)
    return _solution(op, tril(a) if lower else triu(a), b)


@op
def pinv(x, rcond: float | None = None) -> Tensor:
    """The Moore-Penrose pseudo-inverse, which exists for every matrix.

    Args:
        x: Floats (..., m, n); integers become floatx.
        rcond: Singular values below rcond times the largest count as 0. None for 10 max(m, n) times the
            dtype's precision, as in JAX.

    Returns:
        A float tensor (..., n, m).

    Example:
        >>> ops.pinv([[2.0, 0.0], [0.0, 0.0]]).numpy()
        array([[0.5, 0. ],
               [0. , 0. ]], dtype=float32)
    """
    return _pseudo_inverse("pinv", x, rcond)


def _pseudo_inverse(op: str, x: Any, rcond: float | None) -> Tensor:
    x = _matrix(op, x, square=False)
    minimum = 10 * max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rcond is None else float(rcond)

    def slopes(x, y, dy):
        turned, g = _turned(y), _turned(dy)
        left = subtract(eye(x.shape[-2], dtype=x.dtype), matmul(x, y))
        right = subtract(eye(x.shape[-1], dtype=x.dtype), matmul(y, x))
        first = matmul(turned, matmul(dy, turned))
        second = matmul(left, matmul(g, matmul(y, turned)))
        third = matmul(matmul(turned, y), matmul(g, right))
        return subtract(add(second, third), first)

    return _applied(kernels.pinv, slopes, [x], rcond=minimum, needed_by=op)


@op
def lstsq(a, b, rcond: float | None = None) -> Tensor:
    """The least-squares solution of a x = b: among all x that minimize |a x - b|, the shortest.

    Args:
        a: Floats (m, n); integers become floatx.
        b: Floats (m, k), or a vector (m,).
        rcond: As in `pinv`.

    Returns:
        A float tensor (n, k), or (n,).

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> a = [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]  # a line through (0, 1), (1, 3), (2, 5): 1 + 2 x
        >>> ops.lstsq(a, [1.0, 3.0, 5.0]).numpy().round(3)
        array([1., 2.], dtype=float32)
    """
    a, b = floats(a, b)
    _matrix("lstsq", a, square=False)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(f"lstsq: expected a (m, n) and b (m, k) or (m,), received {a.shape} and {b.shape}")
    return matmul(_pseudo_inverse("lstsq", a, rcond), b)


# -------------------- determinants --------------------


@op
def det(x) -> Tensor:
    """The determinant.

    Args:
        x: Floats (..., n, n); integers become floatx.

    Returns:
        A float tensor (...). Its gradient, the matrix of cofactors, exists for singular matrices too.

    Raises:
        ValueError: if the matrices are not square.

    Example:
        >>> ops.det([[2.0, 1.0], [1.0, 3.0]]).numpy()
        array(5., dtype=float32)
    """

    def slopes(x, dy):
        return multiply(_cofactors(x), expand_dims(dy, (-2, -1)))

    return _applied(kernels.det, slopes, [_matrix("det", x)], _polynomial)


_EXPANDED = 4  # the largest matrices whose determinant is a sum of products


def _expanded(x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """The determinants of x[..., rows[i], columns[j]] for index arrays (..., n) with n up to 4, as sums of signed products."""
    size = rows.shape[-1]
    orders = np.array(list(itertools.permutations(range(size))), np.int32).reshape(math.factorial(size), size)
    signs = np.linalg.det(np.eye(size)[orders]).round()
    places = rows[..., None, :] * x.shape[-1] + columns[..., orders]
    factors = take(reshape(x, (*x.shape[:-2], x.shape[-1] ** 2)), places, axis=-1)
    return reduce.sum(multiply(reduce.prod(factors, -1), as_tensor(signs, x.dtype)), -1)


def _cofactors(x: Tensor) -> Tensor:
    """The gradient of the determinant, without a division: a singular matrix has it too."""
    n = x.shape[-1]
    if n <= _EXPANDED:
        rest = np.array([[j for j in range(n) if j != i] for i in range(n)], np.int32).reshape(n, max(n - 1, 0))
        minors = _expanded(x, *np.broadcast_arrays(rest[:, None], rest))
        return multiply(minors, as_tensor((-1.0) ** np.add.outer(np.arange(n), np.arange(n)), x.dtype))
    u, s, v = apply(kernels.rotations, None, [x])
    others = reduce.prod(elementwise.where(eye(n, dtype="bool"), 1, _columns(s)), -1)
    return matmul(multiply(u, _columns(others)), v)


def _polynomial(x: Tensor) -> Tensor:
    """The determinant as a polynomial of the elements, whose derivatives are right for singular matrices too.

    Rotations that do not depend on x change neither the determinant nor its derivatives. They make x diagonal, so the elimination
    needs no exchanges, and only the last pivots can be 0. At a matrix of rank n - d, the derivatives of orders below d are 0.
    With the product of the last 4 pivots as a sum of products, the derivatives of orders up to 4 need no division by a pivot 0.
    """
    y, last = None, np.arange(min(x.shape[-1], _EXPANDED), dtype=np.int32)
    if x.shape[-1] > _EXPANDED:
        u, _, v = apply(kernels.rotations, None, [x])
        x = matmul(_turned(u), matmul(x, _turned(v)))
    while x.shape[-1] > _EXPANDED:
        pivot, row = getitem(x, (..., slice(1), slice(1))), getitem(x, (..., slice(1), slice(1, None)))
        y = pivot if y is None else multiply(y, pivot)
        row = divide(row, elementwise.where(elementwise.equal(pivot, 0), 1, pivot))
        column = getitem(x, (..., slice(1, None), slice(1)))
        x = subtract(getitem(x, (..., slice(1, None), slice(1, None))), multiply(column, row))
    rest = _expanded(x, last, last)
    return rest if y is None else multiply(rest, squeeze(y, (-2, -1)))


@op
def slogdet(x) -> tuple[Tensor, Tensor]:
    """The sign of the determinant, and the logarithm of its absolute value, which does not overflow.

    Args:
        x: Floats (..., n, n); integers become floatx.

    Returns:
        Two float tensors (...): the sign (-1, 0 or 1), and the logarithm, whose gradient needs an invertible matrix.

    Raises:
        ValueError: if the matrices are not square.

    Example:
        >>> sign, log = ops.slogdet([[0.0, 2.0], [2.0, 0.0]])
        >>> print(sign.numpy(), ops.exp(log).numpy().round(3))
        -1.0 4.0
    """

    return _log_det("slogdet", x)


def _log_det(op: str, x: Any) -> tuple[Tensor, Tensor]:
    def slopes(x, dsign, dlog):
        if dlog is None:
            return multiply(x, 0)
        return multiply(_turned(_inverse(f"gradient of {op}", x)), expand_dims(dlog, (-2, -1)))

    return _applied(kernels.slogdet, slopes, [_matrix(op, x)])


@op
def logdet(x) -> Tensor:
    """The logarithm of the determinant of a positive definite matrix.

    Args:
        x: Floats (..., n, n); integers become floatx.

    Returns:
        A float tensor (...). Its gradient needs an invertible matrix.

    Raises:
        ValueError: if the matrices are not square.

    Example:
        >>> print(ops.exp(ops.logdet([[2.0, 0.0], [0.0, 4.0]])).numpy().round(3))
        8.0
    """
    return _log_det("logdet", x)[1]


# -------------------- decompositions --------------------


@op
def cholesky(x, upper: bool = False) -> Tensor:
    """The Cholesky factor of a positive definite matrix: the lower triangle L with L L^T = x.

    Args:
        x: Floats (..., n, n); integers become floatx. They are made symmetric first.
        upper: Whether to return L^T instead.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if a matrix is not square or not positive definite.

    Example:
        >>> ops.cholesky([[4.0, 2.0], [2.0, 5.0]]).numpy()
        array([[2., 0.],
               [1., 2.]], dtype=float32)
    """

    def slopes(y, dy):
        inner = tril(matmul(_turned(y), dy))
        inner = subtract(inner, multiply(inner, 0.5 * np.eye(y.shape[-1])))
        half = _solution("gradient of cholesky", _turned(y), inner)
        return _symmetric(_turned(_solution("gradient of cholesky", _turned(y), _turned(half))))

    y = _applied(kernels.cholesky, slopes, [_symmetric(_matrix("cholesky", x))])
    return _turned(y) if upper else y


@op
def cholesky_inverse(x, upper: bool = False) -> Tensor:
    """The inverse of a matrix from its Cholesky factor.

    Args:
        x: Floats (..., n, n), a triangle as `cholesky` returns; integers become floatx.
        upper: Whether x is the upper triangle.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if the matrices are not square, or the diagonal has a 0.

    Example:
        >>> ops.cholesky_inverse([[2.0, 0.0], [0.0, 1.0]]).numpy()  # the inverse of [[4, 0], [0, 1]]
        array([[0.25, 0.  ],
               [0.  , 1.  ]], dtype=float32)
    """
    x = _matrix("cholesky_inverse", x)
    unit = broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)
    factor = _triangular_solution("cholesky_inverse", x, unit, lower=not upper)
    return matmul(factor, _turned(factor)) if upper else matmul(_turned(factor), factor)


@op
def eigh(x) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix.

    Args:
        x: Floats (..., n, n); integers become floatx. They are made symmetric first.

    Returns:
        The eigenvalues (..., n), in ascending order, and the eigenvectors (..., n, n), one in each column.

    Raises:
        ValueError: if the matrices are not square, or one of them has NaN or infinity.

    Example:
        >>> values, vectors = ops.eigh([[2.0, 1.0], [1.0, 2.0]])
        >>> values.numpy().round(3)
        array([1., 3.], dtype=float32)
    """

    def slopes(values, vectors, dvalues, dvectors):
        turned = _turned(vectors)
        inner = matmul(multiply(vectors, 0.0 if dvalues is None else _columns(dvalues)), turned)
        if dvectors is not None:
            apart = divide_no_nan(1, subtract(_columns(values), expand_dims(values, -1)))
            inner = add(inner, matmul(vectors, matmul(multiply(apart, matmul(turned, dvectors)), turned)))
        return inner

    return _applied(kernels.eigh, slopes, [_symmetric(_matrix("eigh", x))])


@op
def qr(x, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """The QR decomposition: Q with orthonormal columns, and an upper triangle R, with Q R = x.

    Args:
        x: Floats (..., m, n); integers become floatx.
        mode: 'reduced': Q has k = min(m, n) columns; 'complete': it has k = m, and a gradient only if m <=
            n.

    Returns:
        Two float tensors: Q (..., m, k), and R (..., k, n).

    Raises:
        ValueError: for an unknown mode, or fewer than two axes.

    Example:
        >>> q, r = ops.qr([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]])
        >>> q.shape, r.shape
        ((3, 2), (2, 2))
        >>> ops.matmul(q, r).numpy().round(3)
        array([[3., 1.],
               [4., 2.],
               [0., 2.]], dtype=float32)
    """
    one_of("qr", "mode", mode, ("reduced", "complete"))
    return _applied(kernels.qr, _qr_slopes, [_matrix("qr", x, square=False)], mode=mode)


def _qr_slopes(x, q, r, dq, dr):
    if q.shape[-1] > r.shape[-1]:
        raise ValueError(f"qr: no gradient of mode 'complete' for a matrix with more rows than columns, {x.shape}")
    dq = multiply(q, 0) if dq is None else dq
    dr = multiply(r, 0) if dr is None else dr
    m = q.shape[-2]
    if r.shape[-1] > m:  # the columns of x after the first m are Q times the same columns of R
        later, ahead = (..., slice(m, None)), (..., slice(None, m))
        dlater = getitem(dr, later)
        dq = add(dq, matmul(getitem(x, later), _turned(dlater)))
        first = _qr_slopes(x, q, getitem(r, ahead), dq, getitem(dr, ahead))
        return concatenate([first, matmul(q, dlater)], -1)
    inner = subtract(matmul(r, _turned(dr)), matmul(_turned(dq), q))
    inner = add(tril(inner), _turned(tril(inner, -1)))
    return _turned(_solution("gradient of qr", r, _turned(add(dq, matmul(q, inner)))))


@overload
def svd(x, full_matrices: bool = ..., compute_uv: Literal[True] = ...) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def svd(x, full_matrices: bool = ..., *, compute_uv: Literal[False]) -> Tensor: ...
@overload
def svd(x, full_matrices: bool = ..., compute_uv: bool = ...) -> Any: ...
@op
def svd(x, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """The singular value decomposition: U s V^T = x, with orthogonal U and V.

    Args:
        x: Floats (..., m, n); integers become floatx.
        full_matrices: Whether U and V^T are square. Otherwise they have k = min(m, n) columns and rows; only then do
            U and V^T of a matrix that is not square have a gradient.
        compute_uv: Whether to return U and V^T too.

    Returns:
        (U, s, V^T): float tensors (..., m, m), (..., k) in descending order, and (..., n, n); (..., m, k) and
        (..., k, n) without full_matrices. Only s without compute_uv.

    Raises:
        ValueError: for fewer than two axes, and a matrix with NaN or infinity.

    Example:
        >>> ops.svd([[3.0, 0.0], [0.0, -4.0]], compute_uv=False).numpy()
        array([4., 3.], dtype=float32)
        >>> [part.shape for part in ops.svd(np.ones((5, 2)), full_matrices=False)]
        [(5, 2), (2,), (2, 2)]
    """
    x = _matrix("svd", x, square=False)
    u, s, v = _applied(kernels.svd, _svd_slopes, [x], full_matrices=full_matrices and compute_uv)
    return (u, s, v) if compute_uv else s


def _singular_values(op: str, x: Tensor) -> Tensor:
    return _applied(kernels.svd, _svd_slopes, [x], full_matrices=False, needed_by=op)[1]


def _svd_slopes(u, s, v, du, ds, dv):
    if (
        (du is not None or dv is not None)
        and u.shape[-2] != v.shape[-1]
        and u.shape[-1] * v.shape[-2] != s.shape[-1] ** 2
    ):
        raise ValueError(
            "svd: no gradient of the rotations of a matrix that is not square with full_matrices=True, nor a second one of the "
            "singular values: use full_matrices=False"
        )
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
    """The LU decomposition with exchanged rows, in the form of `scipy.linalg.lu_factor`.

    Args:
        x: Floats (..., m, n); integers become floatx.

    Returns:
        A float tensor of x's shape with U on and above the diagonal and L below it (L's diagonal is 1), and
        an int32 tensor (..., min(m, n)): the row that each row was exchanged with. There is no gradient.

    Raises:
        ValueError: for fewer than two axes.

    Example:
        >>> lu, pivots = ops.lu_factor([[1.0, 2.0], [2.0, 8.0]])
        >>> lu.numpy(), pivots.numpy()
        (array([[ 2. ,  8. ],
               [ 0.5, -2. ]], dtype=float32), array([1, 1], dtype=int32))
    """
    return apply(kernels.lu, None, [_matrix("lu_factor", x, square=False)])


@op
def matrix_rank(x, tol: float | None = None) -> Tensor:
    """The rank of a matrix: the number of its singular values above a tolerance.

    Args:
        x: Floats (..., m, n); integers become floatx.
        tol: The tolerance, a number. None for max(m, n) times the dtype's precision times the largest
            singular value.

    Returns:
        An int32 tensor (...).

    Raises:
        ValueError: for fewer than two axes, and a matrix with NaN or infinity.

    Example:
        >>> ops.matrix_rank([[1.0, 2.0], [2.0, 4.0]]).numpy()
        array(1, dtype=int32)
    """
    x = _matrix("matrix_rank", x, square=False)
    s = _singular_values("matrix_rank", x)
    minimum = multiply(reduce.max(s, -1, keepdims=True), max(x.shape[-2:]) * float(np.finfo(x.dtype).eps))
    return reduce.count_nonzero(elementwise.greater(s, minimum if tol is None else as_tensor(tol, x.dtype)), -1)


# -------------------- norms --------------------


@op
def norm(x, ord: Any = None, axis=None, keepdims: bool = False) -> Tensor:
    """The norm of vectors along one axis, or of matrices along two axes.

    Args:
        x: Numbers of any shape; integers become floatx.
        ord: For vectors: None or 2 (the length), 1, inf, -inf, 0 (the number of elements that are not 0), or
            a number p for sum(|x|^p)^(1/p). For matrices: None or 'fro' (the length of all elements), 'nuc'
            (the sum of the singular values), 2 and -2 (the largest and the smallest singular value), 1 and
            -1 (the largest and the smallest sum of a column's absolute values), inf and -inf (of a row's).
        axis: An axis of vectors, or a pair of axes (rows, columns) of matrices. None for all axes, as
            one vector or matrix; if ord is None too, as one vector of all elements.
        keepdims: Whether the axes stay, with size 1.

    Returns:
        A tensor of x's float dtype, without the axes.

    Raises:
        ValueError: if ord is not defined over that number of axes.

    Example:
        >>> ops.norm([[3.0, 4.0], [6.0, 8.0]], axis=-1).numpy()
        array([ 5., 10.], dtype=float32)
        >>> ops.norm([[3.0, 4.0], [6.0, 8.0]], ord=1, axis=(0, 1)).numpy()
        array(12., dtype=float32)
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
    raise ValueError(f"norm: ord {briefly(ord)} is not defined over {len(axes)} axes (axis={axis} of shape {x.shape})")


def _vector_norm(x: Tensor, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    sizes = elementwise.absolute(x)
    if ord in (math.inf, -math.inf):
        return (_largest if ord > 0 else reduce.min)(sizes, axes, keepdims)
    if ord == 0:
        return reduce.sum(as_tensor(elementwise.not_equal(x, 0), x.dtype), axes, keepdims)
    if ord == 1:
        return reduce.sum(sizes, axes, keepdims)
    return elementwise.power(reduce.sum(elementwise.power(sizes, ord), axes, keepdims), 1 / ord)


def _matrix_norm(x: Tensor, ord: Any) -> Tensor:
    if ord in ("nuc", 2, -2):
        s = _singular_values("norm", x)
        return reduce.sum(s, -1) if ord == "nuc" else (_largest if ord > 0 else reduce.min)(s, -1)
    sums = reduce.sum(elementwise.absolute(x), -2 if abs(ord) == 1 else -1)
    return (_largest if ord > 0 else reduce.min)(sums, -1)


def _largest(sizes: Tensor, axes: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
    """The maximum, or 0 of no sizes."""
    return reduce.max(sizes, axes, keepdims, initial=None if sizes.size else 0)


_lazy_names.attach(globals())
