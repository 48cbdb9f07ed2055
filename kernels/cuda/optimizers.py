"""The twin of optimizers.moving_average, and the loop of kernels over flat arrays. loops/map.py makes the twins of the steps.

The elements of a thread are a grid apart. With all threads active, loads of four bytes keep a GPU's memory busy.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_THREADS = size(512, simulated=8)
_RESIDENT = 4  # blocks per multiprocessor: 2048 threads, the most that one runs


def run(kernel: Kernel, first: DeviceArray, *args) -> None:
    """Starts a kernel whose threads loop over flat arrays; the first array has the size of all."""
    start(kernel, min(blocks(first.size, _THREADS), _RESIDENT * device.gpu().processors), _THREADS, first, *args)


def constants(array: DeviceArray, *numbers: float) -> tuple:
    """Returns numbers in an array's dtype as one kernel argument; the last one is the dtype's smallest normal number."""
    return (*map(array.dtype.type, numbers), np.finfo(array.dtype).tiny)


@device_function
def grid_range(array):
    """Returns a thread's first element, the number of elements, and the distance between two elements of the thread.

    All three are unsigned: a signed index might count from the end, and Numba compares unsigned with signed integers in float64.
    """
    return np.uint64(cuda.grid(1)), np.uint64(array.size), np.uint64(cuda.gridsize(1))


@kernel
def _moving_average(w, average, step, momentum, every):
    one = w.dtype.type(1)
    keep = momentum if step[0] > 0 else one - one
    overwrite = every > 0 and (step[0] + 1) % every == 0
    i, count, stride = grid_range(w)
    while i < count:
        now = keep * average[i] + (one - keep) * w[i]
        average[i] = now
        if overwrite:
            w[i] = now
        i += stride


def moving_average(w, average, step, momentum, every):
    run(_moving_average, w, average, step, w.dtype.type(momentum), every)
