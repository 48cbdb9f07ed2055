"""Floor 1: Tensor, Variable, and `apply`: every op reaches its kernel and the tape through `apply`."""

from __future__ import annotations

import contextlib
import copy as copying
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from nbkeras.engine import annotations as annotated
from nbkeras.engine import copy_on_write, dlpack, naming, option, registry, settings, step_lock, tape, user_errors
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of, known_dtype, result_dtype
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.program import outdate as outdate
from nbkeras.engine.recorder import adopt, before_replays, compute, depend_on, is_step_recorded  # noqa: F401 (for floor 2)
from nbkeras.kernels import indexing as indexing_kernels
from nbkeras.kernels import shape as shape_kernels
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.messages import named, short_description

Array = np.ndarray
ValueReadError = device.ValueReadError
shapes_only = device.dry  # `with shapes_only():` ops infer shapes and dtypes and compute nothing
outside_program = device.ordinary  # `with outside_program():` launches run once and are never replayed
is_shapes_only = device.is_dry  # whether ops currently infer shapes only
gpu = device.gpu  # the GPU on which this thread computes; None for the CPU
on_gpu = device.on  # `with on_gpu(gpu):` computes there
F = TypeVar("F", bound=Callable)
# how the values of a variable on several processes are combined
AGGREGATIONS = ("sum", "mean", "max", "min", "only_first_replica", "none", None)
halves: Any = None  # half.py, once a dtype of 16 bits was used


class Tensor:
    """An array with its record on the tape, for computing gradients.

    Tensors have NumPy's operators, indexing, and the attributes shape, dtype, ndim and size.
    `np.asarray(tensor)`, `float(tensor)` and `torch.from_dlpack(tensor)` read the value. Make tensors by
    `ops.convert_to_tensor`, not by this class.

    Args:
        data: A NumPy array, or an array on the GPU.
        record: The tape's record of the op that made it; None for a constant.
        index: The index of this output among the op's outputs.

    Example:
        >>> x = ops.convert_to_tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> x.shape, x.dtype.name
        ((2, 2), 'float32')
        >>> (x[0] * 10.0 + 1.0).numpy()
        array([11., 21.], dtype=float32)
    """

    __slots__ = ("data", "record", "index", "mask", "logits", "__weakref__")
    is_quantized = False  # whether `data` holds integers that encode its values: see ops/quantized.py
    is_weak = False  # whether it gives way to the dtypes of other tensors: see Number
    is_half = False  # whether its dtype has 16 bits: see half.py
    __array_priority__ = 1000  # so that ndarray + Tensor calls Tensor's operator

    def __init__(self, data: Array, record: tape.Record | None = None, index: int = 0):
        self.data = data
        self.record = record
        self.index = index
        self.mask: Tensor | None = None  # bool: the valid timesteps; layers pass it on with the tensor
        self.logits: tuple[str, Tensor] | None = None  # ("softmax" or "sigmoid", its input), for a fused cross-entropy
        # It may be the memory of a variable, which on the CPU is a view of aligned memory.
        if data.base is not None or device.gpu_used:
            copy_on_write.hold(self, _keep, device.root(data))

    if TYPE_CHECKING:  # ops.operators.attach_operators sets these

        def _operator(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...

        T: Tensor
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __pow__ = __rpow__ = _operator
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _operator
        __matmul__ = __rmatmul__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _operator
        __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _operator
        __lt__ = __le__ = __gt__ = __ge__ = _operator
        __pos__ = __abs__ = __invert__ = __neg__

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes, a tuple."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    def numpy(self) -> Array:
        """A copy of the value as a NumPy array. A step in which this is called cannot be recorded and runs eagerly.

        Example:
            >>> ops.ones(3).numpy()
            array([1., 1., 1.], dtype=float32)
        """
        value = device.read(self.data)
        return value.copy() if device.gpu_of(self.data) is None else value

    def item(self) -> Any:
        """The value of a tensor with one element as a Python number.

        Raises:
            ValueError: if there is not exactly one element.

        Example:
            >>> ops.sum([1.0, 2.0]).item()
            3.0
        """
        if self.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is not a single number: it has {self.size} elements")
        return device.read(self.data).item()

    def __getstate__(self) -> Any:
        state: Any = object.__getstate__(self)
        return state[0], {**state[1], "data": device.read(self.data)}

    def __setstate__(self, state: Any) -> None:
        for name, value in state[1].items():
            setattr(self, name, value)
        self.data = device.persistent_copy(state[1]["data"])

    def __copy__(self) -> Tensor:
        copied = Tensor(self.data, self.record, self.index)
        copied.mask, copied.logits = self.mask, self.logits
        return copied

    def __array__(self, dtype=None, copy=None) -> Array:
        return np.array(device.read(self.data), dtype=dtype, copy=True)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None) -> Any:
        """The tensor's own memory for other libraries, as in `torch.from_dlpack(tensor)`; they should only read it.

        A tensor that shares a variable's memory is copied, unless `copy` is False: assignments would change it.
        """
        array = device.readable(self.data)
        if copy is None and copy_on_write.is_shared(array):
            array = array.copy() if device.gpu_of(array) is None else copied(self).data
        return dlpack.export(array, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.device_of(self.data)

    @property
    def _numba_type_(self) -> Any:  # Numba reads it when a kernel is called with a Tensor
        raise TypeError(
            f"a compiled function was called with a Tensor of shape {self.shape}: kernels take arrays. Call it by device.launch "
            "in an op; `apply(op, vjp, [tensors])` of nbkeras.tensor gives the op the tensors' arrays"
        )

    @property
    def __cuda_array_interface__(self) -> dict:
        if device.gpu_of(self.data) is None:
            raise AttributeError("a tensor on the CPU has no __cuda_array_interface__")
        return device.readable(self.data).__cuda_array_interface__  # type: ignore[attr-defined]

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind == "f":
            raise TypeError(f"a tensor of {self.dtype} cannot be an index: cast it explicitly by ops.cast(x, 'int32')")
        return int(self.item())

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else str(self)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self) -> int:
        if self.data.ndim == 0:
            raise TypeError("a tensor without axes has no length")
        return len(self.data)

    def __repr__(self) -> str:
        if device.recorder() is not None or device.is_dry():
            return f"<Tensor shape={self.shape} dtype={self.dtype}>"
        return f"<Tensor shape={self.shape} dtype={self.dtype}, numpy={device.read(self.data)!r}>"

    __hash__ = object.__hash__


class Number(Tensor):
    """A Python number that was given to a recorded function, as int64 or float64. Its dtype is weak, like a Python number's.

    An op on a tensor and a Number uses the tensor's dtype. Alone, a Number becomes floatx, int32, or int64 if it is `wide`.
    """

    __slots__ = ("wide",)
    is_weak = True

    def __init__(self, data: Array, wide: bool = False, record: tape.Record | None = None, index: int = 0):
        super().__init__(data, record, index)
        self.wide = wide  # whether an integer does not fit into int32

    @property
    def default(self) -> np.dtype:
        """The dtype of the tensor that `as_tensor` makes of it."""
        return known_dtype(None if self.dtype.kind == "f" else np.int64 if self.wide else np.int32)

    def strong(self) -> Tensor:
        """A tensor with its value in 64 bits."""
        return Tensor(self.data, self.record, self.index)


def _keep(tensor: Tensor, preserved: copy_on_write.Preserved) -> None:
    tensor.data = preserved(tensor.data)


def is_in_step() -> bool:
    """Whether this thread is in a step or a layer's call. A change there is a part of the step."""
    return step_lock.inside() or bool(layer_stack.names)


def _set(variable: Variable, name: str, value: Any) -> None:
    """Set an attribute that steps read. A new value outdates the programs that use the variable."""
    before = getattr(variable, name, value)
    setattr(variable, name, value)
    if before is not value and not is_in_step():
        outdate(variable.data)


class Variable(Tensor):
    """A tensor that persists from step to step and is written in place: a weight, a state, a counter.

    `assign`, `assign_add` and `assign_sub` launch kernels, so replayed steps repeat them.

    Args:
        initializer: The first value: an array, list, number or tensor; or, with a shape, a function of (shape,
            dtype) or the name of an initializer.
        shape: The shape, for a function or a name.
        dtype: The dtype; None keeps an array's dtype, and is `config.floatx()` for Python floats and functions.
        trainable: Whether a GradientTape watches it, and the optimizer of a model updates it.
        autocast: Whether layers that compute in 16 bits cast it.
        aggregation: For a metric's state when several processes train together: see `Metric.add_weight`; else ignored.
        synchronization: Accepted and ignored.
        name: A name for messages and files.
        layout: Accepted and ignored.

    Raises:
        ValueError: for a function or name without a shape.

    Example:
        >>> v = keras.Variable([1.0, 2.0], name="v")
        >>> v.assign_add([10.0, 10.0]).numpy()
        array([11., 12.], dtype=float32)
        >>> keras.Variable("ones", shape=(2,)).numpy()
        array([1., 1.], dtype=float32)
    """

    __slots__ = (
        "name",
        "path",
        "_trainable",
        "declared_trainable",
        "_regularizer",
        "_constraint",
        "_leaf",
        "is_lent",
        "aggregation",
        "autocast",
    )
    made = 0  # the number of variables made; a cached list of variables is valid while this number is unchanged

    def __new__(cls, initializer=None, shape=None, dtype=None, *args, **options) -> Variable:
        if dtype is None and isinstance(initializer, Tensor):
            dtype = initializer.dtype
        known = dtype is not None or isinstance(initializer, str) or callable(initializer)
        is_half = cls is Variable and known and not isinstance(known_dtype(dtype), np.dtype)
        return super().__new__(halves.HalfVariable if is_half else cls)

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str | None = "none",
        synchronization: str | None = "auto",
        name: str | None = None,
        layout: Any = None,
    ):
        if isinstance(shape, str):
            raise TypeError(f"Variable takes a shape second, as Keras's: write Variable(value, name={briefly(shape)})")
        if isinstance(initializer, str):
            initializer = registry.of_kind("initializer").get(initializer)
        if callable(initializer):
            if shape is None:
                raise ValueError(f"Variable needs a shape for the initializer {briefly(initializer)}: shape=(...)")
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            initializer = initializer(shape, dtype=settings.standardize_dtype(dtype))
        value = initializer.numpy() if isinstance(initializer, Tensor) else dlpack.on_host(initializer)
        super().__init__(device.persistent_copy(array_of(value, dtype)))
        self.data = copy_on_write.share(self.data)
        Variable.made += 1
        self.name = naming.checked("variable", name) or "variable"
        self.path = naming.scoped(self.name)
        self._regularizer: Any = None
        self._constraint: Any = None
        self.autocast = autocast
        self.aggregation = annotated.one_of("Variable", "aggregation", aggregation, AGGREGATIONS) or "none"
        self._leaf = tape.leaf(self.name)
        self.is_lent = False  # whether another object owns `data`; then an assignment allocates a new array
        self.declared_trainable = trainable  # the initial value, which unfreezing a layer restores
        self._trainable = trainable
        self.trainable = trainable

    regularizer = property(
        lambda variable: variable._regularizer,
        lambda variable, value: _set(variable, "_regularizer", value),
        doc="A function of the variable whose result is added to losses, or None.",
    )
    constraint = property(
        lambda variable: variable._constraint,
        lambda variable, value: _set(variable, "_constraint", value),
        doc="A function of the variable whose result replaces it after an update, or None.",
    )

    @property
    def trainable(self) -> bool:
        """Whether a GradientTape watches it; may be set. It has no effect on dtypes other than float."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        _set(self, "_trainable", option.flag_of("Variable", "trainable", value))
        self.record = self._leaf if self._trainable and self.dtype.kind == "f" else None

    @property
    def value(self) -> Tensor:
        """A tensor of the current value. Gradients pass through it to the variable; later assignments do not change it.

        Example:
            >>> v = keras.Variable([1.0, 2.0])
            >>> before = v.value
            >>> v.assign([5.0, 6.0]).numpy(), before.numpy()
            (array([5., 6.], dtype=float32), array([1., 2.], dtype=float32))
        """
        rerun = tape.thread.rerun
        present = Tensor(self.data, self.record, self.index)
        return present if rerun is None else rerun.values.setdefault(self, present)

    def assign(self, value: Any) -> Variable:
        """Write a value in place.

        Args:
            value: A tensor or array of the variable's shape; it is cast to its dtype.

        Returns:
            The variable.

        Raises:
            ValueError: for another shape.

        Example:
            >>> keras.Variable([1.0, 2.0]).assign([5.0, 6.0]).numpy()
            array([5., 6.], dtype=float32)
        """
        self._changing()
        with on_device_of(self):
            source = as_tensor(value, self.dtype)
            if source.shape != self.shape:
                raise ValueError(
                    f"cannot assign to variable {self.name!r}: expected shape {self.shape}, received {source.shape}"
                )
            self._write(device.copy, source)
        return self

    def assign_add(self, value: Any) -> Variable:
        """Add a value in place.

        Args:
            value: A tensor, array or number that broadcasts to the variable's shape.

        Returns:
            The variable.

        Example:
            >>> keras.Variable([1.0, 2.0]).assign_add(3.0).numpy()
            array([4., 5.], dtype=float32)
        """
        return self._changed(np.add, value)

    def assign_sub(self, value: Any) -> Variable:
        """Subtract a value in place.

        Args:
            value: A tensor, array or number that broadcasts to the variable's shape.

        Returns:
            The variable.
        """
        return self._changed(np.subtract, value)

    def _changing(self) -> None:
        if tape.thread.rerun is not None:
            tape.thread.rerun.changing(self)

    def _changed(self, kernel: Callable, value: Any) -> Variable:
        self._changing()
        with on_device_of(self):
            source = as_tensor(value, self.dtype)
            ends = zip(reversed(source.shape), reversed(self.shape), strict=False)
            if source.ndim > self.ndim or any(size not in (1, own) for size, own in ends):
                raise ValueError(
                    f"cannot add to variable {self.name!r} of shape {self.shape} in place, or subtract from it: received a value "
                    f"of shape {source.shape}, which does not broadcast to it"
                )
            self._write(kernel, source, self.data)
        return self

    def _write(self, kernel: Callable, source: Tensor, *operands: Array) -> None:
        """Launch kernel(*operands, source, data). Tensors that hold the old value keep it."""
        given = source.data
        if self.is_lent:
            self.data, self.is_lent = copy_on_write.share(device.empty(self.shape, self.dtype)), False
        else:
            copy_on_write.will_write(self.data)
            given = source.data  # if the source is a view of the variable, it has its own copy now
        device.launch(kernel, *operands, device.to_this_device(adopt(given)), self.data)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.data = copy_on_write.share(self.data)

    def __copy__(self) -> Variable:
        return copying.deepcopy(self)

    def rebind(self, array: Array) -> None:
        """Move the value into another array of the same shape and dtype (a view of an optimizer's flat buffer).

        Args:
            array: The array; its content is replaced.
        """
        before = self.data
        copy_on_write.will_write(array)
        with device.ordinary(), on_device_of(self):
            device.launch(device.copy, before, array)
        self.data = copy_on_write.share(array)
        outdate(before)

    def move_out(self) -> None:
        """Move the value into its own memory, for example out of an optimizer's flat buffer."""
        with on_device_of(self):
            self.rebind(device.persistent_empty(self.shape, self.dtype))

    def __repr__(self) -> str:
        about = f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}"
        if device.recorder() is not None or device.is_dry():
            return f"{about}>"
        return f"{about}, value={device.read(self.data)}>"


def assign_all(pairs: Iterable[tuple[Variable, Any]]) -> None:
    """Write values into variables atomically: a step of another thread uses only old values or only new ones."""
    with step_lock.alone():
        for variable, value in pairs:
            variable.assign(value)


_UNQUANTIZED = frozenset((Tensor, Variable))
_EXACT = 2**53  # floats of 64 bits hold all integers up to this one
_OF_THE_CPU = (np.ndarray, np.generic, int, float, list)


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """A tensor of anything array-like.

    Args:
        value: A tensor, array, number, list of numbers, or list of tensors of one shape, which are stacked with
            a gradient.
        dtype: The dtype; None keeps the dtype of arrays and tensors. Python floats become `config.floatx()`,
            integers int32.

    Returns:
        A tensor. If the value is already a tensor of that dtype, the same object.

    Raises:
        TypeError: for values that are neither numbers nor booleans.

    Example:
        >>> from nbkeras.tensor import as_tensor
        >>> as_tensor([1, 2]).dtype.name, as_tensor(1.5).dtype.name, as_tensor([1, 2], "float64").dtype.name
        ('int32', 'float32', 'float64')
    """
    if isinstance(value, Tensor):
        if type(value) is Tensor and (dtype is None or value.data.dtype is dtype) and device.is_plain():
            return value
        if device.recorder() is not None:
            take_as_constants([value])
        if value.is_quantized and dtype != np.int8:
            value = value.as_float()  # type: ignore[attr-defined]
        if value.is_weak:
            return as_tensor(value.strong(), value.default if dtype is None else dtype)  # type: ignore[attr-defined]
        if halves is not None:
            (value,) = halves.promoted((value,))
            return value if dtype is None else halves.cast(value, known_dtype(dtype))
        return value if dtype is None or value.dtype == dtype else converted(value, known_dtype(dtype))
    if isinstance(value, list | tuple) and holds_tensors(value):
        return as_tensor(_stacked(value), dtype)
    if not isinstance(value, _OF_THE_CPU):
        value = dlpack.received(value)
        if device.gpu_of(value) is not None:
            return as_tensor(Tensor(value), dtype)
    array = array_of(value, dtype)
    if isinstance(value, np.ndarray) and (array is value or array.base is not None) and _is_computed():
        array = array.copy()  # the caller may change its array
    array = device.persistent(array)
    if isinstance(value, int | list | tuple) and array.dtype.kind != "f":
        device.mark_constant(array)
    return Tensor(array) if halves is None else halves.received(Tensor(array), value, dtype)


def _is_computed() -> bool:
    """Whether ops compute eagerly on the CPU: a recorded step reads arrays again at each replay, and a GPU always copies."""
    return device.recorder() is None and not device.is_dry() and device.gpu() is None


def holds_tensors(values: list | tuple, depth: int = 64) -> bool:
    """Whether a list, or a list nested in it, contains a Tensor. Arrays have no more axes than `depth`."""
    return depth > 0 and any(
        isinstance(item, Tensor) or (isinstance(item, list | tuple) and holds_tensors(item, depth - 1))
        for item in values
    )


def _stacked(values: list | tuple) -> Tensor:
    tensors = [as_tensor(value) for value in values]
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"tensors in a list must have one shape, received {[tensor.shape for tensor in tensors]}")
    dtype = result_dtype(*(tensor.dtype for tensor in tensors))
    return apply(shape_kernels.stack, shape_kernels.stack_vjp, [as_tensor(t, dtype) for t in tensors], axis=0)


def promote(*values: Any) -> list[Tensor]:
    """Convert values to Tensors of one dtype.

    Floats win over integers. Numbers and arrays are weak: `tensor * 2.5` keeps the tensor's float dtype.
    """
    if halves is not None:
        values = halves.promoted(values)
    if _are_alike(values):
        return list(values)
    if len(values) == 2 and (pair := _float_and_number(*values) or _float_and_number(*values[::-1])):
        return pair if pair[0] is values[0] else pair[::-1]
    values = tuple(as_tensor(v) if isinstance(v, list | tuple) and holds_tensors(v) else v for v in values)
    tensors = [value for value in values if isinstance(value, Tensor) and not value.is_weak]
    if any(tensor.is_quantized for tensor in tensors):
        return promote(*(as_tensor(value) if isinstance(value, Tensor) else value for value in values))
    if not tensors:
        tensors = [as_tensor(value) for value in values]
        values = tuple(tensors)
    dtype = result_dtype(*[tensor.dtype for tensor in tensors])
    for value in values:
        if not isinstance(value, Tensor) or value.is_weak:
            dtype = _common_dtype(dtype, value)
    return [as_tensor(value, dtype) for value in values]


def _are_alike(values: tuple) -> bool:
    """Whether values are Tensors of one dtype that need no conversion, outside recordings."""
    dtype = None
    for value in values:
        if type(value) not in _UNQUANTIZED:
            return False
        if value.data.dtype is not dtype:
            if dtype is not None:
                return False
            dtype = value.data.dtype
    return device.is_plain()


def _float_and_number(tensor: Any, number: Any) -> list[Tensor] | None:
    """A Tensor of floats and a Python number as a Tensor of its dtype, outside recordings; None for other values."""
    is_number = type(number) is float or (type(number) is int and -_EXACT <= number <= _EXACT)
    if not is_number or type(tensor) not in _UNQUANTIZED or tensor.data.dtype.kind != "f" or not device.is_plain():
        return None
    return [tensor, Tensor(np.array(number, tensor.data.dtype))]


def _common_dtype(dtype: np.dtype, value: Any) -> np.dtype:
    """The dtype of an op on tensors of `dtype` and a value that is not a Tensor."""
    if dtype.kind == "f":
        return dtype
    if isinstance(value, Number):
        if value.dtype.kind == "i" and not np.can_cast(value.default, dtype):
            return _common_dtype(dtype, int(value))  # its value decides
        return known_dtype(None) if value.dtype.kind == "f" else dtype
    other = dlpack.dtype_of(value)
    if other.kind == "f":
        return known_dtype(None)
    if other.kind == "b" or (isinstance(value, int) and dtype.kind != "b" and _holds(dtype, value)):
        return dtype
    return result_dtype(dtype, other)


def _holds(dtype: np.dtype, value: int) -> bool:
    """Whether an integer dtype can represent a value."""
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max


def as_float(value: Any) -> Tensor:
    """A float Tensor; integers and booleans become floatx."""
    tensor = as_tensor(value)
    return tensor if tensor.dtype.kind == "f" else as_tensor(tensor, settings.floatx())


def floats(*values: Any) -> list[Tensor]:
    """`promote`, to a float dtype."""
    tensors = promote(*values)
    return tensors if tensors[0].data.dtype.kind == "f" else [as_float(tensor) for tensor in tensors]


def as_index(value: Any, dtype: Any = np.int64) -> Tensor:
    """Convert indices to an int64 or int32 Tensor: floats are truncated; values beyond the dtype become an invalid index."""
    tensor = as_tensor(value)
    if np.can_cast(tensor.dtype, dtype):
        return as_tensor(tensor, dtype)
    return apply(indexing_kernels.whole, None, [tensor], dtype=np.dtype(dtype))


def as_integer(value: Any, what: str) -> Tensor:
    """`as_index` in int64; TypeError if the value does not hold integers."""
    tensor = as_tensor(value)
    if tensor.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, received dtype {tensor.dtype}; use ops.cast(x, 'int32') on purpose")
    return as_index(tensor)


def unfilled(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A tensor for a run that computes no values."""
    made = Tensor(np.empty(shape, dtype))
    return made if isinstance(dtype, np.dtype) else halves.marked(made, dtype)


def like(source: Tensor, gradient: Tensor) -> Tensor:
    """A gradient in the dtype of its source, if that has 16 bits."""
    return halves.cast(gradient, source.dtype) if source.is_half else gradient


def converted(tensor: Tensor, dtype: np.dtype) -> Tensor:
    """A copy of a tensor in a dtype of memory; the gradient passes through."""
    return apply(_cast_op, _cast_vjp, [tensor], dtype=dtype)


def copied(tensor: Tensor) -> Tensor:
    """A copy of a tensor, in its own memory; the gradient passes through."""
    return converted(tensor, tensor.data.dtype)


def _cast_op(x, dtype):
    y = device.empty(x.shape, dtype)
    device.launch(device.copy, x, y)
    return y, x.dtype


def _cast_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, saved)
    device.launch(device.copy, dy, dx)
    return (dx,)


def apply(op: Callable, op_vjp: Callable | None, tensors: Sequence[Tensor | None], **constants) -> Any:
    """Run an op of kernels on tensors, and record it on the tape if a gradient may be needed; see docs/custom-ops.md.

    Args:
        op: A function (*arrays, **constants) that returns (array or tuple of arrays, saved); saved is kept for
            op_vjp.
        op_vjp: A function (saved, dy, needs) that returns a tuple with the gradient of each input; None for an
            op without a gradient.
        tensors: The inputs; a None among them is passed on as None.
        **constants: Further arguments of op, which are not differentiated.

    Returns:
        A tensor, or a tuple of tensors.

    Raises:
        TypeError: for an input that is not a tensor; `as_tensor` makes one.

    Example:
        >>> from nbkeras.kernels.runtime import device
        >>> from nbkeras.tensor import apply, as_tensor
        >>> def twice_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.add, x, x, y)
        ...     return y, None
        >>> def twice_vjp(saved, dy, needs):
        ...     dx = device.output(needs[0], dy.shape, dy.dtype)
        ...     device.launch(np.add, dy, dy, dx)
        ...     return (dx,)
        >>> apply(twice_op, twice_vjp, [as_tensor([1.0, 2.0])]).numpy()
        array([2., 4.], dtype=float32)
    """
    arrays: list[Array | None] = []
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            arrays.append(tensor.data)
        elif tensor is None:
            arrays.append(None)
        else:
            raise _not_a_tensor(op, tensor)
    if halves is not None and halves.concerns(tensors, constants):
        return halves.applied(op, op_vjp, tensors, constants)
    if tape.thread.leaves_fast_path:
        return _apply_specially(op, op_vjp, tensors, constants)
    if device.is_plain():
        return _recorded(op, op_vjp, tensors, arrays, *compute(op, arrays, constants))
    if device.recorder() is not None:
        take_as_constants(tensors)
        arrays = [None if t is None else t.data for t in tensors]
    if device.gpu_used and any(device.is_on_other_device(array) for array in arrays):
        with device.on(_common_gpu(tensors)):
            return apply(op, op_vjp, [None if t is None else brought(t) for t in tensors], **constants)
    return _recorded(op, op_vjp, tensors, arrays, *compute(op, arrays, constants))


def take_as_constants(tensors: Sequence[Tensor | None]) -> None:
    """Copy views of variables that were made before the current recording began."""
    for tensor in tensors:
        if type(tensor) is Tensor:
            copy_on_write.own(tensor, tensor.data)


def _apply_specially(op: Callable, op_vjp: Callable | None, tensors: Sequence[Tensor | None], constants: dict) -> Any:
    """`apply` with a listener, a checker, nested tapes or `autodiff.vmap`."""
    state = tape.thread
    if state.rerun is not None:
        tensors = [value_of(each) for each in tensors]
    if state.levels and (mapped := stand_in(tensors)) is not None:
        return mapped.applied(op, op_vjp, tensors, constants)  # it calls `apply`, so the listener sees those ops
    result = (tape.handler() or apply_plainly)(op, op_vjp, tensors, constants)
    if state.listener is not None:
        state.listener(op, tensors, constants, result)
    if state.checker is not None:
        state.checker.outputs(op, tensors, result)
    return result


def stand_in(tensors: Iterable[Tensor | None]) -> Any:
    """The first value that is not an array but an object that applies ops to itself, as in `autodiff.vmap`; else None."""
    return next((t.data for t in tensors if t is not None and not isinstance(t.data, device.ARRAYS)), None)


def apply_plainly(op: Callable, op_vjp: Callable | None, tensors: Sequence[Tensor | None], constants: dict) -> Any:
    """`apply` on its fast path: without a listener, nested tapes or `autodiff.vmap`."""
    with tape.thread.now(leaves_fast_path=False):
        return apply(op, op_vjp, tensors, **constants)


def _not_a_tensor(op: Callable, value: Any) -> TypeError:
    if hasattr(value, "symbolic_op"):
        cure = "decorate the function that calls apply with @op of nbkeras.tensor, and call it with the symbolic tensor"
    else:
        cure = "call as_tensor(x) of nbkeras.tensor on each input first"
    return TypeError(f"apply needs Tensors for the op {named(op)}, received {short_description(value)}: {cure}")


def _recorded(op, op_vjp, tensors, arrays, y, saved) -> Any:
    """The op's outputs as Tensors, with a Record if a gradient may be needed."""
    record = None
    if op_vjp is not None and tape.thread.tapes:
        parents = tuple([None if t is None or t.record is None else (t.record, t.index) for t in tensors])
        if any(parents):
            forms = tuple([None if a is None else (a.shape, a.dtype) for a in arrays])
            outputs = len(y) if isinstance(y, tuple) else 1
            record = tape.Record(op.__name__, op_vjp, saved, parents, forms, outputs, layer_stack.layer)
            record.holds(arrays)
    if isinstance(y, tuple):
        return tuple(Tensor(array, record and _for_dtype(record, array), i) for i, array in enumerate(y))
    return Tensor(y, record and _for_dtype(record, y))


def listening(applied: Callable) -> contextlib.AbstractContextManager:
    """In the block, call `applied(op, tensors, constants, result)` after each op of this thread; exports use it."""
    return tape.thread.now(listener=applied)


def on_own_device(method: F) -> F:
    """Decorator of methods that compute on their object's device, `_gpu`."""

    @user_errors.entry
    @functools.wraps(method)
    def call(self, *args, **kwargs):
        if self._gpu is device.gpu():
            return method(self, *args, **kwargs)
        with device.on(self._gpu):
            return method(self, *args, **kwargs)

    return cast(F, call)


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager:
    """`with on_device_of(variable):` computes on the device that holds the variable."""
    return device.on(device.gpu_of(tensor.data)) if device.is_on_other_device(tensor.data) else contextlib.nullcontext()


def _common_gpu(tensors: Sequence[Tensor | None]) -> Any:
    """The device for an op on these tensors: the GPU that holds one of them, or None for the CPU."""
    return next((p for p in (device.gpu_of(t.data) for t in tensors if t is not None) if p is not None), None)


def brought(tensor: Tensor) -> Tensor:
    """The tensor on the current device, copied if necessary. Raises ValueError if a gradient would have to cross devices."""
    is_array = isinstance(tensor.data, device.ARRAYS)  # False in `autodiff.vmap`: its ops copy their own inputs
    if not is_array or not device.is_on_other_device(tensor.data):
        return tensor
    if tensor.record is not None and tape.is_recording():
        where, here = device.gpu_of(tensor.data) or "the CPU", device.gpu() or "the CPU"
        raise ValueError(
            f"an op was given tensors on {where} and on {here} while a gradient is recorded: make all variables of a "
            "computation on one device (nbkeras.config.set_device, or `with nbkeras.device(...)`)"
        )
    return Tensor(device.to_this_device(tensor.data))


def _for_dtype(record: tape.Record | None, array: Array) -> tape.Record | None:
    return record if array.dtype.kind == "f" else None


# types of arguments that are neither symbolic nor contain symbolic tensors; other types may or may not be
NOT_SYMBOLIC = frozenset((Tensor, Variable, np.ndarray, int, float, bool, str, type(None), types.FunctionType))


def op(function: F) -> F:
    """Decorator of your own ops: they then take symbolic tensors too.

    A call with a symbolic tensor adds a node to that tensor's graph instead of computing.

    Args:
        function: A function of tensors that returns tensors. The arguments of nbkeras's own ops are checked
            against the annotations of their parameters.

    Returns:
        The function. It takes tensors and symbolic tensors.

    Example:
        >>> from nbkeras.tensor import op
        >>> @op
        ... def cubed(x):
        ...     return x * x * x
        >>> cubed(ops.convert_to_tensor(2.0)).item(), cubed(layers.Input((3,))).shape
        (8.0, (None, 3))
    """
    package, _, module = (function.__module__ or "").partition(".")  # None for functions that `exec` makes
    check = annotated.checker_of(function) if package == "nbkeras" else None

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            if check is not None and (len(args) > check.first or kwargs):
                check(args, kwargs)
            for arg in (*args, *kwargs.values()) if kwargs else args:
                if type(arg) in NOT_SYMBOLIC:
                    continue
                symbol = arg
                if isinstance(arg, list | tuple):
                    symbol = next((a for a in arg if hasattr(a, "symbolic_op")), None)
                if hasattr(symbol, "symbolic_op"):
                    return symbol.symbolic_op(call, args, kwargs)
            result = function(*args, **kwargs)
            return result if type(result) is Tensor else values_of(result)
        except Exception as error:
            user_errors.shorten(error)
            raise

    user_errors.is_entry(call)
    if package == "nbkeras":
        own_ops[f"{module}.{function.__name__}"] = call
    return cast(F, call)


def value_of(tensor: Any) -> Any:
    """A tensor of a variable's current value; any other object is returned unchanged."""
    return tensor.value if isinstance(tensor, Variable) else tensor


def values_of(result: Any) -> Any:
    """The result of an op with tensors in place of variables: an op that has nothing to do returns its inputs."""
    if type(result) in (list, tuple):
        return type(result)(map(values_of, result)) if any(isinstance(each, Variable) for each in result) else result
    return value_of(result)


# nbkeras's ops by module and name, as model files name them: 'random.dropout'
own_ops: dict[str, Callable] = {}


def gradient(
    targets: Sequence[Tensor],
    sources: Sequence[Tensor],
    seeds: Sequence[Any] | None = None,
    into: Sequence[Array | None] | None = None,
    retain: bool = False,
    as_is: Sequence[bool] | None = None,
    within: tape.GradientRecording | None = None,
    delivered: Callable[[int], None] | None = None,
) -> list[Any]:
    """Gradients of the sum of targets with respect to sources, as arrays; `GradientTape.gradient` is the public form.

    Args:
        targets: Tensors.
        sources: Tensors that the tape watched.
        seeds: Factors of the elements of each target; None for ones.
        into: For each source the array to write its gradient into, or None.
        retain: Whether the tape can be used for another backward pass.
        as_is: For each source, whether its gradient may be an object that represents an array; see
            `tape.backward`.
        within: The tape whose records are followed; None for all.
        delivered: Called with the index of each source as soon as its gradient is complete, during the pass.

    Returns:
        A list with an array for each source; None where the targets do not depend on it.

    Example:
        >>> from nbkeras.testing import gradient
        >>> w = keras.Variable([1.0, 2.0])
        >>> with keras.GradientTape():
        ...     loss = ops.sum(w * w)
        >>> gradient([loss], [w])
        [array([2., 4.], dtype=float32)]
    """
    if targets and device.is_on_other_device(targets[0].data):
        with on_device_of(targets[0]):
            return gradient(targets, sources, seeds, into, retain, as_is, within, delivered)
    starts = []
    for target, seed in zip(targets, seeds or [None] * len(targets), strict=True):
        if target.record is None:
            continue
        if seed is None:
            dy = device.empty(target.shape, target.dtype)
            device.launch(device.fill, dy, 1)
        else:
            dy = device.unread(as_tensor(seed, target.dtype).data)
            if dy.shape != target.shape:
                raise ValueError(f"output_gradients must have the target's shape {target.shape}, received {dy.shape}")
        starts.append(((target.record, target.index), dy))
    keys = [(s.record if s.record is not None else tape.leaf("constant"), s.index) for s in sources]
    return tape.backward(starts, keys, into, retain, as_is, within, delivered)
