"""The disk cache of CUDA kernels: the cache of runtime/cache.py, with the files that numba-cuda makes."""

import numba_cuda
from numba.cuda.dispatcher import _Kernel

from nbkeras.kernels.runtime.cache import KernelCache, cache_for


class _CUDAKernelCache(KernelCache):
    versions = (*KernelCache.versions, numba_cuda.__version__)

    def is_lasting(self, data):
        return not getattr(data, "launch_config_sensitive", False)

    def pack(self, data):
        return data._reduce_states()

    def unpack(self, target_context, packed):
        return _Kernel._rebuild(**packed)


def cached(dispatcher):
    """The dispatcher, with its compiled kernels kept on disk."""
    dispatcher._cache = cache_for(dispatcher.py_func, _CUDAKernelCache)
    return dispatcher
