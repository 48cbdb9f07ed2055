"""`compiled`, the decorator of kernels, and its disk cache, which notices edits in *other* kernel files too.

Numba stamps a cached function with the content of its own source file only, so a loop cached in one file would keep
the old code of a helper edited in another. Here a file's stamp covers its own content and that of every kernel file that it
imports, directly or not. cache_files.py says where compiled code lies, and handles files that cannot be read or written.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba import config, njit
from numba.core import caching, sigutils
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from nbkeras.kernels.runtime import cache_files

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # kernels/
# It starts with a literal, for which Python searches fast; `\b` before it took 8 ms more of `import nbkeras`.
_IMPORT = re.compile(r"kernels((?:\.\w+)*)(?: import (\([^)]*\)|[^\n]*))?")


def imported(text: str) -> list[str]:
    """The kernel files that a file imports, however it spells it; for a name that a package gives, the package's file."""
    found: set[str] = set()
    for match in _IMPORT.finditer(text):
        if text[match.start() - 1 : match.start()] == "_":  # of a name such as `shape_kernels`
            continue
        package = match[1].strip(".").replace(".", os.sep)
        paths = [os.path.join(package, name) for name in re.findall(r"\w+", match[2] or "")] or [package]
        found.update(_file_of(path) for path in paths if path)
    return sorted(found)


@functools.cache
def _file_of(path: str) -> str:
    """The file of a module by its path within kernels/, or of the nearest module above that exists."""
    while path:
        for file in (path.rstrip(os.sep) + ".py", os.path.join(path, "__init__.py")):
            if os.path.exists(os.path.join(FOLDER, file)):
                return file
        path = os.path.dirname(path)
    return "__init__.py"


@functools.cache
def _read(path: str) -> tuple[bytes, list[str]]:
    """Hash of the content of a file, and the kernel files it imports."""
    with open(path, "rb") as file:
        content = file.read()
    return hashlib.sha256(content).digest(), [
        os.path.join(FOLDER, name) for name in imported(content.decode(errors="replace"))
    ]


@functools.cache
def stamp(path: str) -> str:
    """Hash of the content of a file and of all kernel files it imports, transitively."""
    files = [path]
    for file in files:  # grows inside the loop
        files += [other for other in _read(file)[1] if other not in files]
    return hashlib.sha256(b"".join(_read(file)[0] for file in files)).hexdigest()


@functools.cache
def _application_stamp() -> str:
    """Hash of a frozen application, which has no source files."""
    with open(sys.executable, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -------------------- listeners of compilations --------------------


class _Thread(threading.local):
    listener: Callable[[], None] | None = None


_thread = _Thread()


@contextlib.contextmanager
def compilations(listener: Callable[[], None]) -> Iterator[None]:
    """Call `listener()` before each kernel that this thread compiles in the block; not for those found on disk."""
    before, _thread.listener = _thread.listener, listener
    try:
        yield
    finally:
        _thread.listener = before


# -------------------- code that kernels call by a symbol --------------------

_makers: dict[str, Callable[[], CFunc]] = {}
_made: dict[str, CFunc] = {}  # kept alive: their addresses are symbols


def symbol(name: str, make: Callable[[], CFunc]) -> None:
    """Register the code of a name: `make()` returns a `cached_cfunc`. `provide` compiles or loads it."""
    _makers[name] = make


def provide(name: str) -> None:
    """Make a symbol's code, before a call of it is emitted. For kernels found on disk the cache calls this."""
    if name not in _made:
        _made[name] = _makers[name]()
        llvm.add_symbol(name, _made[name].address)


# -------------------- the cache --------------------


class KernelCache(caching.NullCache):
    """Numba's cache of one function, over our files."""

    versions: tuple = (
        numba.__version__,
        llvmlite.__version__,
        sys.implementation.cache_tag,
        getattr(sys, "abiflags", ""),
    )

    def __init__(self, function: Callable):
        code = function.__code__
        path = code.co_filename
        if os.path.exists(path):
            path = os.path.abspath(path)
            source = stamp(path)
        else:
            source = _application_stamp()
        # Kernel files depend on nothing else, so all their copies share code; a user's file may import files without a stamp.
        own_path = "" if path.startswith(FOLDER + os.sep) else path
        self._cells = function.__closure__ or ()
        self._flushed = False
        self._name = f"{function.__module__}.{function.__qualname__}"
        settings = int(config.OPT), config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT  # type: ignore[attr-defined]
        lines = code.co_firstlineno, hashlib.sha256(code.co_code).hexdigest()
        self._function = self.versions, settings, own_path, source, self._name, lines

    @property
    def cache_path(self):
        return cache_files.folders()[0]

    def load_overload(self, sig, target_context):
        target_context.refresh()
        payload = None if self._flushed else cache_files.read(self._file(sig, target_context.codegen()))
        if payload is not None:
            for name in _makers:
                if name.encode() in payload:
                    provide(name)
            return self.unpack(target_context, pickle.loads(payload))
        if _thread.listener is not None:
            _thread.listener()
        return None

    def save_overload(self, sig, data):
        if self.is_lasting(data):
            cache_files.write(self._file(sig, data.codegen), dumps(self.pack(data)))
        else:
            cache_files.warn_not_saved(
                self._name,
                "it uses a pointer, or a global array of more than a megabyte, which lies elsewhere in each process",
                "pass the array as an argument",
            )

    def flush(self):  # called by `recompile`: a function's globals may have changed, and no file's name contains them
        self._flushed = True

    def _file(self, sig, codegen) -> str:
        """The name of the file for a signature and a processor."""
        closure = dumps([cell.cell_contents for cell in self._cells]) if self._cells else b""
        key = repr((self._function, str(sig), codegen.magic_tuple())).encode() + closure
        name = re.sub(r"[^\w.]", "", self._name.rpartition("kernels.")[2])[-80:]
        return f"{name}-{hashlib.sha256(key).hexdigest()[:32]}.nbc"

    # Overridden for numba-cuda:

    def is_lasting(self, data: Any) -> bool:
        """Whether the code can be used in another process."""
        return not data.library.has_dynamic_globals and all(part.can_cache for part in data.lifted)

    def pack(self, data: Any) -> Any:
        library, descriptor, environment, signature, objectmode, lifted, _, *rest = data._reduce()
        return library, descriptor, environment, signature, objectmode, lifted, "", *rest  # a third: types, as text

    def unpack(self, target_context: Any, packed: Any) -> Any:
        return CompileResult._rebuild(target_context, *packed)


def cache_for(function: Callable, kind: type = KernelCache) -> Any:
    """The disk cache of a function; one that does nothing for a function typed at a prompt."""
    if os.path.exists(function.__code__.co_filename) or getattr(sys, "frozen", False):
        return kind(function)
    return caching.NullCache()


def cached_cfunc(signature):
    """Compile a C callback at once, cached on disk."""

    def compile_callback(function):
        callback = CFunc(function, sigutils.normalize_signature(signature), {}, {"error_model": "numpy"})
        callback._cache = cache_for(function)
        callback.compile()
        return callback

    return compile_callback


class _Uncompiled:
    """A kernel under NUMBA_DISABLE_JIT, which cannot run: vectors and threads need the compiler."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        self.py_func = function

    def compile(self, *args):
        raise RuntimeError(
            f"the kernel {self.__name__!r} must be compiled, and NUMBA_DISABLE_JIT is set: unset it. To step through a kernel of "  # type: ignore[attr-defined]
            "your own in Python, call its py_func with NumPy arrays, `kernel.py_func(x, y)`; what it calls is compiled as before"
        )

    __call__ = compile


def compiled(function=None, **options):
    """Compile a kernel on its first call (`@compiled`, or `@compiled(...)` with Numba's options), cached on disk.

    NumPy's error model lets loops with divisions vectorise; `nsz` and `contract` are the only fast-math flags that
    keep NaN, infinity and the rounding trick inside `vmath.exp` intact; the GIL is released while a kernel runs.
    """
    if function is None:
        return functools.partial(compiled, **options)
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return _Uncompiled(function)
    settings = {"error_model": "numpy", "fastmath": {"nsz", "contract"}, "nogil": True, **options}
    dispatcher = njit(**settings)(function)
    dispatcher._cache = cache_for(function)
    return dispatcher
