"""Floor 1: checks of the arguments of ops against the annotations of their parameters: numbers, strings, booleans."""

import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_EXPECTED = {  # annotation -> the kinds of dtypes that it accepts, and the words for them
    bool: ("b", "True or False"),
    int: ("iu", "an integer"),
    float: ("fiub", "a number"),
    str: ("", "a string"),
    Callable: ("", "a function"),
}


def checker_of(function: Callable) -> Callable[[tuple, dict], None] | None:
    """Returns a function that raises TypeError for arguments that contradict the annotations; None if no parameter is checked.

    It checks parameters annotated as bool, int, float, str or Callable, or as one of these or None. A call with at most
    `check.first` positional arguments and no others needs no check.
    """
    code = function.__code__
    parameters = []
    for position, name in enumerate(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]):
        annotation = function.__annotations__.get(name)
        is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        kinds = set(typing.get_args(annotation) if is_union else (annotation,))
        wanted = kinds - {types.NoneType}
        if len(wanted) == 1 and wanted <= _EXPECTED.keys():
            by_name = position >= code.co_argcount  # a positional argument there may belong to *args
            parameters.append((sys.maxsize if by_name else position, name, wanted.pop(), types.NoneType in kinds))
    if not parameters:
        return None

    def check(args: tuple, kwargs: dict) -> None:
        for position, name, kind, optional in parameters:  # `check` stands for "not given"
            value = args[position] if position < len(args) else kwargs.get(name, check)
            if type(value) is kind or value is check or (value is None and optional):
                continue
            if callable(value) if kind is Callable else _accepts(value, kind):
                continue
            words = _EXPECTED[kind][1] + (" or None" if optional else "")
            raise TypeError(f"{function.__name__}: {name} must be {words}, received {briefly(value)}")

    check.first = min(position for position, *_ in parameters)  # type: ignore[attr-defined]
    return check


def _accepts(value: Any, kind: type) -> bool:
    """Whether to accept an argument of another type for bool, int, float or str: a NumPy number, a Tensor without axes."""
    if hasattr(value, "symbolic_op") or (kind is bool and value is None):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return getattr(value, "shape", None) == () and getattr(dtype, "kind", "O") in _EXPECTED[kind][0]
    if kind is str or kind is int:
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, int | float if kind is float else int)


def one_of(name: str, what: str, value: Any, allowed: Iterable[str | None], any_case: bool = False) -> Any:
    """Returns the value of argument `what` of the op or class `name`. Raises ValueError unless it is in `allowed`.

    any_case: ignore upper and lower case; the result is spelt as in `allowed`.
    """
    known = tuple(allowed)
    if isinstance(value, str) and any_case:
        value = next((each for each in known if each and each.lower() == value.lower()), value)
    if (value is None or isinstance(value, str)) and value in known:
        return value
    words = [repr(each) for each in known]
    expected = " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"
    raise ValueError(f"{name}: {what} must be {expected}, received {briefly(value)}")


def check_rate(name: str, what: str, value: Any, below_one: bool = False) -> float:
    """Returns the value of an argument as a float. Raises ValueError unless it is a number from 0 to 1 (or below 1)."""
    is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or (below_one and value == 1):
        bounds = "at least 0 and below 1" if below_one else "from 0 to 1"
        raise ValueError(f"{name}: {what} must be a number {bounds}, received {briefly(value)}")
    return float(value)


def overridable(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of methods that users override with other arguments: for type checkers, the method takes any arguments."""
    return method


def briefly(value: Any) -> str:
    """A value for a message: type, shape and dtype of arrays and Tensors; else the repr, at most 80 characters.

    All messages show callers' values by this function, because a repr can be long and can fail.
    """
    try:
        is_array = hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type | np.generic)
        if is_array and not hasattr(value, "symbolic_op"):  # the repr of a symbolic tensor shows its name
            return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
        text = repr(value)
    except Exception:  # too deeply nested lists, or an object whose repr fails
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:47]}...{text[-30:]}"  # keep the end: the file name of a path
