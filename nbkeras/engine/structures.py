"""Floor 1: nested structures of lists, tuples, deques and dicts, for the inputs, outputs, masks and shapes of calls."""

import dataclasses
import functools
import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from numbers import Integral, Number
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly

SEQUENCES = (list, tuple, deque)  # the structures whose items have positions
_NESTED = (*SEQUENCES, dict)
_PLAIN = frozenset((str, int, float, bool, type(None)))
_UNAMBIGUOUS = _PLAIN - {float}  # types whose equal values are the same


def is_nested(structure: Any) -> bool:
    """Whether a value is a structure: a list, a tuple, a deque or a dictionary.

    Args:
        structure: Any value.

    Returns:
        True for a structure, even if it is empty; False for a leaf, such as an array, a string or None.

    Example:
        >>> keras.tree.is_nested([]), keras.tree.is_nested(np.ones(3))
        (True, False)
    """
    return isinstance(structure, _NESTED)


def flatten(structure: Any) -> list:
    """The leaves of a structure, from left to right.

    Args:
        structure: Nested lists, tuples, deques and dictionaries, or a single leaf. None is a leaf.

    Returns:
        A list of the leaves. The leaves of a dictionary are in the order of its sorted keys, of an OrderedDict in
        its own order.

    Example:
        >>> keras.tree.flatten({"b": 1, "a": [2, (3, None)]})
        [2, 3, None, 1]
    """
    if not isinstance(structure, _NESTED):  # a fast path: each call of a layer uses it
        return [structure]
    try:
        return list(_leaves(structure))
    except RecursionError:
        raise ValueError(f"a {type(structure).__name__} is nested too deeply, or contains itself") from None


def keys(structure: dict) -> list:
    """A dict's keys in the order of its leaves, as in Keras: sorted, but an OrderedDict keeps its own order."""
    return list(structure) if isinstance(structure, OrderedDict) else sorted(structure)


def parts(structure: Any) -> list[tuple[Any, Any]]:
    """The direct children of a nested structure, as (key or index, child)."""
    if isinstance(structure, dict):
        return [(key, structure[key]) for key in keys(structure)]
    return list(enumerate(structure))


def made_of(structure: Any, own: list) -> Any:
    """A structure of the same type and order of keys with new children, given in the order of `parts`."""
    if isinstance(structure, dict):
        made: dict = dict.fromkeys(structure)
        made.update(zip(keys(structure), own, strict=True))
        if type(structure) is dict:
            return made
        if isinstance(structure, defaultdict):
            return defaultdict(structure.default_factory, made)
        return type(structure)(made)
    return type(structure)(*own) if hasattr(structure, "_fields") else type(structure)(own)


def _leaves(structure: Any) -> Iterator:
    if isinstance(structure, SEQUENCES):
        for item in structure:
            if isinstance(item, _NESTED):
                yield from _leaves(item)
            else:
                yield item
    elif isinstance(structure, dict):
        for key in keys(structure):
            yield from _leaves(structure[key])
    else:
        yield structure


def form(structure: Any) -> Any:
    """A hashable description of a structure: equal for structures that differ only in their leaves."""
    if isinstance(structure, dict):
        return type(structure), tuple((exact(key), form(structure[key])) for key in structure)
    if isinstance(structure, SEQUENCES):
        return type(structure), tuple([form(part) for part in structure])
    return None


def exact(value: Any) -> Any:
    """A hashable description of a value, which tells 1, 1.0 and True apart, and 0.0 and -0.0.

    It also does so in tuples, frozensets, slices, ranges and frozen dataclasses. Other values are compared by `==`.
    """
    if type(value) in _UNAMBIGUOUS:  # the usual values
        return type(value), value
    if isinstance(value, Number | np.generic):
        text = repr(value)
        return type(value), text if value != value else value, text  # NaN is not equal to itself
    if isinstance(value, tuple):
        return type(value), tuple(map(exact, value))
    if isinstance(value, frozenset):
        return type(value), frozenset(map(exact, value))
    if isinstance(value, slice | range):
        return type(value), exact((value.start, value.stop, value.step))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value).__hash__ is not object.__hash__:
        fields = [f for f in dataclasses.fields(value) if (f.compare if f.hash is None else f.hash)]
        return type(value), value, tuple(exact(getattr(value, field.name)) for field in fields)
    return type(value), value


def find(kind: type | tuple[type, ...], structure: Any) -> list:
    """The objects of a type in lists, tuples and dicts, in order, without duplicates. It does not search inside found objects.

    kind: a class, or several; not the type of numbers or strings.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()  # a list may contain itself
    todo = [structure]
    while todo:
        value = todo.pop()
        if isinstance(value, kind):
            found.setdefault(id(value), value)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            # copy a dict's values: if another thread changes it, Python 3.11 crashes in reversed(dict.values())
            items = list(value.values()) if isinstance(value, dict) else value
            todo += [item for item in reversed(items) if type(item) not in _PLAIN]
    return list(found.values())


def pack(structure: Any, leaves) -> Any:
    """The structure with new leaves, given in the order of `flatten`."""
    if not is_nested(structure):  # a fast path: it runs at each prediction
        (leaf,) = leaves
        return leaf
    if type(structure) is type(leaves) is list and not any(map(is_nested, structure)):
        return [leaf for leaf, _ in zip(leaves, structure, strict=True)]
    source = iter(leaves)
    return map_leaves(lambda _: next(source), structure)


def packer(structure: Any, varies: Callable[[Any], bool]) -> Callable[[list], Any]:
    """A function that makes the structure again from other leaves in place of those that vary. The others stay.

    varies(leaf): whether a leaf will be given.
    """
    leaves = flatten(structure)
    if not all(map(varies, leaves)):
        fixed = [(varies(leaf), None if varies(leaf) else leaf) for leaf in leaves]
        whole = packer(structure, lambda leaf: True)

        def pack_some(given: list) -> Any:
            source = iter(given)
            return whole([next(source) if is_given else leaf for is_given, leaf in fixed])

        return pack_some
    if not is_nested(structure):
        return operator.itemgetter(0)
    kind, nested_part = type(structure), any(is_nested(part) for _, part in parts(structure))
    if kind in (list, tuple) and not nested_part:
        return kind
    if kind is dict and not nested_part:
        order = [(key, keys(structure).index(key)) for key in structure]
        return lambda given: {key: given[index] for key, index in order}
    return functools.partial(pack, map_leaves(lambda _: 0, structure))


def map_leaves(function: Callable, structure: Any) -> Any:
    """The same structure with `function` applied to each leaf."""
    if not is_nested(structure):
        return function(structure)
    return made_of(structure, [map_leaves(function, part) for _, part in parts(structure)])


def shapes(tensors: Any) -> Any:
    """The structure of the tensors' shapes; a single tensor gives one tuple."""
    return map_leaves(lambda tensor: None if tensor is None else shape_of(tensor), tensors)


def shape_of(tensor: Any) -> tuple:
    """The shape of a tensor or an array. Raises TypeError for other values."""
    if not hasattr(tensor, "shape"):
        raise TypeError(f"expected a tensor or an array, received {briefly(tensor)}")
    return tuple(tensor.shape)


def is_shape(value: Any) -> bool:
    """Whether a value is a single shape: a tuple or list of ints and Nones."""
    return isinstance(value, list | tuple) and all(size is None or isinstance(size, Integral) for size in value)


def listed(value: Any) -> Any:
    """The items of a value as a tuple; the value itself if it is not iterable, such as a number or a 0-d array."""
    try:
        return tuple(value)
    except TypeError:
        return value


def map_shapes(function: Callable, value: Any) -> Any:
    """The same structure with `function` applied to each leaf; shapes are leaves."""
    if is_shape(value) or not is_nested(value):
        return function(value)
    return made_of(value, [map_shapes(function, part) for _, part in parts(value)])


def one_or_all(values: Any) -> Any:
    """The item of a list or tuple of one, as Keras 3's functional models return it; other values unchanged."""
    return values[0] if isinstance(values, list | tuple) and len(values) == 1 else values


def nested(outputs: Any) -> Any:
    """The structure of outputs if it has a list or dict inside a list or dict; else None."""
    if is_nested(outputs) and any(is_nested(part) for _, part in parts(outputs)):
        return map_leaves(lambda _: 0, outputs)
    return None
