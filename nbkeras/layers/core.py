"""Dense, and the layers that only reshape, select or wrap a function."""

from __future__ import annotations

import math
from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import CommonOptions, InputSpec, Layer, LayerOptions, SameShape
from nbkeras.building.lora import Adaptable, AdaptedWeight
from nbkeras.engine import compatibility, option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.compatibility import FunctionName
from nbkeras.engine.registry import custom_object, custom_object_scope


class Dense(Adaptable, Layer):
    """A fully connected layer: activation(inputs @ kernel + bias).

    Each output is a weighted sum of all numbers of the input's last axis. `kernel` has shape (input_dim,
    units), `bias` (units,). An input with more than two axes is multiplied along its last axis; all other
    axes stay.

    Args:
        units: The number of outputs.
        use_bias: Whether the layer has a bias.

    Input shape:
        (batch, ..., input_dim): two axes or more.

    Output shape:
        (batch, ..., units).

    Raises:
        ValueError: when it is built without a known size of the last axis, and when it is called on
            an input with a different last axis.

    Example:
        >>> layer = layers.Dense(2, kernel_initializer="ones", activation="relu")
        >>> layer(np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])).numpy()
        array([[6., 6.],
               [0., 0.]], dtype=float32)
        >>> layer.kernel.shape, layer.bias.shape
        ((3, 2), (2,))
    """

    supports_masking = True
    is_quantized_by_keras = True
    quantized_channels = {"kernel": (-1,)}
    kernel: Any = AdaptedWeight()

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = None,
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape):
        dim = input_shape[-1] if input_shape else None
        if dim is None:
            raise ValueError(f"Dense layer {self.name!r} needs the size of the last axis, received shape {input_shape}")
        self.kernel = self._option_weight((dim, self.units), "kernel")
        self.bias = self._option_weight((self.units,), "bias") if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: dim})
        self._adapt_as_made()

    def call(self, inputs):
        return self._computed(ops.dense, inputs, self.bias, self.activation)

    def _has_small_products(self, inputs):
        return self._takes_products(inputs.size // inputs.shape[-1])

    def _added(self, outputs, x, b):
        return ops.add(outputs, ops.dense(x, b, self.bias))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


class Activation(SameShape):
    """Applies an activation function to the input.

    Args:
        activation: The function: a name such as 'relu', or a function of a tensor. None returns the input.

    Input shape:
        Any.

    Example:
        >>> layers.Activation("relu")(np.array([-1.0, 0.0, 2.0])).numpy()
        array([0., 0., 2.], dtype=float32)
        >>> layers.Activation(lambda x: 2 * x)(np.array([-1.0, 0.0, 2.0])).numpy()
        array([-2.,  0.,  4.], dtype=float32)
    """

    _takes_structures = True  # the function may take structures

    def __init__(self, activation: option.Activation, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return self.activation(inputs)


class Identity(Layer):
    """Returns its input: a tensor, or any structure of tensors.

    Example:
        >>> layers.Identity()(np.array([1.0, 2.0])).numpy()
        array([1., 2.], dtype=float32)
    """

    supports_masking = True
    output_dtype = "input"

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class Flatten(Layer):
    """Puts all elements of a sample into one axis.

    Args:
        data_format: 'channels_last' keeps the order of the elements. 'channels_first': the input has its
            channels in axis 1, which is moved last first. The result is the same as for the same input with
            channels last.

    Input shape:
        (batch, ...), of any dtype; integers stay integers.

    Output shape:
        (batch, product of the other sizes); (batch, 1) for an input of shape (batch,).

    Example:
        >>> layers.Flatten()(np.array([[[1, 2], [3, 4]]])).numpy()
        array([[1, 2, 3, 4]])
        >>> layers.Flatten()(np.ones((8, 4, 4, 3))).shape
        (8, 48)
    """

    output_dtype = "input"

    def __init__(self, data_format: DataFormat = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        rank = len(inputs.shape)
        if self.data_format == "channels_first" and rank > 2:
            inputs = ops.transpose(inputs, (0, *range(2, rank), 1))
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape):
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))


class Reshape(option.Declared, Layer):
    """Reshapes each sample; the elements keep their order.

    Args:
        target_shape: The shape of the output without the batch axis. One size may be -1: it is computed.

    Input shape:
        (batch, ...), of any dtype; integers stay integers.

    Output shape:
        (batch, *target_shape).

    Raises:
        ValueError: for more than one -1, or if the number of elements of a sample does not fit.

    Example:
        >>> layers.Reshape((3, 2))(np.array([[1, 2, 3, 4, 5, 6]])).numpy()
        array([[[1, 2],
                [3, 4],
                [5, 6]]])
        >>> layers.Reshape((-1, 2))(np.ones((8, 6))).shape
        (8, 3, 2)
    """

    output_dtype = "input"
    input_spec = InputSpec(min_ndim=1)

    def __init__(self, target_shape: option.Integers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        if self.target_shape.count(-1) > 1 or any(size < -1 for size in self.target_shape):
            raise ValueError(
                f"at most one size of target_shape may be -1, and none below -1, received {briefly(self.target_shape)}"
            )

    def call(self, inputs):
        return ops.reshape(inputs, (inputs.shape[0], *self._target(tuple(inputs.shape))))

    def _target(self, input_shape: tuple) -> tuple:
        rest = input_shape[1:]
        if None in rest:
            return tuple(None if size == -1 else size for size in self.target_shape)
        total, known = math.prod(rest), math.prod(size for size in self.target_shape if size != -1)
        fits = total % known == 0 if -1 in self.target_shape and known else total == known
        if not fits:
            raise ValueError(
                f"Reshape {self.name!r} cannot reshape an input of shape {input_shape} to {self.target_shape}: "
                f"{total} elements per sample do not fit"
            )
        return tuple(total // known if size == -1 else size for size in self.target_shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._target(tuple(input_shape)))


class Permute(option.Declared, Layer):
    """Puts the axes of each sample into another order.

    Args:
        dims: The input's axes in their new order, counted from 1; the batch axis, 0, stays first. (2, 1)
            swaps two axes.

    Input shape:
        (batch, ...) with len(dims) + 1 axes, of any dtype; integers stay integers.

    Output shape:
        The input's sizes in the new order.

    Raises:
        ValueError: unless dims are the numbers 1 to n in some order.

    Example:
        >>> layers.Permute((2, 1))(np.array([[[1, 2, 3], [4, 5, 6]]])).numpy()
        array([[[1, 4],
                [2, 5],
                [3, 6]]])
    """

    output_dtype = "input"

    def __init__(self, dims: option.Integers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"Permute's dims must be 1 to n in some order, received {briefly(self.dims)}")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


class RepeatVector(Layer):
    """Repeats each vector n times, as the steps of a sequence.

    Args:
        n: The number of steps.

    Input shape:
        (batch, features), of any dtype; integers stay integers.

    Output shape:
        (batch, n, features).

    Example:
        >>> layers.RepeatVector(3)(np.array([[1, 2]])).numpy()
        array([[[1, 2],
                [1, 2],
                [1, 2]]])
    """

    output_dtype = "input"

    def __init__(self, n: option.Size, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs):
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n, input_shape[1])


class Masking(SameShape):
    """Masks the steps of a sequence whose features all equal mask_value, and sets them to 0.

    The mask follows the output: later layers that support masks, such as LSTM, skip these steps. It
    ends with a warning at a layer that does not.

    Args:
        mask_value: The value that marks a step as missing.

    Input shape:
        (batch, steps, features); in general two axes or more; the last one is compared.

    Output shape:
        The input's shape; the mask, a bool tensor, has this shape without the last axis.

    Example:
        >>> layer = layers.Masking(mask_value=-1.0)
        >>> outputs = layer(np.array([[[1.0, 2.0], [-1.0, 3.0], [-1.0, -1.0]]]))
        >>> outputs.numpy()
        array([[[ 1.,  2.],
                [-1.,  3.],
                [ 0.,  0.]]], dtype=float32)
        >>> outputs.mask.numpy()
        array([[ True,  True, False]])
    """

    def __init__(self, mask_value: option.Number = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(min_ndim=2)

    def compute_mask(self, inputs, mask=None):
        """A bool tensor: True where a step has a feature that is not mask_value."""
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return ops.where(kept, inputs, 0.0)


class Lambda(Layer):
    """A function of tensors as a layer: function(inputs, **arguments).

    It has no weights: for a computation with weights, write a subclass of Layer. A configuration holds only the
    names of function and mask, never code. To load the model again, register them by
    `register_keras_serializable`, or pass them in custom_objects; a `lambda` cannot be saved. A function as
    output_shape is omitted from the configuration.

    Args:
        function: The function; it computes with `nbkeras.ops`. It gets `mask` and `training` if it has
            parameters of these names.
        output_shape (a tuple, a list of tuples, a function or None): The shape of the output without the
            batch axis, a list of them for several outputs, or a function that maps the input's shape to the
            whole shape. None: a dry run determines it.
        mask (a tensor, a function or None): The mask of the output, or a function of the inputs and their
            mask that returns it.
        arguments (a dict or None): Additional keyword arguments for the function.

    Call arguments:
        inputs: The first argument of the function: a tensor, or a structure of tensors.
        mask: The mask of the inputs, for a function with this parameter.
        training: Whether training runs, for a function with this parameter.

    Raises:
        TypeError: if function is not callable, or output_shape has a wrong type.
        ValueError: for an unknown function name.
        NotImplementedError: from `get_config` and when a model is saved, for a function without a registered
            name.

    Example:
        >>> layer = layers.Lambda(lambda x, factor: factor * x, arguments={"factor": 3.0})
        >>> layer(np.array([[1.0, 2.0]])).numpy()
        array([[3., 6.]], dtype=float32)
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.function = self._known("function", function)
        self.mask = self._known("mask", mask)
        if not callable(self.function):
            raise TypeError(f"Lambda needs a function of tensors, received {briefly(function)}")
        if not (output_shape is None or callable(output_shape) or isinstance(output_shape, list | tuple)):
            raise TypeError(
                f"Lambda's output_shape must be a tuple, a list or a function, received {briefly(output_shape)}"
            )
        if not isinstance(arguments, dict | None):
            raise TypeError(
                f"Lambda's arguments must be a dict of the function's keywords, received {briefly(arguments)}"
            )
        self.arguments = dict(arguments or {})
        self._output_shape = output_shape
        self.supports_masking = mask is not None
        code = getattr(self.function, "__code__", None)
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
        self._takes = [name for name in ("mask", "training") if name in names]

    def _known(self, role: str, function: Any) -> Any:
        """The function named in a configuration; ValueError if it is unknown."""
        found = custom_object(function) if isinstance(function, str) else function
        if found is None and function is not None:
            raise ValueError(
                f"the Lambda layer's {role} {briefly(function)} is not known: pass it in custom_objects, or decorate it with "
                "register_keras_serializable"
            )
        return found

    def call(self, inputs, mask=None, training=None):
        values = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: values[name] for name in self._takes})

    def compute_output_shape(self, input_shape):
        if self._output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self._output_shape):
            return structures.map_shapes(tuple, self._output_shape(input_shape))
        batch = structures.flatten(input_shape)[0]
        return structures.map_shapes(lambda shape: (batch, *shape), self._output_shape)

    def compute_output_spec(self, *args, **kwargs):
        if self._output_shape is None:
            kwargs = {key: value for key, value in kwargs.items() if key != "mask"}
            return graph.infer(self._plain_call, args, kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        """The mask given to the layer, or returned by its mask function."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def _named(self, role: str, function: Any) -> str:
        """The name of a function, for a configuration."""
        name = compatibility.current.reference(function, self.name if role == "function" else f"{self.name}_mask")
        if not name:
            raise NotImplementedError(
                f"the Lambda layer {self.name!r} cannot be written: its {role} has no name. Define it with def and "
                "register it, or write a Layer subclass"
            )
        return name

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "function": self._named("function", self.function),
            "arguments": self.arguments,
        }
        if self._output_shape is not None and not callable(self._output_shape):
            config["output_shape"] = list(self._output_shape)
        if self.mask is not None:
            config["mask"] = self._named("mask", self.mask) if callable(self.mask) else self.mask
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        functions = {key: value.function for key, value in config.items() if isinstance(value, FunctionName)}
        with custom_object_scope(custom_objects):
            return super().from_config({**config, **functions})
