"""How kernels are compiled: one decorator, and a disk cache that notices edits in *other* kernel files.

Numba stamps a cached function with the content of its own source file only, so a loop cached in one file would keep
the old numbers of a helper edited in another. The locators below stamp a file with its own content and that of every
kernel file it imports, directly or not.

A cache is never worth a computation: a damaged file is compiled anew, a full disk is a warning.
"""

import functools
import hashlib
import os
import re
import sys
import tempfile
import warnings

from numba import njit
from numba.core import caching, sigutils
from numba.core.ccallback import CFunc

FOLDER = os.path.dirname(os.path.abspath(__file__))
_IMPORT = re.compile(r"kernels(?:\.(\w+)| import (\([^)]*\)|[^\n]*))")


def _imported(text: str) -> set[str]:
    """Names among which are all kernel modules that a file imports, however it spells it."""
    return {name for found in _IMPORT.findall(text) for name in re.findall(r"\w+", " ".join(found))}


@functools.cache
def _read(path: str) -> tuple[bytes, list[str]]:
    """Hash of the content of a file, and the kernel files it imports."""
    with open(path, "rb") as file:
        content = file.read()
    others = (os.path.join(FOLDER, name + ".py") for name in sorted(_imported(content.decode(errors="replace"))))
    return hashlib.sha256(content).digest(), [other for other in others if os.path.exists(other)]


@functools.cache
def stamp(path: str) -> str:
    """Hash of the content of a file and of all kernel files it imports, transitively."""
    files = [path]
    for file in files:  # which grows on the way
        files += [other for other in _read(file)[1] if other not in files]
    return hashlib.sha256(b"".join(_read(file)[0] for file in files)).hexdigest()


@functools.cache
def _ensure_writable(folder: str) -> None:
    """Numba tries each folder once per function; once is enough."""
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


class StampedByImports:
    """Mixin for Numba's stock locators: files are stamped by `stamp`, a frozen application as a whole."""

    def get_source_stamp(self):
        return stamp(self._py_file) if os.path.exists(self._py_file) else super().get_source_stamp()

    def ensure_cache_path(self):
        _ensure_writable(self.get_cache_path())


class _Place(caching.CompileResultCacheImpl):
    """Which folder a function is cached in."""

    _locator_classes: list = [
        type("Stamped" + stock.__name__, (StampedByImports, stock), {})
        for stock in (caching.UserProvidedCacheLocator, caching.InTreeCacheLocator, caching.UserWideCacheLocator)
    ]


class _Files(caching.IndexDataCacheFile):
    """A function's index and data files. Those that cannot be read count as absent.

    Data say what they are: the index is written before them, so it may name a file with older data, if the disk was full or
    the process was killed in between, or another signature's, if two processes chose the same name.
    """

    def save(self, key, data):
        super().save(key, (self._what(key), data))

    def load(self, key):
        found = super().load(key)
        return found[1] if found is not None and found[0] == self._what(key) else None

    def _what(self, key):
        return self._version, self._source_stamp, key

    def _load_index(self):
        try:
            return super()._load_index()
        except OSError:  # if it cannot be written either, `save_overload` says so
            return {}
        except Exception as error:  # a damaged pickle raises whatever it likes
            _warn_damaged(self._index_path, repr(error))
            return {}

    def _load_data(self, name):
        try:
            return super()._load_data(name)
        except OSError:  # `load` knows that the file may be gone
            raise
        except Exception as error:
            _warn_damaged(self._data_path(name), repr(error))
            return None


class _KernelCache(caching.FunctionCache):
    """Numba's cache over these files."""

    _impl_class = _Place

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_not_saved(self._cache_path, error.strerror)


@functools.cache
def _warn_damaged(path: str, error: str) -> None:
    warnings.warn(
        f"nbkeras could not read {path} of its cache of compiled kernels ({error}): the kernel is compiled again and the "
        "file replaced. If this happens again, delete the file's folder.",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def _warn_not_saved(folder: str, error: str) -> None:
    warnings.warn(
        f"nbkeras could not save a compiled kernel in {folder} ({error}), so the next process compiles it again. Make room "
        "there, or set NUMBA_CACHE_DIR to another folder before importing nbkeras.",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def _warn_no_cache() -> None:
    warnings.warn(
        "nbkeras found no writable folder for its compiled kernels, so each process compiles them again. "
        "Set NUMBA_CACHE_DIR to a writable folder before importing nbkeras.",
        RuntimeWarning,
        stacklevel=4,
    )


def _cache_for(function):
    """The disk cache for a function; an idle one where no folder is writable, and for what was typed at a prompt."""
    if not os.path.exists(function.__code__.co_filename) and not getattr(sys, "frozen", False):
        return caching.NullCache()
    try:
        return _KernelCache(function)
    except RuntimeError as error:  # Numba: "cannot cache function ...: no locator available for file ..."
        if "no locator" not in str(error):
            raise
        _warn_no_cache()
        return caching.NullCache()


def cached_cfunc(signature):
    """Compile a C callback at once, cached on disk."""

    def compile_callback(function):
        callback = CFunc(function, sigutils.normalize_signature(signature), {}, {"error_model": "numpy"})
        callback._cache = _cache_for(function)
        callback.compile()
        return callback

    return compile_callback


def compiled(function=None, **options):
    """Compile a kernel on its first call (`@compiled`, or `@compiled(...)` with Numba's options), cached on disk.

    NumPy's error model lets loops with divisions vectorise; `nsz` and `contract` are the only fast-math flags that
    keep NaN, infinity and the rounding trick inside `vmath.exp` intact; the GIL is released while a kernel runs.
    """
    if function is None:
        return functools.partial(compiled, **options)
    settings = {"error_model": "numpy", "fastmath": {"nsz", "contract"}, "nogil": True, **options}
    dispatcher = njit(**settings)(function)
    dispatcher._cache = _cache_for(function)
    return dispatcher
