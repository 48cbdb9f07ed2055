"""Twins of what runs on the CPU all the same: kernels marked `device.host`, and NumPy's ufuncs that have no CUDA kernel."""

from collections.abc import Callable
from typing import Any

from nbkeras.kernels.device_array import DeviceArray


def on_copies(function: Callable) -> Callable:
    """The function, given copies of a GPU's arrays; those that it changed are copied back. It waits for the GPU."""

    def twin(*args: Any) -> None:
        before = [arg.copy() if isinstance(arg, DeviceArray) else None for arg in args]
        after = [arg if copy is None else copy.copy() for arg, copy in zip(args, before, strict=True)]
        function(*after)
        for arg, old, new in zip(args, before, after, strict=True):
            if old is not None and old.tobytes() != new.tobytes():
                arg.gpu.write(arg, new)

    twin.__name__, twin.on_host = function.__name__, True  # type: ignore[attr-defined]
    return twin
