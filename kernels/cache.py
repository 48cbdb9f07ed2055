"""How kernels are compiled: one decorator, and a disk cache that notices edits in *other* kernel files.

Numba stamps a cached function with the content of its own source file only, so a loop cached in one file would keep
the old numbers of a helper edited in another. The locators below stamp a file with its own content and that of every
kernel file it imports, directly or not.
"""

import functools
import hashlib
import os
import re
import tempfile
import warnings

# libgomp spins through its whole time slice while a neighbour process is busy (40x slower steps, measured); 1000 spins
# cost nothing on an idle machine. Must be set before the thread layer is loaded; a user's own setting wins.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from numba import cfunc, njit
from numba.core import caching

FOLDER = os.path.dirname(os.path.abspath(__file__))
_IMPORT = re.compile(r"^from nbkeras\.kernels(?:\.(\w+))? import (\([^)]*\)|[^\n]*)", re.MULTILINE)


def _imported(text: str) -> set[str]:
    """The kernel modules that a kernel file's text imports."""
    names: set[str] = set()
    for module, what in _IMPORT.findall(text):
        names.update([module] if module else re.findall(r"\w+", what))
    return names


def stamp(path: str) -> str:
    """Hash of the content of a kernel file and of all kernel files it imports, transitively."""
    digest, todo, seen = hashlib.sha256(), [path], {path}
    while todo:
        with open(todo.pop(), encoding="utf-8") as file:
            text = file.read()
        digest.update(text.encode())
        for name in sorted(_imported(text)):
            other = os.path.join(os.path.dirname(path), name + ".py")
            if other not in seen and os.path.exists(other):
                seen.add(other)
                todo.append(other)
    return digest.hexdigest()


_stamp_once = functools.lru_cache(maxsize=None)(stamp)


@functools.cache
def _ensure_writable(folder: str) -> None:
    """Numba tries each folder once per function; once is enough."""
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


class _StampedByImports:
    """Mixin for Numba's stock locators: takes only files of this folder, and stamps them by `stamp`."""

    def get_source_stamp(self):
        return _stamp_once(self._py_file)

    def ensure_cache_path(self):
        _ensure_writable(self.get_cache_path())

    @classmethod
    def from_function(cls, py_func, py_file):
        if os.path.dirname(os.path.abspath(py_file)) != FOLDER:
            return None
        return super().from_function(py_func, py_file)


def _install_locators() -> None:
    stock = (caching.UserProvidedCacheLocator, caching.InTreeCacheLocator, caching.UserWideCacheLocator)
    ours: list = [type("Stamped" + base.__name__, (_StampedByImports, base), {}) for base in stock]
    caching.CacheImpl._locator_classes[:0] = ours


_install_locators()


@functools.lru_cache(maxsize=1)
def _warn_no_cache() -> None:
    warnings.warn(
        "nbkeras found no writable folder for its compiled kernels, so each process compiles them again. "
        "Set NUMBA_CACHE_DIR to a writable folder before importing nbkeras.",
        RuntimeWarning,
        stacklevel=4,
    )


def _with_cache(compiler, function, settings):
    """`compiler(function)` with the disk cache, or without where no folder is writable."""
    try:
        return compiler(cache=True, **settings)(function)
    except RuntimeError as error:  # Numba: "cannot cache function ...: no locator available for file ..."
        if "no locator" not in str(error):
            raise
        _warn_no_cache()
        return compiler(**settings)(function)


def cached_cfunc(signature):
    """Compile a C callback at once, cached on disk."""
    return lambda function: _with_cache(functools.partial(cfunc, signature), function, {"error_model": "numpy"})


def compiled(function=None, *, parallel: bool = False, **options):
    """Compile a kernel on its first call (`@compiled` or `@compiled(parallel=True)`), cached on disk.

    NumPy's error model lets loops with divisions vectorise; `nsz` and `contract` are the only fast-math flags that
    keep NaN, infinity and the rounding trick inside `vmath.exp` intact; the GIL is released while a kernel runs.
    """
    if function is None:
        return functools.partial(compiled, parallel=parallel, **options)
    settings = {"error_model": "numpy", "fastmath": {"nsz", "contract"}, "nogil": True, "parallel": parallel, **options}
    return _with_cache(njit, function, settings)
