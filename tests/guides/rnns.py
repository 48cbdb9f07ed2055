"""Recurrent layers: states as initial states, bidirectional, stateful, own cells with nested states, masking."""

import keras
import numpy as np
from keras import layers, ops

encoder_input = layers.Input(shape=(None,))
embedded = layers.Embedding(input_dim=100, output_dim=16)(encoder_input)
output, state_h, state_c = layers.LSTM(16, return_state=True, name="encoder")(embedded)
decoder_input = layers.Input(shape=(None,))
decoded = layers.Embedding(input_dim=200, output_dim=16)(decoder_input)
decoder_output = layers.LSTM(16, name="decoder")(decoded, initial_state=[state_h, state_c])
model = keras.Model([encoder_input, decoder_input], layers.Dense(10)(decoder_output))
assert tuple(model([np.ones((2, 5)), np.ones((2, 7))]).shape) == (2, 10)

lstm = layers.LSTM(8, stateful=True)
x = np.random.random((4, 10, 3)).astype("float32")
first = ops.convert_to_numpy(lstm(x))
second = ops.convert_to_numpy(lstm(x))
assert not np.allclose(first, second)
lstm.reset_state()
np.testing.assert_allclose(ops.convert_to_numpy(lstm(x)), first, rtol=1e-5)


class NestedCell(keras.Layer):
    def __init__(self, unit_1, unit_2, **kwargs):
        self.unit_1, self.unit_2 = unit_1, unit_2
        self.state_size, self.output_size = [unit_1, unit_2], unit_2
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.kernel_1 = self.add_weight(shape=(input_shape[-1], self.unit_1), initializer="uniform", name="k1")
        self.kernel_2 = self.add_weight(shape=(self.unit_1, self.unit_2), initializer="uniform", name="k2")

    def call(self, inputs, states):
        s1, s2 = states
        o1 = ops.matmul(inputs, self.kernel_1) + s1
        o2 = ops.matmul(o1, self.kernel_2) + s2
        return o2, [o1, o2]


rnn = layers.RNN(NestedCell(5, 7), return_sequences=True)
assert tuple(rnn(x).shape) == (4, 10, 7)
model = keras.Sequential(
    [
        keras.Input((5, 10)),
        layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
        layers.Bidirectional(layers.GRU(4)),
        layers.Dense(2),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(np.random.random((16, 5, 10)), np.random.randint(0, 2, 16), verbose=0)
