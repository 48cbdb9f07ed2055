"""The decorators `@kernel` and `@device_function` of CUDA kernels, and `start`; twins start kernels with it.

The twin of a family `<family>.py` is the file `cuda/<family>.py`. For each launched compiled loop of the family, it has a
function with the same name and arguments (without `share, shares`), which chooses blocks and threads and starts kernels.
`device.launch` calls it instead of the loop, with DeviceArrays and constants. Such files are imported when first needed.

    @kernel
    def _scale(x, factor):
        i = cuda.grid(1)
        if i < x.size:
            x[i] *= factor

    def scale(x, factor):
        start_each(_scale, x.size, x, factor)

`from numba import cuda` and `import math` must be at the top of such a file, under these names: with NUMBA_ENABLE_CUDASIM=1,
kernels run in Python (simulator.py), with fewer threads (`size`), because each thread is slow there.
"""

import atexit
import functools
import json
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine import SIMULATED
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

if SIMULATED:
    from nbkeras.kernels.cuda.machine import language
else:
    from nbkeras.kernels.cuda.machine.cache import cached


def size(hardware: int, simulated: int) -> int:
    """Returns a number of threads or of elements of a tile: one value on a GPU, another in the simulator."""
    return simulated if SIMULATED else hardware


THREADS = size(256, simulated=8)  # default threads per block


def blocks(count: int, threads: int) -> int:
    """Returns the number of blocks of `threads` that cover `count` elements."""
    return -(-count // threads)


class Kernel:
    """A CUDA kernel: its Python function, and `compiled`, Numba's dispatcher (None in the simulator)."""

    def __init__(self, function: Callable, options: dict[str, Any]):
        self.function, self.options = function, options
        self.__name__, self.__module__ = function.__name__, function.__module__
        self.__doc__ = function.__doc__
        if SIMULATED:
            self.compiled = None
            _simulate(function)
        else:
            self.compiled = cached(cuda.jit(function, **options))


def kernel(function: Callable | None = None, **options: Any) -> Any:
    """Decorates a CUDA kernel, which is compiled on its first start and cached on disk. options: those of `cuda.jit`."""
    if function is None:
        return lambda function: Kernel(function, options)
    return Kernel(function, options)


def device_function(function: Callable) -> Callable:
    """Decorates a function that kernels call."""
    if SIMULATED:
        _simulate(function)
        return function
    return cuda.jit(function, device=True)


@functools.cache
def _from_cpu(function: Callable) -> Callable:
    """Makes device functions from the Python functions of a `@compiled` function and of the compiled functions that it calls."""
    names = {name: value for name, value in function.__globals__.items() if name in function.__code__.co_names}
    for name, value in names.items():
        names[name] = _from_cpu(value.py_func) if hasattr(value, "py_func") else value
    names["__name__"] = function.__module__  # of the copy, and of its frames, which the simulator's checks read
    copy = types.FunctionType(function.__code__, names, function.__name__)  # the CPU's function keeps its own globals
    return device_function(copy)


@functools.cache
def device_module(module: types.ModuleType) -> Any:
    """Returns the `@compiled` functions of a module of scalar formulas as device functions, under the same names.

        formulas = device_module(ctc_states)

    Kernels call `formulas.added(...)`. A kernel's file imports the module, so the cache's stamp of the kernel covers it.
    """
    functions = {name: _from_cpu(value.py_func) for name, value in vars(module).items() if hasattr(value, "py_func")}
    found = types.ModuleType(module.__name__, module.__doc__)
    vars(found).update(functions)
    return found


def _simulate(function: Callable) -> None:
    """Gives a function's file the simulator's `cuda`, `math`, `min` and `max`."""
    names = function.__globals__
    names.update(cuda=language.cuda, min=language.minimum, max=language.maximum)
    if "math" in names:
        names["math"] = language.math


def start(kernel: Kernel, blocks: int | tuple, threads: int | tuple, *args: Any) -> None:
    """Runs a kernel over a grid of blocks. 0 blocks start nothing."""
    if (0 in blocks) if isinstance(blocks, tuple) else not blocks:
        return
    if _signatures is not None:
        _signatures.add((kernel.__module__, kernel.__name__, json.dumps([_type_name(arg) for arg in args])))
    device.gpu().start(kernel, blocks, threads, args)


def start_each(kernel: Kernel, count: int, *args: Any) -> None:
    """Runs a kernel in blocks of THREADS, with a thread for each of `count` elements. The last block may have excess threads."""
    start(kernel, blocks(count, THREADS), THREADS, *args)


# -------------------- the log of kernels' signatures --------------------


def _type_name(arg: Any) -> Any:
    """Returns Numba's name of an argument's type."""
    if isinstance(arg, DeviceArray):
        repeats = arg.size and 0 in arg.strides
        layout = "A" if repeats else "C" if arg.flags.c_contiguous else "F" if arg.flags.f_contiguous else "A"
        return f"Array({arg.dtype.name}, {arg.ndim}, {layout})"
    if isinstance(arg, tuple):
        return [_type_name(each) for each in arg]
    if isinstance(arg, np.generic):
        return arg.dtype.name
    return {bool: "boolean", int: "int64", float: "float64"}[type(arg)]


_signatures: set[tuple] | None = None


def _write_signatures(path: str) -> None:
    """Appends to the file in one write, so that processes that exit at the same time do not mix their lines."""
    lines = "".join(json.dumps(each) + "\n" for each in sorted(_signatures or ()))
    with open(path, "ab", buffering=0) as file:
        file.write(lines.encode())


if os.environ.get("NBKERAS_CUDA_SIGNATURES"):  # for benchmarks/cuda_resources.py
    _signatures = set()
    atexit.register(_write_signatures, os.environ["NBKERAS_CUDA_SIGNATURES"])
