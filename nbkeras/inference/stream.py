"""Floor 3: Stream, a model that predicts step by step, with its state as one array that the caller keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.graph import SymbolicTensor, name_of
from nbkeras.engine import structures, tape, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.observed import observe_all
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.replays import KnownForms, Replays
from nbkeras.engine.rewriting import improved
from nbkeras.inference import streaming, streaming_ops  # noqa: F401 (the rules)
from nbkeras.inference.freezing import freeze_stream
from nbkeras.inference.interface import Interface
from nbkeras.inference.session import Frozen
from nbkeras.inference.streaming_graph import GIVEN, STEPS, Form, StepContext, StreamingGraph, is_own
from nbkeras.layers.embedding import Embedding

Array = np.ndarray


class Stream:
    """A model that predicts step by step: each call continues from the state that the previous call returned; see `Model.stream`.

    A state is one array (batch, state_size), with a row for each sequence. Rows are independent, so they may be selected,
    stacked, stored and sent. For any number of rows and steps in a call, the outputs equal those of `predict` on whole
    sequences, up to rounding. Each call uses the model's current weights.

    An input has the shape (batch, steps, ...), or (batch, ...) for one step; outputs then have no step axis either. A layer
    with return_sequences=False returns its output after the last step of the call. Inputs that are not sequences, such as a
    context, are passed in each call.

    Args:
        model: A functional model or a built Sequential.
        window: For models with causal attention, the maximum number of steps of a sequence: the state has keys and values for
            `window` steps. None for other models.
        sequences: The names of the inputs that are sequences. None selects inputs with an open step axis; if there are none,
            inputs with 3 axes or more and inputs that only Embedding layers read.

    Raises:
        ValueError: for a model that cannot go step by step; the message names the layer and says why.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4, return_sequences=True), layers.Dense(1)])
        >>> x = np.random.default_rng(0).normal(size=(2, 10, 3)).astype("float32")
        >>> stream = model.stream()
        >>> state = stream.initial(2)
        >>> state.shape
        (2, 8)
        >>> first, state = stream(x[:, :7], state)  # seven steps
        >>> y, state = stream(x[:, 7], state)  # one step
        >>> first.shape, y.shape
        ((2, 7, 1), (2, 1))
        >>> bool(np.allclose(y, model.predict(x)[:, 7], atol=1e-5))
        True
    """

    def __init__(self, model: Any, window: int | None = None, sequences: Sequence[str] | None = None):
        if not (window is None or _is_count(window, 1)):
            raise ValueError(f"window must be a number of steps, or None, received {briefly(window)}")
        self.model, self.window = model, None if window is None else int(window)
        self._graph = graph = _graph_of(model)
        is_sequence = _sequences(model, sequences)
        kinds = [STEPS if each else GIVEN for each in is_sequence]
        self._streaming = calls = StreamingGraph(model, kinds, self.window, model.name)
        floats = [np.dtype(form.dtype) for form in calls.forms if np.dtype(form.dtype).kind == "f"]
        self.dtype = np.result_type(np.float32 if floats or model.dtype == "float32" else model.dtype, *floats)
        self._forms = [Form((), self.dtype)] * calls.counts + calls.forms  # the first one is the number of steps
        ends = list(accumulate((math.prod(form.shape) for form in self._forms), initial=0))
        self._columns, self.state_size = [slice(*each) for each in pairwise(ends)], ends[-1]
        inputs = [(name_of(symbol), tuple(symbol.shape), symbol.dtype) for symbol in graph.input_list]
        self._interface = Interface(
            model.name, model._graph_inputs, inputs, is_sequence, self.state_size, self.dtype, calls.limit
        )
        self._programs = ProgramCache("the model's stream", "replace that layer", 16, improved)
        self._known: KnownForms[tuple[Replays, int, bool]] = KnownForms()  # see `_at_once`

    def __repr__(self) -> str:
        return f"<Stream {self.model.name!r}, state_size {self.state_size}>"

    def initial(self, batch: int = 1) -> Array:
        """The state of new sequences, (batch, state_size).

        Args:
            batch: The number of sequences.

        Example:
            >>> model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4)])
            >>> model.stream().initial(2)
            array([[0., 0., 0., 0.],
                   [0., 0., 0., 0.]], dtype=float32)
        """
        if not _is_count(batch, 0):
            raise ValueError(f"batch must be a number of sequences, received {briefly(batch)}")
        with tensor.on_gpu(self.model._gpu), training_phase(False):
            row = self._row([ops.zeros((1,), self.dtype)] * self._streaming.counts + self._streaming.start(1), 1)
            return np.repeat(row.numpy(), batch, axis=0)

    def __call__(self, x: Any, state: Array) -> tuple[Any, Array]:
        """Compute the outputs of the next steps.

        Args:
            x: An array (batch, steps, ...), or (batch, ...) for one step; for several inputs a list, or a dict by name.
            state: The state after the previous steps: `initial(batch)`, or the state that a call returned; it is not changed.

        Returns:
            (outputs, state): the outputs as from `predict`, without the step axis if x had none, and the state after these steps.

        Raises:
            ValueError: for inputs or a state that do not fit, and for a sequence that has become longer than `window`.
        """
        done = self._at_once(x, state)
        if done is not None:
            return done
        if self.model._graph is not self._graph:
            raise ValueError(
                f"model {self.model.name!r} has got other layers since this stream was made: make a new stream"
            )
        leaves, batch, steps, is_step = self._interface.arrays(x)
        state = self._interface.state(state, batch, steps)
        made = Batch([*leaves, state], ALL, batch)
        with tensor.on_gpu(self.model._gpu):
            results, _ = self._programs.run(lambda leaves: self._next(leaves, steps), made)
        replays = self._programs.replays(None, made.signature)
        if replays is not None and type(x) is np.ndarray and x.dtype == leaves[0].dtype:
            self._known[x.shape, x.dtype, state.shape] = replays, steps, is_step
        return self._returned(results, is_step)

    def _at_once(self, x: Any, state: Any) -> tuple[Any, Array] | None:
        """The results for arrays of forms that a call had before: without most checks, which saves most of a step's time.

        None if there are no such results.
        """
        if not (type(x) is type(state) is np.ndarray) or state.dtype is not self.dtype:
            return None
        known = self._known.get((x.shape, x.dtype, state.shape))
        if known is None or tape.thread.checker is not None or self.model._graph is not self._graph:
            return None
        replays, steps, is_step = known
        if self.model._graph_inputs.tables:
            self.model._graph_inputs.check_numbers([x])
        if self._interface.limit is not None:
            self._interface.check_length(state, steps)
        results = replays.run(x[:, None] if is_step else x, state)
        return None if results is None else self._returned(results, is_step)

    def _returned(self, results: list[Array], is_step: bool) -> tuple[Any, Array]:
        """The result of a call: the outputs, without the step axis if x had none, and the new state."""
        *outputs, after = results
        if is_step:
            outputs = [y[:, 0] if kind == STEPS else y for y, kind in zip(outputs, self._streaming.kinds, strict=True)]
        return structures.one_or_all(structures.pack(self._graph.outputs, outputs)), after

    def check(self, x: Any, tolerance: float | None = None) -> None:
        """Compare with `predict`; for models with custom layers that declare how they work step by step.

        Args:
            x: Sequences (batch, steps, ...) of several steps, in the form of the model's inputs. They are split at several steps.
            tolerance: The largest difference relative to the largest output; None for 1e-5, in float64 for 1e-10.

        Raises:
            ValueError: if results differ; the message says where.

        Example:
            >>> model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4)])
            >>> model.stream().check(np.ones((2, 5, 3)))
        """
        arrays, batch, steps, _ = self._interface.arrays(x)
        tolerance = (1e-10 if self.dtype == np.float64 else 1e-5) if tolerance is None else tolerance
        for cuts in {tuple(range(1, steps)), tuple(range(2, steps, 3)), (steps // 2,) if steps > 1 else ()}:
            state = self.initial(batch)
            for first, last in zip((0, *cuts), (*cuts, steps), strict=True):
                y, state = self(self._packed(arrays, first, last), state)
                expected = structures.flatten(self.model.predict_on_batch(self._packed(arrays, 0, last)))
                for position, (own, whole) in enumerate(zip(structures.flatten(y), expected, strict=True)):
                    whole = whole[:, first:] if self._streaming.kinds[position] == STEPS else whole
                    largest = np.abs(own - whole).max(initial=0)
                    if not largest <= tolerance * max(1.0, np.abs(whole).max(initial=0)):
                        raise ValueError(
                            f"step by step, model {self.model.name!r} does not give the result of predict: output {position} "
                            f"differs by {largest:.3g} in steps {first} to {last - 1}, in calls that begin at steps {(0, *cuts)}"
                        )

    def _packed(self, arrays: list[Array], first: int, last: int) -> Any:
        """Steps first to last of the inputs, in the form that a user passes."""
        pairs = zip(arrays, self._interface.is_sequence, strict=True)
        return structures.pack(self._graph.inputs, [a[:, first:last] if is_sequence else a for a, is_sequence in pairs])

    def frozen(self, batch_sizes: int | Sequence[int] = (1, 32), steps: int | Sequence[int] = (1,)) -> Frozen:
        """The stream with the model's current weights, as recorded programs without Python layers, for many threads.

        Args:
            batch_sizes: The numbers of rows for which a program is recorded. A batch of another size is split, and its last
                part is padded.
            steps: The numbers of steps for which a program is recorded. Other numbers are computed as sums of these.

        Returns:
            A `nbkeras.inference.Frozen`, which is called like the stream; pickle and `save` take it to other processes.

        Raises:
            ValueError: for a model that is on a GPU or needs Python to predict, and for open sizes.

        Example:
            >>> frozen = keras.Sequential([keras.Input((None, 3)), layers.GRU(2)]).stream().frozen()
            >>> y, state = frozen(np.ones((4, 3)), frozen.initial(4))
            >>> y.shape, state.shape
            ((4, 2), (4, 2))
        """
        kinds = self._streaming.kinds
        return freeze_stream(self.model, self._interface, kinds, self.initial, self.compute, batch_sizes, steps)

    # -------------------- computing --------------------

    def _next(self, tensors: list[tensor.Tensor], steps: int) -> list[tensor.Tensor]:
        """The outputs and the new state."""
        with training_phase(False):
            outputs, after = self.compute(tensors, steps)
        if tensor.is_step_recorded():
            observe_all(self.model.observed_parts())
        return [*structures.flatten(outputs), after]

    def compute(self, tensors: list[tensor.Tensor], steps: int) -> tuple[Any, tensor.Tensor]:
        """(the outputs' structure, the new state) of tensors: the inputs in their order, with a step axis, and a state.

        Args:
            tensors: The inputs and the state.
            steps: The number of steps.
        """
        *inputs, row = tensors
        batch, pairs = row.shape[0], zip(self._forms, self._columns, strict=True)
        states = [ops.cast(ops.reshape(row[:, part], (batch, *form.shape)), form.dtype) for form, part in pairs]
        before = states.pop(0) if self._streaming.counts else None
        names = layer_stack.names
        names.append(self.model.name)  # layer names are on the stack while the model is called
        try:
            outputs, after = self._streaming.run(StepContext(batch, steps, before), states, inputs)
        finally:
            names.pop()
            self.model.clear_losses()
        if before is not None:
            after = [ops.add(before, float(steps)), *after]
        return outputs, self._row(after, batch)

    def _row(self, states: list[tensor.Tensor], batch: int) -> tensor.Tensor:
        """States as one tensor (batch, state_size)."""
        parts = [ops.reshape(ops.cast(each, self.dtype), (batch, math.prod(each.shape[1:]))) for each in states]
        return ops.concatenate(parts, axis=1) if parts else ops.zeros((batch, 0), self.dtype)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _graph_of(model: Any) -> Any:
    """The graph of a model. Raises ValueError if it has none, or if the model does not compute its graph."""
    if getattr(model, "_graph", None) is None:
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} has no graph, so its layers cannot go step by step: make it a Sequential "
            "that is built, or Model(inputs, outputs); a model with its own `call` can have layers with stateful=True"
        )
    if model._graph.has_strings:
        raise ValueError(
            f"model {model.name!r} takes strings, which have no steps: make a stream of the layers after them"
        )
    for name in ("call", "predict_step"):
        if is_own(model, name):
            raise ValueError(f"model {model.name!r} overrides {name}, but a stream does not call it: remove it")
    return model._graph


def _sequences(model: Any, names: Sequence[str] | None) -> list[bool]:
    """Whether each input is a sequence."""
    symbols = model._graph.input_list
    known = [name_of(symbol) for symbol in symbols]
    if names is not None:
        if isinstance(names, str) or not set(names) <= set(known) or not names:
            raise ValueError(
                f"sequences must be a list of some of the inputs' names {known}, received {briefly(names)}"
            )
        return [name in names for name in known]
    is_open = [symbol.ndim > 1 and symbol.shape[1] is None for symbol in symbols]
    if not any(is_open):
        is_open = [symbol.ndim > 2 or _is_looked_up(symbol, model._graph) for symbol in symbols]
    if not any(is_open):
        raise ValueError(
            f"model {model.name!r} has no input with steps: its inputs are {[tuple(symbol.shape) for symbol in symbols]}, and a "
            "sequence is (batch, steps, features), or (batch, steps) of numbers for an Embedding"
        )
    return is_open


def _is_looked_up(symbol: SymbolicTensor, graph: Any) -> bool:
    readers = [node.layer for node in graph.nodes if any(each is symbol for each in node.inputs)]
    return symbol.ndim == 2 and bool(readers) and all(isinstance(layer, Embedding) for layer in readers)
