"""Names of layers and metrics: the class name in snake case, with a number."""

import re
import threading
from collections.abc import Container
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.kernels.runtime import fork_safety

_name_counts: dict[str, int] = {}
_name_lock = fork_safety.lock()


class _Scopes(threading.local):
    names: tuple[str, ...] = ()  # of the active `name_scope`s, the outermost one first
    caller: Any = None


scopes = _Scopes()


def scoped(path: str) -> str:
    """The path of a variable or layer that is made in the active name scopes."""
    return "/".join((*scopes.names, path))


def unique_name(prefix: str) -> str:
    """prefix, prefix_1, prefix_2, ..."""
    with _name_lock:
        count = _name_counts.get(prefix, 0)
        _name_counts[prefix] = count + 1
    return f"{prefix}_{count}" if count else prefix


def checked(kind: str, name: Any) -> str | None:
    """Returns a user's name, or None. Raises TypeError unless it is a string. kind: the kind of the named object."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a {kind}'s name must be a string, received {briefly(name)}")
    return name


def numbered(name: str, taken: Container[str]) -> str:
    """The name if it is free, else the first free one of name_1, name_2, ..."""
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def clear_names() -> None:
    """Reset the numbers in generated layer names."""
    with _name_lock:
        _name_counts.clear()


def snake_case(name: str) -> str:
    """'MaxPooling2D' -> 'max_pooling2d', as Keras names layers."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
