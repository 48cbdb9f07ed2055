"""Floor 1: errors as users see them: tracebacks that end at the user's line, and the error for a missing `super().__init__()`.

Methods that users call are wrapped when their class is registered, as in `compat.spellings`; ops are wrapped by their decorator.
The wrappers do nothing unless an error is raised.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from opcode import opmap
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, TypeVar, cast

from nbkeras.engine import annotations as annotated
from nbkeras.engine import registry, settings

F = TypeVar("F", bound=Callable)

# Methods that users call. If one raises, the traceback omits the frames of nbkeras below it.
ENTRIES = (
    "__call__ __init__ __repr__ add add_loss add_metric add_weight apply apply_gradients build compile "
    "compute_output_shape count_params evaluate evaluate_generator export fit fit_generator from_config get_layer "
    "load_weights pop predict predict_generator predict_on_batch save save_weights set_weights summary test_on_batch "
    "train_on_batch update_state"
).split()

_RAISE = opmap["RAISE_VARARGS"]
_codes: set[CodeType] = set()  # the code of entry points' wrappers
_done: set[type] = set()


EXTRAS = {  # extra -> its packages, as in pyproject.toml
    "files": ("h5py", "safetensors"),
    "images": ("pillow",),
    "onnx": ("onnx",),
    "tensorboard": ("tensorboardX",),
    "dot": ("pydot",),
    "mpi": ("mpi4py", "mpich"),
    "serve": (
        "starlette",
        "httptools",
        "uvloop",
        "orjson",
        "prometheus-client",
        "python-json-logger",
        "grpcio",
        "grpcio-health-checking",
        "grpcio-reflection",
        "protobuf",
        "pydantic-settings",
    ),
    "cuda": ("numba-cuda[cu13]",),
    "cuda12": ("numba-cuda[cu12]",),
    "cublas": ("nvmath-python[cu13]",),
}


def install(extra: str) -> str:
    """The command that adds an extra to the installed nbkeras, a wheel or a clone's, and the one for its packages alone.

    `pip install '.[files]'` in a clone would replace an installed wheel, and so its compiled kernels.
    """
    packages = " ".join(f"'{name}'" if "[" in name else name for name in EXTRAS[extra])
    return f"pip install 'nbkeras[{extra}]', or pip install {packages}"


@contextlib.contextmanager
def optional_import(sentence: str, extra: str | None = None) -> Iterator[None]:
    """In the block, import a package that may be missing. The message of the ImportError is `sentence`.

    extra: the extra with the package. The sentence then only says what needs the package; the command to install it is added.
    The message also says why a package that is there cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        said = sentence if extra is None else f"{sentence}: {install(extra)}"
        if not isinstance(error, ModuleNotFoundError):
            said = f"{said} (a package is installed, but cannot be imported: {error})"
        raise ImportError(said) from error


def entry(function: F) -> F:
    """Decorator of functions that users call: the traceback of an error shows the users' frames and not nbkeras's."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            shorten(error)
            raise

    is_entry(call)
    return cast(F, call)


def checked(function: F) -> F:
    """Decorator of functions that users call and that are not ops: it checks their arguments like ops' arguments."""
    check = annotated.checker_of(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if check is not None:
            check(args, kwargs)
        return function(*args, **kwargs)

    made: Any = entry(call)
    made.__signature__ = inspect.signature(function)
    del made.__wrapped__  # only ops may have it: model files may name functions with this attribute
    return made


class FullTraceback:
    """A traceback with the frames of nbkeras. `print` shows it; pickle stores the printed text."""

    def __init__(self, traceback: TracebackType | None):
        self.traceback = traceback

    def __str__(self) -> str:
        return "".join(traceback.format_tb(self.traceback))

    def __reduce__(self) -> tuple:
        return str, (str(self),)


def is_entry(function: Any) -> None:
    """Mark a function as an entry point: users may call it, and it passes its errors to `shorten`."""
    _codes.add(function.__code__)


def is_marked(function: Any) -> bool:
    """Whether `is_entry` was called on a function, as `op`, `entry` and `checked` do."""
    return getattr(function, "__code__", None) in _codes


def shorten(error: BaseException) -> None:
    """Remove nbkeras's frames from the tracebacks of an error and its causes, once, at the outermost entry point.

    `print(error.full_traceback)` still shows them. Errors that nbkeras did not raise on purpose are not changed: their message
    is not written for users, and a bug report needs their frames.
    """
    if any(frame.f_code in _codes for frame, _ in traceback.walk_stack(sys._getframe(2))):
        return
    entries = _entries(error)
    if not settings.is_traceback_filtering_enabled() or not entries or not _is_meant(entries[-1]):
        return
    done: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in done:
        done.add(id(link))
        link.full_traceback = FullTraceback(link.__traceback__)  # type: ignore[attr-defined]
        short: TracebackType | None = None
        for each in reversed(_entries(link)):
            if not _is_own(each.tb_frame) and each.tb_frame.f_globals.get("__name__") != "contextlib":
                short = TracebackType(short, each.tb_frame, each.tb_lasti, each.tb_lineno)
        link.__traceback__ = short
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _entries(error: BaseException) -> list[TracebackType]:
    found, step = [], error.__traceback__
    while step is not None:
        found.append(step)
        step = step.tb_next
    return found


def _is_own(frame: FrameType) -> bool:
    return f"{frame.f_globals.get('__name__')}.".startswith("nbkeras.")


def is_meant(error: BaseException) -> bool:
    """Whether nbkeras or the user raised an error on purpose, so that its message is written for users."""
    last = _entries(error)[-1]
    package = str(last.tb_frame.f_globals.get("__name__")).partition(".")[0]
    return _is_meant(last) and package not in ("numpy", "pandas", "scipy")  # these do not name the user's argument


def _is_meant(last: TracebackType) -> bool:
    """Whether an error was raised on purpose: by code outside nbkeras, by a `raise` of nbkeras, or for a wrong argument."""
    code = last.tb_frame.f_code
    if not _is_own(last.tb_frame) or code in _codes:
        return True
    return code.co_code[last.tb_lasti] == _RAISE


def warn(message: str) -> None:
    """Issue a UserWarning that points at the user's line."""
    warnings.warn(message, stacklevel=_users_frame()[0] - 1)


def user_line() -> str:
    """The user's line that is running, as ' at model.py:12', for messages; '' if there is none."""
    _, frame = _users_frame()
    return "" if _is_own(frame) else f" at {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _users_frame() -> tuple[int, FrameType]:
    """The innermost frame that is not nbkeras's, and its distance from this function, from 1."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and _is_own(frame):
        level, frame = level + 1, frame.f_back
    return level, frame


def enter(item: Any) -> None:
    """Wrap the methods of a class of nbkeras and of its base classes."""
    for cls in item.__mro__ if isinstance(item, type) else ():
        if cls not in _done and cls.__module__.startswith("nbkeras."):
            _done.add(cls)
            enter_methods(cls)


def enter_methods(cls: type) -> None:
    """Wrap the methods in ENTRIES that a class itself defines."""
    for name in ENTRIES:
        method = vars(cls).get(name)
        function = method.__func__ if isinstance(method, classmethod) else method
        if isinstance(function, FunctionType) and function.__code__ not in _codes:
            made = entry(_explained(name, function) if name in _TAKEN else function)
            setattr(cls, name, made if function is method else classmethod(made))


_TAKEN = {  # method -> description of its argument, which comes from a file or is a structure
    "from_config": "the dict that get_config returned",
    "compute_output_shape": "the shape of the input, a tuple of integers with None for unknown sizes",
}


def _explained(name: str, function: FunctionType) -> Callable:
    """Wrap a method: an internal error, such as KeyError for a missing entry, becomes a ValueError about its argument."""

    @functools.wraps(function)
    def call(item: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(item, *args, **kwargs)
        except Exception as error:
            if isinstance(error, MemoryError) or is_meant(error):
                raise
            kind, given = item if isinstance(item, type) else type(item), (*args, *kwargs.values())
            received = annotated.briefly(given[0]) if given else "nothing"
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{kind.__name__}.{name} takes {_TAKEN[name]}, received {received} ({reason})") from error

    return call


registry.watch(enter)
for _name in ("deserialize", "get"):
    setattr(registry.Registry, _name, entry(vars(registry.Registry)[_name]))


class SetByInit:
    """An attribute that `__init__` sets. Reading it earlier raises an error that says to call `super().__init__()`."""

    def __init__(self, name: str):
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        kind = type(instance).__name__
        raise AttributeError(
            f"{kind}.__init__ must call super().__init__() before anything else: write it as the first line there "
            f"({self._name!r} is not set)"
        )


def set_by_init(cls: type, names: str) -> None:
    """Reading these attributes of a class raises an error until `__init__` has set them."""
    for name in names.split():
        setattr(cls, name, SetByInit(name))
