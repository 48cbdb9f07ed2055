"""Floor 3: batches. Arrays, generators and Sequences become one thing, a source of Batches whose leaves can be written
into a program's input buffers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.data import tables
from nbkeras.engine import structures
from nbkeras.engine.dlpack import on_host
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn

Array = np.ndarray
_INT32 = np.iinfo(np.int32)
_ARRAYS = "__array__", "__dlpack__", "__cuda_array_interface__"  # what tells that something is an array


def to_array(value: Any, what: str, dtype: Any = None) -> Array:
    """An array of numbers, contiguous, in `dtype`; by default floats get floatx, and integers int32 if that holds them.

    A copy is made only where one is needed. Sparse matrices become SparseRows, which are dense only batch by batch. ValueError
    for numbers that a dtype of integers does not hold.
    """
    if tables.is_sparse(value) and value.ndim == 2:
        rows = tables.SparseRows(value.tocsr())
        return rows.with_values(to_array(rows.values, what, dtype))  # type: ignore[return-value] # a leaf as others
    value = value.numpy() if isinstance(value, Tensor) else on_host(value)
    try:
        value = tables.table_array(value, what) if hasattr(value, "to_numpy") else value
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{what} cannot be made one array: its rows differ in length ({error}); pad them first"
        ) from None
    if array.ndim == 0 and array.dtype.kind in "fiub":
        raise ValueError(f"{what} must be an array with a value for each sample, received a single number, {array}")
    if np.ma.is_masked(value):
        raise ValueError(f"{what} is a masked array, and masks are not looked at: fill its missing values first")
    if array.dtype.kind not in "fiub":
        hint = " (lists of different lengths? pad them first)" if array.dtype == object else ""
        raise TypeError(f"{what} must hold numbers or booleans, received dtype {array.dtype}{hint}")
    if dtype is None:
        dtype = _default_dtype(array)
    elif np.dtype(dtype).kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
        _check_whole(array, what, np.iinfo(dtype))
    return np.ascontiguousarray(array, dtype)


def _check_whole(array: Array, what: str, limits: np.iinfo) -> None:
    """ValueError for numbers that a dtype of integers does not hold: a cast would make others of them."""
    low, high = array.min().item(), array.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{what} holds NaN or infinity where whole numbers ({limits.dtype}) are expected")
    if low <= limits.min - 1 or high >= limits.max + 1:
        raise ValueError(
            f"{what} holds numbers from {low} to {high}, but it has dtype {limits.dtype}, of {limits.min} to {limits.max}: "
            "give smaller numbers, or the Input another dtype"
        )


def _default_dtype(array: Array) -> Any:
    if array.dtype.kind == "f":
        return config.floatx()
    if array.dtype.kind == "b":
        return np.dtype(bool)
    wide = array.dtype.itemsize == 8 or array.dtype == np.uint32
    if wide and array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        return array.dtype if array.max() > np.iinfo(np.int64).max else np.dtype(np.int64)
    return np.dtype(np.int32)


class Batch:
    """Rows of arrays: `leaves[i][rows]`, where rows is a slice or an index array; None leaves stay None."""

    __slots__ = ("leaves", "rows", "size")

    def __init__(self, leaves: list[Array | None], rows: slice | Array, size: int):
        self.leaves, self.rows, self.size = leaves, rows, size

    @property
    def signature(self) -> tuple:
        """Shapes and dtypes of the leaves: what a recorded program depends on."""
        return tuple(None if a is None else ((self.size, *a.shape[1:]), a.dtype.char) for a in self.leaves)

    def write(self, buffers: list[Array | None]) -> None:
        """Copy the rows into buffers of the signature's shapes."""
        for leaf, buffer in zip(self.leaves, buffers, strict=True):
            if leaf is None or buffer is None:
                continue
            if isinstance(self.rows, slice) or isinstance(leaf, tables.SparseRows):
                np.copyto(buffer, leaf[self.rows])
            else:
                np.take(leaf, self.rows, axis=0, out=buffer, mode="clip")

    def arrays(self) -> list[Array | None]:
        """The rows as arrays of their own."""
        return [None if leaf is None else np.ascontiguousarray(leaf[self.rows]) for leaf in self.leaves]


def samples_of(leaves: Sequence[Array | None]) -> int:
    """How many rows the leaves have; ValueError where they do not agree."""
    lengths = {len(leaf) for leaf in leaves if leaf is not None}
    if len(lengths) > 1:
        raise ValueError(
            f"all inputs, targets and sample weights must have the same number of samples, received {sorted(lengths)}"
        )
    return lengths.pop() if lengths else 0


class Source:
    """Batches, epoch by epoch. A subclass makes passes over its data.

    asked: the steps of an epoch, if they were given. In training each epoch then goes on where the last one stopped, with
    another pass where one ends (as Keras does but for that end: Keras 3 cuts the epoch short there). steps: how many
    there will be, None if that is not known.
    """

    may_resize = False  # whether the next epoch may have another number of steps

    def __init__(self, length: int | None, asked: int | None, training: bool):
        self.steps = length if asked is None else asked if training or length is None else min(asked, length)
        self._asked, self._training = asked, training
        self._rest: Iterator[Any] = iter(())  # of the pass that the last epoch began

    def _pass(self) -> Iterator[Batch]:
        raise NotImplementedError

    def epoch(self) -> Iterator[Batch]:
        """The next `steps` batches, or all that there are."""
        if self._asked is None or not self._training:
            made = 0
            for batch in itertools.islice(self._pass(), self.steps if self._asked is None else self._asked):
                made += 1
                yield batch
            if made < (self._asked or 0):
                warn(f"the data ran out after {made} of {self._asked} steps")
            return
        for _ in range(self._asked):
            following = next(self._rest, None)
            if following is None:
                self._rest = self._pass()
                following = next(self._rest, None)
            if following is None:  # a generator that has run out
                return
            yield following

    def on_epoch_begin(self) -> None:
        """Before an epoch."""

    def on_epoch_end(self) -> None:
        """After an epoch."""


class ArraySource(Source):
    """Batches from arrays of one length: leaves in the order inputs, targets, sample weights.

    batch_size: None for 32, or for what makes as many batches as were asked for.
    """

    def __init__(
        self,
        leaves: list[Array | None],
        batch_size: int | None,
        shuffle: bool | str = False,
        asked: int | None = None,
        training: bool = False,
    ):
        self.leaves, self.samples = leaves, samples_of(leaves)
        if self.samples == 0:
            raise ValueError("the data has no samples")
        by_default = 32 if asked is None else math.ceil(self.samples / asked)
        self.batch_size = by_default if batch_size is None else batch_size
        self.shuffle = shuffle
        self._random = np.random.default_rng(config.next_seed()) if shuffle else None
        super().__init__(math.ceil(self.samples / self.batch_size), asked, training)

    def _pass(self) -> Iterator[Batch]:
        """The last batch may be smaller."""
        order = self._order()
        for start in range(0, self.samples, self.batch_size):
            stop = min(start + self.batch_size, self.samples)
            rows = slice(start, stop) if order is None else order[start:stop]
            yield Batch(self.leaves, rows, stop - start)

    def _order(self) -> Array | None:
        if not self.shuffle or self._random is None:
            return None
        if self.shuffle == "batch":  # Keras 2: whole batches change places, rows within one do not
            starts = list(self._random.permutation(np.arange(0, self.samples, self.batch_size)))
            tail = [s for s in starts if s + self.batch_size > self.samples]
            starts = [s for s in starts if s + self.batch_size <= self.samples] + tail
            return np.concatenate([np.arange(s, min(s + self.batch_size, self.samples)) for s in starts])
        return self._random.permutation(self.samples)


class StreamSource(Source):
    """Batches from a generator, an iterator or a Sequence of x, (x, y) or (x, y, sample_weight).

    prepare(item) -> leaves checks and converts one item. A Sequence (with __len__ and __getitem__) is read in order, or in
    a random order of its batches with shuffle; an iterator goes on where it stopped, other iterables start anew. seen: the
    batches of a Sequence that were made already, by number; each is used once.
    """

    def __init__(
        self,
        stream: Any,
        prepare: Any,
        asked: int | None,
        shuffle: bool = False,
        seen: dict | None = None,
        training: bool = False,
    ):
        super().__init__(_length(stream), asked, training)
        self._prepare, self._stream, self._seen = prepare, stream, seen or {}
        self._sequence = stream if is_sequence(stream) else None
        self.may_resize = asked is None and self._sequence is not None  # a Sequence may change its length
        self._random = np.random.default_rng(config.next_seed()) if shuffle and self._sequence is not None else None

    def _pass(self) -> Iterator[Batch]:
        for item in self._items():
            leaves = self._prepare(item)
            size = samples_of(leaves)
            if size == 0:
                raise ValueError("a batch of the generator or Sequence has no samples")
            yield Batch(leaves, slice(None), size)

    def _items(self) -> Iterator:
        if self._sequence is None:
            yield from self._stream
            return
        count = len(self._sequence)
        for index in range(count) if self._random is None else self._random.permutation(count):
            yield self._seen.pop(index) if index in self._seen else self._sequence[int(index)]

    def on_epoch_begin(self) -> None:
        self._tell("on_epoch_begin")

    def on_epoch_end(self) -> None:
        self._tell("on_epoch_end")
        if self.may_resize:
            self.steps = _length(self._stream)

    def _tell(self, what: str) -> None:
        """Sequences want to know where epochs begin and end."""
        hook = getattr(self._sequence, what, None)
        if hook is not None:
            hook()


def _length(stream: Any) -> int | None:
    """How many batches a stream says it has, None if it does not."""
    try:
        return len(stream)
    except TypeError:  # no __len__, or one of a data set without end
        return None


def is_sequence(x: Any) -> bool:
    """Whether x gives batches by number, as Keras's Sequence and PyDataset do."""
    return hasattr(x, "__getitem__") and hasattr(x, "__len__")


def is_stream(x: Any) -> bool:
    """Whether x yields batches by itself: a generator, an iterator, a Sequence, a data loader."""
    if isinstance(x, np.ndarray | list | tuple | dict | Tensor) or any(hasattr(x, name) for name in _ARRAYS):
        return False
    if isinstance(x, memoryview | str | bytes | bytearray) or tables.is_sparse(x):
        return False
    return hasattr(x, "__next__") or hasattr(x, "__iter__") or is_sequence(x)


def split_validation(leaves: list[Array | None], fraction: float) -> tuple[list[Array | None], list[Array | None]]:
    """The first part for training and the last `fraction` for validation, before any shuffling, as Keras does."""
    samples = next(len(leaf) for leaf in leaves if leaf is not None)
    at = math.floor(samples * (1 - fraction))
    if at == 0 or at == samples:
        raise ValueError(
            f"validation_split={fraction} of {samples} samples leaves one of the two parts empty: give more data, "
            "another fraction, or validation_data"
        )
    return (
        [None if leaf is None else leaf[:at] for leaf in leaves],
        [None if leaf is None else leaf[at:] for leaf in leaves],
    )


def class_weights(targets: Array, weights: dict[int, float]) -> Array:
    """A weight per sample from a weight per class; targets are class numbers or one-hot rows."""
    if not isinstance(weights, dict):
        raise TypeError(f"class_weight must be a dict from class number to weight, received {type(weights).__name__}")
    targets = np.asarray(targets)  # sparse ones too
    if targets.ndim > 1 and targets.shape[-1] > 1:
        classes = targets.argmax(axis=-1)
    else:
        classes = np.rint(targets[..., 0] if targets.ndim > 1 and targets.shape[-1] else targets)
    largest = float(np.finfo(config.floatx()).max)
    for number, weight in weights.items():
        if not isinstance(number, int | np.integer):
            raise ValueError(f"class_weight's keys must be class numbers (0, 1, ...), received {number!r}")
        if not (isinstance(weight, int | float | np.integer | np.floating) and abs(weight) <= largest):
            raise ValueError(f"class_weight's values must be finite numbers, received {weight!r} for class {number}")
    numbers, places = np.unique(classes, return_inverse=True)
    return np.array([weights.get(number, 1.0) for number in numbers.tolist()], config.floatx())[places].reshape(
        classes.shape
    )


def unpack(item: Any, inputs: int = 1) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of what a generator yields: a tuple, or a list as PyTorch's DataLoader makes it.

    A list of as many arrays as the model has inputs, if they are several, is x alone.
    """
    if (
        isinstance(item, list)
        and len(item) in (2, 3)
        and all(hasattr(leaf, "shape") for leaf in structures.flatten(item))
    ):
        alone = len(item) == inputs and all(hasattr(part, "shape") for part in item)
        item = item if alone else tuple(item)
    if isinstance(item, tuple):
        if len(item) > 3 or not item:
            raise ValueError(f"a batch must be x, (x, y) or (x, y, sample_weight), received a tuple of {len(item)}")
        return (*item, None, None)[:3]
    return item, None, None


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of what a train_step gets: x, (x,), (x, y) or (x, y, sample_weight)."""
    return unpack(tuple(data) if isinstance(data, list) else data)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The inverse of `unpack_x_y_sample_weight`; x alone stays x, unless it is a list or tuple."""
    if y is None:
        return (x,) if isinstance(x, list | tuple) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


class Peeked:
    """An iterator whose first item can be looked at before it is taken."""

    def __init__(self, iterator: Iterator):
        try:
            self.first = next(iterator)
        except StopIteration:
            raise ValueError("the generator yielded no batch") from None
        self._iterator = itertools.chain([self.first], iterator)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)
