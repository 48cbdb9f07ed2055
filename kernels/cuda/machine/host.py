"""Twins of functions that run on the CPU even for a GPU's arrays: those marked `device.host`, and ufuncs without CUDA kernel."""

from collections.abc import Callable
from typing import Any

from nbkeras.kernels.runtime.device_array import DeviceArray


def on_copies(function: Callable) -> Callable:
    """Returns a twin that runs on copies of a GPU's arrays and copies the changed ones back. It waits for the GPU."""

    def twin(*args: Any) -> None:
        before = [arg.copy() if isinstance(arg, DeviceArray) else None for arg in args]
        after = [arg if copy is None else copy.copy() for arg, copy in zip(args, before, strict=True)]
        function(*after)
        for arg, old, new in zip(args, before, after, strict=True):
            if old is not None and old.tobytes() != new.tobytes():
                arg.gpu.write(arg, new)

    twin.__name__, twin.on_host = function.__name__, True  # type: ignore[attr-defined]
    return twin
