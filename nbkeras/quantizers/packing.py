"""Numbers of 4 bits, two in a byte, and the weights of GPTQ and AWQ: their arrays, their variable and its products."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nbkeras import ops
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, Variable, apply, as_index
from nbkeras.kernels import dense as dense_kernels
from nbkeras.kernels import packed as kernels
from nbkeras.kernels import quantized
from nbkeras.kernels.runtime import device
from nbkeras.ops.arguments import letters_of
from nbkeras.quantizers.rounding import axis_of

# -------------------- arrays of bytes --------------------


def pack_int4(arr, axis: int = 0, dtype: str = "int8") -> tuple[Tensor, tuple[int, ...], int]:
    """Put two integers of 4 bits into each byte: of two neighbours along an axis, the first one is in the lower half.

    Args:
        arr: int8 from -8 to 7, or uint8 from 0 to 15.
        axis: The axis. An odd size is padded by a zero.
        dtype: The dtype of `arr` and of the bytes, 'int8' or 'uint8'.

    Returns:
        (bytes, their shape, the axis's size before).

    Raises:
        ValueError: for another dtype, or an axis that is not there.
        TypeError: if `arr` does not have the dtype.

    Example:
        >>> packed, shape, rows = keras.quantizers.pack_int4(np.array([[-3, 7], [2, -8], [1, 0]], "int8"))
        >>> packed.numpy().tolist(), shape, rows
        ([[45, -121], [1, 0]], (2, 2), 3)
    """
    one_of("pack_int4", "dtype", dtype, ("int8", "uint8"))
    values = ops.convert_to_numpy(arr)
    if values.dtype != dtype:
        raise TypeError(f"pack_int4: expected integers of {dtype}, received dtype {values.dtype}")
    packed = packed_pairs(values, axis_of("pack_int4", axis, values.ndim))
    return ops.convert_to_tensor(packed), packed.shape, values.shape[axis]


def unpack_int4(packed, orig_len: int, axis: int = 0, dtype: str = "int8") -> Tensor:
    """The integers that `pack_int4` put into bytes.

    Args:
        packed: The bytes, int8 or uint8.
        orig_len: The size of the axis before.
        axis: The axis.
        dtype: 'int8' for integers from -8 to 7, 'uint8' for 0 to 15.

    Returns:
        A tensor of the dtype.

    Raises:
        ValueError: for another dtype, an axis that is not there, or a size that the bytes do not have.

    Example:
        >>> keras.quantizers.unpack_int4(np.array([[45, -121], [1, 0]], "int8"), 3).numpy().tolist()
        [[-3, 7], [2, -8], [1, 0]]
    """
    one_of("unpack_int4", "dtype", dtype, ("int8", "uint8"))
    packed = ops.convert_to_tensor(packed)
    if packed.dtype.name not in ("int8", "uint8"):
        raise TypeError(f"unpack_int4: packed must be int8 or uint8, received dtype {packed.dtype}")
    axis = axis_of("unpack_int4", axis, packed.ndim)
    if not 0 <= 2 * packed.shape[axis] - orig_len <= 1:
        raise ValueError(
            f"unpack_int4: {packed.shape[axis]} bytes do not hold {briefly(orig_len)} integers along axis {axis}"
        )
    halves = [ops.bitwise_and(packed, 15), ops.bitwise_and(ops.right_shift(packed, 4), 15)]
    if dtype == "int8":
        halves = [ops.subtract(ops.bitwise_xor(half, 8), 8) for half in halves]
    shape = (*packed.shape[:axis], 2 * packed.shape[axis], *packed.shape[axis + 1 :])
    values = ops.reshape(ops.stack(halves, axis + 1), shape)
    return ops.cast(ops.take(values, np.arange(orig_len), axis=axis), dtype)


def packed_pairs(values: np.ndarray, axis: int) -> np.ndarray:
    """`pack_int4` by NumPy.

    Args:
        values: int8 or uint8.
        axis: The axis.
    """
    first = np.moveaxis(values, axis, 0).view(np.uint8) if values.flags.c_contiguous else np.moveaxis(values, axis, 0)
    first = first.astype(np.uint8)
    padded = np.concatenate([first, np.zeros((len(first) % 2, *first.shape[1:]), np.uint8)])
    both = (padded[::2] & 15) | (padded[1::2] << 4)
    return np.ascontiguousarray(np.moveaxis(both, 0, axis)).view(values.dtype)


# -------------------- weights --------------------


class Encoded(NamedTuple):
    """The arrays of a packed weight; zero and groups are None for one scale for each output."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None = None
    groups: np.ndarray | None = None
    divisor: np.ndarray | None = None


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

    def groups(self, size: int) -> np.ndarray:
        """The group of each index along `by`, for groups of this size."""
        return (np.arange((self.rows, self.columns)[self.by]) // size).astype("float32")

    def zeros(self, dtype: type, size: int | None, of_scales: str, has_divisor: bool = False) -> Encoded:
        """The arrays of a weight of zeros in groups of this size, or with one scale for each output."""
        sizes = [self.rows, self.columns]
        values: np.ndarray = np.zeros([-(-n // 2) if axis == self.axis else n for axis, n in enumerate(sizes)], dtype)
        if size is None:
            return Encoded(values, np.ones(sizes[1 - self.by], of_scales))
        divisor = np.ones(sizes[self.by], of_scales) if has_divisor else None
        sizes[self.by] = -(-sizes[self.by] // size)
        return Encoded(values, np.ones(sizes, of_scales), np.zeros(sizes, dtype), self.groups(size), divisor)


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
        >>> from nbkeras.quantizers.packing import Layout, PackedVariable
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
        return ops.reshape(self._matrix(), self.full_shape)

    def _matrix(self) -> Tensor:
        """The floats, a row for each input of a product."""
        layout = self.layout
        shape = layout.rows, layout.columns
        matrix = apply(kernels.dequantize, None, self._parts(), shape=shape, axis=layout.axis, by=layout.by)
        matrix = matrix if self.divisor is None else ops.divide(matrix, self.divisor)
        return ops.transpose(matrix) if layout.is_turned else matrix

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
        arrays = [self.rounded(x), ops.transpose(self._matrix()), None]
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
        rows = ops.transpose(x, [of_x.index(c) for c in (*free, *summed)])
        sizes = rows.shape[: len(free)]
        y = ops.reshape(
            self.dense(ops.reshape(rows, (math.prod(sizes), layout.summed)), None, False),
            (*sizes, *shape[len(summed) :]),
        )
        return ops.transpose(y, [[*free, *new].index(c) for c in result])


def _round_rows(x, limits):
    (q, scale), _ = quantized.quantize(x, *limits)
    return quantized.dequantize(q, scale)[0], None


def _round_rows_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(device.copy, dy, dx)
    return (dx,)
