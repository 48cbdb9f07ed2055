"""Floor 1: tensors of float16 and bfloat16, and layers that compute in them. Imported when such a dtype is first used.

A Half is a Tensor whose memory is float32, and whose elements are numbers that its dtype can represent. An op on Halves is an
ordinary op on float32, followed by a rounding to the common dtype; the backward pass of that rounding rounds the gradient in the
same way. So kernels, tapes, recorded programs and transforms know nothing about 16 bits. Ops that only move elements need no
rounding.

In a layer whose policy computes in 16 bits, float Variables are cast to its dtype where an op uses them (`tape.thread.autocast`).
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import dlpack, settings, structures, tape, tensor, user_errors
from nbkeras.engine.dtypes import known_dtype, result_dtype
from nbkeras.engine.tensor import Tensor, Variable, apply, as_tensor
from nbkeras.kernels import activations, dense, elementwise, embedding, half, half_products, indexing, reduce, shape
from nbkeras.kernels.runtime import device

Array = np.ndarray
_FLOAT32 = np.dtype(np.float32)


class HalfDType:
    """The dtype of a Half. NumPy takes it for the dtype of its memory, float32."""

    dtype, kind, itemsize, type = _FLOAT32, "f", 2, np.float32

    def __init__(self, name: str):
        self.name = self.str = name

    def __eq__(self, other: object) -> bool:
        return getattr(other, "name", getattr(other, "__name__", other)) == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return known_dtype, (self.name,)


DTYPES = {name: HalfDType(name) for name in ("float16", "bfloat16")}


class Half(Tensor):
    """A tensor of float16 or bfloat16.

    Args:
        data: An array of float32 whose elements the dtype can represent.
        half: The dtype.
        record: The tape's record of the op that made it; None for a constant.
        index: The index of this output among the op's outputs.

    Example:
        >>> x = ops.cast([1.0, 2.71828], "bfloat16")
        >>> x.dtype.name, float(x[1])
        ('bfloat16', 2.71875)
        >>> ops.multiply(x, 2.5).dtype, ops.add(x, np.ones(2, "float32")).dtype
        (bfloat16, bfloat16)
    """

    __slots__ = ("half",)
    is_half = True

    def __init__(self, data: Array, half: Any, record: tape.Record | None = None, index: int = 0):
        super().__init__(data, record, index)
        self.half = half

    @property
    def dtype(self) -> Any:
        """The dtype of the elements, float16 or bfloat16."""
        return self.half

    def numpy(self) -> Array:
        """The value as an array of float16, or of ml_dtypes.bfloat16."""
        return array_of_half(Tensor.numpy(self), self.half)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        value = Tensor.__array__(self)
        return array_of_half(value, self.half) if dtype is None else value.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        if self.half == "bfloat16":
            raise BufferError("NumPy cannot export bfloat16: cast the tensor first, by ops.cast(x, 'float32')")
        return dlpack.export(self.numpy(), **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.device_of(np.empty(0))

    def __copy__(self) -> Half:
        return _with_mask(Half(self.data, self.half, self.record, self.index), self)


class HalfVariable(Variable):
    """A Variable of float16 or bfloat16: the weights of layers with the policies 'float16' and 'bfloat16'.

    Args:
        initializer: As for Variable.
        shape: As for Variable.
        dtype: 'float16' or 'bfloat16'.
        **options: Further arguments of Variable.

    Example:
        >>> v = keras.Variable([1.0, 2.71828], dtype="bfloat16")
        >>> float(v.assign_add([0.001, 1.0])[1])
        3.71875
    """

    __slots__ = ("half",)
    is_half = True
    dtype, numpy = Half.dtype, Half.numpy  # type: ignore[assignment]
    __array__, __dlpack__, __dlpack_device__ = Half.__array__, Half.__dlpack__, Half.__dlpack_device__

    def __init__(self, initializer: Any, shape: Any = None, dtype: Any = None, *args: Any, **options: Any):
        self.half = known_dtype(getattr(initializer, "dtype", None) if dtype is None else dtype)
        super().__init__(initializer, shape, self.half, *args, **options)
        self.round()

    def round(self) -> None:
        """Round the elements, after a kernel wrote them."""
        with tensor.on_device_of(self):
            half.round_in_place(self.data, self.half.name)

    @property
    def value(self) -> Tensor:
        """A tensor of the current value; later assignments do not change it."""
        present = super().value
        return present if present.is_half else Half(present.data, self.half, present.record, present.index)

    def _write(self, kernel: Callable, source: Tensor, *operands: Array) -> None:
        super()._write(kernel, source, *operands)
        if operands:  # a sum; an assigned value is rounded already
            self.round()


def array_of_half(values: Array, dtype: Any) -> Array:
    """Float32 numbers as an array of a 16-bit dtype; bfloat16 arrays are those of the package ml_dtypes."""
    if dtype == "float16":
        return values.astype(np.float16)
    try:
        import ml_dtypes
    except ImportError:
        _warn_once(
            "NumPy has no bfloat16, and the package ml_dtypes is not installed: values of bfloat16 are given as float32 arrays. "
            "For arrays of bfloat16: pip install ml_dtypes"
        )
        return values
    return values.astype(ml_dtypes.bfloat16)


@functools.cache
def _warn_once(text: str) -> None:
    user_errors.warn(text)


@functools.cache
def _log_once(text: str) -> None:
    """Log advice about speed, as Keras does: a program that makes warnings errors must not stop because of it."""
    logging.getLogger("nbkeras").warning(text)


# -------------------- casts --------------------


def is_half(dtype: Any) -> bool:
    """Whether a dtype, as a user writes it, is float16 or bfloat16."""
    return type(dtype) is HalfDType or (dtype is not None and settings.standardize_dtype(dtype) in DTYPES)


def received(made: Tensor, value: Any, dtype: Any) -> Tensor:
    """Wrap the result of `as_tensor` as a Half if the value or the requested dtype has 16 bits."""
    given = getattr(value, "dtype", settings.floatx() if made.dtype.kind == "f" else None) if dtype is None else dtype
    return cast(made, known_dtype(given)) if made.dtype.kind == "f" and is_half(given) else made


def cast(x: Tensor, dtype: Any) -> Tensor:
    """A tensor in another dtype; itself if it has that dtype. The mask stays."""
    if x.dtype == dtype and x.is_half == (type(dtype) is HalfDType):
        return x
    if type(dtype) is HalfDType:
        x = plain(x) if x.is_half else tensor.converted(x, _FLOAT32) if x.data.dtype != _FLOAT32 else x
        return _with_mask(_rounded(x, dtype), x)
    return _with_mask(tensor.converted(plain(x) if x.is_half else x, dtype), x)


def plain(x: Tensor) -> Tensor:
    """A Half, or a HalfVariable, as a float32 tensor."""
    value = tensor.value_of(x)
    return _with_mask(Tensor(value.data, value.record, value.index), x)


def _rounded(x: Tensor, dtype: Any) -> Half:
    return marked(apply(half.rounded, half.rounded_vjp, [x], kind=dtype.name), dtype)


def marked(x: Tensor, dtype: Any) -> Half:
    """A float32 tensor as a Half; its elements must be numbers of the dtype."""
    return _with_mask(Half(x.data, dtype, x.record, x.index), x)


def _with_mask(made: Any, x: Tensor) -> Any:
    if made is not x and not isinstance(x, Variable):
        made.mask = x.mask
    return made


# -------------------- ops --------------------

# ops whose results are elements of their inputs, so that they need no rounding
_MOVES = {
    *(
        shape.reshape,
        shape.transpose,
        shape.stack,
        shape.unstack,
        shape.concatenate,
        shape.split,
        shape.flip,
        shape.roll,
    ),
    *(shape.getitem, shape.set_slice, shape.spread, indexing.take, indexing.take_along_axis, embedding.gather),
    *(elementwise.where, elementwise.negative, elementwise.maximum, elementwise.minimum, elementwise.show),
    *(reduce.max, reduce.min, activations.relu, tensor._cast_op),
}
# products that are faster with instructions for numbers of 16 bits, where they exist
_PRODUCTS: dict[Callable, tuple[Callable, Callable]] = {
    dense.dense: (half_products.dense, half_products.dense_vjp),
    dense.matmul: (half_products.matmul, half_products.matmul_vjp),
}


def concerns(tensors: Sequence[Tensor | None], constants: dict[str, Any]) -> bool:
    """Whether `applied` computes an op: an input is a Half or a Variable that is cast automatically, or the result is a Half."""
    if type(constants.get("dtype")) is HalfDType:
        return True
    scope = tape.thread.autocast is not None
    return any(t is not None and (t.is_half or (scope and _is_cast(t))) for t in tensors)


def _is_cast(x: Any) -> bool:
    return isinstance(x, Variable) and x.autocast and x.data.dtype == _FLOAT32 and not x.is_half


def applied(op: Callable, op_vjp: Callable | None, tensors: Sequence[Tensor | None], constants: dict[str, Any]) -> Any:
    """`apply` if `concerns(...)`: the op on float32 tensors, then a rounding, unless a float32 tensor takes part."""
    scope, wanted, moves = tape.thread.autocast, constants.get("dtype"), op in _MOVES
    found: list[Tensor | None] = []
    dtypes: list[Any] = []
    rounds = not moves
    if type(wanted) is HalfDType:
        constants = {**constants, "dtype": _FLOAT32}
    for x in tensors:
        if x is not None and x.is_half:
            dtypes.append(x.dtype)
            x = plain(x)
        elif x is not None and scope is not None and _is_cast(x):
            dtypes.append(scope)
            rounds, x = True, (tensor.value_of(x) if moves else plain(_rounded(tensor.value_of(x), scope)))
        elif x is not None and x.dtype.kind == "f":
            dtypes.append(x.dtype)
        found.append(x)
    common = wanted if type(wanted) is HalfDType else result_dtype(*dtypes)
    if (
        op in _PRODUCTS and type(common) is HalfDType and not tape.thread.leaves_fast_path
    ):  # transforms know only float32's ops
        special, special_vjp = _PRODUCTS[op]
        op, op_vjp, constants = special, special_vjp if op_vjp else None, {**constants, "kind": common.name}
    result = apply(op, op_vjp, found, **constants)
    for i in getattr(op, "changes_inputs", ()):
        if isinstance(changed := tensors[i], HalfVariable):
            changed.round()
    if type(common) is not HalfDType:
        return result
    finish = _rounded if rounds else marked
    each = [
        finish(y, common) if y.data.dtype == _FLOAT32 else y for y in (result if type(result) is tuple else (result,))
    ]
    return tuple(each) if type(result) is tuple else each[0]


def promoted(values: tuple) -> tuple:
    """The operands of an op, with a tensor in place of each Variable that the layer casts automatically."""
    scope = tape.thread.autocast
    return values if scope is None else tuple(cast(tensor.value_of(v), scope) if _is_cast(v) else v for v in values)


# -------------------- layers --------------------


def scoped(layer: Any, call: Callable) -> Callable:
    """A layer's `call` as its policy asks: Variables are cast where ops use them, or all is computed in float32."""
    dtype = DTYPES.get(layer.compute_dtype)
    if dtype is None and tape.thread.autocast is None:
        return call
    if dtype is not None and not (dtype == "bfloat16" and half_products.HAS_PAIR_PRODUCTS):
        _log_once(
            f"a layer computes in {dtype}: on this machine float32 is faster, because nbkeras computes in float32 and rounds "
            "each result. Use the policy 'float32' for speed; see docs/precision.md"
        )
    finishes = dtype is not None and type(layer).__module__.startswith("nbkeras.layers.") and not layer._sublayers()

    def as_float32(x: Any) -> Any:
        return as_tensor(x, _FLOAT32) if isinstance(x, Tensor) and x.is_half else x

    def finished(y: Any) -> Any:
        return cast(y, dtype) if isinstance(y, Tensor) and y.dtype.kind == "f" else y

    def run(*args: Any, **kwargs: Any) -> Any:
        if dtype is not None and layer.computes_in_float32:
            args, kwargs = structures.map_leaves(as_float32, args), structures.map_leaves(as_float32, kwargs)
        with tape.thread.now(autocast=dtype):
            outputs = call(*args, **kwargs)
        return structures.map_leaves(finished, outputs) if finishes else outputs

    return run


# -------------------- results of steps --------------------


def packer(pack: Callable[[list], Any], tensors: Sequence[Tensor]) -> Callable[[list], Any]:
    """A function that puts results into a structure: arrays of float32, or tensors of them, get the 16-bit dtypes of tensors."""
    dtypes = [x.dtype if x.is_half else None for x in tensors]
    if not any(dtypes):
        return pack

    def form(value: Any, dtype: Any) -> Any:
        if dtype is None:
            return value
        return marked(value, dtype) if isinstance(value, Tensor) else array_of_half(device.read(value), dtype)

    return lambda values: pack([form(*pair) for pair in zip(values, dtypes, strict=True)])


tensor.halves = sys.modules[__name__]
