"""Writes conv.npz and conv_kinds.npz: outputs, gradients and output shapes of Keras's convolution and pooling layers, in float64.

Run: python tests/reference/make_conv.py [conv | conv_kinds]  (made with Keras 3.15.0, JAX 0.10.2, on CPU)

Inputs and weights are not stored: they are `wave(shape, number)`, and so are the gradients that come in from above.
"""

import json
import os
import sys

import numpy as np
from arrays import store

SEQUENCE, IMAGE, VOLUME = (2, 9, 4), (1, 8, 7, 4), (1, 4, 5, 3, 4)


def wave(shape, number):
    """Numbers between -2 and 2 in quarters: exact in every float format, with equal ones among them."""
    return np.round(np.sin(np.arange(np.prod(shape)) * 1.7 + number) * 8).reshape(shape) / 4


def conv1d():
    for padding in ("valid", "same", "causal"):
        for size, stride, dilation in ((1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 1), (3, 1, 2), (2, 1, 3), (9, 1, 1)):
            arguments = {"kernel_size": size, "strides": stride, "dilation_rate": dilation, "padding": padding}
            yield "Conv1D", {"filters": 2, **arguments}, SEQUENCE
    yield "Conv1D", {"filters": 6, "kernel_size": 3, "groups": 2, "use_bias": False}, SEQUENCE
    yield "Conv1D", {"filters": 3, "kernel_size": 3, "data_format": "channels_first", "activation": "softmax"}, SEQUENCE


def conv2d():
    for padding in ("valid", "same"):
        for size, stride, dilation in (
            ((1, 1), (1, 1), (1, 1)),
            ((3, 3), (1, 1), (1, 1)),
            ((2, 4), (1, 1), (1, 1)),
            ((3, 2), (2, 1), (1, 1)),
            ((2, 3), (3, 2), (1, 1)),
            ((3, 3), (2, 2), (1, 1)),
            ((1, 1), (2, 2), (1, 1)),
            ((3, 2), (1, 1), (2, 3)),
            ((8, 7), (1, 1), (1, 1)),
        ):
            arguments = {"kernel_size": size, "strides": stride, "dilation_rate": dilation, "padding": padding}
            yield "Conv2D", {"filters": 3, "activation": "relu", **arguments}, IMAGE
    yield "Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "same", "strides": 2}, IMAGE
    yield "Conv2D", {"filters": 4, "kernel_size": (3, 2), "groups": 4, "use_bias": False}, IMAGE
    yield "Conv2D", {"filters": 3, "kernel_size": (3, 2), "data_format": "channels_first", "padding": "same"}, IMAGE


def pooling():
    for kind in ("MaxPooling", "AveragePooling"):
        for padding in ("valid", "same"):
            for size, stride in ((2, None), (3, None), (3, 2), (2, 3), (4, 1), (1, 2)):
                yield kind + "1D", {"pool_size": size, "strides": stride, "padding": padding}, SEQUENCE
            for size, stride in (((2, 2), None), ((2, 2), (1, 1)), ((3, 2), None), ((3, 3), (2, 2)), ((1, 4), (3, 3))):
                yield kind + "2D", {"pool_size": size, "strides": stride, "padding": padding}, IMAGE
        yield kind + "2D", {"pool_size": 2, "data_format": "channels_first"}, IMAGE
        yield "Global" + kind + "1D", {}, SEQUENCE
        yield "Global" + kind + "2D", {"keepdims": True}, IMAGE
        yield "Global" + kind + "2D", {"data_format": "channels_first"}, IMAGE


def sizes():
    yield "ZeroPadding1D", {"padding": (1, 2)}, SEQUENCE
    yield "ZeroPadding2D", {"padding": ((1, 0), (2, 3))}, IMAGE
    yield "ZeroPadding2D", {"padding": (1, 2), "data_format": "channels_first"}, IMAGE
    yield "Cropping1D", {"cropping": (1, 2)}, SEQUENCE
    yield "Cropping2D", {"cropping": ((1, 0), (2, 3))}, IMAGE
    yield "Cropping2D", {"cropping": (1, 2), "data_format": "channels_first"}, (2, 4, 8, 7)
    yield "UpSampling1D", {"size": 3}, SEQUENCE
    yield "UpSampling2D", {"size": (2, 3)}, IMAGE
    yield "UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, IMAGE
    yield "UpSampling2D", {"size": (3, 2), "interpolation": "bilinear", "data_format": "channels_first"}, IMAGE


def transposed():
    for padding in ("valid", "same"):
        for size, stride, dilation, more in (
            (1, 1, 1, None),
            (3, 1, 1, None),
            (2, 3, 1, None),
            (3, 2, 1, None),
            (4, 2, 1, 1),
            (3, 3, 1, 0),
            (3, 1, 2, None),
            (2, 1, 3, 0),
        ):
            window = {"kernel_size": size, "strides": stride, "dilation_rate": dilation, "padding": padding}
            yield "Conv1DTranspose", {"filters": 3, **window, "output_padding": more}, (2, 4, 2)
        for size, stride, more in (((3, 2), (1, 3), None), ((2, 5), (2, 2), (1, 0)), ((3, 3), (2, 2), None)):
            window = {"kernel_size": size, "strides": stride, "output_padding": more, "padding": padding}
            yield "Conv2DTranspose", {"filters": 3, "activation": "relu", **window}, (1, 3, 4, 2)
            window = {"kernel_size": (2, *size), "strides": (3, *stride), "padding": padding}
            more = None if more is None else (2, *more)
            yield "Conv3DTranspose", {"filters": 2, **window, "output_padding": more}, (1, 2, 3, 2, 2)
    arguments = {"filters": 3, "kernel_size": 3, "data_format": "channels_first"}
    yield "Conv2DTranspose", {**arguments, "strides": 2, "padding": "same"}, (1, 2, 4, 3)
    yield "Conv2DTranspose", {**arguments, "dilation_rate": (1, 2), "use_bias": False}, (1, 2, 4, 3)
    yield "Conv3DTranspose", {**arguments, "strides": 2}, (1, 2, 2, 3, 2)


def depthwise():
    for padding in ("valid", "same"):
        for size, stride, dilation, many in (
            ((3, 3), (1, 1), (1, 1), 1),
            ((3, 2), (1, 1), (1, 1), 3),
            ((2, 3), (2, 2), (1, 1), 2),
            ((3, 2), (1, 1), (2, 3), 1),
        ):
            window = {"kernel_size": size, "strides": stride, "dilation_rate": dilation, "padding": padding}
            yield "DepthwiseConv2D", {"depth_multiplier": many, "activation": "relu", **window}, IMAGE
            yield "SeparableConv2D", {"filters": 3, "depth_multiplier": many, **window}, IMAGE
            window = {"kernel_size": size[0], "strides": stride[0], "dilation_rate": dilation[0], "padding": padding}
            yield "DepthwiseConv1D", {"depth_multiplier": many, **window}, SEQUENCE
            yield (
                "SeparableConv1D",
                {"filters": 5, "depth_multiplier": many, "activation": "softmax", **window},
                SEQUENCE,
            )
    arguments = {"kernel_size": 3, "depth_multiplier": 2, "data_format": "channels_first"}
    yield "DepthwiseConv2D", {**arguments, "use_bias": False}, (1, 2, 5, 4)
    yield "SeparableConv2D", {**arguments, "filters": 3, "activation": "softmax"}, (1, 2, 5, 4)
    yield "DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, (1, 5, 4, 1)


def volumes():
    for padding in ("valid", "same"):
        for size, stride, dilation in (
            ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
            ((2, 3, 2), (1, 1, 1), (1, 1, 1)),
            ((3, 2, 1), (2, 1, 3), (1, 1, 1)),
            ((2, 2, 2), (1, 1, 1), (3, 2, 1)),
        ):
            window = {"kernel_size": size, "strides": stride, "dilation_rate": dilation, "padding": padding}
            yield "Conv3D", {"filters": 3, "activation": "relu", **window}, VOLUME
    yield "Conv3D", {"filters": 6, "kernel_size": 2, "groups": 2}, VOLUME
    yield "Conv3D", {"filters": 8, "kernel_size": 2, "groups": 4, "strides": 2}, VOLUME
    yield "Conv3D", {"filters": 2, "kernel_size": (2, 3, 3), "data_format": "channels_first", "padding": "same"}, VOLUME
    for kind in ("MaxPooling", "AveragePooling"):
        for padding in ("valid", "same"):
            for size, stride in (((2, 2, 2), None), ((3, 2, 3), (2, 1, 1)), ((1, 3, 2), (3, 2, 2))):
                yield kind + "3D", {"pool_size": size, "strides": stride, "padding": padding}, VOLUME
        yield kind + "3D", {"pool_size": 2, "data_format": "channels_first"}, VOLUME
        yield "Global" + kind + "3D", {}, VOLUME
        yield "Global" + kind + "3D", {"keepdims": True, "data_format": "channels_first"}, VOLUME
    yield "ZeroPadding3D", {"padding": ((1, 0), (2, 3), (0, 1))}, VOLUME
    yield "ZeroPadding3D", {"padding": (1, 2, 0), "data_format": "channels_first"}, (1, 2, 2, 2, 2)
    yield "Cropping3D", {"cropping": ((1, 0), (2, 1), (0, 1))}, VOLUME
    yield "Cropping3D", {"cropping": 1, "data_format": "channels_first"}, (1, 2, 4, 5, 3)
    yield "UpSampling3D", {"size": (2, 1, 3)}, (1, 2, 3, 2, 2)
    yield "UpSampling3D", {"size": 2, "data_format": "channels_first"}, (1, 2, 2, 2, 2)


def other_sizes():
    for kind in ("AdaptiveMaxPooling", "AdaptiveAveragePooling"):
        for size in (1, 3, 4, 9, 11):
            yield kind + "1D", {"output_size": size}, SEQUENCE
        yield kind + "2D", {"output_size": (3, 5)}, IMAGE
        yield kind + "2D", {"output_size": 2, "data_format": "channels_first"}, IMAGE
        yield kind + "3D", {"output_size": (3, 2, 2)}, VOLUME
        yield kind + "3D", {"output_size": 2, "data_format": "channels_first"}, VOLUME
    for interpolation in ("bicubic", "lanczos3", "lanczos5"):
        yield "UpSampling2D", {"size": (2, 3), "interpolation": interpolation}, IMAGE
    yield "UpSampling2D", {"size": 4, "interpolation": "bicubic", "data_format": "channels_first"}, (1, 2, 3, 2)


FILES = {
    "conv": [*conv1d(), *conv2d(), *pooling(), *sizes()],
    "conv_kinds": [*transposed(), *depthwise(), *volumes(), *other_sizes()],
}


def main():
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    jax.config.update("jax_enable_x64", True)
    import keras

    keras.config.set_floatx("float64")
    for file in sys.argv[1:] or FILES:
        write(keras, jax, file, FILES[file])


def write(keras, jax, file, cases):
    arrays, shapes = {}, []
    for number, (name, arguments, shape) in enumerate(cases):
        layer = getattr(keras.layers, name)(**arguments)
        layer.build(shape)
        weights = [wave(w.shape, i + 1) for i, w in enumerate(layer.weights)]
        unknown = (None, *[None if i + 1 != layer_channels(arguments, shape) else n for i, n in enumerate(shape[1:])])

        def forward(x, weights, layer=layer):
            return layer.stateless_call(weights, [], x)[0]

        x = wave(shape, 0)
        y, back = jax.vjp(forward, x, weights)
        dx, dweights = back(wave(y.shape, 3))
        arrays[f"{number}"] = np.concatenate([np.ravel(a) for a in (y, dx, *dweights)])
        shapes.append(layer.compute_output_shape(unknown))
    arrays["cases"], arrays["shapes"] = json.dumps(cases), json.dumps(shapes)
    store(f"{file}.npz", arrays)


def layer_channels(arguments, shape):
    """The axis of an input's channels."""
    return 1 if arguments.get("data_format") == "channels_first" else len(shape) - 1


if __name__ == "__main__":
    main()
