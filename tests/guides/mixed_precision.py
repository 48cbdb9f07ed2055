"""Mixed precision: policies, dtypes of computing and variables, loss scaling."""

import keras
import numpy as np
from keras import layers

keras.mixed_precision.set_global_policy("mixed_float16")
inputs = keras.Input(shape=(16,), name="digits")
dense1 = layers.Dense(32, activation="relu", name="dense_1")
x = dense1(inputs)
assert x.dtype == "float16" and dense1.kernel.dtype == "float32" and dense1.compute_dtype == "float16"
x = layers.Dense(10, name="dense_logits")(x)
outputs = layers.Activation("softmax", dtype="float32", name="predictions")(x)
assert outputs.dtype == "float32"
model = keras.Model(inputs, outputs)
model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.RMSprop(), metrics=["accuracy"])
x, y = np.random.random((64, 16)).astype("float32"), np.random.randint(0, 10, 64)
history = model.fit(x, y, batch_size=32, epochs=2, verbose=0)
assert np.isfinite(history.history["loss"]).all()
assert type(model.optimizer).__name__ == "LossScaleOptimizer"
keras.mixed_precision.set_global_policy("mixed_bfloat16")
layer = layers.Dense(4)
assert str(layer(np.ones((2, 3))).dtype).removeprefix("<dtype: '").removesuffix("'>") == "bfloat16"
keras.mixed_precision.set_global_policy("float32")
