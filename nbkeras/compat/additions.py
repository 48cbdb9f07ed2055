"""Attributes of nbkeras's classes and modules that are set for a while: closing an ExitStack removes them."""

import contextlib
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from nbkeras.engine import user_errors


def put(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of a class or module; closing the stack restores it."""
    if name in user_errors.ENTRIES and isinstance(owner, type):
        value = _entry(value)
    held = vars(owner)
    stack.callback(setattr, owner, name, held[name]) if name in held else stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def add_members(stack: contextlib.ExitStack, added: Mapping[type, type]) -> None:
    """Set the members of a class on another one; added: class of nbkeras -> class with its additional members."""
    for cls, extra in added.items():
        for name, value in [item for base in reversed(extra.__mro__[:-1]) for item in vars(base).items()]:
            if name == "__call__" or not (name.startswith("__") and name.endswith("__")):
                put(stack, cls, name, value)


def _entry(method: Any) -> Any:
    """The method as an entry point: tracebacks of its errors end at the user's line."""
    if isinstance(method, classmethod):
        return classmethod(_entry(method.__func__))
    return user_errors.entry(method) if isinstance(method, FunctionType) else method
