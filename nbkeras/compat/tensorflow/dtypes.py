"""TensorFlow's dtypes: `tf.float32` is accepted wherever NumPy or nbkeras take a dtype."""

import builtins
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import STRING


class DType:
    """A dtype of TensorFlow. It equals NumPy's dtype of the same name, and that name."""

    def __init__(self, name: str):
        self.name, self.dtype = name, np.dtype(name)

    def __eq__(self, other: object) -> builtins.bool:
        try:
            return self.dtype == np.dtype(other)  # type: ignore[call-overload]
        except TypeError:
            return False

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    @property
    def as_numpy_dtype(self) -> type:
        """The NumPy type of the elements."""
        return self.dtype.type

    @property
    def base_dtype(self) -> "DType":
        """The dtype itself."""
        return self

    @property
    def is_bool(self) -> builtins.bool:
        """Whether it is bool."""
        return self.dtype.kind == "b"

    @property
    def is_floating(self) -> builtins.bool:
        """Whether it is a dtype of floats."""
        return self.dtype.kind == "f"

    @property
    def is_integer(self) -> builtins.bool:
        """Whether it is a dtype of integers."""
        return self.dtype.kind in "iu"

    @property
    def is_unsigned(self) -> builtins.bool:
        """Whether it is a dtype of integers without a sign."""
        return self.dtype.kind == "u"

    @property
    def max(self) -> Any:
        """The largest number."""
        return self._limits().max

    @property
    def min(self) -> Any:
        """The smallest number."""
        return self._limits().min

    @property
    def size(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    def _limits(self) -> Any:
        return np.finfo(self.dtype) if self.is_floating else np.iinfo(self.dtype)


bool = DType("bool")
float16, float32, float64 = DType("float16"), DType("float32"), DType("float64")
half, double = float16, float64
int8, int16, int32, int64 = DType("int8"), DType("int16"), DType("int32"), DType("int64")
uint8, uint16, uint32, uint64 = DType("uint8"), DType("uint16"), DType("uint32"), DType("uint64")

string = STRING

cast = spelled(ops.cast, "x dtype")
saturate_cast = spelled(ops.saturate_cast, "value:x dtype")


def as_dtype(type_value: Any) -> DType:
    """The dtype of a name, a NumPy dtype or a dtype of TensorFlow."""
    if isinstance(type_value, DType) or type_value == STRING:
        return type_value
    found = np.dtype(type_value)
    if found.kind not in "fiub":
        raise TypeError(f"tf.as_dtype: expected a dtype of numbers or booleans, received {briefly(type_value)}")
    return DType(found.name)
