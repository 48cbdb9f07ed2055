"""Floor 1: exchanging arrays with other libraries, without a copy if both sides use the same device.

The protocols are `__dlpack__` (DLPack 1.x and earlier) and `__cuda_array_interface__` (version 3). NumPy makes and reads the
capsules, also for arrays on a GPU: it works on a layout (see device_array.py), and this module then sets the device in the
capsule.
"""

import ctypes
from typing import Any

import numpy as np

from nbkeras.engine import devices
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.temporary import temporarily
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray, layout_at

Array = np.ndarray
_CPU, _CUDA, _CUDA_HOST = 1, 2, 3  # DLDeviceType
_COPIED = 2  # DLPACK_FLAG_BITMASK_IS_COPIED
_READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("number", ctypes.c_int32)]


class _Tensor(ctypes.Structure):
    """The first fields of DLTensor, and of DLManagedTensor."""

    _fields_ = [("data", ctypes.c_void_p), ("device", _Device)]


class _Versioned(ctypes.Structure):
    """The first fields of DLManagedTensorVersioned."""

    _fields_ = [
        ("version", ctypes.c_uint32 * 2),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))


def _opened(capsule: Any) -> tuple[_Tensor, _Versioned | None]:
    """The tensor in an unused capsule, and the structure around it since DLPack 1.0."""
    if _is_valid(capsule, b"dltensor_versioned"):
        versioned = _Versioned.from_address(_pointer_of(capsule, b"dltensor_versioned"))
        return versioned.tensor, versioned
    if _is_valid(capsule, b"dltensor"):
        return _Tensor.from_address(_pointer_of(capsule, b"dltensor")), None
    raise TypeError(f"expected a DLPack capsule that was not used before, received {briefly(capsule)}")


# -------------------- exporting our arrays --------------------


class _Lent:
    """NumPy makes an array from this object, which keeps a DeviceArray alive."""

    def __init__(self, array: DeviceArray):
        self.array = array
        self.__array_interface__ = {**array.layout.__array_interface__, "data": (array.address, False)}


def device_of(array: Any) -> tuple[int, int]:
    """The result of `__dlpack_device__`."""
    return (_CUDA, array.gpu.index) if isinstance(array, DeviceArray) else (_CPU, 0)


def export(array: Any, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
    """The result of `__dlpack__`, as in the array API standard.

    stream: the receiver's CUDA stream: 1 or None for the legacy default, 2 for the thread's default, -1 for no synchronization.
    Raises BufferError for another GPU, and for copy=False if the receiver wants the array on the CPU.
    """
    if not isinstance(array, DeviceArray):
        options = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return array.__dlpack__(**{name: value for name, value in options.items() if value is not None})
    own, target = device_of(array), None if dl_device is None else (int(dl_device[0]), int(dl_device[1]))
    if target == (_CPU, 0):
        if stream is not None:
            raise ValueError(f"a copy on the CPU has no stream, received stream={briefly(stream)}")
        if copy is False:
            raise BufferError(f"a tensor on {array.gpu} must be copied to the CPU: request it without copy=False")
        return _capsule_on(array.copy(), max_version, target, copied=True)
    if target not in (None, own):
        raise BufferError(
            f"a tensor on {array.gpu} can be exported there or to the CPU, not to the DLPack device {target}"
        )
    if stream == 0 or not (stream is None or isinstance(stream, int) and stream >= -1):
        raise ValueError(f"stream must be None, -1, 1, 2 or a stream's handle, received {briefly(stream)}")
    if copy:
        copied_array = array.gpu.empty(array.shape, array.dtype)
        with device.ordinary(), device.on(array.gpu):
            device.launch(device.copy, array, copied_array)
        array = copied_array
    if stream != -1:
        array.gpu.order(array.gpu.stream, stream or 1)
    return _capsule_on(np.asarray(_Lent(array)), max_version, own, copied=bool(copy))


def _capsule_on(layout: Array, max_version: Any, where: tuple[int, int], copied: bool) -> Any:
    """NumPy's capsule for an array, with the device replaced."""
    capsule = layout.__dlpack__(max_version=max_version)
    tensor, versioned = _opened(capsule)
    tensor.device.type, tensor.device.number = where
    if versioned is not None and copied:
        versioned.flags |= _COPIED
    return capsule


# -------------------- importing others' arrays --------------------


class _Borrowed:
    """Keeps another library's memory alive until the GPU has finished using it."""

    def __init__(self, gpu: Any, owner: Any):
        self._gpu, self._owner = gpu, owner

    def __del__(self) -> None:
        self._gpu.synchronize()  # the owner may reuse the memory as soon as it is released


def received(value: Any) -> Any:
    """Convert another library's array: to a DeviceArray if it is on this thread's GPU, else to a NumPy array.

    Values without one of the protocols, and values that NumPy understands, are returned unchanged. An array on a GPU
    that is not this thread's device is copied to the CPU. An array is copied within its GPU if it is not C-contiguous or is
    read-only. Raises TypeError for masked arrays, dtypes that NumPy does not have, and devices other than CUDA's.
    """
    if type(value) is np.ndarray:
        return value
    kind, number = _device_of(value)
    if kind == _CUDA:
        gpu = devices.gpu_named(f"cuda:{number}")
        array = _through_dlpack(value, gpu) if hasattr(value, "__dlpack__") else _through_interface(value, gpu)
        return array if gpu is device.gpu() and not device.is_dry() else array.copy()
    if kind in (None, _CPU, _CUDA_HOST):
        return value if kind is None or hasattr(value, "__array__") else np.from_dlpack(value)
    raise TypeError(
        f"a {type(value).__name__} on the DLPack device {(kind, number)} cannot be used: copy it to the CPU or a CUDA GPU first"
    )


def on_host(value: Any) -> Any:
    """Like `received`, but the result is in CPU memory."""
    taken = received(value)
    return taken.copy() if isinstance(taken, DeviceArray) else taken


def dtype_of(value: Any) -> np.dtype:
    """The dtype of the tensor that `as_tensor` would make from an array-like."""
    taken = received(value)
    return taken.dtype if isinstance(taken, DeviceArray) else array_of(taken).dtype


def _device_of(value: Any) -> tuple[int | None, int]:
    """The DLPack device of a value; (None, 0) if it supports no protocol."""
    if hasattr(value, "__dlpack_device__"):
        kind, number = value.__dlpack_device__()
        return int(kind), int(number)
    described = getattr(value, "__cuda_array_interface__", None)
    if described is None:
        return None, 0
    current = device.gpu() or devices.gpu_named("cuda")
    return _CUDA, current.number_of(described["data"][0]) if described["data"][0] else current.index


def _through_dlpack(value: Any, gpu: Any) -> DeviceArray:
    try:
        capsule = value.__dlpack__(stream=gpu.stream, max_version=(1, 0))
    except TypeError:  # the other library is older than DLPack 1.0
        capsule = value.__dlpack__(stream=gpu.stream)
    tensor, versioned = _opened(capsule)
    read_only = versioned is not None and bool(versioned.flags & _READ_ONLY)
    with temporarily(tensor.device, type=_CPU, number=0):  # as NumPy expects it
        try:
            layout = np.from_dlpack(_Capsule(capsule))
        except (BufferError, RuntimeError) as error:
            raise TypeError(f"expected numbers or booleans, received a {type(value).__name__}: {error}") from None
    return _adopted(layout, gpu, layout, read_only)


class _Capsule:
    """Wraps a capsule for np.from_dlpack."""

    def __init__(self, capsule: Any):
        self._capsule = capsule

    def __dlpack__(self, **options) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU, 0


def _through_interface(value: Any, gpu: Any) -> DeviceArray:
    described = value.__cuda_array_interface__
    if described.get("mask") is not None:
        raise TypeError(f"a masked {type(value).__name__} cannot be used: fill its missing values first")
    stream = described.get("stream")
    if stream == 0:
        raise ValueError(
            f"stream 0 in the __cuda_array_interface__ of a {type(value).__name__} is ambiguous: expected 1 or 2"
        )
    if stream is not None:
        gpu.order(stream, gpu.stream)
    address, read_only = described["data"]
    layout = layout_at(address or 0, described["shape"], described["typestr"], described.get("strides"))
    return _adopted(layout, gpu, value, read_only)


def _adopted(layout: Array, gpu: Any, owner: Any, read_only: bool) -> DeviceArray:
    """A DeviceArray that uses another library's memory, or a copy if it would not be writable and contiguous."""
    if layout.dtype.kind not in "fiub" or not layout.dtype.isnative:
        raise TypeError(f"expected numbers or booleans, received a {type(owner).__name__} with dtype {layout.dtype}")
    with device.ordinary(), device.on(gpu):
        if not layout.size:
            return device.persistent(gpu.empty(layout.shape, layout.dtype))  # type: ignore[return-value]
        address = layout.__array_interface__["data"][0]
        own = layout_at(address, layout.shape, layout.dtype, layout.strides)
        array = DeviceArray(own, gpu, _Borrowed(gpu, owner))
        if read_only or not own.flags.c_contiguous:
            contiguous = device.empty(own.shape, own.dtype)
            device.launch(device.copy, array, contiguous)
            array = contiguous
        return device.persistent(array)  # type: ignore[return-value]
