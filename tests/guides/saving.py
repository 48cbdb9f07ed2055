"""Saving and serialization: whole models, custom objects, registration, weights, configs, clone_model."""

import os
import tempfile

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="my_package")
class CustomLayer(keras.layers.Layer):
    def __init__(self, sublayer, **kwargs):
        super().__init__(**kwargs)
        self.sublayer = sublayer

    def call(self, x):
        return self.sublayer(x)

    def get_config(self):
        return {**super().get_config(), "sublayer": keras.saving.serialize_keras_object(self.sublayer)}

    @classmethod
    def from_config(cls, config):
        sublayer = keras.saving.deserialize_keras_object(config.pop("sublayer"))
        return cls(sublayer, **config)


@keras.saving.register_keras_serializable(package="my_package", name="custom_fn")
def custom_fn(x):
    return x**2


inputs = keras.Input((4,))
model = keras.Model(inputs, keras.layers.Activation(custom_fn)(CustomLayer(keras.layers.Dense(8))(inputs)))
model.compile(optimizer="adam", loss="mse")
x, y = np.random.random((16, 4)), np.random.random((16, 8))
model.fit(x, y, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "custom_model.keras")
    model.save(path)
    restored = keras.models.load_model(path)
    np.testing.assert_allclose(model.predict(x, verbose=0), restored.predict(x, verbose=0), rtol=1e-6)
    model.save_weights(os.path.join(folder, "w.weights.h5"))
    other = keras.models.clone_model(model)
    other.load_weights(os.path.join(folder, "w.weights.h5"))
    np.testing.assert_allclose(model.predict(x, verbose=0), other.predict(x, verbose=0), rtol=1e-6)
again = keras.models.model_from_json(model.to_json())
assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
assert keras.saving.get_registered_name(custom_fn) == "my_package>custom_fn"
with keras.saving.custom_object_scope({"other_fn": custom_fn}):
    assert keras.saving.get_registered_object("my_package>CustomLayer") is CustomLayer
