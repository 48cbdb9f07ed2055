"""Errors about a user's functions: they name the function, its file and line, and the reason why a kernel does not run."""

import inspect
import linecache
import re
from collections.abc import Callable
from typing import Any, NoReturn

from numba import typeof
from numba.core import errors

# The errors of a kernel that cannot be compiled or called.
DOES_NOT_FIT = (TypeError, AttributeError, errors.NumbaError, errors.UnsupportedBytecodeError)


def named(function: Any) -> str:
    """A user's function for messages: name, file and line."""
    own = getattr(function, "kernel", function)  # of a shared launch
    code = getattr(getattr(own, "py_func", own), "__code__", None)
    name = repr(getattr(function, "__name__", function))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def short_description(value: Any) -> str:
    """A value for messages: arrays and tensors by shape and dtype."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{_article(type(value).__name__)} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.60}"


def _article(name: str) -> str:
    name = "array" if name in ("ndarray", "UnreadArray") else name
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def takes(function: Callable, *args: Any) -> bool:
    """Whether a function can be called with so many arguments; True for functions of C, which have no signature."""
    try:
        inspect.signature(function).bind(*args)
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def raise_named(kernel: Callable, args: tuple, error: Exception) -> NoReturn:
    """Raise a TypeError with the reason why a kernel does not run with its arguments; `error` itself if the kernel raised it."""
    function = getattr(kernel, "py_func", kernel)
    if not takes(function, *args):
        names = list(inspect.signature(function).parameters)
        hint = "device.launch(kernel, *args) gives one value to each"
        if len(args) == len(names) + 2 and all(isinstance(arg, int) for arg in args[-2:]):
            hint = "launch_shares gives two more to a kernel: end its arguments with `share, shares`"
        raise TypeError(
            f"the kernel {named(kernel)} takes {len(names)} arguments ({', '.join(names)}), received {len(args)}: {hint}"
        ) from None
    if kernel is function:  # not compiled
        raise error
    for name, arg in zip(inspect.signature(function).parameters, args, strict=False):
        try:
            typeof(arg)
        except (ValueError, TypeError):  # TypeError: a Tensor says itself that it is none
            raise TypeError(
                f"the kernel {named(kernel)} expects an array or a number for {name!r}, received {short_description(arg)}. Call "
                "device.launch in an op: `apply(op, vjp, [tensors])` gives it the arrays of the tensors"
            ) from None
    if isinstance(error, TypeError):
        raise error
    reason = _reason(error)
    if "<class 'function'>" in reason:
        reason += ". A function that a kernel calls must be @compiled too"
    raise TypeError(f"Numba cannot compile the kernel {named(kernel)}: {reason}") from None


def _reason(error: Exception) -> str:
    """Numba's reason, without the compiler's stages, and the line."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    about = re.search(r'File "([^"]+)", line (\d+)|at (\S+) \((\d+)\)', text)
    lines = [line.strip() for line in re.split(r"\n\s*(?:File|During:|There are \d+ candidate)", text)[0].splitlines()]
    reason = " ".join(line for line in lines if line and not line.startswith("Failed in nopython"))
    if about is None:
        return reason
    file, line = about[1] or about[3], int(about[2] or about[4])
    return f"{reason} [line {line}: {linecache.getline(file, line).strip()}]"
