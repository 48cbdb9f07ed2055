"""EfficientNet B0 to B7 (Tan and Le, 2019) and EfficientNetV2 (Tan and Le, 2021)."""

import functools
import math
from typing import Any

from nbkeras import initializers, layers
from nbkeras.applications.imagenet_utils import DEVIATIONS, MEANS
from nbkeras.applications.network import USUAL, Network, network
from nbkeras.applications.parts import Options, applied, channel_axis, classified, conv, halving, named, norm, rounded

# The filters before the stages; then, for each stage, how many blocks it has, and their filters.
_FIRST = 32, (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)
_B = 32, (1, 2, 2, 3, 5, 8), (16, 32, 48, 96, 112, 192)
_S = 24, (2, 4, 4, 6, 9, 15), (24, 48, 64, 128, 160, 256)
_M = 24, (3, 5, 5, 7, 14, 18, 5), (24, 48, 80, 160, 176, 304, 512)
_L = 32, (4, 7, 7, 10, 19, 25, 7), (32, 64, 96, 192, 224, 384, 640)
_STRIDES = 1, 2, 2, 2, 1, 2, 1  # of the first block of each stage
_KERNELS = 3, 3, 5, 3, 5, 5, 3  # of each stage in the first version; 3 in the second
_initial = functools.partial(initializers.VarianceScaling, 2.0, "fan_out", "truncated_normal")


def _conv(filters: int, kernel: int, name: str, **options: Any) -> Any:
    return conv(filters, kernel, name, kernel_initializer=_initial(), **options)


def _active(name: str, second: bool) -> tuple:
    return norm(f"{name}_bn", momentum=0.9 if second else 0.99), layers.Activation("swish", name=f"{name}_activation")


def _features(x: Any, options: Options, plan: tuple, width: float, depth: float) -> Any:
    second = plan is not _FIRST

    def filters_of(filters: int) -> int:
        return max(8, int(filters * width + 4) // 8 * 8) if second else rounded(filters * width)

    x = applied(x, *_scaling(options, second, plan is _B))
    before, padding = halving(x, 3, 2, "stem_conv_pad", not second)
    stem = _conv(filters_of(plan[0]), 3, "stem_conv", padding=padding, strides=2)
    x = applied(x, *before, stem, *_active("stem", second))
    counts = [math.ceil(depth * count) for count in plan[1]]
    total, number = sum(plan[1] if second else counts), 0
    for at, count in enumerate(counts):
        kernel, expand = (3, 4 if at < 4 else 6) if second else (_KERNELS[at], 6)
        for index in range(count):
            name, stride = f"block{at + 1}{chr(ord('a') + index)}", 1 if index else _STRIDES[at]
            sizes = filters_of(plan[2][at]), expand if at else 1, kernel, stride
            x, number = _block(x, name, *sizes, 0.2 * number / total, second, second and at < 3), number + 1
    return applied(x, _conv(filters_of(1280), 1, "top_conv"), *_active("top", second))


def _scaling(options: Options, second: bool, colours: bool) -> list:
    """The layers that scale images. colours: whether the second version standardizes the channels of colours."""
    axis = channel_axis()
    if not second:
        found = [layers.Rescaling(1 / 255), layers.Normalization(axis=axis)]
        if options.pretrained:  # with images that were divided by the deviations once more
            found.append(layers.Rescaling([1 / math.sqrt(each) for each in DEVIATIONS]))
        return found
    if not options.include_preprocessing:
        return []
    if not colours or options.input_shape[0 if axis == 1 else 2] != 3:
        return [layers.Rescaling(1 / 128, offset=-1)]
    variances = [each**2 for each in DEVIATIONS]
    return [layers.Rescaling(1 / 255), layers.Normalization(axis=axis, mean=MEANS, variance=variances)]


def _block(
    x: Any, name: str, filters: int, expand: int, kernel: int, stride: int, drop: float, second: bool, fused: bool
) -> Any:
    """An inverted residual block. fused: whether one convolution expands and looks at windows."""
    inputs, entering, axis = x, x.shape[channel_axis()], channel_axis()
    inner = entering * expand
    if expand != 1:
        wide = _conv(inner, kernel if fused else 1, f"{name}_expand_conv", strides=stride if fused else 1)
        x = applied(x, wide, *_active(f"{name}_expand", second))
    if not fused:
        own, (before, padding) = f"{name}_dwconv", halving(x, kernel, stride, f"{name}_dwconv_pad", not second)
        options: Any = {"use_bias": False, "depthwise_initializer": _initial(), "name": f"{own}2" if second else own}
        x = applied(x, *before, layers.DepthwiseConv2D(kernel, stride, padding, **options), *_active(name, second))
        factors = layers.GlobalAveragePooling2D(name=f"{name}_se_squeeze")(x)
        factors = layers.Reshape((inner, 1, 1) if axis == 1 else (1, 1, inner), name=f"{name}_se_reshape")(factors)
        for end, size, activation in (("reduce", max(1, entering // 4), "swish"), ("expand", inner, "sigmoid")):
            factors = _conv(size, 1, f"{name}_se_{end}", use_bias=True, activation=activation)(factors)
        x = layers.Multiply(name=f"{name}_se_excite")([x, factors])
    looks = fused and expand == 1  # the only convolution of the block
    project = _conv(filters, kernel if looks else 1, f"{name}_project_conv", strides=stride if looks else 1)
    normed, active = _active(f"{name}_project", second)
    x = applied(x, project, normed, *([active] if looks else []))
    if stride == 1 and entering == filters:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x) if drop else x
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _network(
    name: str, plan: tuple, side: int, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2
) -> Network:
    own, address, arguments = name.lower(), "https://storage.googleapis.com/keras-applications", USUAL
    if plan is not _FIRST:
        own, address = own.replace("v2", "v2-"), "efficientnet_v2"
        arguments = USUAL.replace(" name", " include_preprocessing name")
    body = functools.partial(_features, plan=plan, width=width, depth=depth)
    initializer = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    top = functools.partial(classified, dropout=dropout, kernel_initializer=initializer)
    return network(name, body, top, f"{address}/{own}{{top}}.h5", own, side, arguments=arguments, rest=named)


EfficientNetB0 = _network("EfficientNetB0", _FIRST, 224)
EfficientNetB1 = _network("EfficientNetB1", _FIRST, 240, 1.0, 1.1)
EfficientNetB2 = _network("EfficientNetB2", _FIRST, 260, 1.1, 1.2, 0.3)
EfficientNetB3 = _network("EfficientNetB3", _FIRST, 300, 1.2, 1.4, 0.3)
EfficientNetB4 = _network("EfficientNetB4", _FIRST, 380, 1.4, 1.8, 0.4)
EfficientNetB5 = _network("EfficientNetB5", _FIRST, 456, 1.6, 2.2, 0.4)
EfficientNetB6 = _network("EfficientNetB6", _FIRST, 528, 1.8, 2.6, 0.5)
EfficientNetB7 = _network("EfficientNetB7", _FIRST, 600, 2.0, 3.1, 0.5)
EfficientNetV2B0 = _network("EfficientNetV2B0", _B, 224)
EfficientNetV2B1 = _network("EfficientNetV2B1", _B, 240, 1.0, 1.1)
EfficientNetV2B2 = _network("EfficientNetV2B2", _B, 260, 1.1, 1.2)
EfficientNetV2B3 = _network("EfficientNetV2B3", _B, 300, 1.2, 1.4)
EfficientNetV2S = _network("EfficientNetV2S", _S, 384)
EfficientNetV2M = _network("EfficientNetV2M", _M, 480)
EfficientNetV2L = _network("EfficientNetV2L", _L, 480)
