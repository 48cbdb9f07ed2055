"""`tf.nn`: activations, convolutions, pooling, normalization and crossentropies with TensorFlow's arguments."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras import random as random_ops
from nbkeras.compat.tensorflow import arrays
from nbkeras.compat.tensorflow.spelling import spell, spelled
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, as_tensor

dropout = spelled(random_ops.dropout, "x:inputs rate noise_shape seed")
embedding_lookup = spelled(ops.embedding, "params:table ids:indices")
leaky_relu = spelled(ops.leaky_relu, "features:x alpha:negative_slope")
spell(globals(), {"features:x": "elu relu relu6 selu", "input:x block_size": "depth_to_space space_to_depth"})


def _format(data_format: str | None, axes: int) -> str:
    """'channels_last' or 'channels_first' for TensorFlow's 'NHWC', 'NCHW' and their like."""
    spatial = "DHW"[-axes:] if axes else ""
    last, first = f"N{spatial}C", f"NC{spatial}"
    known = (None, last, first)
    return "channels_first" if one_of("tf.nn", "data_format", data_format, known) == first else "channels_last"


def _sizes(name: str, value: Any, axes: int, data_format: str) -> Any:
    """The sizes of the inner axes: of an integer, of one for each, or of TensorFlow's for all axes, (1, 2, 2, 1)."""
    if value is None or isinstance(value, int):
        return 1 if value is None else value
    value = tuple(map(int, value))
    if len(value) == axes + 2:
        value = value[1:-1] if data_format == "channels_last" else value[2:]
    if len(value) not in (1, axes):
        raise ValueError(f"tf.nn: {name} must be an integer, or one for each of {axes} axes, received {briefly(value)}")
    return value[0] if len(value) == 1 else value


def _padded(x: Any, padding: Any) -> tuple[Any, str]:
    """The tensor and 'same' or 'valid'; padding by explicit widths happens here."""
    if isinstance(padding, list | tuple):
        return arrays.pad(x, padding), "valid"
    return x, one_of("tf.nn", "padding", padding, ("same", "valid"), any_case=True)


def _convolved(
    function: Callable, x: Any, filters: Any, strides: Any, padding: Any, form: Any, dilations: Any, axes: int
) -> Any:
    form = _format(form, axes)
    x, padding = _padded(x, padding)
    given = {
        "strides": _sizes("strides", strides, axes, form),
        "dilation_rate": _sizes("dilations", dilations, axes, form),
    }
    return function(x, filters, padding=padding, data_format=form, **given)


def _convolution(function: Callable, axes: int, strides: str = "strides") -> Callable[..., Any]:
    """TensorFlow's function of convolutions along this number of axes. strides: its name of that argument."""

    def convolve(input: Any, filters: Any, strides: Any, padding: Any, form: Any = None, dilations: Any = None) -> Any:
        """A convolution of (batch, places along the axes, channels) with filters (places, channels, outputs or multiplier)."""
        return _convolved(function, input, filters, strides, padding, form, dilations, axes)

    filters = "filters" if function is ops.conv else "filter:filters"
    return spelled(convolve, f"input {filters} {strides} padding data_format:form dilations")


conv1d = _convolution(ops.conv, 1, "stride:strides")
conv2d, conv3d = _convolution(ops.conv, 2), _convolution(ops.conv, 3)
depthwise_conv2d = _convolution(ops.depthwise_conv, 2)


def convolution(
    input: Any,
    filters: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: Any = None,
    dilations: Any = None,
    name: Any = None,
) -> Tensor:
    """A convolution of sequences, images or volumes, by the number of axes."""
    return _convolved(ops.conv, input, filters, strides, padding, data_format, dilations, len(ops.shape(input)) - 2)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: Any = None,
    dilations: Any = None,
    name: Any = None,
) -> Tensor:
    """A convolution of each channel, then one of all channels at each place."""
    y = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    return conv2d(y, pointwise_filter, 1, "VALID", data_format)


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: Any = "NHWC",
    dilations: Any = None,
    name: Any = None,
) -> Tensor:
    """The transposed convolution, with a result of output_shape; filters: (height, width, outputs, channels)."""
    form = _format(data_format, 2)
    padding = one_of("tf.nn", "padding", padding, ("same", "valid"), any_case=True)
    step, dilation = (_sizes(name_, each, 2, form) for name_, each in (("strides", strides), ("dilations", dilations)))
    steps = (step, step) if isinstance(step, int) else step
    wanted = _sizes("output_shape", output_shape, 2, form)
    own = ops.shape(input)[1:3] if form == "channels_last" else ops.shape(input)[2:4]
    kernel = ops.shape(filters)[:2]
    if padding == "same":
        minimum = [n * s - s + 1 for n, s in zip(own, steps, strict=True)]
        extra = [w - (n - 1) * s - k + 2 * (k // 2) for w, n, s, k in zip(wanted, own, steps, kernel, strict=True)]
        fits = all(m <= w <= n * s for m, w, n, s in zip(minimum, wanted, own, steps, strict=True))
    else:
        extra = [w - (n - 1) * s - k for w, n, s, k in zip(wanted, own, steps, kernel, strict=True)]
        fits = all(0 <= each < s for each, s in zip(extra, steps, strict=True))
    if not fits:
        raise ValueError(
            f"tf.nn.conv2d_transpose: an input of shape {ops.shape(input)} has no output of shape {wanted}"
        )
    return ops.conv_transpose(input, filters, steps, padding, tuple(extra), form, dilation)


def _pooled(function: Callable, x: Any, ksize: Any, strides: Any, padding: Any, form: Any, axes: int) -> Tensor:
    form = _format(form, axes)
    padding = one_of("tf.nn", "padding", padding, ("same", "valid"), any_case=True)
    return function(x, _sizes("ksize", ksize, axes, form), _sizes("strides", strides, axes, form), padding, form)


def avg_pool(input: Any, ksize: Any, strides: Any, padding: str, data_format: Any = None, name: Any = None) -> Tensor:
    """The mean of each window; in windows over the edge, the mean of the elements inside."""
    return _pooled(ops.average_pool, input, ksize, strides, padding, data_format, len(ops.shape(input)) - 2)


def max_pool(input: Any, ksize: Any, strides: Any, padding: str, data_format: Any = None, name: Any = None) -> Tensor:
    """The largest element of each window."""
    return _pooled(ops.max_pool, input, ksize, strides, padding, data_format, len(ops.shape(input)) - 2)


avg_pool1d = avg_pool2d = avg_pool3d = avg_pool
max_pool1d = max_pool2d = max_pool3d = max_pool


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    strides: Any = None,
    padding: str = "VALID",
    data_format: Any = None,
    dilations: Any = None,
    name: Any = None,
) -> Tensor:
    """The largest elements ('MAX') or the means ('AVG') of windows, with steps of 1 by default."""
    if dilations is not None and any(
        each != 1 for each in (dilations if isinstance(dilations, list | tuple) else [dilations])
    ):
        raise ValueError(f"tf.nn.pool: dilations must be 1, received {briefly(dilations)}")
    kind = one_of("tf.nn.pool", "pooling_type", pooling_type, ("MAX", "AVG"))
    return (max_pool if kind == "MAX" else avg_pool)(input, window_shape, strides, padding, data_format)


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float, name: Any = None
) -> Tensor:
    """x normalized by a mean and a variance that broadcast to it, times a scale, plus an offset."""
    factor = ops.rsqrt(ops.add(variance, variance_epsilon))
    factor = factor if scale is None else factor * scale
    y = ops.multiply(ops.subtract(x, mean), factor)
    return y if offset is None else y + offset


def bias_add(value: Any, bias: Any, data_format: Any = None, name: Any = None) -> Tensor:
    """A bias for each channel added."""
    axes = len(ops.shape(value)) - 2
    if data_format is not None and data_format.startswith("NC") and data_format != "NC":
        bias = ops.reshape(bias, (-1, *[1] * axes))
    return ops.add(value, bias)


def compute_average_loss(per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None) -> Tensor:
    """The sum of the samples' losses, divided by the number of samples in the batch."""
    losses = as_tensor(per_example_loss)
    losses = losses if sample_weight is None else losses * ops.cast(sample_weight, losses.dtype)
    return ops.sum(losses) / (losses.shape[0] if global_batch_size is None else global_batch_size)


def gelu(features: Any, approximate: bool = False, name: Any = None) -> Tensor:
    """The Gaussian error linear unit, exact by default."""
    return ops.gelu(features, approximate)


def l2_loss(t: Any, name: Any = None) -> Tensor:
    """Half the sum of squares."""
    return ops.multiply(ops.sum(ops.square(t)), 0.5)


def lrn(
    input: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, name: Any = None
) -> Tensor:
    """Local response normalization: each channel divided by (bias + alpha * the squares of those near it) ** beta."""
    places = np.arange(ops.shape(input)[-1])
    near = (np.abs(places - places[:, None]) <= depth_radius).astype(np.float32)
    return ops.divide(input, ops.power(bias + alpha * ops.matmul(ops.square(input), near), beta))


def moments(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: Any = None, keep_dims: bool = False
) -> tuple[Tensor, Tensor]:
    """The mean and the variance along axes. keep_dims: TensorFlow 1's keepdims."""
    return ops.moments(x, axes, keepdims or keep_dims)


def silu(features: Any, beta: float = 1.0) -> Tensor:
    """x * sigmoid(beta * x)."""
    return ops.silu(features) if beta == 1 else ops.multiply(features, ops.sigmoid(ops.multiply(features, beta)))


swish = silu


def sigmoid_cross_entropy_with_logits(labels: Any, logits: Any, name: Any = None) -> Tensor:
    """The crossentropy of each element, before a sigmoid."""
    return weighted_cross_entropy_with_logits(labels, logits, 1.0)


def weighted_cross_entropy_with_logits(labels: Any, logits: Any, pos_weight: Any, name: Any = None) -> Tensor:
    """The crossentropy of each element, before a sigmoid, where labels of 1 count `pos_weight` times."""
    factor = 1 + ops.multiply(ops.subtract(pos_weight, 1.0), labels)
    return ops.multiply(ops.subtract(1.0, labels), logits) + factor * ops.softplus(ops.negative(logits))


def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: int = -1, name: Any = None) -> Tensor:
    """The crossentropy with probabilities as labels, before a softmax along an axis."""
    return ops.negative(ops.sum(ops.multiply(labels, ops.log_softmax(logits, axis)), axis))


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: Any = None) -> Tensor:
    """The crossentropy with the indices of classes as labels, before a softmax along the last axis."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
