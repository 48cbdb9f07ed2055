"""int4 quantization: packed weights, saved and loaded."""

import os
import tempfile

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.random((64, 16)).astype("float32")
model = keras.Sequential([keras.Input((16,)), layers.Dense(32, activation="relu"), layers.Dense(8)])
before = model.predict(x, verbose=0)
model.quantize("int4")
after = model.predict(x, verbose=0)
assert np.mean(np.square(after - before)) < 2e-2
with tempfile.TemporaryDirectory() as folder:
    model.save(os.path.join(folder, "int4.keras"))
    loaded = keras.saving.load_model(os.path.join(folder, "int4.keras"))
np.testing.assert_allclose(loaded.predict(x, verbose=0), after, atol=1e-5)
