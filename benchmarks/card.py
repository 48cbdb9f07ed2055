"""The limits of a GPU, measured with two kernels: bytes copied per second, and float32 operations per second.

Used by run_kernels.py. The nominal limits from the card's properties are reported too.
"""

from typing import Any

import kernel_cases
import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import SIMULATED, blocks, kernel, size, start
from nbkeras.kernels.runtime import device

_THREADS = size(256, simulated=4)
_PER_THREAD = 4  # elements of a thread, all read before the first is written
_ROUNDS = size(4096, simulated=4)
_BLOCKS_A_PROCESSOR = 8
_CORES = {(7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}  # cores of a multiprocessor; 128 in later architectures


@kernel
def _move(source, target):
    first = cuda.blockIdx.x * cuda.blockDim.x * _PER_THREAD + cuda.threadIdx.x
    step = cuda.blockDim.x
    if first + 3 * step < source.size:
        a = source[first]
        b = source[first + step]
        c = source[first + 2 * step]
        d = source[first + 3 * step]
        target[first] = a
        target[first + step] = b
        target[first + 2 * step] = c
        target[first + 3 * step] = d


@kernel
def _multiply_add(out, x, y):
    """Eight independent chains of multiply-adds."""
    a, b, c, d = x, x + y, x - y, y
    e, f, g, h = -x, -y, x * y, x + x
    for _ in range(_ROUNDS):
        a = a * x + y
        b = b * x + y
        c = c * x + y
        d = d * x + y
        e = e * x + y
        f = f * x + y
        g = g * x + y
        h = h * x + y
    out[cuda.grid(1)] = a + b + c + d + e + f + g + h


def bandwidth(quick: bool) -> tuple[float, float]:
    """Bytes per second, read and written, when our kernel and the driver copy 1 GB."""
    gpu = device.gpu()
    count = 64 if quick else 1 << 27
    source, target = (device.persistent_empty((count,), np.float64) for _ in range(2))
    device.write(source, np.float64(1))

    def own() -> None:
        start(_move, blocks(count, _THREADS * _PER_THREAD), _THREADS, source, target)

    return tuple(  # type: ignore[return-value]
        2 * source.nbytes / kernel_cases.seconds(play, gpu.synchronize, 1, quick)
        for play in (own, lambda: gpu.move(source, target))
    )


def rate(quick: bool) -> float:
    """float32 operations per second; a multiply-add is two."""
    gpu = device.gpu()
    grid = gpu.processors * _BLOCKS_A_PROCESSOR
    out = device.persistent_empty((grid * _THREADS,), np.float32)

    def play() -> None:
        start(_multiply_add, grid, _THREADS, out, np.float32(0.999), np.float32(0.001))

    return 2 * 8 * _ROUNDS * out.size / kernel_cases.seconds(play, gpu.synchronize, 1, quick)


def properties() -> dict[str, Any]:
    """The driver's properties: capability, and the nominal rate and bandwidth at the highest clocks."""
    gpu = cuda.get_current_device()
    capability = tuple(gpu.compute_capability)
    found: dict[str, Any] = {"capability": capability, "processors": device.gpu().processors}
    try:
        cores = gpu.MULTIPROCESSOR_COUNT * _CORES.get(capability, 128)
        found["nominal rate"] = 2e3 * gpu.CLOCK_RATE * cores
        found["nominal bandwidth"] = 2e3 * gpu.MEMORY_CLOCK_RATE * gpu.GLOBAL_MEMORY_BUS_WIDTH / 8
        found["L2"] = gpu.L2_CACHE_SIZE
    except AttributeError as error:  # newer drivers do not have these properties
        found["unknown"] = str(error)
    return found


def measure(quick: bool) -> dict[str, Any]:
    """All limits, in bytes and operations per second."""
    own, driver = bandwidth(quick)
    simulated = {"capability": None, "processors": device.gpu().processors}
    return {"copy kernel": own, "driver's copy": driver, "rate": rate(quick)} | (
        simulated if SIMULATED else properties()
    )
