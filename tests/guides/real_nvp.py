"""Density estimation with affine coupling layers: a custom log likelihood as loss."""

import keras
import numpy as np
from keras import layers, ops


class Coupling(layers.Layer):
    def __init__(self, flip, **kwargs):
        super().__init__(**kwargs)
        self.flip = flip
        self.scale = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1, activation="tanh")])
        self.shift = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1)])

    def call(self, x):
        a, b = (x[:, 1:], x[:, :1]) if self.flip else (x[:, :1], x[:, 1:])
        s, t = self.scale(a), self.shift(a)
        b = b * ops.exp(s) + t
        self.add_loss(-ops.mean(s))
        return ops.concatenate([b, a] if self.flip else [a, b], axis=1)


model = keras.Sequential([keras.Input((2,)), Coupling(False), Coupling(True), Coupling(False), Coupling(True)])
model.compile(keras.optimizers.Adam(1e-2), loss=lambda y_true, z: 0.5 * ops.sum(ops.square(z), axis=-1))
x = np.random.default_rng(0).normal(size=(128, 2)).astype("float32") * [3.0, 0.3] + 1
history = model.fit(x, x, epochs=10, batch_size=32, verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0]
