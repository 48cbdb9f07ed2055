"""Floor 2: Input and InputLayer, the inputs of functional models."""

from __future__ import annotations

from typing import Any

from nbkeras.building import operation  # noqa: F401 (makes the layers of ops on symbolic tensors)
from nbkeras.building.graph import Node, SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.engine import option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.naming import checked, unique_name
from nbkeras.engine.user_errors import entry

host_graph = LazyModule("nbkeras.building.host_graph")


class InputLayer(Layer):
    """An input of a functional model, as a layer. `Input` makes one and returns its symbolic tensor.

    Args:
        shape (a tuple, or None): The shape without the batch axis; a size that is None may differ from batch to batch.
        batch_size (an integer, or None): The size of each batch; None for any.
        dtype (str, or None): The dtype of the input, also 'string'; None for `config.floatx()`.
        batch_shape (a tuple, or None): The shape with the batch axis, instead of `shape` and `batch_size`.
        sparse (False, or None): Accepted for compatibility with Keras: tensors are dense.
        ragged (False, or None): Accepted for compatibility with Keras: tensors are dense.
        optional (bool): Whether the model may be called with None for it.
        input_tensor (a symbolic tensor, or None): It becomes the input, instead of a new one.

    Raises:
        ValueError: without a shape, or if the shape is given twice.

    Example:
        >>> layers.InputLayer((28, 28, 1)).output.shape
        (None, 28, 28, 1)
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        name: str | None = None,
        batch_shape: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        optional: bool = False,
        input_tensor: Any = None,
        **kwargs,
    ):
        if any(option.flag_of("Input", what, value) for what, value in (("sparse", sparse), ("ragged", ragged))):
            raise ValueError("Input offers neither sparse=True nor ragged=True: tensors are dense")
        batch_shape = batch_shape if batch_shape is not None else kwargs.pop("batch_input_shape", None)
        shape = shape if shape is not None else kwargs.pop("input_shape", None)
        if input_tensor is not None:
            _check_agreement(input_tensor, shape, batch_size, batch_shape, dtype)
            shape, batch_size, batch_shape, dtype = None, None, input_tensor.shape, input_tensor.dtype
        if batch_shape is not None and shape is not None:
            raise ValueError(
                f"Input takes shape or batch_shape, received both, {briefly(shape)} and {briefly(batch_shape)}"
            )
        if batch_shape is not None and batch_size is not None:
            raise ValueError(
                f"Input takes batch_size or batch_shape, received both, {briefly(batch_size)} and {briefly(batch_shape)}"
            )
        if batch_shape is None:
            if shape is None:
                raise ValueError("Input needs shape=(...), without the batch axis, or batch_shape=(batch, ...)")
            if isinstance(shape, int) or not structures.is_shape(shape):
                raise ValueError(f"Input's shape must be a tuple of integers or None, received {briefly(shape)}")
            batch_shape = (batch_size, *shape)
        super().__init__(name=checked("layer", name) or unique_name("input_layer"), **kwargs)
        symbol = input_tensor
        if symbol is None:
            is_text = getattr(dtype, "name", dtype) == "string"
            symbol = (host_graph.SymbolicStrings if is_text else SymbolicTensor)(batch_shape, dtype, self.name)
        self.dtype = symbol.dtype.name
        self._batch_input_shape = symbol.shape
        self.optional = option.flag_of("Input", "optional", optional)
        self.built = True
        Node(self, (), {}, symbol)

    @property
    def batch_shape(self) -> tuple:
        """The shape with the batch axis."""
        return self._batch_input_shape  # type: ignore[return-value]

    def call(self, inputs):
        return inputs

    def get_config(self):
        own = {"batch_shape": list(self.batch_shape), "dtype": self.dtype, "sparse": False, "ragged": False}
        return {**own, "name": self.name, "optional": self.optional}


def _check_agreement(tensor: Any, shape: Any, batch_size: Any, batch_shape: Any, dtype: Any) -> None:
    """Raises ValueError unless a tensor is symbolic and the other arguments of an Input agree with it."""
    if not isinstance(tensor, SymbolicTensor):
        raise ValueError(
            f"Input's tensor must be symbolic, received {briefly(tensor)}: pass arrays to the model itself"
        )
    given = {"shape": shape, "batch_size": batch_size, "batch_shape": batch_shape, "dtype": dtype}
    own = tensor.shape[1:], (*tensor.shape, None)[0], tensor.shape, tensor.dtype
    for (what, value), expected in zip(given.items(), own, strict=True):
        if value is not None and (tuple(value) if isinstance(value, list) else value) != expected:
            raise ValueError(f"Input's {what} must agree with its tensor, {tensor!r}, received {briefly(value)}")


def input_layer_of(tensor: SymbolicTensor) -> InputLayer:
    """The layer of a model's input. A new one if a layer outside of the model computes the input, as Keras writes it."""
    if tensor.node is not None and isinstance(tensor.node.layer, InputLayer):
        return tensor.node.layer
    return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype.name, name=tensor.name)


@entry
def Input(  # noqa: N802
    shape: tuple | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    name: str | None = None,
    batch_shape: tuple | None = None,
    tensor: Any = None,
    optional: bool = False,
    **kwargs,
) -> SymbolicTensor:
    """A symbolic input of a functional model: layers that are called on it record what the model computes.

    Args:
        shape: The shape without the batch axis, a tuple; a size that is None may differ from batch to batch.
        batch_size: The size of each batch; None for any.
        dtype: The dtype, such as 'int32' or 'string'; None for `config.floatx()`.
        name: The name of the input, which is also its key in a dict of inputs.
        batch_shape: The shape with the batch axis, instead of `shape` and `batch_size`.
        tensor: A symbolic tensor that becomes the input, with the new name; the other arguments must agree with it.
        optional: Whether the model may be called with None for it; its layers are then called with None.
        **kwargs: Further arguments of `InputLayer`.

    Returns:
        A symbolic tensor.

    Raises:
        ValueError: without a shape, if the shape is given twice, or for an array as `tensor`.

    Example:
        >>> inputs = keras.Input((3,))
        >>> outputs = layers.Dense(2, kernel_initializer="ones")(inputs)
        >>> model = keras.Model(inputs, outputs)
        >>> model(np.ones((1, 3))).numpy()
        array([[3., 3.]], dtype=float32)
    """
    return InputLayer(
        shape, batch_size, dtype, name, batch_shape, optional=optional, input_tensor=tensor, **kwargs
    ).output
