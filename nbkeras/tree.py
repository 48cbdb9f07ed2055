"""keras.tree: structures of lists, tuples, deques and dictionaries, whose leaves are listed, mapped and replaced. See nest.py.

Every other value, None included, is a leaf. Dictionaries count in the order of their sorted keys, an OrderedDict in its own.
"""

from collections.abc import Callable, Iterator
from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import structures as nest


class MAP_TO_NONE:
    """The value that a function for `traverse` returns to put None there; None itself means: go on into the structure."""


def is_nested(structure: Any) -> bool:
    """Whether it is a list, a tuple, a deque or a dictionary."""
    return isinstance(structure, (*nest.SEQUENCES, dict))


def flatten(structure: Any) -> list:
    """The leaves from left to right."""
    return nest.flatten(structure)


def _with_paths(structure: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    if not is_nested(structure):
        yield path, structure
        return
    for key, part in _parts(structure):
        yield from _with_paths(part, (*path, key))


def _parts(structure: Any) -> list[tuple[Any, Any]]:
    """(key or position, part) of the parts of a structure."""
    if isinstance(structure, dict):
        return [(key, structure[key]) for key in nest.keys(structure)]
    return list(enumerate(structure))


def _same_keys(a: Any, b: Any) -> bool:
    """Whether two structures have the same keys, in any order, or the same length."""
    return {key for key, _ in _parts(a)} == {key for key, _ in _parts(b)}


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """The leaves with their paths: tuples of keys and positions."""
    return list(_with_paths(structure, ()))


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """func of the leaves of structures of one form, in the structure of the first.

    none_is_leaf: whether func is called with None too; else None stays where all structures have it.
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

    rows = zip(*(_up_to(structures[0], structure, ()) for structure in structures), strict=True)
    return nest.pack(structures[0], [mapped(*leaves) for leaves in rows])


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """func of the parts of structures at the leaves of a shallower structure."""
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
    """func of each leaf, where tuples and lists of integers and None are leaves too: shapes."""
    if isinstance(structure, list | tuple) and nest.is_shape(structure):
        return func(structure)
    if not is_nested(structure):
        return func(structure)
    return _made_of(structure, [map_shape_structure(func, part) for _, part in _parts(structure)])


def _made_of(structure: Any, parts: list) -> Any:
    """A structure with other parts at its first level, in the order of `_parts`."""
    if isinstance(structure, dict):
        return nest.dict_like(structure, dict(zip(nest.keys(structure), parts, strict=True)))
    return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The structure with other leaves, in the order of `flatten`."""
    leaves, count = list(flat_sequence), len(nest.flatten(structure))
    if len(leaves) != count:
        raise ValueError(f"pack_sequence_as: the structure has {count} leaves, received {len(leaves)}")
    return nest.pack(structure, leaves)


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """ValueError unless both structures have the same types, lengths and keys.

    check_types: has no effect, as in Keras: a list and a tuple always differ, two kinds of dictionaries never do.
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
    """ValueError unless both have leaves at the same paths."""
    first, second = ({path for path, _ in flatten_with_path(structure)} for structure in (a, b))
    if first != second:
        raise ValueError(f"only one structure has leaves at {sorted(first ^ second, key=str)}")


def lists_to_tuples(structure: Any) -> Any:
    """The structure with tuples in place of lists."""
    if not is_nested(structure):
        return structure
    parts = [lists_to_tuples(part) for _, part in _parts(structure)]
    return tuple(parts) if isinstance(structure, list) else _made_of(structure, parts)


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """The structure with each part replaced by func(part), itself included; where func returns None, the part stays.

    top_down: from the whole to the leaves, but not into replaced parts; else from the leaves to the whole. func returns
    MAP_TO_NONE to put None.
    """
    if top_down:
        found = func(structure)
        if found is None:
            if not is_nested(structure):
                return structure
            return _made_of(structure, [traverse(func, part) for _, part in _parts(structure)])
    else:
        whole = structure
        if is_nested(structure):
            whole = _made_of(structure, [traverse(func, part, top_down=False) for _, part in _parts(structure)])
        found = func(whole)
        found = whole if found is None else found
    return None if found is MAP_TO_NONE or isinstance(found, MAP_TO_NONE) else found


_lazy_names.attach(globals())
