"""Two integers of 4 bits in a byte, as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor
from nbkeras.quantizers.rounding import axis_of, packed_pairs


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
    values = _bytes("pack_int4", arr, dtype)
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


def _bytes(name: str, value: Any, dtype: str) -> np.ndarray:
    one_of(name, "dtype", dtype, ("int8", "uint8"))
    array = ops.convert_to_numpy(value)
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected integers of {dtype}, received dtype {array.dtype}")
    return array
