"""int8 quantization: post-training, saved and loaded."""

import os
import tempfile

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.random((64, 16)).astype("float32")
model = keras.Sequential([keras.Input((16,)), layers.Dense(32, activation="relu"), layers.Dense(8)])
model.compile("adam", "mse")
model.fit(x, rng.random((64, 8)), epochs=1, verbose=0)
before = model.predict(x, verbose=0)
model.quantize("int8")
after = model.predict(x, verbose=0)
assert np.mean(np.square(after - before)) < 1e-3
assert {w.dtype for w in model.weights} >= {"int8"} or any("int8" in str(w.dtype) for w in model.weights)
with tempfile.TemporaryDirectory() as folder:
    model.save(os.path.join(folder, "int8.keras"))
    loaded = keras.saving.load_model(os.path.join(folder, "int8.keras"))
np.testing.assert_allclose(loaded.predict(x, verbose=0), after, atol=1e-5)
