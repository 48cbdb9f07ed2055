"""A GPU through NVIDIA's driver API: memory, copies, streams, CUDA graphs. Kernels are compiled and launched by Numba.

All work of a device goes to one stream; copies of the next batches go to a second one. The driver reports a kernel's error later.
With NBKERAS_SYNCHRONOUS=1 each launch waits for its kernel, so that the message names the right one.
"""

import ctypes
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver
from numba import cuda
from numba.cuda.core import config
from numba.cuda.cudadrv.devicearray import DeviceNDArray
from numba.cuda.cudadrv.driver import MemoryPointer

from nbkeras.kernels.runtime.device_array import DeviceArray

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small networks do not fill a GPU; this needs no warning
_SYNCHRONOUS = os.environ.get("NBKERAS_SYNCHRONOUS", "0") not in ("0", "")
_OUT_OF_MEMORY = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
_LARGE = 256 << 10  # for arrays of this many bytes, waiting for an upload costs less than a copy of the array
_MAX_SENT = 128  # most copies of smaller arrays that are kept during uploads


class GpuError(RuntimeError):
    """The driver refused a call, or a kernel failed."""


class _Thread(threading.local):
    index: int | None = None  # of the device whose context is current in this thread
    stream: Any = None  # the stream of a running capture


_thread = _Thread()


def _call(function: Callable, *args: Any) -> Any:
    """Returns the result of a driver call. Raises GpuError if the call fails."""
    code, *values = function(*args)
    if code != driver.CUresult.CUDA_SUCCESS:
        raise GpuError(f"{function.__name__} failed: {_explain(code)}")
    return values[0] if len(values) == 1 else tuple(values)


def _explain(code: Any) -> str:
    _, text = driver.cuGetErrorString(code)
    return f"{text.decode() if text else code} ({getattr(code, 'name', code)})"


def _address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class _Memory:
    """Device memory at an address."""

    __slots__ = ("address",)

    def __init__(self, address: int):
        self.address = address


class Device:
    """One GPU of this process."""

    def __init__(self, index: int):
        self.index = index
        self._last = "no kernel yet"  # the kernel queued last, for messages
        self._enter()
        gpu = cuda.get_current_device()
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        self.name = f"cuda:{index} ({name})"
        self.processors = gpu.MULTIPROCESSOR_COUNT
        self._context = cuda.current_context()
        flag = driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value
        self._stream, self._copies = _call(driver.cuStreamCreate, flag), _call(driver.cuStreamCreate, flag)
        self._sent: list[np.ndarray] = []  # arrays that uploads may still be reading
        self._lock = threading.Lock()

    @staticmethod
    def count() -> int:
        return len(cuda.gpus)

    def _enter(self) -> None:
        """Makes the device's context current in this thread."""
        if _thread.index != self.index:
            cuda.select_device(self.index)
            _thread.index = self.index

    def _queue(self) -> Any:
        """The stream of this thread's work."""
        return self._stream if _thread.stream is None else _thread.stream

    # Memory

    def allocate(self, nbytes: int) -> _Memory | None:
        """Returns memory, or None if the device has no room."""
        self._enter()
        code, pointer = driver.cuMemAlloc(nbytes)
        if code == _OUT_OF_MEMORY:
            return None
        if code != driver.CUresult.CUDA_SUCCESS:
            raise GpuError(f"cuMemAlloc of {nbytes:,} bytes failed: {_explain(code)}; {self._where()}")
        return _Memory(int(pointer))

    def free(self, memory: _Memory) -> None:
        self._enter()
        _call(driver.cuMemFree, memory.address)

    def memory(self) -> tuple[int, int]:
        """Returns the free bytes and the total bytes."""
        self._enter()
        free, total = _call(driver.cuMemGetInfo)
        return int(free), int(total)

    # Copies, in stream order

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copies from the CPU; returns when the array may change. Never captured: a graph would read the CPU's memory later."""
        self._enter()
        passing = array.nbytes < _LARGE
        with self._lock:  # when the call returns, the driver may not have read the array yet
            source = array.copy() if passing else array
            self._sent.append(source)
            _call(driver.cuMemcpyHtoDAsync, address, _address_of(source), source.nbytes, self._stream)
        if not passing or len(self._sent) > _MAX_SENT:
            self.synchronize()

    def download(self, array: np.ndarray, address: int) -> None:
        """Copies to the CPU, after all queued work."""
        self._enter()
        self._finish(driver.cuMemcpyDtoHAsync, _address_of(array), address, array.nbytes, self._stream)
        self.synchronize()

    def move(self, source: int, target: int, nbytes: int) -> None:
        self._enter()
        _call(driver.cuMemcpyDtoDAsync, target, source, nbytes, self._queue())

    def synchronize(self) -> None:
        """Waits for all queued work. Raises GpuError if a kernel failed."""
        self._enter()
        with self._lock:
            sent, self._sent = self._sent, []
        self._finish(driver.cuStreamSynchronize, self._stream)
        sent.clear()  # the uploads have read them by now

    @property
    def stream(self) -> int:
        """The handle of this thread's stream. Makes the device current in this thread."""
        self._enter()
        return int(self._queue())

    def number_of(self, address: int) -> int:
        """Returns the index of the GPU that an address belongs to."""
        self._enter()
        attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(_call(driver.cuPointerGetAttribute, attribute, address))

    def order(self, before: int, after: int) -> None:
        """Lets future work on stream `after` wait for the work that is queued so far on `before`."""
        self._enter()
        event = _call(driver.cuEventCreate, driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value)
        try:
            _call(driver.cuEventRecord, event, before)
            _call(driver.cuStreamWaitEvent, after, event, 0)
        finally:
            driver.cuEventDestroy(event)

    def _finish(self, function: Callable, *args: Any) -> None:
        (code, *_) = function(*args)
        if code != driver.CUresult.CUDA_SUCCESS:
            raise GpuError(f"a computation on {self.name} failed: {_explain(code)}; {self._where()}")

    def _where(self) -> str:
        if _SYNCHRONOUS:
            return f"the kernel {self._last} was the last to run"
        return (
            f"the last kernel queued was {self._last}, but an earlier one may be the cause: run again with "
            "NBKERAS_SYNCHRONOUS=1 to find it. The GPU is usable again in a new process"
        )

    # Kernels

    def _handle(self, array: DeviceArray) -> Any:
        """Returns the array in the form that Numba's kernels take."""
        if array.handle is None:
            pointer = MemoryPointer(self._context, driver.CUdeviceptr(array.address), array.nbytes, owner=array.memory)
            array.handle = DeviceNDArray(array.shape, array.strides, array.dtype, gpu_data=pointer)
        return array.handle

    def start(self, kernel: Any, blocks: Any, threads: Any, args: tuple) -> None:
        """Queues a kernel."""
        self._enter()
        self._last = f"{kernel.__module__}.{kernel.__name__}"
        stream = cuda.external_stream(int(self._queue()))
        try:
            kernel.compiled[blocks, threads, stream](
                *(self._handle(arg) if isinstance(arg, DeviceArray) else arg for arg in args)
            )
        except Exception as error:  # Numba, cuda.core and the driver raise errors of many types
            raise GpuError(
                f"the kernel {self._last} could not be started with {blocks} blocks of {threads} threads on {self.name}: "
                f"{error}"
            ) from error
        if _SYNCHRONOUS and _thread.stream is None:
            self.synchronize()

    # Programs

    def graph(self, play: Callable[[], None], gpu: Any) -> Callable[[], None]:
        """Returns a function that replays launches. Its first call captures them; later calls run one CUDA graph."""
        return _Graph(self, play, gpu).run

    def capture(self, play: Callable[[], None]) -> Any:
        """Captures the launches of `play` as an executable graph, without running them."""
        self._enter()
        stream, graph = _call(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value), None
        try:
            _call(driver.cuStreamBeginCapture, stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
            _thread.stream = stream
            try:
                play()
            finally:
                _thread.stream = None
                code, graph = driver.cuStreamEndCapture(stream)
            if code != driver.CUresult.CUDA_SUCCESS:
                raise GpuError(f"the program could not be captured: {_explain(code)}")
            return _call(driver.cuGraphInstantiate, graph, 0)
        finally:
            driver.cuStreamDestroy(stream)
            if graph is not None:
                driver.cuGraphDestroy(graph)

    def launch_graph(self, graph: Any) -> None:
        self._enter()
        self._last = "one of a recorded program"
        _call(driver.cuGraphLaunch, graph, self._stream)

    def input_staging(self, buffers: list) -> "InputStaging":
        return InputStaging(self, buffers)


class _Graph:
    """A program that runs as a graph, or launch by launch if it cannot be captured."""

    def __init__(self, device: Device, play: Callable[[], None], gpu: Any):
        self._device, self._play, self._gpu, self._captured, self._plain = device, play, gpu, None, False
        self._held: dict = {}

    def run(self) -> None:
        if self._captured is None and not self._plain:
            try:
                with self._gpu.scratch_of_its_own() as self._held:
                    self._captured = self._device.capture(self._play)
            except GpuError as error:
                self._plain = True
                warnings.warn(f"{error}: its kernels are launched one by one", RuntimeWarning, stacklevel=2)
        if self._captured is None:
            self._play()
        else:
            self._device.launch_graph(self._captured)

    def __del__(self) -> None:
        if getattr(self, "_captured", None) is not None:
            driver.cuGraphExecDestroy(self._captured)


class _Pinned:
    """Page-locked CPU memory, which the GPU reads without the CPU."""

    def __init__(self, nbytes: int):
        self._address = int(_call(driver.cuMemHostAlloc, max(nbytes, 1), 0))
        room = (ctypes.c_uint8 * max(nbytes, 1)).from_address(self._address)
        self.bytes = np.ctypeslib.as_array(room)

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            driver.cuMemFreeHost(self._address)


class _Slot:
    """Memory for one batch: pinned arrays, their copies on the device, and events."""

    def __init__(self, device: Device, buffers: list):
        self._device = device
        flag = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value
        self.filled, self.emptied = _call(driver.cuEventCreate, flag), _call(driver.cuEventCreate, flag)
        self._pinned = [None if b is None else _Pinned(b.nbytes) for b in buffers]
        self.staged: list[Any] = [None if b is None else b.gpu.empty(b.shape, b.dtype) for b in buffers]
        self.arrays = [
            None if b is None else p.bytes[: b.nbytes].view(b.dtype).reshape(b.shape)  # type: ignore[union-attr]
            for b, p in zip(buffers, self._pinned, strict=True)
        ]

    def __del__(self) -> None:
        if hasattr(self, "emptied"):
            self._device._enter()  # because any thread may delete a slot
            # wait for the copy of the batch from page-locked memory, which is freed next
            driver.cuEventSynchronize(self.filled)
            driver.cuEventDestroy(self.filled)
            driver.cuEventDestroy(self.emptied)


class InputStaging:
    """Arrays that receive the next batch for a program's input buffers.

    Two slots take turns. While a step runs, the next batch is written to pinned memory, and the second stream copies it to the
    device. Then the first stream copies it, within the device, into the input buffers.
    """

    def __init__(self, device: Device, buffers: list):
        self._device, self._buffers = device, buffers
        device.synchronize()  # another stream will write into the slots' memory, so its earlier uses must be finished
        self._slots, self._turn = [_Slot(device, buffers), _Slot(device, buffers)], 0

    @property
    def arrays(self) -> list:
        """Returns CPU arrays for the next batch. Waits until the batch before last was copied from them."""
        self._device._enter()
        slot = self._slots[self._turn]
        _call(driver.cuEventSynchronize, slot.filled)
        return slot.arrays

    def send(self) -> None:
        """Queues the copies of the batch to the buffers."""
        device, slot = self._device, self._slots[self._turn]
        device._enter()
        self._turn = 1 - self._turn
        _call(driver.cuStreamWaitEvent, device._copies, slot.emptied, 0)
        for array, staged in zip(slot.arrays, slot.staged, strict=True):
            if array is not None and array.nbytes:
                _call(driver.cuMemcpyHtoDAsync, staged.address, _address_of(array), array.nbytes, device._copies)
        _call(driver.cuEventRecord, slot.filled, device._copies)
        _call(driver.cuStreamWaitEvent, device._stream, slot.filled, 0)
        for staged, buffer in zip(slot.staged, self._buffers, strict=True):
            if staged is not None and staged.nbytes:
                device.move(staged.address, buffer.address, staged.nbytes)
        _call(driver.cuEventRecord, slot.emptied, device._stream)
