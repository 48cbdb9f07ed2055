"""Numbers of 8 bits with a floating point, by rounding: e4m3 and e5m2, with scales from histories of largest values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nbkeras import ops
from nbkeras.engine import learning_phase, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor
from nbkeras.quantizers.policies import own_policy


class Format(NamedTuple):
    """The bits of a format's fraction, its smallest exponent, and its largest number."""

    fraction: int
    exponent: int
    largest: float


FORMATS = {"float8_e4m3fn": Format(3, -6, 448.0), "float8_e5m2": Format(2, -14, 57344.0)}
_EXPONENT = 0x7F800000  # the bits of a float32's exponent: alone, they are the power of 2 below the number


def _rounded(x: Tensor, format: Format) -> Tensor:
    """Float32 numbers rounded to even to a format that holds their range; the gradient passes through."""

    @ops.custom_gradient
    def run(x: Tensor) -> Any:
        power = ops.view(ops.bitwise_and(ops.view(x, "int32"), _EXPONENT), "float32")
        step = ops.multiply(ops.maximum(power, 2.0**format.exponent), 2.0**-format.fraction)
        return ops.multiply(ops.round(ops.divide(x, step)), step), lambda dy: dy

    return run(x)  # type: ignore[return-value]


def compute_float8_scale(amax, scale, dtype_max, margin: float = 0) -> Tensor:
    """The scale for the next step: amax * 2^margin / dtype_max, or the present one if amax is 0 or not finite.

    Args:
        amax: The largest absolute value of the last steps.
        scale: The present scale.
        dtype_max: The largest number of the 8-bit format: 448 for e4m3, 57344 for e5m2.
        margin: A power of 2 that is left free.

    Example:
        >>> float(keras.quantizers.compute_float8_scale(896.0, 1.0, 448.0))
        2.0
    """
    amax, scale = ops.convert_to_tensor(amax), ops.convert_to_tensor(scale)
    known = ops.logical_and(amax > 0, ops.isfinite(amax))
    factor = ops.divide(ops.divide(dtype_max, ops.where(known, amax, 1.0)), 2.0**margin)
    return ops.reciprocal(ops.where(known, factor, ops.reciprocal(scale)))


def compute_float8_amax_history(x, amax_history) -> Tensor:
    """The history of largest absolute values after one more step: shifted by one, with this step's value first.

    Args:
        x: The numbers of this step.
        amax_history: The history, a vector.

    Example:
        >>> keras.quantizers.compute_float8_amax_history(np.array([1.0, -3.0]), np.array([5.0, 6.0, 7.0])).numpy()
        array([3., 7., 5.])
    """
    history = ops.convert_to_tensor(amax_history)
    rolled = ops.roll(history, -1)
    newest = ops.reshape(ops.cast(ops.max(ops.abs(x)), history.dtype), (1,))
    return ops.concatenate([newest, rolled[1:]])


def quantize_and_dequantize(inputs, scale, quantized_dtype: str, compute_dtype: Any) -> Tensor:
    """Numbers rounded to an 8-bit format: inputs / scale are clipped to its range and rounded, then multiplied by the scale.

    Args:
        inputs: Floats.
        scale: A number.
        quantized_dtype: 'float8_e4m3fn' or 'float8_e5m2'.
        compute_dtype: The dtype of the result.

    Returns:
        A tensor; the gradient passes through the rounding.

    Raises:
        ValueError: for another format.

    Example:
        >>> keras.quantizers.quantize_and_dequantize(np.array([1.06, 500.0]), 1.0, "float8_e4m3fn", "float32").numpy()
        array([  1., 448.], dtype=float32)
    """
    if quantized_dtype not in FORMATS:
        raise ValueError(f"quantized_dtype must be one of {list(FORMATS)}, received {briefly(quantized_dtype)}")
    x, scale = ops.cast(inputs, compute_dtype), ops.cast(scale, compute_dtype)
    format = FORMATS[quantized_dtype]
    inside = ops.cast(ops.clip(ops.divide(x, scale), -format.largest, format.largest), "float32")
    return ops.multiply(ops.cast(_rounded(inside, format), compute_dtype), scale)


# -------------------- layers --------------------


def add_scales(layer: Any) -> None:
    """Add a built layer's scales, and its histories of largest values. Its own weights do not change.

    Raises NotImplementedError for a layer without a product.
    """
    if set(layer.quantized_channels) != {"kernel"} or not layer.is_quantized_by_keras:
        raise NotImplementedError(
            f"quantization mode 'float8' is for Dense and EinsumDense, received the layer {briefly(layer.name)} "
            f"({type(layer).__name__})"
        )
    length = getattr(own_policy(layer), "amax_history_length", 1024)
    for part in ("inputs", "kernel", "outputs_grad"):
        for what, shape, values in (("scale", (), "ones"), ("amax_history", (length,), "zeros")):
            name = f"{part}_{what}"
            weight = layer.add_weight(shape, values, "float32", trainable=False, name=name, autocast=False)
            setattr(layer, name, weight)
    layer._computation = _computed
    tensor.outdate(layer)


def _computed(layer: Any, product: Callable, inputs: Tensor) -> Tensor:
    """activation(product(inputs, kernel) + bias); inputs and kernel are rounded to e4m3, the product's gradient to e5m2.

    In training, each rounding updates its scale and history. In Keras these get new values as their gradients, which the
    optimizer writes; here they are written at once.
    """
    if layer.lora_enabled:
        raise NotImplementedError(f"layer {layer.name!r}: quantization mode 'float8' does not support LoRA")
    updates = learning_phase.thread.training and layer.trainable

    def rounded(part: str, x: Tensor, kind: str) -> Tensor:
        scale, history = getattr(layer, f"{part}_scale"), getattr(layer, f"{part}_amax_history")
        y = quantize_and_dequantize(x, scale, kind, layer.compute_dtype)
        if updates:
            new = compute_float8_scale(ops.max(history), scale, FORMATS[kind].largest)
            history.assign(compute_float8_amax_history(x, history))
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
