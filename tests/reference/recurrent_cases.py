"""Cases of embeddings and recurrent layers: masked, backwards, bidirectional, nested, stateful."""

import functools

from protocol import family, keras_2_hard_sigmoid, normal, padded, padded_floats, regression, uniform

# -------------------- recurrent --------------------

recurrent = family("recurrent")
words, vectors, three = padded(9, 7, 5), normal(7, 5, 3), normal(7, 3)


def on_words(k, *layers):
    """Padded word numbers, embedded and masked, through the layers."""
    return regression(k, k.Input(shape=(5,), dtype="int32"), k.layers.Embedding(9, 4, mask_zero=True), *layers)


@recurrent(words, three)
def masked_lstm(k):
    return on_words(k, k.layers.LSTM(4, return_sequences=True), k.layers.LSTM(3))


@recurrent(words, three)
def masked_gru(k):
    return on_words(k, k.layers.GRU(4, return_sequences=True), k.layers.GRU(3))


@recurrent(words, three)
def masked_gru_reset_before(k):
    return on_words(k, k.layers.GRU(4, return_sequences=True, reset_after=False), k.layers.GRU(3, reset_after=False))


@recurrent(words, three)
def masked_simple_rnn(k):
    return on_words(k, k.layers.SimpleRNN(4, return_sequences=True), k.layers.SimpleRNN(3))


@recurrent(words, three)
def masked_backwards(k):
    layers = [k.layers.LSTM(4, return_sequences=True, go_backwards=True)]
    return on_words(k, *layers, k.layers.GlobalAveragePooling1D(), k.layers.Dense(3))


@recurrent(words, three)
def masked_bidirectional(k):
    layers = [k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True)), k.layers.Bidirectional(k.layers.GRU(2))]
    return on_words(k, *layers, k.layers.Dense(3))


@recurrent(padded_floats(7, 5, 3), three)
def masking(k):
    layers = [k.layers.Masking(), k.layers.LSTM(4, return_sequences=True), k.layers.Dropout(0.0), k.layers.GRU(3)]
    return regression(k, k.Input(shape=(5, 3)), *layers)


@recurrent(vectors, uniform(7, 3))  # targets that do not sum to one: TensorFlow's fused gradient is wrong then
def stacked_lstm(k):
    layers = [k.layers.LSTM(4, return_sequences=True), k.layers.LSTM(3, return_sequences=True), k.layers.LSTM(3)]
    model = k.Sequential([k.Input(shape=(5, 3)), *layers, k.layers.Dense(3, activation="softmax")])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


@recurrent(vectors, three)
def lstm_options(k):
    layers = [k.layers.LSTM(4, activation="relu", use_bias=False, return_sequences=True, go_backwards=True)]
    return regression(k, k.Input(shape=(5, 3)), *layers, k.layers.LSTM(3, recurrent_activation="tanh"))


@recurrent(vectors, three)
def gru_options(k):
    layers = [k.layers.GRU(4, use_bias=False, return_sequences=True, go_backwards=True)]
    layers += [k.layers.GRU(3, reset_after=False, activation="sigmoid", use_bias=False, go_backwards=True)]
    return regression(k, k.Input(shape=(5, 3)), *layers)


@recurrent(vectors, three)
def simple_rnn_options(k):
    layers = [k.layers.SimpleRNN(4, activation="relu", use_bias=False, return_sequences=True, go_backwards=True)]
    return regression(k, k.Input(shape=(5, 3)), *layers, k.layers.SimpleRNN(3))


def with_recurrent_activation(k, activation):
    layers = [k.layers.LSTM(4, recurrent_activation=activation, return_sequences=True)]
    layers += [k.layers.GRU(3, recurrent_activation=activation, reset_after=False, return_sequences=True)]
    return regression(k, k.Input(shape=(5, 3)), *layers, k.layers.GRU(3, recurrent_activation=activation))


@recurrent(vectors, three)
def hard_sigmoid_recurrent(k):
    return with_recurrent_activation(k, "hard_sigmoid")


@recurrent(vectors, three, backends=("tf_keras",))
def legacy_hard_sigmoid_recurrent(k):
    return with_recurrent_activation(k, keras_2_hard_sigmoid(k))


@recurrent(vectors, normal(7, 20))
def bidirectional_merges(k):
    inputs = k.Input(shape=(5, 3))
    layers = [k.layers.Bidirectional(k.layers.GRU(2), merge_mode=mode) for mode in ("sum", "mul", "ave", "concat")]
    outputs = [layer(inputs) for layer in layers]
    outputs += [k.layers.Flatten()(k.layers.Bidirectional(k.layers.SimpleRNN(1, return_sequences=True))(inputs))]
    model = k.Model(inputs, k.layers.concatenate(outputs))
    model.compile(optimizer="sgd", loss="mse")
    return model


@recurrent(normal(5, 4, 6, 2), normal(5, 4, 3))
def time_distributed(k):
    inner = k.Sequential([k.Input(shape=(6, 2)), k.layers.Conv1D(3, 2, activation="tanh"), k.layers.Flatten()])
    layers = [k.layers.TimeDistributed(inner), k.layers.TimeDistributed(k.layers.Dense(3))]
    return regression(k, k.Input(shape=(4, 6, 2)), *layers)


@recurrent((normal(6, 5, 3), normal(6, 4, 2)), normal(6, 4, 2))
def encoder_decoder(k):
    source, target = k.Input(shape=(5, 3)), k.Input(shape=(4, 2))
    _, hidden, cell = k.layers.LSTM(4, return_state=True)(source)
    decoded = k.layers.LSTM(4, return_sequences=True)(target, initial_state=[hidden, cell])
    sequence, last = k.layers.GRU(3, return_sequences=True, return_state=True)(decoded)
    again = k.layers.SimpleRNN(3, return_sequences=True)(sequence, initial_state=last)
    model = k.Model([source, target], k.layers.Dense(2)(again))
    model.compile(optimizer="adam", loss="mse")
    return model


@recurrent(vectors, three)
def stacked_cells(k):
    cells = [k.layers.LSTMCell(4), k.layers.GRUCell(3), k.layers.SimpleRNNCell(3)]
    layers = [k.layers.RNN(k.layers.GRUCell(3, reset_after=False), return_sequences=True)]
    return regression(k, k.Input(shape=(5, 3)), *layers, k.layers.RNN(k.layers.StackedRNNCells(cells)))


# Keras's JAX backend forgets the states between the batches of predict and evaluate
stateful = functools.partial(recurrent, batch=4, stateful=True, backends=("tensorflow", "tf_keras"))


@stateful(normal(8, 5, 3), normal(8, 2))
def stateful_lstm(k):
    layers = [k.layers.LSTM(4, stateful=True, return_sequences=True), k.layers.LSTM(3, stateful=True)]
    return regression(k, k.Input(batch_shape=(4, 5, 3)), *layers, k.layers.Dense(2), optimizer="adam")


@stateful(normal(8, 5, 3), normal(8, 2))
def stateful_gru(k):
    layers = [k.layers.GRU(4, stateful=True, return_sequences=True)]
    layers += [k.layers.GRU(3, stateful=True, reset_after=False)]
    return regression(k, k.Input(batch_shape=(4, 5, 3)), *layers, k.layers.Dense(2))


@stateful(padded(9, 8, 5), normal(8, 2))
def stateful_masked(k):
    layers = [k.layers.Embedding(9, 4, mask_zero=True), k.layers.SimpleRNN(4, stateful=True, return_sequences=True)]
    layers += [k.layers.LSTM(3, stateful=True), k.layers.Dense(2)]
    return regression(k, k.Input(batch_shape=(4, 5), dtype="int32"), *layers)
