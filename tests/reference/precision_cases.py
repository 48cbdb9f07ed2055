"""The cases of precision.npz: scripts/make_precision_references.py computes them by Keras, a test of layers by nbkeras."""

import numpy as np

POLICIES = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")
DTYPES = ("bool", "uint8", "int16", "int32", "bfloat16", "float16", "float32", "int", "float")


def numbers(seed, *shape):
    """Normal numbers of float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGES, ROWS, STEPS = (2, 6, 6, 3), (4, 6), (2, 5, 6)
# name -> the shape of the input, and a function of Keras's layers and of a policy. JAX has no orthogonal matrices of bfloat16.
LAYERS = {
    "dense": (ROWS, lambda layers, p: layers.Dense(5, activation="relu", dtype=p)),
    "dense_tanh": (ROWS, lambda layers, p: layers.Dense(5, activation="tanh", dtype=p)),
    "conv2d": (IMAGES, lambda layers, p: layers.Conv2D(4, 3, activation="relu", padding="same", dtype=p)),
    "depthwise": (IMAGES, lambda layers, p: layers.DepthwiseConv2D(3, dtype=p)),
    "lstm": (STEPS, lambda layers, p: layers.LSTM(4, return_sequences=True, recurrent_initializer="zeros", dtype=p)),
    "gru": (STEPS, lambda layers, p: layers.GRU(4, recurrent_initializer="zeros", dtype=p)),
    "batch_normalization": (IMAGES, lambda layers, p: layers.BatchNormalization(dtype=p)),
    "layer_normalization": (STEPS, lambda layers, p: layers.LayerNormalization(dtype=p)),
    "group_normalization": ((2, 4, 4, 6), lambda layers, p: layers.GroupNormalization(3, dtype=p)),
    "rms_normalization": (STEPS, lambda layers, p: layers.RMSNormalization(dtype=p)),
    "attention": (STEPS, lambda layers, p: layers.MultiHeadAttention(2, 3, dtype=p)),
    "embedding": ((2, 4), lambda layers, p: layers.Embedding(9, 4, dtype=p)),
    "softmax": (ROWS, lambda layers, p: layers.Softmax(dtype=p)),
    "average_pooling": (IMAGES, lambda layers, p: layers.AveragePooling2D(2, dtype=p)),
    "rescaling": (ROWS, lambda layers, p: layers.Rescaling(1 / 3, 0.1, dtype=p)),
}


def inputs_of(name):
    """The arguments of a layer's call."""
    shape = LAYERS[name][0]
    if name == "embedding":
        return (np.random.default_rng(5).integers(0, 9, shape).astype(np.int32),)
    x = numbers(5, *shape)
    return (x, x) if name == "attention" else (x,)


def weights_like(arrays):
    """Values for weights of these shapes; those of a variance stay positive."""
    return [
        0.5 * numbers(10 + i, *a.shape) if a.ndim > 1 else 1 + 0.25 * np.abs(numbers(10 + i, *a.shape))
        for i, a in enumerate(arrays)
    ]


def network(keras, policy, last="float32"):
    """A model with a dense, a normalizing and a dense layer; the last one computes in float32, as Keras advises."""
    layers = keras.layers
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", dtype=policy, name="first")(inputs)
    x = layers.LayerNormalization(dtype=policy, name="middle")(x)
    return keras.Model(inputs, layers.Dense(2, dtype=last, name="last")(x))


# name -> policy, factor of the targets (large ones overflow float16), optimizer's arguments
TRAININGS = {
    "mixed_bfloat16": ("mixed_bfloat16", 1.0),
    "mixed_float16": ("mixed_float16", 1.0),
    "mixed_float16_overflow": ("mixed_float16", 300.0),
    "bfloat16": ("bfloat16", 1.0),
}


def batches(factor):
    """Three batches."""
    return [(numbers(20 + i, 16, 6), factor * numbers(30 + i, 16, 2)) for i in range(3)]
