"""A CUDA device in Python, for tests. It runs kernels over a grid of threads, in the CPU's memory.

Numba's simulator gives each CUDA thread a Python thread and polls them. Here a thread is a plain call, or, if the kernel has
barriers, a greenlet that runs up to a barrier. That is far faster. This simulator also has features that Numba's lacks (warp
shuffles and votes), and reports barriers that not all threads reach. Environment variables:

* NBKERAS_SIMULATOR_SEED: a number that shuffles the order of blocks and threads, so that a race shows;
* NBKERAS_SIMULATOR=strict: check indices and races (checker.py), which takes a few times as long;
* NBKERAS_SIMULATOR_MEMORY: the bytes of the device (8 GB).

New memory is filled with 1 bits (NaN as a float); a shuffle returns the same value to a lane that takes no part. Blocks run one
after the other. language.py lists further differences from a GPU.
"""

import ctypes
import functools
import itertools
import os
import random
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet

from nbkeras.kernels.cuda.machine import language
from nbkeras.kernels.cuda.machine.checker import Checked, Journal, Log, RaceError, line_of
from nbkeras.kernels.cuda.machine.language import WARP, cuda
from nbkeras.kernels.runtime import variables
from nbkeras.kernels.runtime.device_array import DeviceArray

_lock = threading.Lock()


class BarrierError(RuntimeError):
    """Some threads wait at a barrier that other threads never reach."""


class Index(NamedTuple):
    x: int
    y: int
    z: int


class _Block:
    def __init__(self, index: Index, indices: tuple[Index, ...]):
        self.index = index
        self.shared: dict = {}
        self.log = Log()
        self.threads = [_Thread(each, number) for number, each in enumerate(indices)]
        self.warps = [_Warp(self.threads[at : at + WARP]) for at in range(0, len(indices), WARP)]

    def settle(self, journal: Journal) -> None:
        """Compares the accesses of the block's threads since the last barrier."""
        for warp in self.warps:
            warp.settle(journal, warp.threads)
        self.log.add(journal.meet([warp.log for warp in self.warps]))
        for warp in self.warps:
            warp.log = Log()


class _Warp:
    def __init__(self, threads: list["_Thread"]):
        self.threads, self.log = threads, Log()

    def settle(self, journal: Journal, threads: list["_Thread"]) -> None:
        self.log.add(journal.meet([thread.log for thread in threads]))
        for thread in threads:
            thread.log = Log()

    def released(self) -> list["_Thread"]:
        """Returns the threads whose masks are complete; each gets the values of all lanes that it waited for."""
        waiting = [thread for thread in self.threads if thread.waits_for == "warp"]
        ready = []
        for mask in {thread.mask for thread in waiting}:
            group = [t for t in self.threads if mask >> t.number % WARP & 1 and t.waits_for != "end"]
            if all(thread.waits_for == "warp" and thread.mask == mask for thread in group):
                brought = {thread.number % WARP: thread.value for thread in group}
                for thread in group:
                    thread.value = brought
                if cuda.journal is not None:
                    _check_meeting(group)
                    self.settle(cuda.journal, group)
                ready += group
        return ready


class _Thread:
    """A CUDA thread: its index in the block, and the barrier that it waits at."""

    __slots__ = ("index", "number", "waits_for", "mask", "value", "worker", "log")

    def __init__(self, index: Index, number: int):
        self.index, self.number = index, number
        self.waits_for = "start"  # later "warp" or "block", finally "end"
        self.mask = 0
        self.value: Any = None
        self.worker: Any = None
        self.log = Log()

    def wait(self, kind: str, value: Any, mask: int = 0) -> Any:
        """Lets other threads run until all participating threads arrive here; returns their values."""
        if kind == "warp" and not mask >> self.number % WARP & 1:
            raise BarrierError(
                f"lane {self.number % WARP} waits for the lanes of the mask {mask:#x}, and is not one of them"
            )
        self.waits_for, self.mask, self.value = kind, mask, value
        self.worker.parent.switch()
        return self.value

    def location(self) -> tuple[Any, int]:
        """The kernel's instruction that the thread waits at."""
        frame = self.worker.gr_frame
        while frame.f_code.co_filename in (__file__, language.__file__):
            frame = frame.f_back
        return frame.f_code, frame.f_lasti


class _Workers(threading.local):
    """Idle greenlets for the next threads. Making one costs more than running most threads."""

    def __init__(self) -> None:
        self.idle: list[greenlet] = []


_workers = _Workers()


def _work(job: tuple) -> None:
    with np.errstate(all="ignore"):
        while True:
            function, args = job
            function(*args)
            cuda.thread.waits_for = "end"
            _workers.idle.append(getcurrent())
            job = getcurrent().parent.switch()


def _play(block: _Block, function: Callable, args: tuple, order: random.Random | None) -> None:
    """Runs a block's threads concurrently until all have ended."""
    hub, journal, ready = getcurrent(), cuda.journal, list(block.threads)
    cuda.block, cuda.blockIdx = block, block.index
    try:
        while ready:
            if order is not None:
                order.shuffle(ready)
            for thread in ready:
                cuda.thread, cuda.threadIdx = thread, thread.index
                if journal is not None:
                    journal.enter(block.index, thread.index, thread.log)
                if thread.worker is None:
                    thread.worker = _workers.idle.pop() if _workers.idle else greenlet(_work)
                    thread.worker.parent = hub
                    thread.worker.switch((function, args))
                else:
                    thread.worker.switch()
            ready = _released(block)
    except BaseException:
        for thread in block.threads:
            if thread.worker and thread.waits_for != "end":
                thread.worker.throw(GreenletExit)
        raise
    if journal is not None:
        block.settle(journal)
        journal.meet([block.log], journal.grid)


def _released(block: _Block) -> list[_Thread]:
    """Returns the threads whose barrier is complete; none if all have ended."""
    kinds = {thread.waits_for for thread in block.threads}
    ready: list[_Thread] = []
    if "warp" in kinds:
        for warp in block.warps:
            ready += warp.released()
    elif kinds == {"block"}:
        brought = [thread.value for thread in block.threads]
        for thread in block.threads:
            thread.value = brought
        if cuda.journal is not None:
            for warp in block.warps:
                _check_meeting(warp.threads)
            block.settle(cuda.journal)
        ready += block.threads
    if not ready and kinds != {"end"}:
        raise _stuck(block)
    return ready


def _check_meeting(threads: list[_Thread]) -> None:
    """Raises BarrierError if a warp's threads wait at different lines: on a GPU they must reach a barrier together."""
    if len({thread.location() for thread in threads}) > 1:
        raise _stuck(cuda.block)


def _stuck(block: _Block) -> BarrierError:
    """Returns the error for a block with threads that cannot continue; it names the barriers where they wait."""
    groups: dict[str, list[tuple]] = {}
    for thread in block.threads:
        if thread.waits_for == "end":
            state = "have ended"
        else:
            state = f"wait at a barrier of the {thread.waits_for} in {line_of(*thread.location())}"
        groups.setdefault(state, []).append(tuple(thread.index))
    told = [
        f"{', '.join(map(str, members[:4]))}{f' and {len(members) - 4} more' if len(members) > 4 else ''} {state}"
        for state, members in groups.items()
    ]
    return BarrierError(
        f"in block {tuple(block.index)} the threads {'; '.join(told)}: all threads of a block (of a mask) must reach the same "
        "barrier, and none may have ended"
    )


@functools.cache
def has_barriers(function: Callable) -> bool:
    """True if a function, or a function that it calls by a global name, waits for other threads."""
    names = _names(function.__code__)
    if names & _BARRIERS:
        return True
    for name in names & function.__globals__.keys():
        found = function.__globals__[name]
        called = [getattr(found, each, None) for each in names] if isinstance(found, types.ModuleType) else [found]
        if any(isinstance(f, types.FunctionType) and f is not function and has_barriers(f) for f in called):
            return True
    return False


_BARRIERS = {name for name in dir(type(cuda)) if name.startswith("sync") or name.endswith("_sync")}


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*inner)


@functools.cache
def _positions(shape: tuple[int, int, int]) -> tuple[Index, ...]:
    return tuple(Index(x, y, z) for z, y, x in itertools.product(*(range(n) for n in shape[::-1])))


def _dimensions(count: Any) -> tuple[int, int, int]:
    sizes = tuple(map(int, count)) if isinstance(count, tuple) else (int(count),)
    return (*sizes, *(1,) * (3 - len(sizes)))  # type: ignore[return-value]


def _argument(arg: Any, name: str) -> Any:
    """Returns an argument in the form that the kernel gets."""
    if isinstance(arg, np.ndarray) and cuda.journal is not None:
        return Checked(arg, name, cuda.journal)
    return np.float64(arg) if type(arg) is float else arg


def launch(function: Callable, blocks: Any, threads: Any, args: tuple) -> None:
    """Runs a kernel over a grid."""
    seed = os.environ.get("NBKERAS_SIMULATOR_SEED")
    order = random.Random(seed) if seed else None
    grid, shape = _dimensions(blocks), _dimensions(threads)
    if min(grid) < 1 or min(shape) < 1 or shape[0] * shape[1] * shape[2] > 1024 or max(grid[1:]) > 65535:
        raise ValueError(f"a launch of {grid} blocks of {shape} threads is beyond what a GPU takes")
    indices, grid_indices = _positions(shape), list(_positions(grid))
    if order is not None:
        order.shuffle(grid_indices)
    with _lock, np.errstate(all="ignore"):
        if os.environ.get("NBKERAS_SIMULATOR") == "strict":
            cuda.journal = Journal(f"{function.__module__}.{function.__name__}")
        cuda.gridDim, cuda.blockDim = Index(*grid), Index(*shape)
        args = tuple(_argument(arg, name) for arg, name in zip(args, function.__code__.co_varnames, strict=False))
        try:
            if has_barriers(function):
                for index in grid_indices:
                    _play(_Block(index, indices), function, args, order)
            else:
                _call_each(grid_indices, indices, function, args, order)
        except Exception as error:
            if not isinstance(error, BarrierError | RaceError):
                error.add_note(f"in CUDA thread {tuple(cuda.threadIdx)} of block {tuple(cuda.blockIdx)}")
            raise
        finally:
            cuda.thread = cuda.block = cuda.journal = None


def _call_each(grid_indices: list, indices: tuple, function: Callable, args: tuple, order: Any) -> None:
    """Runs a kernel without barriers: each thread runs to its end."""
    journal = cuda.journal
    for index in grid_indices:
        cuda.block, cuda.blockIdx = _Block(index, ()), index
        members = indices if order is None else order.sample(indices, len(indices))
        logs = []
        for cuda.threadIdx in members:
            if journal is not None:
                logs.append(Log())
                journal.enter(index, cuda.threadIdx, logs[-1])
            function(*args)
        if journal is not None:
            journal.meet([journal.meet(logs)], journal.grid)


# -------------------- the device --------------------


class _Memory:
    """Memory of a simulated device, at a multiple of 256 as on a real device."""

    def __init__(self, nbytes: int):
        self._bytes = np.empty(nbytes + 256, np.uint8)
        start = self._bytes.__array_interface__["data"][0]
        self.address = start + -start % 256

    def poison(self) -> None:
        """Makes the content undefined."""
        self._bytes.fill(0xFF)


class Device:
    """The simulated device, with the methods of hardware.Device."""

    processors = 2

    def __init__(self, index: int):
        if index:
            raise ValueError(f"cuda:{index} was asked for, but the simulator has one device, cuda:0")
        self.name = "the simulated GPU"
        self._total = variables.number("NBKERAS_SIMULATOR_MEMORY", 1, 1 << 50) or 8 << 30
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

    def start(self, kernel: Any, blocks: Any, threads: Any, args: tuple) -> None:
        arrays = tuple(arg.layout if isinstance(arg, DeviceArray) else arg for arg in args)
        launch(kernel.function, blocks, threads, arrays)

    stream = 1  # the legacy default stream

    def number_of(self, address: int) -> int:
        return 0

    def order(self, before: int, after: int) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def graph(self, play: Callable[[], None], gpu: Any) -> Callable[[], None]:
        return play

    def input_staging(self, buffers: list) -> "InputStaging":
        return InputStaging(self, buffers)


class InputStaging:
    """Arrays that receive the next batch, before it is copied to the device's buffers."""

    def __init__(self, device: Device, buffers: list):
        self._device, self._buffers = device, buffers
        self.arrays = [None if b is None else np.empty(b.shape, b.dtype) for b in buffers]

    def send(self) -> None:
        """Copies `arrays` to the buffers."""
        for array, buffer in zip(self.arrays, self._buffers, strict=True):
            if array is not None:
                self._device.upload(buffer.address, array)
