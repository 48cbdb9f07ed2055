"""The machine code of kernels: it is found on disk by everything that it depends on, or compiled, which needs Numba.

A file's stamp covers its own content and all kernel files that it imports, directly or indirectly, so an edit of a helper in
another file counts. cache_files.py chooses where code is stored, and handles files that cannot be read or written; compiler.py
compiles, and objects.py loads.
"""

import base64
import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbkeras.kernels.runtime import cache_files, compilers, fork_safety, lazy, messages, objects, pack, processor
from nbkeras.kernels.runtime.compilers import Job, Task
from nbkeras.kernels.runtime.signatures import Type

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
def _read(path: str) -> tuple[bytes, list[str], list[str]]:
    """Returns a hash of the content of a file, the kernel files that it imports, and the instructions that it asks for."""
    listed = _packed_sources().get(os.path.relpath(path, FOLDER)) if not os.path.exists(path) else None
    if listed is not None:
        digest, names, asked = listed
        return bytes.fromhex(digest), [os.path.join(FOLDER, name) for name in names], asked
    with open(path, "rb") as file:
        content = file.read()
    text = content.decode(errors="replace")
    return (
        hashlib.sha256(content).digest(),
        [os.path.join(FOLDER, name) for name in imported(text)],
        re.findall(r"""has\("(\w+)"\)""", text),
    )


def sources() -> dict[str, list]:
    """Returns what `_read` returns for each kernel file, by its path within kernels/: packs have it."""
    found: dict[str, list] = {}
    for folder, _, names in os.walk(FOLDER):
        for path in (os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")):
            digest, others, asked = _read(path)
            found[os.path.relpath(path, FOLDER)] = [
                digest.hex(),
                [os.path.relpath(each, FOLDER) for each in others],
                asked,
            ]
    return found


@functools.cache
def _packed_sources() -> dict[str, list]:
    """Returns the `sources` from which the package's compiled kernels were made."""
    file = processor.pack_file()
    return pack.description(file).get("sources", {}) if file else {}


def source_of(function: Callable) -> str:
    """Returns the path of a function's file; '' if there is none.

    An application that was made of compiled Python files (by PyInstaller, for example) has no source files, but it may have the
    package's compiled kernels. Its kernels keep the names of their files, which `_read` then finds in `_packed_sources`.
    """
    path = function.__code__.co_filename
    if os.path.exists(path):
        return os.path.abspath(path)
    module = (function.__module__ or "").partition("nbkeras.kernels.")[2].replace(".", os.sep)
    for name in (f"{module}.py", os.path.join(module, "__init__.py")):
        own = os.path.join(FOLDER, name)
        if path.endswith(os.path.join("kernels", name)) and not os.path.exists(own) and name in _packed_sources():
            return own
    return ""


@functools.cache
def _files(path: str) -> list[str]:
    """Returns a file and all kernel files that it imports, transitively."""
    files = [path]
    for file in files:  # the loop appends to it
        files += [other for other in _read(file)[1] if other not in files]
    return files


@functools.cache
def stamp(path: str) -> str:
    """Returns a hash of the content of a file and of all kernel files that it imports, transitively."""
    return hashlib.sha256(b"".join(_read(file)[0] for file in _files(path))).hexdigest()


@functools.cache
def _application_stamp() -> str:
    """Returns a hash of an application, for functions without a source file."""
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


# -------------------- the kernels that a process uses --------------------

_NOTES = os.environ.get("NBKERAS_USED_KERNELS", "")


def note_use(module: str, name: str, signature: Any) -> None:
    """Adds a line to the file of NBKERAS_USED_KERNELS, from which scripts/make_wheels.py learns what to compile."""
    if _NOTES:
        line = base64.b64encode(pickle.dumps((module, name, signature))) + b"\n"
        with open(_NOTES, "ab", buffering=0) as file:  # one write, so that processes do not mix their lines
            file.write(line)


# -------------------- functions --------------------

# With NumPy's error model, LLVM can vectorise loops with divisions. `nsz` and `contract` are the only fast-math flags that keep
# NaN, infinity and the rounding trick inside `vmath.exp`.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"nsz", "contract"}}


def _options(function: Callable) -> dict[str, Any]:
    """Returns Numba's options. Kernels of nbkeras allocate nothing; without counts of references they compile faster."""
    return {**OPTIONS, "_nrt": False} if (function.__module__ or "").startswith("nbkeras.") else OPTIONS


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
    """Returns the versions of Numba and llvmlite. If they are not installed, those that filled the folder of kernels."""
    if version("numba"):
        return f"{version('numba')} {version('llvmlite')}"
    return (cache_files.read(_COMPILER) or b"").decode(errors="replace")


_COMPILER = "compiler.txt"


@functools.cache
def _note_compiler() -> None:
    """Names the compiler in the folder of kernels, for processes without Numba that use the folder, as in an image."""
    if cache_files.read(_COMPILER) != compiler_versions().encode():
        cache_files.write(_COMPILER, compiler_versions().encode())


def identity(function: Callable) -> tuple:
    """Returns everything that a function's code depends on, except the argument types and the processor."""
    code = function.__code__
    path = source_of(function) or code.co_filename
    source = stamp(path) if source_of(function) else _application_stamp()
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
    return bool(source_of(function)) or getattr(sys, "frozen", False)


def file_name(function: Callable, what: str) -> str:
    """Returns the file name for a function's code. what: a string with the argument types and similar information."""
    own = repr((_LAYOUT, compiler_versions(), processor.key(), identity(function), what)).encode()
    name = re.sub(r"[^\w.]", "", f"{function.__module__}.{function.__qualname__}".rpartition("kernels.")[2])[-80:]
    return f"{name}-{hashlib.sha256(own).hexdigest()[:32]}.nbc"


def pack_key(function: Callable, what: str) -> bytes:
    """Returns the key of a function's code in a file of the package for this process's target, see pack.py."""
    own = repr((_LAYOUT, asked_extras(function), identity(function), what)).encode()
    return hashlib.sha256(own).digest()[: pack.KEY_BYTES]


def asked_extras(function: Callable) -> list[str]:
    """Returns the instructions above the level of this process that a function's file asks for, or one that it imports."""
    path = source_of(function)
    if not (processor.extras() and path):
        return []
    asked = {name for file in _files(path) for name in _read(file)[2]}
    return [name for name in processor.extras() if name in asked]


# -------------------- finding, compiling, loading --------------------

# The version of stored code. Version 1 had code of other processors under the names of levels, version 2 paths of source files.
_LAYOUT = 3


def find(function: Callable, what: str) -> bytes | None:
    """Returns the object of a function, from the package or the folder of kernels; None if they do not hold it."""
    if not is_cached(function):
        return None
    content = pack.find(processor.pack_file(), pack_key(function, what)) if processor.pack_file() else None
    return cache_files.read(file_name(function, what)) if content is None else content


def keep(function: Callable, what: str, content: bytes, is_lasting: bool) -> None:
    """Writes the object of a function to disk."""
    if is_lasting and is_cached(function):
        _note_compiler()
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


def compiler(function: Callable, signature: tuple[Type, ...] = ()) -> Any:
    """Returns the module that compiles; notifies the listener first. signature: the argument types, for the error's text."""
    try:
        _compiler.load()
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        raise messages.not_compiled(function, signature) from None
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
    note_use(module_of(name), name, None)
    function, what = identified(name)
    content = find(function, what)
    if content is None:
        content = compilers.code_of(_task(name), will_compile) or _compiled(name)
        keep(function, what, content, True)
    return content


def identified(name: str) -> tuple[Callable, str]:
    """Returns what names the code of a registered function on disk: a function, and a string with the signature."""
    function, signature, _ = _functions[name]
    return function, f"{name} {signature} {object.__basicsize__}"  # native.py's code contains offsets of fields


def _compiled(name: str) -> bytes:
    function, _, compile_with = _functions[name]
    return compile_with(compiler(function))


def is_at_hand(name: str) -> bool:
    """True if a registered function need not be compiled. Loads it if it is on disk."""
    if name not in _addresses:
        note_use(module_of(name), name, None)
        content = find(*identified(name))
        if content is None:
            return False
        _addresses[name] = load(content)[name]
    return True


# -------------------- compilations by other processes --------------------


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


def _task(name: str) -> Task | None:
    """Returns the compilation of a registered function."""
    return task(*identified(name), name, None, lambda: _compiled(name))


def registered_task(job: Job) -> Task | None:
    """Returns the compilation of the registered function that a job names; None if there is none."""
    importlib.import_module(job.module)
    return _task(job.name) if job.name in _functions else None


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


# -------------------- symbols --------------------


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
