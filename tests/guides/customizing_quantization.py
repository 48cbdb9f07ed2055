"""Customizing quantization: configs, quantizers, filters."""

import keras
import numpy as np
from keras import layers
from keras.quantizers import AbsMaxQuantizer, Int4QuantizationConfig, Int8QuantizationConfig

x = np.random.default_rng(0).random((16, 16)).astype("float32")


def make():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((16,)), layers.Dense(32, activation="relu", name="first"), layers.Dense(8, name="last")]
    )


float_outputs = make().predict(x, verbose=0)
model = make()
model.quantize(config=Int8QuantizationConfig(weight_quantizer=AbsMaxQuantizer(axis=0), activation_quantizer=None))
assert np.mean(np.square(model.predict(x, verbose=0) - float_outputs)) < 1e-3
model = make()
model.quantize("int8", filters=lambda layer: layer.name != "last")
assert model.get_layer("last").quantization_mode is None and model.get_layer("first").quantization_mode == "int8"
model = make()
model.quantize(config=Int4QuantizationConfig(activation_quantizer=None))
assert np.mean(np.square(model.predict(x, verbose=0) - float_outputs)) < 5e-2
