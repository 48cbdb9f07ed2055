"""A CUDA device in Python, for tests: Numba's simulated `cuda` module under a scheduler of our own.

Numba's simulator gives each CUDA thread a Python thread and polls them; here a thread is a greenlet, which runs until it
meets a barrier or ends. That is far faster, it adds what Numba's lacks (warp shuffles and votes, a grid-wide barrier over
several blocks), it finds barriers that not all threads of a block reach, and the order in which blocks and threads run can
be shuffled, so that a race shows.

Memory is filled with ones of all bits, NaN as a float, before a kernel gets it.
"""

import contextvars
import ctypes
import itertools
import math as real_math
import os
import random
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator.kernelapi import Dim3, FakeCUDAModule

from nbkeras.kernels.device_array import DeviceArray

_lock = threading.Lock()
_WARP = 32


class _Shared:
    """Shared memory of the block that runs, one array for each place in the source that asks for one."""

    def array(self, shape, dtype):
        frame = sys._getframe(1)
        where = frame.f_code, frame.f_lineno
        arrays = cuda.running.block.shared
        if where not in arrays:
            arrays[where] = _poisoned(shape, _numpy_dtype(dtype))
        return arrays[where]


class _Local:
    """An array of one thread."""

    def array(self, shape, dtype):
        return _poisoned(shape, _numpy_dtype(dtype))


def _numpy_dtype(dtype: Any) -> np.dtype:
    return np.dtype(getattr(dtype, "name", dtype))


def _poisoned(shape: Any, dtype: np.dtype) -> np.ndarray:
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8).fill(0xFF)
    return array


class _Grid:
    def sync(self) -> None:
        _wait("grid", None)


class _Cooperative:
    def this_grid(self) -> _Grid:
        return _Grid()


class _Module(FakeCUDAModule):
    """What kernels see as `cuda`."""

    running: Any = None  # the _Thread whose turn it is

    def __init__(self):
        super().__init__((1, 1, 1), (1, 1, 1), 0)
        self._shared, self._local, self._cg = _Shared(), _Local(), _Cooperative()

    threadIdx = property(lambda self: self.running.index)
    blockIdx = property(lambda self: self.running.block.index)
    laneid = property(lambda self: self.running.number % _WARP)

    def syncthreads(self) -> None:
        _wait("block", None)

    def syncwarp(self, mask=0xFFFFFFFF) -> None:
        _wait("warp", None)

    def syncthreads_count(self, value):
        return sum(bool(v) for v in _wait("block", value).values())

    def syncthreads_and(self, value):
        return int(all(_wait("block", value).values()))

    def syncthreads_or(self, value):
        return int(any(_wait("block", value).values()))

    def _shuffle(self, value, lane):
        values = _wait("warp", value)
        return values.get(lane, value)

    def shfl_sync(self, mask, value, lane):
        return self._shuffle(value, lane % _WARP)

    def shfl_up_sync(self, mask, value, delta):
        return self._shuffle(value, self.laneid - delta)

    def shfl_down_sync(self, mask, value, delta):
        return self._shuffle(value, self.laneid + delta)

    def shfl_xor_sync(self, mask, value, bits):
        return self._shuffle(value, self.laneid ^ bits)

    def all_sync(self, mask, value):
        return all(_wait("warp", value).values())

    def any_sync(self, mask, value):
        return any(_wait("warp", value).values())

    def ballot_sync(self, mask, value):
        return sum(1 << lane for lane, v in _wait("warp", value).items() if v)


cuda = _Module()


class _Math(types.ModuleType):
    """`math` as it is on a GPU: of the argument's dtype, with infinity and NaN instead of exceptions."""

    def __getattr__(self, name: str) -> Any:
        return getattr(real_math, name)


math = _Math("math")
for _name, _function in {
    **{
        name: getattr(np, name)
        for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan")
    },
    **{
        name: getattr(np, name) for name in ("sinh", "cosh", "tanh", "floor", "ceil", "trunc", "isnan", "isinf", "fabs")
    },
    **{"atan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "atan2": np.arctan2, "pow": np.power, "fmod": np.fmod},
    **{"asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "copysign": np.copysign},
}.items():
    setattr(math, _name, _function)


class _Block:
    def __init__(self, index: tuple):
        self.index = Dim3(*index)
        self.shared: dict = {}


class _Thread:
    """A CUDA thread: where it is in its block, and what it waits for."""

    __slots__ = ("block", "index", "number", "waits_for", "value", "greenlet")

    def __init__(self, block: _Block, index: tuple, number: int, function: Callable, args: tuple):
        self.block, self.index, self.number = block, Dim3(*index), number
        self.waits_for: str | None = None
        self.value: Any = None
        self.greenlet = greenlet(lambda: function(*args))
        self.greenlet.gr_context = contextvars.copy_context()  # NumPy's errstate

    def run(self) -> None:
        cuda.running = self
        try:
            self.greenlet.switch(self.value) if self.waits_for else self.greenlet.switch()
        except Exception as error:
            error.add_note(f"in CUDA thread {tuple(self.index)} of block {tuple(self.block.index)}")
            raise
        if self.greenlet.dead:
            self.waits_for = None


def _wait(kind: str, value: Any) -> Any:
    """Let others run until all who take part have come here; what each brought, by its number (lane in a warp)."""
    me = cuda.running
    me.waits_for, me.value = kind, value
    return getcurrent().parent.switch()


class BarrierError(RuntimeError):
    """Some threads wait at a barrier that others never reach."""


def _run(threads: list[_Thread], order: random.Random | None) -> None:
    """Let threads run until all have ended."""
    ready = threads
    waiting: list[_Thread] = []
    while ready:
        for thread in ready:
            thread.run()
            if not thread.greenlet.dead:
                waiting.append(thread)
        ready = _released(waiting)
        if not ready and waiting:
            kinds = sorted({str(thread.waits_for) for thread in waiting})
            raise BarrierError(
                f"{len(waiting)} threads wait for others at barriers of kind {kinds} in block "
                f"{tuple(waiting[0].block.index)}, and none can go on: all threads must reach the same barrier"
            )
        released = set(map(id, ready))
        waiting = [thread for thread in waiting if id(thread) not in released]
        if order is not None:
            order.shuffle(ready)


def _released(waiting: list[_Thread]) -> list[_Thread]:
    """Those of whose group all live threads wait for the same thing; each gets what the group brought."""
    groups: dict[tuple, list[_Thread]] = {}
    for thread in waiting:
        groups.setdefault((id(thread.block), thread.number // _WARP), []).append(thread)
    ready = []
    for warp in groups.values():
        if all(thread.waits_for == "warp" for thread in warp):
            brought = {thread.number % _WARP: thread.value for thread in warp}
            for thread in warp:
                thread.value = brought
            ready += warp
    if ready:
        return ready
    blocks: dict[int, list[_Thread]] = {}
    for thread in waiting:
        blocks.setdefault(id(thread.block), []).append(thread)
    for block in blocks.values():
        if all(thread.waits_for == "block" for thread in block):
            brought = {thread.number: thread.value for thread in block}
            for thread in block:
                thread.value = brought
            ready += block
    if ready:
        return ready
    return waiting if waiting and all(thread.waits_for == "grid" for thread in waiting) else []


def _dimensions(count: Any) -> tuple[int, int, int]:
    sizes = count if isinstance(count, tuple) else (count,)
    return (*sizes, *(1,) * (3 - len(sizes)))  # type: ignore[return-value]


def launch(function: Callable, blocks: Any, threads: Any, args: tuple, cooperative: bool) -> None:
    """Run a kernel over a grid. NBKERAS_SIMULATOR_SEED: a number shuffles the order of blocks and threads."""
    seed = os.environ.get("NBKERAS_SIMULATOR_SEED")
    order = random.Random(seed) if seed else None
    grid, shape = _dimensions(blocks), _dimensions(threads)
    if min(grid) < 1 or min(shape) < 1 or shape[0] * shape[1] * shape[2] > 1024 or max(grid[1:]) > 65535:
        raise ValueError(f"a launch of {grid} blocks of {shape} threads is beyond what a GPU takes")
    indices = [index[::-1] for index in itertools.product(*(range(n) for n in shape[::-1]))]
    places = [index[::-1] for index in itertools.product(*(range(n) for n in grid[::-1]))]
    if order is not None:
        order.shuffle(places)
    with _lock, np.errstate(all="ignore"):
        cuda.gridDim, cuda.blockDim = Dim3(*grid), Dim3(*shape)
        before = cuda.running
        try:
            together: list[_Thread] = []
            for place in places:
                block = _Block(place)
                members = [_Thread(block, index, number, function, args) for number, index in enumerate(indices)]
                if order is not None:
                    order.shuffle(members)
                if cooperative:
                    together += members
                else:
                    _run(members, order)
            if cooperative:
                _run(together, order)
        finally:
            cuda.running = before


# -------------------- the device --------------------


class _Memory:
    """Some bytes of a simulated device, at a multiple of 256 as on a real one."""

    def __init__(self, nbytes: int):
        self._bytes = _poisoned((nbytes + 256,), np.dtype(np.uint8))
        start = self._bytes.__array_interface__["data"][0]
        self.address = start + -start % 256


class Device:
    """What cuda_hardware.Device is for a GPU; NBKERAS_SIMULATOR_MEMORY: how many bytes it has (8 GB)."""

    processors = 2

    def __init__(self, index: int):
        if index:
            raise ValueError(f"cuda:{index} was asked for, but the simulator has one device, cuda:0")
        self.name = "the simulated GPU"
        self._total = int(os.environ.get("NBKERAS_SIMULATOR_MEMORY", 8 << 30))
        self._used = 0
        self._sizes: dict[int, int] = {}

    @staticmethod
    def count() -> int:
        return 1

    def allocate(self, nbytes: int) -> _Memory | None:
        if self._used + nbytes > self._total:
            return None
        self._used += nbytes
        memory = _Memory(nbytes)
        self._sizes[id(memory)] = nbytes
        return memory

    def free(self, memory: _Memory) -> None:
        self._used -= self._sizes.pop(id(memory))

    def memory(self) -> tuple[int, int]:
        return self._total - self._used, self._total

    def upload(self, address: int, array: np.ndarray) -> None:
        ctypes.memmove(address, array.__array_interface__["data"][0], array.nbytes)

    def download(self, array: np.ndarray, address: int) -> None:
        ctypes.memmove(array.__array_interface__["data"][0], address, array.nbytes)

    def move(self, source: int, target: int, nbytes: int) -> None:
        ctypes.memmove(target, source, nbytes)

    def start(self, kernel: Any, blocks: Any, threads: Any, args: tuple, cooperative: bool, shared: int) -> None:
        arrays = tuple(arg.layout if isinstance(arg, DeviceArray) else arg for arg in args)
        launch(kernel.function, blocks, threads, arrays, cooperative)

    def resident_blocks(self, kernel: Any, threads: int, args: tuple, shared: int) -> int:
        return 4

    def synchronize(self) -> None:
        pass

    def graph(self, play: Callable[[], None], place: Any) -> Callable[[], None]:
        return play

    def inlet(self, buffers: list) -> "Inlet":
        return Inlet(self, buffers)


class Inlet:
    """Where batches are put together before they go to the device's buffers."""

    def __init__(self, device: Device, buffers: list):
        self._device, self._buffers = device, buffers
        self.arrays = [None if b is None else np.empty(b.shape, b.dtype) for b in buffers]

    def send(self) -> None:
        """Copy `arrays` to the buffers."""
        for array, buffer in zip(self.arrays, self._buffers, strict=True):
            if array is not None:
                self._device.upload(buffer.address, array)
