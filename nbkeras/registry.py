"""Names for objects: what a string argument means, and what a saved configuration names.

One Registry per kind of object (layer, loss, ...). Nothing outside a registry or `custom_objects` can be named by a file.
"""

import contextlib
import difflib
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class _Thread(threading.local):
    def __init__(self) -> None:
        self.custom: dict[str, Any] = {}


_thread = _Thread()
_registered: dict[str, Any] = {}  # by register_keras_serializable; found from every registry


@contextlib.contextmanager
def custom_object_scope(*mappings: Mapping[str, Any]) -> Iterator[None]:
    """Make names known while the block runs: `with custom_object_scope({'MyLayer': MyLayer}):`."""
    before = _thread.custom
    _thread.custom = dict(before)
    for mapping in mappings:
        _thread.custom.update(mapping or {})
    try:
        yield
    finally:
        _thread.custom = before


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Decorator: make a class or function known to loading by its own name and as 'package>name'."""

    def register(item):
        own = name or item.__name__
        _registered[own] = _registered[f"{package}>{own}"] = item
        return item

    return register


def custom_object(name: str) -> Any:
    """What the user registered under `name`, or None."""
    return _thread.custom.get(name, _registered.get(name))


def get_custom_objects() -> dict[str, Any]:
    """What `register_keras_serializable` knows, by name: a dict that may be changed to register more."""
    return _registered


def nearest(name: str, known) -> str:
    """' Did you mean ...?' for a misspelt name, or ''."""
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


_registries: list["Registry"] = []
_watchers: list[Callable[[Any], None]] = []


def watch(function: Callable[[Any], None]) -> None:
    """Call `function` with every class and function that a Registry holds, and with each that one will be given."""
    _watchers.append(function)
    for registry in _registries:
        for item in {id(item): item for item in registry._items.values()}.values():
            function(item)


class Registry:
    """The objects of one kind by name: `get` turns a user's argument into an object, `serialize` turns it back.

    kind: the word for messages ('optimizer'). Classes are instantiated on `get`, functions returned as they are.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._items: dict[str, Any] = {}
        _registries.append(self)
        self._later: dict[str, str] = {}  # what is registered once a module is imported

    def register(self, item=None, *names: str):
        """Add an object under its own name and further names; usable as a decorator, with or without names."""
        if item is None or isinstance(item, str):
            more = names if item is None else (item, *names)
            return lambda thing: self.register(thing, *more)
        for name in (item.__name__, *names):
            self._items[name] = item
        for watcher in _watchers:
            watcher(item)
        return item

    def later(self, modules: Mapping[str, str]) -> None:
        """Know of names before the modules that register them are imported: name -> module."""
        self._later.update(modules)

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted({*self._items, *self._later})

    def items(self) -> dict[str, Any]:
        """Registered objects by name."""
        for module in set(self._later.values()):
            importlib.import_module(module)
        return dict(self._items)

    def find(self, name: str) -> Any:
        """The class or function of that name; ValueError with the nearest valid name."""
        found = custom_object(name)
        if found is None and name not in self._items and name in self._later:
            importlib.import_module(self._later[name])
        if found is None:
            found = self._items.get(name)
        if found is None:
            raise ValueError(
                f"unknown {self.kind}: {name!r}.{nearest(name, self.names())} Known: {', '.join(self.names())}. "
                "Your own classes and functions are named by custom_objects or register_keras_serializable."
            )
        return found

    def get(self, identifier, **kwargs) -> Any:
        """An object from None, a name, a config dict {'class_name', 'config'}, a class, or an object (returned as it is)."""
        if identifier is None:
            return None
        if isinstance(identifier, str):
            found = self.find(identifier)
            return found(**kwargs) if isinstance(found, type) else found
        if isinstance(identifier, Mapping):
            return self.deserialize(identifier)
        if isinstance(identifier, type):
            return identifier(**kwargs)
        if callable(identifier) or hasattr(identifier, "get_config"):
            return identifier
        raise TypeError(
            f"{self.kind} must be a name, an object, a function or a configuration, received {identifier!r} "
            f"of type {type(identifier).__name__}"
        )

    def deserialize(self, config, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """An object from what `serialize` returned."""
        with custom_object_scope(custom_objects or {}):
            if config is None or isinstance(config, str):
                return self.get(config)
            if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
                raise ValueError(
                    f"a {self.kind}'s configuration must be a dict with 'class_name' and 'config', received {config!r}"
                )
            found = self.find(config["class_name"])
            if not isinstance(found, type):
                return found
            return found.from_config(dict(config.get("config") or {}))  # type: ignore[attr-defined]

    def serialize(self, item) -> Any:
        """None, a name (functions), or {'class_name', 'config'} (objects)."""
        if item is None or isinstance(item, str):
            return item
        if hasattr(item, "get_config"):
            return {"class_name": type(item).__name__, "config": item.get_config()}
        if callable(item) and hasattr(item, "__name__"):
            return item.__name__
        raise TypeError(f"cannot write {item!r} as a {self.kind}'s configuration: it has no get_config method")
