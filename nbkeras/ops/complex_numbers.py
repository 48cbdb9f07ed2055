"""Complex numbers: NumPy arrays of them at the edges of a program, because tensors are real. No gradient goes through them.

Functions that give complex numbers return NumPy arrays, and read their arguments: a step that calls them is not recorded.
"""

from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor, as_float, as_tensor, op
from nbkeras.kernels import linalg as linalg_kernels
from nbkeras.ops.creation import full_like, zeros_like
from nbkeras.ops.elementwise import isnan, where
from nbkeras.ops.functions import signbit
from nbkeras.ops.shape import stack


def _is_complex(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic | complex) and np.iscomplexobj(x)


def _joined(real: Any, imaginary: Any) -> np.ndarray:
    return (real + 1j * imaginary).astype("complex64" if real.dtype == np.float32 else "complex128")


@op
def real(x) -> Tensor:
    """The real part: x unchanged, if it is real.

    Args:
        x: Numbers of any shape, or an array of complex numbers.

    Example:
        >>> ops.real(np.array([1 + 2j, 3])).numpy()
        array([1., 3.])
    """
    return as_tensor(np.array(np.real(x)) if _is_complex(x) else x)


@op
def imag(x) -> Tensor:
    """The imaginary part: zeros, if x is real.

    Args:
        x: Numbers of any shape, or an array of complex numbers; the dtype of its parts stays.

    Example:
        >>> ops.imag(np.array([1 + 2j, 3])).numpy()
        array([2., 0.])
    """
    return as_tensor(np.array(np.imag(x))) if _is_complex(x) else zeros_like(x)


@op
def conjugate(x) -> Any:
    """The complex conjugate: x unchanged, if it is real.

    Args:
        x: Numbers of any shape, or an array of complex numbers.

    Returns:
        A tensor of real numbers, or a NumPy array of complex ones.

    Example:
        >>> ops.conjugate(np.array([1 + 2j, 3]))
        array([1.-2.j, 3.-0.j])
    """
    return np.conjugate(x) if _is_complex(x) else as_tensor(x)


conj = conjugate


@op
def angle(x) -> Tensor:
    """The angle of a number in the complex plane: of a real x, 0 where it is positive, pi where it is negative; no gradient.

    Args:
        x: Numbers of any shape, or an array of complex numbers; integers become floatx.

    Example:
        >>> ops.angle(np.array([2.0, -3.0, 1j])).numpy().round(4)
        array([0.    , 3.1416, 1.5708])
    """
    if _is_complex(x):
        return as_tensor(np.angle(x))
    x = as_float(x)
    return where(isnan(x), x, where(signbit(x), as_tensor(np.pi, x.dtype), x.dtype.type(0)))


@op
def isreal(x) -> Tensor:
    """Whether the imaginary part is 0: true everywhere, if x is real.

    Args:
        x: Numbers of any shape, or an array of complex numbers.

    Example:
        >>> ops.isreal(np.array([1 + 2j, 3])).numpy()
        array([False,  True])
    """
    return as_tensor(np.isreal(x)) if _is_complex(x) else full_like(x, True, np.bool_)


def polar(abs_, angle) -> np.ndarray:
    """The complex numbers with these absolute values and angles.

    Args:
        abs_: Absolute values of any shape.
        angle: Angles; the two shapes broadcast.

    Returns:
        A NumPy array: complex64, or complex128 for float64.

    Example:
        >>> ops.polar([2.0, 1.0], [0.0, 0.0])
        array([2.+0.j, 1.+0.j], dtype=complex64)
    """
    size, turned = as_float(abs_).numpy(), as_float(angle).numpy()
    return _joined(size * np.cos(turned), size * np.sin(turned))


def view_as_complex(x) -> np.ndarray:
    """The complex numbers whose real and imaginary parts are the two elements of the last axis.

    Args:
        x: Numbers of shape (..., 2).

    Returns:
        A NumPy array of shape (...): complex64, or complex128 for float64.

    Raises:
        ValueError: if the last axis is not 2 long.

    Example:
        >>> ops.view_as_complex([[1.0, 2.0], [3.0, 0.0]])
        array([1.+2.j, 3.+0.j], dtype=complex64)
    """
    parts = as_float(x).numpy()
    if not parts.ndim or parts.shape[-1] != 2:
        raise ValueError(
            f"view_as_complex: the last axis must hold a real and an imaginary part, received shape {parts.shape}"
        )
    return _joined(parts[..., 0], parts[..., 1])


@op
def view_as_real(x) -> Tensor:
    """The real and imaginary parts of complex numbers in a new last axis.

    Args:
        x: An array of complex numbers, or real numbers.

    Returns:
        A tensor of shape (..., 2).

    Example:
        >>> ops.view_as_real(np.array([1 + 2j, 3])).numpy()
        array([[1., 2.],
               [3., 0.]])
    """
    return stack([real(x), imag(x)], -1)


def eig(x) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues and eigenvectors of square matrices, which may be complex.

    Args:
        x: Matrices in the last two axes.

    Returns:
        NumPy arrays of complex numbers: (eigenvalues, the eigenvectors as columns).

    Raises:
        ValueError: if the last two axes have different sizes, or a matrix has NaN or infinity.

    Example:
        >>> values, vectors = ops.eig([[0.0, -1.0], [1.0, 0.0]])
        >>> values
        array([0.+1.j, 0.-1.j], dtype=complex64)
    """
    matrices = as_float(x).numpy()
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"eig: the last two axes must be those of square matrices, received shape {matrices.shape}")
    kind = "complex64" if matrices.dtype == np.float32 else "complex128"
    values, vectors = linalg_kernels.computed("eig", matrices, needed_by="eig")
    return values.astype(kind), vectors.astype(kind)
