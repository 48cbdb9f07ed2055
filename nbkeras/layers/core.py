"""Dense, and the layers that only reshape, select or wrap a function."""

from __future__ import annotations

import math
from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.layer import CommonOptions, InputSpec, Layer, LayerOptions
from nbkeras.engine import behaviour, option, structures
from nbkeras.engine.behaviour import FunctionName
from nbkeras.engine.registry import custom_object, custom_object_scope
from nbkeras.layers.same_shape import SameShape
from nbkeras.layers.weight_options import add_option_weight


class Dense(Layer):
    """activation(inputs @ kernel + bias): (..., input_dim) -> (..., units)."""

    supports_masking = True

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
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim is None:
            raise ValueError(f"Dense layer {self.name!r} needs the size of the last axis, received shape {input_shape}")
        self.kernel = add_option_weight(self, (dim, self.units), "kernel")
        self.bias = add_option_weight(self, (self.units,), "bias") if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: dim})
        self.built = True

    def call(self, inputs):
        return ops.dense(inputs, self.kernel, self.bias, self.activation)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


class Activation(SameShape):
    """Applies an activation function, passed by name or as a function."""

    def __init__(self, activation: option.Activation, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())

    def call(self, inputs):
        return self.activation(inputs)


class Identity(Layer):
    """Returns its input, of any structure."""

    supports_masking = True
    output_dtype = "input"

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


class Flatten(Layer):
    """(batch, ...) -> (batch, product of the rest); data_format 'channels_first' moves the channels last first."""

    output_dtype = "input"

    def __init__(self, data_format: option.Anything = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        self.data_format = data_format or "channels_last"
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        rank = len(inputs.shape)
        if self.data_format == "channels_first" and rank > 2:
            inputs = ops.transpose(inputs, (0, *range(2, rank), 1))
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape):
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))


class Reshape(Layer):
    """(batch, ...) -> (batch, *target_shape); one size may be -1."""

    output_dtype = "input"
    input_spec = InputSpec(min_ndim=1)
    target_shape: tuple

    def __init__(self, target_shape: option.Integers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        if self.target_shape.count(-1) > 1 or any(size < -1 for size in self.target_shape):
            raise ValueError(f"at most one size of target_shape may be -1, none less, received {self.target_shape}")

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
                f"Reshape {self.name!r} cannot make {self.target_shape} of an input of shape {input_shape}: "
                f"{total} elements per sample do not fit"
            )
        return tuple(total // known if size == -1 else size for size in self.target_shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._target(tuple(input_shape)))


class Permute(Layer):
    """Reorder the axes after the batch axis; dims counts them from 1."""

    output_dtype = "input"
    dims: tuple

    def __init__(self, dims: option.Integers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"Permute's dims must be 1 to n in some order, received {self.dims}")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


class RepeatVector(Layer):
    """(batch, features) -> (batch, n, features)."""

    output_dtype = "input"

    def __init__(self, n: option.Size, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs):
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n, input_shape[1])


class Masking(SameShape):
    """Mask timesteps in which every feature equals mask_value, and set them to zero."""

    def __init__(self, mask_value: option.Anything = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(min_ndim=2)

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return ops.where(kept, inputs, 0.0)


class Lambda(Layer):
    """A function of tensors as a layer: function(inputs, **arguments), which may take `mask` and `training`.

    output_shape (a tuple without the batch axis, a list of them, or a function of the input's shape) and mask (a tensor, or a
    function of the inputs and their mask) are optional. A configuration holds the names of function and mask only, never
    code: register them, or pass them in custom_objects, to load the model again. A function's output_shape is left out.
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.function = self._known("function", function)
        self.mask = self._known("mask", mask)
        if not callable(self.function):
            raise TypeError(f"Lambda needs a function of tensors, received {function!r}")
        if not (output_shape is None or callable(output_shape) or isinstance(output_shape, list | tuple)):
            raise TypeError(f"Lambda's output_shape must be a tuple, a list or a function, received {output_shape!r}")
        self.arguments = dict(arguments or {})
        self._output_shape = output_shape
        self.supports_masking = mask is not None
        code = getattr(self.function, "__code__", None)
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
        self._takes = [name for name in ("mask", "training") if name in names]

    def _known(self, role: str, function: Any) -> Any:
        """The function that a name in a configuration stands for; ValueError if it is unknown."""
        found = custom_object(function) if isinstance(function, str) else function
        if found is None and function is not None:
            raise ValueError(
                f"the Lambda layer's {role} {function!r} is not known: pass it in custom_objects, or decorate it with "
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
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def _named(self, role: str, function: Any) -> str:
        """The name of a function, for a configuration."""
        name = behaviour.current.reference(function, self.name if role == "function" else f"{self.name}_mask")
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
        with custom_object_scope(custom_objects or {}):
            return super().from_config({**config, **functions})
