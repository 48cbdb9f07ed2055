"""A shared LSTM: were two tweets (280 characters, one-hot in 256) written by the same person?

The problem is symmetric, so one layer encodes both. In these data each of two authors uses one half of the characters.

Run: python examples/document/tweets.py [epochs]
"""

import sys

import numpy as np

import nbkeras as keras
from nbkeras.layers import LSTM, Dense, Input
from nbkeras.models import Model

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10

tweet_a = Input(shape=(280, 256))
tweet_b = Input(shape=(280, 256))
shared_lstm = LSTM(64)  # one layer, called twice, so both calls use the same weights
encoded_a = shared_lstm(tweet_a)
encoded_b = shared_lstm(tweet_b)
merged_vector = keras.layers.concatenate([encoded_a, encoded_b], axis=-1)
predictions = Dense(1, activation="sigmoid")(merged_vector)

model = Model(inputs=[tweet_a, tweet_b], outputs=predictions)
model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
model.summary()

random = np.random.default_rng(0)
authors = random.integers(2, size=(2, 128, 1))
characters = random.integers(128, size=(2, 128, 280)) + 128 * authors
data_a, data_b = np.eye(256, dtype=bool)[characters]
labels = authors[0] == authors[1]
history = model.fit([data_a, data_b], labels, epochs=epochs)
