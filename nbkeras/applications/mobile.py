"""MobileNet (Howard et al., 2017), MobileNetV2 (Sandler et al., 2018) and MobileNetV3 (Howard et al., 2019)."""

import functools
from typing import Any

from nbkeras import layers
from nbkeras.applications.network import Network, network, wrong
from nbkeras.applications.parts import Options, applied, channel_axis, classified, conv, halving, named, norm, rounded
from nbkeras.engine.user_errors import warn

_SIDES = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}  # else 224


def _trained_side(name: str, options: Options, widths: tuple) -> Any:
    """The side of the images for which the weights were trained: that of the network's images, or 224."""
    sides = _SIDES.get(name, (224,))
    if options.pretrained and options.alpha not in widths:
        raise wrong(name, f"with the weights 'imagenet', alpha must be {' or '.join(map(str, widths))}", options.alpha)
    if options.pretrained and options.side not in sides:
        warn(f"{name}: there are weights for the sizes {sides}; those for images of 224x224 are used")
        return 224
    return options.side


def _relu6(name: str | None = None) -> Any:
    return layers.ReLU(6.0, name=name)


_slow_norm = functools.partial(norm, epsilon=1e-3, momentum=0.999)


def _block(x: Any, number: int, name: str, sizes: tuple, active: Any, names: tuple, squeezes: bool = False) -> Any:
    """An inverted residual block. sizes: channels within it, filters, side of windows, stride; names: see their use."""
    inputs, (expanded, filters, kernel, stride), (pad, end) = x, sizes, names
    if number:
        x = applied(x, conv(expanded, 1, f"{name}expand"), _slow_norm(f"{name}expand{end}"), active(f"{name}expand"))
    own, (before, padding) = f"{name}depthwise", halving(x, kernel, stride, f"{name}{pad}")
    depthwise = layers.DepthwiseConv2D(kernel, strides=stride, padding=padding, use_bias=False, name=own)
    x = applied(x, *before, depthwise, _slow_norm(f"{own}{end}"), active(own))
    if squeezes:
        own = f"{name}squeeze_excite"
        factors = layers.GlobalAveragePooling2D(keepdims=True, name=f"{own}_avg_pool")(x)
        factors = conv(rounded(expanded * 0.25), 1, f"{own}_conv", use_bias=True)(factors)
        factors = conv(expanded, 1, f"{own}_conv_1", use_bias=True)(layers.ReLU(name=f"{own}_relu")(factors))
        x = layers.Multiply(name=f"{own}_mul")([x, _relu6()(factors + 3.0) * (1.0 / 6.0)])
    x = applied(x, conv(filters, 1, f"{name}project"), _slow_norm(f"{name}project{end}"))
    added = stride == 1 and inputs.shape[channel_axis()] == filters
    return layers.Add(name=f"{name}add")([inputs, x]) if added else x


_V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
_WIDTHS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}


def _v1_features(x: Any, options: Options) -> Any:
    side, multiplier = _trained_side("MobileNet", options, tuple(_WIDTHS)), options.depth_multiplier
    if options.pretrained and multiplier != 1:
        raise wrong("MobileNet", "the weights 'imagenet' need depth_multiplier=1", multiplier)
    options.variant = f"{_WIDTHS.get(options.alpha)}_{side}"
    options.name = options.name or f"mobilenet_{options.alpha:0.2f}_{side}"
    x = applied(x, conv(int(32 * options.alpha), 3, "conv1", strides=2), norm("conv1_bn"), _relu6("conv1_relu"))
    for number, (filters, stride) in enumerate(_V1_BLOCKS, 1):
        depthwise, pointwise, padding = f"conv_dw_{number}", f"conv_pw_{number}", "same" if stride == 1 else "valid"
        if stride == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
        windows = layers.DepthwiseConv2D(3, stride, padding, multiplier, use_bias=False, name=depthwise)
        x = applied(x, windows, norm(f"{depthwise}_bn"), _relu6(f"{depthwise}_relu"))
        mixed = conv(int(filters * options.alpha), 1, pointwise)
        x = applied(x, mixed, norm(f"{pointwise}_bn"), _relu6(f"{pointwise}_relu"))
    return x


def _v1_end(x: Any, options: Options) -> Any:
    x = applied(x, layers.GlobalAveragePooling2D(keepdims=True), layers.Dropout(options.dropout, name="dropout"))
    last = conv(options.classes, 1, "conv_preds", use_bias=True)
    end = layers.Activation(options.classifier_activation, name="predictions")
    return applied(x, last, layers.Reshape((options.classes,), name="reshape_2"), end)


_FILE = "mobilenet/mobilenet_{variant}_tf{top}.h5"
_V1 = "input_shape alpha depth_multiplier dropout include_top weights input_tensor pooling classes classifier_activation name"
MobileNet = network(
    "MobileNet", _v1_features, _v1_end, _FILE, size=_SIDES["MobileNet"], arguments=_V1, without="_no_top"
)

_V2_GROUPS = ((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6))


def _v2_features(x: Any, options: Options) -> Any:
    side = _trained_side("MobileNetV2", options, (0.35, 0.5, 0.75, 1.0, 1.3, 1.4))
    options.variant = f"{float(options.alpha)}_{side}"
    options.name = options.name or f"mobilenetv2_{options.alpha:0.2f}_{side}"
    first = conv(rounded(32 * options.alpha), 3, "Conv1", strides=2)
    x, number = applied(x, first, _slow_norm("bn_Conv1"), _relu6("Conv1_relu")), 0
    for filters, count, stride, expansion in _V2_GROUPS:
        for at in range(count):
            name = f"block_{number}_" if number else "expanded_conv_"
            sizes = expansion * x.shape[channel_axis()], rounded(int(filters * options.alpha)), 3, 1 if at else stride
            x = _block(x, number, name, sizes, lambda own: _relu6(f"{own}_relu"), ("pad", "_BN"))
            number += 1
    last = conv(rounded(1280 * max(options.alpha, 1.0)), 1, "Conv_1", padding="valid")
    return applied(x, last, _slow_norm("Conv_1_bn"), _relu6("out_relu"))


_FILE = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{variant}{top}.h5"
_V2 = "input_shape alpha include_top weights input_tensor pooling classes classifier_activation name"
_end = functools.partial(classified, mean=None)
MobileNetV2 = network(
    "MobileNetV2", _v2_features, _end, _FILE, size=_SIDES["MobileNetV2"], arguments=_V2, without="_no_top"
)

# Of each block: expansion, filters, stride; then any of w (wide windows, 5x5), s (squeeze and excite), h (hard-swish).
_SMALL = (
    *((1, 16, 2, "s"), (72 / 16, 24, 2, ""), (88 / 24, 24, 1, ""), (4, 40, 2, "wsh"), *[(6, 40, 1, "wsh")] * 2),
    *((3, 48, 1, "wsh"), (3, 48, 1, "wsh"), (6, 96, 2, "wsh"), (6, 96, 1, "wsh"), (6, 96, 1, "wsh")),
)
_LARGE = (
    *((1, 16, 1, ""), (4, 24, 2, ""), (3, 24, 1, ""), (3, 40, 2, "ws"), (3, 40, 1, "ws"), (3, 40, 1, "ws")),
    *((6, 80, 2, "h"), (2.5, 80, 1, "h"), (2.3, 80, 1, "h"), (2.3, 80, 1, "h"), (6, 112, 1, "sh"), (6, 112, 1, "sh")),
    *((6, 160, 2, "wsh"), (6, 160, 1, "wsh"), (6, 160, 1, "wsh")),
)


def _v3_active(hard: bool) -> Any:
    return layers.Activation("hard_swish") if hard else layers.ReLU()


def _v3_features(x: Any, options: Options, blocks: tuple, name: str) -> Any:
    _trained_side(name, options, (1.0,) if options.minimalistic else (0.75, 1.0))
    options.variant = f"{'_minimalistic' if options.minimalistic else ''}_224_{options.alpha}"
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(x) if options.include_preprocessing else x
    x = applied(x, conv(16, 3, "conv", strides=2), _slow_norm("conv_bn"), _v3_active(not options.minimalistic))
    for number, (expansion, filters, stride, kinds) in enumerate(blocks):
        kinds, name = "" if options.minimalistic else kinds, f"expanded_conv_{number}_" if number else "expanded_conv_"
        expanded, kernel = rounded(x.shape[channel_axis()] * expansion), 5 if "w" in kinds else 3
        sizes, hard = (expanded, rounded(filters * options.alpha), kernel, stride), "h" in kinds
        x = _block(
            x, number, name, sizes, lambda _, hard=hard: _v3_active(hard), ("depthwise_pad", "_bn"), "s" in kinds
        )
    last = conv(rounded(6 * x.shape[channel_axis()]), 1, "conv_1")
    return applied(x, last, _slow_norm("conv_1_bn"), _v3_active(not options.minimalistic))


def _v3_end(x: Any, options: Options, hidden: int) -> Any:
    hidden = rounded(hidden * options.alpha) if options.alpha > 1 else hidden
    wide = conv(hidden, 1, "conv_2", use_bias=True)
    x = applied(x, layers.GlobalAveragePooling2D(keepdims=True), wide, _v3_active(not options.minimalistic))
    x = layers.Dropout(options.dropout_rate)(x) if options.dropout_rate > 0 else x
    end = layers.Flatten(), layers.Activation(options.classifier_activation, name="predictions")
    return applied(x, conv(options.classes, 1, "logits", use_bias=True), *end)


def _v3(name: str, blocks: tuple, hidden: int) -> Network:
    body = functools.partial(_v3_features, blocks=blocks, name=name)
    end = functools.partial(_v3_end, hidden=hidden)
    file = f"mobilenet_v3/weights_mobilenet_v3_{name[11:].lower()}{{variant}}_float{{top}}.h5"
    options: Any = {"without": "_no_top_v2", "any_size": True, "rest": named}
    return network(name, body, end, file, name, arguments=f"{_V3} include_preprocessing name", **options)


_V3 = (
    "input_shape alpha minimalistic include_top weights input_tensor classes pooling dropout_rate classifier_activation"
)
MobileNetV3Small = _v3("MobileNetV3Small", _SMALL, 1024)
MobileNetV3Large = _v3("MobileNetV3Large", _LARGE, 1280)
