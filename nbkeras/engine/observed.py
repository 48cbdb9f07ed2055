"""Floor 1: Observed, an object whose attributes recorded steps read. If an attribute changes, those steps are recorded again.

A recorded step keeps the values that Python code read during the recording. Without this, `layer.rate = 0.2` or a callback that
sets `model.beta` would have no effect.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import types
import weakref
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine import step_lock, structures
from nbkeras.engine.tensor import Tensor, depend_on, layer_stack, outdate
from nbkeras.engine.user_errors import warn

# compared by value; everything else by identity
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
# types of values that neither are nor hold Observed objects or Variables
WITHOUT_PARTS = frozenset((*_PLAIN[:-1], np.ndarray, np.dtype, Tensor, types.FunctionType))
_NOT_IN_STEPS = frozenset({"__init__", "build", "get_config", "from_config", "__repr__", "__setattr__"})
_OFTEN = 100  # after this number of changes, a warning names the remedy


class Observed:
    """A layer, model, loss, metric, regularizer, constraint or optimizer.

    It observes the attributes that a recorded step can have read: their names occur in a method of the object's class. It does
    not observe the contents of lists, dicts and plain objects, globals, or the variables of functions.
    """

    assignments = 0  # the number of assignments, in this process, of attributes that may hold parts; see Holdings
    _observed = False  # whether a current program depends on this object
    _changes = 0

    def observed_parts(self) -> Iterable[Any]:
        """The objects whose attributes a step with this object may read, among them Observed ones."""
        return ()

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """A set of names that includes the attributes that a step reads."""
        return names_in_methods(*cls.__mro__[:-1])

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        before = held.get(name)
        changed = self._observed and name in held and not _same(before, value)
        super().__setattr__(name, value)
        if before is not value and not (type(before) in WITHOUT_PARTS and type(value) in WITHOUT_PARTS):
            Observed.assignments += 1
        # an assignment inside a step or a layer's call is part of the step, not an external change
        if changed and not (step_lock.inside() or layer_stack.names) and name in _names_read_by(type(self)):
            held["_observed"] = False
            held["_changes"] = self._changes + 1
            outdate(self)
            if self._changes == _OFTEN:
                owner = f"{type(self).__name__} {held.get('name', '')!r}"
                warn(
                    f"the attribute {name!r} of {owner} was changed {_OFTEN} times, and each time the steps that read it "
                    "were recorded again, which takes some milliseconds more than a step. Make it a Variable, whose current "
                    f"value each step reads: self.{name} = nbkeras.Variable(value, trainable=False), then .assign(new_value)"
                )

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        Observed.assignments += 1

    def _values_with_parts(self) -> Collection[Any]:
        """The values of the attributes that may hold other Observed objects or Variables."""
        return list(vars(self).values())


class Holdings:
    """The attributes of Observed objects, and the lists and dicts in them, to notice when their parts may have changed."""

    def __init__(self, objects: Iterable[Observed]):
        self._assignments = Observed.assignments
        self._lists: list[list] = []
        self._dicts: list[dict] = []
        seen: set[int] = set()
        todo = [value for each in objects if isinstance(each, Observed) for value in each._values_with_parts()]
        while todo:
            value = todo.pop()
            if isinstance(value, (list, dict, tuple)) and id(value) not in seen:
                seen.add(id(value))
                todo += value.values() if isinstance(value, dict) else value
                if not isinstance(value, tuple):
                    (self._dicts if isinstance(value, dict) else self._lists).append(value)  # type: ignore[arg-type]
        self._items = self._present_items()

    def _present_items(self) -> list:
        """The items of all lists and dicts, each followed by its container."""
        items: list = []
        for each in self._lists:
            items += each
            items.append(each)
        for named in self._dicts:
            items += named.values()
            items.append(named)
        return items

    def are_same(self) -> bool:
        """Whether no such attribute was assigned, and no list or dict in them has other items."""
        if self._assignments != Observed.assignments:
            return False
        now = self._present_items()
        return len(now) == len(self._items) and all(map(operator.is_, now, self._items))


def observe(objects: Iterable[Any]) -> None:
    """Make the program that this thread is recording depend on the Observed objects among these."""
    for each in objects:
        if isinstance(each, Observed):
            each.__dict__["_observed"] = True
            depend_on(each)


def reachable(*things: Any) -> list[Observed]:
    """The Observed objects that functions and other objects can use: by their closures, defaults, globals and attributes.

    It follows functions that the user wrote, and the attributes of objects that are not Observed, one level deep.
    """
    found: dict[int, Observed] = {}
    seen: set[int] = set()
    todo = [(each, True) for each in things]
    while todo:
        value, is_direct = todo.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, *_PLAIN)):
            continue
        seen.add(id(value))
        if isinstance(value, Observed):
            found.update((id(each), each) for each in (value, *value.observed_parts()))
        elif isinstance(value, types.MethodType):
            todo += [(value.__func__, is_direct), (value.__self__, is_direct)]
        elif isinstance(value, functools.partial):
            todo += [(each, is_direct) for each in (value.func, *value.args, *value.keywords.values())]
        elif isinstance(value, types.FunctionType):
            todo += [(each, is_direct) for each in _used_by(value)]
        elif isinstance(value, list | tuple | dict):
            todo += [(each, is_direct) for each in structures.find(Observed, value)]
        elif is_direct and hasattr(value, "__dict__"):
            todo += [(each, False) for each in list(vars(value).values())]
    return list(found.values())


def _used_by(function: types.FunctionType) -> Iterator[Any]:
    """The values of a function's closure, defaults and globals."""
    if f"{function.__module__}.".startswith("nbkeras."):
        return
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell
            yield cell.cell_contents
    yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    for code in _codes(function):
        yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)


def _same(before: Any, value: Any) -> bool:
    return before is value or (type(before) is type(value) and isinstance(value, _PLAIN) and bool(before == value))


# by class; weak keys, so that classes defined in a function can be freed with their models
_names: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def _names_read_by(cls: type[Observed]) -> frozenset[str]:
    if cls not in _names:
        _names[cls] = cls.names_read_in_steps()
    return _names[cls]


def names_in_methods(*classes: type) -> frozenset[str]:
    """The names and strings in the methods of classes; a string may be a name for `getattr`."""
    found: set[str] = set()
    for cls in classes:
        for name, member in vars(cls).items():
            if name not in _NOT_IN_STEPS:
                for code in _codes(member):
                    found.update(code.co_names, [each for each in code.co_consts if isinstance(each, str)])
    return frozenset(found)


def _codes(member: Any) -> Iterator[types.CodeType]:
    """The code of a method, property or decorated function, and of its nested functions."""
    if isinstance(member, types.CodeType):
        yield member
        for constant in member.co_consts:
            if isinstance(constant, types.CodeType):
                yield from _codes(constant)
    elif isinstance(member, types.FunctionType):
        yield from _codes(member.__code__)
        yield from _codes(getattr(member, "__wrapped__", None))
    elif isinstance(member, classmethod | staticmethod):
        yield from _codes(member.__func__)
    elif isinstance(member, property):
        yield from _codes(member.fget)
