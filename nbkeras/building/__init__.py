"""Floor 2: layers, their weights and their graphs. Quantization and stateless calls are imported when first used."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:
    from nbkeras.building.quantization import add_quantized as add_quantized
    from nbkeras.building.quantization import config_from as config_from
    from nbkeras.building.quantization import integers_for as integers_for
    from nbkeras.building.quantization import prepare_quantized as prepare_quantized
    from nbkeras.building.quantization import quantize_layer as quantize_layer
    from nbkeras.building.quantization import quantize_model as quantize_model
    from nbkeras.building.stateless import stateless_call as stateless_call
    from nbkeras.building.stateless import stateless_compute_loss as stateless_compute_loss

_lazy_names.attach(globals())
