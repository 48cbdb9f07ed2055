"""LoRA: fine-tuning with few trainable weights."""

import keras
import numpy as np
from keras import layers

model = keras.Sequential([keras.Input((16,)), layers.Dense(32, activation="relu"), layers.Dense(4)])
x, y = np.random.random((32, 16)), np.random.random((32, 4))
before = model.predict(x, verbose=0)
for layer in model.layers:
    layer.enable_lora(rank=2)
assert len(model.trainable_weights) == 6 and model.layers[0].lora_enabled
np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-5)
model.compile("adam", "mse")
model.fit(x, y, epochs=2, verbose=0)
assert not np.allclose(model.predict(x, verbose=0), before, atol=1e-6)
