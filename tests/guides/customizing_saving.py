"""Customizing saving: save_own_variables, save_assets, get_build_config, get_compile_config."""

import os
import tempfile

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="my_custom_package")
class LayerWithCustomVariable(keras.layers.Dense):
    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["variables"] = self.custom_variable

    def load_own_variables(self, store):
        self.custom_variable = np.asarray(store["variables"])
        for i, weight in enumerate(self.weights):
            weight.assign(store[f"{i}"])


@keras.saving.register_keras_serializable(package="my_custom_package")
class ModelWithCustomConfigs(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)

    def compile(self, optimizer, loss_fn, **kwargs):
        super().compile(optimizer=optimizer, loss=loss_fn, **kwargs)
        self.loss_fn_name = loss_fn

    def get_compile_config(self):
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer), "loss_fn": self.loss_fn_name}

    def compile_from_config(self, config):
        self.compile(optimizer=keras.saving.deserialize_keras_object(config["optimizer"]), loss_fn=config["loss_fn"])

    def get_config(self):
        return {"units": self.units}


model = ModelWithCustomConfigs(3)
model.compile("adam", "mse")
x, y = np.random.random((8, 4)), np.random.random((8, 3))
model.fit(x, y, verbose=0)
layer = LayerWithCustomVariable(2)
layer.custom_variable = np.arange(5.0)
with_variable = keras.Sequential([keras.Input((4,)), layer])
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "m.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    with_variable.save(path)
    np.testing.assert_allclose(keras.models.load_model(path).layers[0].custom_variable, np.arange(5.0))
np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
assert type(loaded.optimizer).__name__ == "Adam" and loaded.loss_fn_name == "mse"
