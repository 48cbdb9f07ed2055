"""keras.tree: flattening, mapping and packing structures of lists, tuples, deques and dictionaries. See engine/structures.py.

Everything else is a leaf, also None. Dictionaries are ordered by their sorted keys, an OrderedDict by its own order.
"""

from collections.abc import Callable, Iterator
from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import structures as nest
from nbkeras.engine.structures import flatten as flatten
from nbkeras.engine.structures import is_nested as is_nested
from nbkeras.engine.structures import made_of as _made_of
from nbkeras.engine.structures import parts as _parts


class MAP_TO_NONE:
    """The result of a function of `traverse` that means None; the result None means: go on into the structure."""


def _with_paths(structure: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    if not is_nested(structure):
        yield path, structure
        return
    for key, part in _parts(structure):
        yield from _with_paths(part, (*path, key))


def _same_keys(a: Any, b: Any) -> bool:
    """Whether two structures have the same keys, in any order, or the same length."""
    return {key for key, _ in _parts(a)} == {key for key, _ in _parts(b)}


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """The leaves with their paths: tuples of keys and positions."""
    return list(_with_paths(structure, ()))


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """Apply func to the leaves of structures of the same form; the result has the structure of the first.

    none_is_leaf: whether func is applied to None too; otherwise None stays if all structures have it.
    """
    if not callable(func) or not structures:
        raise TypeError(
            f"map_structure: expected a function and at least one structure, received {func!r}, {structures!r}"
        )
    for other in structures[1:]:
        assert_same_structure(structures[0], other)

    def mapped(*leaves: Any) -> Any:
        if none_is_leaf or leaves[0] is not None:
            return func(*leaves)
        if any(leaf is not None for leaf in leaves):
            raise ValueError(f"the structures differ: expected None, received {leaves}")
        return None

    return map_structure_up_to(structures[0], mapped, *structures)


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """Apply func to the parts of structures at the leaves of a shallower structure."""
    if not structures:
        raise ValueError("map_structure_up_to: expected at least one structure")
    rows = zip(*(_up_to(shallow_structure, structure, ()) for structure in structures), strict=True)
    return nest.pack(shallow_structure, [func(*parts) for parts in rows])


def _up_to(shallow: Any, structure: Any, path: tuple) -> Iterator:
    if not is_nested(shallow):
        yield structure
        return
    if not is_nested(structure) or not _same_keys(shallow, structure):
        raise ValueError(f"the structures differ at {path}: expected {shallow!r}, received {structure!r}")
    for key, part in _parts(shallow):
        yield from _up_to(part, structure[key], (*path, key))


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """Apply func to each leaf; shapes, which are tuples and lists of integers and None, are leaves too."""
    return nest.map_shapes(func, structure)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """Replace the leaves of a structure, in `flatten`'s order."""
    leaves, count = list(flat_sequence), len(nest.flatten(structure))
    if len(leaves) != count:
        raise ValueError(f"pack_sequence_as: the structure has {count} leaves, received {len(leaves)}")
    return nest.pack(structure, leaves)


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """Raise ValueError unless both have the same form: lists, tuples, deques and dictionaries with the same lengths and keys.

    check_types is ignored, as in Keras: lists and tuples always differ, kinds of dictionaries do not.
    """
    _assert_same(a, b, ())


def _assert_same(a: Any, b: Any, path: tuple) -> None:
    same = (isinstance(a, dict) and isinstance(b, dict)) or type(a) is type(b) or not (is_nested(a) or is_nested(b))
    if not same or (is_nested(a) and not _same_keys(a, b)):
        where = f" at {path}" if path else ""
        raise ValueError(f"the structures differ{where}: {a!r} and {b!r}")
    if is_nested(a):
        for key, part in _parts(a):
            _assert_same(part, b[key], (*path, key))


def assert_same_paths(a: Any, b: Any) -> None:
    """Raise ValueError unless both have leaves at the same paths."""
    first, second = ({path for path, _ in flatten_with_path(structure)} for structure in (a, b))
    if first != second:
        raise ValueError(f"only one structure has leaves at {sorted(first ^ second, key=str)}")


def lists_to_tuples(structure: Any) -> Any:
    """Replace the lists in a structure by tuples."""
    return traverse(lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False)


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """Replace parts of a structure, including the structure itself, by func(part); a part stays if func returns None.

    top_down: go from the whole to the leaves, and not into replaced parts; otherwise from the leaves to the whole. func returns
    MAP_TO_NONE to replace a part by None.
    """
    found = func(structure) if top_down else None
    if found is None and is_nested(structure):
        structure = _made_of(structure, [traverse(func, part, top_down) for _, part in _parts(structure)])
    if not top_down:
        found = func(structure)
    if found is None:
        return structure
    return None if found is MAP_TO_NONE or isinstance(found, MAP_TO_NONE) else found


_lazy_names.attach(globals())
