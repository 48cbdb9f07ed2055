"""Character-level sequence to sequence: training model, then encoder and decoder of inference from its layers."""

import keras
import numpy as np

latent, n_enc, n_dec = 16, 12, 14
encoder_inputs = keras.Input(shape=(None, n_enc))
encoder_outputs, state_h, state_c = keras.layers.LSTM(latent, return_state=True)(encoder_inputs)
decoder_inputs = keras.Input(shape=(None, n_dec))
decoder_outputs, _, _ = keras.layers.LSTM(latent, return_sequences=True, return_state=True)(
    decoder_inputs, initial_state=[state_h, state_c]
)
model = keras.Model([encoder_inputs, decoder_inputs], keras.layers.Dense(n_dec, activation="softmax")(decoder_outputs))
model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
rng = np.random.default_rng(0)
encoder_data, decoder_data = (
    np.eye(n_enc)[rng.integers(0, n_enc, (32, 6))],
    np.eye(n_dec)[rng.integers(0, n_dec, (32, 7))],
)
model.fit([encoder_data, decoder_data], np.roll(decoder_data, -1, axis=1), epochs=1, validation_split=0.2, verbose=0)

encoder_inputs = model.input[0]
_, state_h_enc, state_c_enc = model.layers[2].output
encoder_model = keras.Model(encoder_inputs, [state_h_enc, state_c_enc])
decoder_inputs = model.input[1]
states = [keras.Input(shape=(latent,)), keras.Input(shape=(latent,))]
outputs, h, c = model.layers[3](decoder_inputs, initial_state=states)
decoder_model = keras.Model([decoder_inputs] + states, [model.layers[4](outputs), h, c])
values = encoder_model.predict(encoder_data[:1], verbose=0)
tokens, h, c = decoder_model.predict([decoder_data[:1, :1]] + values, verbose=0)
assert tokens.shape == (1, 1, n_dec) and h.shape == (1, latent)
