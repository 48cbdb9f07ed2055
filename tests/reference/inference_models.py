"""Small models of each kind, for tests of what is made of a model's inference: libraries and frozen models."""

import numpy as np

from nbkeras import Input, Model, Sequential, layers
from nbkeras.engine import structures
from nbkeras.engine.tensor import apply
from nbkeras.kernels import device

random = np.random.default_rng(0)


def floats(*shape):
    return random.normal(size=shape).astype("float32")


def mlp():
    return Sequential([Input((20,)), layers.Dense(64, "relu"), layers.Dense(10, "softmax")])


def cnn():
    return Sequential(
        [
            Input((14, 14, 3)),
            layers.Conv2D(16, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.DepthwiseConv2D(3),
            layers.Conv2D(8, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def quantized_mlp():
    model = mlp()
    model.quantize("int8")
    return model


def quantized_cnn():
    model = cnn()
    model.quantize("int8", beyond_keras=True)
    return model


def lstm_stack():
    return Sequential([Input((7, 5)), layers.LSTM(16, return_sequences=True), layers.LSTM(8), layers.Dense(3)])


def transformer():
    x = Input((6, 16))
    normal = layers.LayerNormalization()(x)
    y = layers.Add()([x, layers.MultiHeadAttention(2, 8)(normal, normal)])
    z = layers.Dense(16)(layers.Dense(32, "gelu")(layers.LayerNormalization()(y)))
    return Model(x, layers.Dense(4, "tanh")(layers.GlobalAveragePooling1D()(layers.Add()([y, z]))))


def two_and_two():
    a, b = Input((4,), name="left"), Input((3,), dtype="int32", name="words")
    words = layers.Flatten()(layers.Embedding(9, 2)(b))
    joined = layers.Concatenate()([a, words])
    return Model([a, b], [layers.Dense(2, name="score")(joined), layers.Reshape((2, 5), name="both")(joined)])


def kernel_layer(kernel):
    """A layer that launches a kernel of (x, y)."""

    def op(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(kernel, x, y)
        return y, None

    class Own(layers.Layer):
        def call(self, inputs):
            return apply(op, None, [inputs])

    return Own()


def inputs_of(model, rows):
    return [
        floats(rows, *x.shape[1:])
        if x.dtype.kind == "f"
        else random.integers(0, 9, (rows, *x.shape[1:])).astype(x.dtype)
        for x in model.inputs
    ]


def same_bits(found, expected):
    for ours, theirs in zip(structures.flatten(found), structures.flatten(expected), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
