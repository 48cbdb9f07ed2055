"""Row by row kernels over many rows: run serially, or in parallel by equal blocks of rows and a rest."""

from collections.abc import Callable, Sequence

import numpy as np

from nbkeras.kernels import device

BLOCK = 16384  # elements of one task
PARALLEL = 8 * BLOCK  # elements from which tasks run in parallel: about 40 us of exponentials on one core


def launch(serial: Callable, parallel: Callable, arrays: Sequence[np.ndarray], *constants) -> None:
    """Launch `serial(*arrays, *constants)` on arrays of equal length, or the same cut into blocks by `parallel`.

    `parallel` gets each array with a first axis of blocks, and calls `serial` on each block. Few elements run serially:
    starting threads costs microseconds, and the parallel kernel half a second more to compile. Cut by shape alone, so
    results do not depend on the number of threads.
    """
    size, rows = max(array.size for array in arrays), len(arrays[0])
    if size < PARALLEL:
        device.launch(serial, *arrays, *constants)
        return
    block = max(1, BLOCK * rows // size)
    whole = rows // block * block
    device.launch(parallel, *[a[:whole].reshape(-1, block, *a.shape[1:]) for a in arrays], *constants)
    if whole < rows:
        device.launch(serial, *[a[whole:] for a in arrays], *constants)
