"""Gpu: a GPU with its memory pool, its stream and the twins of kernels. The module is imported when a GPU is first used.

All work is queued on one stream in order, so work that is queued later can reuse freed memory at once. Python continues
meanwhile, and waits when it reads a value.
"""

import contextlib
import functools
import importlib
import math
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.kernels.cuda.machine import SIMULATED, host
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray, layout_at

if SIMULATED:
    from nbkeras.kernels.cuda.machine.simulator import Device
else:
    from nbkeras.kernels.cuda.machine.hardware import Device

Array = np.ndarray
_UNIT = 512  # bytes of the smallest allocation; every block starts at a multiple of it
_LARGE = 1 << 20  # from this many bytes on, sizes are rounded up to an eighth of the power of two below


class OutOfDeviceMemoryError(MemoryError):
    """A GPU has no room for an array."""


def _rounded(nbytes: int) -> int:
    unit = _UNIT if nbytes < _LARGE else 1 << (nbytes.bit_length() - 4)
    return -(-max(nbytes, 1) // unit) * unit


class _Block:
    """Memory from the pool. It returns to the pool when the block is deleted."""

    __slots__ = ("_pool", "memory", "size")

    def __init__(self, pool: "_Pool", memory: Any, size: int):
        self._pool, self.memory, self.size = pool, memory, size

    def __del__(self) -> None:
        self._pool.free[self.size].append(self.memory)


class _Pool:
    """Device memory in blocks; a free block is kept for the next array of its size."""

    def __init__(self, device: Any):
        self._device = device
        # by size; finalizers append to the deques, so no lock is needed
        self.free: dict[int, deque] = defaultdict(deque)
        self.held = 0  # bytes allocated on the device, including those in `free`

    def take(self, nbytes: int) -> _Block:
        size = _rounded(nbytes)
        try:
            return _Block(self, self.free[size].pop(), size)
        except IndexError:
            memory = self._device.allocate(size)
        if memory is None:
            self.release()
            memory = self._device.allocate(size)
        if memory is None:
            free, total = self._device.memory()
            raise OutOfDeviceMemoryError(
                f"{self._device.name} has no room for an array of {nbytes:,} bytes: {free:,} of its {total:,} bytes are free, "
                f"{self.held:,} are held by this process's arrays; use a smaller batch or a smaller model, or stop other "
                "programs on the GPU"
            )
        self.held += size
        return _Block(self, memory, size)

    def release(self) -> None:
        """Returns unused memory to the device."""
        self._device.synchronize()
        for size, memories in self.free.items():
            while memories:
                self._device.free(memories.pop())
                self.held -= size


class _Scratch(threading.local):
    """A thread's scratch arrays by name. Each thread has its own arrays, because the kernels of two threads may alternate."""

    def __init__(self) -> None:
        self.arrays: dict[str, DeviceArray] = {}


class Gpu:
    """A GPU. While it is this thread's `device.gpu()`, arrays are made on it and kernels run on it."""

    def __init__(self, index: int):
        self._device = Device(index)
        self.index, self.name = index, f"cuda:{index}"
        self._pool = _Pool(self._device)
        self._scratch = _Scratch()
        # the number of multiprocessors, and functions of the device
        self.processors, self.synchronize = self._device.processors, self._device.synchronize
        self.start, self.number_of, self.order = self._device.start, self._device.number_of, self._device.order
        self.input_staging = self._device.input_staging

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return get, (self.index,)

    def __deepcopy__(self, memo: dict) -> "Gpu":
        return self

    # Memory

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        """Returns an array with undefined content."""
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
        dtype = np.dtype(dtype)
        block = self._pool.take(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        if SIMULATED:
            block.memory.poison()
        return DeviceArray(layout_at(block.memory.address, shape, dtype), self, block)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Returns an array that a twin may use until it returns. A name always gives the same memory in a thread."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        known = self._scratch.arrays.get(name)
        if known is None or known.nbytes < nbytes:
            self._scratch.arrays[name] = known = self.empty((nbytes,), np.uint8)
        return known.at(0, shape, dtype)

    @contextlib.contextmanager
    def scratch_of_its_own(self) -> Iterator[dict[str, DeviceArray]]:
        """Uses separate scratch memory for a captured graph; the graph must keep it."""
        before, self._scratch.arrays = self._scratch.arrays, {}
        try:
            yield self._scratch.arrays
        finally:
            self._scratch.arrays = before

    def upload(self, array: Array) -> DeviceArray:
        """Returns a copy of a NumPy array."""
        result = self.empty(array.shape, array.dtype)
        self.write(result, array)
        return result

    def write(self, target: DeviceArray, value: Any) -> None:
        """Writes a value into an array, in stream order. Returns when the caller may change the value again."""
        value = np.ascontiguousarray(np.broadcast_to(device.converted(np.asarray(value), target.dtype), target.shape))
        if not target.size:
            return
        if target.flags.c_contiguous:
            self._device.upload(target.address, value)
        else:
            with device.on(self):
                self.twin(device.copy)(self.upload(value), target)

    def read(self, array: DeviceArray) -> Array:
        """Returns the values as a NumPy array, after all queued work."""
        if not array.flags.c_contiguous:
            whole = self.empty(array.shape, array.dtype)
            with device.on(self):
                self.twin(device.copy)(array, whole)
            array = whole
        result = np.empty(array.shape, array.dtype)
        if array.size:
            self._device.download(result, array.address)
        return result

    def move(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copies between contiguous arrays of the same dtype and size."""
        if target.nbytes:
            self._device.move(source.address, target.address, target.nbytes)

    def memory(self) -> tuple[int, int, int]:
        """Returns the device's free bytes, its total bytes, and the bytes that this process's arrays hold."""
        return (*self._device.memory(), self._pool.held)

    def release(self) -> None:
        """Return unused memory to the device."""
        self._pool.release()

    # Work

    @staticmethod
    @functools.cache
    def twin(function: Callable) -> Callable:
        """A function's twin: its namesake in `twin_module`, the function itself on the CPU, or a twin that is derived.

        Kernels made of formulas, ufuncs and kernels that compute an operation of chains have no namesake: the function `twin` of
        a twin module makes their twins. The twin of a kernel that consists of launches (`of_steps`) launches their twins.
        """
        if hasattr(function, "rows"):  # a loop, which repeats twins
            return function
        if getattr(function, "on_host", False):
            return host.on_copies(function)
        if isinstance(function, np.ufunc):
            return _twins_of("nbkeras.kernels.interpreter.launches").twin(function)
        if hasattr(function, "formula"):
            return _twins_of(type(function).__module__).twin(function)
        name, module = function.__name__, function.__module__
        twins = twin_module(module)
        if twins == module:
            return function
        try:
            return getattr(importlib.import_module(twins), name)
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != twins:
                raise
            derived = _of_steps(function) or _twins_of("nbkeras.kernels.interpreter.launches").twin(function)
            if derived is not None:
                return derived
            raise NotImplementedError(
                f"the kernel {module}.{name} has no twin for GPUs: write a function with this name and these arguments in "
                f"{twins}, or decorate it with device.host if it is rare (see docs/custom-ops.md)"
            ) from None

    @property
    def stream(self) -> int:
        """The handle of the stream. 1 is CUDA's legacy default stream."""
        return self._device.stream

    def graph(self, steps: list[tuple[Callable, tuple]], play: Callable[[], None]) -> Callable[[], None] | None:
        """Returns a function that replays launches as a CUDA graph, or None if a step reads the CPU's memory."""
        for function, args in steps:
            if getattr(function, "on_host", False) or any(isinstance(arg, np.ndarray) for arg in args):
                return None
        return self._device.graph(play, self)

    def interface(self, array: DeviceArray) -> dict:
        """`__cuda_array_interface__`, version 3."""
        self._device.synchronize()
        strides = None if array.flags.c_contiguous else array.strides
        return {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.address, False),
            "strides": strides,
            "version": 3,
            "stream": None,
        }


_OURS, _TWINS = "nbkeras.kernels.", "nbkeras.kernels.cuda."


def _of_steps(function: Any) -> Callable | None:
    """Returns the twin of a kernel that consists of launches, see chains.of_steps; None for others."""
    if not hasattr(function, "steps"):
        return None

    def run(*args: Any) -> None:
        for each, *rest in function.steps(*args):
            Gpu.twin(each)(*rest)

    run.__name__ = function.__name__
    return run


def _twins_of(module: str) -> Any:
    return importlib.import_module(twin_module(module))


def twin_module(module: str) -> str:
    """Returns the name of a module's twin module: the same name in `kernels/cuda/`, or `x_cuda` for a user's module `x`."""
    if module.startswith(_TWINS) or module.endswith("_cuda"):
        return module
    return _TWINS + module.removeprefix(_OURS) if module.startswith(_OURS) else module + "_cuda"


@functools.cache
def get(index: int) -> Gpu:
    """Returns the Gpu with an index."""
    return Gpu(index)


def count() -> int:
    """Returns the number of GPUs."""
    return Device.count()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=get.cache_clear)
