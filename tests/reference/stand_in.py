"""Stand-ins for `cuda.bindings.driver` and for the parts of numba-cuda that nbkeras uses, on the CPU's memory.

What is queued on a stream runs when something waits for it (order "late"), at once ("early"), or, with a number for order, some
of it now and then at random: in any order that events allow. So a missing wait shows as wrong numbers or as a fault. Arguments of
a wrong kind are AssertionErrors; a call that a driver would refuse fails with the driver's code.
"""

import contextlib
import enum
import functools
import importlib.util
import os
import random
import sys
import threading
import types
from collections import deque
from pathlib import Path

import numba
import numpy as np

import nbkeras.kernels
from nbkeras.kernels.runtime.device_array import layout_at

HARDWARE = Path(nbkeras.kernels.__file__).parent / "cuda/machine/hardware.py"


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstream(int):
    pass


class CUevent(int):
    pass


class CUdeviceptr(int):
    pass


class CUgraph(int):
    pass


class CUgraphExec(int):
    pass


CUstream_flags = enum.IntEnum("CUstream_flags", {"CU_STREAM_DEFAULT": 0, "CU_STREAM_NON_BLOCKING": 1})
CUevent_flags = enum.IntEnum("CUevent_flags", {"CU_EVENT_DEFAULT": 0, "CU_EVENT_DISABLE_TIMING": 2})
CUpointer_attribute = enum.IntEnum("CUpointer_attribute", {"CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL": 9})
CUstreamCaptureMode = enum.IntEnum(
    "CUstreamCaptureMode",
    {"CU_STREAM_CAPTURE_MODE_GLOBAL": 0, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": 1, "CU_STREAM_CAPTURE_MODE_RELAXED": 2},
)

OK = CUresult.CUDA_SUCCESS
INTEGER = int | np.integer


class Fault(Exception):
    """An error of the device while work runs, by its code."""


class Stream:
    def __init__(self):
        self.work = deque()  # functions, or (stream, count): wait until that stream has run so many
        self.done = self.given = 0
        self.captured = None  # work, while a capture goes on
        self.invalid = False


def call(*kinds, values=0, anywhere=False):
    """Decorator of a driver's function: the kinds of its arguments, how many values it returns, whether it needs no context."""

    def decorate(method):
        @functools.wraps(method)
        def checked(self, *args):
            name = method.__name__
            assert len(args) == len(kinds), f"{name} takes {len(kinds)} arguments, received {args}"
            for arg, kind in zip(args, kinds, strict=True):
                assert isinstance(arg, kind), f"{name} was given {arg!r}, expected {kind}"
            self.calls.append(name)
            code = self.broken or self.failures.pop(name, OK)
            if code == OK and not anywhere and self.numba.index is None:
                code = CUresult.CUDA_ERROR_INVALID_CONTEXT
            if code == OK:
                result = method(self, *args)
                if not isinstance(result, CUresult):
                    self.advance()
                    return (OK, *result) if isinstance(result, tuple) else (OK, *[result] * values)
                code = result
            return code, *[None] * values

        checked.kinds, checked.values = kinds, values
        return checked

    return decorate


class Driver(types.ModuleType):
    CUresult, CUstream, CUevent, CUdeviceptr = CUresult, CUstream, CUevent, CUdeviceptr
    CUstream_flags, CUevent_flags, CUstreamCaptureMode = CUstream_flags, CUevent_flags, CUstreamCaptureMode
    CUpointer_attribute = CUpointer_attribute

    def __init__(self, nbytes=1 << 24, order="late"):
        super().__init__("cuda.bindings.driver")
        self.total, self.order = nbytes, order
        self.random = random.Random(order) if isinstance(order, int) else None
        self.calls = []  # names
        self.failures = {}  # what the next call of a name returns
        self.broken = None  # the result of all calls after work has failed
        self.streams, self.events, self.graphs, self.executables = {1: Stream(), 2: Stream()}, {}, {}, {}
        self.memory, self.pinned = {}, {}  # arrays of bytes by their addresses
        self.numba = Numba(self)
        self._number = 100

    # Work

    def give(self, stream, work):
        """Queue work on a stream, or in what it captures."""
        if stream.captured is not None:
            stream.captured.append(work)
        else:
            stream.work.append(work)
            stream.given += 1

    def advance(self):
        """Do work that a device may do by itself between two calls."""
        if self.order == "early":
            for stream in list(self.streams.values()):
                self.run(stream, stream.given)
        elif self.random is not None:
            while self.random.random() < 0.6:
                ready = [s for s in self.streams.values() if s.work and self.may_go_on(s)]
                if ready:
                    stream = self.random.choice(ready)
                    self.run(stream, stream.done + 1)

    @staticmethod
    def may_go_on(stream):
        work = stream.work[0]
        return callable(work) or work[0].done >= work[1]

    def run(self, stream, count):
        """Run a stream until it has done the given number of its functions."""
        while stream.done < count and not self.broken:
            work = stream.work.popleft()
            stream.done += 1
            try:
                work() if callable(work) else self.run(*work)
            except Fault as fault:
                (self.broken,) = fault.args

    def finish(self, stream):
        self.run(stream, stream.given)
        return self.broken or ()

    def bytes_at(self, address, nbytes, of=None):
        """Memory that is allocated, of the device or page-locked."""
        for start, array in (self.memory if of is None else of).items():
            if start <= address and address + nbytes <= start + array.size:
                return array[address - start : address - start + nbytes]
        raise Fault(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)

    def handle(self, kind, table, value):
        self._number += 1
        handle = kind(self._number)
        table[handle] = value
        return handle

    def known(self, table, *handles):
        return all(int(handle) in table for handle in handles)

    # Memory

    @call(INTEGER, values=1)
    def cuMemAlloc(self, nbytes):
        if nbytes < 1:
            return CUresult.CUDA_ERROR_INVALID_VALUE
        if sum(array.size for array in self.memory.values()) + nbytes > self.total:
            return CUresult.CUDA_ERROR_OUT_OF_MEMORY
        return (CUdeviceptr(self._made(self.memory, nbytes)),)

    def _made(self, table, nbytes):
        room = np.full(nbytes + 512, 0xFF, np.uint8)
        skipped = -room.__array_interface__["data"][0] % 512
        array = room[skipped : skipped + nbytes]
        address = array.__array_interface__["data"][0]
        table[address] = array
        return address

    @call(INTEGER)
    def cuMemFree(self, address):
        if address not in self.memory:
            return CUresult.CUDA_ERROR_INVALID_VALUE
        self.memory.pop(address).fill(0xEE)
        return ()

    @call(values=2)
    def cuMemGetInfo(self):
        return self.total - sum(array.size for array in self.memory.values()), self.total

    @call(INTEGER, INTEGER, values=1)
    def cuMemHostAlloc(self, nbytes, flags):
        return (self._made(self.pinned, nbytes),)

    @call(INTEGER)
    def cuMemFreeHost(self, address):
        if address not in self.pinned:
            return CUresult.CUDA_ERROR_INVALID_VALUE
        self.pinned.pop(address).fill(0xEE)
        return ()

    @call(CUpointer_attribute, INTEGER, values=1)
    def cuPointerGetAttribute(self, attribute, address):
        return (0,)

    # Copies

    @call(INTEGER, INTEGER, INTEGER, INTEGER)
    def cuMemcpyHtoDAsync(self, target, source, nbytes, stream):
        def work():
            try:
                data = self.bytes_at(source, nbytes, self.pinned)
            except Fault:
                data = np.frombuffer(self._of_process(source, nbytes), np.uint8)
            self.bytes_at(target, nbytes)[:] = data

        return self._copy(stream, work)

    @staticmethod
    def _of_process(address, nbytes):
        """Bytes of this process; a fault if that memory is no longer the process's."""
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            return os.pread(memory, nbytes, address)
        except OSError:
            raise Fault(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS) from None
        finally:
            os.close(memory)

    @call(INTEGER, INTEGER, INTEGER, INTEGER)
    def cuMemcpyDtoHAsync(self, target, source, nbytes, stream):
        """Memory that is not page-locked is written before the call returns."""

        def work():
            (np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * nbytes).from_address(target)))[:] = self.bytes_at(
                source, nbytes
            )

        self._copy(stream, work)
        return self.finish(self.streams[stream])

    @call(INTEGER, INTEGER, INTEGER, INTEGER)
    def cuMemcpyDtoDAsync(self, target, source, nbytes, stream):
        def work():
            self.bytes_at(target, nbytes)[:] = self.bytes_at(source, nbytes)

        return self._copy(stream, work)

    def _copy(self, stream, work):
        if not self.known(self.streams, stream):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        self.give(self.streams[stream], work)
        return ()

    # Streams and events

    @call(INTEGER, values=1)
    def cuStreamCreate(self, flags):
        assert flags == CUstream_flags.CU_STREAM_NON_BLOCKING
        return (self.handle(CUstream, self.streams, Stream()),)

    @call(INTEGER)
    def cuStreamDestroy(self, stream):
        return () if self.streams.pop(stream, None) else CUresult.CUDA_ERROR_INVALID_HANDLE

    @call(INTEGER)
    def cuStreamSynchronize(self, stream):
        if not self.known(self.streams, stream):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if self.streams[stream].captured is not None:
            self.streams[stream].invalid = True
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        return self.finish(self.streams[stream])

    @call(INTEGER, values=1)
    def cuEventCreate(self, flags):
        return (self.handle(CUevent, self.events, None),)

    @call(INTEGER, anywhere=True)
    def cuEventDestroy(self, event):
        if not self.known(self.events, event):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        del self.events[event]
        return ()

    @call(INTEGER, INTEGER)
    def cuEventRecord(self, event, stream):
        if not (self.known(self.events, event) and self.known(self.streams, stream)):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        self.events[event] = self.streams[stream], self.streams[stream].given
        return ()

    @call(INTEGER, INTEGER, INTEGER)
    def cuStreamWaitEvent(self, stream, event, flags):
        if not (self.known(self.events, event) and self.known(self.streams, stream)):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if self.events[event] is not None:
            self.give(self.streams[stream], self.events[event])
        return ()

    @call(INTEGER)
    def cuEventSynchronize(self, event):
        if not self.known(self.events, event):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if self.events[event] is not None:
            self.run(*self.events[event])
        return self.broken or ()

    # Graphs

    @call(INTEGER, CUstreamCaptureMode)
    def cuStreamBeginCapture(self, stream, mode):
        """Relaxed only: memory may be allocated meanwhile."""
        assert mode == CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        if not self.known(self.streams, stream) or self.streams[stream].captured is not None:
            return CUresult.CUDA_ERROR_INVALID_VALUE
        self.streams[stream].captured = []
        return ()

    @call(INTEGER, values=1)
    def cuStreamEndCapture(self, stream):
        if not self.known(self.streams, stream) or self.streams[stream].captured is None:
            return CUresult.CUDA_ERROR_INVALID_VALUE
        work, self.streams[stream].captured = self.streams[stream].captured, None
        if self.streams[stream].invalid:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        return (self.handle(CUgraph, self.graphs, work),)

    @call(CUgraph, INTEGER, values=1)
    def cuGraphInstantiate(self, graph, flags):
        if not self.known(self.graphs, graph):
            return CUresult.CUDA_ERROR_INVALID_VALUE
        return (self.handle(CUgraphExec, self.executables, self.graphs[graph]),)

    @call(CUgraph, anywhere=True)
    def cuGraphDestroy(self, graph):
        return () if self.graphs.pop(graph, None) is not None else CUresult.CUDA_ERROR_INVALID_VALUE

    @call(CUgraphExec, INTEGER)
    def cuGraphLaunch(self, executable, stream):
        if not (self.known(self.executables, executable) and self.known(self.streams, stream)):
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        for work in self.executables[executable]:
            self.give(self.streams[stream], work)
        return ()

    @call(CUgraphExec, anywhere=True)
    def cuGraphExecDestroy(self, executable):
        return () if self.executables.pop(executable, None) is not None else CUresult.CUDA_ERROR_INVALID_VALUE

    def cuGetErrorString(self, code):
        return OK, code.name.removeprefix("CUDA_ERROR_").replace("_", " ").lower().encode()


FUNCTIONS = {name: member for name, member in vars(Driver).items() if name.startswith("cu")}


class Numba(threading.local):
    """numba-cuda: which device's context is current in this thread, and its modules."""

    index = None

    def __init__(self, driver):
        self.driver = driver

    def select_device(self, index):
        if index != 0:
            raise RuntimeError(f"no device {index}")
        self.index = index

    def modules(self):
        cuda = types.ModuleType("numba.cuda")
        cuda.select_device = lambda index: self.select_device(index)
        cuda.get_current_device = lambda: types.SimpleNamespace(name=b"stand-in", MULTIPROCESSOR_COUNT=2)
        cuda.current_context = lambda: "context"
        cuda.external_stream = external_stream
        cuda.gpus = [None]
        config = types.ModuleType("numba.cuda.core.config")
        return {
            "cuda": module("cuda"),
            "cuda.bindings": module("cuda.bindings", driver=self.driver),
            "cuda.bindings.driver": self.driver,
            "numba.cuda": cuda,
            "numba.cuda.core": module("numba.cuda.core", config=config),
            "numba.cuda.core.config": config,
            "numba.cuda.cudadrv": module("numba.cuda.cudadrv"),
            "numba.cuda.cudadrv.devicearray": module("devicearray", DeviceNDArray=DeviceNDArray),
            "numba.cuda.cudadrv.driver": module("driver", MemoryPointer=MemoryPointer),
        }


def module(name, **members):
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


def external_stream(ptr):
    assert type(ptr) is int
    return types.SimpleNamespace(handle=ptr)


class MemoryPointer:
    def __init__(self, context, pointer, size, owner=None, finalizer=None):
        assert context == "context" and isinstance(pointer, CUdeviceptr) and isinstance(size, INTEGER)
        self.pointer, self.size, self.owner = pointer, size, owner


class DeviceNDArray:
    def __init__(self, shape, strides, dtype, stream=0, gpu_data=None):
        assert isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)
        assert isinstance(gpu_data, MemoryPointer)
        self.shape, self.strides, self.dtype, self.gpu_data = shape, strides, np.dtype(dtype), gpu_data


class Compiled:
    """Numba's dispatcher of a kernel: `function` computes it from NumPy arrays over the stand-in's memory."""

    def __init__(self, driver, function):
        self.driver, self.function = driver, function

    def __getitem__(self, configuration):
        blocks, threads, stream = configuration
        given = self.driver.streams[stream.handle]
        if np.prod(threads) > 1024:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE")

        def launch(*args):
            assert self.driver.numba.index is not None, "no context is current in this thread"
            self.driver.give(given, lambda: self.function(blocks, threads, *map(self._seen, args)))
            self.driver.advance()

        return launch

    def _seen(self, arg):
        if not isinstance(arg, DeviceNDArray):
            assert isinstance(arg, int | float | np.generic | tuple), f"a kernel was given {arg!r}"
            return arg
        layout = layout_at(int(arg.gpu_data.pointer), arg.shape, arg.dtype, arg.strides)
        if layout.size:
            low, high = np.lib.array_utils.byte_bounds(layout)
            self.driver.bytes_at(low, high - low)
        return layout


class Kernel:
    """A function of NumPy arrays in a kernel's place, which a twin starts."""

    def __init__(self, driver, function):
        self.compiled = Compiled(driver, lambda blocks, threads, *args: function(*args))
        self.__name__, self.__module__ = function.__name__, function.__module__


@contextlib.contextmanager
def loaded(driver):
    """cuda/machine/hardware.py on a driver."""
    modules = driver.numba.modules()
    kept = {name: sys.modules.get(name) for name in modules}
    real = getattr(numba, "cuda", None)
    sys.modules.update(modules)
    numba.cuda = modules["numba.cuda"]
    try:
        spec = importlib.util.spec_from_file_location("cuda_hardware_on_a_stand_in", HARDWARE)
        hardware = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(hardware)
    finally:
        for name, before in kept.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
        if real is None:
            del numba.cuda
        else:
            numba.cuda = real
    yield hardware
