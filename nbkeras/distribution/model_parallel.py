"""Floor 3: Keras's names for models that are divided over devices. nbkeras divides none: layouts must leave variables whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from nbkeras.distribution.data_parallel import DataParallel, whole
from nbkeras.distribution.meshes import DeviceMesh, TensorLayout
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import as_tensor


class LayoutMap(MutableMapping):
    """Layouts of variables by patterns of their paths.

    Args:
        device_mesh: The mesh of layouts that have none.

    Example:
        >>> mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"])
        >>> layouts = keras.distribution.LayoutMap(mesh)
        >>> layouts[".*dense.*kernel"] = (None, "model")
        >>> layouts["net/dense_1/kernel"].axes
        (None, 'model')
    """

    def __init__(self, device_mesh: DeviceMesh):
        self.device_mesh = device_mesh
        self._layouts: dict[str, TensorLayout] = {}

    def __getitem__(self, key: str) -> Any:
        """The layout whose pattern fits the whole path; None if no pattern does. Raises ValueError if several do."""
        if key in self._layouts:
            return self._layouts[key]
        fitting = [pattern for pattern in self._layouts if re.fullmatch(pattern, key)]
        if len(fitting) > 1:
            raise ValueError(
                f"the path {briefly(key)} fits several patterns of the LayoutMap, {fitting}: let it fit one"
            )
        return self._layouts[fitting[0]] if fitting else None

    def __setitem__(self, key: str, layout: Any) -> None:
        if key in self._layouts:
            raise ValueError(f"the LayoutMap has the pattern {briefly(key)} already: remove it first")
        if isinstance(layout, tuple):
            layout = TensorLayout(layout)
        if not isinstance(layout, TensorLayout):
            raise ValueError(f"a layout must be a TensorLayout or a tuple of axes, received {briefly(layout)}")
        if layout.device_mesh is None and self.device_mesh is not None:
            layout.device_mesh = self.device_mesh
        self._layouts[key] = layout

    def __delitem__(self, key: str) -> None:
        del self._layouts[key]

    def __len__(self) -> int:
        return len(self._layouts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layouts)


class ModelParallel(DataParallel):
    """DataParallel with layouts of variables. nbkeras does not split models, so the layouts must leave variables whole.

    A script of Keras runs with a mesh of one device, or of all processes along the axis of the batch.

    Args:
        layout_map: The layouts, a LayoutMap.
        batch_dim_name: The axis of the mesh along which batches are divided; None for the first.
        auto_shard_dataset: As in DataParallel.
        device_mesh: Accepted and ignored, as in Keras: the LayoutMap has the mesh.

    Raises:
        ValueError: without a LayoutMap, for a mesh that has several devices along another axis, and for layouts that divide
            variables.

    Example:
        >>> mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"])
        >>> layouts = keras.distribution.LayoutMap(mesh)
        >>> layouts[".*kernel"] = (None, "model")
        >>> with keras.distribution.ModelParallel(layout_map=layouts).scope():
        ...     model = keras.Sequential([layers.Dense(1)])
    """

    def __init__(
        self,
        *,
        layout_map: Any = None,
        batch_dim_name: str | None = None,
        auto_shard_dataset: bool = True,
        device_mesh: Any = None,
    ):
        if not isinstance(layout_map, LayoutMap):
            raise ValueError(f"ModelParallel needs layout_map, a LayoutMap, received {briefly(layout_map)}")
        mesh = layout_map.device_mesh
        name = batch_dim_name or mesh.axis_names[0]
        if name not in mesh.axis_names:
            raise ValueError(f"batch_dim_name must be an axis of the mesh {mesh}, received {briefly(batch_dim_name)}")
        super().__init__(auto_shard_dataset=auto_shard_dataset)
        self.device_mesh, self.batch_dim_name = whole(mesh, mesh.axis_names.index(name)), name
        divided = [pattern for pattern, layout in layout_map.items() if not layout.is_whole]
        if divided:
            raise ValueError(
                f"nbkeras does not split variables, but the layouts of {divided} divide them over several devices: name axes of "
                "one device only, or use DataParallel"
            )
        self._layouts = layout_map

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """The layout of a variable by its path, or one that leaves it whole.

        Args:
            variable: The variable.
        """
        return self._layouts[variable.path] or super().get_variable_layout(variable)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout of a tensor by its path, or None.

        Args:
            path: The path.
        """
        return self._layouts[path]


def distribute_tensor(tensor: Any, layout: TensorLayout | None) -> Any:
    """The tensor with a layout; as layouts leave tensors whole, the tensor itself.

    Args:
        tensor: A tensor or an array.
        layout: The layout; None for none.

    Returns:
        A tensor.

    Raises:
        ValueError: for a layout that divides the tensor, or has more axes than it.

    Example:
        >>> mesh = keras.distribution.DeviceMesh((1,), ["batch"])
        >>> keras.distribution.distribute_tensor(np.ones((2, 3)), keras.distribution.TensorLayout(("batch", None), mesh)).shape
        (2, 3)
    """
    tensor = as_tensor(tensor)
    if layout is not None and (not layout.is_whole or len(layout.axes) > tensor.ndim):
        raise ValueError(
            f"nbkeras leaves tensors whole, on one device; {layout} divides a tensor of shape {tensor.shape}, or has too many "
            "axes"
        )
    return tensor
