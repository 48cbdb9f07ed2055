"""`tf.nest`: nested lists, tuples and dicts."""

from collections.abc import Callable
from typing import Any

from nbkeras import tree

assert_same_structure = tree.assert_same_structure
flatten = tree.flatten
is_nested = tree.is_nested
pack_sequence_as = tree.pack_sequence_as


def map_structure(func: Callable, *structure: Any, **kwargs: Any) -> Any:
    """The results of a function for each leaf of structures of one form."""
    return tree.map_structure(func, *structure)
