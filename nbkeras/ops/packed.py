"""PackedVariable: a weight of 4 bits, or one of GPTQ or AWQ, with the variables that encode it, and its products."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.tensor import Tensor, Variable, apply, as_index
from nbkeras.kernels import dense as dense_kernels
from nbkeras.kernels import packed as kernels
from nbkeras.kernels import quantized
from nbkeras.kernels.runtime import device
from nbkeras.ops.arguments import letters_of
from nbkeras.ops.elementwise import divide
from nbkeras.ops.shape import reshape, transpose


class Layout(NamedTuple):
    """How a packed matrix encodes a weight.

    shape: the weight's shape. rows, columns: those of the matrix. axis: the one along which two integers share a byte, or 2 if
    each has its own. by: the axis along which groups are. inputs: the limits for rounding the rows of a product's input, or None.
    is_turned: whether the matrix has a row for each output of a product, as those of GPTQ and AWQ.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int
    axis: int = 1
    by: int = 0
    inputs: tuple[int, int, float] | None = None
    is_turned: bool = False

    @property
    def summed(self) -> int:
        """The number of inputs of a product."""
        return self.columns if self.is_turned else self.rows


class Encoded(NamedTuple):
    """The arrays of a packed weight; zero and groups are None for one scale for each output."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    groups: np.ndarray | None
    divisor: np.ndarray | None = None


class PackedVariable(Variable):
    """A weight whose bytes hold two integers of 4 bits each.

    Args:
        values: The bytes, a matrix of int8 or uint8.
        layout: A Layout.
        scale: A float Variable: a vector, or a matrix with the groups along the layout's `by`.
        zero: The zero points, a Variable like the scale; None if an integer is divided by its scale.
        groups: The group of each index along `by`, a Variable; None without groups.
        divisor: A number for each input of a product, which divides the weights, a Variable; None for none.
        name: The name of the variable.

    Example:
        >>> from nbkeras.ops.packed import Layout, PackedVariable
        >>> weight = PackedVariable(np.array([[0x17]], "int8"), Layout((1, 2), 1, 2), keras.Variable([7.0, 1.0]))
        >>> ops.convert_to_tensor(weight).numpy()
        array([[1., 1.]], dtype=float32)
    """

    __slots__ = ("layout", "scale", "zero", "groups", "divisor", "companions")
    is_quantized = True
    convolves_integers = False

    @property
    def is_last_in_files(self) -> bool:
        """Whether files have it after the bias."""
        return self.layout.is_turned

    def __init__(
        self,
        values: Any,
        layout: Layout,
        scale: Variable,
        zero: Variable | None = None,
        groups: Variable | None = None,
        divisor: Variable | None = None,
        name: str | None = None,
    ):
        super().__init__(values, dtype=values.dtype, trainable=False, name=name)
        self.layout, self.scale, self.zero, self.groups = layout, scale, zero, groups
        self.divisor = divisor
        self.companions: list[Variable] = []  # the variables beside it in files

    @property
    def full_shape(self) -> tuple[int, ...]:
        """The shape of the weight that the bytes encode."""
        return self.layout.shape

    def as_float(self) -> Tensor:
        """The weight as a float tensor."""
        return reshape(self._matrix(), self.full_shape)

    def _matrix(self) -> Tensor:
        """The floats, a row for each input of a product."""
        layout = self.layout
        shape = layout.rows, layout.columns
        matrix = apply(kernels.dequantize, None, self._parts(), shape=shape, axis=layout.axis, by=layout.by)
        matrix = matrix if self.divisor is None else divide(matrix, self.divisor)
        return transpose(matrix) if layout.is_turned else matrix

    def _parts(self) -> list[Tensor | None]:
        return [Tensor(self.data), self.scale, self.zero, self.groups]

    def rounded(self, x: Tensor) -> Tensor:
        """The rows of a product's input, rounded if the layout says so; the gradient passes through."""
        return x if self.layout.inputs is None else apply(_round_rows, _round_rows_vjp, [x], limits=self.layout.inputs)

    def dense(self, x: Tensor, bias: Tensor | None, rectify: bool) -> Tensor:
        """x @ self + bias, or the positive part of it; the bytes are read as they are."""
        arrays, n = [self.rounded(x), *self._parts(), bias], self.layout.columns
        if self.layout.axis == 1 and self.layout.by == 0:
            return apply(kernels.dense, kernels.dense_vjp, arrays, n=n, rectify=rectify)
        arrays = [arrays[0], self._matrix(), bias]
        return apply(dense_kernels.dense, dense_kernels.dense_vjp, arrays, rectify=rectify)

    def transposed_product(self, x: Tensor) -> Tensor:
        """x @ self.T for a matrix."""
        arrays = [self.rounded(x), transpose(self._matrix()), None]
        return apply(dense_kernels.dense, dense_kernels.dense_vjp, arrays, rectify=False)

    def rows(self, indices: Any) -> Tensor:
        """The rows of a matrix at these indices; only their bytes become floats."""
        inputs = [Tensor(self.data), as_index(indices), self.scale, self.zero, self.groups]
        return apply(kernels.gather, None, inputs, columns=self.layout.columns)

    def einsum(self, subscripts: str, x: Tensor) -> Tensor | None:
        """einsum(subscripts, x, self) by one product that reads bytes, if the weight's summed axes come first; else None."""
        shape, layout = self.full_shape, self.layout
        (of_x, own), result = letters_of(subscripts, [x, np.broadcast_to(np.int8(0), shape)])
        summed = [c for c in own if c not in result]
        free = [c for c in of_x if c not in own]
        fits = own[: len(summed)] == summed and layout.summed == math.prod(shape[: len(summed)])
        new = own[len(summed) :]
        if not fits or sorted([*free, *summed]) != sorted(of_x) or sorted([*free, *new]) != sorted(result):
            return None
        rows = transpose(x, [of_x.index(c) for c in (*free, *summed)])
        sizes = rows.shape[: len(free)]
        y = reshape(
            self.dense(reshape(rows, (math.prod(sizes), layout.summed)), None, False), (*sizes, *shape[len(summed) :])
        )
        return transpose(y, [[*free, *new].index(c) for c in result])


def _round_rows(x, limits):
    (q, scale), _ = quantized.quantize(x, *limits)
    return quantized.dequantize(q, scale)[0], None


def _round_rows_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(device.copy, dy, dx)
    return (dx,)
