"""Keras's `quantizers`: how `Model.quantize` converts weights to integers, and products convert their inputs."""

from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.quantizers.configs import AWQConfig as AWQConfig
from nbkeras.quantizers.configs import Float8QuantizationConfig as Float8QuantizationConfig
from nbkeras.quantizers.configs import GPTQConfig as GPTQConfig
from nbkeras.quantizers.configs import Int4QuantizationConfig as Int4QuantizationConfig
from nbkeras.quantizers.configs import Int8QuantizationConfig as Int8QuantizationConfig
from nbkeras.quantizers.configs import QuantizationConfig as QuantizationConfig
from nbkeras.quantizers.float8 import compute_float8_amax_history as compute_float8_amax_history
from nbkeras.quantizers.float8 import compute_float8_scale as compute_float8_scale
from nbkeras.quantizers.float8 import quantize_and_dequantize as quantize_and_dequantize
from nbkeras.quantizers.packing import pack_int4 as pack_int4
from nbkeras.quantizers.packing import unpack_int4 as unpack_int4
from nbkeras.quantizers.rounding import AbsMaxQuantizer as AbsMaxQuantizer
from nbkeras.quantizers.rounding import Quantizer as Quantizer
from nbkeras.quantizers.rounding import abs_max_quantize as abs_max_quantize
from nbkeras.quantizers.rounding import (
    abs_max_quantize_grouped_with_zero_point as abs_max_quantize_grouped_with_zero_point,
)
from nbkeras.quantizers.rounding import fake_quant_with_min_max_vars as fake_quant_with_min_max_vars
from nbkeras.quantizers.rounding import registry as _registry

deserialize = _registry.deserialize


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
    return _registry.serialize(initializer)


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
    return _registry.get(identifier, **kwargs)


_lazy_names.attach(globals(), _registry)
