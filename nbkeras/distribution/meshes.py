"""Floor 3: the devices of the job, meshes of them, and layouts of tensors on a mesh, by Keras's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine import ranks
from nbkeras.engine.annotations import briefly
from nbkeras.engine.devices import get_device


class _Job:
    """The processes of this job, after `initialize`."""

    group: ranks.Group | None = None


job = _Job()


def list_devices(device_type: str | None = None) -> list[str]:
    """The devices of the job, one for each process: 'cpu:0', 'cpu:1', ...

    Args:
        device_type: 'cpu' or 'gpu'; None for the type that this process computes on. The list of another type is empty.

    Example:
        >>> len(keras.distribution.list_devices())
        1
    """
    if device_type not in (None, "cpu", "gpu", "tpu"):
        raise ValueError(f"device_type must be 'cpu', 'gpu' or None, received {briefly(device_type)}")
    kind = "cpu" if get_device() == "cpu" else "gpu"
    if device_type not in (None, kind):
        return []
    return [f"{kind}:{rank}" for rank in range(1 if job.group is None else job.group.size)]


def get_device_count(device_type: str | None = None) -> int:
    """The number of devices in `list_devices`.

    Args:
        device_type: As in `list_devices`.

    Example:
        >>> keras.distribution.get_device_count()
        1
    """
    return len(list_devices(device_type))


class DeviceMesh:
    """The devices of the job as an array with named axes.

    Args:
        shape: The number of devices along each axis.
        axis_names: The name of each axis.
        devices: The devices; None for `list_devices()`.

    Raises:
        ValueError: if the shape does not fit the names or the number of devices.

    Example:
        >>> mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"])
        >>> mesh.shape, mesh.devices.tolist()
        ((1, 1), [['cpu:0']])
    """

    def __init__(self, shape: Sequence[int], axis_names: Sequence[str], devices: Any = None):
        if not shape or len(shape) != len(axis_names):
            raise ValueError(
                "DeviceMesh needs a size and a name for each axis, received "
                f"shape={briefly(shape)} and axis_names={briefly(axis_names)}"
            )
        found = np.array(list_devices() if devices is None else devices)
        if math.prod(shape) != found.size:
            raise ValueError(
                f"DeviceMesh: shape={briefly(shape)} does not fit {found.size} devices, received {found.ravel().tolist()}: "
                "choose the number of processes by `mpiexec -n`"
            )
        self.shape, self.axis_names, self.devices = tuple(shape), tuple(axis_names), found.reshape(tuple(shape))

    def __repr__(self) -> str:
        return f"<DeviceMesh shape={self.shape}, axis_names={self.axis_names}>"


class TensorLayout:
    """The axes of a mesh along which the axes of a tensor are divided.

    Args:
        axes: The name of an axis of the mesh for each axis of the tensor; None for an axis that is not divided.
        device_mesh: The mesh; None to set it later.

    Raises:
        ValueError: for a name that the mesh does not have.

    Example:
        >>> mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"])
        >>> keras.distribution.TensorLayout((None, "model"), mesh).is_whole
        True
    """

    def __init__(self, axes: Sequence[str | None], device_mesh: DeviceMesh | None = None):
        self.axes = tuple(axes)
        self._device_mesh: DeviceMesh | None = None
        if device_mesh is not None:
            self.device_mesh = device_mesh

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """The mesh; it can be set once."""
        return self._device_mesh

    @device_mesh.setter
    def device_mesh(self, mesh: DeviceMesh) -> None:
        if self._device_mesh is not None:
            raise ValueError(f"the mesh of a layout is set once; it is {self._device_mesh}, received {briefly(mesh)}")
        unknown = sorted(name for name in set(self.axes) - {None} if name not in mesh.axis_names)  # type: ignore[type-var]
        if unknown:
            raise ValueError(f"a layout of the mesh {mesh} has no axes {unknown}: expected names of {mesh.axis_names}")
        self._device_mesh = mesh

    @property
    def is_whole(self) -> bool:
        """Whether each device has the whole tensor, because the mesh has one device along each of these axes."""
        mesh = self._device_mesh
        named = [name for name in self.axes if name is not None]
        return not named or (mesh is not None and all(mesh.shape[mesh.axis_names.index(name)] == 1 for name in named))

    def __repr__(self) -> str:
        return f"<TensorLayout axes={self.axes}, device_mesh={self.device_mesh}>"
