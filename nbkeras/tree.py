"""keras.tree: flattening, mapping and packing structures of lists, tuples, deques and dictionaries. See engine/structures.py.

Everything else is a leaf, including None. Dictionaries are ordered by their sorted keys, an OrderedDict by its own order.
"""

from collections.abc import Callable, Iterator
from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import structures as nest
from nbkeras.engine.annotations import briefly as _briefly
from nbkeras.engine.structures import flatten as flatten
from nbkeras.engine.structures import is_nested as is_nested
from nbkeras.engine.structures import made_of as _made_of
from nbkeras.engine.structures import parts as _parts


class MAP_TO_NONE:
    """A function of `traverse` returns this to replace a part by None.

    The result None means: keep this part and traverse its children.

    Example:
        >>> keras.tree.traverse(lambda part: keras.tree.MAP_TO_NONE if part == 2 else None, [1, [2, 3]])
        [1, [None, 3]]
    """


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
    """The leaves of a structure with their paths.

    Args:
        structure: Nested lists, tuples, deques and dictionaries, or a single leaf.

    Returns:
        A list of (path, leaf) in the order of `flatten`; a path is a tuple of keys and indices, () for a
        single leaf.

    Example:
        >>> keras.tree.flatten_with_path({"a": [1, 2], "b": 3})
        [(('a', 0), 1), (('a', 1), 2), (('b',), 3)]
    """
    return list(_with_paths(structure, ()))


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """Apply a function to the leaves of structures of the same form.

    Args:
        func: A function of one leaf of each structure.
        *structures: One or more structures with the same keys and lengths.
        none_is_leaf: Whether func is applied to None too; otherwise None stays None.

    Returns:
        The first structure, with the results as its leaves.

    Raises:
        TypeError: if func is not callable, or if no structure is given.
        ValueError: if the structures differ; with none_is_leaf=False also if only some of them have None at a
            path.

    Example:
        >>> keras.tree.map_structure(lambda a, b: a + b, {"x": 1, "y": [2, 3]}, {"x": 10, "y": [20, 30]})
        {'x': 11, 'y': [22, 33]}
    """
    if not callable(func) or not structures:
        raise TypeError(
            f"map_structure: expected a function and at least one structure, received {_briefly(func)}, {_briefly(structures)}"
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
    """Apply a function to the parts of structures at the leaves of a shallower structure.

    Args:
        shallow_structure: The structure that determines the depth.
        func: A function of one part of each structure; a part may be a structure itself.
        *structures: One or more structures whose upper levels have the form of shallow_structure.

    Returns:
        A structure like shallow_structure, with the results as its leaves.

    Raises:
        ValueError: if no structure is given, or if one does not have the form of shallow_structure.

    Example:
        >>> keras.tree.map_structure_up_to({"a": 0, "b": 0}, len, {"a": [1, 2], "b": [3, 4, 5]})
        {'a': 2, 'b': 3}
    """
    if not structures:
        raise ValueError("map_structure_up_to: expected at least one structure")
    rows = zip(*(_up_to(shallow_structure, structure, ()) for structure in structures), strict=True)
    return nest.pack(shallow_structure, [func(*parts) for parts in rows])


def _up_to(shallow: Any, structure: Any, path: tuple) -> Iterator:
    if not is_nested(shallow):
        yield structure
        return
    if not is_nested(structure) or not _same_keys(shallow, structure):
        raise ValueError(
            f"the structures differ at {path}: expected {_briefly(shallow)}, received {_briefly(structure)}"
        )
    for key, part in _parts(shallow):
        yield from _up_to(part, structure[key], (*path, key))


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """Apply a function to each shape in a structure.

    Args:
        func: A function of a shape.
        structure: A shape, or a structure of shapes. A tuple or list of only integers and None is a shape.

    Returns:
        The same structure, with the results in place of the shapes.

    Example:
        >>> keras.tree.map_shape_structure(lambda shape: shape[1:], {"image": (None, 28, 28), "label": (None,)})
        {'image': (28, 28), 'label': ()}
    """
    return nest.map_shapes(func, structure)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """Put values into a structure in place of its leaves.

    Args:
        structure: The structure to follow; its own leaves are ignored.
        flat_sequence: One value for each leaf of the structure, in the order of `flatten`.

    Returns:
        A new structure of the same form.

    Raises:
        ValueError: if there are more or fewer values than leaves.

    Example:
        >>> keras.tree.pack_sequence_as({"b": 0, "a": [0, 0]}, [1, 2, 3])
        {'b': 3, 'a': [1, 2]}
    """
    leaves, count = list(flat_sequence), len(nest.flatten(structure))
    if len(leaves) != count:
        raise ValueError(f"pack_sequence_as: the structure has {count} leaves, received {len(leaves)}")
    return nest.pack(structure, leaves)


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """Check that two structures have the same form: the same types, lengths and keys; leaves may differ.

    Args:
        a: The first structure.
        b: The second structure.
        check_types: Ignored, as in Keras: lists and tuples always differ, kinds of dictionaries never do.

    Raises:
        ValueError: if the structures differ; the message gives the path of the first difference.

    Example:
        >>> keras.tree.assert_same_structure([1, (2, 3)], ["x", ("y", "z")])
        >>> keras.tree.assert_same_structure([1, 2], (1, 2))
        Traceback (most recent call last):
            ...
        ValueError: the structures differ: [1, 2] and (1, 2)
    """
    _assert_same(a, b, ())


def _assert_same(a: Any, b: Any, path: tuple) -> None:
    same = (isinstance(a, dict) and isinstance(b, dict)) or type(a) is type(b) or not (is_nested(a) or is_nested(b))
    if not same or (is_nested(a) and not _same_keys(a, b)):
        where = f" at {path}" if path else ""
        raise ValueError(f"the structures differ{where}: {_briefly(a)} and {_briefly(b)}")
    if is_nested(a):
        for key, part in _parts(a):
            _assert_same(part, b[key], (*path, key))


def assert_same_paths(a: Any, b: Any) -> None:
    """Check that two structures have leaves at the same paths. A list and a tuple of the same length do.

    Args:
        a: The first structure.
        b: The second structure.

    Raises:
        ValueError: if only one structure has a leaf at some path.

    Example:
        >>> keras.tree.assert_same_paths([1, 2], ("x", "y"))
        >>> keras.tree.assert_same_paths([1, 2], [1])
        Traceback (most recent call last):
            ...
        ValueError: only one structure has leaves at [(1,)]
    """
    first, second = ({path for path, _ in flatten_with_path(structure)} for structure in (a, b))
    if first != second:
        raise ValueError(f"only one structure has leaves at {sorted(first ^ second, key=str)}")


def lists_to_tuples(structure: Any) -> Any:
    """Replace each list in a structure by a tuple.

    Args:
        structure: Any structure.

    Returns:
        A new structure without lists.

    Example:
        >>> keras.tree.lists_to_tuples([1, {"a": [2, 3]}])
        (1, {'a': (2, 3)})
    """
    return traverse(lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False)


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """Replace parts of a structure, or the whole, by the results of a function.

    Args:
        func: A function of a part, which may be a structure or a leaf. It returns the replacement, None to keep
            the part, or `MAP_TO_NONE` to replace the part by None.
        structure: Any structure.
        top_down: True: go from the root to the leaves, and not into parts that were replaced. False: go from
            the leaves to the root, so that func gets structures whose parts are already replaced.

    Returns:
        A new structure, or the result of func for the whole.

    Example:
        >>> keras.tree.traverse(lambda part: sum(part) if isinstance(part, tuple) else None, [(1, 2), [(3, 4), 5]])
        [3, [7, 5]]
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
