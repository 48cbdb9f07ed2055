"""Frozen: a model's inference with fixed weights, which needs no model: what `model.frozen()` returns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import step_lock, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import on_gpu
from nbkeras.export import signature
from nbkeras.export.recording import Recording, record
from nbkeras.inference import portable
from nbkeras.inference.portable import Programs
from nbkeras.training.input_matching import GraphInputs, check_numbers

Array = np.ndarray
_PURPOSE = "be frozen"
_CALL = 7  # rows of computation that a call is worth; see _cover


class TensorSpec(NamedTuple):
    """An input or an output: its name, its shape (None for the number of rows) and its dtype.

    Args:
        name: The name.
        shape: The sizes of the axes; the first one is None.
        dtype: A NumPy dtype.

    Example:
        >>> keras.Sequential([layers.Dense(2, name="scores", input_shape=(3,))]).frozen().outputs
        (TensorSpec(name='scores', shape=(None, 2), dtype=dtype('float32')),)
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype


class _Port(NamedTuple):
    """An input, as the checks of a graph's inputs ask for it; `node` is for symbols alone."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype
    node: None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class _Ports:
    """The inputs of a frozen model, in place of a graph."""

    def __init__(self, structure: Any, specs: Sequence[TensorSpec]):
        self.input_list = [_Port(*spec) for spec in specs]
        self.inputs = structures.pack(structure, self.input_list)


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
        self.inputs, self.outputs = (
            tuple(TensorSpec(name, shape, np.dtype(dtype)) for name, shape, dtype in specs)
            for specs in (form.inputs, form.outputs)
        )
        self.sizes: tuple[int, ...] = tuple(sorted(programs.steps))
        self.output = form.structures[1]
        self.ports = GraphInputs(_Ports(form.structures[0], self.inputs), form.name, tables=form.tables)
        self.is_one = not structures.is_nested(self.output)
        # By the shape of the array for a model's only input: the recorded size. Then only the dtype and the numbers are checked
        only = self.inputs[0]
        self.shapes = {(size, *only.shape[1:]): size for size in self.sizes} if len(self.inputs) == 1 else {}
        self.dtype = only.dtype
        self.check = functools.partial(self._check_numbers, 0) if form.tables else None

    def compute(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for arrays of any number of rows."""
        rows = len(arrays[0])
        if rows in self.programs.steps:
            return self.run(rows, arrays)
        if not self.form.is_by_rows:
            raise ValueError(
                f"rows of a batch of model {self.form.name!r} have an effect on other rows, so batches cannot be split or "
                f"padded: it takes {_listed(self.sizes)} rows, received {rows}"
            )
        shapes: Any = [(rows, *spec.shape[1:]) for spec in self.outputs]
        results = [np.empty(shape, spec.dtype) for shape, spec in zip(shapes, self.outputs, strict=True)]
        start = 0
        for size in _cover(rows, self.sizes):
            end = min(start + size, rows)
            part = [_padded(array[start:end], size) for array in arrays]
            for result, found in zip(results, self.run(size, part), strict=True):
                result[start:end] = found[: end - start]
            start = end
        return results

    def checked(self, arrays: Sequence[Array]) -> None:
        """ValueError, which names the input, for arrays that are not exactly what the inputs say."""
        if len(arrays) != len(self.inputs):
            raise ValueError(
                f"model {self.form.name!r} has {len(self.inputs)} inputs, {[spec.name for spec in self.inputs]}, received "
                f"{len(arrays)} arrays"
            )
        for array, spec in zip(arrays, self.inputs, strict=True):
            if not isinstance(array, np.ndarray):
                raise ValueError(f"input {spec.name!r} must be a NumPy array, received {type(array).__name__}")
            if array.dtype != spec.dtype:
                raise ValueError(f"input {spec.name!r} expects dtype {spec.dtype}, received {array.dtype}")
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


def _padded(array: Array, rows: int) -> Array:
    """The array with its last row repeated: a row that the model can take."""
    if len(array) == rows:
        return array
    return np.concatenate([array, np.broadcast_to(array[-1:], (rows - len(array), *array.shape[1:]))])


@functools.lru_cache(1024)
def _cover(rows: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of the batches that compute so many rows, in order; only the last one has more rows than are left.

    As many of the largest size as are full, then those that are computed fastest if a call takes as long as `_CALL` rows.
    """
    largest = sizes[-1]
    left = rows % largest
    choices = [(-(-left // size) * (size + _CALL), -size) for size in sizes if left]
    size = -min(choices)[1] if choices else 1
    return (largest,) * (rows // largest) + (size,) * -(-left // size)


def _listed(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, sizes))


class Frozen:
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
        >>> again = keras.inference.Frozen.load("model.frozen")
        >>> again(np.array([[1.0, 2.0]]))
        array([[3.]], dtype=float32)
    """

    def __init__(self, form: _Form, programs: Programs):
        self._state = _State(form, programs)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._state.form.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in the order of the arrays of `run`."""
        return self._state.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the order of the arrays that `run` returns."""
        return self._state.outputs

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The numbers of rows for which there are programs, the smallest first."""
        return self._state.sizes

    @property
    def nbytes(self) -> int:
        """The bytes of the weights, with what was computed from them in advance."""
        return self._state.programs.constants.nbytes

    @property
    def is_by_rows(self) -> bool:
        """Whether no row of a batch has an effect on the answers for other rows; else batches have a recorded size."""
        return self._state.form.is_by_rows

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
            other = freeze(other, own.sizes, list(own.inputs))
        new = other._state
        for kind, ours, theirs in (("inputs", own.inputs, new.inputs), ("outputs", own.outputs, new.outputs)):
            if _compared(ours) != _compared(theirs):
                raise ValueError(f"the {kind} of model {new.form.name!r} differ: expected {ours}, received {theirs}")
        if own.form.structures != new.form.structures:
            raise ValueError(f"the inputs or outputs of model {new.form.name!r} are in another structure")
        form = new.form._replace(name=own.form.name, inputs=own.form.inputs, outputs=own.form.outputs)
        self._state = _State(form, new.programs)

    def save(self, filepath: Any) -> None:
        """Write a file that `load` reads. It is written completely or not at all, and others cannot write into it.

        Args:
            filepath: The name of the file.

        Raises:
            OSError: for a full disk and the like.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
        """
        portable.save(self, filepath)

    @classmethod
    def load(cls, filepath: Any) -> Frozen:
        """Read a file of `save`. The weights stay in the file, which is mapped into memory and shared with other processes.

        A file can run any code, since it holds a pickle: it is for files that this user's own processes wrote. One that
        another user owns (other than root) or can write is refused. It is for the version of nbkeras that wrote it.

        Args:
            filepath: The name of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError: for a file that another user owns or can write.
            ValueError: for a file that is damaged, of another kind, or from another version.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
            >>> keras.inference.Frozen.load("model.frozen").batch_sizes
            (1, 32)
        """
        return portable.load(cls, filepath)

    def __reduce__(self) -> tuple:
        return type(self), (self._state.form, self._state.programs)


def _compared(specs: Sequence[TensorSpec]) -> list[tuple]:
    """The parts of specs that must be equal: names only where there are several."""
    return [tuple(spec) if len(specs) > 1 else tuple(spec[1:]) for spec in specs]


# -------------------- freezing --------------------


def freeze(model: Any, batch_sizes: Any, input_signature: Any) -> Frozen:
    """A frozen model; see `Model.frozen`."""
    sizes = _sizes(batch_sizes)
    _check_device(model)
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
            _check_rows_of_outputs(model, output_names, last)
            is_by_rows = _is_by_rows(last) if sizes[-1] > 1 else _takes_rows_apart(recorded)
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


def _check_rows_of_outputs(model: Any, names: Sequence[str], recording: Recording) -> None:
    rows = len(recording.inputs[0])
    for name, array in zip(names, recording.outputs, strict=True):
        if array.shape[:1] != (rows,):
            raise ValueError(
                f"model {model.name!r} cannot be frozen: output {name!r} has no row for each of {rows} samples, its shape is "
                f"{array.shape}"
            )


def _check_device(model: Any) -> None:
    if model._gpu is not None:
        raise ValueError(
            f"model {model.name!r} is on a GPU and cannot be frozen, which is for the CPU: make the model with "
            "nbkeras.device('cpu')"
        )


def _sizes(batch_sizes: Any) -> tuple[int, ...]:
    given = [batch_sizes] if isinstance(batch_sizes, int | np.integer) else list(batch_sizes)
    if not given or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in given):
        raise ValueError(f"batch_sizes must be a positive integer or a list of them, received {briefly(batch_sizes)}")
    return tuple(sorted({int(n) for n in given}))


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


def _is_by_rows(recording: Recording) -> bool:
    """Whether other rows have no effect on the outputs for the first row, as far as an example shows."""
    if any(array.shape[:1] != recording.inputs[0].shape[:1] for array in recording.outputs):
        return False
    recording.program.run()
    first = [array[:1].tobytes() for array in recording.outputs]
    for array in recording.inputs:
        array[1:] = array[:0:-1] * 2 + 1 if array.dtype.kind == "f" else 1 - array[1:]
    recording.program.run()
    return first == [array[:1].tobytes() for array in recording.outputs]


def _takes_rows_apart(recorded: Callable[[int], Recording]) -> bool:
    """Whether a model that is frozen for one row has no effect of rows on others, as a batch of two shows."""
    try:
        return _is_by_rows(recorded(2))
    except Exception:  # it is made for one row alone
        return False
