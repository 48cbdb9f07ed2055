"""Three stacked LSTM layers classify sequences by the feature with the largest sum over time.

Run: python examples/document/stacked_lstm.py [epochs]
"""

import sys

import numpy as np

from nbkeras.layers import LSTM, Dense
from nbkeras.models import Sequential
from nbkeras.utils import to_categorical

data_dim = 16
timesteps = 8
num_classes = 10
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 30

# Shape of the input data: (batch_size, timesteps, data_dim).
model = Sequential()
model.add(LSTM(32, return_sequences=True, input_shape=(timesteps, data_dim)))  # a sequence of vectors of dimension 32
model.add(LSTM(32, return_sequences=True))  # again a sequence of vectors of dimension 32
model.add(LSTM(32))  # a single vector of dimension 32
model.add(Dense(num_classes, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
model.summary()


def generate(samples, random):
    x = random.random((samples, timesteps, data_dim))
    return x, to_categorical(x.sum(axis=1)[:, :num_classes].argmax(axis=1), num_classes)


random = np.random.default_rng(0)
x_train, y_train = generate(2000, random)
x_val, y_val = generate(200, random)
history = model.fit(x_train, y_train, batch_size=64, epochs=epochs, validation_data=(x_val, y_val))
