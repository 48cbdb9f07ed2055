"""Floor 3: FrozenStream: a stream with fixed weights and without the model, returned by `stream.frozen()`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.data.input_matching import GraphInputs, check_numbers
from nbkeras.engine import step_lock, structures
from nbkeras.engine.structures import one_or_all
from nbkeras.engine.tensor import Tensor, on_gpu
from nbkeras.inference import signature
from nbkeras.inference.interface import STEPS, Interface
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
    listed,
    padded,
    rows_together,
    specs_of,
    usual_costs,
)
from nbkeras.inference.recording import Recording, record

Array = np.ndarray
_PURPOSE = "be frozen"


class _Form(NamedTuple):
    """The description of a frozen stream without its programs, for pickling.

    structures: of the inputs and outputs. tables: see `GraphInputs.tables`. has_steps: for each output. start: the state of a
    new sequence, of dtype `dtype`, in bytes, since a pickle of protocol 5 has one buffer, the constants. is_by_rows: whether
    the rows of a batch are independent.
    """

    name: str
    inputs: tuple[tuple, ...]  # the fields of a TensorSpec, dtypes as strings
    outputs: tuple[tuple, ...]
    structures: tuple[Any, Any]
    tables: dict[int, tuple[int, str]]
    is_sequence: tuple[bool, ...]
    has_steps: tuple[bool, ...]
    start: bytes
    dtype: str
    limit: int | None
    is_by_rows: bool


class _State:
    """The data that a call uses; `replace` exchanges it as one."""

    def __init__(self, form: _Form, programs: Programs):
        self.form, self.programs = form, programs
        self.inputs, self.outputs = specs_of(form.inputs), specs_of(form.outputs)
        self.batch_sizes = tuple(sorted({rows for rows, _ in programs.steps}))
        self.costs = usual_costs(self.batch_sizes)
        self.steps = tuple(sorted({steps for _, steps in programs.steps}))
        self.start = np.frombuffer(form.start, form.dtype)
        matching = GraphInputs(Ports(form.structures[0], self.inputs), form.name, tables=form.tables)
        self.interface = Interface(
            form.name, matching, self.inputs, form.is_sequence, len(self.start), form.dtype, form.limit
        )

        # shape of an array in a recorded form -> its rows and steps
        simple = len(self.inputs) == 1 and not form.tables
        rest = self.inputs[0].shape[2:]
        self.shapes = {(*key, *rest): key for key in programs.steps} if simple else {}
        self.dtype, self.state_dtype = self.inputs[0].dtype, self.interface.dtype

    def at_once(self, x: Any, state: Any) -> tuple[list[Array], Array] | None:
        """The outputs and the new state, if x is the only input and has a recorded form; else None."""
        if type(x) is type(state) is np.ndarray and x.dtype is self.dtype and state.dtype is self.state_dtype:
            key = self.shapes.get(x.shape)
            if key is not None and state.shape == (key[0], len(self.start)):
                if self.form.limit is not None:
                    self.interface.check_length(state, key[1])
                *outputs, after = self.programs.run(key, (x, state))
                return outputs, after
        return None

    def compute(self, arrays: Sequence[Array], state: Array, rows: int, steps: int) -> tuple[list[Array], Array]:
        """The outputs and the new state for any number of rows and steps."""
        if (rows, steps) in self.programs.steps:
            *outputs, state = self.programs.run((rows, steps), [*arrays, state])
            return outputs, state
        if rows not in self.batch_sizes:
            return self._in_batches(arrays, state, rows, steps)
        sizes = _parted(steps, self.steps[::-1])
        if sizes is None:
            raise ValueError(
                f"the stream of model {self.form.name!r} takes {listed(self.steps)} steps a call and sums of these, received "
                f"{steps} steps"
            )
        found, begin = [], 0
        for size in sizes:
            pairs = zip(arrays, self.form.is_sequence, strict=True)
            part = [np.ascontiguousarray(a[:, begin : begin + size]) if each else a for a, each in pairs]
            *outputs, state = self.programs.run((rows, size), [*part, state])
            found.append(outputs)
            begin += size
        joined = zip(zip(*found, strict=True), self.form.has_steps, strict=True)
        return [np.concatenate(parts, axis=1) if each else parts[-1] for parts, each in joined], state

    def _in_batches(self, arrays: Sequence[Array], state: Array, rows: int, steps: int) -> tuple[list[Array], Array]:
        """Compute in batches of recorded sizes; the last one is padded."""
        if not self.form.is_by_rows:
            raise rows_together(self.form.name, self.batch_sizes, rows)
        found, begin = [], 0
        for size in cover(rows, self.batch_sizes, self.costs):
            part = [padded(array[begin : begin + size], size) for array in (*arrays, state)]
            outputs, after = self.compute(part[:-1], part[-1], size, steps)
            found.append([each[: rows - begin] for each in (*outputs, after)])
            begin += size
        *outputs, after = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return outputs, after


def _parted(steps: int, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """A number of steps as a sum of sizes, given the largest first; None if there is no such sum."""
    if not steps:
        return ()
    if steps % math.gcd(*sizes):
        return None
    if len(sizes) == 1:
        return sizes * (steps // sizes[0])
    for count in range(steps // sizes[0], -1, -1):
        rest = _parted(steps - count * sizes[0], sizes[1:])
        if rest is not None:
            return (sizes[0],) * count + rest
    return None


class FrozenStream(SessionBase):
    """A stream with fixed weights: recorded programs that run without the Python layers.

    `stream.frozen()` makes one. Any number of threads may call it, since the caller keeps the state. It works in forked
    processes and can be pickled. `load(..., mapped=True)` maps a file of `save`: all processes that load it share the memory
    of its weights.

    Args:
        form: The description of the stream, which `stream.frozen` makes.
        programs: The recorded programs.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4, return_sequences=True)])
        >>> frozen = model.stream().frozen(batch_sizes=(1, 8))
        >>> y, state = frozen(np.ones((2, 3)), frozen.initial(2))  # one step of two sequences
        >>> y.shape, state.shape
        ((2, 4), (2, 8))
        >>> frozen.save("model.stream")
        >>> keras.inference.FrozenStream.load("model.stream", safe_mode=False).state_size
        8
    """

    is_stream = True

    _state: _State

    def __init__(self, form: _Form, programs: Programs):
        super().__init__(_State(form, programs))

    @property
    def state_size(self) -> int:
        """The number of columns of a state."""
        return len(self._state.start)

    @property
    def state_dtype(self) -> np.dtype:
        """The dtype of a state."""
        return self._state.interface.dtype

    @property
    def window(self) -> int | None:
        """The number of steps that a sequence may have, for models with causal attention; None for any."""
        return self._state.form.limit

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of steps for which there are programs, the smallest first."""
        return self._state.steps

    def __repr__(self) -> str:
        return f"<FrozenStream {self.name!r}, batch sizes {self.batch_sizes}, steps {self.steps}>"

    def initial(self, batch: int = 1) -> Array:
        """The state of new sequences, (batch, state_size).

        Args:
            batch: The number of sequences.
        """
        return np.repeat(self._state.start[None], batch, axis=0)

    def __call__(self, x: Any, state: Array) -> tuple[Any, Array]:
        """Compute the outputs of the next steps, as the stream that was frozen; see `Stream`.

        Args:
            x: An array (batch, steps, ...), or (batch, ...) for one step; for several inputs a list, or a dict by name.
            state: `initial(batch)`, or the state that a call returned; it is not changed.

        Returns:
            (outputs, state).

        Raises:
            ValueError: for inputs or a state that do not fit, and for a sequence that has become longer than `window`.
        """
        own = self._state
        is_step, done = False, own.at_once(x, state)
        if done is None:
            arrays, rows, steps, is_step = own.interface.arrays(x)
            done = own.compute(arrays, own.interface.state(state, rows, steps), rows, steps)
        outputs, after = done
        if is_step:
            outputs = [y[:, 0] if each else y for y, each in zip(outputs, own.form.has_steps, strict=True)]
        return one_or_all(structures.pack(own.form.structures[1], outputs)), after

    def run(self, arrays: Sequence[Array], state: Array) -> tuple[list[Array], Array]:
        """The outputs for arrays in the order of `inputs`, and the new state. Inputs are not converted.

        Args:
            arrays: A NumPy array for each input, of its dtype and shape, with any number of rows and steps.
            state: The state of each row.

        Returns:
            (a list of new arrays in the order of `outputs`, the new state).

        Raises:
            ValueError: for a wrong number of arrays, dtype or shape; the message names the input.

        Example:
            >>> frozen = keras.Sequential([keras.Input((None, 3)), layers.GRU(2)]).stream().frozen()
            >>> outputs, state = frozen.run([np.ones((1, 5, 3), "float32")], frozen.initial())
            >>> outputs[0].shape
            (1, 2)
        """
        own = self._state
        done = own.at_once(arrays[0], state) if len(arrays) == 1 else None
        if done is not None:
            return done
        check_arrays(self.name, own.inputs, arrays)
        rows, steps = own.interface.sizes(arrays)
        for position, table in own.form.tables.items():
            check_numbers(arrays[position], *table, own.inputs[position].name)
        return own.compute(arrays, own.interface.state(state, rows, steps), rows, steps)

    def replace(self, other: Any) -> None:
        """Replace the weights by another stream's. Each call uses either the old or the new weights. States stay valid.

        Names stay the same. Running calls keep the old weights, whose memory is freed after the last of these calls.

        Args:
            other: A FrozenStream, whose numbers of rows and steps are used too, or a stream or model, which is frozen for the
                present ones.

        Raises:
            TypeError: for another object.
            ValueError: if the form of its inputs, outputs or state differs.

        Example:
            >>> model = keras.Sequential([keras.Input((None, 3)), layers.GRU(2)])
            >>> frozen = model.stream().frozen()
            >>> model.set_weights([weight * 0 for weight in model.get_weights()])
            >>> frozen.replace(model)
            >>> frozen(np.ones((1, 3)), frozen.initial())[0]
            array([[0., 0.]], dtype=float32)
        """
        own = self._state
        if hasattr(other, "predict_step"):
            names = [name for name, each in zip(other.input_names, own.form.is_sequence, strict=False) if each]
            other = other.stream(window=own.form.limit, sequences=names)
        if not isinstance(other, FrozenStream):
            if not hasattr(other, "frozen"):
                raise TypeError(f"expected a FrozenStream, a stream or a model, received {type(other).__name__}")
            other = other.frozen(own.batch_sizes, own.steps)
        self._take(other._state)

    def _check_form(self, new: _State) -> None:
        super()._check_form(new)
        own = self._state
        if (own.start.shape, own.form.dtype, own.form.limit) != (new.start.shape, new.form.dtype, new.form.limit):
            raise ValueError(
                f"the states of model {new.form.name!r} have another form: expected {self.state_size} columns and window="
                f"{self.window}, received {len(new.start)} and {new.form.limit}"
            )


def freeze(
    model: Any,
    interface: Interface,
    output_kinds: Sequence[str],
    initial: Callable[[int], Array],
    compute: Callable[[list[Tensor], int], tuple[Any, Tensor]],
    batch_sizes: Any,
    steps: Any,
) -> FrozenStream:
    """A frozen stream; see `Stream.frozen`, which passes the function that computes steps from a state."""
    rows_list, steps_list = counts_of("batch_sizes", batch_sizes), counts_of("steps", steps)
    check_device(model)
    specs = [
        (name, (None, None, *shape[2:]) if each else (None, *shape[1:]), dtype)
        for (name, shape, dtype), each in zip(interface.inputs, interface.is_sequence, strict=True)
    ]
    for (name, shape, _), is_sequence in zip(specs, interface.is_sequence, strict=True):
        if None in shape[2 if is_sequence else 1 :]:
            raise ValueError(f"model {model.name!r} cannot be frozen: input {name!r} has open sizes, {shape}")

    def recorded(rows: int, count: int) -> Recording:
        closed = [
            ((rows, count, *shape[2:]) if each else (rows, *shape[1:]), dtype)
            for (_, shape, dtype), each in zip(specs, interface.is_sequence, strict=True)
        ]
        closed.append(((rows, interface.state_size), interface.dtype))
        recording = record(model.name, lambda tensors: list(compute(tensors, count)), closed, _PURPOSE)
        if recording.states:
            raise ValueError(f"model {model.name!r} cannot be frozen: a call changes the model's state")
        return recording

    with on_gpu(None), step_lock.alone():  # all programs get the weights of the end of the same step
        recordings = {(rows, count): recorded(rows, count) for rows in rows_list for count in steps_list}
        programs = Programs.of(recordings)
        start = initial(1)[0]
        last = recordings[rows_list[-1], steps_list[0]]
        kinds = [each == STEPS for each in output_kinds]
        names = signature.output_names(model, len(kinds), [name for name, _, _ in specs])
        check_rows_of_outputs(model, [*names, "state"], last)
        is_by_rows = are_rows_apart(last, lambda rows: recorded(rows, steps_list[0]))
    outputs = tuple(
        (name, (None, None, *a.shape[2:]) if each else (None, *a.shape[1:]), a.dtype.str)
        for name, a, each in zip(names, last.outputs, kinds, strict=False)
    )
    graph = model._graph
    form = _Form(
        str(model.name),
        tuple((name, shape, np.dtype(dtype).str) for name, shape, dtype in specs),
        outputs,
        tuple(structures.map_leaves(lambda _: 0, each) for each in (graph.inputs, graph.outputs)),  # type: ignore[arg-type]
        dict(model._graph_inputs.tables),
        tuple(interface.is_sequence),
        tuple(kinds),
        start.tobytes(),
        start.dtype.str,
        interface.limit,
        is_by_rows,
    )
    return FrozenStream(form, programs)
