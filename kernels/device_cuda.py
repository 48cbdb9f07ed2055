"""The twins of device.py's copy, fill, add and subtract."""

import numpy as np

from nbkeras.kernels import elementwise_cuda
from nbkeras.kernels.device_array import DeviceArray


def copy(source: DeviceArray | np.ndarray, target: DeviceArray) -> None:
    """target[...] = source, any strides, with a cast where dtypes differ; source may be in the CPU's memory."""
    if isinstance(source, np.ndarray):
        target.place.write(target, source)
    elif (
        source.dtype == target.dtype
        and source.flags.c_contiguous
        and target.flags.c_contiguous
        and source.shape == target.shape
    ):
        target.place.move(source, target)
    else:
        elementwise_cuda.assign(source, target)


def fill(target: DeviceArray, value) -> None:
    """target[...] = value."""
    elementwise_cuda.assign(target.dtype.type(value), target)


def add(x: DeviceArray, y: DeviceArray, out: DeviceArray) -> None:
    """out = x + y, broadcasting; out may be x."""
    elementwise_cuda.of_ufunc(np.add)(x, y, out)


add.fuses_as = "add"  # type: ignore[attr-defined]


def subtract(x: DeviceArray, y: DeviceArray, out: DeviceArray) -> None:
    """out = x - y, broadcasting; out may be x."""
    elementwise_cuda.of_ufunc(np.subtract)(x, y, out)


subtract.fuses_as = "subtract"  # type: ignore[attr-defined]
