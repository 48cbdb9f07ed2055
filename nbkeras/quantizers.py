"""Keras's `quantizers`: how `Model.quantize` converts weights to integers, and products convert their inputs."""

from typing import Any, Literal

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import dtype_policy, option
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registry

_LIMITS, _EPSILON = (-127, 127), 1e-7
registry = Registry("quantizer")
deserialize = registry.deserialize


def serialize(initializer: Any) -> Any:
    """The configuration of a quantizer, as Keras 3 writes it into files.

    Args:
        initializer: The quantizer, or None. The argument has Keras's name.

    Returns:
        A dict for `deserialize`.

    Example:
        >>> keras.quantizers.serialize(keras.quantizers.AbsMaxQuantizer())["config"]["value_range"]
        [-127, 127]
    """
    return registry.serialize(initializer)


def get(identifier: Any, **kwargs) -> Any:
    """A quantizer from a name, a configuration, a class or a quantizer.

    Args:
        identifier: A name, such as 'AbsMaxQuantizer', a dict from `serialize`, a quantizer, or None, which is returned.
        **kwargs: Arguments of the class, if a name or a class is given.

    Returns:
        A quantizer.

    Raises:
        ValueError: if there is no such quantizer.

    Example:
        >>> keras.quantizers.get("AbsMaxQuantizer").value_range
        (-127, 127)
    """
    return registry.get(identifier, **kwargs)


def abs_max_quantize(
    inputs,
    axis,
    value_range: tuple[int, int] = _LIMITS,
    dtype: str = "int8",
    epsilon: float = _EPSILON,
    to_numpy: bool = False,
) -> tuple:
    """Integers and a scale with integers / scale close to the input; its largest absolute value maps to the largest integer.

        scale = high / (max(abs(x)) + epsilon);  integers = clip(round(x * scale), low, high)

    Args:
        inputs: Floats of any shape.
        axis: The axes that share one scale.
        value_range: The smallest and the largest integer.
        dtype: The dtype of the integers.
        epsilon: A small number, for inputs of zeros.
        to_numpy: Accepted and ignored.

    Returns:
        (integers, scale): tensors; the shared axes have size 1 in the scale.

    Example:
        >>> values, scale = keras.quantizers.abs_max_quantize(np.array([[1.0, -4.0]], "float32"), axis=-1)
        >>> values.numpy()
        array([[  32, -127]], dtype=int8)
    """
    inputs = ops.convert_to_tensor(inputs)
    largest = ops.max(ops.abs(inputs), axis=axis, keepdims=True)
    scale = ops.divide(value_range[1], ops.add(largest, epsilon))
    return ops.cast(ops.clip(ops.round(ops.multiply(inputs, scale)), *value_range), dtype), scale


class Quantizer(option.Configured):
    """Base of quantizers: callables that convert a tensor to integers. The base class returns the tensor.

    Args:
        output_dtype: The dtype of the integers.

    Call arguments:
        x: A tensor.

    Example:
        >>> keras.Quantizer()(ops.ones(2)).numpy()
        array([1., 1.], dtype=float32)
    """

    def __init__(self, output_dtype: str = "int8"):
        self.output_dtype = config.standardize_dtype(output_dtype)

    def __call__(self, x):
        return x

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this quantizer.

        Raises:
            NotImplementedError: for a subclass that does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with fixed arguments.

    Args:
        axis: The axes that share one scale; None for the axes of the call, or the last one.
        value_range: The smallest and the largest integer, from -128 to 127 for int8.
        epsilon: A small number, for inputs of zeros.
        output_dtype: The dtype of the integers.

    Call arguments:
        x: A float tensor.
        axis: The axes; None for the quantizer's axes.
        to_numpy: Accepted and ignored.

    Raises:
        ValueError: if the range does not fit into int8.

    Example:
        >>> values, scale = keras.quantizers.AbsMaxQuantizer(axis=0)(np.eye(2, dtype="float32"))
        >>> values.numpy()
        array([[127,   0],
               [  0, 127]], dtype=int8)
    """

    def __init__(
        self,
        axis: Any = None,
        value_range: tuple[int, int] = _LIMITS,
        epsilon: float = _EPSILON,
        output_dtype: str = "int8",
    ):
        super().__init__(output_dtype)
        several = axis if axis is None or not isinstance(axis, int) else (axis,)
        self.axis = several if several is None else option.integers_of("AbsMaxQuantizer", "axis", several)
        if not isinstance(value_range, list | tuple) or [type(each) for each in value_range] != [int, int]:
            raise TypeError(f"AbsMaxQuantizer: value_range must be two integers, received {briefly(value_range)}")
        low, high = value_range
        self.value_range = low, high
        self.epsilon = epsilon
        if self.output_dtype == "int8" and not -128 <= low < high <= 127:
            raise ValueError(f"int8 integers lie between -128 and 127, received value_range={briefly(value_range)}")

    def __call__(self, x, axis: Any = None, to_numpy: bool = False):
        axis = axis if axis is not None else self.axis if self.axis is not None else -1
        return abs_max_quantize(x, axis, self.value_range, self.output_dtype, self.epsilon, to_numpy)

    def get_config(self):
        """The arguments that recreate this quantizer."""
        config = {"value_range": list(self.value_range), "epsilon": self.epsilon, "output_dtype": self.output_dtype}
        return config if self.axis is None else {**config, "axis": list(self.axis)}


class QuantizationConfig(option.Configured):
    """Base of the objects that describe how to quantize a model.

    Args:
        weight_quantizer: A quantizer of weights; None for the usual one.
        activation_quantizer: A quantizer of the inputs of products; None to leave them unchanged.
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer, self.activation_quantizer = get(weight_quantizer), get(activation_quantizer)

    @property
    def mode(self) -> str:
        """The mode of `Model.quantize`."""
        raise NotImplementedError(f"{type(self).__name__} must define mode")

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object."""
        return {name: serialize(getattr(self, name)) for name in ("weight_quantizer", "activation_quantizer")}


class Int8QuantizationConfig(QuantizationConfig):
    """How `Model.quantize` converts weights to int8, and products convert their inputs.

    Args:
        weight_quantizer: An AbsMaxQuantizer; None for the usual one. Its axis must be the layer's: 0 for Dense, -1 for
            Embedding.
        activation_quantizer: An AbsMaxQuantizer that quantizes each row of the input of products; None keeps inputs as floats.

    Raises:
        ValueError: for any other quantizer.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
        >>> model.quantize(config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None))
        >>> model.layers[0].kernel.dtype.name
        'int8'
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        if activation_quantizer == "default":
            activation_quantizer = AbsMaxQuantizer()
        super().__init__(weight_quantizer, activation_quantizer)
        for what in ("weight_quantizer", "activation_quantizer"):
            each = getattr(self, what)
            if each is not None and (type(each) is not AbsMaxQuantizer or each.output_dtype != "int8"):
                raise ValueError(
                    f"{what} must be an AbsMaxQuantizer with output_dtype='int8', received {briefly(each)}"
                )

    @property
    def mode(self) -> Literal["int8"]:
        """'int8'."""
        return "int8"

    @property
    def is_usual(self) -> bool:
        """Whether it is the default configuration of its mode."""
        return self.weight_quantizer is None and limits_of(self.activation_quantizer) == (*_LIMITS, _EPSILON)


def config_of(mode: Any, config: Any) -> Int8QuantizationConfig:
    """The configuration from the arguments of `quantize`; ValueError if they are invalid."""
    if isinstance(config, str):
        mode, config = config, None
    if config is None:
        if mode is None:
            raise ValueError("You must provide either `mode` or `config` to `quantize`.")
        dtype_policy.check_mode(mode)
        return Int8QuantizationConfig()
    if not isinstance(config, Int8QuantizationConfig):
        raise ValueError(
            f"Argument `config` must be an instance of `QuantizationConfig`. Received: config={briefly(config)}"
        )
    if mode is not None and dtype_policy.check_mode(mode) != config.mode:
        raise ValueError(f"Contradictory arguments: mode={briefly(mode)} but config.mode={briefly(config.mode)}")
    return config


def limits_of(quantizer: AbsMaxQuantizer | None) -> tuple[int, int, float] | None:
    """The smallest and the largest integer and the epsilon of a quantizer, for kernels."""
    return None if quantizer is None else (*quantizer.value_range, float(quantizer.epsilon))  # type: ignore[return-value]


def integers_of(values: np.ndarray, quantizer: AbsMaxQuantizer) -> tuple[np.ndarray, np.ndarray]:
    """(integers, scale) of a weight by a quantizer with axes, computed by NumPy and not recorded."""
    (low, high), axes = quantizer.value_range, quantizer.axis
    largest = np.maximum(np.max(values, axes, keepdims=True), -np.min(values, axes, keepdims=True))
    scale = np.divide(high, np.add(largest, quantizer.epsilon)).astype(values.dtype)
    integers = np.multiply(values, scale)
    np.clip(np.round(integers, out=integers), low, high, out=integers)
    return integers.astype(np.int8), scale


for _class in (AbsMaxQuantizer, Quantizer, QuantizationConfig, Int8QuantizationConfig):
    registry.register(_class)
_lazy_names.attach(globals(), registry)
