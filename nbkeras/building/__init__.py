"""Floor 2: layers, their weights and their graphs. Quantization and stateless calls are imported when first used."""

from typing import TYPE_CHECKING

from nbkeras.engine import dtype_policy as _dtype_policy
from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:
    from nbkeras.building.float8 import float8_call as float8_call
    from nbkeras.building.packing import add_quantized as add_quantized
    from nbkeras.building.packing import integers_for as integers_for
    from nbkeras.building.quantization import prepare_quantized as prepare_quantized
    from nbkeras.building.quantization import quantize_layer as quantize_layer
    from nbkeras.building.quantization import quantize_model as quantize_model
    from nbkeras.building.stateless import stateless_call as stateless_call
    from nbkeras.building.stateless import stateless_compute_loss as stateless_compute_loss
    from nbkeras.quantizers.configs import config_from as config_from
    from nbkeras.quantizers.configs import config_of_layer as config_of_layer
    from nbkeras.quantizers.configs import policy_of_layer as policy_of_layer
    from nbkeras.quantizers.float8 import add_scales as add_scales

_dtype_policy.quantized = _lazy_names.LazyModule("nbkeras.quantizers.policies")
_lazy_names.attach(globals())
