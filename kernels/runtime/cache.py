"""`compiled`, the decorator of kernels. A kernel has one entry per signature; code.py finds or compiles its code.

An entry is `int64 entry(int8* frame, int64 share, int64 shares)`; compiler.py says what a frame is.
"""

import functools
import importlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

from nbkeras.kernels.runtime import code, compilers, fork_safety, native
from nbkeras.kernels.runtime.code import compilations as compilations
from nbkeras.kernels.runtime.messages import cannot_compile, takes, wrong_argument, wrong_number
from nbkeras.kernels.runtime.pool import Pool
from nbkeras.kernels.runtime.row import Row
from nbkeras.kernels.runtime.signatures import Type, signature_string, type_of

ENTRY = "entry"
_lock = fork_safety.lock(threading.RLock)


def _options_string(options: dict[str, Any]) -> str:
    """Returns options as a string that is the same in each process."""
    return str({name: sorted(value) if isinstance(value, set) else value for name, value in sorted(options.items())})


class _ReturnsValue(Exception):
    """A compiled function returns a value; an entry cannot."""


class Kernel(code.CompiledFunction):
    """A compiled kernel. A call runs it; one whose arguments end in `share, shares` runs that share."""

    def __init__(self, function: Callable, **options: Any):
        super().__init__(function, **options)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.takes_shares = names[-2:] == ("share", "shares")
        self.found = self.compiled = 0  # numbers of signatures with code found on disk, and with compiled code
        self._calls = native.Calls(self, 0, 2 * self.takes_shares)
        self.bound: set[tuple] = set()  # signatures with code that only this process can use
        self._entries: dict[tuple, int] = {}
        self._returns_value = False  # if True, Numba serves calls from Python

    def __call__(self, *args: Any) -> Any:
        failure = self._calls.start(*args)
        if failure is None:
            return None
        if not self._returns_value:
            try:
                return self._calls.go_on(failure, args)
            except _ReturnsValue:
                self._returns_value = True
        return self._numba(*args)

    @fork_safety.cached_property
    def _numba(self) -> Callable:
        """Numba's function; Python calls it if the function returns a value."""
        return code.compiler(self.py_func).njit(**self.options)(self.py_func)

    def row(self, args: tuple) -> Row:
        """Returns the row of a native program for a launch with these arguments."""
        return self._calls.row(args, 1)

    @fork_safety.cached_property
    def shared(self) -> "Shared":
        """The function that programs record for all shares of this kernel."""
        return Shared(self)

    def signature(self, args: tuple) -> tuple[Type, ...]:
        """Returns the types of arguments, without `share, shares`. Raises TypeError if the kernel does not take them."""
        if not takes(self.py_func, *args, *(0,) * (2 * self.takes_shares)):
            raise wrong_number(self, args)
        names = inspect.signature(self.py_func).parameters
        return tuple(self._type_of(name, value) for name, value in zip(names, args, strict=False))

    def _type_of(self, name: str, value: Any) -> Type:
        try:
            return type_of(value)
        except (TypeError, OverflowError) as error:
            raise wrong_argument(self, name, value, error) from None

    def entry(self, signature: tuple[Type, ...]) -> int:
        """Returns the address of the entry for a signature; compiles or loads it if necessary."""
        with _lock:
            if signature not in self._entries:
                code.note_use(self.__module__, self.__name__, signature)
                self._entries[signature] = code.load(self.object_for(signature))[ENTRY]
            return self._entries[signature]

    def expect(self, args: tuple) -> bool:
        """Requests the code for a launch if it must be compiled, see compilers.py; returns whether it must.

        Raises:
            TypeError: if the kernel does not take the arguments.
        """
        signature = self.signature(args[: len(args) - 2 * self.takes_shares])
        return compilers.is_missing(lambda: self.entry(signature))

    def object_for(self, signature: tuple[Type, ...]) -> bytes:
        """Returns the object file whose symbol ENTRY is the entry for a signature; compiles it if necessary."""
        function, what = self.identified(signature)
        content = code.find(function, what)
        self.found += content is not None
        if content is None:
            content, is_lasting = compilers.code_of(self.task(signature), code.will_compile), True
            self.compiled += 1
            if content is None:
                content, is_lasting = self._compiled(signature)
            if not is_lasting:
                self.bound.add(signature)
            code.keep(function, what, content, is_lasting)
        return content

    def identified(self, signature: tuple[Type, ...]) -> tuple[Callable, str]:
        """Returns what names the code for a signature on disk: a function, and a string with the types."""
        return self.py_func, f"{signature_string(signature)} {self.takes_shares} {_options_string(self.options)}"

    def _compiled(self, signature: tuple[Type, ...]) -> tuple[bytes, bool]:
        """Returns a new object file, and True if other processes can use it."""
        compiler = code.compiler(self.py_func, signature)
        try:
            made = compiler.compile_kernel(self.py_func, self.options, signature, self.takes_shares)
        except compiler.ERRORS as error:
            raise cannot_compile(self, error) from None
        if made.returns_value:
            raise _ReturnsValue
        return made.content, made.is_lasting

    def task(self, signature: tuple[Type, ...]) -> compilers.Task | None:
        """Returns the compilation for a signature; None if other processes cannot find this kernel by its name."""
        if named(self.__module__, self.__qualname__) is not self:
            return None

        def make() -> bytes | None:
            content, is_lasting = self._compiled(signature)
            return content if is_lasting else None

        return code.task(*self.identified(signature), self.__qualname__, signature, make)


def task_named(job: compilers.Job) -> compilers.Task | None:
    """Returns the compilation of a kernel that a job names; None if there is none."""
    kernel = named(job.module, job.name)
    return kernel.task(job.signature) if isinstance(kernel, Kernel) else None


def named(module: str, name: str) -> Any:
    """The object of a name, such as "kernel" or "op.kernel", in a module, which is imported; None if there is none."""
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None


class Shared:
    """A function that runs all shares of a kernel. It takes the number of shares, then the kernel's arguments."""

    def __init__(self, kernel: Kernel):
        self.kernel, self.__name__ = kernel, kernel.__name__
        self._calls = native.Calls(kernel, 1, 0)

    def __call__(self, *args: Any) -> None:
        start = self._calls.start
        if Pool.current is None:
            Pool.get()
        failure = start(*args)
        if failure is not None:
            self._calls.go_on(failure, args)

    def expect(self, args: tuple) -> bool:
        """Requests the code for a launch if it must be compiled, as Kernel.expect does."""
        return self.kernel.expect((*args[1:], 0, 1))

    def row(self, args: tuple) -> Row:
        """Returns the row of a native program for a launch with these arguments."""
        return self._calls.row(args, args[0])


def compiled(function: Any = None, **options: Any) -> Any:
    """Compiles a kernel on its first call, and caches it on disk: `@compiled`, or `@compiled(...)` with Numba's options.

    The GIL is released while a kernel runs over large arrays.
    """
    if function is None:
        return functools.partial(compiled, **options)
    return Kernel(function, **options)
