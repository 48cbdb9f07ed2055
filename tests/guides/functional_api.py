"""The functional API: several inputs and outputs, shared layers, nested models, a custom layer, saving."""

import keras
import numpy as np
from keras import layers, ops

title = keras.Input(shape=(None,), name="title")
body = keras.Input(shape=(None,), name="body")
tags = keras.Input(shape=(12,), name="tags")
title_features = layers.LSTM(16)(layers.Embedding(100, 8)(title))
body_features = layers.LSTM(8)(layers.Embedding(100, 8)(body))
x = layers.concatenate([title_features, body_features, tags])
priority = layers.Dense(1, name="priority")(x)
department = layers.Dense(4, name="department")(x)
model = keras.Model(inputs=[title, body, tags], outputs={"priority": priority, "department": department})
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-3),
    loss={
        "priority": keras.losses.BinaryCrossentropy(from_logits=True),
        "department": keras.losses.CategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"priority": 1.0, "department": 0.2},
)
rng = np.random.default_rng(0)
data = {
    "title": rng.integers(0, 100, (64, 10)),
    "body": rng.integers(0, 100, (64, 20)),
    "tags": rng.integers(0, 2, (64, 12)).astype("float32"),
}
targets = {"priority": rng.random((64, 1)), "department": np.eye(4)[rng.integers(0, 4, 64)]}
history = model.fit(data, targets, epochs=2, batch_size=32, verbose=0)
assert np.isfinite(history.history["loss"]).all()


def get_model():
    inputs = keras.Input(shape=(128,))
    return keras.Model(inputs, layers.Dense(1)(inputs))


inputs = keras.Input(shape=(128,))
models = [get_model() for _ in range(3)]
ensemble = keras.Model(inputs=inputs, outputs=layers.average([each(inputs) for each in models]))


class CustomDense(layers.Layer):
    def __init__(self, units=32):
        super().__init__()
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        return {"units": self.units}


outputs = CustomDense(10)(ensemble.output)
model = keras.Model(inputs, outputs)
new_model = keras.Model.from_config(model.get_config(), custom_objects={"CustomDense": CustomDense})
new_model.set_weights(model.get_weights())
x = rng.random((2, 128))
np.testing.assert_allclose(new_model.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
