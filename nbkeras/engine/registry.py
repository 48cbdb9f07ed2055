"""Floor 1: registries of objects by name. They turn string arguments and names in configurations into classes and functions.

There is one Registry for each kind of object (layer, loss, ...). A file can name only objects in a registry or in
`custom_objects`.
"""

import difflib
import importlib
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from nbkeras.engine import compatibility
from nbkeras.engine.annotations import briefly
from nbkeras.engine.temporary import temporarily

F = TypeVar("F", bound=Callable)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.custom: dict[str, Any] = {}
        self.shared: dict[Any, Any] | None = None


_thread = _Thread()
_registered: dict[str, Any] = {}  # objects of register_keras_serializable, which every registry finds


def custom_object_scope(
    custom_objects: Mapping[str, Any] | None = None, *others: Mapping[str, Any] | None
) -> temporarily:
    """Let configurations and names refer to your own classes and functions in a `with` block.

    Args:
        custom_objects: A dict from name to class or function.
        *others: Further dicts; later ones override earlier ones.

    Returns:
        A context manager. It applies to this thread.

    Example:
        >>> def doubled(x):
        ...     return 2 * x
        >>> with keras.saving.custom_object_scope({"doubled": doubled}):
        ...     layer = layers.Activation("doubled")
        >>> layer(np.ones(3)).numpy()
        array([2., 2., 2.], dtype=float32)
    """
    custom = dict(_thread.custom)
    for mapping in (custom_objects, *others):
        if not isinstance(mapping, Mapping | None):
            raise TypeError(
                f"custom_objects must be a dict of classes and functions by name, received {briefly(mapping)}"
            )
        custom.update(mapping or {})
    return temporarily(_thread, custom=custom)


CustomObjectScope = custom_object_scope


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[F], F]:
    """Decorator that registers a class or function, so that files with it load without custom_objects.

    Args:
        package: A name of your project; files name the object 'package>name'.
        name: The name in files; None for the object's `__name__`.

    Returns:
        A decorator that returns the class or function unchanged.

    Example:
        >>> @keras.saving.register_keras_serializable("my_project")
        ... def tripled(x):
        ...     return 3 * x
        >>> layers.Activation("tripled")(np.ones(3)).numpy()
        array([3., 3., 3.], dtype=float32)
        >>> keras.saving.get_registered_name(tripled)
        'my_project>tripled'
    """

    def register(item):
        own = name or item.__name__
        _registered[own] = _registered[f"{package}>{own}"] = item
        return item

    return register


def custom_object(name: str) -> Any:
    """The user's object that is registered under `name`, or None."""
    return _thread.custom.get(name, _registered.get(name))


def get_registered_name(obj: Any) -> str:
    """The name of a class or function in configurations.

    Args:
        obj: A class or function.

    Returns:
        'package>name' if it was registered by `register_keras_serializable`, else its `__name__`.

    Example:
        >>> keras.saving.get_registered_name(layers.Dense)
        'Dense'
    """
    return next((name for name, known in _registered.items() if known is obj and ">" in name), obj.__name__)


def get_registered_object(
    name: str, custom_objects: Mapping[str, Any] | None = None, module_objects: Mapping[str, Any] | None = None
) -> Any:
    """Your own class or function that is registered under a name.

    Args:
        name: The name, or 'package>name'.
        custom_objects: A dict to search first.
        module_objects: A dict to search last, such as `globals()`.

    Returns:
        The object; None if there is none. Names of nbkeras itself are not searched.

    Example:
        >>> keras.saving.get_registered_object("f", custom_objects={"f": abs})
        <built-in function abs>
    """
    with custom_object_scope(custom_objects):
        found = custom_object(name)
    return (module_objects or {}).get(name) if found is None else found


def sharing_scope() -> temporarily:
    """Keep the identity of objects in the block: an object that a file contains several times is read as one object."""
    return temporarily(_thread, shared={})


def is_sharing() -> bool:
    """Whether a `sharing_scope` is active, because a file is being written or read."""
    return _thread.shared is not None


_PACKAGES = ("keras", "tf_keras", "nbkeras", "tensorflow", "builtins")


def is_built_in(module: Any) -> bool:
    """Whether a configuration's `module` is the framework itself. The name is only compared, never imported."""
    return module is None or (isinstance(module, str) and module.partition(".")[0] in _PACKAGES)


def get_custom_objects() -> dict[str, Any]:
    """The dict of all objects that `register_keras_serializable` registered, by name. Adding an entry registers an object.

    Example:
        >>> keras.saving.get_custom_objects()["absolute"] = ops.abs
        >>> layers.Activation("absolute")(np.array([-1.0, 2.0])).numpy()
        array([1., 2.], dtype=float32)
        >>> del keras.saving.get_custom_objects()["absolute"]
    """
    return _registered


def function_config(function: Callable) -> dict[str, Any]:
    """Keras 3's configuration of a function that is not built in. Raises TypeError for a lambda."""
    name = get_registered_name(function)
    if name == "<lambda>":
        raise TypeError("a lambda has no name to find it by when the file is loaded: define the function with def")
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def nearest(name: str, known) -> str:
    """' Did you mean ...?' with up to three similar names, or ''. Names over 100 characters, from a file, are not compared."""
    if len(name) > 100:
        return ""
    lower = {k.lower(): k for k in known}
    close = [repr(lower[each]) for each in difflib.get_close_matches(name.lower(), lower, n=3)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


_AUTHORS_PACKAGES = ("keras_cv", "keras_hub", "keras_nlp")
"""Packages whose classes a file may name without registering them, as in Keras."""
_registries: list["Registry"] = []
_watchers: list[Callable[[Any], None]] = []


def watch(function: Callable[[Any], None]) -> Callable[[], None]:
    """Call `function` with every registered class and function, now and at each later registration.

    Returns a function that stops this.
    """
    _watchers.append(function)
    for registry in _registries:
        for item in {id(item): item for item in registry._items.values()}.values():
            function(item)
    return lambda: _watchers.remove(function)


def of_kind(kind: str) -> "Registry":
    """The Registry of a kind of objects. Its module must already be imported."""
    return next(registry for registry in _registries if registry.kind == kind)


def registry_of(cls: type) -> "Registry":
    """The Registry that contains a class or its nearest registered base class; `others` if there is none."""
    return next((each for base in cls.__mro__ for each in _registries if each.has(base)), others)


def _meant(item: Any) -> Any:
    """The registered function that a function with older argument names stands for; anything else unchanged."""
    return item.stands_for if isinstance(item, types.FunctionType) and hasattr(item, "stands_for") else item


class Registry:
    """The objects of one kind by name: `get` turns a user's argument into an object, `serialize` turns it back.

    kind: the word for messages ('optimizer'). module: Keras's module, by default the kind's plural. spelling: a function that
    makes a second name from an object's own name. `get` instantiates classes and returns functions unchanged.
    """

    def __init__(self, kind: str, module: str | None = None, spelling: Callable[[str], str] | None = None):
        self.kind = kind
        self.module = module or f"keras.{kind}s"
        self.spelling = spelling or str
        self._items: dict[str, Any] = {}
        self._public: dict[type, tuple[str, str]] = {}  # class -> its module and name in Keras, if they differ
        _registries.append(self)
        self._later: dict[str, str] = {}  # name -> the module that registers it when it is imported
        self._unread: dict[Callable[[], Mapping[str, str]], None] = {}  # of `later`, not yet called; in their order

    @overload
    def register(self, item: F, *names: str) -> F: ...

    @overload
    def register(self, *names: str) -> Callable[[F], F]: ...

    def register(self, item: Any = None, *names: str) -> Any:
        """Add an object under its own name and additional names. It is also a decorator, with or without names."""
        if item is None or isinstance(item, str):
            more = names if item is None else (item, *names)
            return lambda thing: self.register(thing, *more)
        for name in (item.__name__, self.spelling(item.__name__), *names):
            self._items[name] = item
        for watcher in _watchers:
            watcher(item)
        return item

    def publish(self, cls: type, module: str, name: str) -> None:
        """Set Keras's module and name of a class for configurations: 'keras.src.models.functional', 'Functional'."""
        self._public[cls] = (module, name)

    def public_name(self, cls: type) -> str:
        """The name of a class in configurations."""
        return self._public[cls][1] if cls in self._public else cls.__name__

    def later(self, modules: Callable[[], Mapping[str, str]]) -> None:
        """Add names whose modules are imported on demand. modules: returns name -> module; called at the first look-up."""
        self._unread[modules] = None

    def _modules(self) -> dict[str, str]:
        """Name -> the module that registers it when it is imported."""
        for read in list(self._unread):
            for name, module in read().items():
                self._later[name] = self._later[self.spelling(name)] = module
            self._unread.pop(read, None)  # last: another thread that finds none unread must find all names
        return self._later

    def has(self, cls: type) -> bool:
        """Whether a class is registered under its own name."""
        return self._items.get(cls.__name__) is cls

    def names(self) -> list[str]:
        """All registered names, and the names of modules that are not imported yet, sorted."""
        return sorted({*self._items, *(name for name, module in self._modules().items() if module not in sys.modules)})

    def items(self) -> dict[str, Any]:
        """All registered objects by name. It imports all their modules."""
        for module in set(self._modules().values()):
            importlib.import_module(module)
        return dict(self._items)

    def find(self, name: str, registered: Any = None, module: Any = None) -> Any:
        """The class or function for a name: the user's, also by its registered name, or a built-in one.

        Raises ValueError for an unknown name, with similar names, and for a name in a `module` that is not the framework's.
        """
        found = custom_object(registered) if isinstance(registered, str) else None
        if found is None:
            found = custom_object(name)
        if found is None and is_built_in(module):
            if name not in self._items and name in self._modules():
                importlib.import_module(self._later[name])
            found = self._items.get(name)
        if found is None:
            found = self._of_package(module, name)
        if found is None:
            of = "" if is_built_in(module) else f" of module {briefly(module)}"
            raise ValueError(
                f"unknown {self.kind}: {briefly(name)}{of}.{nearest(name, self.names())} Pass your own classes and functions in "
                f"custom_objects, or use register_keras_serializable; dir(nb{self.module}) lists the built-in ones."
            )
        return found

    def _of_package(self, module: Any, name: str) -> Any:
        """A class of a package of Keras's authors. Its module is imported already: a file may not import one."""
        if not isinstance(module, str) or module.partition(".")[0] not in _AUTHORS_PACKAGES:
            return None
        found = vars(sys.modules.get(module, object)).get(name)
        return found if isinstance(found, type) and getattr(found, "_registry", None) is self else None

    def get(self, identifier, **kwargs) -> Any:
        """Returns the object for an identifier.

        Args:
            identifier: A name, a configuration {'class_name', 'config'} or a class; or an object, a function or None, which are
                returned unchanged.
            **kwargs: Arguments of the class, if identifier is a name or a class.

        Raises:
            ValueError: for an unknown name, with similar names, and for an invalid identifier.

        Example:
            >>> keras.optimizers.get("sgd")
            <SGD learning_rate=0.01 iterations=0>
            >>> keras.metrics.get("mae").name
            'mean_absolute_error'
        """
        if identifier is None:
            return None
        if isinstance(identifier, str):
            found = self.find(identifier)
            return found(**kwargs) if isinstance(found, type) else found
        if isinstance(identifier, Mapping):
            return self.deserialize(identifier)
        if isinstance(identifier, type):
            made = identifier(**kwargs)
            if callable(made) or hasattr(made, "get_config"):
                return made
        elif callable(identifier) or hasattr(identifier, "get_config"):
            return _meant(identifier)
        raise ValueError(
            f"{self.kind} must be a name, an object, a function or a configuration, received {briefly(identifier)} "
            f"of type {type(identifier).__name__}"
        )

    def deserialize(self, config, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Make an object from a result of `serialize`.

        Args:
            config: A configuration {'class_name', 'config'}, a name, or None, which is returned.
            custom_objects: Your own classes and functions that the configuration names: name -> object.

        Raises:
            ValueError: if it is not a configuration, or names an unknown class.

        Example:
            >>> written = keras.regularizers.serialize(keras.regularizers.L2(0.1))
            >>> round(keras.regularizers.deserialize(written).l2, 3)
            0.1
        """
        with custom_object_scope(custom_objects):
            if config is None:
                return None
            if isinstance(config, str):
                return self.get(config)
            if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
                raise ValueError(
                    f"a {self.kind}'s configuration must be a dict with 'class_name' and 'config', received "
                    f"{briefly(config)}"
                )
            name, inner = config["class_name"], config.get("config")
            shared = (self.kind, config.get("shared_object_id"))
            if _thread.shared is not None and shared in _thread.shared:
                return _thread.shared[shared]
            if name == "function" and isinstance(inner, str):
                return self.find(inner, config.get("registered_name"), config.get("module"))
            found = self.find(name, config.get("registered_name"), config.get("module"))
            if not isinstance(found, type):
                return found
            if not isinstance(inner, Mapping | None):
                raise ValueError(
                    f"the config of {self.kind} {briefly(name)} must be a dict, received {type(inner).__name__}"
                )
            made = self._made(found, {**config, "config": dict(inner or {})})
            if _thread.shared is not None and shared[1] is not None:
                _thread.shared[shared] = made
            return made

    def _made(self, cls: Any, config: dict[str, Any]) -> Any:
        return cls.from_config(config["config"]) if hasattr(cls, "from_config") else cls(**config["config"])

    def serialize(self, item, short: bool = True) -> Any:
        """The configuration of an object, without weights. `deserialize` makes the object again.

        Args:
            item: An object with `get_config`, a function, a name, or None.
            short: Whether a built-in function becomes its name; Keras 2 writes all of them so.

        Returns:
            A dict {'module', 'class_name', 'config', 'registered_name'}, as Keras 3 writes it, or a name.

        Raises:
            TypeError: for an object without `get_config`.

        Example:
            >>> config = keras.layers.serialize(keras.layers.RepeatVector(3, name="again"))
            >>> config["class_name"], config["config"]["n"]
            ('RepeatVector', 3)
        """
        if item is None or isinstance(item, str):
            return item
        if hasattr(item, "get_config"):
            return self._written(item)
        if hasattr(item, "__name__"):
            item, name = _meant(item), item.__name__
            built_in = any(registry._items.get(name) is item for registry in _registries)
            unnamed = name == "<lambda>" and not is_sharing()  # files cannot contain a lambda, but messages can show it
            return (
                name
                if built_in and (short or compatibility.current.names_functions) or unnamed
                else function_config(item)
            )
        raise TypeError(f"cannot write {briefly(item)} as a {self.kind}'s configuration: it has no get_config method")

    def _written(self, item) -> dict[str, Any]:
        cls = type(item)
        registered = None
        if cls in self._public:
            module, name = self._public[cls]
            registered = name if module.startswith("keras.src") else None
        elif self.has(cls):
            module, name = self.module, cls.__name__
        else:
            module, name = (None if cls.__module__ == "__main__" else cls.__module__), cls.__name__  # type: ignore
            registered = get_registered_name(cls)
        written = {"module": module, "class_name": name, "config": item.get_config(), "registered_name": registered}
        if _thread.shared is not None:
            before = _thread.shared.setdefault(id(item), (written, item))[0]
            if before is not written:
                before["shared_object_id"] = written["shared_object_id"] = id(item)
        return written


others = Registry("object", "keras.random")  # SeedGenerator, and users' objects that do not extend a class of nbkeras


class Registered:
    """Base class that registers its subclasses when they are defined, if they are nbkeras's and their name has no leading `_`.

    registry: the registry of a new kind; its base class, which passes it, is not registered. registered: False for other base
    classes. names: additional names.
    """

    _registry: Registry

    def __init_subclass__(
        cls, registry: Registry | None = None, registered: bool = True, names: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if registry is not None:
            cls._registry = registry
        elif registered and cls.__module__.startswith("nbkeras.") and not cls.__name__.startswith("_"):
            cls._registry.register(cls, *names)
