"""Decompositions and inverses of matrices by NumPy's LAPACK, for the last two axes of an array. They run on the CPU.

Each function returns the result and the arrays that its gradient needs; nbkeras/ops/linalg.py computes the gradient with ops. A
matrix that cannot be inverted or decomposed raises NumPy's LinAlgError, a ValueError, whose message names the public op (the
argument `needed_by`): see `computed`.
"""

import functools
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
FUNCTIONS = ("cholesky", "det", "eigh", "inv", "pinv", "qr", "slogdet", "solve", "svd")  # of numpy.linalg


_ITERATIVE = ("eig", "eigh", "pinv", "svd")  # LAPACK's iterations, which may never end for an infinite number
_REASONS = {
    "singular": "is singular, so it has no inverse. Add a small number to its diagonal, or use ops.pinv or ops.lstsq, which take "
    "singular matrices",
    "cholesky": "is not positive definite. If rounding is the cause, add a small number to its diagonal",
    "iterative": "cannot be decomposed: LAPACK's iteration did not converge. Divide it by its largest absolute value",
    "not finite": "has NaN or infinity and cannot be decomposed. nbkeras.debug.check_numerics finds the op that made them",
}


def computed(name: str, *arrays: Array, needed_by: str, **constants: Any) -> Any:
    """Returns the results of a numpy.linalg function. All errors that only the numbers cause are raised here.

    Args:
        name: Of the function.
        arrays: The function's arrays; the first one holds the matrices.
        needed_by: The public op or gradient that needs it, for messages.
        constants: The function's other arguments.

    Raises:
        LinAlgError: for a matrix that has no result. The message names the op, the matrix in the batch, and the reason.
    """
    x, function = arrays[0], getattr(np.linalg, name)
    if name not in _ITERATIVE or np.isfinite(x).all():
        try:
            return function(*arrays, **constants)
        except np.linalg.LinAlgError:
            pass
    at = next((at for at in np.ndindex(x.shape[:-2]) if _fails(name, x[at])), ())
    which = f"matrix {list(at)} of the batch {x.shape[:-2]}" if at else "the matrix"
    kind = "iterative" if name in _ITERATIVE else name if name == "cholesky" else "singular"
    reason = _REASONS[kind if np.isfinite(x[at]).all() else "not finite"]
    raise np.linalg.LinAlgError(f"{needed_by}: {which} (shape {x.shape[-2:]}, {x.dtype}) {reason}")


def _fails(name: str, matrix: Array) -> bool:
    if name in _ITERATIVE and not np.isfinite(matrix).all():
        return True
    try:
        getattr(np.linalg, "inv" if name == "solve" else name)(matrix)
    except np.linalg.LinAlgError:
        return True
    return False


class LinalgKernel:
    """A kernel that applies a function of numpy.linalg to the first arrays and writes the results into the others.

    It is a class, because files describe it by its attributes.
    """

    on_host = True  # see device.host

    def __init__(self, name: str, inputs: int, constants: dict[str, Any]):
        self.__name__, self.inputs, self.constants = name, inputs, constants

    def __call__(self, *arrays: Array) -> None:
        results = computed(self.__name__, *arrays[: self.inputs], **{"needed_by": self.__name__, **self.constants})
        outputs = arrays[self.inputs :]
        for result, out in zip(results if isinstance(results, tuple) else (results,), outputs, strict=True):
            out[...] = result


@functools.cache
def kernel(name: str, inputs: int, **constants: Any) -> LinalgKernel:
    """Returns the kernel of a function in FUNCTIONS, the same object each time."""
    return LinalgKernel(name, inputs, constants)


def _results_of(name: str, inputs: tuple[Array, ...], *shapes: tuple[int, ...], **constants: Any) -> tuple[Array, ...]:
    """Returns the results of a numpy.linalg function. shapes: of the results, whose dtype is that of the first input."""
    outputs = tuple(device.empty(shape, inputs[0].dtype) for shape in shapes)
    device.launch(kernel(name, len(inputs), **constants), *inputs, *outputs)
    return outputs


def inv(x: Array, needed_by: str = "inv"):
    (y,) = _results_of("inv", (x,), x.shape, needed_by=needed_by)
    return y, (y,)


def det(x: Array):
    (y,) = _results_of("det", (x,), x.shape[:-2])
    return y, (x,)


def slogdet(x: Array):
    return _results_of("slogdet", (x,), x.shape[:-2], x.shape[:-2]), (x,)


def solve(a: Array, b: Array, needed_by: str = "solve"):
    """Solves a x = b for b (..., n, k)."""
    (x,) = _results_of(
        "solve", (a, b), (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), needed_by=needed_by
    )
    return x, (a, x)


def cholesky(x: Array):
    (y,) = _results_of("cholesky", (x,), x.shape)
    return y, (y,)


def eigh(x: Array):
    values, vectors = _results_of("eigh", (x,), x.shape[:-1], x.shape)
    return (values, vectors), (values, vectors)


def qr(x: Array, mode: str):
    *batch, m, n = x.shape
    k = m if mode == "complete" else min(m, n)
    q, r = _results_of("qr", (x,), (*batch, m, k), (*batch, k, n), mode=mode)
    return (q, r), (x, q, r)


def svd(x: Array, full_matrices: bool, needed_by: str = "svd"):
    *batch, m, n = x.shape
    k = min(m, n)
    shapes = (*batch, m, m if full_matrices else k), (*batch, k), (*batch, n if full_matrices else k, n)
    u, s, v = _results_of("svd", (x,), *shapes, full_matrices=full_matrices, needed_by=needed_by)
    return (u, s, v), (u, s, v)


def pinv(x: Array, rcond: float, needed_by: str = "pinv"):
    *batch, m, n = x.shape
    (y,) = _results_of("pinv", (x,), (*batch, n, m), rcond=rcond, needed_by=needed_by)
    return y, (x, y)


def rotations(x: Array):
    """Returns u, s, v with x = u diag(s) v, where det(u) = det(v) = 1; NaN for a matrix that is not finite."""
    outputs = tuple(device.empty(shape, x.dtype) for shape in (x.shape, x.shape[:-1], x.shape))
    device.launch(diagonalize, x, *outputs)
    return outputs, None


@device.host
def diagonalize(x: Array, *outputs: Array) -> None:
    """Kernel: see `rotations`. The singular value decomposition, whose last singular value gets the sign of the determinant."""
    finite = np.isfinite(x).all((-2, -1))
    u, s, v = computed("svd", np.where(finite[..., None, None], x, 0), needed_by="gradient of det")
    for turns, last in ((u, u[..., -1:]), (v, v[..., -1:, :])):
        sign = np.linalg.slogdet(turns)[0][..., None]
        last *= sign[..., None]
        s[..., -1:] *= sign
    for result, out in zip((u, s, v), outputs, strict=True):
        out[...] = np.where(finite.reshape(*finite.shape, *[1] * (out.ndim - finite.ndim)), result, np.nan)


def lu(x: Array):
    """Returns the lower and upper factors in one matrix, and the row exchanges, int32."""
    factors = device.empty(x.shape, x.dtype)
    pivots = device.empty((*x.shape[:-2], min(x.shape[-2:])), np.int32)
    device.launch(factor, x, factors, pivots)
    return (factors, pivots), None


@device.host
def factor(x: Array, factors: Array, pivots: Array) -> None:
    """Kernel: see `lu`."""
    factors[...] = x
    for at in np.ndindex(x.shape[:-2]):
        _factor(factors[at], pivots[at])


@compiled
def _factor(a, pivots):
    """Factors a matrix in place. The pivot is the largest element of each column."""
    rows, columns = a.shape
    for k in range(pivots.size):
        best = k
        for i in range(k + 1, rows):
            if abs(a[i, k]) > abs(a[best, k]):
                best = i
        pivots[k] = best
        if best != k:
            for j in range(columns):
                a[k, j], a[best, j] = a[best, j], a[k, j]
        if a[k, k] != 0:
            for i in range(k + 1, rows):
                a[i, k] /= a[k, k]
                for j in range(k + 1, columns):
                    a[i, j] -= a[i, k] * a[k, j]
