"""The twin of shape.py's only kernel. All other ops there use views and device.copy."""

from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.runtime.device_array import DeviceArray


def concatenate_into(out: DeviceArray, axis: int, *arrays: DeviceArray) -> None:
    """Joins the arrays along an axis."""
    start = 0
    for array in arrays:
        stop = start + array.shape[axis]
        device_cuda.copy(array, out[(slice(None),) * axis + (slice(start, stop),)])
        start = stop
