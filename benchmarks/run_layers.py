"""Layers and optimizers that are not in the workloads, in nbkeras and Keras: run_layers.py FRAMEWORK all|smallest

First it writes the list of cases. Then it answers each line of standard input, the number of a case, with seconds: 'train', a
step of `fit`, and for layers 'predict', a call of `predict_on_batch` with the same batch. The case of a layer is a network with
two layers of the kind (so that one of them also computes the gradient of its input), the mean over all positions and a dense
layer, trained by SGD. The case of an optimizer is a step of a network of 670,000 weights on one sample, where the update is most
of the work.
"""

import json
import os
import statistics
import sys
import time

import numpy as np
from chosen_keras import Clock, k

L = k.layers
SMALLEST = sys.argv[2] == "smallest"
SECONDS, EPOCHS = (0.0, 1) if SMALLEST else (0.1, 5)


def attention(**call):
    """A multi-head self-attention."""
    return lambda x: L.MultiHeadAttention(4, 16)(x, x, **call)


IMAGE, SERIES, VOLUME, TOKENS = (32, 32, 64), (256, 64), (12, 16, 16, 16), (64, 64)
LAYERS = {  # name: shape of a sample, samples, a function that makes the layer
    "Conv1D(64, 5)": (SERIES, 32, lambda: L.Conv1D(64, 5, padding="same")),
    "Conv1D(64, 3, causal, dilation 4)": (SERIES, 32, lambda: L.Conv1D(64, 3, padding="causal", dilation_rate=4)),
    "Conv2D(64, 3)": (IMAGE, 16, lambda: L.Conv2D(64, 3, padding="same")),
    "Conv2D(64, 1)": (IMAGE, 16, lambda: L.Conv2D(64, 1)),
    "Conv2D(64, 3, groups 8)": (IMAGE, 16, lambda: L.Conv2D(64, 3, padding="same", groups=8)),
    "Conv2D(128, 3, groups 32), 56x56": ((56, 56, 128), 4, lambda: L.Conv2D(128, 3, padding="same", groups=32)),
    "Conv3D(16, 3)": (VOLUME, 8, lambda: L.Conv3D(16, 3, padding="same")),
    "DepthwiseConv2D(3)": (IMAGE, 16, lambda: L.DepthwiseConv2D(3, padding="same")),
    "DepthwiseConv2D(5, strides 2)": (IMAGE, 16, lambda: L.DepthwiseConv2D(5, 2, padding="same")),
    "SeparableConv2D(64, 3)": (IMAGE, 16, lambda: L.SeparableConv2D(64, 3, padding="same")),
    "SeparableConv2D(728, 3), 19x19": ((19, 19, 728), 4, lambda: L.SeparableConv2D(728, 3, padding="same")),
    "Conv2DTranspose(64, 3)": ((16, 16, 64), 16, lambda: L.Conv2DTranspose(64, 3, padding="same")),
    "Conv2DTranspose(64, 4, strides 2)": ((8, 8, 64), 16, lambda: L.Conv2DTranspose(64, 4, 2, padding="same")),
    "ConvLSTM2D(16, 3)": (
        (8, 16, 16, 16),
        8,
        lambda: L.ConvLSTM2D(16, 3, padding="same", return_sequences=True),
    ),
    "MaxPooling2D(2, strides 1)": (IMAGE, 16, lambda: L.MaxPooling2D(2, 1)),
    "AveragePooling3D(2, strides 1)": (VOLUME, 8, lambda: L.AveragePooling3D(2, 1)),
    "UpSampling2D(2, bilinear)": ((8, 8, 64), 16, lambda: L.UpSampling2D(2, interpolation="bilinear")),
    "MultiHeadAttention(4, 16)": (TOKENS, 32, attention),
    "MultiHeadAttention(4, 16), causal": (TOKENS, 32, lambda: attention(use_causal_mask=True)),
    "EinsumDense('abc,cd->abd')": (TOKENS, 32, lambda: L.EinsumDense("abc,cd->abd", (None, 64))),
    "BatchNormalization()": (IMAGE, 16, L.BatchNormalization),
    "LayerNormalization()": (SERIES, 32, L.LayerNormalization),
    "GroupNormalization(8)": (IMAGE, 16, lambda: L.GroupNormalization(8)),
    "RMSNormalization()": (SERIES, 32, L.RMSNormalization),
    "Bidirectional(GRU(32))": (TOKENS, 32, lambda: L.Bidirectional(L.GRU(32, return_sequences=True))),
    "SimpleRNN(64)": (TOKENS, 32, lambda: L.SimpleRNN(64, return_sequences=True)),
}
OPTIMIZERS = ["SGD", "RMSprop", "Adagrad", "Adadelta", "Adam", "AdamW", "Adamax", "Nadam", "Ftrl", "Lion", "Adafactor"]
OPTIMIZERS += ["Lamb", "Muon"]


def layer_case(name):
    """A model and a batch of inputs."""
    shape, samples, make = LAYERS[name]
    x = inputs = k.Input(shape)
    for _ in range(2):
        x = make()(x)
    while len(x.shape) > 2:
        x = L.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else L.Reshape((-1, x.shape[-1]))(x)
    model = k.Model(inputs, L.Dense(10)(x))
    model.compile("sgd", "mse")
    return model, (2 if SMALLEST else samples, *shape)


def optimizer_case(name):
    layers = [L.Dense(512, activation="relu"), L.Dense(512, activation="relu"), L.Dense(10)]
    model = k.Sequential([k.Input((784,)), *layers])
    model.compile(getattr(k.optimizers, name)(), "mse")
    return model, (1, 784)


CASES = [(layer_case, name) for name in LAYERS] + [(optimizer_case, name) for name in OPTIMIZERS]


def train_seconds(model, shape):
    """The median over epochs of a step's seconds."""
    random = np.random.default_rng(0)

    def epochs(steps, count):
        x = random.standard_normal((shape[0] * steps, *shape[1:]), dtype="float32")
        y = random.standard_normal((shape[0] * steps, 10), dtype="float32")
        clock = Clock()
        model.fit(x, y, shape[0], count, verbose=0, callbacks=[clock])
        return statistics.median(clock.seconds) / steps

    epochs(2, 2)  # compiles
    steps = 2 if SMALLEST else min(50, max(2, int(SECONDS / epochs(2, 3))))
    return epochs(steps, EPOCHS)


def predict_seconds(model, shape):
    """The median of calls with one batch."""
    x = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    np.asarray(model.predict_on_batch(x))
    times = []
    while len(times) < 5 or sum(times) < SECONDS:
        start = time.perf_counter()
        np.asarray(model.predict_on_batch(x))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"cases": [name for _, name in CASES]}), file=answers, flush=True)
    models = {}
    for line in sys.stdin:
        make, name = CASES[int(line)]
        if name not in models:
            models = {name: make(name)}
        found = {"train": train_seconds(*models[name])}
        if make is layer_case:
            found["predict"] = predict_seconds(*models[name])
        print(json.dumps(found), file=answers, flush=True)


main()
