"""Products, differences and distances of vectors and matrices, composed of other ops."""

from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, floats, op, promote
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import axis_of
from nbkeras.ops.contractions import matmul, tensordot
from nbkeras.ops.functions import log10
from nbkeras.ops.indexing import getitem, pad, take
from nbkeras.ops.shape import expand_dims, flip, moveaxis, reshape, stack


@op
def inner(x1, x2) -> Tensor:
    """Sums of products along the last axes of two tensors.

    Args:
        x1: A tensor of shape (..., k), or a scalar.
        x2: A tensor of shape (..., k), or a scalar.

    Returns:
        A tensor of the common dtype, with x1's axes except the last, then x2's. If one of them is a scalar, the product.

    Raises:
        ValueError: for last axes of different sizes.

    Example:
        >>> int(ops.inner([1, 2, 3], [4, 5, 6]))
        32
        >>> ops.inner([[1, 2], [3, 4]], [10, 1]).numpy()
        array([12, 34], dtype=int32)
    """
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return elementwise.multiply(x1, x2)
    return tensordot(x1, x2, axes=([-1], [-1]))


@op
def outer(x1, x2) -> Tensor:
    """The product of each element of x1 with each element of x2.

    Args:
        x1: A tensor of any shape, which is flattened: the rows.
        x2: A tensor of any shape, which is flattened: the columns.

    Returns:
        A tensor of shape (x1.size, x2.size) and the common dtype.

    Example:
        >>> ops.outer([1, 2], [3, 4, 5]).numpy()
        array([[ 3,  4,  5],
               [ 6,  8, 10]], dtype=int32)
    """
    return elementwise.multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


@op
def vdot(x1, x2) -> Tensor:
    """The sum of the products of all elements; both tensors are flattened.

    Args:
        x1: A tensor of any shape.
        x2: A tensor with the same number of elements.

    Returns:
        A tensor of shape () and the common dtype.

    Raises:
        ValueError: for different numbers of elements.

    Example:
        >>> int(ops.vdot([[1, 2], [3, 4]], [[1, 1], [10, 10]]))
        73
    """
    x1, x2 = promote(x1, x2)
    if x1.size != x2.size:
        raise ValueError(
            f"vdot: expected the same number of elements in both, received shapes {x1.shape} and {x2.shape}"
        )
    return reduce.sum(elementwise.multiply(reshape(x1, (-1,)), reshape(x2, (-1,))))


@op
def kron(x1, x2) -> Tensor:
    """The Kronecker product: each block is an element of x1 times all of x2.

    Args:
        x1: A tensor of any shape.
        x2: A tensor of any shape. The one with fewer axes gets axes of size 1 in front.

    Returns:
        A tensor of the common dtype, whose sizes are the products of the sizes of both.

    Example:
        >>> ops.kron([[1, 2]], [[1, 1], [0, 1]]).numpy()
        array([[1, 1, 2, 2],
               [0, 1, 0, 2]], dtype=int32)
    """
    x1, x2 = promote(x1, x2)
    ndim = max(x1.ndim, x2.ndim)
    a, b = ((1,) * (ndim - x.ndim) + x.shape for x in (x1, x2))
    expanded_a, expanded_b = ([n for size in a for n in (size, 1)], [n for size in b for n in (1, size)])
    y = elementwise.multiply(reshape(x1, expanded_a), reshape(x2, expanded_b))
    return reshape(y, [m * n for m, n in zip(a, b, strict=True)])


@op
def cross(x1, x2, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """Cross products of vectors of 3 numbers, or of 2 numbers, whose third number is 0.

    Args:
        x1: A tensor of vectors. Its other axes broadcast with x2's.
        x2: A tensor of vectors.
        axisa: The axis of x1 along which a vector lies.
        axisb: The axis of x2 along which a vector lies.
        axisc: The axis of the result along which a vector lies.
        axis: One axis for all three, instead of axisa, axisb and axisc.

    Returns:
        A tensor of the common dtype. Two vectors of 2 numbers give only the third number of the product, without the
        axis of the vectors.

    Raises:
        ValueError: for vectors of another length, or shapes that do not broadcast.

    Example:
        >>> ops.cross([1, 0, 0], [[0, 1, 0], [0, 0, 1]]).numpy()
        array([[ 0,  0,  1],
               [ 0, -1,  0]], dtype=int32)
        >>> int(ops.cross([1, 2], [3, 4]))
        -2
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = promote(x1, x2)
    a, b = moveaxis(x1, axisa, -1), moveaxis(x2, axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3} or broadcast_shape(a.shape[:-1], b.shape[:-1]) is None:
        raise ValueError(
            f"cross: expected vectors of 2 or 3 numbers that broadcast, received shapes {x1.shape} and {x2.shape}"
        )

    def turned(i: int, j: int) -> Tensor:
        (ai, aj), (bi, bj) = ((getitem(v, (..., i)), getitem(v, (..., j))) for v in (a, b))
        return elementwise.subtract(elementwise.multiply(ai, bj), elementwise.multiply(aj, bi))

    if a.shape[-1] == b.shape[-1] == 2:
        return turned(0, 1)
    a, b = (v if v.shape[-1] == 3 else pad(v, [(0, 0)] * (v.ndim - 1) + [(0, 1)]) for v in (a, b))
    y = stack([turned(1, 2), turned(2, 0), turned(0, 1)], -1)
    return moveaxis(y, -1, axis_of("cross", axisc, y.ndim))


@op
def correlate(x1, x2, mode: str = "valid") -> Tensor:
    """Cross-correlation of two vectors: sums of products for each shift of one along the other.

    c[k] = sum over n of x1[n + k] x2[n].

    Args:
        x1: A vector.
        x2: A vector.
        mode: 'full' for all shifts k with an overlap; 'same' for as many shifts as the longer vector has elements, from the
            middle; 'valid' for shifts that keep the shorter vector inside the longer one.

    Returns:
        A vector of the common float dtype.

    Raises:
        ValueError: for anything but two non-empty vectors, or an unknown mode.

    Example:
        >>> ops.correlate([1, 2, 3, 4], [1, 10]).numpy()
        array([21., 32., 43.], dtype=float32)
        >>> ops.correlate([1, 2, 3, 4], [1, 10], mode="full").numpy()
        array([10., 21., 32., 43.,  4.], dtype=float32)
    """
    a, b = floats(x1, x2)
    if a.ndim != 1 or b.ndim != 1 or not a.size or not b.size or mode not in ("valid", "same", "full"):
        raise ValueError(
            f"correlate: expected two vectors and mode valid, same or full, received {a.shape}, {b.shape}, {briefly(mode)}"
        )
    n, m = a.size, b.size
    if n < m:
        return flip(correlate(b, a, mode), 0)
    load_budget.take_briefly(8 * (n + m) * m, f"correlate of {n} numbers with {m}")
    places = np.arange(n + m - 1)[:, None] + np.arange(m)
    first, count = {"full": (0, n + m - 1), "same": (m - m // 2 - 1, n), "valid": (m - 1, n - m + 1)}[mode]
    return matmul(take(pad(a, (m - 1, m - 1)), places[first : first + count]), b)


@op
def diff(a, n: int = 1, axis: int = -1) -> Tensor:
    """Differences of neighbours along an axis: a[i + 1] - a[i]. For bool, whether the neighbours differ.

    Args:
        a: A tensor of any dtype.
        n: The number of times that differences are taken.
        axis: The axis of the neighbours.

    Returns:
        A tensor of a's dtype, whose size along the axis is smaller by n.

    Raises:
        ValueError: for a negative n, or an axis that the tensor does not have.

    Example:
        >>> ops.diff([1, 4, 9, 16]).numpy()
        array([3, 5, 7], dtype=int32)
        >>> ops.diff([1, 4, 9, 16], n=2).numpy()
        array([2, 2], dtype=int32)
    """
    x = as_tensor(a)
    along = axis_of("diff", axis, x.ndim)
    if n < 0:
        raise ValueError(f"diff: n must not be negative, received {briefly(n)}")
    before = (slice(None),) * along
    between = elementwise.not_equal if x.dtype.kind == "b" else elementwise.subtract
    rounds = min(n, x.shape[along])  # nothing is left after as many rounds as elements
    load_budget.step(rounds)
    for _ in range(rounds):
        x = between(getitem(x, (*before, slice(1, None))), getitem(x, (*before, slice(None, -1))))
    return x


@op
def trapezoid(y, x=None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule: the sum of (x[i + 1] - x[i]) (y[i] + y[i + 1]) / 2.

    Args:
        y: The values of the function.
        x: Their positions: a vector, or a tensor that broadcasts with y. None for positions that are dx apart.
        dx: The distance between neighbours if x is None.
        axis: The axis to integrate along.

    Returns:
        A tensor of y's dtype (floatx for integers), without the axis.

    Raises:
        ValueError: for an axis that y does not have.

    Example:
        >>> float(ops.trapezoid([1.0, 2.0, 3.0]))
        4.0
        >>> float(ops.trapezoid([1.0, 2.0, 3.0], x=[0.0, 1.0, 3.0]))
        6.5
    """
    y = as_float(y)
    along = axis_of("trapezoid", axis, y.ndim)
    line = moveaxis(y, along, -1)
    middle = elementwise.add(getitem(line, (..., slice(1, None))), getitem(line, (..., slice(None, -1))))
    width: Any = dx
    if x is not None:
        x = as_float(x)
        width = diff(x if x.ndim == 1 else moveaxis(x, along, -1))
    return elementwise.multiply(reduce.sum(elementwise.multiply(middle, width), -1), 0.5)


@op
def cdist(x, y) -> Tensor:
    """Euclidean distances between each vector of x and each vector of y: sqrt(sum((x[i] - y[j])^2)).

    Args:
        x: Vectors, of shape (..., m, d).
        y: Vectors, of shape (..., n, d). The leading axes broadcast.

    Returns:
        A tensor of shape (..., m, n) and the common float dtype.

    Raises:
        ValueError: for fewer than two axes, or vectors of different lengths.

    Example:
        >>> ops.cdist([[0.0, 0.0], [3.0, 0.0]], [[3.0, 4.0]]).numpy()
        array([[5.],
               [4.]], dtype=float32)
    """
    x, y = floats(x, y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: expected (..., m, d) and (..., n, d), received shapes {x.shape} and {y.shape}")
    apart = elementwise.subtract(expand_dims(x, -2), expand_dims(y, -3))
    return elementwise.sqrt(reduce.sum(elementwise.square(apart), -1))


@op
def psnr(x1, x2, max_val) -> Tensor:
    """Peak signal-to-noise ratio in decibels, over all elements: 10 log10(max_val^2 / mean((x1 - x2)^2)).

    Args:
        x1: A tensor, such as images.
        x2: A tensor of x1's shape to compare with.
        max_val: The largest possible value, such as 255 or 1.0.

    Returns:
        A tensor of shape () and the common float dtype; infinity for equal tensors.

    Raises:
        ValueError: for different shapes.

    Example:
        >>> round(float(ops.psnr([0.0, 0.5], [0.1, 0.6], max_val=1.0)), 3)
        20.0
    """
    x1, x2 = floats(x1, x2)
    if x1.shape != x2.shape:
        raise ValueError(f"psnr: expected two tensors of the same shape, received {x1.shape} and {x2.shape}")
    error = reduce.mean(elementwise.square(elementwise.subtract(x1, x2)))
    peak = elementwise.square(as_tensor(max_val, x1.dtype))
    return elementwise.multiply(log10(elementwise.divide(peak, error)), 10)
