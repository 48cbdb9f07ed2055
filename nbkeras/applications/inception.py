"""InceptionV3 (Szegedy et al., 2015), InceptionResNetV2 (2016), Xception (Chollet, 2016), NASNet (Zoph et al., 2017)."""

import functools
from collections.abc import Sequence
from typing import Any

from nbkeras import layers
from nbkeras.applications.network import KERNELS, Body, Network, network
from nbkeras.applications.parts import Options, applied, channel_axis, classified, conv, halving, joined, norm, relu
from nbkeras.applications.scaling import CustomScaleLayer

_WIDE, _TALL = (1, 7), (7, 1)
_START = [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]


def _unit(x: Any, filters: int, kernel: Any, stride: int = 1, padding: str = "same", names: tuple = (None,) * 3) -> Any:
    """A convolution, batch normalization without gamma, and relu. With stride 2 the windows are whole."""
    padding = padding if stride == 1 else "valid"
    first = conv(filters, kernel, names[0], strides=stride, padding=padding)
    return applied(x, first, norm(names[1], scale=False), relu(names[2]))


def _branches(x: Any, *branches: Sequence, pool: int | None = None) -> list:
    """The ends of branches, each a sequence of arguments of `_unit`; and of averages with `pool` filters, or of maxima for 0."""
    ends = [functools.reduce(lambda end, unit: _unit(end, *unit), branch, x) for branch in branches]
    if pool:
        ends.append(_unit(layers.AveragePooling2D(3, strides=1, padding="same")(x), pool, 1))
    elif pool == 0:
        ends.append(layers.MaxPooling2D(3, strides=2)(x))
    return ends


def _stem(x: Any) -> Any:
    x = _unit(_unit(_unit(x, 32, 3, 2), 32, 3, padding="valid"), 64, 3)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = _unit(_unit(x, 80, 1, padding="valid"), 192, 3, padding="valid")
    return layers.MaxPooling2D(3, strides=2)(x)


def _v3_features(x: Any, options: Options) -> Any:
    x = _stem(x)
    for number, pool in enumerate((32, 64, 64)):
        x = joined(_branches(x, [(64, 1)], *_START, pool=pool), f"mixed{number}")
    x = joined(_branches(x, [(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], pool=0), "mixed3")
    for number, n in enumerate((128, 160, 160, 192), 4):
        small, large = [(n, _WIDE), (192, _TALL)], [(n, _TALL), (n, _WIDE), (n, _TALL), (192, _WIDE)]
        x = joined(_branches(x, [(192, 1)], [(n, 1), *small], [(n, 1), *large], pool=192), f"mixed{number}")
    large = [(192, _WIDE), (192, _TALL)]
    x = joined(_branches(x, [(192, 1), (320, 3, 2)], [(192, 1), *large, (192, 3, 2)], pool=0), "mixed8")
    for number in range(2):
        ends = _branches(x, [(320, 1)])
        for units, name in (([(384, 1)], f"mixed9_{number}"), ([(448, 1), (384, 3)], None)):
            (middle,) = _branches(x, units)
            ends.append(joined(_branches(middle, [(384, (1, 3))], [(384, (3, 1))]), name))
        x = joined([*ends, *_branches(x, pool=192)], f"mixed{9 + number}")
    return x


# Name, how often, factor of the new values, branches. A reduction is there once, and has no factor.
_RESNET: tuple[tuple[str, int, float | None, Sequence], ...] = (
    ("block35", 10, 0.17, ([(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)])),
    ("mixed_6a", 1, None, ([(384, 3, 2)], [(256, 1), (256, 3), (384, 3, 2)])),
    ("block17", 20, 0.1, ([(192, 1)], [(128, 1), (160, _WIDE), (192, _TALL)])),
    ("mixed_7a", 1, None, ([(256, 1), (384, 3, 2)], [(256, 1), (288, 3, 2)], [(256, 1), (288, 3), (320, 3, 2)])),
    ("block8", 10, 0.2, ([(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))])),
)


def _resnet_features(x: Any, options: Options) -> Any:
    x = joined(_branches(_stem(x), [(96, 1)], *_START, pool=64), "mixed_5b")
    for kind, count, scale, branches in _RESNET:
        if scale is None:
            x = joined(_branches(x, *branches, pool=0), kind)
            continue
        for number in range(1, count + 1):
            name, last = f"{kind}_{number}", kind == "block8" and number == count
            mixed = joined(_branches(x, *branches), f"{name}_mixed")
            new = conv(x.shape[channel_axis()], 1, f"{name}_conv", use_bias=True)(mixed)
            x = CustomScaleLayer(1.0 if last else scale)([x, new])
            x = x if last else relu(f"{name}_ac")(x)
    return _unit(x, 1536, 1, names=("conv_7b", "conv_7b_bn", "conv_7b_ac"))


def _separable(x: Any, filters: int, name: str) -> Any:
    separable = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)
    return applied(x, separable, norm(f"{name}_bn"))


def _xception_features(x: Any, options: Options) -> Any:
    for number, (filters, stride) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{number}"
        first = conv(filters, 3, name, strides=stride, padding="valid")
        x = applied(x, first, norm(f"{name}_bn"), relu(f"{name}_act"))
    for block in range(2, 14):
        residual, name = x, f"block{block}"
        widths = {2: (128, 128), 3: (256, 256), 4: (728, 728), 13: (728, 1024)}.get(block, (728, 728, 728))
        if len(widths) == 2:
            residual = applied(x, conv(widths[1], 1, strides=2), norm())
        for number, each in enumerate(widths, 1):
            x = relu(f"{name}_sepconv{number}_act")(x) if block > 2 or number > 1 else x
            x = _separable(x, each, f"{name}_sepconv{number}")
        if len(widths) == 2:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
        x = layers.Add()([x, residual])
    for number, each in enumerate((1536, 2048), 1):
        name = f"block14_sepconv{number}"
        x = relu(f"{name}_act")(_separable(x, each, name))
    return x


def _network(name: str, body: Body, own: str, minimum: int) -> Network:
    return network(name, body, classified, f"{own}/{KERNELS.format(own)}", own, 299, minimum)


InceptionV3 = _network("InceptionV3", _v3_features, "inception_v3", 75)
InceptionResNetV2 = _network("InceptionResNetV2", _resnet_features, "inception_resnet_v2", 75)
Xception = _network("Xception", _xception_features, "xception", 71)

_nasnet_norm = functools.partial(norm, momentum=0.9997, epsilon=1e-3)


def _he_conv(filters: int, name: str) -> Any:
    return conv(filters, 1, name, kernel_initializer="he_normal")


def _twice_separable(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    """Twice relu, a separable convolution and batch normalization."""
    for number in (1, 2):
        x, own = relu()(x), f"separable_conv_{number}"
        before, padding = halving(x, kernel, stride, f"{own}_pad_{name}")
        separable = layers.SeparableConv2D(filters, kernel, stride, padding, use_bias=False, name=f"{own}_{name}")
        x, stride = applied(x, *before, separable, _nasnet_norm(f"{own}_bn_{name}")), 1
    return x


def _adjusted(p: Any, x: Any, filters: int, name: str) -> Any:
    """The output `p` of an earlier cell with the sides of `x` and with `filters` channels."""
    if p is None:
        return x
    if p.shape[-2] != x.shape[-2]:
        p, halves = relu(f"adjust_relu_1_{name}")(p), []
        moved = applied(p, layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Cropping2D(((1, 0), (1, 0))))
        for number, half in enumerate((p, moved), 1):
            pool = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{number}_{name}")
            halves.append(applied(half, pool, _he_conv(filters // 2, f"adjust_conv_{number}_{name}")))
        return _nasnet_norm(f"adjust_bn_{name}")(joined(halves))
    if p.shape[-1] != filters:
        p = applied(p, relu(), _he_conv(filters, f"adjust_conv_projection_{name}"))
        return _nasnet_norm(f"adjust_bn_{name}")(p)
    return p


def _cell(x: Any, p: Any, filters: int, name: str, reduces: bool) -> Any:
    """A normal cell, or one that halves the sides, of the outputs `x` and `p` of the cells before it."""
    kind = "reduction" if reduces else "normal"
    p = _adjusted(p, x, filters, name)
    h = applied(x, relu(), _he_conv(filters, f"{kind}_conv_1_{name}"), _nasnet_norm(f"{kind}_bn_1_{name}"))

    def separable(y: Any, kernel: int, own: str, stride: int = 2 if reduces else 1) -> Any:
        return _twice_separable(y, filters, kernel, f"{kind}_{own}_{name}", stride)

    def average(y: Any, own: str, stride: int = 1) -> Any:
        return layers.AveragePooling2D(3, stride, "valid" if stride == 2 else "same", name=f"{kind}_{own}_{name}")(y)

    def added(own: str | None, *pair: Any) -> Any:
        return layers.Add(name=own and f"{kind}_{own}_{name}")(list(pair))

    if reduces:
        padded = applied(h, *halving(h, 3, 2, f"reduction_pad_1_{name}")[0])
        x1 = added("add_1", separable(h, 5, "left1"), separable(p, 7, "right1"))
        x2 = added("add_2", layers.MaxPooling2D(3, 2, name=f"{kind}_left2_{name}")(padded), separable(p, 7, "right2"))
        x3 = added("add3", average(padded, "left3", 2), separable(p, 5, "right3"))
        x4 = added(None, x2, average(x1, "left4"))
        x5 = added(
            "add4", separable(x1, 3, "left4", 1), layers.MaxPooling2D(3, 2, name=f"{kind}_right5_{name}")(padded)
        )
        return joined([x2, x3, x4, x5], f"reduction_concat_{name}")
    x1 = added("add_1", separable(h, 5, "left1"), separable(p, 3, "right1"))
    x2 = added("add_2", separable(p, 5, "left2"), separable(p, 3, "right2"))
    x3 = added("add_3", average(h, "left3"), p)
    x4 = added("add_4", average(p, "left4"), average(p, "right4"))
    x5 = added("add_5", separable(h, 3, "left5"), h)
    return joined([p, x1, x2, x3, x4, x5], f"normal_concat_{name}")


def _nasnet_features(x: Any, options: Options, stem: int, filters: int, count: int, skips: bool) -> Any:
    """skips: whether the cell after a reduction takes the second input of the reduction, not the first."""
    first = conv(stem, 3, "stem_conv1", strides=2, padding="valid", kernel_initializer="he_normal")
    x, before = applied(x, first, _nasnet_norm("stem_bn1")), None
    for number, divisor in enumerate((4, 2), 1):
        x, before = _cell(x, before, filters // divisor, f"stem_{number}", True), x
    for group in range(3):
        if group:
            reduced = _cell(x, before, filters << group, f"reduce_{group * count}", True)
            x, before = reduced, before if skips else x
        for number in range(count):
            x, before = _cell(x, before, filters << group, f"{group * count + bool(group) + number}", False), x
    return relu()(x)


def _nasnet(kind: str, side: int, **plan: Any) -> Network:
    name, body = f"NASNet{kind.capitalize()}", functools.partial(_nasnet_features, **plan)
    arguments = "input_shape include_top weights input_tensor pooling classes classifier_activation name"
    options: Any = {"arguments": arguments, "without": "-no-top", "known_size": True, "channels_first": False}
    return network(name, body, _end, f"nasnet/NASNet-{kind}{{top}}.h5", f"nasnet_{kind}", side, **options)


_end = functools.partial(classified, mean=None)
NASNetLarge = _nasnet("large", 331, stem=96, filters=168, count=6, skips=True)
NASNetMobile = _nasnet("mobile", 224, stem=32, filters=44, count=4, skips=False)
