"""`tf.data`: data sets of elements that are read one after another, and again in each epoch."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nbkeras.compat.tensorflow.shapes import TensorShape, TensorSpec
from nbkeras.compat.tensorflow.texts import RaggedStrings, StringTensor, as_strings, boxed, holds_text
from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.strings import STRING
from nbkeras.engine.tensor import Tensor, as_tensor

AUTOTUNE = -1
INFINITE_CARDINALITY = INFINITE = -1
UNKNOWN_CARDINALITY = UNKNOWN = -2


# -------------------- elements: nested tuples and dicts of arrays --------------------


def _map(function: Callable, element: Any) -> Any:
    """The results of a function for each leaf. A list is a leaf: TensorFlow makes a tensor of it."""
    if isinstance(element, dict):
        return {key: _map(function, part) for key, part in element.items()}
    if isinstance(element, tuple):
        parts = [_map(function, part) for part in element]
        return type(element)(*parts) if hasattr(element, "_fields") else tuple(parts)
    return function(element)


def _leaves(element: Any) -> list:
    found: list = []
    _map(found.append, element)
    return found


def _join(function: Callable, elements: list) -> Any:
    """The results of a function for the list of the leaves at each place."""
    columns = zip(*map(_leaves, elements), strict=True)
    return _map(lambda _: function(next(columns)), elements[0])


def _array(value: Any) -> Any:
    """A leaf as an array of numbers or of strings; a data set, such as a window, stays one."""
    if isinstance(value, Tensor):
        return np.asarray(value)
    if isinstance(value, Dataset):
        return value
    if isinstance(value, RaggedStrings):
        raise TypeError(
            "an element of a data set cannot have rows of different lengths: call to_tensor() on the result of tf.strings.split"
        )
    if holds_text(value):
        return as_strings(value).given
    found = value if isinstance(value, np.ndarray | np.generic) else np.asarray(value)
    return found if found.dtype.kind in "SUO" else array_of(value)


def _arrays(element: Any) -> Any:
    return _map(_array, element)


def _shown(element: Any) -> Any:
    """An element as the user sees it: tensors of numbers and of strings."""
    return _map(_tensor, element)


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, Dataset):
        return leaf
    return StringTensor(leaf) if np.asarray(leaf).dtype.kind in "SUO" else as_tensor(leaf)


def _stacked(leaves: Sequence) -> np.ndarray:
    """Arrays joined along a new first axis; of strings, arrays of objects."""
    return np.stack([_array(leaf) for leaf in leaves] if isinstance(leaves[0], str | bytes) else leaves)


def _numpy(leaf: Any) -> Any:
    return StringTensor(leaf).numpy() if getattr(leaf, "dtype", np.dtype(object)).kind in "SUO" else leaf


def _call(function: Callable, element: Any) -> Any:
    element = _shown(element)
    return function(*element) if isinstance(element, tuple) else function(element)


# -------------------- sources --------------------


class _Again:
    """An iterable that calls a function for each iteration."""

    def __init__(self, begin: Callable[..., Iterable], *arguments: Any):
        self._begin, self._arguments = begin, arguments

    def __iter__(self) -> Iterator:
        return iter(self._begin(*self._arguments))


class _Rows:
    """Rows of arrays, in an order that is asked for in each iteration. Batches are cut from the arrays at once."""

    def __init__(self, arrays: Any, order: Callable[[], np.ndarray]):
        self.arrays, self.order = arrays, order

    def __iter__(self) -> Iterator:
        return (self._at(row) for row in self.order())

    def batches(self, size: int, drop: bool) -> Iterator:
        """Batches of rows; drop: without a smaller one at the end."""
        order = self.order()
        for start in range(0, len(order) - (size - 1 if drop else 0), size):
            yield self._at(order[start : start + size])

    def _at(self, rows: Any) -> Any:
        return _map(lambda leaf: leaf[rows], self.arrays)


class _Cached:
    """Elements that are kept in memory after the first complete iteration."""

    def __init__(self, items: Iterable):
        self._items = items
        self._kept: list | None = None

    def __iter__(self) -> Iterator:
        return self._first() if self._kept is None else iter(self._kept)

    def _first(self) -> Iterator:
        found = []
        for item in self._items:
            found.append(item)
            yield item
        self._kept = found


def _mixed(items: Iterator, size: int, random: np.random.Generator) -> Iterator:
    """Elements in the random order of TensorFlow's buffer: each one read takes the place of one that is drawn."""
    buffer = list(itertools.islice(items, size))
    for item in items:
        place = int(random.integers(size))
        buffer[place], item = item, buffer[place]
        yield item
    yield from (buffer[int(place)] for place in random.permutation(len(buffer)))


def _refusal(name: str) -> AttributeError:
    if name.startswith("__"):
        return AttributeError(name)
    return AttributeError(
        f"tf.data.Dataset.{name} is not offered: docs/coming-from-keras.md lists the methods of data sets. Write a "
        "generator, and tf.data.Dataset.from_generator"
    )


class _DatasetType(type):
    def __getattr__(cls, name: str) -> Any:
        raise _refusal(name)


class Dataset(metaclass=_DatasetType):
    """TensorFlow's `tf.data.Dataset`: elements that are tensors, or tuples and dicts of them, read anew in each iteration.

    Functions compute eagerly. `num_parallel_calls`, `deterministic` and `name` are accepted and ignored.
    """

    def __init__(self, items: Iterable, length: int, varies: bool = False, spec: Any = None):
        self._items = items
        self._length = length
        self._varies = varies  # whether the last batch may be smaller
        self._spec = spec  # the form of an element, if it was given

    # ----- how data sets begin -----

    @staticmethod
    def from_tensor_slices(tensors: Any, name: Any = None) -> Dataset:
        """One element for each row of the arrays."""
        arrays = _arrays(tensors)
        shapes = [leaf.shape for leaf in _leaves(arrays)]
        lengths = {shape[:1] for shape in shapes}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(
                f"tf.data.Dataset.from_tensor_slices: the arrays must have the same number of rows, received shapes {shapes}"
            )
        rows = np.arange(*lengths.pop())
        return Dataset(_Rows(arrays, lambda: rows), len(rows))

    @staticmethod
    def from_tensors(tensors: Any, name: Any = None) -> Dataset:
        """One element."""
        return Dataset([_arrays(tensors)], 1)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable],
        output_types: Any = None,
        output_shapes: Any = None,
        args: tuple = (),
        output_signature: Any = None,
        name: Any = None,
    ) -> Dataset:
        """The elements that generator(*args) yields, which is called for each iteration, in the dtypes of the signature."""
        kinds = output_types if output_signature is None else output_signature

        def elements() -> Iterator:
            return (_arrays(each) if kinds is None else _typed(each, kinds) for each in generator(*(args or ())))

        return Dataset(_Again(elements), UNKNOWN, spec=output_signature)

    @staticmethod
    def range(*args: int, output_type: Any = np.int64, name: Any = None) -> Dataset:
        """The numbers of Python's `range`."""
        numbers = np.asarray(range(*args), np.dtype(output_type))
        return Dataset.from_tensor_slices(numbers)

    @staticmethod
    def zip(*args: Any, datasets: Any = None, name: Any = None) -> Dataset:
        """Tuples, or the given structure, of the elements of several data sets; as many as the shortest has."""
        structure = datasets if datasets is not None else args[0] if len(args) == 1 else args
        parts: list[Dataset] = [dataset_of(each) for each in _leaves(structure)]

        def elements() -> Iterator:
            for each in zip(*(part._items for part in parts), strict=False):
                leaves = iter(each)
                yield _map(lambda _: next(leaves), structure)  # noqa: B023 (it is called at once)

        finite = [part._length for part in parts if part._length != INFINITE]
        length = UNKNOWN if UNKNOWN in finite else min(finite, default=INFINITE)
        return Dataset(_Again(elements), length, any(part._varies for part in parts))

    # ----- other data sets of the same elements -----

    def _like(self, items: Iterable, length: int) -> Dataset:
        return Dataset(items, length, self._varies, self._spec)

    def _picked(self, rows: Callable[[np.ndarray], np.ndarray], items: Callable[[], Iterable], length: int) -> Dataset:
        """A choice of elements: of rows by their order, else of the elements one by one."""
        source = self._items
        chosen = _Rows(source.arrays, lambda: rows(source.order())) if isinstance(source, _Rows) else _Again(items)
        return self._like(chosen, length)

    def take(self, count: int, name: Any = None) -> Dataset:
        """The first elements; -1 for all."""
        if count < 0:
            return self
        length = count if self._length == INFINITE else min(count, self._length)
        return self._picked(lambda order: order[:count], lambda: itertools.islice(self._items, count), length)

    def skip(self, count: int, name: Any = None) -> Dataset:
        """The elements after the first ones; -1 skips all."""
        if count < 0:
            return self.take(0)
        length = self._length if self._length < 0 else max(0, self._length - count)
        return self._picked(lambda order: order[count:], lambda: itertools.islice(self._items, count, None), length)

    def shard(self, num_shards: int, index: int, name: Any = None) -> Dataset:
        """Every num_shards-th element, from an index on."""
        length = self._length if self._length < 0 else len(range(index, self._length, num_shards))
        return self._picked(
            lambda order: order[index::num_shards],
            lambda: itertools.islice(self._items, index, None, num_shards),
            length,
        )

    def shuffle(
        self, buffer_size: int | None, seed: Any = None, reshuffle_each_iteration: Any = None, name: Any = None
    ) -> Dataset:
        """Elements in random order: each one is drawn from the next buffer_size ones."""
        whole = buffer_size is None or buffer_size == UNKNOWN  # TensorFlow accepts a cardinality
        size = max(self._length, 1) if whole else int(buffer_size)  # type: ignore[arg-type]
        if size < 1:
            raise ValueError(
                f"tf.data.Dataset.shuffle: buffer_size must be at least 1, received {briefly(buffer_size)}"
            )
        first, numbers = settings.next_seed() if seed is None else int(seed), itertools.count()

        def random() -> np.random.Generator:
            if reshuffle_each_iteration is False:
                return np.random.default_rng(first)
            return np.random.default_rng(settings.next_seed() if seed is None else [first, next(numbers)])

        def rows(order: np.ndarray) -> np.ndarray:
            return np.fromiter(_mixed(iter(order), size, random()), order.dtype, len(order))

        return self._picked(rows, lambda: _mixed(iter(self._items), size, random()), self._length)

    def repeat(self, count: int | None = None, name: Any = None) -> Dataset:
        """All elements several times; None or -1: without end."""
        endless = count is None or count < 0

        def elements() -> Iterator:
            for _ in itertools.count() if endless else range(count):  # type: ignore[arg-type]
                empty = True
                for item in self._items:
                    empty = False
                    yield item
                if empty:
                    return

        if endless:
            return self._like(_Again(elements), self._length if self._length == 0 else INFINITE)
        return self._like(_Again(elements), self._length if self._length < 0 else self._length * count)  # type: ignore[operator]

    def cache(self, filename: Any = "", name: Any = None) -> Dataset:
        """The same elements, kept in memory after the first complete iteration."""
        if filename:
            raise ValueError(f"tf.data.Dataset.cache keeps elements in memory only: leave {briefly(filename)} out")
        return self if isinstance(self._items, _Rows) else self._like(_Cached(self._items), self._length)

    def prefetch(self, buffer_size: Any, name: Any = None) -> Dataset:
        """The data set itself: an element is made when it is read."""
        return self

    def filter(self, predicate: Callable, name: Any = None) -> Dataset:
        """The elements for which a function is true."""
        return self._like(_Again(lambda: (each for each in self._items if bool(_call(predicate, each)))), UNKNOWN)

    def concatenate(self, dataset: Any, name: Any = None) -> Dataset:
        """The elements of this data set, then those of another one."""
        other = dataset_of(dataset)
        lengths = (self._length, other._length)
        length = INFINITE if INFINITE in lengths else UNKNOWN if UNKNOWN in lengths else sum(lengths)
        joined = Dataset(_Again(lambda: itertools.chain(self._items, other._items)), length)
        joined._varies = self._varies or other._varies
        return joined

    # ----- other elements -----

    def map(
        self, map_func: Callable, num_parallel_calls: Any = None, deterministic: Any = None, name: Any = None
    ) -> Dataset:
        """The results of a function for each element; the parts of a tuple are its arguments."""
        changed = _Again(lambda: (_arrays(_call(map_func, each)) for each in self._items))
        return Dataset(changed, self._length, self._varies)

    def flat_map(self, map_func: Callable, name: Any = None) -> Dataset:
        """The elements of the data sets that a function returns for each element."""
        parts = _Again(lambda: (item for each in self._items for item in dataset_of(_call(map_func, each))._items))
        return Dataset(parts, UNKNOWN)

    def window(
        self, size: int, shift: int | None = None, stride: int = 1, drop_remainder: bool = False, name: Any = None
    ) -> Dataset:
        """Data sets of `size` elements each, every stride-th one; a part of an element has a data set of its own.

        shift: how many elements later the next window begins; None: `size`. drop_remainder: without smaller windows.
        """
        size, stride, shift = self._batch_size(size), int(stride), int(size if shift is None else shift)
        span, total = (size - 1) * stride + 1, self._length

        def windows() -> Iterator:
            items = iter(self._items)
            kept = list(itertools.islice(items, span))
            while kept and not (drop_remainder and len(kept) < span):
                yield _join(lambda leaves: Dataset(leaves, len(leaves)), kept[:span:stride])
                collections.deque(itertools.islice(items, max(0, shift - len(kept))), 0)
                kept = kept[shift:]
                kept += itertools.islice(items, span - len(kept))

        if total >= 0:
            total = max(0, (total - span) // shift + 1) if drop_remainder else math.ceil(total / shift)
        return Dataset(_Again(windows), total)

    def interleave(
        self,
        map_func: Callable,
        cycle_length: int | None = None,
        block_length: int | None = None,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        name: Any = None,
    ) -> Dataset:
        """The elements of the data sets that a function returns, `block_length` (1) of each of `cycle_length` (1) in turn."""
        count, block = (
            1 if each in (None, AUTOTUNE) else self._batch_size(each) for each in (cycle_length, block_length)
        )

        def elements() -> Iterator:
            sources = (iter(dataset_of(_call(map_func, each))._items) for each in self._items)
            places: list = [None] * count
            place, has_more = 0, True
            while has_more or any(places):
                if places[place] is None and has_more:
                    places[place] = next(sources, None)
                    has_more = places[place] is not None
                if places[place] is not None:
                    items = list(itertools.islice(places[place], block))
                    yield from items
                    if len(items) < block:
                        places[place] = None
                place = (place + 1) % count

        return Dataset(_Again(elements), UNKNOWN)

    def enumerate(self, start: int = 0, name: Any = None) -> Dataset:
        """(index, element) for each element."""
        pairs = _Again(lambda: ((np.int64(i), each) for i, each in enumerate(self._items, start)))
        return Dataset(pairs, self._length)

    def batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        name: Any = None,
    ) -> Dataset:
        """Elements joined along a new first axis; drop_remainder: without a smaller batch at the end."""
        source, size = self._items, self._batch_size(batch_size)
        if isinstance(source, _Rows):
            return self._batched(_Again(source.batches, size, drop_remainder), size, drop_remainder)
        return self._batched(_Again(self._joined, size, drop_remainder, _stacked), size, drop_remainder)

    def padded_batch(
        self,
        batch_size: int,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """Batches of elements of different shapes, padded at their ends to the largest one, or to padded_shapes.

        padding_values: a number for all parts of the elements, or a structure with one for each.
        """
        size = self._batch_size(batch_size)
        shapes = None if padded_shapes is None else _shapes(padded_shapes)
        values = _leaves(padding_values) if isinstance(padding_values, dict | tuple) else None

        def batches() -> Iterator:
            for batch in self._groups(size, drop_remainder):
                places = itertools.count()

                def padded(leaves: tuple) -> np.ndarray:
                    place = next(places)  # noqa: B023 (it is called at once)
                    value = (padding_values or 0) if values is None else values[place]
                    return _padded(leaves, None if shapes is None else shapes[place], value)

                yield _join(padded, batch)

        return self._batched(_Again(batches), size, drop_remainder)

    @staticmethod
    def _batch_size(size: Any) -> int:
        if int(size) < 1:
            raise ValueError(f"tf.data.Dataset.batch: batch_size must be at least 1, received {briefly(size)}")
        return int(size)

    def _batched(self, items: Iterable, size: int, drop: bool) -> Dataset:
        length = (
            self._length if self._length < 0 else (self._length // size if drop else math.ceil(self._length / size))
        )
        return Dataset(items, length, not drop)

    def _joined(self, size: int, drop: bool, join: Callable) -> Iterator:
        return (_join(join, batch) for batch in self._groups(size, drop))

    def _groups(self, size: int, drop: bool) -> Iterator[list]:
        items = iter(self._items)
        while batch := list(itertools.islice(items, size)):
            if len(batch) < size and drop:
                return
            yield batch

    def unbatch(self, name: Any = None) -> Dataset:
        """The rows of each element, one by one."""

        def rows() -> Iterator:
            for element in self._items:
                for row in range(len(_leaves(element)[0])):
                    yield _map(lambda leaf: leaf[row], element)  # noqa: B023 (it is called at once)

        return Dataset(_Again(rows), UNKNOWN)

    def apply(self, transformation_func: Callable, name: Any = None) -> Dataset:
        """The data set that a function of this one returns."""
        return transformation_func(self)

    # ----- reading -----

    def __iter__(self) -> Iterator:
        return map(_shown, self._items)

    def as_numpy_iterator(self) -> Iterator:
        """The elements as NumPy arrays; strings as bytes."""
        return (_map(_numpy, each) for each in self._items)

    def reduce(self, initial_state: Any, reduce_func: Callable, name: Any = None) -> Any:
        """The state after state = reduce_func(state, element) for each element."""
        state = _shown(_arrays(initial_state))
        for element in self:
            state = reduce_func(state, element)
        return state

    def cardinality(self, name: Any = None) -> int:
        """The number of elements; -1 if there is no end, -2 if it is unknown."""
        return self._length

    def __len__(self) -> int:
        if self._length < 0:
            raise TypeError(
                "the data set is infinite" if self._length == INFINITE else "the length of the data set is unknown"
            )
        return self._length

    def __bool__(self) -> bool:
        return True

    @property
    def element_spec(self) -> Any:
        """The shape and dtype of each part of an element, by the first one; None for a first axis that may vary."""
        if self._spec is not None:
            return self._spec
        first = next(iter(self._items), None)

        def spec(leaf: Any) -> Any:
            if isinstance(leaf, Dataset):
                return leaf.element_spec
            shape = np.shape(leaf)
            return TensorSpec((None, *shape[1:]) if self._varies and shape else shape, np.asarray(leaf).dtype)

        return _map(spec, first)

    def __getattr__(self, name: str) -> Any:
        raise _refusal(name)


def dataset_of(value: Any) -> Dataset:
    """A Dataset of itself, or of another data set, such as image_dataset_from_directory returns."""
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, collections.abc.Iterable):
        raise TypeError(f"expected a data set, received {briefly(value)}")
    length = len(value) if isinstance(value, collections.abc.Sized) else UNKNOWN
    return Dataset(_Again(lambda: map(_arrays, value)), length, True)


def _typed(element: Any, kinds: Any) -> Any:
    """An element in the dtypes of a signature of TensorSpecs, or of dtypes."""
    if isinstance(kinds, dict):
        return {key: _typed(element[key], kind) for key, kind in kinds.items()}
    if isinstance(kinds, tuple | list) and not isinstance(kinds, TensorShape | TensorSpec):
        return tuple(_typed(part, kind) for part, kind in zip(element, kinds, strict=True))
    kind = kinds.dtype if isinstance(kinds, TensorSpec) else kinds
    array = as_strings(element).given if kind == STRING else np.asarray(element, np.dtype(kind))
    shape = kinds.shape if isinstance(kinds, TensorSpec) else None
    if shape is not None and not (
        len(shape) == array.ndim and all(n in (None, own) for n, own in zip(shape, array.shape, strict=True))
    ):
        raise ValueError(
            f"tf.data.Dataset.from_generator: expected an element of shape {briefly(tuple(shape))}, received {array.shape}"
        )
    return array


def _shapes(value: Any) -> list:
    """The shapes in a structure of shapes, in order."""
    if isinstance(value, dict):
        return [shape for part in value.values() for shape in _shapes(part)]
    if isinstance(value, tuple) and any(isinstance(part, tuple | list | dict) for part in value):
        return [shape for part in value for shape in _shapes(part)]
    return [tuple(value)]


def _padded(leaves: tuple, shape: Any, value: Any) -> np.ndarray:
    """Arrays in one array with a new first axis, filled up with a value at their ends."""
    arrays = [boxed(leaf) for leaf in leaves]
    is_text = arrays[0].dtype.kind in "SUO"
    largest = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    if shape is not None:
        largest = [n if given in (None, -1) else int(given) for n, given in zip(largest, shape, strict=True)]
    whole = np.full(
        (len(arrays), *largest), boxed(value or b"") if is_text else value, object if is_text else arrays[0].dtype
    )
    for place, array in enumerate(arrays):
        if any(own > n for own, n in zip(array.shape, largest, strict=True)):
            raise ValueError(
                f"tf.data.Dataset.padded_batch: an element of shape {array.shape} is larger than {tuple(largest)}"
            )
        whole[place, ...][tuple(slice(n) for n in array.shape)] = array
    return whole


def cardinality(dataset: Any) -> int:
    """The number of elements; -1 if there is no end, -2 if it is unknown."""
    return dataset_of(dataset).cardinality()
