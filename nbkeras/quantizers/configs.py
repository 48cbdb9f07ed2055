"""The configurations of `Model.quantize`, one class for each mode."""

from __future__ import annotations

from typing import Any, Literal

from nbkeras.engine import dtype_policy, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtype_policy import DTypePolicy
from nbkeras.engine.registry import Registered
from nbkeras.quantizers.policies import check_mode, own_policy
from nbkeras.quantizers.rounding import EPSILON, LIMITS, AbsMaxQuantizer, limits_of, registry


class QuantizationConfig(Registered, option.Configured, registry=registry):
    """Base of the objects that describe how to quantize a model.

    Args:
        weight_quantizer: A quantizer of weights; None for the usual one.
        activation_quantizer: A quantizer of the inputs of products; None to leave them unchanged.

    Example:
        >>> keras.quantizers.Int4QuantizationConfig(block_size=32).mode
        'int4'
    """

    def __init__(self, weight_quantizer: Any = None, activation_quantizer: Any = None):
        self.weight_quantizer, self.activation_quantizer = (
            registry.get(weight_quantizer),
            registry.get(activation_quantizer),
        )

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


registry.register(QuantizationConfig)


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
        self._check_quantizers()

    @property
    def mode(self) -> Literal["int8"]:
        """'int8'."""
        return "int8"

    @property
    def is_usual(self) -> bool:
        """Whether it is the default configuration of its mode."""
        return self.weight_quantizer is None and limits_of(self.activation_quantizer) == (*LIMITS, EPSILON)


class Int4QuantizationConfig(QuantizationConfig):
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

    @property
    def mode(self) -> Literal["int4"]:
        """'int4'."""
        return "int4"

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


class Float8QuantizationConfig(QuantizationConfig):
    """Training with numbers rounded to 8-bit floats: see `Model.quantize` with mode 'float8'. It has no options.

    Example:
        >>> keras.quantizers.Float8QuantizationConfig().mode
        'float8'
    """

    def __init__(self) -> None:
        super().__init__()

    @property
    def mode(self) -> Literal["float8"]:
        """'float8'."""
        return "float8"

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this object: none."""
        return {}


class _Calibrated(QuantizationConfig, registered=False):
    """The base of configurations whose weights depend on samples of inputs."""

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

    @property
    def mode(self) -> Literal["gptq"]:
        """'gptq'."""
        return "gptq"


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

    @property
    def mode(self) -> Literal["awq"]:
        """'awq'."""
        return "awq"


_OF_MODE = {"int8": Int8QuantizationConfig, "int4": Int4QuantizationConfig, "float8": Float8QuantizationConfig}
_NEEDS_DATA = {"gptq": GPTQConfig, "awq": AWQConfig}


def config_of(mode: Any, config: Any) -> Any:
    """The configuration from the arguments of `quantize`; ValueError if they are invalid."""
    if isinstance(config, str):
        mode, config = config, None
    if config is None and mode is None:
        raise ValueError("You must provide either `mode` or `config` to `quantize`.")
    if mode is not None:
        check_mode(mode)
    if config is None:
        if mode in _NEEDS_DATA:
            raise ValueError(
                f"mode {mode!r} needs samples: pass config={_NEEDS_DATA[mode].__name__}(dataset, tokenizer, ...)"
            )
        return _OF_MODE[mode]()
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
    if kind in _NEEDS_DATA:
        return _NEEDS_DATA[kind](None, None, weight_bits=policy.weight_bits, group_size=policy.group_size)
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
