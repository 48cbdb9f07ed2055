"""The disk cache of CUDA kernels: the files of runtime/code.py hold numba-cuda's compiled code."""

import pickle

import numba_cuda
from numba.core.caching import NullCache
from numba.core.serialize import dumps
from numba.cuda.dispatcher import _Kernel

from nbkeras.kernels.runtime import cache_files, code


class _Cache(NullCache):
    """numba-cuda's cache of one function, in our files."""

    def __init__(self, function):
        self._function, self._flushed = function, False

    def load_overload(self, sig, target_context):
        target_context.refresh()
        payload = None if self._flushed else cache_files.read(self._file(sig, target_context.codegen()))
        if payload is not None:
            return _Kernel._rebuild(**pickle.loads(payload))
        code.will_compile()
        return None

    def save_overload(self, sig, data):
        if not getattr(data, "launch_config_sensitive", False):
            cache_files.write(self._file(sig, data.codegen), dumps(data._reduce_states()))

    # `recompile` calls it, because a function's globals may have changed; file names do not depend on globals
    def flush(self):
        self._flushed = True

    def _file(self, sig, codegen):
        return code.file_name(self._function, repr((numba_cuda.__version__, str(sig), codegen.magic_tuple())))


def cached(dispatcher):
    """Returns the dispatcher; it keeps its compiled kernels on disk."""
    if code.is_cached(dispatcher.py_func):
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
