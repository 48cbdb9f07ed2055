"""Floor 1: options, the parameters of an `__init__` that an object checks, keeps and writes into its configuration.

The annotation of a parameter declares an option. A layer needs only this:

    def __init__(self, units: Size, use_bias: Flag = True, kernel_initializer: Initializer = "glorot_uniform", **kwargs):
        super().__init__(**keep(self, locals()))

`keep` checks and converts the values, sets the attributes, and returns the remaining arguments for the base class. `get_config`
of the base class writes the options. A parameter without such an annotation is not an option: the class handles it itself.
"""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from nbkeras.engine.annotations import briefly, check_rate, one_of
from nbkeras.engine.registry import of_kind, registry_of
from nbkeras.engine.user_errors import is_meant


def written(value: Any) -> Any:
    """A value as it is written into a configuration: objects become their configurations, and arrays lists."""
    if isinstance(value, list | tuple):
        return [written(each) for each in value]
    if hasattr(value, "get_config"):
        return registry_of(type(value)).serialize(value)
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


class Kind(NamedTuple):
    """A kind of option. `check(object, option, value)` returns the value to keep, or raises. `words`: the accepted values."""

    check: Callable[[Any, str, Any], Any]
    words: str
    write: Callable[[Any], Any] = written


def size_of(name: str, what: str, value: Any) -> int:
    """Returns a positive integer. The error names the layer or op, and the argument."""
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if not 1 <= size <= sys.maxsize or isinstance(value, bool):
        bound = " below 2**63" if size > sys.maxsize else ""
        raise ValueError(f"{name}: {what} must be a positive integer{bound}, received {briefly(value)}")
    return size


def _integer(name: str, what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: {what} must be an integer, received {briefly(value)}")
    return int(value)


def number_of(name: str, what: str, value: Any) -> float:
    """Returns a number as a float. The error names the class and the argument."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name}: {what} must be a number, received {briefly(value)}")
    return float(value)


def as_given(name: str, what: str, value: Any) -> Any:
    """Returns a number without converting it. The error names the class and the argument."""
    number_of(name, what, value)
    return value


def _verbosity(name: str, what: str, value: Any) -> Any:
    return value if isinstance(value, bool) else as_given(name, what, value)


def flag_of(name: str, what: str, value: Any) -> bool:
    """Returns the truth value. The error names the class and the argument."""
    try:
        return bool(value)
    except Exception:  # NumPy and pandas raise for arrays and tables of several values
        raise TypeError(f"{name}: {what} must be True or False, received {briefly(value)}") from None


def name_of(item: Any) -> str:
    """The name of an object's class for errors; without 'Cell', since users make LSTM and not its LSTMCell."""
    return type(item).__name__.removesuffix("Cell")


def kind(check: Callable, words: str, *more: Any, write: Callable[[Any], Any] = written) -> Kind:
    """The kind of an option that `check(class name, option, value, *more)` checks and converts."""
    return Kind(lambda item, what, value: check(name_of(item), what, value, *more), words, write)


def integers_of(name: str, what: str, value: Any) -> tuple[int, ...]:
    """Returns integers as a tuple. The error names the class and the argument."""
    try:
        return tuple(operator.index(each) for each in value)
    except TypeError:
        raise TypeError(f"{name}: {what} must be a tuple of integers, received {briefly(value)}") from None


def _several(name: str, what: str, value: Any) -> tuple:
    sizes = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(each is None or (isinstance(each, int) and not isinstance(each, bool)) for each in sizes):
        raise TypeError(f"{name}: {what} must be an integer, or several, received {briefly(value)}")
    return sizes


def choice(*allowed: str | None, any_case: bool = False) -> Kind:
    """The kind of an option that is one of these names."""
    return kind(one_of, f"one of {', '.join(map(repr, allowed))}", allowed, any_case)


def bounded(words: str, holds: Callable[[Any], bool], bounds: str) -> Kind:
    """The kind of an option that is a number for which `holds` is true. bounds: that condition, for the error."""

    def check(name: str, what: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"{name}: {what} must be {words}, received {briefly(value)}")
        if not holds(value):
            raise ValueError(f"{name}: {what} must be {bounds}, received {briefly(value)}")
        return value

    return kind(check, words)


def optional(annotation: Any) -> Kind:
    """The kind of an option that accepts None besides the annotated kind."""
    (each,) = annotation.__metadata__
    return Kind(
        lambda item, what, value: None if value is None else each.check(item, what, value),
        f"{each.words}, or None",
        each.write,
    )


def _object(kind: str, words: str) -> Kind:
    """The kind of an option whose value a registry looks up."""

    def write(value: Any) -> Any:
        each = of_kind(kind).serialize
        return [each(one) for one in value] if isinstance(value, list | tuple) else each(value)

    def check(item: Any, what: str, value: Any) -> Any:
        return of_kind(kind).get(value)

    return Kind(check, words, write)


def _layers(item: Any, what: str, value: Any) -> Any:
    """Make layers from configurations; return other objects unchanged. The class checks them: a cell need not be a layer."""
    if isinstance(value, list | tuple):
        return [_layers(item, what, each) for each in value]
    return of_kind("layer").deserialize(value) if isinstance(value, dict) else value


Anything = Annotated[Any, Kind(lambda item, what, value: value, "")]  # the class's docstring describes accepted values
Size = Annotated[int, kind(size_of, "a positive integer")]
Integer = Annotated[int, kind(_integer, "an integer")]
Several = Annotated[Any, kind(_several, "an integer, or several")]
Integers = Annotated[Any, kind(integers_of, "a tuple of integers")]
Number = Annotated[float, kind(number_of, "a number")]
AnyNumber = Annotated[Any, kind(as_given, "a number")]  # not converted: an integer stays an integer in configurations
Verbosity = Annotated[int, kind(_verbosity, "a number")]  # it may be a flag
AtLeast0 = Annotated[Any, bounded("a number, 0 or more", lambda value: value >= 0, ">= 0")]
Above0 = Annotated[Any, bounded("a number above 0", lambda value: value > 0, "> 0")]
MaybeInteger = Annotated[Any, optional(Integer)]
MaybeNumber = Annotated[Any, optional(Number)]
Rate = Annotated[float, kind(check_rate, "a number from 0 to 1")]
Flag = Annotated[bool, kind(flag_of, "True or False")]
_Named = str | Callable[..., Any] | Mapping[str, Any] | None  # a name, an object or a function, a configuration
Activation = Annotated[_Named, _object("activation", "a name, a function or None")]
Initializer = Annotated[_Named | np.ndarray, _object("initializer", "a name, an Initializer or a function")]
Regularizer = Annotated[_Named, _object("regularizer", "a name, a Regularizer, a function or None")]
Constraint = Annotated[_Named, _object("constraint", "a name, a Constraint, a function or None")]
Layers = Annotated[Any, _object("layer", "a layer, or a list of layers")._replace(check=_layers)]


class Option(NamedTuple):
    """One option of a class: its name, its kind, and the attribute that keeps it."""

    name: str
    kind: Kind
    attribute: str


def keep(item: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Check the options of an `__init__` and set the attributes. Returns the remaining arguments, for the base class.

    arguments: the `locals()` of the `__init__`, which must call `super()`. Only one class of a hierarchy declares an option.
    """
    init = vars(arguments["__class__"])["__init__"]
    others = {name: arguments[name] for name in parameters(init)} | arguments.get("kwargs", {})
    for name, each, attribute in _declared(init):
        try:
            value = each.check(item, name, arguments[name])
        except Exception as error:
            if is_meant(error):
                raise
            # the check itself failed, as `value < 0` fails for a string: the value has a wrong type
            raise TypeError(
                f"{name_of(item)}: {name} must be {each.words}, received {briefly(arguments[name])}"
            ) from error
        setattr(item, attribute, value)
        del others[name]
    return others


def of_class(cls: type) -> dict[str, Option]:
    """The options that a class accepts: its own, and those of its base classes that its `__init__` takes or gets in **kwargs."""
    found: dict[str, Option] = {}
    taken: list[str] | None = None  # the parameters of an `__init__` without **kwargs
    for each in cls.__mro__:
        if "__init__" in vars(each):
            init = vars(each)["__init__"]
            own = {option.name: option for option in _declared(init) if taken is None or option.name in taken}
            found = own | found
            if own and taken is None and not inspect.unwrap(init).__code__.co_flags & inspect.CO_VARKEYWORDS:
                taken = parameters(init)
    without = left_out(cls)
    return {name: option for name, option in found.items() if name not in without}


def left_out(cls: type) -> set[str]:
    """The options of base classes that a class does not take: the names in `_left_out`."""
    return {name for each in cls.__mro__ for name in vars(each).get("_left_out", ())}


def config_of(item: Any) -> dict[str, Any]:
    """The declared options of an object as a configuration, for `get_config`."""
    config = {}
    for name, each, attribute in of_class(type(item)).values():
        value = getattr(item, attribute)
        try:
            config[name] = each.write(value)
        except RecursionError:
            raise ValueError(
                f"{name_of(item)}: {name} cannot be written into a configuration, because its lists are nested without end: "
                f"{briefly(value)}"
            ) from None
    return config


class Declared:
    """Base class of objects with attributes that `keep` sets: type checkers know that they exist."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Configured(Declared):
    """Base class of objects whose configuration is the options that their signatures declare."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments. A subclass must add options that it does not declare."""
        return config_of(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Make an object from a result of `get_config`.

        Args:
            config: The configuration, a dict.
        """
        return cls(**config)


def _declared(init: Callable) -> list[Option]:
    """The options among the parameters of an `__init__`; an annotation `Annotated[Size, "_n"]` names the attribute."""
    function = inspect.unwrap(init)
    if not isinstance(function, FunctionType):  # object's own __init__
        return []
    if "_options" not in vars(function):
        found = []
        for name, annotation in function.__annotations__.items():
            if isinstance(annotation, str):  # the file has `from __future__ import annotations`
                first, *rest = annotation.split(".")
                annotation = function.__globals__.get(first)
                for each in rest:
                    annotation = getattr(annotation, each, None)
            kinds = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Kind)]
            attributes = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, str)]
            found += [Option(name, kind, (*attributes, name)[0]) for kind in kinds[-1:]]
        vars(function)["_options"] = found
    return vars(function)["_options"]


def parameters(init: Callable) -> list[str]:
    """The names of the parameters of an `__init__`, without `self`, *args and **kwargs."""
    code = inspect.unwrap(init).__code__  # inspect.signature takes 100 times as long
    return [*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]]


def inherited_init(cls: type, defaults: Mapping[str, Any]) -> Callable:
    """A copy of the base class's `__init__` for a subclass: with its defaults of some parameters, and its name in errors."""
    function: Any = inspect.unwrap(cls.__init__)  # type: ignore[misc]
    made: Any = FunctionType(function.__code__, function.__globals__, function.__name__, closure=function.__closure__)
    made.__annotations__, made.__kwdefaults__ = function.__annotations__, function.__kwdefaults__
    made.__qualname__ = f"{cls.__name__}.__init__"
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    known = {**dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False)), **defaults}
    made.__defaults__ = tuple(known[name] for name in names if name in known)
    return made


def has_required(init: Callable) -> bool:
    """Whether an `__init__` has an argument without a default."""
    function: Any = inspect.unwrap(init)
    return function.__code__.co_argcount > 1 + len(function.__defaults__ or ())


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The `locals()` of an `__init__` without `self` and **kwargs, to pass them on by name."""
    return {name: value for name, value in arguments.items() if name not in ("self", "kwargs", "__class__")}
