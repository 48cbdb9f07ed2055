"""Frozen: a model's inference with fixed weights and without the model, returned by `model.frozen()`."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.data.input_matching import GraphInputs, check_numbers
from nbkeras.engine import step_lock, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import on_gpu
from nbkeras.inference import signature
from nbkeras.inference.portable import Programs
from nbkeras.inference.ready import (
    Ports,
    SessionBase,
    are_rows_apart,
    check_arrays,
    check_device,
    check_rows_of_outputs,
    counts_of,
    cover,
    padded,
    rows_together,
    specs_of,
    usual_costs,
)
from nbkeras.inference.recording import Recording, record

Array = np.ndarray
_PURPOSE = "be frozen"
_PART_SECONDS = 2e-5  # overhead of each part of a batch besides its program: slicing, padding, joining


class _Form(NamedTuple):
    """The description of a frozen model without its programs, for pickling.

    structures: of the inputs and outputs. tables: see `GraphInputs.tables`. is_by_rows: whether the rows of a batch are
    independent.
    """

    name: str
    inputs: tuple[tuple, ...]  # the fields of a TensorSpec, dtypes as strings
    outputs: tuple[tuple, ...]
    structures: tuple[Any, Any]
    tables: dict[int, tuple[int, str]]
    is_by_rows: bool


class _State:
    """The data that a call uses; `replace` exchanges it as one."""

    def __init__(self, form: _Form, programs: Programs):
        self.form, self.programs, self.run = form, programs, programs.run
        self.inputs, self.outputs = specs_of(form.inputs), specs_of(form.outputs)
        self.batch_sizes: tuple[int, ...] = tuple(sorted(programs.steps))
        self.output = form.structures[1]
        self.ports = GraphInputs(Ports(form.structures[0], self.inputs), form.name, tables=form.tables)
        self.is_one = not structures.is_nested(self.output)
        self.dtype = self.inputs[0].dtype
        self.check = functools.partial(self._check_numbers, 0) if form.tables else None
        self._use(usual_costs(self.batch_sizes))

    def _use(self, costs: tuple[float, ...]) -> None:
        """Use these costs of the programs for the choice of parts."""
        self.costs = costs
        # Shape of an array for a model's only input -> the recorded size. For these only the dtype and the values are checked
        own = [size for size in self.batch_sizes if cover(size, self.batch_sizes, costs) == (size,)]
        self.shapes = {(size, *self.inputs[0].shape[1:]): size for size in own} if len(self.inputs) == 1 else {}

    def compute(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for arrays of any number of rows."""
        rows = len(arrays[0])
        parts = cover(rows, self.batch_sizes, self.costs) if self.form.is_by_rows else (rows,)
        if parts == (rows,) and rows in self.programs.steps:
            return self.run(rows, arrays)
        if not self.form.is_by_rows:
            raise rows_together(self.form.name, self.batch_sizes, rows)
        shapes: Any = [(rows, *spec.shape[1:]) for spec in self.outputs]
        results = [np.empty(shape, spec.dtype) for shape, spec in zip(shapes, self.outputs, strict=True)]
        start = 0
        for size in parts:
            end = min(start + size, rows)
            part = [padded(array[start:end], size) for array in arrays]
            for result, found in zip(results, self.run(size, part), strict=True):
                result[start:end] = found[: end - start]
            start = end
        return results

    def measure(self, seconds: float) -> None:
        """Run all programs in turn, at least once each, for about `seconds`; then choose programs by the measured times."""
        if not self.form.is_by_rows:
            return
        forms: Any = [(spec.shape[1:], spec.dtype) for spec in self.inputs]
        arrays = {size: [np.zeros((size, *rest), dtype) for rest, dtype in forms] for size in self.batch_sizes}
        least = dict.fromkeys(self.batch_sizes, math.inf)
        begin = now = time.perf_counter()
        while now == begin or now - begin < seconds:
            for size in self.batch_sizes:
                self.run(size, arrays[size])
                before, now = now, time.perf_counter()
                least[size] = min(least[size], now - before)
        self._use(tuple(least[size] + _PART_SECONDS for size in self.batch_sizes))

    def checked(self, arrays: Sequence[Array]) -> None:
        """Raise ValueError, naming the input, for arrays that do not match the inputs exactly."""
        check_arrays(self.form.name, self.inputs, arrays)
        for array, spec in zip(arrays, self.inputs, strict=True):
            if array.ndim != len(spec.shape) or array.shape[1:] != spec.shape[1:]:
                raise ValueError(f"input {spec.name!r} expects shape {spec.shape}, received {array.shape}")
        self.check_rows(arrays)
        for position in self.form.tables:
            self._check_numbers(position, arrays[position])

    def _check_numbers(self, position: int, array: Array) -> None:
        check_numbers(array, *self.form.tables[position], self.inputs[position].name)

    def at_once(self, x: Any) -> list[Array] | None:
        """The outputs, if x is an array of a recorded size for the model's only input; else None."""
        if type(x) is np.ndarray and x.dtype is self.dtype:
            size = self.shapes.get(x.shape)
            if size is not None:
                if self.check is not None:
                    self.check(x)
                return self.run(size, (x,))
        return None

    def check_rows(self, arrays: Sequence[Array]) -> None:
        """Raise ValueError if arrays have no rows or different numbers of rows."""
        counts = {spec.name: len(array) for spec, array in zip(self.inputs, arrays, strict=True)}
        if len(set(counts.values())) != 1:
            raise ValueError(f"all inputs must have the same number of rows, received {counts}")
        if not len(arrays[0]):
            raise ValueError(f"input {self.inputs[0].name!r} has no rows")


class Frozen(SessionBase):
    """A model's inference with fixed weights: recorded programs that run without the Python layers.

    `model.frozen()` makes one. Any number of threads may call it. It works in forked processes and can be pickled; protocol 5
    keeps the weights out of the pickle as one buffer. `load(..., mapped=True)` maps a file of `save`: all processes that load
    it share the memory of its weights.

    Args:
        form: The description of the model, which `model.frozen` makes.
        programs: The recorded programs.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
        >>> frozen = model.frozen()
        >>> frozen.save("model.frozen")
        >>> again = keras.inference.Frozen.load("model.frozen", safe_mode=False)
        >>> again(np.array([[1.0, 2.0]]))
        array([[3.]], dtype=float32)
    """

    _state: _State

    def __init__(self, form: _Form, programs: Programs):
        super().__init__(_State(form, programs))

    def __repr__(self) -> str:
        return f"<Frozen {self.name!r}, batch sizes {self.batch_sizes}>"

    def __call__(self, x: Any) -> Any:
        """The outputs, as `predict` returns them.

        Args:
            x: An array, or a list or dict of arrays, as for `predict`; any number of rows.

        Returns:
            A NumPy array, or a structure of arrays if there are several outputs.

        Raises:
            ValueError: for data that do not fit the model.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.frozen()(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        state = self._state
        outputs = state.at_once(x)
        if outputs is None:
            arrays: Any = state.ports.arrays_in_order(x)[0]
            state.check_rows(arrays)
            outputs = state.compute(arrays)
        return outputs[0] if state.is_one else structures.pack(state.output, outputs)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for arrays in the order of `inputs`. Nothing is converted.

        Args:
            arrays: A NumPy array for each input, of its dtype and shape, with any number of rows.

        Returns:
            A list of new arrays, in the order of `outputs`.

        Raises:
            ValueError: for a wrong number of arrays, dtype or shape; the message names the input.

        Example:
            >>> frozen = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))]).frozen()
            >>> frozen.run([np.array([[1.0, 2.0]], "float32")])
            [array([[3.]], dtype=float32)]
        """
        state = self._state
        outputs = state.at_once(arrays[0]) if len(arrays) == 1 else None
        if outputs is None:
            state.checked(arrays)
            outputs = state.compute(arrays)
        return outputs

    def measure(self, seconds: float = 0.1) -> None:
        """Measure the program of each size on this machine, so that batches are split into the fastest parts.

        Unmeasured programs are assumed to take a time that grows with their rows. Processor caches make that wrong for some
        models: 8 rows of a convolutional network may take longer than 4 rows twice. Files do not store the times, and
        `replace` drops them. For a model whose rows depend on each other, this does nothing.

        Args:
            seconds: About how long it may take. Each program runs at least once.

        Raises:
            ValueError: if `seconds` is not a number of at least 0.

        Example:
            >>> frozen = keras.Sequential([layers.Dense(2, input_shape=(3,))]).frozen(batch_sizes=(1, 8))
            >>> frozen.measure()
            >>> sum(frozen.parts(16))
            16
        """
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be a number of at least 0, received {briefly(seconds)}")
        self._state.measure(seconds)

    def replace(self, other: Frozen | Any) -> None:
        """Replace the weights by another model's. Each call uses either the old or the new weights.

        Names stay the same. Running calls keep the old weights, whose memory is freed after the last of these calls.

        Args:
            other: A Frozen, whose batch sizes are used too, or a model, which is frozen with the present ones.

        Raises:
            TypeError: for another object.
            ValueError: if its inputs or outputs differ.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> frozen = model.frozen()
            >>> model.set_weights([[[10.0], [10.0]], [0.0]])
            >>> frozen.replace(model)
            >>> frozen(np.array([[1.0, 2.0]]))
            array([[30.]], dtype=float32)
        """
        own = self._state
        if not isinstance(other, Frozen):
            if not hasattr(other, "predict_step"):
                raise TypeError(f"expected a Frozen or a model, received {type(other).__name__}")
            other = freeze(other, own.batch_sizes, list(own.inputs))
        self._take(other._state)


# -------------------- freezing --------------------


def freeze(model: Any, batch_sizes: Any, input_signature: Any) -> Frozen:
    """A frozen model; see `Model.frozen`."""
    sizes = counts_of("batch_sizes", batch_sizes)
    check_device(model)
    stateful = [layer.name for layer in model._all_layers()[1:] if getattr(layer, "stateful", False)]
    if stateful:
        raise ValueError(
            f"model {model.name!r} cannot be frozen: layer {stateful[-1]!r} is stateful: use model.stream(), which takes its "
            "state as an argument"
        )
    with on_gpu(None):
        names, specs, pack = signature.inputs_of(model, input_signature)

        def recorded(size: int) -> Recording:
            return _recorded(model, pack, [spec for _, spec in _closed(model, names, specs, size)])

        _build(model, pack, [spec for _, spec in _closed(model, names, specs, sizes[0])])
        with step_lock.alone():  # all programs get the weights of the end of the same step
            recordings = {size: recorded(size) for size in sizes}
            programs = Programs.of(recordings)
            last = recordings[sizes[-1]]
            output_names = signature.output_names(model, len(last.outputs), list(names))
            check_rows_of_outputs(model, output_names, last)
            is_by_rows = are_rows_apart(last, recorded)
    inputs = [(name, (None, *shape[1:]), dtype.str) for name, (shape, dtype) in _closed(model, names, specs, 1)]
    outputs = [(name, (None, *a.shape[1:]), a.dtype.str) for name, a in zip(output_names, last.outputs, strict=True)]
    graph_inputs = getattr(model, "_graph_inputs", None)
    tables = {} if graph_inputs is None else dict(graph_inputs.tables)
    structure = pack(list(range(len(names)))), last.structure
    return Frozen(_Form(str(model.name), tuple(inputs), tuple(outputs), structure, tables, is_by_rows), programs)


def _closed(model: Any, names: Sequence[str], specs: Sequence[tuple], size: int) -> list[tuple[str, tuple]]:
    """(name, (shape, dtype)) of each input for `size` rows."""
    return [
        (name, signature.closed(model, name, spec, size, _PURPOSE)) for name, spec in zip(names, specs, strict=True)
    ]


def _build(model: Any, pack: Callable[[list], Any], specs: Sequence[tuple]) -> None:
    """Let a model create its weights, if it has not done so."""
    if not model.built:
        model.predict_on_batch(pack([np.zeros(shape, dtype) for shape, dtype in specs]))


def _recorded(model: Any, pack: Callable[[list], Any], specs: Sequence[tuple]) -> Recording:
    def step(tensors: list) -> Any:
        data = pack(tensors)
        return model.predict_step(list(data) if isinstance(data, tuple) else data)

    recording = record(model.name, step, specs, _PURPOSE)
    if recording.states:
        raise ValueError(
            f"model {model.name!r} cannot be frozen: a prediction changes the model's state, such as counters of random numbers "
            "and weights that a layer writes"
        )
    return recording
