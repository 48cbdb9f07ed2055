"""An ONNX graph under construction: names for tensors, constants, and shapes that depend on open axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor
from nbkeras.export.trace import Axis, Size, Trace, Unsupported

OPSET = 18
LIMIT = (1 << 31) - (1 << 20)  # bytes of constants: a file is one Protocol Buffers message of less than 2 GB


class OnnxGraph:
    """Nodes and initializers; values are named by strings."""

    def __init__(self, onnx: Any, trace: Trace, input_names: Sequence[str], output_names: Sequence[str]):
        self.onnx, self.trace = onnx, trace
        self._taken = {*input_names, *output_names}
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}  # name: value
        self.input_names = list(input_names)
        self._names: dict[int, str] = {
            id(tensor.data): name for tensor, name in zip(trace.runs[0].inputs, input_names, strict=True)
        }
        self._constant_names: dict[Any, str] = {}
        self._reshaped: dict[str, tuple[str, tuple]] = {}  # reshaped value -> the value before, and its shape
        self._sizes: dict[Axis, str] = {}
        self._count = 0
        self._bytes = 0
        self.op: Any = None  # the op being written, a nbkeras.export.op.Op

    # -------------------- nodes and constants --------------------

    def fresh(self, hint: str) -> str:
        """An unused name for a value."""
        while True:
            self._count += 1
            if (name := f"{hint}_{self._count}") not in self._taken:
                return name

    def add(self, kind: str, *inputs: str | None, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or a list of names. None or '' is an omitted input."""
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        given = [name or "" for name in inputs]
        while given and not given[-1]:
            given.pop()
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(kind, given, names, **kept))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = None, hint: str = "constant") -> str:
        """The name of a constant; equal ones are shared."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constant_names:
            self._bytes += array.nbytes
            if self._bytes > LIMIT:
                raise Unsupported(f"an ONNX file holds at most 2 GB, and the weights so far need {self._bytes} bytes")
            self._constant_names[key] = self.fresh(hint)
            self.constants[self._constant_names[key]] = array
        return self._constant_names[key]

    def instead(self, array: np.ndarray, name: str) -> str:
        """The name of a new constant that replaces one use of the constant `name`."""
        new = self.fresh(name.rpartition("_")[0])
        self.constants[new] = array
        return new

    def initializers(self) -> list[Any]:
        """The constants that the nodes use, as ONNX initializers."""
        used = {name for node in self.nodes for name in names_read(node)}
        return [
            self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            for name, array in self.constants.items()
            if name in used
        ]

    def transpose(self, name: str, axes: Sequence[int]) -> str:
        """A value with its axes in another order. Weights are stored in that order."""
        if name in self.constants:
            return self.instead(self.constants[name].transpose(axes), name)
        return self.add("Transpose", name, perm=list(axes))

    def reshape(self, name: str, shape: tuple, target: tuple) -> str:
        """A value of a given shape, reshaped. Two successive reshapes become one or none."""
        name, shape = self.before_reshape(name, shape)
        if shape == target:
            return name
        if name in self.constants:
            return self.instead(self.constants[name].reshape(target), name)
        result = self.add("Reshape", name, self.target(target))
        self._reshaped[result] = name, shape
        return result

    def before_reshape(self, name: str, shape: tuple) -> tuple[str, tuple]:
        """The value before a reshape, and its shape; a value that was not reshaped is returned unchanged."""
        return self._reshaped.get(name, (name, shape))

    def type_of(self, dtype: Any) -> int:
        """ONNX's number for a dtype."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def cast(self, name: str, dtype: Any) -> str:
        """A value in another dtype."""
        return self.add("Cast", name, to=self.type_of(dtype))

    # -------------------- tensors of the trace --------------------

    def bind(self, tensor: Tensor, name: str) -> None:
        """Set the name of a traced tensor's value."""
        self._names[id(tensor.data)] = name

    def value(self, versions: Sequence[Tensor | None]) -> str:
        """The name of a traced tensor's value, given its version in each run; '' for an omitted tensor."""
        tensor = versions[0]
        if tensor is None:
            return ""
        known = self._names.get(id(tensor.data))
        if known is None:
            known = self._constant_tensor([version for version in versions if version is not None])
            if all(version is tensor for version in versions):
                self._names[id(tensor.data)] = known
        return known

    def _constant_tensor(self, versions: list[Tensor]) -> str:
        """The value of a tensor that no op made: a variable, or numbers, which may repeat along open axes or form a range."""
        arrays = [np.asarray(version) for version in versions]
        first, hint = arrays[0], getattr(versions[0], "path", "constant")
        if all(a.shape == first.shape for a in arrays):
            if any(not np.array_equal(a, first, equal_nan=a.dtype.kind == "f") for a in arrays):
                raise Unsupported(
                    "a tensor was computed from the inputs, or their sizes, with Python or NumPy instead of nbkeras.ops"
                )
            return self.constant(first, hint=hint)
        shape = self.trace.shape(versions)
        if len(shape) == 1 and first.size > 1 and isinstance(shape[0], Size):
            step = first[1] - first[0]
            if all(np.array_equal(a, first[0] + step * np.arange(a.size, dtype=a.dtype)) for a in arrays):
                return self._range(first, step, shape[0])
        open_axes = tuple(axis for axis, size in enumerate(shape) if isinstance(size, Size))
        one = first[tuple(slice(0, 1) if axis in open_axes else slice(None) for axis in range(first.ndim))]
        if any(not np.array_equal(a, np.broadcast_to(one, a.shape)) for a in arrays):
            raise Unsupported("a constant depends on the size of an open axis: give its size in input_signature")
        return self.add("Expand", self.constant(one), self.shape(shape))

    def _range(self, first: np.ndarray, step: Any, size: Size) -> str:
        count = self.cast(self.add("Squeeze", self.shape([size])), first.dtype)
        end = self.add("Add", self.add("Mul", count, self.constant(step, first.dtype)), self.constant(first[0]))
        return self.add("Range", self.constant(first[0]), end, self.constant(step, first.dtype))

    # -------------------- shapes --------------------

    def shape(self, sizes: Sequence[Any]) -> str:
        """Sizes, known or open, as an int64 vector."""
        if not any(isinstance(size, Size) for size in sizes):
            return self.constant(np.array(sizes, np.int64).reshape(-1))
        parts = [self._size(size) if isinstance(size, Size) else self.constant([size], np.int64) for size in sizes]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def _size(self, size: Size) -> str:
        if size.factors is None:
            return self._by_input(size)
        total = self.constant([size.constant], np.int64) if size.constant or not size.factors else None
        for axis, factor in size.factors:
            term = self._open(axis)
            if factor != 1:
                term = self.add("Mul", term, self.constant([factor], np.int64))
            total = term if total is None else self.add("Add", total, term)
        return total  # type: ignore[return-value]

    def _by_input(self, size: Size) -> str:
        """A size that is a multiple of an axis of the op's inputs."""
        for position, name in enumerate(self.op.inputs if self.op else ()):
            for axis, own in enumerate(self.op.sizes(position) if name else ()):
                if not isinstance(own, Size):
                    continue
                factor, rest = divmod(size.values[0], own.values[0])
                if not rest and all(
                    value == factor * own_value for value, own_value in zip(size.values, own.values, strict=True)
                ):
                    term = self.add("Shape", name, start=axis, end=axis + 1)
                    return term if factor == 1 else self.add("Mul", term, self.constant([factor], np.int64))
        raise Unsupported(
            "a size depends on the open axes in a way that is neither a sum nor a multiple of them: give the sizes of the "
            "model's inputs in input_signature"
        )

    def _open(self, axis: Axis) -> str:
        if axis not in self._sizes:
            number, position = axis
            name = self.input_names[number]
            self._sizes[axis] = self.add("Shape", name, start=position, end=position + 1)
        return self._sizes[axis]

    def target(self, sizes: Sequence[Any]) -> str:
        """The target shape of a reshape; one open size may be -1."""
        open_ones = [i for i, size in enumerate(sizes) if isinstance(size, Size)]
        if len(open_ones) == 1 and 0 not in [size for size in sizes if not isinstance(size, Size)]:
            sizes = [-1 if i == open_ones[0] else size for i, size in enumerate(sizes)]
        return self.shape(sizes)


def names_read(node: Any) -> list[str]:
    """The names of all values that a node reads, including those in a loop's graph."""
    inner = [each for attribute in node.attribute for each in attribute.g.node]
    return [*node.input, *(name for each in inner for name in names_read(each))]
