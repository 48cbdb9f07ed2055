"""Differentiable products of matrices and tensors. Operands are converted to one dtype; products of integers are integers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op, promote
from nbkeras.kernels import dense as dense_kernels
from nbkeras.ops import activations, elementwise, reduce
from nbkeras.ops.arguments import axis_of, letters_of, pair_of
from nbkeras.ops.indexing import getitem
from nbkeras.ops.shape import moveaxis, reshape, transpose


def _product(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Matrix product over the last two axes, which may be swapped for either operand; leading axes broadcast.

    The caller checks the shapes.
    """
    operation, gradient = dense_kernels.matmul, dense_kernels.matmul_vjp
    if x.dtype.kind == "f":
        return apply(operation, gradient, (x, y), transpose_a=transpose_x, transpose_b=transpose_y)
    # computed in float64, exact up to 2^53; int8 is summed in int32, as in Keras
    operands = [as_tensor(operand, np.float64) for operand in (x, y)]
    sums = apply(operation, None, operands, transpose_a=transpose_x, transpose_b=transpose_y)
    return as_tensor(as_tensor(sums, np.int64), np.dtype(np.int32) if x.dtype == np.int8 else x.dtype)


@op
def dense(x, kernel, bias=None, activation: Callable | None = None) -> Tensor:
    """Matrix product, bias and activation in one op: activation(x @ kernel + bias).

    Bias and relu are computed in the same kernel as the product; any other activation is computed after it.

    Args:
        x: Floats (..., k) with at least two axes; integers become floatx.
        kernel: Weights (k, n), floats or quantized.
        bias: Numbers (n,), or None.
        activation: Function of tensors, or None.

    Returns:
        A float tensor (..., n). Differentiable in x, kernel and bias.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> ops.dense([[1.0, 2.0]], [[1.0, -1.0], [1.0, -1.0]], [0.5, 0.5], activation=ops.relu).numpy()
        array([[3.5, 0. ]], dtype=float32)
    """
    integers = kernel if getattr(kernel, "is_quantized", False) else None
    if integers is not None:
        x, bias = (None if each is None else as_tensor(as_float(each), integers.scale.dtype) for each in (x, bias))
    elif bias is None:
        (x, kernel), bias = floats(x, kernel), None
    else:
        x, kernel, bias = floats(x, kernel, bias)
    left, right = x.shape, kernel.shape if integers is None else getattr(integers, "full_shape", integers.shape)
    if len(left) < 2 or len(right) != 2 or left[-1] != right[0]:
        raise ValueError(
            "dense: x must have shape (..., k) with at least two axes and kernel (k, n), with the same k; received "
            f"{left} and {right}"
        )
    if bias is not None and bias.shape != right[1:]:
        raise ValueError(f"dense: bias must have shape {right[1:]}, received {bias.shape}")
    if right[0] == 0 and integers is None:  # the kernel has no sums to which it could add the bias
        y = matmul(x, kernel)
        y = y if bias is None else elementwise.add(y, bias)
        return y if activation is None else activation(y)
    rectify = activation is activations.relu
    if integers is not None:
        y = integers.dense(x, bias, rectify)
    else:
        y = apply(dense_kernels.dense, dense_kernels.dense_vjp, [x, kernel, bias], rectify=rectify)
    return y if rectify or activation is None or activation is activations.linear else activation(y)


@op
def matmul(x1, x2) -> Tensor:
    """Matrix product over the last two axes; leading axes broadcast.

    Args:
        x1: Numbers (..., m, k), or a vector (k,), which counts as a row.
        x2: Numbers (..., k, n), or a vector (k,), which counts as a column.

    Returns:
        A tensor (..., m, n) of both operands' common dtype (int32 for int8), without the axis of a vector.

    Raises:
        ValueError: if an operand has no axis, or the shapes do not match.

    Example:
        >>> ops.matmul([[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]).numpy()
        array([[2., 1.],
               [4., 3.]], dtype=float32)
    """
    x, y = promote(x1, x2)
    a, b = x.data.shape, y.data.shape
    if len(a) == 2 == len(b) and a[1] == b[0] and x.data.dtype.kind == "f":  # the usual case
        return apply(dense_kernels.matmul, dense_kernels.matmul_vjp, (x, y))
    if not a or not b:
        raise ValueError(f"matmul needs at least one axis on both sides, received shapes {a} and {b}")
    row, column = len(a) == 1, len(b) == 1
    if a[-1] != b[0 if column else -2]:
        raise ValueError(
            f"matmul: the last axis of x1 and the {'' if column else 'second to '}last of x2 must match, received shapes "
            f"{a} and {b}"
        )
    if len(a) > 2 < len(b):
        _check_batch("matmul", x, y, a[:-2], b[:-2])
    z = _product(reshape(x, (1, *a)) if row else x, reshape(y, (*b, 1)) if column else y)
    if not row and not column:
        return z
    rows = () if row else z.shape[-2:-1]
    return reshape(z, (*z.shape[:-2], *rows, *(() if column else z.shape[-1:])))


def _check_batch(name: str, x: Tensor, y: Tensor, *batches: tuple) -> None:
    for a, b in zip(*[batch[::-1] for batch in batches], strict=False):
        if a != b and 1 not in (a, b):
            raise ValueError(f"{name}: the leading axes of shapes {x.shape} and {y.shape} do not match")


@op
def dot(x1, x2) -> Tensor:
    """Sum of products over x1's last axis and x2's second to last axis (a vector's only axis).

    Args:
        x1: Numbers (..., k), or a scalar, which multiplies x2 elementwise.
        x2: Numbers (..., k, n) or (k,), or a scalar.

    Returns:
        A tensor with the other axes of x1, then those of x2. Unlike in `matmul`, leading axes do not
        broadcast.

    Raises:
        ValueError: if the two axes have different sizes.

    Example:
        >>> ops.dot([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]).numpy()
        array(32., dtype=float32)
        >>> ops.dot(np.ones((2, 3)), np.ones((4, 3, 5))).shape
        (2, 4, 5)
    """
    x, y = promote(x1, x2)
    if x.ndim == 0 or y.ndim == 0:
        return elementwise.multiply(x, y)
    return _contract("dot", x, y, (x.ndim - 1,), (max(0, y.ndim - 2),))


@op
def tensordot(x1, x2, axes: Any = 2) -> Tensor:
    """Sum of products over one or several axes of both operands.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of any shape.
        axes: A number n for the last n axes of x1 and the first n of x2; or a pair: the axis or axes of x1,
            and those of x2.

    Returns:
        A tensor with the other axes of x1, then those of x2.

    Raises:
        ValueError: if the axes do not fit the shapes, or have different sizes.

    Example:
        >>> ops.tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], axes=2).numpy()
        array(10., dtype=float32)
        >>> ops.tensordot(np.ones((2, 3, 4)), np.ones((3, 5)), axes=(1, 0)).shape
        (2, 4, 5)
    """
    x, y = promote(x1, x2)
    is_pair = isinstance(axes, list | tuple) and len(axes) == 2
    if not is_pair and not isinstance(axes, int | np.integer):
        raise TypeError(f"tensordot: axes must be an integer, or two lists of axes, received {briefly(axes)}")
    if not is_pair:
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ValueError(f"tensordot: axes {briefly(axes)} does not fit shapes {x.shape} and {y.shape}")
        pair = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    else:
        first, second = (a if isinstance(a, list | tuple) else [a] for a in axes)
        pair = tuple(tuple(axis_of("tensordot", a, t.ndim) for a in given) for given, t in ((first, x), (second, y)))  # type: ignore[assignment]
    return _contract("tensordot", x, y, *pair)


def _contract(name: str, x: Tensor, y: Tensor, x_axes: tuple[int, ...], y_axes: tuple[int, ...]) -> Tensor:
    """Move x's axes last and y's first, then compute one matrix product."""
    sizes = [x.shape[a] for a in x_axes]
    if len(x_axes) != len(y_axes) or sizes != [y.shape[a] for a in y_axes]:
        raise ValueError(
            f"{name} sums over axes {x_axes} and {y_axes}, whose sizes must match; received shapes {x.shape} and {y.shape}"
        )
    x_rest = [a for a in range(x.ndim) if a not in x_axes]
    y_rest = [a for a in range(y.ndim) if a not in y_axes]
    rows, k, columns = [x.shape[a] for a in x_rest], math.prod(sizes), [y.shape[a] for a in y_rest]
    left = reshape(transpose(x, (*x_rest, *x_axes)), (math.prod(rows), k))
    right = reshape(transpose(y, (*y_axes, *y_rest)), (k, math.prod(columns)))
    return reshape(_product(left, right), (*rows, *columns))


@op
def batch_dot(x, y, axes: Any = None) -> Tensor:
    """Sum of products over one axis, sample by sample, as in Keras 2's backend.

    Args:
        x: Floats (batch, ...); integers become floatx.
        y: Floats (batch, ...).
        axes: One axis for both, or a pair; not the batch axis. None for x's last axis and y's second to last
            (its last, if y has two axes).

    Returns:
        A tensor (batch, x's other axes, y's other axes), or (batch, 1) if no other axes are left.

    Raises:
        ValueError: if the batches or the sizes of the axes differ.

    Example:
        >>> ops.batch_dot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 0.0]]).numpy()
        array([[3.],
               [3.]], dtype=float32)
        >>> ops.batch_dot(np.ones((8, 2, 3)), np.ones((8, 3, 4))).shape
        (8, 2, 4)
    """
    x, y = floats(x, y)
    if x.ndim < 2 or y.ndim < 2 or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"batch_dot needs a second axis and the same batch size on both sides, received {x.shape} and {y.shape}"
        )
    if axes is None:
        axes = (x.ndim - 1, y.ndim - 1 if y.ndim == 2 else y.ndim - 2)
    first, second = pair_of("batch_dot", "axes", axes)
    a, b = axis_of("batch_dot", first, x.ndim), axis_of("batch_dot", second, y.ndim)
    if 0 in (a, b):
        raise ValueError(f"batch_dot cannot sum over the batch axis; received axes {briefly(axes)}")
    if x.shape[a] != y.shape[b]:
        raise ValueError(
            f"batch_dot sums over axes {(a, b)}, which must have the same size, received shapes {x.shape} and {y.shape}"
        )
    (left, left_rest, x_first), (right, right_rest, y_first) = _matrices(x, a), _matrices(y, b)
    z = _product(left, right, transpose_x=x_first, transpose_y=not y_first)
    return reshape(z, (x.shape[0], *([*left_rest, *right_rest] or [1])))


def _matrices(x: Tensor, axis: int) -> tuple[Tensor, list[int], bool]:
    """x as (batch, rest, k), or (batch, k, rest) if k is the first axis; the sizes of the rest; whether k is first."""
    rest = [n for i, n in enumerate(x.shape) if i not in (0, axis)]
    k, first = x.shape[axis], axis == 1 and x.ndim > 2
    moved = x if first else moveaxis(x, axis, -1)
    sizes = (k, math.prod(rest)) if first else (math.prod(rest), k)
    return reshape(moved, (x.shape[0], *sizes)), rest, first


# -------------------- einsum --------------------


_Term = tuple[list[str], Tensor]  # the letters of a tensor's axes, and the tensor


@op
def einsum(subscripts: str, *operands) -> Tensor:
    """Einstein summation: products of tensors, summed over the axes whose letters the result does not name.

    With more than two operands, the cheapest pairs are contracted first.

    Args:
        subscripts: Letters for the axes of each operand and of the result, as 'bqhd,bkhd->bhqk', '...ij,jk'
            or 'ii->i'. A letter that occurs twice in one operand takes its diagonal. '...' stands for the
            axes without a letter, which broadcast, as axes of size 1 do. Without '->' the result has the
            ellipsis, then the letters that occur once, in alphabetical order.
        *operands: As many tensors as `subscripts` names; they are converted to one dtype.

    Returns:
        A tensor with the axes that the result names.

    Raises:
        ValueError: if the subscripts have another form, or do not fit the operands.

    Example:
        >>> a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])
        >>> ops.einsum("ij,j->i", a, b).numpy()  # a matrix times a vector
        array([21., 43.])
        >>> ops.einsum("ii->", a).numpy()  # the trace
        array(5.)
        >>> ops.einsum("bqhd,bkhd->bhqk", np.ones((2, 5, 4, 8)), np.ones((2, 7, 4, 8))).shape
        (2, 4, 5, 7)
    """
    if len(operands) == 2 and getattr(operands[1], "is_quantized", False):
        kernel = operands[1]
        x = as_tensor(as_float(operands[0]), kernel.scale.dtype)
        found = kernel.einsum(subscripts, x)
        if found is not None:
            return found
        operands = kernel.rounded(x), kernel
    tensors = promote(*operands) if operands else []
    inputs, result = letters_of(subscripts, tensors)
    sizes: dict[str, int] = {}
    for letters, tensor in zip(inputs, tensors, strict=True):
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                shapes = ", ".join(str(t.shape) for t in tensors)
                raise ValueError(f"einsum: the sizes of {letter!r} in {subscripts!r} differ; received shapes {shapes}")
    terms = [_plain(letters, x, sizes) for letters, x in zip(inputs, tensors, strict=True)]
    while len(terms) > 1:
        pair = min(
            itertools.combinations(range(len(terms)), 2), key=lambda pair: _cost([terms[i] for i in pair], sizes)
        )
        (a, x), (b, y) = (terms[i] for i in pair)
        terms = [term for i, term in enumerate(terms) if i not in pair]
        kept = {*result}.union(*(letters for letters, _ in terms))
        terms.append(_contracted(_summed(a, x, kept.union(b)), _summed(b, y, kept.union(a)), kept, result))
    letters, x = _summed(*terms[0], set(result))
    return _arranged(x, letters, result)


def _cost(pair: list[_Term], sizes: dict[str, int]) -> int:
    """The number of multiplications that contracting two terms takes."""
    return math.prod(sizes[c] for c in {c for letters, _ in pair for c in letters})


def _plain(letters: list[str], x: Tensor, sizes: dict[str, int]) -> _Term:
    """Make each letter occur once: take the diagonals of repeated letters, drop axes of size 1 that are larger elsewhere."""
    kept = [i for i, c in enumerate(letters) if x.shape[i] == sizes[c]]
    letters, x = [letters[i] for i in kept], reshape(x, tuple(x.shape[i] for i in kept))
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            first = letters.index(c)
            second = letters.index(c, first + 1)
            rest = [i for i in range(x.ndim) if i not in (first, second)]
            x = transpose(x, (*rest, first, second))
            n = sizes[c]
            x = getitem(reshape(x, (*x.shape[:-2], n * n)), (..., slice(None, None, n + 1)))
            letters = [*(letters[i] for i in rest), c]
    return letters, x


def _summed(letters: list[str], x: Tensor, kept: set[str]) -> _Term:
    """The term summed over the letters that are not kept."""
    axes = [i for i, c in enumerate(letters) if c not in kept]
    return ([c for c in letters if c in kept], reduce.sum(x, axes)) if axes else (letters, x)


def _arranged(x: Tensor, letters: list[str], order: list[str]) -> Tensor:
    """The tensor with its axes in another order of their letters; the tensor itself if the order is the same."""
    return x if letters == order else transpose(x, tuple(letters.index(c) for c in order))


def _contracted(left: _Term, right: _Term, kept: set[str], result: list[str]) -> _Term:
    """The product of two terms, summed over the letters of both that are not kept. Axes are as in the result if possible."""
    (a, x), (b, y) = left, right
    own, others = ([result.index(c) for c in p if c not in q and c in result] for p, q in ((a, b), (b, a)))
    if own and others and min(own) > min(others):
        (a, x), (b, y) = right, left
    sizes = dict(zip([*a, *b], [*x.shape, *y.shape], strict=True))
    summed = [c for c in a if c in b and c not in kept]
    batch = [c for c in a if c in b and c in kept]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if not summed or not (rows or columns):
        return _elementwise(left, right, summed)

    def matrices(letters: list[str], tensor: Tensor, free: list[str]) -> tuple[Tensor, bool]:
        """The tensor as (batch, free, summed), or with the last two swapped if they lie in memory in that order."""
        swapped = letters == [*batch, *summed, *free] and bool(free)
        groups = (batch, summed, free) if swapped else (batch, free, summed)
        moved = _arranged(tensor, letters, [c for group in groups for c in group])
        return reshape(moved, tuple(math.prod(sizes[c] for c in group) for group in groups)), swapped

    (p, p_swapped), (q, q_swapped) = matrices(a, x, rows), matrices(b, y, columns)
    z = _product(p, q, transpose_x=p_swapped, transpose_y=not q_swapped)
    letters = [*batch, *rows, *columns]
    return letters, reshape(z, tuple(sizes[c] for c in letters))


def _elementwise(left: _Term, right: _Term, summed: list[str]) -> _Term:
    """The product of two terms as an elementwise product."""
    (a, x), (b, y) = left, right
    letters = [*a, *(c for c in b if c not in a)]
    x = reshape(x, (*x.shape, *[1] * (len(letters) - len(a))))
    found = [c for c in letters if c in b]
    y = _arranged(y, b, found)
    sizes = dict(zip(found, y.shape, strict=True))
    z = elementwise.multiply(x, reshape(y, tuple(sizes.get(c, 1) for c in letters)))
    return _summed(letters, z, {c for c in letters if c not in summed})
