"""Frozen: a model's inference with fixed weights and without the model, returned by `model.frozen()` and `stream.frozen()`."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from nbkeras.data.input_matching import GraphInputs, check_numbers
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.replays import Replays
from nbkeras.engine.structures import one_or_all
from nbkeras.inference import bundle as bundles
from nbkeras.inference.bundle import Bundle, TensorSpec
from nbkeras.inference.constants import Key
from nbkeras.inference.interface import Interface
from nbkeras.kernels.runtime import device

host_part = LazyModule("nbkeras.inference.host_part")
Array = np.ndarray
_CALL = 7  # overhead of a call in rows of computation, assumed until `measure`; see `cover`
_PART_SECONDS = 2e-5  # overhead of each part of a batch besides its program: slicing, padding, joining


class _Port(TensorSpec):
    """An input in the form that the checks of a graph's inputs need; `node` is only for symbols."""

    node = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class _State:
    """The data that a call uses; `replace` exchanges it as one."""

    def __init__(self, bundle: Bundle):
        self.bundle, self.spec = bundle, bundle.spec
        spec, programs = bundle.spec, bundle.programs
        self._replays = {key: Replays(program) for key, program in programs.items()}
        self.batch_sizes = tuple(sorted({rows for rows, _ in programs}))
        self.steps = tuple(sorted({steps for _, steps in programs}))
        self.output = spec.structures[1]
        self.is_one = not structures.is_nested(self.output)
        self.tables = {position: (rows, layer) for position, rows, layer in spec.tables}
        ports = [_Port(*each) for each in spec.inputs]
        graph: Any = SimpleNamespace(input_list=ports, inputs=structures.pack(spec.structures[0], ports))
        self.ports: Any = GraphInputs(graph, spec.name, tables=self.tables)
        self.host = None if bundle.host is None else host_part.HostPart(bundle.host, spec)
        self.inputs, self.structure = spec.inputs, spec.structures[0]
        if self.host is not None:
            self.ports, self.inputs, self.structure = self.host, self.host.inputs, self.host.structure
        self.dtype = spec.inputs[0].dtype
        self.check = functools.partial(self._check_numbers, 0) if spec.tables else None
        self.interface: Interface | None = None
        if spec.state is not None:
            first = spec.state.start
            start = self.start = np.ndarray(first.shape, first.dtype, bundle.constants, first.offset, first.strides)
            self.interface = Interface(
                spec.name, self.ports, spec.inputs, spec.state.is_sequence, len(start), start.dtype, spec.state.limit
            )
        self._use(tuple(float(size + _CALL) for size in self.batch_sizes))

    def _use(self, costs: tuple[float, ...]) -> None:
        """Use these costs of the programs for the choice of parts."""
        self.costs = costs
        # Shape of an array for a model's only input -> the program's rows and steps. For these only the dtype and the values
        # are checked
        own = {size for size in self.batch_sizes if cover(size, self.batch_sizes, costs) == (size,)}
        (_, *rest), kept = self.spec.inputs[0].shape, self.spec.state
        self.shapes = {}
        if len(self.spec.inputs) == 1 and self.host is None:
            for key in self.bundle.programs:
                if key[0] in own:
                    self.shapes[(*key, *rest[1:]) if kept is not None else (key[0], *rest)] = key

    # -------------------- computing --------------------

    def run(self, key: Key, *arrays: Array) -> list[Array]:
        """Compute the outputs, as new arrays, from arrays of the inputs' shapes. Several threads may call this at once."""
        replays = self._replays[key]
        outputs = replays.run(*arrays)
        if outputs is None:
            with device.on(None):
                outputs = replays.run_batch(Batch(list(arrays), ALL, key[0]))
        return outputs  # type: ignore[return-value]  # a frozen program is never outdated

    def at_once(self, x: Any, state: Any) -> list[Array] | None:
        """The outputs, if x is an array of a recorded size for the model's only input; else None."""
        if type(x) is not np.ndarray or x.dtype is not self.dtype:
            return None
        key = self.shapes.get(x.shape)
        if key is None:
            return None
        if self.check is not None:
            self.check(x)
        if self.interface is None:
            return self.run(key, x)
        if type(state) is not np.ndarray or state.dtype is not self.interface.dtype:
            return None
        if state.shape != (key[0], len(self.start)):
            return None
        if self.interface.limit is not None:
            self.interface.check_length(state, key[1])
        return self.run(key, x, state)

    def compute(self, arrays: Sequence[Array], steps: int = 1) -> list[Array]:
        """The outputs for arrays of any number of rows and steps. A state is the last array and the last output."""
        rows, spec = len(arrays[0]), self.spec
        if not rows:
            raise ValueError(f"input {spec.inputs[0].name!r} has no rows")
        parts = cover(rows, self.batch_sizes, self.costs) if spec.is_by_rows else (rows,)
        if parts == (rows,) and rows in self.batch_sizes:
            return self._in_steps(arrays, rows, steps)
        if not spec.is_by_rows:
            raise ValueError(
                f"the rows of a batch of model {spec.name!r} depend on each other, so batches cannot be split or padded: it "
                f"takes {_listed(self.batch_sizes)} rows, received {rows}"
            )
        results: list[Array] = []
        start = 0
        for size in parts:
            end = min(start + size, rows)
            found = self._in_steps([_padded(array[start:end], size) for array in arrays], size, steps)
            results = results or [np.empty((rows, *each.shape[1:]), each.dtype) for each in found]
            for result, each in zip(results, found, strict=True):
                result[start:end] = each[: end - start]
            start = end
        return results

    def _in_steps(self, arrays: Sequence[Array], rows: int, steps: int) -> list[Array]:
        """The outputs for a recorded number of rows. Steps are computed as a sum of recorded numbers."""
        if (rows, steps) in self.bundle.programs:
            return self.run((rows, steps), *arrays)
        sizes, kept = _parted(steps, self.steps[::-1]), self.spec.state
        if sizes is None or kept is None:
            raise ValueError(
                f"the stream of model {self.spec.name!r} takes {_listed(self.steps)} steps a call and sums of these, received "
                f"{steps} steps"
            )
        *inputs, state = arrays
        found, begin = [], 0
        for size in sizes:
            pairs = zip(inputs, kept.is_sequence, strict=True)
            part = [np.ascontiguousarray(a[:, begin : begin + size]) if each else a for a, each in pairs]
            *outputs, state = self.run((rows, size), *part, state)
            found.append(outputs)
            begin += size
        joined = zip(zip(*found, strict=True), kept.has_steps, strict=True)
        return [*(np.concatenate(parts, axis=1) if each else parts[-1] for parts, each in joined), state]

    def measure(self, seconds: float) -> None:
        """Run all programs in turn, at least once each, for about `seconds`; then choose programs by the measured times."""
        if not self.spec.is_by_rows or self.interface is not None:
            return
        forms: Any = [(spec.shape[1:], spec.dtype) for spec in self.spec.inputs]
        arrays = {size: [np.zeros((size, *rest), dtype) for rest, dtype in forms] for size in self.batch_sizes}
        minimum = dict.fromkeys(self.batch_sizes, math.inf)
        begin = now = time.perf_counter()
        while now == begin or now - begin < seconds:
            for size in self.batch_sizes:
                self.run((size, 1), *arrays[size])
                before, now = now, time.perf_counter()
                minimum[size] = min(minimum[size], now - before)
        self._use(tuple(minimum[size] + _PART_SECONDS for size in self.batch_sizes))

    # -------------------- checks --------------------

    def check_arrays(self, arrays: Sequence[Array]) -> None:
        """Raise ValueError, naming the input, for arrays that do not match the inputs exactly."""
        specs = self.spec.inputs
        if len(arrays) != len(specs):
            raise ValueError(
                f"model {self.spec.name!r} has {len(specs)} inputs, {[spec.name for spec in specs]}, received {len(arrays)} "
                "arrays"
            )
        for array, spec in zip(arrays, specs, strict=True):
            if not isinstance(array, np.ndarray):
                raise ValueError(f"input {spec.name!r} must be a NumPy array, received {type(array).__name__}")
            if array.dtype != spec.dtype:
                raise ValueError(f"input {spec.name!r} expects dtype {spec.dtype}, received {array.dtype}")
            if self.interface is None and (array.ndim != len(spec.shape) or array.shape[1:] != spec.shape[1:]):
                raise ValueError(f"input {spec.name!r} expects shape {spec.shape}, received {array.shape}")
        if self.interface is None:
            self.check_rows(arrays)

    def check_tables(self, arrays: Sequence[Array]) -> None:
        for position in self.tables:
            self._check_numbers(position, arrays[position])

    def _check_numbers(self, position: int, array: Array) -> None:
        check_numbers(array, *self.tables[position], self.spec.inputs[position].name)

    def check_rows(self, arrays: Sequence[Array]) -> None:
        """Raise ValueError if arrays have no rows or different numbers of rows."""
        counts = {spec.name: len(array) for spec, array in zip(self.spec.inputs, arrays, strict=True)}
        if len(set(counts.values())) != 1:
            raise ValueError(f"all inputs must have the same number of rows, received {counts}")

    def check_form(self, new: _State) -> None:
        """Raise ValueError if callers would notice that another model's programs are used."""
        own, other = self.spec, new.spec
        for kind, ours, theirs in (("inputs", self.inputs, new.inputs), ("outputs", own.outputs, other.outputs)):
            if _compared(ours) != _compared(theirs):
                raise ValueError(f"the {kind} of model {other.name!r} differ: expected {ours}, received {theirs}")
        if own.structures != other.structures:
            raise ValueError(f"the inputs or outputs of model {other.name!r} are in another structure")
        if (self.interface is None) != (new.interface is None):
            raise ValueError(f"only one of the models {own.name!r} and {other.name!r} keeps a state from step to step")
        if self.interface is not None and new.interface is not None:
            mine, its = self.interface, new.interface
            if (mine.state_size, mine.dtype, mine.limit) != (its.state_size, its.dtype, its.limit):
                raise ValueError(
                    f"the states of model {other.name!r} have another form: expected {mine.state_size} columns and window="
                    f"{mine.limit}, received {its.state_size} and {its.limit}"
                )


class Frozen:
    """A model's inference with fixed weights: recorded programs that run without the Python layers.

    `model.frozen()` makes one. `stream.frozen()` makes one that predicts step by step: then calls take a state and return
    (outputs, state). Any number of threads may call it. It works in forked processes and can be pickled; protocol 5 keeps the
    weights out of the pickle as one buffer. `load(..., mapped=True)` maps a file of `save`: all processes that load it share the
    memory of its weights.

    Args:
        bundle: The programs with their description, which `model.frozen` makes.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
        >>> frozen = model.frozen()
        >>> frozen.save("model.frozen")
        >>> again = keras.inference.Frozen.load("model.frozen")
        >>> again(np.array([[1.0, 2.0]]))
        array([[3.]], dtype=float32)
        >>> model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4, return_sequences=True)])
        >>> frozen = model.stream().frozen(batch_sizes=(1, 8))
        >>> y, state = frozen(np.ones((2, 3)), frozen.initial(2))  # one step of two sequences
        >>> y.shape, state.shape
        ((2, 4), (2, 8))
    """

    _state: _State

    def __init__(self, bundle: Bundle):
        self._state = _State(bundle)

    def __reduce__(self) -> tuple:
        return type(self), (self._state.bundle,)

    def __repr__(self) -> str:
        steps = f", steps {self.steps}" if self.is_stream else ""
        return f"<Frozen {self.name!r}, batch sizes {self.batch_sizes}{steps}>"

    # -------------------- description --------------------

    @property
    def name(self) -> str:
        """The model's name."""
        return self._state.spec.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in the order in which `run` takes them; sequences of a stream have shapes (None, None, ...)."""
        return self._state.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the order in which `run` returns them."""
        return self._state.spec.outputs

    @property
    def structures(self) -> tuple[Any, ...]:
        """The structures of the inputs and of the outputs, with a number for each leaf."""
        return self._state.structure, self._state.output

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The numbers of rows for which there are programs, the smallest first."""
        return self._state.batch_sizes

    @property
    def host(self) -> Any:
        """The HostPart that makes numbers of strings; None for a model of numbers."""
        return self._state.host

    @property
    def is_by_rows(self) -> bool:
        """Whether the rows of a batch are independent; else batches must have a recorded size."""
        return self._state.spec.is_by_rows

    @property
    def nbytes(self) -> int:
        """The bytes of the weights, including values computed from them in advance."""
        return self._state.bundle.constants.nbytes

    def parts(self, rows: int) -> tuple[int, ...]:
        """The sizes of the programs that compute a batch, in order; the last one may have more rows than are left.

        Args:
            rows: The number of rows of the batch.

        Example:
            >>> frozen = keras.Sequential([layers.Dense(2, input_shape=(3,))]).frozen(batch_sizes=(1, 8))
            >>> frozen.parts(17), frozen.parts(6)
            ((8, 8, 1), (8,))
        """
        return cover(rows, self._state.batch_sizes, self._state.costs)

    # -------------------- streams --------------------

    @property
    def is_stream(self) -> bool:
        """Whether it predicts step by step, with a state."""
        return self._state.interface is not None

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of steps for which a stream has programs, the smallest first."""
        return self._state.steps

    @property
    def state_size(self) -> int:
        """The number of columns of a stream's state; 0 for a model that keeps nothing."""
        return len(self._state.start) if self.is_stream else 0

    @property
    def state_dtype(self) -> np.dtype | None:
        """The dtype of a stream's state."""
        return None if self._state.interface is None else self._state.interface.dtype

    @property
    def window(self) -> int | None:
        """The number of steps that a sequence may have, for streams with causal attention; None for any."""
        return None if self._state.interface is None else self._state.interface.limit

    def initial(self, batch: int = 1) -> Array:
        """The state of new sequences of a stream, (batch, state_size).

        Args:
            batch: The number of sequences.
        """
        self._require_stream()
        return np.repeat(self._state.start[None], batch, axis=0)

    def _require_stream(self) -> Interface:
        interface = self._state.interface
        if interface is None:
            raise ValueError(
                f"model {self.name!r} keeps no state from step to step: freeze a stream, model.stream().frozen()"
            )
        return interface

    # -------------------- computing --------------------

    def __call__(self, x: Any, state: Array | None = None) -> Any:
        """The outputs, as `predict` returns them; of a stream (outputs, state), as the stream returns them.

        Args:
            x: An array, or a list or dict of arrays, as for `predict`; any number of rows. For a stream (batch, steps, ...), or
                (batch, ...) for one step.
            state: Of a stream: `initial(batch)`, or the state that a call returned; it is not changed.

        Returns:
            A NumPy array, or a structure of arrays if there are several outputs. For a stream (outputs, state).

        Raises:
            ValueError: for data or a state that do not fit the model, and for a sequence that has become longer than `window`.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.frozen()(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        own = self._state
        if own.interface is not None or state is not None:
            return self._step(x, state)
        outputs = own.at_once(x, None)
        if outputs is None:
            arrays: Any = own.ports.arrays_in_order(x)[0]
            own.check_rows(arrays)
            outputs = own.compute(arrays)
        return outputs[0] if own.is_one else structures.pack(own.output, outputs)

    def _step(self, x: Any, state: Any) -> tuple[Any, Array]:
        own, interface = self._state, self._require_stream()
        self._require_state(state)
        is_step, found = False, own.at_once(x, state)
        if found is None:
            arrays, rows, steps, is_step = interface.arrays(x)
            found = own.compute([*arrays, interface.state(state, rows, steps)], steps)
        *outputs, after = found
        if is_step and own.spec.state is not None:
            outputs = [y[:, 0] if each else y for y, each in zip(outputs, own.spec.state.has_steps, strict=True)]
        return one_or_all(structures.pack(own.output, outputs)), after

    def _require_state(self, state: Any) -> None:
        if state is None:
            raise ValueError(
                f"model {self.name!r} is a stream, whose calls take a state: pass initial(batch) for new sequences, or the state "
                "that the last call returned"
            )

    def run(self, arrays: Sequence[Array], state: Array | None = None) -> Any:
        """The outputs for arrays in the order of `inputs`; of a stream (outputs, state). Nothing is converted.

        Args:
            arrays: A NumPy array for each input, of its dtype and shape, with any number of rows.
            state: Of a stream: the state of each row.

        Returns:
            A list of new arrays, in the order of `outputs`. For a stream (the list, the new state).

        Raises:
            ValueError: for a wrong number of arrays, dtype or shape; the message names the input.

        Example:
            >>> frozen = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))]).frozen()
            >>> frozen.run([np.array([[1.0, 2.0]], "float32")])
            [array([[3.]], dtype=float32)]
        """
        own = self._state
        outputs = own.at_once(arrays[0], state) if len(arrays) == 1 else None
        if own.interface is None:
            if state is not None:
                self._require_stream()  # raises
            if outputs is None:
                arrays = arrays if own.host is None else own.host.numbers(arrays)
                own.check_arrays(arrays)
                own.check_tables(arrays)
                outputs = own.compute(arrays)
            return outputs
        self._require_state(state)
        if outputs is None:
            own.check_arrays(arrays)
            rows, steps = own.interface.sizes(arrays)
            own.check_tables(arrays)
            outputs = own.compute([*arrays, own.interface.state(state, rows, steps)], steps)
        *outputs, after = outputs
        return outputs, after

    def measure(self, seconds: float = 0.1) -> None:
        """Measure the program of each size on this machine, so that batches are split into the fastest parts.

        Unmeasured programs are assumed to take a time that grows with their rows. Processor caches make that wrong for some
        models: 8 rows of a convolutional network may take longer than 4 rows twice. Files do not store the times, and
        `replace` drops them. For a stream, and for a model whose rows depend on each other, this does nothing.

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

    def replace(self, other: Any) -> None:
        """Replace the weights by another model's. Each call uses either the old or the new weights. States stay valid.

        Names stay the same. Running calls keep the old weights, whose memory is freed after the last of these calls.

        Args:
            other: A Frozen, whose sizes are used too, or a model or stream, which is frozen with the present ones.

        Raises:
            TypeError: for another object.
            ValueError: if the form of its inputs, outputs or state differs.

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
            other = self._freeze(other)
        new = other._state.bundle
        own.check_form(other._state)
        names = {"name": own.spec.name, "inputs": own.spec.inputs, "outputs": own.spec.outputs}
        self._state = _State(new._replace(spec=new.spec._replace(**names)))

    def _freeze(self, other: Any) -> Frozen:
        """A model or a stream, frozen for the present sizes."""
        kept = self._state.spec.state
        if hasattr(other, "predict_step"):  # a model
            if kept is None:
                return other.frozen(self.batch_sizes, list(self._state.spec.inputs))
            names = [name for name, each in zip(other.input_names, kept.is_sequence, strict=False) if each]
            other = other.stream(window=kept.limit, sequences=names)
        elif kept is None or not hasattr(other, "frozen"):
            allowed = "a Frozen or a model" if kept is None else "a Frozen, a stream or a model"
            raise TypeError(f"expected {allowed}, received {type(other).__name__}")
        return other.frozen(self.batch_sizes, self.steps)

    # -------------------- files --------------------

    def save(self, filepath: Any) -> None:
        """Write a file that `load` reads: a bundle, which is plain data. Other users cannot write into it.

        The file is written atomically. A namedtuple among the outputs becomes a tuple.

        Args:
            filepath: The name of the file.

        Raises:
            OSError: for a full disk and the like.
            ValueError: for a kernel that another process would not find.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
        """
        bundles.save(self._state.bundle, filepath)

    @classmethod
    def load(cls, filepath: Any, safe_mode: bool = True, *, mapped: bool = False) -> Frozen:
        """Read a file of `save`.

        The file is data and runs no code of its own. Its sizes, places, names and checksums are checked. But it chooses which
        kernels run on which arrays, and kernels do not check their arrays against each other: load only files of people whom
        you trust. So a file that another user (except root) owns or can write is refused. Only the version of nbkeras that
        wrote the file can read it.

        Args:
            filepath: The name of the file.
            safe_mode: Whether to refuse a file that needs kernels of other modules than nbkeras's: their modules are imported,
                which runs their code.
            mapped: Whether to map the weights from the file into memory, so that processes that map the same file share them.
                Then nobody may write into the file while it is used: outputs would change, and the system kills a process
                whose file becomes shorter (SIGBUS). `save` is harmless, since it replaces the file. By default the weights are
                copied.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError: for a file that another user owns or can write.
            ValueError: for a file that is damaged, needs kernels of other modules, or is from another version.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
            >>> keras.inference.Frozen.load("model.frozen").batch_sizes
            (1, 32)
        """
        return cls._of(bundles.load(filepath, safe_mode, mapped), filepath)

    @classmethod
    def read(cls, file: Any, name: str, safe_mode: bool = True) -> Frozen:
        """Read an open file as `load` does.

        Args:
            file: A binary file.
            name: Its name, for error messages.
            safe_mode: See `load`.
        """
        return cls._of(bundles.read(file, name, safe_mode), name)

    @classmethod
    def _of(cls, bundle: Bundle, name: Any) -> Frozen:
        try:
            return cls(bundle)
        except MemoryError:
            raise
        except Exception as error:  # launches that no recording has may fail anywhere
            raise ValueError(
                f"{name!r} is damaged: its programs do not run ({type(error).__name__}: {briefly(str(error))}). Freeze the model "
                "again"
            ) from error


# -------------------- sizes --------------------


def _compared(specs: Sequence[TensorSpec]) -> list[tuple]:
    """The parts of specs that must be equal: names only if there are several specs."""
    return [tuple(spec) if len(specs) > 1 else tuple(spec[1:]) for spec in specs]


def _padded(array: Array, rows: int) -> Array:
    """The array padded with its last row, since that is a valid row for the model."""
    if len(array) == rows:
        return array
    return np.concatenate([array, np.broadcast_to(array[-1:], (rows - len(array), *array.shape[1:]))])


def _listed(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, sizes))


@functools.lru_cache(1024)
def cover(rows: int, sizes: tuple[int, ...], costs: tuple[float, ...]) -> tuple[int, ...]:
    """The sizes of the programs that compute `rows` rows, in order; only the last one may have more rows than are left.

    sizes: the smallest first. costs: the cost of a run of each. While many rows are left, the program with the least cost per
    row is chosen. The last program computes all remaining rows if that costs less than several programs.
    """
    programs = list(zip(costs, sizes, strict=True))
    taken: list[int] = []
    spent, left = 0.0, rows
    ways = []  # (total cost, number of runs before the last one, size of the last one)
    while left:
        lasts = [(spent + cost, len(taken), size) for cost, size in programs if size >= left]
        ways += [min(lasts)] if lasts else []
        fitting = [(cost / size, -size, cost) for cost, size in programs if size <= left]
        if not fitting:
            break
        _, negative, cost = min(fitting)
        count = max(1, (left - sizes[-1]) // -negative)  # while more rows are left than one program takes
        taken += [-negative] * count
        spent += cost * count
        left += negative * count
    if not left:
        ways.append((spent, len(taken), 0))
    _, before, last = min(ways)
    return (*taken[:before], last) if last else tuple(taken)


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
