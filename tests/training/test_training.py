"""compile, fit, evaluate, predict: replay equals eager, data in all its forms, custom steps."""

import copy
import pickle
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest
from counting import counted
from made_models import compiled

from nbkeras import backend as K
from nbkeras import layers, losses, metrics, ops, utils
from nbkeras.models import Model, Sequential


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.random((70, 6)).astype("float32")
    return x, (x @ rng.random((6, 3)) + 0.1).astype("float32")


def network(dropout=0.0, **compile_options):
    utils.set_random_seed(3)
    model = Sequential([layers.Dense(8, activation="relu", input_shape=(6,)), layers.Dropout(dropout), layers.Dense(3)])
    model.compile("adam", "mse", **compile_options)
    return model


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_replay_equals_eager_over_epochs_with_a_smaller_last_batch(data, dropout):
    x, y = data
    runs = []
    for eagerly in (False, True):
        model = network(dropout, run_eagerly=eagerly, metrics=["mae"])
        history = model.fit(x, y, batch_size=32, epochs=3, verbose=0, validation_data=(x[:10], y[:10]))
        runs.append((history.history, model.get_weights(), model.evaluate(x, y, verbose=0), model.predict(x)))
    replayed, eager = runs
    assert replayed[0] == eager[0]
    assert replayed[2] == eager[2]
    np.testing.assert_equal(replayed[1::2], eager[1::2])


def test_steps_are_recorded_once_per_signature(data):
    x, y = data
    model, loss = network(), counted(losses.mean_squared_error)
    model.compile("adam", loss)
    model.fit(x, y, batch_size=32, epochs=5, verbose=0)
    assert loss.calls == 2  # 32 rows and the last 6


@pytest.mark.big
def test_a_replayed_step_allocates_no_buffers_and_compiles_nothing(data):
    x, y = data
    model = network()
    model.fit(x[:64], y[:64], batch_size=32, epochs=2, verbose=0)
    big = compiled(Sequential([layers.Dense(400, input_shape=(300,)), layers.Dense(400)]))
    inputs, targets = np.ones((64, 300), "float32"), np.ones((64, 400), "float32")
    big.fit(inputs, targets, batch_size=32, epochs=1, verbose=0)
    tracemalloc.start()
    try:
        big.fit(inputs, targets, batch_size=32, epochs=2, verbose=0, shuffle=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000  # one activation of the batch alone is 51,200 bytes, a gradient of a weight 640,000


def test_loss_is_averaged_over_samples_not_over_batches():
    model = compiled(Sequential([layers.Dense(1, input_shape=(1,), kernel_initializer="ones")]))
    x = np.array([[1.0], [1.0], [5.0]])
    assert model.evaluate(x, np.zeros((3, 1)), batch_size=2, verbose=0) == pytest.approx((1 + 1 + 25) / 3)


def test_a_generator_that_runs_out_stops_training_with_a_warning(data):
    x, y = data
    model = network()
    with pytest.warns(UserWarning, match="ran out before epoch 2"):
        history = model.fit(((x, y) for _ in range(2)), epochs=3, verbose=0)
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8", "uint8", "bool"])
def test_inputs_of_any_real_dtype(dtype):
    x = (np.arange(40).reshape(10, 4) % 2).astype(dtype)
    model = compiled(Sequential([layers.Dense(2, input_shape=(4,))]))
    model.fit(x, np.zeros((10, 2), dtype), verbose=0)
    expected = x.astype("float32") @ model.get_weights()[0] + model.get_weights()[1]
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5, atol=1e-6)


def test_memory_is_an_array_not_a_stream(data):
    x, _ = data
    np.testing.assert_array_equal(network().predict(memoryview(x)), network().predict(x))


def test_class_weights_of_targets_that_are_no_class():
    """Such targets weigh 1, and NumPy gives no warning."""
    model = compiled(Sequential([layers.Dense(1, input_shape=(2,))]))
    with pytest.warns(UserWarning, match="y has 1 NaN and 0 infinite numbers of 3"):
        assert np.isnan(model.train_on_batch(np.ones((3, 2)), np.array([np.nan, 1e30, 1]), class_weight={1: 2.0}))


def test_sample_weight_and_class_weight(data):
    x, _ = data
    labels = np.arange(70) % 3
    by_class = {0: 1.0, 1: 2.0, 2: 0.5}
    results = []
    for arguments in ({"class_weight": by_class}, {"sample_weight": np.vectorize(by_class.get)(labels)}):
        model = Sequential([layers.Dense(3, activation="softmax", input_shape=(6,), kernel_initializer="ones")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        results.append(model.fit(x, labels, verbose=0, shuffle=False, epochs=2, **arguments).history["loss"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    one_hot = utils.to_categorical(labels, 3)
    model = Sequential([layers.Dense(3, activation="softmax", input_shape=(6,), kernel_initializer="ones")])
    model.compile("sgd", "categorical_crossentropy")
    again = model.fit(x, one_hot, verbose=0, shuffle=False, epochs=2, class_weight=by_class).history["loss"]
    np.testing.assert_allclose(again, results[0], rtol=1e-5)


def test_metric_functions_names_and_order(data):
    x, y = data

    def mean_pred(y_true, y_pred):
        return K.mean(y_pred)

    model = network(metrics=["mae", mean_pred, metrics.RootMeanSquaredError()])
    values = model.evaluate(x, y, verbose=0)
    assert model.metrics_names == ["loss", "mae", "mean_pred", "root_mean_squared_error"]
    predicted = model.predict(x)
    batches = [predicted[i : i + 32].mean() for i in (0, 32, 64)]  # a number per batch: Keras averages over batches
    expected = [((predicted - y) ** 2).mean(), abs(predicted - y).mean(), np.mean(batches)]
    expected.append(expected[0] ** 0.5)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    named = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(named) == model.metrics_names and list(named.values()) == values


def test_reading_a_value_falls_back_to_eager_with_one_warning(data):
    x, y = data

    class Looks(layers.Layer):
        def call(self, inputs):
            return inputs * 2 if float(ops.mean(inputs)) > 100 else inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    model = compiled(Sequential([Looks(input_shape=(6,), name="curious"), layers.Dense(3)]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=3, batch_size=32, verbose=0)
        model.fit(x * 1000, y, epochs=1, verbose=0)
    messages = [str(w.message) for w in caught]
    assert len(messages) == 1 and "'curious'" in messages[0] and "eagerly" in messages[0]
    with pytest.warns(UserWarning, match="predict step"):
        predicted = model.predict_on_batch(x * 1000)
    np.testing.assert_allclose(predicted, x * 2000 @ model.get_weights()[0] + model.get_weights()[1], rtol=1e-4)


def test_predict_on_batch_goes_the_way_of_predict(data, monkeypatch):
    """Known arrays are not prepared again, and stay one batch: `predict` cuts as many rows into three."""
    x, _ = data
    model, prepared = network(), []
    convert = model._graph_inputs.arrays
    monkeypatch.setattr(model._graph_inputs, "arrays", lambda given: prepared.append(len(given)) or convert(given))
    expected = model.predict(x, batch_size=len(x))
    for _ in range(3):
        np.testing.assert_array_equal(model.predict_on_batch(x), expected)
    assert prepared == [70, 70]
    call = model.layers[-1].call = counted(model.layers[-1].call)
    np.testing.assert_array_equal(model.predict(x), model.predict(x, batch_size=32))
    assert call.calls == 2  # recordings: of 32 rows and of 6
    np.testing.assert_array_equal(model.predict_on_batch(x[::-1]), expected[::-1])
    np.testing.assert_array_equal(model.predict_on_batch(x.astype(float)), expected)
    assert model.predict_on_batch(x[:0]).shape == (0, 3)


def test_one_batch_of_several_inputs_has_one_length():
    first, second = layers.Input((2,), optional=True), layers.Input((2,))
    model = compiled(Model([first, second], layers.Dense(1)(second)))
    assert model.predict_on_batch([None, np.ones((3, 2))]).shape == (3, 1)
    assert model.train_on_batch([None, np.ones((3, 2))], np.ones((3, 1))) >= 0
    with pytest.raises(ValueError, match=r"same number of samples, received \[3, 4\]"):
        model.predict_on_batch([np.ones((4, 2)), np.ones((3, 2))])


def test_freezing_takes_effect_at_the_next_compile(data):
    x, y = data
    model = compiled(network())
    model.trainable = False  # as for the discriminator of a GAN, which is frozen in the model compiled next only
    before = model.get_weights()
    model.train_on_batch(x, y)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert not model.trainable_weights
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.warns(UserWarning, match="no trainable weights"):
        loss = model.train_on_batch(x, y)
    assert loss == model.test_on_batch(x, y)
    np.testing.assert_equal(before, model.get_weights())


def test_symbolic_losses_of_a_functional_model(data):
    x, _ = data
    inputs = layers.Input((6,))
    hidden = layers.Dense(3, kernel_initializer="ones")(inputs)
    model = Model(inputs, hidden)
    judge = layers.Dense(1, kernel_initializer="ones")
    model.add_loss(ops.mean(ops.square(judge(hidden))))
    model.add_loss([ops.mean(inputs)])
    model.compile("sgd")
    expected = np.mean((3 * x.sum(axis=1)) ** 2) + x.mean()
    assert model.evaluate(x, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert judge in model.layers and len(model.trainable_weights) == 4
    history = model.fit(x, epochs=2, verbose=0, validation_data=(x, None)).history
    assert history["val_loss"][1] < history["loss"][0]
    outer = compiled(Model(inputs, model(inputs)))
    assert outer.evaluate(x, model.predict(x), verbose=0) == pytest.approx(history["val_loss"][1], rel=1e-5)


def test_add_loss_and_regularizers_reach_the_loss(data):
    x, y = data

    class Penalty(layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.mean(inputs) * 0.0 + 2.0)
            return inputs

    model = Sequential([Penalty(input_shape=(6,)), layers.Dense(3, kernel_initializer="ones", kernel_regularizer="l2")])
    model.compile("sgd", "mse")
    total = model.evaluate(x, y, verbose=0)
    expected = ((x.sum(axis=1, keepdims=True) - y) ** 2).mean() + 2.0 + 0.01 * 18
    assert total == pytest.approx(expected, rel=1e-5)


def test_several_outputs_by_name(data):
    x, y = data
    inputs = layers.Input((6,), name="in")
    hidden = layers.Dense(4, activation="tanh")(inputs)
    model = Model(inputs, [layers.Dense(3, name="main")(hidden), layers.Dense(1, name="aux")(hidden)])
    model.compile(
        "sgd", {"main": "mse", "aux": "mae"}, loss_weights={"main": 1.0, "aux": 0.2}, metrics={"main": ["mae"]}
    )
    history = model.fit({"in": x}, {"main": y, "aux": y[:, :1]}, epochs=2, verbose=0).history
    assert set(history) == {"loss", "main_loss", "aux_loss", "main_mae"}
    for total, main, aux in zip(history["loss"], history["main_loss"], history["aux_loss"], strict=True):
        assert total == pytest.approx(main + 0.2 * aux, rel=1e-5)
    main, aux = model.predict(x)
    assert main.shape == (70, 3) and aux.shape == (70, 1)


def test_outdated_programs_are_dropped_with_their_memory(data):
    x, y = data
    model = network()
    model.predict(x)
    # the public interface does not show that it is dropped
    outdated = weakref.ref(model._steps["predict"].programs()[0])
    model.fit(x, y, verbose=0)  # moves the weights into the optimizer's buffer
    assert outdated() is None


def test_models_are_pickled_and_copied_with_all_that_save_keeps(data):
    pytest.importorskip("h5py")
    x, y = data
    model = compiled(network(), "adam", metrics=["mae"])
    model.fit(x, y, verbose=0)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.predict(x), model.predict(x))
        assert twin.optimizer.iterations == model.optimizer.iterations
        np.testing.assert_allclose(twin.train_on_batch(x, y), model.test_on_batch(x, y), rtol=1e-5)


def test_an_iterable_that_yields_nothing_in_its_second_pass(data):
    class Second:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([data[0][:4]] if self.passes == 1 else [])

    with pytest.raises(ValueError, match="no batches: x yielded some before, but none in this pass. Pass an iterable"):
        network().predict(Second(), verbose=0)


def test_predict_remembers_a_bounded_number_of_shapes(data):
    model = network()
    model._known_inputs.update((i, None) for i in range(64))  # calls with as many shapes
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(data[0][:4], verbose=0), model.predict(data[0][:4], verbose=0))
    assert 0 < len(model._known_inputs) < 64
