"""The disk cache of CUDA kernels: numba-cuda's, stamped as that of the CPU's kernels is (cache.py)."""

from numba.cuda.core import caching
from numba.cuda.dispatcher import CUDACache, CUDACacheImpl

from nbkeras.kernels.cache import StampedByImports


class _Place(CUDACacheImpl):
    """Which folder a kernel is cached in."""

    _locator_classes: list = [
        type("Stamped" + stock.__name__, (StampedByImports, stock), {})
        for stock in (caching._UserProvidedCacheLocator, caching._InTreeCacheLocator, caching._UserWideCacheLocator)
    ]


class _KernelCache(CUDACache):
    _impl_class = _Place


def cached(dispatcher):
    """The dispatcher, with its compiled kernels kept on disk where a folder is writable."""
    try:
        dispatcher._cache = _KernelCache(dispatcher.py_func)
    except RuntimeError as error:  # "cannot cache function ...: no locator available for file ..."
        if "no locator" not in str(error):
            raise
    return dispatcher
