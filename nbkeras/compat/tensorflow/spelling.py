"""Functions of nbkeras with TensorFlow's names of arguments."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras import ops


def spelled(function: Callable, arguments: str) -> Callable[..., Any]:
    """The function with TensorFlow's arguments, where None means the default, as in TensorFlow.

    arguments: TensorFlow's names in its order. 'input:x' is the argument x; 'name:' is accepted and ignored, like `name`.
    """
    pairs = [each.partition(":") for each in arguments.split()]
    ours = {name: own if colon else name for name, colon, own in pairs} | {"name": ""}
    order = list(ours)
    parameters = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(order, args, strict=False))
        wrong = [name for name in kwargs if name in given or name not in ours]
        if wrong or len(args) > len(order):
            raise TypeError(
                f"{function.__name__} takes the arguments {', '.join(order)}, each once: received {len(args)} by position"
                f"{f' and {wrong[0]!r} by name' if wrong else ''}"
            )
        own = {ours[name]: value for name, value in (given | kwargs).items() if ours[name] and value is not None}
        first: list[Any] = []
        for name in parameters:  # by position as far as possible: files of models name these arguments so
            if name not in own:
                break
            first.append(own.pop(name))
        return function(*first, **own)

    return call


def spell(names: dict[str, Any], table: Mapping[str, str]) -> None:
    """Add ops to a module's names.

    table: arguments, as `spelled` takes them -> TensorFlow's names of ops; 'abs:absolute' is `ops.absolute`.
    """
    for arguments, functions in table.items():
        for name, _, own in (each.partition(":") for each in functions.split()):
            names[name] = spelled(getattr(ops, own or name), arguments)
