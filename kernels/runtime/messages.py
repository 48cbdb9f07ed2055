"""Errors about a user's functions. They name the function, its file and line, and the reason why a kernel does not run."""

import inspect
import linecache
import os
import re
import sys
from collections.abc import Callable
from typing import Any


def named(function: Any) -> str:
    """Describes a user's function for messages: name, file and line."""
    own = getattr(function, "kernel", function)  # a Shared has its kernel
    code = getattr(getattr(own, "py_func", own), "__code__", None)
    name = repr(getattr(function, "__name__", function))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def module_at(path: str) -> str:
    """Returns the name of the module with this file; if there is none, as for a cell of a notebook, the file's own name."""
    files = ((name, getattr(module, "__dict__", {}).get("__file__")) for name, module in list(sys.modules.items()))
    names = [name for name, file in files if file and os.path.abspath(file) == os.path.abspath(path)]
    return min(names, key=lambda name: (name == "__main__", name), default=os.path.basename(path))


def file_of(name: str) -> str:
    """Returns the file that `module_at` named, if this process has the module."""
    return getattr(sys.modules.get(name), "__file__", None) or name


def short_description(value: Any) -> str:
    """Describes a value for messages: arrays and tensors by shape and dtype."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{_article(type(value).__name__)} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.60}"


def _article(name: str) -> str:
    name = "array" if name in ("ndarray", "UnreadArray") else name
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def takes(function: Callable, *args: Any) -> bool:
    """True if a function accepts this many arguments; True for C functions, which have no signature."""
    try:
        inspect.signature(function).bind(*args)
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def wrong_number(kernel: Callable, args: tuple) -> TypeError:
    """Returns the error for a wrong number of arguments."""
    names = list(inspect.signature(getattr(kernel, "py_func", kernel)).parameters)
    return TypeError(
        f"the kernel {named(kernel)} takes {len(names)} arguments ({', '.join(names)}), received {len(args)}: "
        "device.launch(kernel, *args) passes one value to each; launch_shares also passes `share, shares`"
    )


def wrong_argument(kernel: Callable, name: str, value: Any, error: Exception) -> Exception:
    """Returns the error for a value that no kernel takes."""
    if isinstance(error, OverflowError) or hasattr(value, "dtype") and hasattr(value, "flags"):
        return type(error)(f"{name!r} of the kernel {named(kernel)}: {error}")
    return TypeError(
        f"the kernel {named(kernel)} expects an array or a number for {name!r}, received {short_description(value)}. Call "
        "device.launch in an op: `apply(op, vjp, [tensors])` passes the tensors' arrays to it"
    )


def no_compiler(need: str) -> ImportError:
    """Returns the error for something that needs the compiler where it is not installed."""
    return ImportError(f"{need} needs Numba, which is not installed: pip install 'nbkeras[compiler]'")


def not_compiled(kernel: Callable, signature: Any) -> ImportError:
    """Returns the error for a kernel that must be compiled where the compiler is not installed."""
    types = f" for {', '.join(map(_kind, signature))}" if signature else ""
    op = _op()
    subject = f"the kernel {kernel.__qualname__!r}{types}"
    if not (kernel.__module__ or "").startswith("nbkeras."):
        return no_compiler(f"{subject} is not one of nbkeras's own, and compiling it")
    subject = f"{op} needs {subject}, which" if op else subject
    return no_compiler(f"{subject} is not among the compiled kernels of this installation, and compiling it")


def _kind(kind: Any) -> str:
    """Describes an argument type: an array by dtype and rank."""
    if isinstance(kind, tuple) and not hasattr(kind, "ndim"):
        return f"({', '.join(map(_kind, kind))})"
    return f"{kind.dtype} of rank {kind.ndim}" if hasattr(kind, "ndim") and hasattr(kind, "aligned") else str(kind)


def _op() -> str:
    """Returns the name of the public op that is running, from the stack; '' if there is none."""
    frame, found = sys._getframe(), ""
    while frame is not None:
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("nbkeras.ops.") and not name.startswith(("_", "<")):
            found = f"ops.{name}"
        frame = frame.f_back  # type: ignore[assignment]
    return found


def cannot_compile(kernel: Callable, error: Exception) -> TypeError:
    """Returns Numba's error about a kernel, reduced to its reason."""
    reason = _reason(error)
    if "<class 'function'>" in reason:
        reason += ". A function that a kernel calls must be @compiled too"
    return TypeError(f"Numba cannot compile the kernel {named(kernel)}: {reason}")


def _reason(error: Exception) -> str:
    """Returns Numba's reason and the line, without the compiler's stages."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    about = re.search(r'File "([^"]+)", line (\d+)|at (\S+) \((\d+)\)', text)
    lines = [line.strip() for line in re.split(r"\n\s*(?:File|During:|There are \d+ candidate)", text)[0].splitlines()]
    reason = " ".join(line for line in lines if line and not line.startswith("Failed in nopython"))
    if about is None:
        return reason
    file, line = about[1] or about[3], int(about[2] or about[4])
    return f"{reason} [line {line}: {linecache.getline(file, line).strip()}]"
