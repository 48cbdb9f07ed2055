"""`tf.TensorArray`: tensors that a loop writes one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, as_tensor


class TensorArray:
    """TensorFlow's list of tensors for loops in Python and `tf.while_loop`.

    dynamic_size: whether a write after the end makes it longer. Tensors may be read more than once.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: Any = None,
        tensor_array_name: Any = None,
        handle: Any = None,
        flow: Any = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: Any = None,
    ):
        self.dtype, self.element_shape, self.dynamic_size = dtype, element_shape, bool(dynamic_size)
        self._items: list[Tensor | None] = [None] * int(size or 0)

    def _place(self, index: Any) -> int:
        place = int(index)
        if not 0 <= place < len(self._items):
            raise ValueError(f"tf.TensorArray: index {place} lies outside an array of size {len(self._items)}")
        return place

    def write(self, index: Any, value: Any, name: Any = None) -> TensorArray:
        """Set the tensor at an index."""
        if self.dynamic_size and int(index) >= len(self._items):
            self._items += [None] * (int(index) + 1 - len(self._items))
        self._items[self._place(index)] = as_tensor(value, self.dtype)
        return self

    def read(self, index: Any, name: Any = None) -> Tensor:
        """The tensor at an index; zeros if it was not written."""
        found = self._items[self._place(index)]
        return self._zeros() if found is None else found

    def _zeros(self) -> Tensor:
        shapes = [each.shape for each in self._items if each is not None]
        shape = shapes[0] if shapes else self.element_shape
        if shape is None or None in shape:
            raise ValueError(
                f"tf.TensorArray: no tensor was written, and element_shape is {briefly(shape)}: write one first"
            )
        return ops.zeros(shape, self.dtype)

    def _all(self) -> list[Tensor]:
        return [self.read(place) for place in range(len(self._items))]

    def stack(self, name: Any = None) -> Tensor:
        """All tensors, joined along a new first axis."""
        return ops.stack(self._all()) if self._items else ops.zeros((0, *(self.element_shape or ())), self.dtype)

    def concat(self, name: Any = None) -> Tensor:
        """All tensors, joined along their first axis."""
        return ops.concatenate(self._all())

    def gather(self, indices: Any, name: Any = None) -> Tensor:
        """The tensors at indices, joined along a new first axis."""
        return ops.stack([self.read(index) for index in np.asarray(indices)])

    def unstack(self, value: Any, name: Any = None) -> TensorArray:
        """Write the rows of a tensor."""
        return self.scatter(range(len(value)), value)

    def scatter(self, indices: Any, value: Any, name: Any = None) -> TensorArray:
        """Write the rows of a tensor at indices."""
        for index, row in zip(indices, ops.unstack(as_tensor(value, self.dtype), axis=0), strict=True):
            self.write(index, row)
        return self

    def split(self, value: Any, lengths: Any, name: Any = None) -> TensorArray:
        """Write parts of a tensor, of these lengths."""
        for index, part in enumerate(ops.split(as_tensor(value, self.dtype), np.cumsum(lengths)[:-1].tolist(), 0)):
            self.write(index, part)
        return self

    def size(self, name: Any = None) -> Tensor:
        """The number of tensors, int32."""
        return as_tensor(np.int32(len(self._items)))

    def identity(self) -> TensorArray:
        """The array itself."""
        return self

    def close(self, name: Any = None) -> None:
        """Do nothing."""
