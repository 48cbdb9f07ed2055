"""Shared parts of frozen models and frozen streams: specs, numbers of rows, checks, and files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.inference import portable
from nbkeras.inference.recording import Recording

Array = np.ndarray
_CALL = 7  # overhead of a call in rows of computation, assumed until `measure`; see `cover`


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
    """An input in the form that the checks of a graph's inputs need; `node` is only for symbols."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype
    node: None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Ports:
    """The inputs of a frozen model, in place of a graph."""

    def __init__(self, structure: Any, specs: Sequence[TensorSpec]):
        self.input_list = [_Port(*spec) for spec in specs]
        self.inputs = structures.pack(structure, self.input_list)


class SessionBase:
    """The base of Frozen and FrozenStream. Its state, the programs with their description, is exchanged as one by `replace`.

    Args:
        state: It has `form`, `programs`, `inputs`, `outputs`, `batch_sizes` and `costs`; its class takes a form and programs.
    """

    is_stream = False  # whether it keeps a state from step to step

    _state: Any

    def __init__(self, state: Any):
        self._state = state

    @property
    def name(self) -> str:
        """The model's name."""
        return self._state.form.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in the order in which `run` takes them; sequences of a stream have shapes (None, None, ...)."""
        return self._state.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the order in which `run` returns them."""
        return self._state.outputs

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The numbers of rows for which there are programs, the smallest first."""
        return self._state.batch_sizes

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

    @property
    def nbytes(self) -> int:
        """The bytes of the weights, including values computed from them in advance."""
        return self._state.programs.constants.nbytes

    @property
    def is_by_rows(self) -> bool:
        """Whether the rows of a batch are independent; else batches must have a recorded size."""
        return self._state.form.is_by_rows

    def _take(self, new: Any) -> None:
        """Use another state, under the present names. Raises ValueError if its form differs."""
        self._check_form(new)
        own = self._state.form
        form = new.form._replace(name=own.name, inputs=own.inputs, outputs=own.outputs)
        self._state = type(new)(form, new.programs)

    def _check_form(self, new: Any) -> None:
        own = self._state
        for kind, ours, theirs in (("inputs", own.inputs, new.inputs), ("outputs", own.outputs, new.outputs)):
            if compared(ours) != compared(theirs):
                raise ValueError(f"the {kind} of model {new.form.name!r} differ: expected {ours}, received {theirs}")
        if own.form.structures != new.form.structures:
            raise ValueError(f"the inputs or outputs of model {new.form.name!r} are in another structure")

    def save(self, filepath: Any) -> None:
        """Write a file that `load` reads. It is written atomically, and other users cannot write into it.

        Args:
            filepath: The name of the file.

        Raises:
            OSError: for a full disk and the like.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
        """
        portable.save(self, filepath)

    @classmethod
    def load(cls, filepath: Any, safe_mode: bool = True, *, mapped: bool = False) -> Self:
        """Read a file of `save`.

        A file can run any code, since it holds a pickle. So it is refused, unless the caller confirms with safe_mode=False
        that this user's own process wrote it. A file that another user (except root) owns or can write is always refused. Only
        the version of nbkeras that wrote the file can read it.

        Args:
            filepath: The name of the file.
            safe_mode: Whether to refuse files that can run code, as all files of `save` can.
            mapped: Whether to map the weights from the file into memory, so that processes that map the same file share them.
                Then nobody may write into the file while it is used: outputs would change, and the system kills a process
                whose file becomes shorter (SIGBUS). `save` is harmless, since it replaces the file. By default the weights are
                copied.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError: for a file that another user owns or can write.
            ValueError: in safe mode, and for a file that is damaged, of another kind, or from another version.

        Example:
            >>> keras.Sequential([layers.Dense(1, input_shape=(2,))]).frozen().save("model.frozen")
            >>> keras.inference.Frozen.load("model.frozen", safe_mode=False).batch_sizes
            (1, 32)
        """
        return portable.load(cls, filepath, safe_mode, mapped)

    def __reduce__(self) -> tuple:
        return type(self), (self._state.form, self._state.programs)


def check_arrays(name: str, specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> None:
    """Raise ValueError, naming the input, for a wrong number of arrays, for other objects, and for a wrong dtype."""
    if len(arrays) != len(specs):
        raise ValueError(
            f"model {name!r} has {len(specs)} inputs, {[spec.name for spec in specs]}, received {len(arrays)} arrays"
        )
    for array, spec in zip(arrays, specs, strict=True):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"input {spec.name!r} must be a NumPy array, received {type(array).__name__}")
        if array.dtype != spec.dtype:
            raise ValueError(f"input {spec.name!r} expects dtype {spec.dtype}, received {array.dtype}")


def compared(specs: Sequence[TensorSpec]) -> list[tuple]:
    """The parts of specs that must be equal: names only if there are several specs."""
    return [tuple(spec) if len(specs) > 1 else tuple(spec[1:]) for spec in specs]


def padded(array: Array, rows: int) -> Array:
    """The array padded with its last row, since that is a valid row for the model."""
    if len(array) == rows:
        return array
    return np.concatenate([array, np.broadcast_to(array[-1:], (rows - len(array), *array.shape[1:]))])


def usual_costs(sizes: Sequence[int]) -> tuple[float, ...]:
    """The assumed costs of programs of some sizes, until they are measured."""
    return tuple(float(size + _CALL) for size in sizes)


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


def rows_together(name: str, sizes: Sequence[int], rows: int) -> ValueError:
    """The error for a number of rows without a program, for a model whose rows depend on each other."""
    return ValueError(
        f"the rows of a batch of model {name!r} depend on each other, so batches cannot be split or padded: it takes "
        f"{listed(sizes)} rows, received {rows}"
    )


def listed(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, sizes))


def check_rows_of_outputs(model: Any, names: Sequence[str], recording: Recording) -> None:
    rows = len(recording.inputs[0])
    for name, array in zip(names, recording.outputs, strict=True):
        if array.shape[:1] != (rows,):
            raise ValueError(
                f"model {model.name!r} cannot be frozen: output {name!r} has no row for each of {rows} samples, its shape is "
                f"{array.shape}"
            )


def check_device(model: Any) -> None:
    if model._gpu is not None:
        raise ValueError(
            f"model {model.name!r} is on a GPU and cannot be frozen, which is for the CPU: make the model with "
            "nbkeras.device('cpu')"
        )


def counts_of(name: str, counts: Any) -> tuple[int, ...]:
    """The positive integers in an argument, one or a list of them, the smallest first."""
    given = [counts] if isinstance(counts, int | np.integer) else list(counts)
    if not given or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in given):
        raise ValueError(f"{name} must be a positive integer or a list of them, received {briefly(counts)}")
    return tuple(sorted({int(n) for n in given}))


def specs_of(fields: Sequence[tuple]) -> tuple[TensorSpec, ...]:
    """The specs of a form, which has dtypes as strings."""
    return tuple(TensorSpec(name, shape, np.dtype(dtype)) for name, shape, dtype in fields)


def are_rows_apart(recording: Recording, recorded: Callable[[int], Recording]) -> bool:
    """Whether a model's rows are independent, tested on a recording, or on one of two rows if it has one row."""
    if len(recording.inputs[0]) > 1:
        return _keeps_rows_apart(recording)
    try:
        return _keeps_rows_apart(recorded(2))
    except Exception:  # the model takes only one row
        return False


def _keeps_rows_apart(recording: Recording) -> bool:
    """Whether changing the other rows leaves the first row's outputs unchanged in an example."""
    if any(array.shape[:1] != recording.inputs[0].shape[:1] for array in recording.outputs):
        return False
    recording.program.run()
    first = [array[:1].tobytes() for array in recording.outputs]
    for array in recording.inputs:
        array[1:] = array[:0:-1] * 2 + 1 if array.dtype.kind == "f" else 1 - array[1:]
    recording.program.run()
    return first == [array[:1].tobytes() for array in recording.outputs]
