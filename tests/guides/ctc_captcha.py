"""Captcha OCR: a CTC loss, and decoding."""

import keras
import numpy as np
from keras import layers, ops

inputs = keras.Input((24, 12, 1))
x = layers.MaxPooling2D((2, 2))(layers.Conv2D(8, (3, 3), activation="relu", padding="same")(inputs))
x = layers.Dropout(0.2)(layers.Dense(16, activation="relu")(layers.Reshape(target_shape=(12, 6 * 8))(x)))
x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
model = keras.Model(inputs, layers.Dense(6, name="dense2")(x))
model.compile(optimizer=keras.optimizers.Adam(), loss=keras.losses.CTC())
images, labels = np.random.random((16, 24, 12, 1)), np.random.randint(1, 6, (16, 4))
history = model.fit(images, labels, epochs=2, verbose=0)
assert np.isfinite(history.history["loss"]).all()
decoded, scores = ops.ctc_decode(model.predict(images, verbose=0), sequence_lengths=np.full(16, 12), strategy="greedy")
assert tuple(decoded.shape[:2]) == (1, 16)
