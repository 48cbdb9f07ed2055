"""QuantizedVariable: an integer weight with a scale for each channel, and the products that use it without conversion.

All other ops receive a float tensor, which is computed when they run. `as_tensor` returns the integers to ops that
ask for int8. The formulas are Keras's.
"""

from __future__ import annotations

import math
from typing import Any

from nbkeras.engine.tensor import Tensor, Variable, apply, as_index
from nbkeras.kernels import quantized as kernels
from nbkeras.kernels.convolution import integers as convolution
from nbkeras.ops.arguments import letters_of
from nbkeras.ops.elementwise import divide
from nbkeras.ops.shape import broadcast_to, expand_dims, reshape, stack, transpose, unstack

Limits = tuple[int, int, float]  # the smallest and the largest integer, and the epsilon of a scale


class QuantizedVariable(Variable):
    """An int8 weight: a value is an integer divided by the scale of its channel.

    Args:
        values: The integers, an array of int8; uint16 holds the bits of bfloat16 numbers, with scales of 1.
        scale: A float Variable. Without axes of size 1, its axes match `channels`.
        channels: The axes of `values` along which scales differ, in the order of the scale's axes.
        inputs: The limits for quantizing the input of products, row by row; None for float inputs.
        name: The name of the variable.

    Example:
        >>> from nbkeras.ops.quantized import QuantizedVariable
        >>> kernel = QuantizedVariable(np.array([[127, 64]], "int8"), keras.Variable([127.0, 32.0]), (1,), None)
        >>> ops.convert_to_tensor(kernel).numpy()
        array([[1., 2.]], dtype=float32)
    """

    __slots__ = ("scale", "channels", "inputs", "companions")
    is_quantized = True
    is_last_in_files = False  # as for PackedVariable

    def __init__(
        self, values: Any, scale: Variable, channels: tuple[int, ...], inputs: Limits | None, name: str | None = None
    ):
        super().__init__(values, trainable=False, name=name)
        self.scale, self.channels, self.inputs = scale, channels, inputs
        self.companions: list[Variable] = [scale]  # the variables beside it in files

    def as_float(self) -> Tensor:
        """The value as a float tensor."""
        return apply(kernels.dequantize, None, [self, self._divisor()])

    def _divisor(self) -> Tensor:
        """The scale with axes that broadcast to the integers."""
        order = sorted(range(len(self.channels)), key=self.channels.__getitem__)
        scale = reshape(self.scale, [self.shape[axis] for axis in self.channels])
        sizes = [size if axis in self.channels else 1 for axis, size in enumerate(self.shape)]
        return reshape(transpose(scale, order), sizes)

    def integers(self) -> Tensor:
        """The integers as a tensor of int8."""
        return Tensor(self.data)

    def dense(self, x: Tensor, bias: Tensor | None, rectify: bool) -> Tensor:
        """x @ self + bias, or the positive part of it; self is a matrix with a scale for each column."""
        return self._product(x, self.integers(), self.scale, bias, rectify)

    def _product(
        self, x: Tensor, values: Tensor, scale: Tensor, bias: Tensor | None = None, rectify: bool = False
    ) -> Tensor:
        inputs = [x, values, scale, bias]
        return apply(kernels.dense, kernels.dense_vjp, inputs, inputs=self.inputs, rectify=rectify)

    @property
    def convolves_integers(self) -> bool:
        """Whether `convolve` accepts it as the kernel of a 1D or 2D convolution; inputs then become integers too."""
        return self.inputs is not None and self.ndim in (3, 4) and self.channels == (self.ndim - 1,)

    def convolve(self, x: Tensor, bias: Tensor | None, strides, dilation, padding: str, rectify: bool) -> Tensor:
        """The convolution of images or sequences by this kernel, with a scale for each unit; bias and positive part follow."""
        values = self.integers()
        values = expand_dims(values, 0) if self.ndim == 3 else values
        inputs = [x, values, divide(1.0, self.scale), bias]
        window = {"strides": strides, "dilation": dilation, "padding": padding}
        return apply(convolution.conv, convolution.conv_vjp, inputs, **window, inputs=self.inputs, relu=rectify)

    def transposed_product(self, x: Tensor) -> Tensor:
        """x @ self.T; self is a matrix with a scale for each row."""
        return self._product(x, transpose(self.integers()), self.scale)

    def rows(self, indices: Any) -> Tensor:
        """The rows at these indices; self is a matrix with a scale for each row."""
        return apply(kernels.gather, None, [self, as_index(indices), self.scale])

    def einsum(self, subscripts: str, x: Tensor) -> Tensor:
        """einsum(subscripts, x, self), by one matrix product for each index that all three share."""
        (of_x, own), result = letters_of(subscripts, [x, self])
        sizes = dict(zip((*own, *of_x), (*self.shape, *x.shape), strict=True))
        shared = [c for c in result if c in own and c in of_x]
        new = [c for c in result if c in own and c not in of_x]
        free = [c for c in result if c in of_x and c not in own]
        summed = [c for c in own if c not in result] + [c for c in of_x if c not in result and c not in own]
        values = _spread(self.integers(), own, [*shared, *summed, *new], sizes)
        scale = reshape(self.scale, [self.shape[axis] for axis in self.channels])
        scale = _spread(scale, [own[axis] for axis in self.channels], [*shared, *new], sizes)
        rows = _spread(x, of_x, [*shared, *free, *summed], sizes)
        count, m, k, n = (math.prod(sizes[c] for c in group) for group in (shared, free, summed, new))
        flat = reshape(rows, (count, m, k)), reshape(values, (count, k, n)), reshape(scale, (count, n))
        products = [self._product(*each) for each in zip(*map(unstack, flat), strict=True)]  # type: ignore[arg-type]
        y = products[0] if count == 1 else stack(products)
        order = [*shared, *free, *new]
        y = reshape(y, [sizes[c] for c in order])
        return transpose(y, [order.index(c) for c in result])


def _spread(x: Tensor, letters: list[str], wanted: list[str], sizes: dict[str, int]) -> Tensor:
    """A tensor with its axes in the wanted order; it is repeated along the axes that it lacks."""
    known = [c for c in wanted if c in letters]
    order = [letters.index(c) for c in known]
    x = x if order == sorted(order) else transpose(x, order)
    if known == wanted:
        return x
    x = reshape(x, [sizes[c] if c in letters else 1 for c in wanted])
    return broadcast_to(x, [sizes[c] for c in wanted])
