"""Floor 3: DataAdapter makes batches, epoch by epoch, from arrays, a generator, a Sequence or a data loader."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.data.arrays import is_sparse
from nbkeras.data.pydataset import PyDataset
from nbkeras.engine import settings, structures, switches
from nbkeras.engine.batch import Batch
from nbkeras.engine.sharding import agreed
from nbkeras.engine.tensor import Tensor
from nbkeras.engine.user_errors import warn

Array = np.ndarray
_ARRAYS = "__array__", "__dlpack__", "__cuda_array_interface__"  # the attributes of arrays


class DataAdapter:
    """A data set as batches, epoch by epoch. A subclass makes passes over its data.

    asked: the number of steps per epoch, if it was given. In training each epoch then continues where the last one stopped,
    and begins another pass at the end of a pass (as in Keras, except that Keras 3 ends the epoch there). steps: the number of
    batches per epoch; None if unknown. shuffled: whether `_random` draws an order for each pass.
    """

    may_resize = False  # whether the next epoch may have another number of steps
    whole: Batch | None = None  # all rows of arrays; None for a stream
    held_back: DataAdapter | None = None  # the rows of the same arrays that validate

    def __init__(self, length: int | None, asked: int | None, training: bool, shuffled: bool = False):
        asked = switches.limited("max_steps_per_epoch", asked, length)
        self.steps = length if asked is None else asked if training or length is None else min(asked, length)
        self._asked, self._continues = asked, training and asked is not None
        self._random = np.random.default_rng(agreed(config.next_seed())) if shuffled else None
        self._drawn_from: Any = None  # the state of _random when the pass began
        self._rest: Iterator[Batch] | None = None  # the rest of the current pass
        self._done = 0  # the batches that the pass has yielded
        self._has_begun = False  # whether there was a pass

    def _pass(self, skip: int) -> Iterator[Batch]:
        """The batches of a pass, without the first `skip`. The order is drawn at once."""
        raise NotImplementedError

    def sample(self) -> Batch:
        """A batch like the others, before the first epoch; the epoch will still yield it."""
        raise NotImplementedError

    def _begin(self, skip: int = 0) -> Iterator[Batch]:
        """Begin a pass, after its first `skip` batches."""
        self._drawn_from = None if self._random is None else self._random.bit_generator.state
        self._done, self._has_begun = skip, True
        self._rest = self._pass(skip)
        return self._rest

    def epoch(self, done: int = 0) -> Iterator[Batch]:
        """The next `steps` batches, or all remaining ones. done: the number of these batches made before."""
        limit = self.steps if self._asked is None else self._asked
        made = done
        try:
            while limit is None or made < limit:
                before, rest = made, self._rest
                for batch in itertools.islice(rest or self._begin(), None if limit is None else limit - made):
                    self._done += 1
                    made += 1
                    yield batch
                if limit is None or made < limit:  # the pass has ended
                    self._rest = None
                    if not self._continues or (rest is None and made == before):  # a generator that has run out
                        break
        finally:
            if not self._continues:
                self._rest = None
        if not self._continues and made < (self._asked or 0):
            warn(f"the data ran out after {made} of {self._asked} steps")

    def on_epoch_begin(self) -> None:
        """Called before an epoch."""

    def on_epoch_end(self) -> None:
        """Called after an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The position: the current pass, its batches so far, and the random state that its order was drawn from."""
        is_open = self._rest is not None
        random = None if self._random is None else self._random.bit_generator.state
        return {
            "has_begun": self._has_begun,
            "is_open": is_open,
            "done": self._done if is_open else 0,
            "random": self._drawn_from if is_open else random,
            "data": self._form(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the position of another adapter of the same data, without making earlier batches again."""
        if not state["has_begun"]:
            return
        self._load_items(state)
        if state["done"] and self._form() != state["data"]:
            raise ValueError(
                "training was interrupted in the middle of the data, and the data have changed: they were "
                f"{_listed(state['data'])}, they are {_listed(self._form())}. Give fit the same data, or delete the folder of "
                "the backup to start from the beginning"
            )
        if self._random is not None and state["random"] is not None:
            self._random.bit_generator.state = state["random"]
        self._rest, self._has_begun = None, True
        if state["is_open"]:
            self._begin(state["done"])

    def _form(self) -> dict[str, Any]:
        """The properties of the data that must be equal for a position to be valid."""
        return {}

    def _load_items(self, state: dict[str, Any]) -> None:
        """Restore the position of the data themselves."""


def _listed(form: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in form.items())


class ArrayDataAdapter(DataAdapter):
    """Batches of the rows of arrays.

    whole: all rows as one batch. batch_size: None means 32, or the size that gives the requested number of batches. held_back:
    other rows of the same arrays, which validate.
    """

    def __init__(
        self,
        whole: Batch,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool | str = False,
        training: bool = False,
        held_back: DataAdapter | None = None,
    ):
        self.whole: Batch = whole
        self.held_back = held_back
        self.samples = whole.size
        if self.samples == 0:
            raise ValueError("the data has no samples")
        by_default = 32 if steps is None else math.ceil(self.samples / steps)
        self.batch_size = by_default if batch_size is None else batch_size
        self.shuffle = shuffle
        super().__init__(math.ceil(self.samples / self.batch_size), steps, training, bool(shuffle))

    def _pass(self, skip: int) -> Iterator[Batch]:
        """The batches of a pass; the last one may be smaller."""
        order = self._order()
        return (self._batch(start, order) for start in range(skip * self.batch_size, self.samples, self.batch_size))

    def sample(self) -> Batch:
        return self._batch(0, None)

    def _batch(self, start: int, order: Array | None) -> Batch:
        stop = min(start + self.batch_size, self.samples)
        rows = slice(start, stop) if order is None else order[start:stop]
        return self.whole.layout.prepared(Batch(self.whole.leaves, rows, stop - start, self.whole.layout))

    def _form(self) -> dict[str, Any]:
        return {"samples": self.samples, "batch_size": self.batch_size, "shuffle": self.shuffle}

    def _order(self) -> Array | None:
        if not self.shuffle or self._random is None:
            return None
        if self.shuffle == "batch":  # Keras 2: whole batches are shuffled, not the rows within one
            starts = list(self._random.permutation(np.arange(0, self.samples, self.batch_size)))
            tail = [s for s in starts if s + self.batch_size > self.samples]
            starts = [s for s in starts if s + self.batch_size <= self.samples] + tail
            return np.concatenate([np.arange(s, min(s + self.batch_size, self.samples)) for s in starts])
        return self._random.permutation(self.samples)


class ItemStream:
    """A generator, iterator, iterable or Sequence. `first` is its first item; reading still starts with this item.

    An iterator continues where it stopped, other iterables start again. A Sequence (with __len__, __getitem__) is read by index.
    """

    def __init__(self, items: Any):
        self.sequence = items if is_sequence(items) else None
        self._items = items
        self._starts_anew = self.sequence is not None or not hasattr(items, "__next__")
        self._has_state = all(callable(getattr(items, name, None)) for name in ("state_dict", "load_state_dict"))
        self._read = 0  # the number of items read from an iterator
        self._is_left = False  # whether the last pass of a data loader stopped in the middle
        self._is_loaded = False  # whether a loaded state waits for the next pass
        self._drawn_from: Any = None  # the random state when the last pass of an iterable began
        self.first: Any  # None after a pass has begun, to free its memory
        if self.sequence is not None:
            if len(items) == 0:
                raise ValueError("the Sequence has no batches")
            self.first = items[0]
            return
        try:
            self.first = next(iter(items))
        except StopIteration:
            raise ValueError("the generator yielded no batch") from None

    def items(self, random: np.random.Generator | None = None, skip: int = 0) -> Iterator:
        """One pass over the items; a Sequence in random order if `random` is given.

        skip: the number of first items to skip. An iterator, and items with their own state, have already skipped them.
        """
        if self.sequence is not None:
            count = len(self.sequence)
            order = range(count) if random is None else random.permutation(count)
            return (self._numbered(int(index)) for index in order[skip:])
        return self._again(skip) if self._starts_anew else self._on()

    def _numbered(self, index: int) -> Any:
        """An item of a Sequence."""
        return self._take_first() if index == 0 and self.first is not None else self.sequence[index]  # type: ignore[index]

    def _on(self) -> Iterator:
        """The next items of an iterator."""
        if self.first is not None:
            self._read += 1
            yield self._take_first()
        for item in self._items:  # not `yield from`: it would close a generator that a later pass continues
            self._read += 1
            yield item

    def _again(self, skip: int) -> Iterator:
        """All items of an iterable from the beginning, without the first `skip`."""
        self.first = None
        goes_on, self._is_loaded = self._is_loaded and not skip, False
        now = settings.random_state()
        if goes_on and self._is_left:  # the state is in the middle of an abandoned pass
            next(iter(self._items), None)
            settings.restore_random_state(now)
        if skip and not self._has_state:  # read again, with the random state of that time
            settings.restore_random_state(self._drawn_from)
            items = iter(self._items)
            collections.deque(itertools.islice(items, skip), maxlen=0)
            settings.restore_random_state(now)
        else:
            self._drawn_from, items = now, iter(self._items)
        self._is_left = True
        for item in items:
            goes_on = False
            yield item
        if goes_on:  # the state is at the end of a pass
            yield from self._items
        self._is_left = False

    def state_dict(self) -> dict[str, Any]:
        """The position of the items: their own state, or the number of items read from an iterator."""
        own = self._items.state_dict() if self._has_state else None
        drawn_from = None if self._has_state else self._drawn_from
        return {
            "items": own,
            "read": self._read,
            "has_first": self.first is not None,
            "drawn_from": drawn_from,
            "is_left": self._is_left,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position."""
        if not state["has_first"]:
            self.first = None
        self._drawn_from, self._is_left = state["drawn_from"], state["is_left"]
        if state["items"] is not None:
            if not self._has_state:
                raise ValueError(
                    "training was interrupted with data that have state_dict and load_state_dict; the present data, of type "
                    f"{type(self._items).__name__}, do not have them"
                )
            self._items.load_state_dict(state["items"])
            self._is_loaded = True
        elif not self._starts_anew:
            for _ in range(state["read"] - 1):  # the first item is already read
                if next(self._items, self) is self:
                    raise ValueError(
                        f"training was interrupted after {state['read']} batches of the iterator or generator, but it now ends "
                        "earlier: it must yield the same batches again, or have state_dict and load_state_dict"
                    )
            self._read = state["read"]

    def _take_first(self) -> Any:
        first, self.first = self.first, None
        return first

    def length(self) -> int | None:
        """The number of items; None if unknown."""
        try:
            return len(self._items) if self._starts_anew else None
        except TypeError:  # no __len__, or an endless data set
            return None


class StreamDataAdapter(DataAdapter):
    """Batches of a Stream whose items are x, (x, y) or (x, y, sample_weight).

    batch_of(item) checks and converts one item. shuffle: the batches of a Sequence come in a random order.
    """

    def __init__(
        self,
        stream: ItemStream,
        batch_of: Callable[[Any], Batch],
        steps: int | None = None,
        shuffle: bool | str = False,
        training: bool = False,
    ):
        super().__init__(stream.length(), steps, training, bool(shuffle) and stream.sequence is not None)
        self._stream, self._batch_of = stream, batch_of
        self._layout = batch_of(stream.first).layout
        self.may_resize = steps is None and stream.sequence is not None  # a Sequence may change its length
        self._ended = False  # whether an epoch has ended

    def _pass(self, skip: int) -> Iterator[Batch]:
        return (self._batch(item) for item in self._stream.items(self._random, skip))

    def sample(self) -> Batch:
        return self._batch(self._stream.first)

    def _batch(self, item: Any) -> Batch:
        batch = self._batch_of(item)
        if not batch.layout.is_like(self._layout):
            raise ValueError("a generator's batches must all have the same structure")
        batch.layout = self._layout  # one program for all
        if batch.size == 0:
            raise ValueError("a batch of the generator or Sequence has no samples")
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "stream": self._stream.state_dict(), "has_ended": self._ended}

    def _load_items(self, state: dict[str, Any]) -> None:
        self._ended, sequence = state["has_ended"], self._stream.sequence
        hook = getattr(type(sequence), "on_epoch_end", PyDataset.on_epoch_end)
        if self._ended and state["stream"]["items"] is None and hook is not PyDataset.on_epoch_end:
            warn(
                f"{type(sequence).__name__} has on_epoch_end but no state_dict: if it shuffles there, the order differs from "
                "a training without the interruption. Define state_dict and load_state_dict in it"
            )
        self._stream.load_state_dict(state["stream"])
        if self.may_resize:
            self.steps = self._stream.length()

    def _form(self) -> dict[str, Any]:
        return {"batches": self._stream.length()}

    def on_epoch_begin(self) -> None:
        self._call_hook("on_epoch_begin")

    def on_epoch_end(self) -> None:
        self._call_hook("on_epoch_end")
        self._ended = True
        if self.may_resize:
            self.steps = self._stream.length()

    def _call_hook(self, event: str) -> None:
        """Call a Sequence's method of that name, if it has one."""
        hook = getattr(self._stream.sequence, event, None)
        if hook is not None:
            hook()


def is_sequence(x: Any) -> bool:
    """Whether x returns batches by index, like Keras's Sequence and PyDataset."""
    return hasattr(x, "__getitem__") and hasattr(x, "__len__")


def is_stream(x: Any) -> bool:
    """Whether x yields batches: a generator, an iterator, a Sequence, a data loader."""
    if isinstance(x, np.ndarray | list | tuple | dict | Tensor) or any(hasattr(x, name) for name in _ARRAYS):
        return False
    if isinstance(x, memoryview | str | bytes | bytearray) or is_sparse(x):
        return False
    return hasattr(x, "__next__") or hasattr(x, "__iter__") or is_sequence(x)


def unpack(item: Any, inputs: int = 1) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of an item that a generator yields: a tuple, or a list as from PyTorch's DataLoader.

    If the model has several inputs, a list with one array per input is x alone.
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
    """Unpack the data that a train_step gets.

    Args:
        data: x, (x,), (x, y) or (x, y, sample_weight); a list counts as a tuple.

    Returns:
        (x, y, sample_weight), with None for absent parts.

    Raises:
        ValueError: for a tuple of the wrong length.

    Example:
        >>> keras.utils.unpack_x_y_sample_weight(([1.0], [2.0]))
        ([1.0], [2.0], None)
    """
    return unpack(tuple(data) if isinstance(data, list) else data)


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Pack x, y and sample weights; the inverse of `unpack_x_y_sample_weight`.

    Args:
        x: The inputs.
        y: The targets, or None.
        sample_weight: Weights of the samples, or None.

    Returns:
        (x, y, sample_weight), or (x, y), or x alone; x alone is (x,) if it is a list or tuple.

    Example:
        >>> keras.utils.pack_x_y_sample_weight(1.0, 2.0)
        (1.0, 2.0)
    """
    if y is None:
        return (x,) if isinstance(x, list | tuple) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


class Layout:
    """The structures of x and y. It packs a batch's flat list of leaves into x, y and sample weights.

    x, y: structures of placeholders. inputs, targets: their numbers. key: a hashable key; structures may not be hashable.
    """

    __slots__ = ("x", "y", "inputs", "targets", "key")

    def __init__(self, x: Any, y: Any, inputs: int, targets: int):
        self.x, self.y, self.inputs, self.targets = x, y, inputs, targets
        self.key = repr((x, y, inputs, targets))

    def is_like(self, other: Layout) -> bool:
        """Whether another layout has the same structures; the order of dict keys does not matter."""
        return (self.x, self.y, self.inputs, self.targets) == (other.x, other.y, other.inputs, other.targets)

    def prepared(self, batch: Batch) -> Batch:
        """The batch for a step; see HostLayout."""
        return batch

    def pack(self, leaves: list) -> Any:
        """x, (x, y) or (x, y, sample_weight), in the structures that the user passed."""
        end = self.inputs + self.targets
        x, y, weights = structures.pack(self.x, leaves[: self.inputs]), leaves[self.inputs : end], leaves[end:]
        by_name = isinstance(self.y, dict) and structures.nested(self.y) is None  # in the order of the outputs
        packed = dict(zip(self.y, y, strict=True)) if by_name else structures.pack(self.y, y or [None])
        if all(target is None for target in y):
            packed = None
        if all(weight is None for weight in weights):
            return pack_x_y_sample_weight(x, packed)
        return x, packed, weights[0] if len(weights) == 1 else weights
