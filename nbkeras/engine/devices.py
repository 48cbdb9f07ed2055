"""Floor 1: the device for arrays and kernels: 'cpu', 'cuda' or 'cuda:1'."""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import install
from nbkeras.kernels.runtime import cublas
from nbkeras.kernels.runtime import device as device_kernels

_NAME = re.compile(r"cpu(?::0)?|(?:cuda|gpu)(?::(\d+))?", re.IGNORECASE)
_INSTALL = f"{install('cuda')} (CUDA 13; for older drivers {install('cuda12')})"


class DeviceError(RuntimeError):
    """The requested device is not available. The message says what is missing and how to install it.

    Example:
        >>> try:
        ...     keras.config.set_device("cuda:99")
        ... except keras.DeviceError:
        ...     print(keras.config.get_device())
        cpu
    """


def gpu_named(name: str) -> Any:
    """Returns the Gpu for a device's name; None for the CPU."""
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"a device is 'cpu', 'cuda' or 'cuda:<number>', received {briefly(name)}")
    if name.lower().startswith("cpu"):
        return None
    gpus = _load(name)
    index = int(found[1] or 0)
    count = gpus.count()
    if index >= count:
        raise DeviceError(
            f"device {name!r} does not exist: there {'is 1 GPU' if count == 1 else f'are {count} GPUs'}. "
            f"Use 'cuda:0' to 'cuda:{count - 1}'"
        )
    return gpus.get(index)


def _load(name: str) -> Any:
    """Returns the module nbkeras.kernels.cuda.machine.gpu. Raises a DeviceError that says what is missing."""
    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("0", "")
    missing = None
    try:
        cuda = importlib.import_module("numba.cuda")
        if not simulated:
            importlib.import_module("numba_cuda")
    except ImportError as error:
        missing = f"{error.name or 'numba-cuda'} is not installed. Install it: {_INSTALL}"
    else:
        if not simulated and not cuda.is_available():
            missing = f"no NVIDIA GPU was found ({_reason(cuda)})"
    if missing:
        raise DeviceError(f"device {name!r} cannot be used: {missing}. Everything runs on the CPU with device 'cpu'.")
    return importlib.import_module("nbkeras.kernels.cuda.machine.gpu")


def _reason(cuda: Any) -> str:
    error = cuda.cuda_error()
    return " ".join(str(error).split()) if error else "the driver reports none"


def set_device(name: str) -> None:
    """Make arrays and run kernels on a device from now on, in all threads.

    A model stays on the device that it was made on. The environment variable NBKERAS_DEVICE sets the initial
    device.

    Args:
        name: 'cpu', 'cuda' (the first GPU) or 'cuda:<number>'; 'gpu' means 'cuda'.

    Raises:
        DeviceError: if the device is not available.
        ValueError: for an invalid name.

    Example:
        >>> keras.config.set_device("cpu")
        >>> keras.config.get_device()
        'cpu'
    """
    device_kernels.set_gpu(gpu_named(name))


def get_device() -> str:
    """The name of the device that this thread uses.

    Returns:
        'cpu' or 'cuda:<number>'.

    Example:
        >>> keras.config.get_device()
        'cpu'
    """
    gpu = device_kernels.gpu()
    return "cpu" if gpu is None else gpu.name


@contextlib.contextmanager
def device(device_name: str) -> Iterator[None]:
    """Make arrays and run kernels on a device in a `with` block, in this thread.

    Args:
        device_name: 'cpu', 'cuda' or 'cuda:<number>', as for `config.set_device`, with the same errors.

    Returns:
        A context manager.

    Example:
        >>> with keras.device("cpu"):
        ...     y = ops.add([1.0], [2.0])
        >>> y.numpy()
        array([3.], dtype=float32)
    """
    with device_kernels.on(gpu_named(device_name)):
        yield


def synchronize() -> None:
    """Wait until the GPU has finished its work. On the CPU it returns immediately."""
    gpu = device_kernels.gpu()
    if gpu is not None:
        gpu.synchronize()


def set_matmul(name: str) -> None:
    """Choose the kernels that multiply matrices on GPUs from now on. It has no effect on the CPU.

    The environment variable NBKERAS_MATMUL sets the initial choice.

    Args:
        name: 'own' for nbkeras's kernels, or 'cublas' for NVIDIA's (pip install nvmath-python[cu13]).

    Raises:
        DeviceError: for 'cublas' if its package is not installed.
        ValueError: for an invalid name.

    Example:
        >>> keras.config.set_matmul("own")
    """
    if name not in ("own", "cublas"):
        raise ValueError(f"matrix products are 'own' or 'cublas', received {briefly(name)}")
    try:
        cublas.choose(name == "cublas")
    except ImportError as error:
        raise DeviceError(
            f"cuBLAS was requested, but {error.name or 'nvmath-python'} is not installed. Install it: {install('cublas')}; "
            "set_matmul('own') needs no package"
        ) from error
    settings.values.matmul = name


if os.environ.get("NBKERAS_MATMUL"):
    set_matmul(os.environ["NBKERAS_MATMUL"])
if os.environ.get("NBKERAS_DEVICE"):
    set_device(os.environ["NBKERAS_DEVICE"])
