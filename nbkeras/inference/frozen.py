"""Frozen: a model's inference with fixed weights, which needs no model: what `model.frozen()` returns."""

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
_PART_SECONDS = 2e-5  # that each part of a batch costs beside its program: to cut, to pad, to put together


class _Form(NamedTuple):
    """All of a frozen model but its programs, in a form to pickle.

    structures: of the inputs and of the outputs. tables: see `GraphInputs.tables`. is_by_rows: whether no row of a batch has an
    effect on other rows.
    """

    name: str
    inputs: tuple[tuple, ...]  # the fields of a TensorSpec, dtypes as texts
    outputs: tuple[tuple, ...]
    structures: tuple[Any, Any]
    tables: dict[int, tuple[int, str]]
    is_by_rows: bool


class _State:
    """All that a call uses; `replace` gives a Frozen another one."""

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
        """Take the costs of the programs for the choice of parts."""
        self.costs = costs
        # By the shape of the array for a model's only input: the recorded size. Then only the dtype and the numbers are checked
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
        """Run all programs in turns, at least once, for about so many seconds; from then on use those that are fastest."""
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
        """ValueError, which names the input, for arrays that are not exactly what the inputs say."""
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
        """ValueError if arrays have no rows, or not the same number."""
        counts = {spec.name: len(array) for spec, array in zip(self.inputs, arrays, strict=True)}
        if len(set(counts.values())) != 1:
            raise ValueError(f"all inputs must have the same number of rows, received {counts}")
        if not len(arrays[0]):
            raise ValueError(f"input {self.inputs[0].name!r} has no rows")


class Frozen(SessionBase):
    """A model's inference with fixed weights: programs that are ready, without Python's layers behind them.

    `model.frozen()` makes one. Any number of threads may call it. It goes on in forked processes, and pickle takes it to
    others; protocol 5 leaves the weights out of the pickle as one buffer. A file that `save` wrote is mapped by `load`: all
    processes that load it share the memory of its weights.

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
        """The outputs of arrays in the order of `inputs`, in the order of `outputs`. Nothing is converted.

        Args:
            arrays: A NumPy array for each input, of its dtype and shape, with any number of rows.

        Returns:
            A list of new arrays.

        Raises:
            ValueError: for another number of arrays, another dtype or shape: the message names the input.

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
        """Measure the program of each size on this machine, so that batches are computed in the parts that take the least time.

        Without it, a program is taken to need a time that grows with its rows. Processor caches make that wrong for some models:
        8 rows of a convolutional network may take longer than 4 rows twice. The times are not stored in files, and `replace`
        forgets them. A model whose rows have an effect on others is left as it is.

        Args:
            seconds: About how long it may take. Each program is run once in any case.

        Raises:
            ValueError: if `seconds` is no number from 0 on.

        Example:
            >>> frozen = keras.Sequential([layers.Dense(2, input_shape=(3,))]).frozen(batch_sizes=(1, 8))
            >>> frozen.measure()
            >>> sum(frozen.parts(16))
            16
        """
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be a number from 0 on, received {briefly(seconds)}")
        self._state.measure(seconds)

    def replace(self, other: Frozen | Any) -> None:
        """Take the weights of another model; each call uses the old ones alone, or the new ones alone.

        Names stay as they are. Calls that run go on with the old weights, whose memory is freed after the last of them.

        Args:
            other: A Frozen, of which the batch sizes are taken too, or a model, which is frozen with the same ones.

        Raises:
            TypeError: for another object.
            ValueError: if its inputs or outputs are others.

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
            f"model {model.name!r} cannot be frozen: layer {stateful[-1]!r} is stateful: use model.stream(), whose state is an "
            "argument"
        )
    with on_gpu(None):
        names, specs, pack = signature.inputs_of(model, input_signature)

        def recorded(size: int) -> Recording:
            return _recorded(model, pack, [spec for _, spec in _closed(model, names, specs, size)])

        _build(model, pack, [spec for _, spec in _closed(model, names, specs, sizes[0])])
        with step_lock.alone():  # all programs have the same weights, those of the end of a step
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
    """(name, (shape, dtype)) of each input for so many rows."""
    return [
        (name, signature.closed(model, name, spec, size, _PURPOSE)) for name, spec in zip(names, specs, strict=True)
    ]


def _build(model: Any, pack: Callable[[list], Any], specs: Sequence[tuple]) -> None:
    """Let a model make its weights, if it has not made them yet."""
    if not model.built:
        model.predict_on_batch(pack([np.zeros(shape, dtype) for shape, dtype in specs]))


def _recorded(model: Any, pack: Callable[[list], Any], specs: Sequence[tuple]) -> Recording:
    def step(tensors: list) -> Any:
        data = pack(tensors)
        return model.predict_step(list(data) if isinstance(data, tuple) else data)

    recording = record(model.name, step, specs, _PURPOSE)
    if recording.states:
        raise ValueError(
            f"model {model.name!r} cannot be frozen: a prediction changes what the model keeps, as counters of random numbers "
            "and weights that a layer writes"
        )
    return recording
