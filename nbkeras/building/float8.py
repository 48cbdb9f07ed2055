"""Floor 2: the call of a layer that trains with numbers rounded to 8-bit floats, Keras's mode 'float8'. Imported when used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.engine import learning_phase
from nbkeras.engine.tensor import Tensor
from nbkeras.quantizers import float8


def float8_call(layer: Any, inputs: Tensor, product: Callable) -> Tensor:
    """activation(product(inputs, kernel) + bias); inputs and kernel are rounded to e4m3, the product's gradient to e5m2.

    In training, each rounding updates its scale and history. In Keras these get new values as their gradients, which the
    optimizer writes; here they are written at once.
    """
    if layer.lora_enabled:
        raise NotImplementedError(f"layer {layer.name!r}: quantization mode 'float8' does not support LoRA")
    updates = learning_phase.thread.training and layer.trainable

    def rounded(part: str, x: Tensor, kind: str) -> Tensor:
        scale, history = getattr(layer, f"{part}_scale"), getattr(layer, f"{part}_amax_history")
        y = float8.quantize_and_dequantize(x, scale, kind, layer.compute_dtype)
        if updates:
            new = float8.compute_float8_scale(ops.max(history), scale, float8.FORMATS[kind].largest)
            history.assign(float8.compute_float8_amax_history(x, history))
            scale.assign(new)
        return y

    def passing(part: str) -> Callable:
        return ops.custom_gradient(lambda x: (rounded(part, x, "float8_e4m3fn"), lambda dy: dy))

    outputs = product(passing("inputs")(inputs), passing("kernel")(layer.kernel))
    outputs = ops.custom_gradient(lambda y: (y, lambda dy: rounded("outputs_grad", dy, "float8_e5m2")))(outputs)
    if layer.bias is not None:
        bias = layer.bias
        if layer.compute_dtype == "float32":
            bias = ops.cast(ops.cast(bias, "bfloat16"), "float32")  # as Keras, which says: to fuse the addition on GPUs
        outputs = ops.add(outputs, bias)
    return layer.activation(outputs)
