"""The configurations of `Model.quantize`, one class for each mode.

A layer's `quantization_config` makes the variables of its encoded weights (`_add_weight`, `_arrays_of`) and changes its call
(`_built`). The layer knows nothing else of quantization.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from nbkeras.engine import dtype_policy, option, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtype_policy import DTypePolicy
from nbkeras.engine.registry import Registered
from nbkeras.engine.tensor import Variable
from nbkeras.ops.quantized import QuantizedVariable
from nbkeras.quantizers import float8
from nbkeras.quantizers.packing import Encoded, Layout, PackedVariable, packed_pairs
from nbkeras.quantizers.policies import check_mode, own_policy
from nbkeras.quantizers.rounding import EPSILON, LIMITS, AbsMaxQuantizer, grouped, integers_of, limits_of, registry


class QuantizationConfig(Registered, option.Configured, registry=registry):
    """Base of the objects that describe how to quantize a model.

    Args:
        weight_quantizer: A quantizer of weights; None for the usual one.
        activation_quantizer: A quantizer of the inputs of products; None to leave them unchanged.

    Example:
        >>> keras.quantizers.Int4QuantizationConfig(block_size=32).mode
        'int4'
    """

    _needs_samples = False
    _is_of_products = False  # whether it is for Dense and EinsumDense only
    _is_written_always = False  # whether a layer's configuration has it, even if `is_usual`

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer = registry.get(weight_quantizer)
        self.activation_quantizer = registry.get(activation_quantizer)

    @property
    def mode(self) -> str:
        """The mode of `Model.quantize`."""
        raise NotImplementedError(f"{type(self).__name__} must define mode")

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object."""
        return {name: registry.serialize(getattr(self, name)) for name in ("weight_quantizer", "activation_quantizer")}

    def dtype_policy_string(self) -> str:
        """The mode as the names of dtype policies have it: 'int4/128'."""
        return self.mode

    @property
    def is_usual(self) -> bool:
        """Whether the name of the dtype policy says everything."""
        return self.weight_quantizer is None and self.activation_quantizer is None

    def _check_quantizers(self, *limits: tuple[int, int]) -> None:
        """Raises ValueError unless both quantizers are None or round to int8, the weights' one to one of these limits."""
        for what in ("weight_quantizer", "activation_quantizer"):
            each = getattr(self, what)
            if each is not None and (type(each) is not AbsMaxQuantizer or each.output_dtype != "int8"):
                raise ValueError(
                    f"{what} must be an AbsMaxQuantizer with output_dtype='int8', received {briefly(each)}"
                )
            if limits and what == "weight_quantizer" and each is not None and each.value_range not in limits:
                raise ValueError(f"weight_quantizer must have value_range={limits[0]}, received {each.value_range}")

    # -------------------- weights of layers --------------------

    def _convert(self, layer: Any) -> None:
        """Encode the weights of a built layer, which has another configuration or none."""
        encoded = {name: self._encoded(layer, name, weight.numpy()) for name, weight in weights_of(layer).items()}
        replace_weights(layer, self, encoded)

    def _add_weight(self, layer: Any, name: str, shape: tuple[int, ...]) -> Variable | None:
        """Add an encoded weight of zeros, which a file will fill; None if the layer is to make it of floats."""
        layer._reserve_memory(shape, np.int8)
        return insert(layer, self._variable(layer, name, self._zeros(layer, name, shape)))

    def _built(self, layer: Any) -> None:
        """Called after a layer's `build`."""

    def _arrays_of(self, layer: Any, name: str, weight: Variable, values: np.ndarray) -> dict[int, np.ndarray]:
        """New values for an encoded weight: the arrays of its variables, by their ids."""
        made = self._variable(layer, name, self._encoded(layer, name, values))
        pairs = zip([weight, *weight.companions], [made, *made.companions], strict=True)  # type: ignore[attr-defined]
        return {id(each): new.numpy() for each, new in pairs}

    def _encoded(self, layer: Any, name: str, values: np.ndarray) -> tuple[Any, Any]:
        """A weight's values as `_variable` takes them: the integers and their scale."""
        channels, _ = layer.channels_of_scale(name, values.shape)
        integers, scale = integers_of(values, self._quantizer_of(layer, name, values.shape))
        scale = scale.reshape([values.shape[axis] for axis in sorted(channels)])
        return integers, scale.transpose([sorted(channels).index(axis) for axis in channels])

    def _zeros(self, layer: Any, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """A weight of zeros as `_variable` takes it."""
        return np.zeros(shape, np.int8), np.ones(layer.channels_of_scale(name, shape)[1], layer.dtype)

    def _variable(self, layer: Any, name: str, encoded: tuple[Any, Any]) -> Any:
        """The variable of an encoded weight, with the ones beside it in files as its `companions`."""
        values, scale = encoded
        channels, stored = layer.channels_of_scale(name, values.shape)
        factor = Variable(scale.reshape(stored), dtype=scale.dtype, trainable=False, name=f"{name}_scale")
        return QuantizedVariable(values, factor, channels, limits_of(self.activation_quantizer), name)

    def _quantizer_of(self, layer: Any, name: str, shape: tuple[int, ...]) -> AbsMaxQuantizer:
        """The quantizer of a weight, with axes. Raises ValueError if its axes do not match the axes that share a scale."""
        channels, _ = layer.channels_of_scale(name, shape)
        axes = tuple(axis for axis in range(len(shape)) if axis not in channels)
        given = self.weight_quantizer or AbsMaxQuantizer(axes)
        if given.axis is None or sorted(axis % len(shape) for axis in given.axis) != list(axes):
            raise ValueError(
                f"the weight_quantizer of layer {layer.name!r} ({type(layer).__name__}) must have axis={axes}: its product is "
                f"divided by a scale for each output. Received axis={given.axis}"
            )
        return given


def weights_of(layer: Any) -> dict[str, Variable]:
    """The weights that become integers, by name. A layer may have fewer than its class declares."""
    found = {name: getattr(layer, layer._attribute_of(name)) for name in layer.quantized_channels}
    return {name: weight for name, weight in found.items() if weight is not None}


def replace_weights(layer: Any, config: QuantizationConfig, encoded: Mapping[str, tuple]) -> None:
    """Put variables of integers in place of a layer's weights. encoded: as `config._variable` takes them, by name."""
    weights = weights_of(layer)
    layer.quantization_config, layer.quantization_mode = config, config.mode
    for name, arrays in encoded.items():
        at = next((i for i, each in enumerate(layer._weights) if each is weights[name]), len(layer._weights))
        del layer._weights[at : at + 1]
        setattr(layer, layer._attribute_of(name), insert(layer, config._variable(layer, name, arrays), at))
    tensor.outdate(layer, *(weight.data for weight in weights.values()))


def insert(layer: Any, weight: Any, at: int | None = None) -> Variable:
    """Insert a weight and the variables beside it into the layer's weights."""
    for each in (weight, *weight.companions):
        each.path = layer._path_of_weight(each.name)
        each.declared_trainable = False
    for each in weight.companions:
        setattr(layer, each.name, each)
    at = len(layer._weights) if at is None else at
    layer._weights[at:at] = [weight, *weight.companions]
    return weight


class _Packed(QuantizationConfig, registered=False):
    """The base of configurations whose weights are matrices of bytes: PackedVariables."""

    def _layout(self, layer: Any, name: str, shape: tuple[int, ...]) -> Layout:
        """How a weight becomes a matrix: a row for each index of the summed axes."""
        channels, _ = layer.channels_of_scale(name, shape)
        columns = math.prod(shape[axis] for axis in channels)
        rows = math.prod(size for axis, size in enumerate(shape) if axis not in channels)
        axis = 0 if name == "reverse_embeddings" else 1
        return Layout(shape, rows, columns, axis, inputs=limits_of(self.activation_quantizer))

    def _variable(self, layer: Any, name: str, encoded: tuple[Layout, Encoded]) -> PackedVariable:
        """The variable of a weight; the ones beside it have Keras's names."""
        layout, parts = encoded
        of_reverse = name == "reverse_embeddings"  # it shares the groups of `embeddings`, and has zero points as floats
        arrays = {f"{name}_scale": parts.scale, f"{name}_zero": parts.zero}
        arrays |= {} if of_reverse else {"awq_scales": parts.divisor, "g_idx": parts.groups}
        made = {
            each: Variable(array, dtype=layer.dtype if of_reverse else array.dtype, trainable=False, name=each)
            for each, array in arrays.items()
            if array is not None
        }
        groups = layer.g_idx if of_reverse and parts.groups is not None else made.get("g_idx")
        factors = made[f"{name}_scale"], made.get(f"{name}_zero"), groups, made.get("awq_scales")
        weight = PackedVariable(parts.values, layout, *factors, name)
        weight.companions = list(made.values())
        return weight


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

    mode: Literal["int8"] = "int8"

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = "default"):
        if activation_quantizer == "default":
            activation_quantizer = AbsMaxQuantizer()
        super().__init__(weight_quantizer, activation_quantizer)
        self._check_quantizers()

    @property
    def is_usual(self) -> bool:
        """Whether it is the default configuration of its mode."""
        return self.weight_quantizer is None and limits_of(self.activation_quantizer) == (*LIMITS, EPSILON)


class Int4QuantizationConfig(_Packed):
    """How `Model.quantize` converts weights to 4 bits, two in a byte.

    Args:
        weight_quantizer: An AbsMaxQuantizer with value_range=(-8, 7); None for the usual one. Only without groups.
        activation_quantizer: An AbsMaxQuantizer that quantizes each row of the input of products; 'default' and None keep inputs
            as floats. Only without groups.
        block_size: The inputs of a group, which has its own scale and zero point for each output; None or -1 for one scale for
            each output.

    Raises:
        ValueError: for another block_size or quantizer.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
        >>> model.quantize("int4")
        >>> model.layers[0].kernel.shape, model.layers[0].kernel_scale.shape
        ((8, 2), (1, 4))
    """

    mode: Literal["int4"] = "int4"
    _is_written_always = True

    def __init__(
        self, weight_quantizer: Any = None, activation_quantizer: Any = "default", block_size: int | None = 128
    ):
        super().__init__(weight_quantizer, None if activation_quantizer == "default" else activation_quantizer)
        self.block_size = block_size
        if block_size not in (None, -1) and option.size_of("Int4QuantizationConfig", "block_size", block_size):
            if not self.is_usual:
                raise ValueError(
                    f"quantizers need one scale for each output: use block_size=None with them, received {briefly(block_size)}"
                )
        self._check_quantizers((-8, 7))

    def dtype_policy_string(self) -> str:
        """The mode as the names of dtype policies have it: 'int4/128', with -1 for no groups."""
        return f"int4/{self.block_size or -1}"

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object."""
        return {**super().get_config(), "block_size": self.block_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Int4QuantizationConfig:
        """Make a configuration from a result of `get_config`; without a block_size, from an older Keras, there are no groups.

        Args:
            config: The configuration.
        """
        return cls(**{"block_size": None, **config})

    def _layout(self, layer: Any, name: str, shape: tuple[int, ...]) -> Layout:
        layout = super()._layout(layer, name, shape)
        return layout._replace(rows=shape[0], columns=shape[1], by=1) if name == "embeddings" else layout

    def _encoded(self, layer: Any, name: str, values: np.ndarray) -> tuple[Layout, Encoded]:
        layout = self._layout(layer, name, values.shape)
        matrix = values.reshape(layout.rows, layout.columns)
        if self.block_size in (None, -1):
            epsilon = EPSILON if self.weight_quantizer is None else self.weight_quantizer.epsilon
            integers, scale = integers_of(matrix, AbsMaxQuantizer((layout.by,), (-8, 7), epsilon))
            return layout, Encoded(packed_pairs(integers, layout.axis), scale.reshape(-1))
        parts = grouped(matrix.T if layout.by else matrix, self.block_size)
        integers, scale, zero = (np.ascontiguousarray(each.T if layout.by else each) for each in parts)
        return layout, Encoded(packed_pairs(integers, layout.axis), scale, zero, layout.groups(self.block_size))

    def _zeros(self, layer: Any, name: str, shape: tuple[int, ...]) -> tuple[Layout, Encoded]:
        layout = self._layout(layer, name, shape)
        return layout, layout.zeros(np.int8, None if self.block_size == -1 else self.block_size, layer.dtype)


class Float8QuantizationConfig(QuantizationConfig):
    """Training with numbers rounded to 8-bit floats: see `Model.quantize` with mode 'float8'. It has no options.

    Example:
        >>> keras.quantizers.Float8QuantizationConfig().mode
        'float8'
    """

    mode: Literal["float8"] = "float8"
    _is_of_products = True

    def __init__(self) -> None:
        super().__init__()

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object: none."""
        return {}

    def _convert(self, layer: Any) -> None:
        float8.add_scales(layer)
        layer.quantization_config, layer.quantization_mode = self, self.mode

    def _add_weight(self, layer: Any, name: str, shape: tuple[int, ...]) -> None:
        return None

    _built = staticmethod(float8.add_scales)


class _Calibrated(_Packed, registered=False):
    """The base of configurations whose weights depend on samples of inputs."""

    _needs_samples = _is_of_products = True
    bits: tuple[int, ...] = (4,)

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Check and set the arguments of the constructor."""
        name = type(self).__name__
        super().__init__()
        self._names = [each for each in arguments if each not in ("self", "__class__")]
        for each in self._names:
            value = arguments[each]
            if each in ("num_samples", "sequence_length", "num_grid_points"):
                option.size_of(name, each, value)
            setattr(self, each, value)
        if self.weight_bits not in self.bits:
            raise ValueError(f"{name}: weight_bits must be one of {self.bits}, received {briefly(self.weight_bits)}")
        if self.group_size != -1:
            option.size_of(name, "group_size", self.group_size)

    def dtype_policy_string(self) -> str:
        """The mode as the names of dtype policies have it: 'gptq/4/128'."""
        return f"{self.mode}/{self.weight_bits}/{self.group_size}"

    def _layout(self, layer: Any, name: str, shape: tuple[int, ...]) -> Layout:
        layout = super()._layout(layer, name, shape)
        axis = 0 if self.weight_bits == 4 else 2
        return Layout(shape, layout.columns, layout.rows, axis, by=1, is_turned=True)

    def _zeros(self, layer: Any, name: str, shape: tuple[int, ...]) -> tuple[Layout, Encoded]:
        layout = self._layout(layer, name, shape)
        size = layout.columns if self.group_size == -1 else self.group_size
        return layout, layout.zeros(np.uint8, size, layer.dtype, has_divisor=self.mode == "awq")

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object, without the data."""
        return {each: None if each in ("dataset", "tokenizer") else getattr(self, each) for each in self._names}


class GPTQConfig(_Calibrated):
    """How `Model.quantize` converts weights by GPTQ: in order, each one corrects the errors of those before it.

    Frantar et al., 2022: GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers.

    Args:
        dataset: Samples of the model's inputs: arrays of tokens, or strings.
        tokenizer: A function that makes tokens from a string; not used for arrays.
        weight_bits: 2, 3, 4 or 8.
        num_samples: The number of samples.
        per_channel: Whether each output has its own scales.
        sequence_length: The tokens of a sample.
        hessian_damping: A fraction of the mean of the Hessian's diagonal that is added to it, from 0 to 1.
        group_size: The inputs of a group with its own scale; -1 for all.
        symmetric: Whether the range of a group is symmetric about zero.
        activation_order: Whether the inputs with the largest Hessian come first.
        quantization_layer_structure: A dict: 'pre_block_layers', a list of layers, and 'sequential_blocks', a list of blocks.

    Raises:
        ValueError: for an argument outside its range.

    Example:
        >>> keras.quantizers.GPTQConfig(None, None, weight_bits=8).dtype_policy_string()
        'gptq/8/128'
    """

    mode: Literal["gptq"] = "gptq"
    bits = (2, 3, 4, 8)

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        per_channel: bool = True,
        sequence_length: int = 512,
        hessian_damping: float = 0.01,
        group_size: int = 128,
        symmetric: bool = False,
        activation_order: bool = False,
        quantization_layer_structure: dict[str, Any] | None = None,
    ):
        self._keep(locals())
        if not 0 <= option.as_given("GPTQConfig", "hessian_damping", hessian_damping) <= 1:
            raise ValueError(f"GPTQConfig: hessian_damping must be from 0 to 1, received {briefly(hessian_damping)}")


class AWQConfig(_Calibrated):
    """How `Model.quantize` converts weights by AWQ: weights of large inputs are multiplied by a factor before the rounding.

    Lin et al., 2023: AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration.

    Args:
        dataset: Samples of the model's inputs: arrays of tokens, or strings.
        tokenizer: A function that makes tokens from a string; not used for arrays.
        weight_bits: 4.
        num_samples: The number of samples.
        sequence_length: The tokens of a sample.
        group_size: The inputs of a group with its own scale; -1 for all.
        num_grid_points: The number of exponents that are tried for the factors.
        quantization_layer_structure: A dict: 'pre_block_layers', a list of layers, and 'sequential_blocks', a list of blocks.

    Raises:
        ValueError: for an argument outside its range.

    Example:
        >>> keras.quantizers.AWQConfig(None, None, group_size=-1).dtype_policy_string()
        'awq/4/-1'
    """

    mode: Literal["awq"] = "awq"

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        sequence_length: int = 512,
        group_size: int = 128,
        num_grid_points: int = 20,
        quantization_layer_structure: dict[str, Any] | None = None,
    ):
        self._keep(locals())


_KINDS = Int8QuantizationConfig, Int4QuantizationConfig, Float8QuantizationConfig, GPTQConfig, AWQConfig
_OF_MODE: dict[str, Any] = {kind.mode: kind for kind in _KINDS}


def config_of(mode: Any, config: Any) -> Any:
    """The configuration from the arguments of `quantize`; ValueError if they are invalid."""
    if isinstance(config, str):
        mode, config = config, None
    if config is None and mode is None:
        raise ValueError("You must provide either `mode` or `config` to `quantize`.")
    if mode is not None:
        check_mode(mode)
    if config is None:
        kind = _OF_MODE[mode]
        if kind._needs_samples:
            raise ValueError(f"mode {mode!r} needs samples: pass config={kind.__name__}(dataset, tokenizer, ...)")
        return kind()
    if not isinstance(config, QuantizationConfig):
        raise ValueError(
            f"Argument `config` must be an instance of `QuantizationConfig`. Received: config={briefly(config)}"
        )
    if mode is not None and mode != config.mode:
        raise ValueError(f"Contradictory arguments: mode={briefly(mode)} but config.mode={briefly(config.mode)}")
    return config


def config_from(value: Any) -> Any:
    """Returns the configuration for an argument `quantization_config`."""
    return config_of(None, registry.get(value))


def config_of_policy(policy: Any) -> Any:
    """The configuration for the quantized dtype policy of a layer in a file."""
    kind = policy.quantization_mode
    if kind == "int4":  # a policy without a block size is from before Keras had groups
        return Int4QuantizationConfig(block_size=getattr(policy, "block_size", None))
    if _OF_MODE[kind]._needs_samples:
        return _OF_MODE[kind](None, None, weight_bits=policy.weight_bits, group_size=policy.group_size)
    return _OF_MODE[kind]()


def config_of_layer(layer: Any) -> Any:
    """The configuration of a quantized layer: its own, or the one that its dtype policy describes.

    Raises ValueError if they disagree, as in a damaged file.
    """
    policy = own_policy(layer)
    if policy is None or policy.quantization_mode is None:
        return layer.quantization_config or Int8QuantizationConfig()
    config = layer.quantization_config or config_of_policy(policy)
    if config.mode != policy.quantization_mode:
        raise ValueError(
            f"layer {layer.name!r}: quantization_config has mode {config.mode!r}, its dtype policy {policy.name!r} has another"
        )
    return config


def policy_of_layer(layer: Any) -> DTypePolicy:
    """The dtype policy of a quantized layer."""
    if layer.quantization_mode == "float8" and hasattr(own := own_policy(layer), "amax_history_length"):
        return own
    source = layer.dtype if layer._policy is None else layer._policy.source_name
    return dtype_policy.get(f"{config_of_layer(layer).dtype_policy_string()}_from_{source}")
