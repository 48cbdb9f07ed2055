"""Products, differences and distances of vectors and matrices, composed of other ops."""

from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import as_float, axis_of, floats, promote
from nbkeras.ops.dense import matmul, tensordot
from nbkeras.ops.functions import log10
from nbkeras.ops.indexing import getitem, pad, take
from nbkeras.ops.shape import expand_dims, flip, moveaxis, reshape, stack


@op
def inner(x1, x2) -> Tensor:
    """Sums of products along the last axes: (..., k) and (..., k) give x1's other axes, then x2's. A scalar multiplies."""
    x1, x2 = promote(x1, x2)
    if x1.ndim == 0 or x2.ndim == 0:
        return elementwise.multiply(x1, x2)
    return tensordot(x1, x2, axes=([-1], [-1]))


@op
def outer(x1, x2) -> Tensor:
    """The product of each element of x1 (rows) with each of x2 (columns), both flat."""
    return elementwise.multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


@op
def vdot(x1, x2) -> Tensor:
    """The sum of products of all elements."""
    x1, x2 = promote(x1, x2)
    if x1.size != x2.size:
        raise ValueError(f"vdot: expected as many elements in both, received shapes {x1.shape} and {x2.shape}")
    return reduce.sum(elementwise.multiply(reshape(x1, (-1,)), reshape(x2, (-1,))))


@op
def kron(x1, x2) -> Tensor:
    """The Kronecker product: each element of x1 times all of x2, arranged as blocks."""
    x1, x2 = promote(x1, x2)
    ndim = max(x1.ndim, x2.ndim)
    a, b = ((1,) * (ndim - x.ndim) + x.shape for x in (x1, x2))
    expanded_a, expanded_b = ([n for size in a for n in (size, 1)], [n for size in b for n in (1, size)])
    y = elementwise.multiply(reshape(x1, expanded_a), reshape(x2, expanded_b))
    return reshape(y, [m * n for m, n in zip(a, b, strict=True)])


@op
def cross(x1, x2, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """Cross products of vectors of 3 numbers, or of 2 with 0 as the third; of two vectors of 2 only the third number.

    axis: the axis of the vectors in both and in the result; otherwise axisa, axisb and axisc. The other axes broadcast.
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
    """Cross-correlation of two vectors: the sums of products for each shift of one along the other.

    mode: 'full' for all shifts with an overlap, 'same' for a result as long as the longer vector, 'valid' for the shifts
    where the shorter vector lies inside the longer one.
    """
    a, b = floats(x1, x2)
    if a.ndim != 1 or b.ndim != 1 or not a.size or not b.size or mode not in ("valid", "same", "full"):
        raise ValueError(
            f"correlate: expected two vectors and mode valid, same or full, received {a.shape}, {b.shape}, {mode!r}"
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
    """Differences of neighbours along an axis, taken n times; for booleans whether the neighbours differ."""
    x = as_tensor(a)
    along = axis_of("diff", axis, x.ndim)
    if n < 0:
        raise ValueError(f"diff: n must not be negative, received {n}")
    before = (slice(None),) * along
    between = elementwise.not_equal if x.dtype.kind == "b" else elementwise.subtract
    rounds = min(n, x.shape[along])  # after as many rounds as elements nothing is left
    load_budget.step(rounds)
    for _ in range(rounds):
        x = between(getitem(x, (*before, slice(1, None))), getitem(x, (*before, slice(None, -1))))
    return x


@op
def trapezoid(y, x=None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, at the positions x, or at positions dx apart without x."""
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
    """Euclidean distances between vectors: (..., m, d) and (..., n, d) -> (..., m, n)."""
    x, y = floats(x, y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"cdist: expected (..., m, d) and (..., n, d), received shapes {x.shape} and {y.shape}")
    apart = elementwise.subtract(expand_dims(x, -2), expand_dims(y, -3))
    return elementwise.sqrt(reduce.sum(elementwise.square(apart), -1))


@op
def psnr(x1, x2, max_val) -> Tensor:
    """Peak signal-to-noise ratio in decibels, 10 log10(max_val^2 / mean squared difference), over all elements."""
    x1, x2 = floats(x1, x2)
    if x1.shape != x2.shape:
        raise ValueError(f"psnr: expected two tensors of one shape, received {x1.shape} and {x2.shape}")
    error = reduce.mean(elementwise.square(elementwise.subtract(x1, x2)))
    peak = elementwise.square(as_tensor(max_val, x1.dtype))
    return elementwise.multiply(log10(elementwise.divide(peak, error)), 10)
