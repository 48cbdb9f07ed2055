"""Floor 2: Input and InputLayer, the inputs of functional models."""

from __future__ import annotations

from nbkeras import config
from nbkeras.building.graph import Node, SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.engine import structures
from nbkeras.engine.naming import unique_name
from nbkeras.engine.user_errors import entry


class InputLayer(Layer):
    """An input of a functional model; an optional one may be None."""

    def __init__(
        self,
        shape=None,
        batch_size=None,
        dtype=None,
        name=None,
        batch_shape=None,
        sparse=None,
        ragged=None,
        optional=False,
        **kwargs,
    ):
        if sparse or ragged:
            raise ValueError("Input offers neither sparse=True nor ragged=True: tensors are dense")
        batch_shape = batch_shape if batch_shape is not None else kwargs.pop("batch_input_shape", None)
        shape = shape if shape is not None else kwargs.pop("input_shape", None)
        if batch_shape is not None and shape is not None:
            raise ValueError(f"Input takes shape or batch_shape, received both, {shape!r} and {batch_shape!r}")
        if batch_shape is not None and batch_size is not None:
            raise ValueError(
                f"Input takes batch_size or batch_shape, received both, {batch_size!r} and {batch_shape!r}"
            )
        if batch_shape is None:
            if shape is None:
                raise ValueError("Input needs shape=(...), without the batch axis, or batch_shape=(batch, ...)")
            if isinstance(shape, int) or not structures.is_shape(shape):
                raise ValueError(f"Input's shape must be a tuple of integers or None, received {shape!r}")
            batch_shape = (batch_size, *shape)
        super().__init__(name=name or unique_name("input_layer"), **kwargs)
        symbol = SymbolicTensor(batch_shape, config.standardize_dtype(dtype), self.name)
        self.dtype = symbol.dtype.name
        self._batch_input_shape = symbol.shape
        self.optional = bool(optional)
        self.built = True
        Node(self, (), {}, symbol)

    @property
    def batch_shape(self) -> tuple:
        return self._batch_input_shape  # type: ignore[return-value]

    def call(self, inputs):
        return inputs

    def get_config(self):
        own = {"batch_shape": list(self.batch_shape), "dtype": self.dtype, "name": self.name}
        return {**own, "optional": True} if self.optional else own


@entry
def Input(  # noqa: N802
    shape=None, batch_size=None, dtype=None, name=None, batch_shape=None, tensor=None, optional=False, **kwargs
):
    """A symbolic input of a functional model: `shape` without the batch axis, or the whole `batch_shape`.

    optional=True: the model may be called with None for it; its layers are then called with None.
    """
    if tensor is not None:
        raise ValueError("Input(tensor=...) is not offered: pass the array to fit, predict or the model itself")
    return InputLayer(shape, batch_size, dtype, name, batch_shape, optional=optional, **kwargs).output
