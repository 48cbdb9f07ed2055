"""The machine code of kernels: it is found on disk by everything that it depends on, or compiled, which needs Numba.

A file's stamp covers its own content and all kernel files that it imports, directly or indirectly, so an edit of a helper in
another file counts. cache_files.py chooses where code is stored, and handles files that cannot be read or written; compiler.py
compiles, and objects.py loads.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbkeras.kernels.runtime import cache_files, compilers, fork_safety, lazy, objects, processor
from nbkeras.kernels.runtime.compilers import Job, Task

_compiler: Any = lazy.LazyModule("nbkeras.kernels.runtime.compiler")
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder kernels/
# It starts with a literal, which Python finds fast; a `\b` before it added 8 ms to `import nbkeras`.
_IMPORT = re.compile(r"kernels((?:\.\w+)*)(?: import (\([^)]*\)|[^\n]*))?")


def imported(text: str) -> list[str]:
    """Returns the kernel files that a file imports, in any spelling. A name that a package defines gives the package's file."""
    found: set[str] = set()
    for match in _IMPORT.finditer(text):
        if text[match.start() - 1 : match.start()] == "_":  # the match is part of a name such as `shape_kernels`
            continue
        package = match[1].strip(".").replace(".", os.sep)
        paths = [os.path.join(package, name) for name in re.findall(r"\w+", match[2] or "")] or [package]
        found.update(_file_of(path) for path in paths if path)
    return sorted(found)


@functools.cache
def _file_of(path: str) -> str:
    """Returns the file of a module, by its path within kernels/, or of its nearest parent module with a file."""
    while path:
        for file in (path.rstrip(os.sep) + ".py", os.path.join(path, "__init__.py")):
            if os.path.exists(os.path.join(FOLDER, file)):
                return file
        path = os.path.dirname(path)
    return "__init__.py"


@functools.cache
def _read(path: str) -> tuple[bytes, list[str]]:
    """Returns a hash of the content of a file, and the kernel files that it imports."""
    with open(path, "rb") as file:
        content = file.read()
    return hashlib.sha256(content).digest(), [
        os.path.join(FOLDER, name) for name in imported(content.decode(errors="replace"))
    ]


@functools.cache
def stamp(path: str) -> str:
    """Returns a hash of the content of a file and of all kernel files that it imports, transitively."""
    files = [path]
    for file in files:  # the loop appends to it
        files += [other for other in _read(file)[1] if other not in files]
    return hashlib.sha256(b"".join(_read(file)[0] for file in files)).hexdigest()


@functools.cache
def _application_stamp() -> str:
    """Returns a hash of a frozen application, which has no source files."""
    with open(sys.executable, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -------------------- listeners of compilations --------------------


class _Thread(threading.local):
    listener: Callable[[], None] | None = None


_thread = _Thread()


@contextlib.contextmanager
def compilations(listener: Callable[[], None]) -> Iterator[None]:
    """Calls `listener()` before each kernel that this thread compiles in the block, not for kernels found on disk."""
    before, _thread.listener = _thread.listener, listener
    try:
        yield
    finally:
        _thread.listener = before


def will_compile() -> None:
    """Notifies the listener that a function is about to be compiled."""
    if _thread.listener is not None:
        _thread.listener()


# -------------------- functions --------------------

# With NumPy's error model, LLVM can vectorise loops with divisions. `nsz` and `contract` are the only fast-math flags that keep
# NaN, infinity and the rounding trick inside `vmath.exp`.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"nsz", "contract"}}


def _options(function: Callable) -> dict[str, Any]:
    """Returns Numba's options. Kernels of nbkeras allocate nothing; without counts of references they compile faster."""
    return {**OPTIONS, "_nrt": False} if function.__module__.startswith("nbkeras.") else OPTIONS


class CompiledFunction:
    """A function that compiled code can call. `_numba_type_` makes Numba treat it as a Numba function."""

    def __init__(self, function: Any, **options: Any):
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.py_func, self.options = function, {**_options(function), **options}

    @fork_safety.cached_property
    def _helper(self) -> Any:
        return _compiler.Helper(self.py_func, self.options)

    @property
    def _numba_type_(self) -> Any:
        return self._helper._numba_type_


# -------------------- what code depends on --------------------


@functools.cache
def version(package: str) -> str:
    """Returns the version of an installed package, without importing it; '' if it is not installed."""
    found = None
    with contextlib.suppress(ImportError):
        found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    with open(os.path.join(os.path.dirname(found.origin), "_version.py"), encoding="utf-8") as file:
        versions = re.findall(r"""["']?version["']?\s*[:=]\s*["']([^"']+)""", file.read())
    return versions[0] if versions else ""


@functools.cache
def compiler_versions() -> str:
    """Returns the versions of Numba and llvmlite; if they are not installed, those that compiled the package's kernels."""
    if version("numba"):
        return f"{version('numba')} {version('llvmlite')}"
    with contextlib.suppress(OSError), open(_PACKED, encoding="utf-8") as file:
        return file.read()
    return ""


_PACKED = os.path.join(cache_files.PACKAGE, "compiler.txt")


def keep_in_package() -> None:
    """From now on, use only the package's own folder. A process without Numba finds the kernels there."""
    cache_files.keep_in_package()
    cache_files.put(_PACKED, compiler_versions().encode())


def identity(function: Callable) -> tuple:
    """Returns everything that a function's code depends on, except the argument types and the processor."""
    code = function.__code__
    path = code.co_filename
    if os.path.exists(path):
        path = os.path.abspath(path)
        source = stamp(path)
    else:
        source = _application_stamp()
    name = f"{function.__module__}.{function.__qualname__}"
    settings = [os.environ.get(f"NUMBA_{each}", "") for each in ("OPT", "BOUNDSCHECK", "DEBUGINFO", "LOOP_VECTORIZE")]
    own: tuple = ()
    if not path.startswith(FOLDER + os.sep):
        # Kernel files depend on nothing else, so all copies share code. A user's file may import files that have no stamp.
        own = path, hashlib.sha256(code.co_code).hexdigest()
    return source, name, code.co_firstlineno, *settings, *own, _enclosed(function)


def _enclosed(function: Callable) -> str:
    """Returns the values that a closure takes from its enclosing function, as a string."""
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    if not values or all(isinstance(value, bool | int | float | str | type(None)) for value in values):
        return repr(values)
    return hashlib.sha256(lazy.serialize.dumps(values)).hexdigest()


def is_cached(function: Callable) -> bool:
    """True if a function's code is kept on disk; False for a function that was typed at a prompt."""
    return os.path.exists(function.__code__.co_filename) or getattr(sys, "frozen", False)


def file_name(function: Callable, what: str, processor_key: str = "") -> str:
    """Returns the file name for a function's code. what: a string with the argument types and similar information."""
    processor_key = processor_key or processor.keys()[0]
    key = repr((_LAYOUT, compiler_versions(), processor_key, identity(function), what)).encode()
    name = re.sub(r"[^\w.]", "", f"{function.__module__}.{function.__qualname__}".rpartition("kernels.")[2])[-80:]
    return f"{name}-{hashlib.sha256(key).hexdigest()[:32]}.nbc"


# -------------------- finding, compiling, loading --------------------

_LAYOUT = 2  # The version of the layout of frames. Version 1 stored code of other processors under the names of levels.


def find(function: Callable, what: str) -> bytes | None:
    """Returns the object of a function, if it is on disk.

    If Numba is installed, code for a lower level than this processor's is taken only from the package. A single process that
    compiled for x86-64-v3 must not slow down all later ones.
    """
    if is_cached(function):
        for place, key in enumerate(processor.keys()):  # the order is: this processor, its level, lower levels
            is_lower = place > 1 and bool(version("numba"))
            content = cache_files.read(file_name(function, what, key), in_package=is_lower)
            if content is not None:
                return content
    return None


def keep(function: Callable, what: str, content: bytes, is_lasting: bool) -> None:
    """Writes the object of a function to disk."""
    if is_lasting and is_cached(function):
        cache_files.write(file_name(function, what), content)
    elif not is_lasting:
        cache_files.warn_not_saved(
            f"{function.__module__}.{function.__qualname__}",
            "it uses a pointer, or a global array of more than a megabyte, whose address differs between processes",
            "pass the array as an argument",
        )


def check_enabled(function: Callable) -> None:
    """Raises RuntimeError if NUMBA_DISABLE_JIT is set."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise RuntimeError(
            f"the kernel {function.__name__!r} must be compiled, and NUMBA_DISABLE_JIT is set: unset it. To step through a "
            "kernel in Python, call its py_func with NumPy arrays, `kernel.py_func(x, y)`; the functions that it calls stay "
            "compiled"
        )


def compiler(function: Callable) -> Any:
    """Returns the module that compiles; notifies the listener first."""
    try:
        _compiler.load()
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        raise ImportError(
            f"the kernel {function.__qualname__!r} is not among this installation's compiled kernels, and compiling it "
            f"needs {error.name}, which is not installed: pip install numba"
        ) from None
    will_compile()
    return _compiler


def prepare_compiler() -> None:
    """Imports Numba and its tables of types, which the first compilation would do otherwise."""
    _compiler.load().prepare()


def load(content: bytes) -> dict[str, int]:
    """Links an object with the symbols of this module and of the C library; returns the addresses of its symbols."""
    return objects.load(content, _address_of)


# -------------------- functions that compiled code calls by a symbol --------------------

# symbol: (function, signature, how to compile it)
_functions: dict[str, tuple[Callable, str, Callable[[Any], bytes]]] = {}
_addresses: dict[str, int] = {}


def symbol(name: str, function: Callable, signature: str, **options: Any) -> None:
    """Registers a function that compiled code calls by a name. signature: such as "int64(int64, float32*)"."""
    options = {**_options(function), **options}
    _functions[name] = function, signature, lambda compiler: compiler.compile_symbol(function, options, signature, name)


def entry_symbol(name: str, make: Callable[[Any], bytes]) -> None:
    """Registers an entry, `int64(frame, share, shares)`. `make(target machine)` makes its object."""
    _functions[name] = make, "int64(int64, int64, int64)", lambda compiler: make(compiler.target_machine())


def address(name: str) -> int:
    """Returns the address of a registered function; compiles or loads it if necessary."""
    if name not in _addresses:
        _addresses[name] = load(object_of(name))[name]
    return _addresses[name]


def object_of(name: str) -> bytes:
    """Returns the object file of a registered function; compiles it if necessary."""
    function, _, compile_with = _functions[name]
    what = _what(name)
    content = find(function, what)
    if content is None:
        content = compilers.code_of(_task(name), will_compile) or compile_with(compiler(function))
        keep(function, what, content, True)
    return content


def _what(name: str) -> str:
    # native.py's code contains offsets of fields
    return f"{name} {_functions[name][1]} {object.__basicsize__} {tuple.__basicsize__}"


def _task(name: str) -> Task | None:
    """Returns the compilation of a registered function."""
    function, _, compile_with = _functions[name]
    return task(function, _what(name), name, None, lambda: compile_with(compiler(function)))


def registered_task(job: Job) -> Task | None:
    """Returns the compilation of the registered function that a job names; None if there is none."""
    importlib.import_module(job.module)
    return _task(job.name) if job.name in _functions else None


def is_at_hand(name: str) -> bool:
    """True if a registered function need not be compiled. Loads it if it is on disk."""
    if name not in _addresses:
        content = find(_functions[name][0], _what(name))
        if content is None:
            return False
        _addresses[name] = load(content)[name]
    return True


def request(*names: str) -> None:
    """Requests the code of registered functions that this process will need, see compilers.py."""
    for each in _tasks(names):
        compilers.request(each)


def _tasks(names: Iterable[str]) -> Iterator[Task]:
    """Yields the compilations of the registered functions among these names that are not at hand."""
    for name in names:
        if name in _functions and not is_at_hand(name):
            found = _task(name)
            if found is not None:
                yield found


def task(
    function: Callable, what: str, name: str, signature: tuple | None, make: Callable[[], bytes | None]
) -> Task | None:
    """Returns a compilation for compilers.py; None if other processes cannot import the function.

    They import only nbkeras's modules: those of users may do anything when they are imported.
    """
    if not function.__module__.startswith("nbkeras.kernels.") or not is_cached(function):
        return None
    job = Job(function.__module__, name, signature, file_name(function, what))
    return Task(job, make, lambda content: _tasks(objects.undefined(content)))


def module_of(name: str) -> str:
    """Returns the module that registers a function."""
    return _functions[name][0].__module__


def is_registered(name: str) -> bool:
    """True if compiled code may call a function by this name."""
    return name in _functions


def _address_of(name: str) -> int | None:
    """Returns the address of a symbol that an object needs."""
    if name in _functions:
        return address(name)
    return objects.library_symbol(name) or _numba_symbol(name)


def _numba_symbol(name: str) -> int | None:
    """Returns the address of a function of Numba's runtime, which a kernel that allocates needs, for example."""
    with contextlib.suppress(ModuleNotFoundError):
        lazy.registry.cpu_target.target_context.refresh()
        return lazy.binding.address_of_symbol(name)
    return None


def c_function(name: str, holds_gil: bool = False) -> Callable:
    """Returns a registered function of int64 numbers, for calls from Python."""
    count = _functions[name][1].count("int64") - 1
    kind = (ctypes.PYFUNCTYPE if holds_gil else ctypes.CFUNCTYPE)(ctypes.c_int64, *[ctypes.c_int64] * count)
    return kind(address(name))
