"""Every snippet of the page "Keras Models" that nbkeras started from, in its order, with its typos repaired.

Where Keras changed a spelling since, both are run. Layers come from `nbkeras.layers` and from `keras.layers`, as there.
"""

import hashlib

import numpy as np
import pytest

import nbkeras as keras
import nbkeras.backend as K  # noqa: N812
from nbkeras.datasets import mnist
from nbkeras.layers import LSTM, Activation, Conv2D, Dense, Dropout, Embedding, Input, TimeDistributed
from nbkeras.models import Model, Sequential
from nbkeras.optimizers import SGD, RMSprop


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)
    keras.utils.set_random_seed(0)


def assert_learned(history, epochs, *keys):
    """The history has these keys and no others, one finite number an epoch, and a loss that falls."""
    assert set(history.history) == {"loss", *keys}
    assert history.epoch == list(range(epochs))
    for values in history.history.values():
        assert len(values) == epochs
        assert np.all(np.isfinite(values))
    assert history.history["loss"][-1] < history.history["loss"][0]


# -------------------- Getting started with the Keras Sequential model --------------------


def test_sequential_from_a_list():
    model = Sequential([Dense(32, input_shape=(784,)), Activation("relu"), Dense(10), Activation("softmax")])
    assert model.output_shape == (None, 10)
    assert model.count_params() == 784 * 32 + 32 + 32 * 10 + 10
    probabilities = model.predict(np.random.random((3, 784)), verbose=0)
    assert probabilities.shape == (3, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_documents_own_typo_is_answered_with_the_right_name():
    with pytest.raises(TypeError, match=r"inpuit_shape.*input_shape"):
        Dense(32, inpuit_shape=(784,))


def test_sequential_by_add():
    model = Sequential()
    model.add(Dense(32, input_dim=784))
    model.add(Activation("relu"))
    assert model.input_shape == (None, 784)
    assert model.output_shape == (None, 32)
    assert np.all(model.predict(np.random.randn(4, 784), verbose=0) >= 0)


# -------------------- Specifying the input shape --------------------


@pytest.mark.parametrize("spelling", [{"input_shape": (784,)}, {"input_dim": 784}, {"batch_input_shape": (None, 784)}])
def test_spellings_of_the_input_shape_are_equivalent(spelling):
    model = Sequential()
    model.add(Dense(32, **spelling))
    assert model.input_shape == (None, 784)
    assert [w.shape for w in model.get_weights()] == [(784, 32), (32,)]
    later = Sequential([keras.Input(shape=(784,)), Dense(32)])
    later.set_weights(model.get_weights())
    x = np.random.random((5, 784))
    np.testing.assert_array_equal(model.predict(x, verbose=0), later.predict(x, verbose=0))


def test_batch_size_and_input_shape_give_the_batch_shape():
    model = Sequential([LSTM(4, batch_size=32, input_shape=(6, 8))])
    assert model.input_shape == (32, 6, 8)
    assert model.output_shape == (32, 4)


def test_temporal_layers_take_input_dim_and_input_length():
    model = Sequential([LSTM(4, input_dim=8, input_length=6)])
    assert model.input_shape == (None, 6, 8)
    assert Sequential([LSTM(4, input_shape=(None, 8), return_sequences=True)]).output_shape == (None, None, 4)


# -------------------- Compilation --------------------


def mean_pred(y_true, y_pred):
    return K.mean(y_pred)


BINARY = {"loss": "binary_crossentropy"}


def two_layers(units, activation):
    return Sequential([Dense(32, activation="relu", input_dim=100), Dense(units, activation=activation)])


@pytest.mark.parametrize(
    ("units", "activation", "settings", "names"),
    [
        (10, "softmax", {"loss": "categorical_crossentropy", "metrics": ["accuracy"]}, {"loss", "accuracy"}),
        (1, "sigmoid", {**BINARY, "metrics": ["accuracy"]}, {"loss", "accuracy"}),
        (1, "sigmoid", {**BINARY, "metrics": ["acc"]}, {"loss", "acc"}),
        (1, None, {"loss": "mse"}, {"loss"}),
        (1, "sigmoid", {**BINARY, "metrics": ["accuracy", mean_pred]}, {"loss", "accuracy", "mean_pred"}),
    ],
)
def test_compile_takes_losses_and_metrics_of_each_kind(units, activation, settings, names):
    model = two_layers(units, activation)
    model.compile(optimizer="rmsprop", **settings)
    x = np.random.random((20, 100))
    y = np.eye(units)[np.random.randint(units, size=20)] if units > 1 else np.random.randint(2, size=(20, 1))
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(results) == names
    if "mean_pred" in names:
        np.testing.assert_allclose(results["mean_pred"], model.predict(x, verbose=0).mean(), rtol=1e-5)
    history = model.fit(x, y, epochs=2, verbose=0)
    assert set(history.history) == names


@pytest.mark.parametrize(
    "optimizer",
    ["rmsprop", "adagrad", RMSprop(), SGD(lr=0.02), SGD(learning_rate=0.02)],
    ids=["rmsprop", "adagrad", "RMSprop()", "SGD(lr=0.02)", "SGD(learning_rate=0.02)"],
)
def test_the_optimizer_is_a_name_or_an_instance(optimizer):
    model = two_layers(1, None)
    model.compile(optimizer=optimizer, loss="mse")
    history = model.fit(np.random.random((40, 100)), np.random.random((40, 1)), epochs=3, verbose=0)
    assert_learned(history, 3)


def test_lr_is_learning_rate():
    for optimizer in (SGD(lr=0.02), SGD(learning_rate=0.02)):
        assert float(optimizer.lr) == float(optimizer.learning_rate) == pytest.approx(0.02)


# -------------------- Training --------------------


@pytest.mark.big
@pytest.mark.parametrize(
    ("classes", "activation", "loss"),
    [(1, "sigmoid", "binary_crossentropy"), (10, "softmax", "categorical_crossentropy")],
)
def test_classification(classes, activation, loss):
    model = two_layers(classes, activation)
    model.compile(optimizer="rmsprop", loss=loss, metrics=["accuracy"])
    data = np.random.random((1000, 100))
    labels = np.random.randint(max(classes, 2), size=(1000, 1))
    if classes > 1:
        numbers, labels = labels, keras.utils.to_categorical(labels, num_classes=10)
        assert labels.shape == (1000, 10)
        np.testing.assert_array_equal(labels.argmax(axis=1), numbers[:, 0])
        np.testing.assert_array_equal(labels.sum(axis=1), 1)
    history = model.fit(data, labels, epochs=10, batch_size=32, verbose=0)
    assert_learned(history, 10, "accuracy")
    assert classes > 1 or history.history["accuracy"][-1] > 0.5


# -------------------- Example: MNIST --------------------


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A file of MNIST's form with few, easy images, where the real loader looks for it."""
    random = np.random.RandomState(0)
    prototypes = random.randint(0, 256, (10, 28, 28))
    arrays = {}
    for name, count in (("train", 600), ("test", 200)):
        labels = random.randint(0, 10, count).astype("uint8")
        noise = random.randint(0, 128, (count, 28, 28))
        arrays |= {f"x_{name}": (prototypes[labels] // 2 + noise).astype("uint8"), f"y_{name}": labels}
    (tmp_path / "datasets").mkdir()
    path = tmp_path / "datasets" / "mnist.npz"
    np.savez(path, **arrays)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.big
def test_mnist_is_learned(small_mnist, capsys):
    train, test = mnist.load_data()
    assert train[0].dtype == train[1].dtype == np.uint8
    (x_train, y_train), (x_test, y_test) = (
        (x.reshape(-1, 784).astype("float32") / 255, keras.utils.to_categorical(y, 10)) for x, y in (train, test)
    )
    model = Sequential([Dense(512, activation="relu", input_shape=(784,)), Dropout(0.2)])
    for layer in (Dense(512, activation="relu"), Dropout(0.2), Dense(10, activation="softmax")):
        model.add(layer)
    model.summary()
    assert "669,706" in capsys.readouterr().out
    model.compile(loss="categorical_crossentropy", optimizer=RMSprop(), metrics=["accuracy"])
    history = model.fit(x_train, y_train, batch_size=128, epochs=4, verbose=1, validation_data=(x_test, y_test))
    assert_learned(history, 4, "accuracy", "val_loss", "val_accuracy")
    out = capsys.readouterr().out
    assert all(text in out for text in ("Epoch 1/4", "5/5", "val_accuracy"))
    score = model.evaluate(x_test, y_test, verbose=0)
    np.testing.assert_allclose(score, [history.history["val_loss"][-1], history.history["val_accuracy"][-1]], rtol=1e-5)
    assert score[1] > 0.9


# -------------------- Stacked LSTM for sequence classification, and the same rendered stateful --------------------


def stacked_lstm(first, stateful=False):
    """Three LSTM layers, of which `first` is the first, or an Input before three."""
    model = Sequential(
        [first] if isinstance(first, LSTM) else [first, LSTM(32, return_sequences=True, stateful=stateful)]
    )
    model.add(LSTM(32, return_sequences=True, stateful=stateful))
    model.add(LSTM(32, stateful=stateful))
    model.add(Dense(10, activation="softmax"))
    return model


def fit_to_noise(model, train, validation, **options):
    """The inputs of the validation, which a model has after five epochs on random sequences."""
    model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    x_train, y_train = np.random.random((train, 8, 16)), np.random.random((train, 10))
    x_val, y_val = np.random.random((validation, 8, 16)), np.random.random((validation, 10))
    history = model.fit(x_train, y_train, epochs=5, validation_data=(x_val, y_val), verbose=0, **options)
    assert_learned(history, 5, "accuracy", "val_loss", "val_accuracy")
    return x_val


@pytest.mark.big
def test_stacked_lstm():
    model = stacked_lstm(LSTM(32, return_sequences=True, input_shape=(8, 16)))
    assert [layer.output_shape for layer in model.layers] == [(None, 8, 32), (None, 8, 32), (None, 32), (None, 10)]
    fit_to_noise(model, 1000, 100, batch_size=64)


SHAPE = (32, 8, 16)


@pytest.mark.big
@pytest.mark.parametrize(
    "first",
    [
        lambda: LSTM(32, return_sequences=True, stateful=True, batch_input_shape=SHAPE),
        lambda: Input(batch_shape=SHAPE),
    ],
)
def test_stateful_stacked_lstm(first):
    model = stacked_lstm(first(), stateful=True)
    assert model.output_shape == (32, 10)
    x_val = fit_to_noise(model, 320, 96, batch_size=32, shuffle=False)

    # "Its states are used as initial states for another batch of samples": the next piece of the same sequences.
    model.reset_states()
    first = model.predict_on_batch(x_val[:32])
    second = model.predict_on_batch(x_val[32:64])
    whole = stacked_lstm(LSTM(32, return_sequences=True, input_shape=(16, 16)))  # without states
    whole.set_weights(model.get_weights())
    joined = np.concatenate([x_val[:32], x_val[32:64]], axis=1)
    np.testing.assert_allclose(whole.predict_on_batch(joined), second, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model.predict_on_batch(x_val[:32]), first)
    model.reset_states()
    np.testing.assert_array_equal(model.predict_on_batch(x_val[:32]), first)


# -------------------- Keras functional API --------------------


def dense_model():
    inputs = Input(shape=(784,))
    output_1 = Dense(64, activation="relu")(inputs)
    output_2 = Dense(64, activation="relu")(output_1)
    predictions = Dense(10, activation="softmax")(output_2)
    return Model(inputs=inputs, outputs=predictions)


@pytest.mark.big
def test_densely_connected_network():
    model = dense_model()
    assert len(model.layers) == 4
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    data = np.random.random((100, 784))
    labels = keras.utils.to_categorical(np.random.randint(10, size=100), 10)
    assert_learned(model.fit(data, labels, epochs=3, verbose=0), 3, "accuracy")


def test_models_are_callable_like_layers():
    model = dense_model()
    x = Input(shape=(784,))
    y = model(x)
    assert tuple(y.shape) == (None, 10)
    again = Model(x, y)
    data = np.random.random((3, 784))
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))
    # "We are not only reusing its architecture but also its weights"
    model.set_weights([w * 0.5 for w in model.get_weights()])
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))
    assert [id(w) for w in again.weights] == [id(w) for w in model.weights]


def test_time_distributed_model():
    model = dense_model()
    input_sequences = Input(shape=(20, 784))
    processed_sequences = TimeDistributed(model)(input_sequences)
    assert tuple(processed_sequences.shape) == (None, 20, 10)
    video = Model(input_sequences, processed_sequences)
    frames = np.random.random((2, 20, 784))
    expected = model.predict(frames.reshape(40, 784), verbose=0).reshape(2, 20, 10)
    np.testing.assert_allclose(video.predict(frames, verbose=0), expected, rtol=1e-5, atol=1e-7)


# -------------------- Multi-input and multi-output models --------------------


def headline_model():
    main_input = Input(shape=(100,), dtype="int32", name="main_input")
    x = Embedding(output_dim=512, input_dim=10000, input_length=100)(main_input)
    assert tuple(x.shape) == (None, 100, 512)
    lstm_out = LSTM(32)(x)
    auxiliary_output = Dense(1, activation="sigmoid", name="aux_output")(lstm_out)
    auxiliary_input = Input(shape=(5,), name="aux_input")
    x = keras.layers.concatenate([lstm_out, auxiliary_input])
    assert tuple(x.shape) == (None, 37)
    x = Dense(64, activation="relu")(x)
    x = Dense(64, activation="relu")(x)
    x = Dense(64, activation="relu")(x)
    main_output = Dense(1, activation="sigmoid", name="main_output")(x)
    return Model(inputs=[main_input, auxiliary_input], outputs=[main_output, auxiliary_output])


@pytest.fixture
def headlines():
    """Inputs, and labels that are no probabilities."""
    np.random.seed(0)
    inputs = [np.round(np.abs(np.random.rand(12, 100) * 100)), np.random.randn(12, 5)]
    return inputs, [np.random.randn(12, 1), np.random.randn(12, 1)]


@pytest.mark.big
def test_headlines_by_lists(headlines):
    model = headline_model()
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", loss_weights=[1.0, 0.2])
    history = model.fit(*headlines, epochs=50, batch_size=32, verbose=0)
    # The labels are no probabilities, so the losses go below zero, in Keras too.
    assert_learned(history, 50, "main_output_loss", "aux_output_loss")
    losses = history.history
    total = np.add(losses["main_output_loss"], 0.2 * np.array(losses["aux_output_loss"]))
    np.testing.assert_allclose(losses["loss"], total, rtol=1e-4, atol=1e-5)


@pytest.mark.documents
@pytest.mark.big
def test_headlines_by_names(headlines):
    data, labels = headlines
    model, outputs = headline_model(), ("main_output", "aux_output")
    loss, weights = dict.fromkeys(outputs, "binary_crossentropy"), {"main_output": 1.0, "aux_output": 0.2}
    model.compile(optimizer="rmsprop", loss=loss, loss_weights=weights)
    by_lists = headline_model()
    by_lists.set_weights(model.get_weights())
    by_lists.compile(optimizer="rmsprop", loss="binary_crossentropy", loss_weights=[1.0, 0.2])
    settings = {"epochs": 50, "batch_size": 32, "shuffle": False, "verbose": 0}
    named = {"main_input": data[0], "aux_input": data[1]}
    history = model.fit(named, dict(zip(outputs, labels, strict=True)), **settings)
    assert_learned(history, 50, "main_output_loss", "aux_output_loss")
    same = by_lists.fit(data, labels, **settings)
    np.testing.assert_allclose(history.history["loss"], same.history["loss"], rtol=1e-5)

    by_name, pred = model.predict(named, verbose=0), model.predict(data, verbose=0)
    assert [p.shape for p in pred] == [(12, 1), (12, 1)]
    for one, other in zip(by_name, pred, strict=True):
        np.testing.assert_array_equal(one, other)
    losses = model.evaluate(data, labels, verbose=0)
    assert len(losses) == 3
    np.testing.assert_allclose(losses[0], losses[1] + 0.2 * losses[2], rtol=1e-4, atol=1e-5)


@pytest.mark.big
def test_each_output_gets_its_own_loss(headlines):
    data, labels = headlines
    model = headline_model()
    model.compile(optimizer="rmsprop", loss=["mse", "mae"], loss_weights=[1.0, 0.2])
    main, aux = model.predict(data, verbose=0)
    losses = model.evaluate(data, labels, verbose=0, return_dict=True)
    np.testing.assert_allclose(losses["main_output_loss"], np.mean((main - labels[0]) ** 2), rtol=1e-5)
    np.testing.assert_allclose(losses["aux_output_loss"], np.mean(np.abs(aux - labels[1])), rtol=1e-5)


# -------------------- Shared layers --------------------


@pytest.mark.big
def test_shared_lstm_learns_whether_two_tweets_have_one_author():
    tweet_a = Input(shape=(280, 256))
    tweet_b = Input(shape=(280, 256))
    shared_lstm = LSTM(64)
    encoded_a = shared_lstm(tweet_a)
    encoded_b = shared_lstm(tweet_b)
    merged_vector = keras.layers.concatenate([encoded_a, encoded_b], axis=-1)
    predictions = Dense(1, activation="sigmoid")(merged_vector)
    model = Model(inputs=[tweet_a, tweet_b], outputs=predictions)
    assert len(model.weights) == 5  # one LSTM and one Dense
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    data_a = np.eye(256, dtype=bool)[np.random.randint(256, size=(8, 280))]
    data_b = np.eye(256, dtype=bool)[np.random.randint(256, size=(8, 280))]
    labels = np.random.randint(2, size=8)
    history = model.fit([data_a, data_b], labels, epochs=10, verbose=0)
    assert_learned(history, 10, "accuracy")
    encoder_a, encoder_b = Model(tweet_a, encoded_a), Model(tweet_b, encoded_b)
    np.testing.assert_array_equal(encoder_a.predict(data_a, verbose=0), encoder_b.predict(data_a, verbose=0))


# -------------------- The concept of layer "node" --------------------


def test_one_node_has_one_output():
    a = Input(shape=(280, 256))
    lstm = LSTM(32)
    encoded_a = lstm(a)
    assert lstm.output == encoded_a and lstm.output is encoded_a and lstm.input is a
    assert lstm.input_shape == (None, 280, 256) and lstm.output_shape == (None, 32)


def test_several_nodes_have_no_single_output():
    a, b, lstm = Input(shape=(280, 256)), Input(shape=(280, 256)), LSTM(32)
    encoded_a, encoded_b = lstm(a), lstm(b)
    with pytest.raises(AttributeError, match="multiple inbound nodes") as error:
        lstm.output  # noqa: B018
    text = " ".join(str(error.value).split())
    assert text == (
        f'Layer {lstm.name} has multiple inbound nodes, hence the notion of "layer output" is ill-defined. '
        "Use `get_output_at(node_index)` instead."
    )
    assert lstm.get_output_at(0) == encoded_a and lstm.get_output_at(1) == encoded_b
    assert lstm.get_output_at(0) != encoded_b and lstm.get_input_at(1) is b
    # "... or all nodes with similar input and output": the shapes agree, so they are defined
    assert lstm.input_shape == (None, 280, 256) and lstm.output_shape == (None, 32)
    with pytest.raises(ValueError, match="2 inbound nodes"):
        lstm.get_output_at(2)


def test_shapes_of_several_nodes():
    a = Input(shape=(32, 32, 3))
    b = Input(shape=(64, 64, 3))
    conv = Conv2D(16, (3, 3), padding="same")
    conved_a = conv(a)
    assert conv.input_shape == (None, 32, 32, 3)
    conved_b = conv(b)
    with pytest.raises(AttributeError, match=r"multiple inbound nodes.*different input shapes.*get_input_shape_at"):
        conv.input_shape  # noqa: B018
    assert conv.get_input_shape_at(0) == (None, 32, 32, 3)
    assert conv.get_input_shape_at(1) == (None, 64, 64, 3)
    assert conv.get_output_shape_at(0) == tuple(conved_a.shape) == (None, 32, 32, 16)
    assert conv.get_output_shape_at(1) == tuple(conved_b.shape) == (None, 64, 64, 16)
