"""A stateful stack of LSTM layers: sample i of batch k continues sample i of batch k - 1.

32 long sequences are cut into pieces of 8 steps. Only the first piece of a sequence contains its class, so later pieces can
be classified only with the states from the pieces before.

Run: python examples/document/stateful_lstm.py [epochs]
"""

import sys

import numpy as np

from nbkeras.layers import LSTM, Dense
from nbkeras.models import Sequential
from nbkeras.utils import to_categorical

data_dim = 16
timesteps = 8
num_classes = 10
batch_size = 32
pieces = 10
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40

# The batch size must be given, because the network is stateful.
model = Sequential()
model.add(LSTM(32, return_sequences=True, stateful=True, batch_input_shape=(batch_size, timesteps, data_dim)))
model.add(LSTM(32, return_sequences=True, stateful=True))
model.add(LSTM(32, stateful=True))
model.add(Dense(num_classes, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
model.summary()

random = np.random.default_rng(0)
classes = random.integers(num_classes, size=batch_size)
x = 0.1 * random.random((pieces, batch_size, timesteps, data_dim))
x[0, np.arange(batch_size), 0, classes] += 1
x_train = x.reshape(-1, timesteps, data_dim)
y_train = np.tile(to_categorical(classes, num_classes), (pieces, 1))

history = []
for epoch in range(epochs):
    model.reset_states()  # the sequences start again
    result = model.fit(x_train, y_train, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)
    history.append(result.history["loss"][0])
    print(f"epoch {epoch + 1}: loss {history[-1]:.4f}, accuracy {result.history['accuracy'][0]:.4f}")
