"""Floor 1: Observed, an object whose attributes recorded steps read. If an attribute changes, those steps are recorded again.

A recorded step keeps the values that Python code read during the recording. Without this, `layer.rate = 0.2`, a callback that
sets `model.beta`, or `layer.blocks.append(block)` would have no effect. A list or dict in an attribute is a copy that notices
changes, as in Keras 3.
"""

from __future__ import annotations

import contextlib
import functools
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine import structures
from nbkeras.engine.tensor import Tensor, depend_on, is_in_step, outdate
from nbkeras.engine.user_errors import warn

# compared by value; everything else by identity
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
# types of values that neither are nor hold Observed objects or Variables
WITHOUT_PARTS = frozenset((*_PLAIN[:-1], np.ndarray, np.dtype, Tensor, types.FunctionType, object))
_ABSENT = object()
_NOT_IN_STEPS = frozenset({"__init__", "build", "get_config", "from_config", "__repr__", "__setattr__"})
_OFTEN = 100  # after this number of changes, a warning names the remedy


class Watched:
    """A list or dict in an attribute. A change of its items is a change of the attribute."""

    _attribute: tuple[str, str] | None = None  # the attribute and its owner, if a current program depends on it
    _changes = 0

    def _has_changed(self) -> None:
        Observed.assignments += 1
        if self._attribute is not None and not is_in_step():
            attribute, self._attribute = self._attribute, None
            _outdate(self, *attribute)


def _noticing(name: str, method: Callable) -> Callable:
    """A method that changes a list or dict, and notices it. It also watches the lists and dicts among its arguments."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if name in ("update", "__ior__"):
            args, kwargs = (dict(*args, **kwargs),), {}
        elif name in ("extend", "__iadd__"):
            args = tuple(map(list, args))
        try:
            return method(self, *map(watched, args), **kwargs)
        finally:
            self._has_changed()

    return call


_CHANGING = (
    "append extend insert remove pop clear sort reverse popitem update setdefault move_to_end "
    "__setitem__ __delitem__ __iadd__ __imul__ __ior__"
).split()


def _missing(self: Any, key: Any) -> Any:
    defaultdict.__missing__(self, key)
    return self[key]  # the watched copy of the default


def _watching(kind: type) -> type:
    methods = {name: _noticing(name, getattr(kind, name)) for name in _CHANGING if hasattr(kind, name)}
    if kind is defaultdict:
        methods["__missing__"] = _missing
    name = f"Watched{kind.__name__}"
    return type(name, (Watched, kind), {**methods, "__module__": __name__, "__qualname__": name})


_KINDS = {kind: _watching(kind) for kind in (list, dict, OrderedDict, defaultdict)}
globals().update({kind.__name__: kind for kind in _KINDS.values()})  # for pickle


def watched(value: Any, known: dict[int, Any] | None = None) -> Any:
    """A Watched copy of a list or dict, and of those nested in it or in a tuple; any other value unchanged.

    known: id of a list or dict -> its copy, as far as there is one: a list may contain itself.
    """
    kind = type(value)
    if kind in _KINDS:
        known = {} if known is None else known
        if id(value) not in known:
            made = known[id(value)] = _KINDS[kind]()
            if isinstance(value, list):
                list.extend(made, [watched(each, known) for each in value])
            else:
                if isinstance(value, defaultdict):
                    made.default_factory = value.default_factory
                for key, each in list(value.items()):
                    kind.__setitem__(made, key, watched(each, known))
        return known[id(value)]
    if isinstance(value, tuple) and (kind is tuple or hasattr(kind, "_make")):
        items = [watched(each, known) for each in value]
        if any(new is not old for new, old in zip(items, value, strict=True)):
            return tuple(items) if kind is tuple else kind._make(items)  # type: ignore[attr-defined]
    return value


def _containers(values: Iterable[Any]) -> list[Any]:
    """The lists and dicts among values, and those nested in them and in tuples."""
    found: dict[int, Any] = {}
    todo = list(values)
    while todo:
        value = todo.pop()
        if isinstance(value, (list, dict, tuple)) and id(value) not in found:
            found[id(value)] = value
            todo += value.values() if isinstance(value, dict) else value
    return [each for each in found.values() if not isinstance(each, tuple)]


class Observed:
    """A layer, model, loss, metric, regularizer, constraint or optimizer.

    It observes the attributes that a recorded step can have read: their names occur in a method of the object's class. Their
    lists and dicts are Watched. It does not observe the contents of other containers and of plain objects, globals, or the
    variables of functions.
    """

    # the number of changes, in this process, of attributes that may hold parts and of lists and dicts in them
    assignments = 0
    _without_parts: frozenset[str] = frozenset()  # attributes that hold no parts; their lists and dicts are not watched
    _observed = False  # whether a current program depends on this object
    _changes = 0

    def observed_parts(self) -> Iterable[Any]:
        """Objects, among them Observed ones, that a step with this object may use besides those in its attributes."""
        return ()

    def forget_recorded(self) -> None:
        """Drop what a recorded function left in this object and replays do not make again."""

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """A set of names that includes the attributes that a step reads."""
        return names_in_methods(*cls.__mro__[:-1])

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, _ABSENT)
        if name not in self._without_parts:
            with contextlib.suppress(RecursionError):  # lists nested without end hold no parts
                value = watched(value)
        super().__setattr__(name, value)
        if before is not value and not (type(before) in WITHOUT_PARTS and type(value) in WITHOUT_PARTS):
            Observed.assignments += 1
        if self._observed and self._is_new(name, before, value):
            self._has_changed(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        Observed.assignments += 1
        if self._observed:
            self._has_changed(name)

    def _is_new(self, name: str, before: Any, value: Any) -> bool:
        """Whether the value of an attribute is another one than before."""
        if before is _ABSENT:  # then steps have read the class's
            before = getattr(type(self), name, _ABSENT)
            if hasattr(type(before), "__set__"):  # a property, which changes other attributes
                return False
        return not _same(before, value)

    def _has_changed(self, name: str) -> None:
        if name in _names_read_by(type(self)) and not is_in_step():
            self.__dict__["_observed"] = False
            _outdate(self, name, _owner(self))

    def _values_with_parts(self) -> list[Any]:
        """The values of the attributes that may hold other Observed objects or Variables."""
        return [value for name, value in list(vars(self).items()) if name not in self._without_parts]


def _owner(observed: Observed) -> str:
    return f"{type(observed).__name__} {vars(observed).get('name', '')!r}"


def _outdate(changed: Any, name: str, owner: str) -> None:
    """Outdate the programs that depend on what has changed: an object, or a list or dict in its attribute."""
    vars(changed)["_changes"] = changed._changes + 1
    outdate(changed)
    if changed._changes == _OFTEN:
        warn(
            f"the attribute {name!r} of {owner} was changed {_OFTEN} times, and each time the steps that read it "
            "were recorded again, which takes some milliseconds more than a step. Make it a Variable, whose current "
            f"value each step reads: self.{name} = nbkeras.Variable(value, trainable=False), then .assign(new_value)"
        )


def notices_all(objects: Iterable[Any]) -> bool:
    """Whether `Observed.assignments` counts all changes of these objects' parts: no list or dict is of a class of the user's."""
    values = [value for each in objects if isinstance(each, Observed) for value in each._values_with_parts()]
    return all(isinstance(each, Watched) for each in _containers(values))


def observe(each: Observed) -> None:
    """Make the program that this thread is recording depend on an object, and on the lists and dicts that steps read there."""
    held, names = each.__dict__, _names_read_by(type(each))
    held["_observed"] = True
    depend_on(each)
    for name, value in list(held.items()):
        if type(value) not in WITHOUT_PARTS and name in names:
            for container in _containers([value]):
                if isinstance(container, Watched):
                    container._attribute = name, _owner(each)
                    depend_on(container)


def observe_all(objects: Iterable[Any]) -> None:
    """Make the program that this thread is recording depend on the Observed objects among these and in their attributes."""
    seen: set[int] = set()
    todo = list(objects)
    while todo:
        each = todo.pop()
        if isinstance(each, Observed) and id(each) not in seen:
            seen.add(id(each))
            observe(each)
            todo += structures.find(Observed, each._values_with_parts())


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
