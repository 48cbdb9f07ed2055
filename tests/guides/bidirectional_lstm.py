"""Two bidirectional LSTMs on padded sequences of integers: is there a good word after the last bad one?"""

import keras
import numpy as np
from keras import layers

MAX_FEATURES, MAX_LENGTH = 20, 12
GOOD, BAD = 5, 6

random = np.random.default_rng(2)
sequences = [random.integers(1, MAX_FEATURES, random.integers(4, 16)).tolist() for _ in range(400)]
for words in sequences:
    words[random.integers(len(words) // 2)], words[-1 - random.integers(2)] = random.permutation([GOOD, BAD])
labels = np.array([words[::-1].index(GOOD) < words[::-1].index(BAD) for words in sequences]).astype("int64")

x = keras.utils.pad_sequences(sequences, maxlen=MAX_LENGTH)
assert x.shape == (400, MAX_LENGTH) and x[0, -1] == sequences[0][-1]
x_train, y_train, x_val, y_val = x[:320], labels[:320], x[320:], labels[320:]

inputs = keras.Input(shape=(None,), dtype="int32")
x = layers.Embedding(MAX_FEATURES, 8)(inputs)
x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
x = layers.Bidirectional(layers.LSTM(8))(x)
outputs = layers.Dense(1, activation="sigmoid")(x)
model = keras.Model(inputs, outputs)
assert model.layers[3].output.shape == (None, 16) and model.count_params() == 2865

model.compile(optimizer=keras.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=32, epochs=8, validation_data=(x_val, y_val), verbose=0)
assert history.history["val_accuracy"][-1] > 0.85, history.history["val_accuracy"]
longer = keras.utils.pad_sequences(sequences[:3], maxlen=16, padding="post", truncating="post")
assert model.predict(longer, verbose=0).shape == (3, 1)
