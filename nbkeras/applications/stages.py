"""VGG (Simonyan, Zisserman, 2014), ResNet (He et al., 2015, 2016), DenseNet (Huang et al., 2016), ConvNeXt (Liu et al., 2022)."""

import functools
from typing import Any

from nbkeras import layers
from nbkeras.applications.imagenet_utils import DEVIATIONS, MEANS
from nbkeras.applications.network import KERNELS, USUAL, Body, Network, network
from nbkeras.applications.parts import Options, applied, classified, conv, joined, named, norm, pooled, relu
from nbkeras.applications.scaling import LayerScale
from nbkeras.training.sequential import Sequential

_norm = functools.partial(norm, epsilon=1.001e-5)


def _network(folder: str, name: str, features: Body, *counts: int, **options: Any) -> Network:
    """A network whose stages have these numbers of blocks."""
    body, file = functools.partial(features, counts=counts), f"{folder}/{KERNELS.format(name.lower())}"
    return network(name, body, default_name=name.lower(), file=file, **{"top": classified, "rest": named, **options})


def _active(name: str) -> tuple:
    return _norm(f"{name}bn"), relu(f"{name}relu")


def _vgg_features(x: Any, options: Options, counts: tuple) -> Any:
    for block, count in enumerate(counts, 1):
        for number in range(1, count + 1):
            name, filters = f"block{block}_conv{number}", min(32 << block, 512)
            x = conv(filters, 3, name, activation="relu", use_bias=True)(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def _vgg_end(x: Any, options: Options) -> Any:
    hidden = [layers.Dense(4096, activation="relu", name=name) for name in ("fc1", "fc2")]
    last = layers.Dense(options.classes, activation=options.classifier_activation, name="predictions")
    return applied(x, layers.Flatten(name="flatten"), *hidden, last)


VGG16 = _network("vgg16", "VGG16", _vgg_features, 2, 2, 3, 3, 3, top=_vgg_end, rest=pooled)
VGG19 = _network("vgg19", "VGG19", _vgg_features, 2, 2, 4, 4, 4, top=_vgg_end, rest=pooled)


def _resnet_features(x: Any, options: Options, counts: tuple, second: bool = False) -> Any:
    start = layers.ZeroPadding2D(3, name="conv1_pad"), layers.Conv2D(64, 7, strides=2, name="conv1_conv")
    pool = layers.ZeroPadding2D(1, name="pool1_pad"), layers.MaxPooling2D(3, strides=2, name="pool1_pool")
    x = applied(x, *start, *(() if second else _active("conv1_")), *pool)
    for stage, count in enumerate(counts, 2):
        for number in range(1, count + 1):
            name, filters, first = f"conv{stage}_block{number}_", 32 << (stage - 1), number == 1
            if second:
                x = _second_block(x, name, filters, first, 2 if number == count and stage < 5 else 1)
            else:
                x = _first_block(x, name, filters, first, 2 if first and stage > 2 else 1)
    return applied(x, *_active("post_")) if second else x


def _first_block(x: Any, name: str, filters: int, projects: bool, stride: int) -> Any:
    shortcut = x
    if projects:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}0_conv")(x)
        shortcut = _norm(f"{name}0_bn")(shortcut)
    x = applied(x, layers.Conv2D(filters, 1, strides=stride, name=f"{name}1_conv"), *_active(f"{name}1_"))
    x = applied(x, layers.Conv2D(filters, 3, padding="same", name=f"{name}2_conv"), *_active(f"{name}2_"))
    x = applied(x, layers.Conv2D(4 * filters, 1, name=f"{name}3_conv"), _norm(f"{name}3_bn"))
    return relu(f"{name}out")(layers.Add(name=f"{name}add")([shortcut, x]))


def _second_block(x: Any, name: str, filters: int, projects: bool, stride: int) -> Any:
    before = applied(x, *_active(f"{name}preact_"))
    shortcut = x
    if projects:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}0_conv")(before)
    elif stride > 1:
        shortcut = layers.MaxPooling2D(1, strides=stride)(x)
    x = applied(before, conv(filters, 1, f"{name}1_conv"), *_active(f"{name}1_"))
    middle = conv(filters, 3, f"{name}2_conv", strides=stride, padding="valid")
    x = applied(x, layers.ZeroPadding2D(1, name=f"{name}2_pad"), middle, *_active(f"{name}2_"))
    return layers.Add(name=f"{name}out")([shortcut, layers.Conv2D(4 * filters, 1, name=f"{name}3_conv")(x)])


_resnet_v2_features = functools.partial(_resnet_features, second=True)
ResNet50 = _network("resnet", "ResNet50", _resnet_features, 3, 4, 6, 3)
ResNet101 = _network("resnet", "ResNet101", _resnet_features, 3, 4, 23, 3)
ResNet152 = _network("resnet", "ResNet152", _resnet_features, 3, 8, 36, 3)
ResNet50V2 = _network("resnet", "ResNet50V2", _resnet_v2_features, 3, 4, 6, 3)
ResNet101V2 = _network("resnet", "ResNet101V2", _resnet_v2_features, 3, 4, 23, 3)
ResNet152V2 = _network("resnet", "ResNet152V2", _resnet_v2_features, 3, 8, 36, 3)


def _densenet_features(x: Any, options: Options, counts: tuple) -> Any:
    x = applied(x, layers.ZeroPadding2D(3), conv(64, 7, "conv1_conv", strides=2, padding="valid"))
    x = applied(x, *_active("conv1_"), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, strides=2, name="pool1"))
    for stage, count in enumerate(counts, 2):
        for number in range(1, count + 1):
            name = f"conv{stage}_block{number}_"
            new = applied(x, *_active(f"{name}0_"), conv(128, 1, f"{name}1_conv"))
            new = applied(new, *_active(f"{name}1_"), conv(32, 3, f"{name}2_conv"))
            x = joined([x, new], f"{name}concat")
        if stage < 5:
            pool = layers.AveragePooling2D(2, strides=2, name=f"pool{stage}_pool")
            x = applied(x, *_active(f"pool{stage}_"), conv(x.shape[-1] // 2, 1, f"pool{stage}_conv"), pool)
    return applied(x, *_active(""))


DenseNet121 = _network("densenet", "DenseNet121", _densenet_features, 6, 12, 24, 16, channels_first=False)
DenseNet169 = _network("densenet", "DenseNet169", _densenet_features, 6, 12, 32, 32, channels_first=False)
DenseNet201 = _network("densenet", "DenseNet201", _densenet_features, 6, 12, 48, 32, channels_first=False)

_layer_norm = functools.partial(layers.LayerNormalization, epsilon=1e-6)


def _convnext_features(x: Any, options: Options, third: int, width: int) -> Any:
    name = options.name
    if options.include_preprocessing and options.input_shape[-1] == 3:
        means, variances = [255 * each for each in MEANS], [(255 * each) ** 2 for each in DEVIATIONS]
        x = layers.Normalization(mean=means, variance=variances, name=f"{name}_prestem_normalization")(x)
    stem = [layers.Conv2D(width, 4, strides=4, name=f"{name}_stem_conv"), _layer_norm(name=f"{name}_stem_layernorm")]
    starts = [Sequential(stem, name=f"{name}_stem")]
    for at in range(3):
        half = layers.Conv2D(width << (at + 1), 2, strides=2, name=f"{name}_downsampling_conv_{at}")
        halving = [_layer_norm(name=f"{name}_downsampling_layernorm_{at}"), half]
        starts.append(Sequential(halving, name=f"{name}_downsampling_block_{at}"))
    for stage, (start, count) in enumerate(zip(starts, (3, 3, third, 3), strict=True)):
        x = start(x)
        for number in range(count):
            own, filters = f"{name}_stage_{stage}_block_{number}", width << stage
            new = layers.Conv2D(filters, 7, padding="same", groups=filters, name=f"{own}_depthwise_conv")(x)
            new = layers.Dense(4 * filters, name=f"{own}_pointwise_conv_1")(_layer_norm(name=f"{own}_layernorm")(new))
            new = layers.Activation("gelu", name=f"{own}_gelu")(new)
            scale = LayerScale(1e-6, filters, name=f"{own}_layer_scale")
            new = scale(layers.Dense(filters, name=f"{own}_pointwise_conv_2")(new))
            x = x + layers.Activation("linear", name=f"{own}_identity")(new)
    return x


def _convnext_end(x: Any, options: Options) -> Any:
    x = layers.GlobalAveragePooling2D(name=f"{options.name}_head_gap")(x)
    x, name = _layer_norm(name=f"{options.name}_head_layernorm")(x), f"{options.name}_head_dense"
    return layers.Dense(options.classes, activation=options.classifier_activation, name=name)(x)


def _convnext(size: str, third: int, width: int) -> Network:
    name, body = f"convnext_{size.lower()}", functools.partial(_convnext_features, third=third, width=width)
    arguments = USUAL.replace("weights", "include_preprocessing weights")
    options: Any = {"channels_first": False, "rest": lambda x, options: _layer_norm()(pooled(x, options))}
    file = f"convnext/{name}{{top}}.h5"
    return network(f"ConvNeXt{size}", body, _convnext_end, file, name, arguments=arguments, **options)


ConvNeXtTiny = _convnext("Tiny", 9, 96)
ConvNeXtSmall = _convnext("Small", 27, 96)
ConvNeXtBase = _convnext("Base", 27, 128)
ConvNeXtLarge = _convnext("Large", 27, 192)
ConvNeXtXLarge = _convnext("XLarge", 27, 256)
