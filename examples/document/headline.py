"""A network with two inputs and two outputs: predict the reaction to a headline (100 words and five more numbers).

The auxiliary loss on the LSTM's output lets the LSTM and the embedding train smoothly.

Run: python examples/document/headline.py [epochs]
"""

import sys

import numpy as np

import nbkeras as keras
from nbkeras.layers import LSTM, Dense, Embedding, Input
from nbkeras.models import Model

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 50

# Sequences of 100 integers between 1 and 10000. Any layer can be named by passing it a "name" argument.
main_input = Input(shape=(100,), dtype="int32", name="main_input")
x = Embedding(output_dim=512, input_dim=10000, input_length=100)(main_input)
lstm_out = LSTM(32)(x)
auxiliary_output = Dense(1, activation="sigmoid", name="aux_output")(lstm_out)

auxiliary_input = Input(shape=(5,), name="aux_input")
x = keras.layers.concatenate([lstm_out, auxiliary_input])
x = Dense(64, activation="relu")(x)
x = Dense(64, activation="relu")(x)
x = Dense(64, activation="relu")(x)
main_output = Dense(1, activation="sigmoid", name="main_output")(x)

model = Model(inputs=[main_input, auxiliary_input], outputs=[main_output, auxiliary_output])
model.compile(
    optimizer="rmsprop",
    loss={"main_output": "binary_crossentropy", "aux_output": "binary_crossentropy"},
    loss_weights={"main_output": 1.0, "aux_output": 0.2},
)
model.summary()

random = np.random.default_rng(0)
headline_data = random.integers(1, 100, (12, 100))
additional_data = random.standard_normal((12, 5))
headline_labels = random.integers(2, size=(12, 1))
additional_labels = random.integers(2, size=(12, 1))

inputs = {"main_input": headline_data, "aux_input": additional_data}
targets = {"main_output": headline_labels, "aux_output": additional_labels}
history = model.fit(inputs, targets, epochs=epochs, batch_size=32, verbose=2)
main, auxiliary = model.predict(inputs, verbose=0)
print("labels:     ", headline_labels[:, 0])
print("predictions:", main[:, 0].round(2))
