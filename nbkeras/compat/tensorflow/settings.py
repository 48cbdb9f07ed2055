"""`tf.config` and `tf.test`: what TensorFlow asks about devices, and settings that nbkeras does not need."""

from typing import Any, NamedTuple


class PhysicalDevice(NamedTuple):
    """A device by name and type."""

    name: str
    device_type: str


_CPU = (PhysicalDevice("/physical_device:CPU:0", "CPU"),)


def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """The CPU. nbkeras's own GPUs are not TensorFlow's: `nbkeras.config.set_device` chooses one."""
    return [each for each in _CPU if device_type in (None, each.device_type)]


list_logical_devices = get_visible_devices = list_physical_devices


def ignored(*args: Any, **kwargs: Any) -> None:
    """Do nothing: nbkeras has no such setting, and results do not depend on it."""


run_functions_eagerly = experimental_run_functions_eagerly = ignored
set_soft_device_placement = set_visible_devices = ignored
set_memory_growth = set_virtual_device_configuration = ignored
enable_op_determinism = enable_tensor_float_32_execution = ignored
set_inter_op_parallelism_threads = set_intra_op_parallelism_threads = set_jit = ignored

DEBUG, INFO, WARN, ERROR, FATAL = 10, 20, 30, 40, 50
set_verbosity = ignored


def is_built_with_cuda() -> bool:
    """False: there is no TensorFlow that was built with CUDA."""
    return False


def is_gpu_available(*args: Any, **kwargs: Any) -> bool:
    """False: TensorFlow's GPUs are not used."""
    return False


def gpu_device_name() -> str:
    """The empty name: TensorFlow's GPUs are not used."""
    return ""
