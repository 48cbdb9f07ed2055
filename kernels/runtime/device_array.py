"""DeviceArray: an array in a GPU's memory. NumPy computes its views.

It wraps a NumPy array, its *layout*, which has addresses on the device. NumPy computes the shapes, strides and offsets of slices,
reshapes and transposes, and never touches the memory. All CUDA code is in Gpu.
"""

from __future__ import annotations

import operator
import types
from typing import Any

import numpy as np

VIEWS = {np.expand_dims, np.moveaxis, np.swapaxes, np.transpose, np.squeeze, np.broadcast_to}


def view_key(key: Any) -> tuple | None:
    """Returns an index that gives a view, even for a single element; None if the index would copy."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        if isinstance(part, bool) or not (
            part is None or part is Ellipsis or isinstance(part, int | np.integer | slice)
        ):
            return None
    return parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


class StandIn(np.ndarray):
    """An array that compiled functions get as its `for_kernel()`; compiler.py registers it with Numba."""

    __numba_array_subtype_dispatch__ = True

    def for_kernel(self) -> np.ndarray:
        """Returns the ordinary array, for a kernel that is called without a launch."""
        raise NotImplementedError


def address_of(array: np.ndarray) -> int:
    """The address of an array's first element."""
    return array.__array_interface__["data"][0]


def layout_at(address: int, shape: tuple, dtype: Any, strides: tuple | None = None) -> np.ndarray:
    """Returns a layout: a NumPy array over an address that is never read."""
    place = {"data": (address, False), "shape": tuple(shape), "typestr": np.dtype(dtype).str, "strides": strides}
    return np.asarray(types.SimpleNamespace(__array_interface__={**place, "version": 3}))


class DeviceArray:
    """An array on a Gpu: `shape`, `dtype`, `strides` and views are NumPy's; `gpu` reads its values.

    memory: an object that keeps the bytes alive. owner: the array that this one views; None if this one owns its memory.
    """

    __slots__ = ("layout", "gpu", "memory", "owner", "handle", "__weakref__")
    __array_priority__ = 900

    def __init__(self, layout: np.ndarray, gpu: Any, memory: Any, owner: DeviceArray | None = None):
        self.layout, self.gpu, self.memory, self.owner = layout, gpu, memory, owner
        self.handle: Any = None  # the form that kernels take, made on first use

    # Attributes of NumPy's arrays

    shape, dtype, strides, ndim, size, itemsize, nbytes, flags = (
        property(operator.attrgetter(f"layout.{name}"))
        for name in ("shape", "dtype", "strides", "ndim", "size", "itemsize", "nbytes", "flags")
    )
    base = property(operator.attrgetter("owner"))

    @property
    def address(self) -> int:
        """The address of the first element on the device."""
        return self.layout.__array_interface__["data"][0]

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return f"<DeviceArray shape={self.shape} dtype={self.dtype} on {self.gpu}>"

    # Views

    def _view(self, layout: np.ndarray) -> DeviceArray:
        return DeviceArray(layout, self.gpu, self.memory, self if self.owner is None else self.owner)

    def reshape(self, *shape: Any) -> DeviceArray:
        """Returns a view of another shape. Raises ValueError if a copy would be necessary."""
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        return self._view(np.reshape(self.layout, wanted, copy=False))

    def transpose(self, *axes: Any) -> DeviceArray:
        return self._view(self.layout.transpose(*axes))

    @property
    def T(self) -> DeviceArray:
        return self._view(self.layout.T)

    def view(self, dtype: Any) -> DeviceArray:
        """Returns a view of the same bytes with another dtype."""
        return self._view(self.layout.view(dtype))

    def at(self, offset: int, shape: tuple, dtype: Any, strides: tuple | None = None) -> DeviceArray:
        """Returns a view of any form, `offset` bytes into the memory of this array."""
        return self._view(layout_at(self.address + offset, shape, dtype, strides))

    def __getitem__(self, key: Any) -> DeviceArray:
        """Returns a view for integers, slices, None and Ellipsis; a single element is a view without axes."""
        whole = view_key(key)
        if whole is None:
            raise TypeError(
                f"an array on {self.gpu} is indexed by integers, slices, None and Ellipsis, received {key!r:.60}; use "
                "nbkeras.ops.take, or read the array first"
            )
        return self._view(self.layout[whole])

    def __array_function__(self, function, types, args, kwargs):
        if function not in VIEWS:
            raise self._not_here(function)
        return self._view(function(args[0].layout, *args[1:], **kwargs))

    def __array_ufunc__(self, function, method, *args, **kwargs):
        raise self._not_here(function)

    def _not_here(self, function) -> TypeError:
        return TypeError(
            f"numpy.{function.__name__} was called on an array that is on {self.gpu}, where NumPy cannot compute: use "
            "nbkeras.ops, or read the value first (Tensor.numpy())"
        )

    # Reading

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.gpu.read(self), dtype=dtype)

    def copy(self) -> np.ndarray:
        """Returns the values in a new NumPy array."""
        return self.gpu.read(self)

    def item(self) -> Any:
        """Returns the only element as a Python number."""
        return self.gpu.read(self).item()

    @property
    def __cuda_array_interface__(self) -> dict:
        return self.gpu.interface(self)


ARRAYS = (np.ndarray, DeviceArray)


def root(array: Any) -> Any:
    """Returns the array that owns a view's memory."""
    while isinstance(array.base, ARRAYS):
        array = array.base
    return array
