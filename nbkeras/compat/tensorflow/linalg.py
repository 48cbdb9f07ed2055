"""`tf.linalg`: nbkeras's linear algebra with TensorFlow's names and orders of results."""

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.compat.tensorflow.arrays import matmul
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine.tensor import Tensor

cholesky = spelled(ops.cholesky, "input:x")
cross = spelled(ops.cross, "a:x1 b:x2")
det = spelled(ops.det, "input:x")
eigh = spelled(ops.eigh, "tensor:x")
logdet = spelled(ops.logdet, "matrix:x")
lstsq = spelled(ops.lstsq, "matrix:a rhs:b l2_regularizer: fast:")
matrix_rank = spelled(ops.matrix_rank, "a:x tol validate_args:")
pinv = spelled(ops.pinv, "a:x rcond validate_args:")
slogdet = spelled(ops.slogdet, "input:x")


def adjoint(matrix: Any, name: Any = None) -> Tensor:
    """The last two axes exchanged."""
    return ops.swapaxes(matrix, -1, -2)


def band_part(input: Any, num_lower: int, num_upper: int, name: Any = None) -> Tensor:
    """Matrices with zeros except for num_lower diagonals below the main one and num_upper above; -1: all of them."""
    rows, columns = ops.shape(input)[-2:]
    distance = np.arange(columns) - np.arange(rows)[:, None]
    inside = ((num_lower < 0) | (-distance <= num_lower)) & ((num_upper < 0) | (distance <= num_upper))
    return ops.where(inside, input, ops.zeros_like(input))


def diag(diagonal: Any, name: Any = None) -> Tensor:
    """Matrices with these vectors as main diagonals."""
    return ops.multiply(ops.expand_dims(diagonal, -1), ops.eye(ops.shape(diagonal)[-1]))


def diag_part(input: Any, name: Any = None) -> Tensor:
    """The main diagonals of matrices."""
    return ops.diagonal(input, axis1=-2, axis2=-1)


def eigvalsh(tensor: Any, name: Any = None) -> Tensor:
    """The eigenvalues of symmetric matrices."""
    return ops.eigh(tensor)[0]


def inv(input: Any, adjoint: bool = False, name: Any = None) -> Tensor:
    """The inverses of matrices."""
    return ops.inv(ops.swapaxes(input, -1, -2) if adjoint else input)


def matvec(a: Any, b: Any, transpose_a: bool = False, name: Any = None) -> Tensor:
    """The products of matrices and vectors."""
    return ops.squeeze(matmul(a, ops.expand_dims(b, -1), transpose_a), -1)


def qr(input: Any, full_matrices: bool = False, name: Any = None) -> tuple[Tensor, Tensor]:
    """Matrices as products of an orthogonal and an upper triangular one."""
    return ops.qr(input, "complete" if full_matrices else "reduced")


def set_diag(input: Any, diagonal: Any, name: Any = None) -> Tensor:
    """Matrices with other main diagonals."""
    rows, columns = ops.shape(input)[-2:]
    long = ops.pad(diagonal, [(0, 0)] * (len(ops.shape(diagonal)) - 1) + [(0, columns - min(rows, columns))])
    return ops.where(ops.eye(rows, columns, dtype="bool"), ops.expand_dims(long, -2), input)


def solve(matrix: Any, rhs: Any, adjoint: bool = False, name: Any = None) -> Tensor:
    """x such that matrix @ x = rhs."""
    return ops.solve(ops.swapaxes(matrix, -1, -2) if adjoint else matrix, rhs)


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: Any = None) -> Any:
    """(s, u, v): singular values first, and v not transposed, as TensorFlow has them."""
    if not compute_uv:
        return ops.svd(tensor, full_matrices, False)
    u, s, vt = ops.svd(tensor, full_matrices)
    return s, u, ops.swapaxes(vt, -1, -2)


def trace(x: Any, name: Any = None) -> Tensor:
    """The sums of main diagonals."""
    return ops.trace(x, axis1=-2, axis2=-1)


def triangular_solve(matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: Any = None) -> Tensor:
    """x such that matrix @ x = rhs, where matrix is triangular."""
    if adjoint:
        matrix, lower = ops.swapaxes(matrix, -1, -2), not lower
    return ops.solve_triangular(matrix, rhs, lower)


matrix_transpose = adjoint
