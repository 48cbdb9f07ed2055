"""Data, step counts, weights and early ends of `fit` and `evaluate`, as in Keras 3.15."""

import numpy as np
import pytest
from made_models import reloaded

from nbkeras import Input, Model, Sequential, callbacks, layers, losses, metrics, ops, optimizers, utils

RNG = np.random.default_rng(0)
X, LABELS = RNG.random((40, 4)).astype("float32"), RNG.integers(0, 3, 40)


def network(loss="sparse_categorical_crossentropy", units=3, activation="softmax", **options):
    model = Sequential([Input((4,)), layers.Dense(units, activation, kernel_initializer="ones")])
    model.compile(options.pop("optimizer", "sgd"), loss, **options)
    return model


class Batches(utils.PyDataset):
    """Batches of two that hold their number; records which ones are asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __len__(self):
        return 7

    def __getitem__(self, index):
        self.asked.append(index)
        return np.full((2, 1), index, "float32"), np.full((2, 1), index, "float32")

    def on_epoch_begin(self):
        self.asked.append("begin")

    def on_epoch_end(self):
        self.asked.append("end")


def numbers_seen(x, y=None, **arguments):
    """Numbers of the batches of each epoch."""
    seen = []

    class Watch(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append([])

    def loss(y_true, y_pred):
        seen[-1].append(int(y_true[0, 0]))
        return ops.mean(y_pred, axis=-1)

    model = Sequential([Input((1,)), layers.Dense(1)])
    model.compile("sgd", loss, run_eagerly=True)
    model.fit(x, y, verbose=0, callbacks=[Watch()], shuffle=False, **arguments)
    return seen


COLUMN = np.repeat(np.arange(7), 2)[:, None].astype("float32")


@pytest.mark.parametrize(
    "data",
    [
        (Batches(),),
        ((batch for _ in range(9) for batch in [Batches()[i] for i in range(7)]),),
        (type("Loader", (), {"__iter__": lambda self: iter([Batches()[i] for i in range(7)])})(),),
        (COLUMN, COLUMN, {"batch_size": 2}),
    ],
    ids=["dataset", "generator", "iterable", "arrays"],
)
def test_epochs_of_given_steps_go_on_where_the_last_one_stopped(data):
    *data, more = (*data, {}) if not isinstance(data[-1], dict) else data
    assert numbers_seen(*data, steps_per_epoch=3, epochs=4, **more) == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4]]


def test_steps_of_arrays():
    """Without a batch size the steps decide it; evaluation starts at the first batch and ends with the data."""
    assert numbers_seen(COLUMN, COLUMN, steps_per_epoch=3, epochs=2) == [[0, 2, 5]] * 2
    model = network()
    assert model.predict(X, steps=2, batch_size=3).shape == (6, 3) and model.predict(X, steps=3).shape == (40, 3)
    for _ in range(2):
        assert model.evaluate(X, LABELS, steps=2, batch_size=5, verbose=0) == pytest.approx(
            model.evaluate(X[:10], LABELS[:10], verbose=0)
        )
    with pytest.warns(UserWarning, match="ran out after 2 of 4 steps"):
        assert model.predict(X, steps=4, batch_size=20).shape == (40, 3)


def test_datasets_hear_of_epochs_and_make_batches_themselves():
    data = Batches()
    model = Sequential([Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data, epochs=2, batch_size=9, shuffle=False, verbose=0)
    assert data.asked == [0, "begin", *range(1, 7), "end", "begin", *range(7), "end"]
    with pytest.raises(ValueError, match="sample_weight must not be given when x is a generator"):
        model.fit(data, sample_weight=np.ones(14))


def test_weights_of_pixels():
    """The numbers are Keras 3.15's."""
    rng = np.random.default_rng(1)
    x, y, weights = rng.standard_normal((6, 4, 4, 1)), rng.integers(0, 3, (6, 4, 4)), rng.random((6, 4, 4))
    model = Sequential([Input((4, 4, 1)), layers.Conv2D(3, 1, activation="softmax", kernel_initializer="ones")])
    for each in (weights, weights[..., None]):
        model.set_weights([np.ones((1, 1, 1, 3)), np.zeros(3)])
        model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        history = model.fit(x, y, batch_size=3, sample_weight=each, shuffle=False, verbose=0).history
        assert history == {"loss": [pytest.approx(0.55534, abs=1e-5)], "accuracy": [pytest.approx(0.35694, abs=1e-5)]}


@pytest.mark.parametrize("ignored", [-1, 255])
def test_labels_that_do_not_count(ignored):
    labels = np.where(np.arange(40) < 5, ignored, LABELS)
    model = network(losses.SparseCategoricalCrossentropy(ignore_class=ignored))
    assert model.evaluate(X, labels, verbose=0) == pytest.approx(network().evaluate(X[5:], LABELS[5:], verbose=0))
    with pytest.raises(ValueError, match="class numbers from 0 to 7"):
        model.evaluate(X, np.where(labels == 2, 7, labels))
    rows = Sequential([Input((5, 2)), layers.Activation("linear")])
    rows.compile("sgd", losses.SparseCategoricalCrossentropy(axis=1, from_logits=True))
    assert rows.evaluate(np.ones((3, 5, 2)), np.full((3, 2), 4), verbose=0) == pytest.approx(np.log(5))


@pytest.mark.parametrize(
    "kind, targets, units",
    [("binary", LABELS > 0, 1), ("sparse_categorical", LABELS, 3), ("categorical", np.eye(3)[LABELS], 3)],
)
def test_crossentropy_and_accuracy_by_shapes(kind, targets, units):
    activation = "sigmoid" if units == 1 else "softmax"
    named = network(f"{kind}_crossentropy", units, activation, metrics=[f"{kind}_accuracy"])
    expected = named.evaluate(X, targets, verbose=0)
    for loss, metric in (("crossentropy", "Accuracy"), ("ce", "ACC")):
        model = network(loss, units, activation, metrics=[metric])
        assert model.evaluate(X, targets, verbose=0, return_dict=True) == {"loss": expected[0], metric: expected[1]}


def test_class_weights_of_signs():
    signs = np.where(LABELS > 1, 1, -1)
    for by_class in ({1: 2.0}, {1: 2.0, -1: 0.5}):
        weights = np.array([by_class.get(sign, 1.0) for sign in signs])
        results = [
            network("hinge", 1, "tanh").train_on_batch(X, signs[:, None], **{name: value})
            for name, value in (("class_weight", by_class), ("sample_weight", weights))
        ]
        assert results[0] == pytest.approx(results[1])


class Penalized(Model):
    """Learns without targets; its metrics are in a list and a dict."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)
        self.means, self.others = [metrics.Mean(name="size")], {"calls": metrics.Sum(name="calls")}

    def call(self, x):
        y = self.dense(x)
        self.means[0].update_state(ops.abs(y))
        self.others["calls"].update_state(1.0)
        self.add_loss(ops.mean(ops.square(y)))
        return y


@pytest.mark.parametrize("validation", [X, (X,), (X, None), [X]], ids=["array", "tuple", "pair", "list"])
def test_training_without_targets(validation):
    model = Penalized()
    model.compile("sgd")
    history = model.fit(X, validation_data=validation, batch_size=10, epochs=2, verbose=0).history
    assert set(history) == {f"{prefix}{name}" for prefix in ("", "val_") for name in ("loss", "size", "calls")}
    assert history["calls"] == history["val_calls"] == [4, 4]  # they start anew


def test_validation_steps_of_a_split():
    model = network()
    history = model.fit(
        X, LABELS, validation_split=0.5, validation_steps=2, batch_size=4, verbose=0, validation_batch_size=5
    ).history
    assert history["val_loss"] == [pytest.approx(model.evaluate(X[20:30], LABELS[20:30], verbose=0), rel=1e-5)]


def test_callbacks_end_evaluation_and_prediction():
    seen = []

    class Stop(callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)
            self.model.stop_evaluating = batch == 1

        def on_predict_batch_end(self, batch, logs=None):
            seen.append(batch)
            self.model.stop_predicting = True

    model = network()
    for _ in range(2):
        model.evaluate(X, LABELS, batch_size=4, verbose=0, callbacks=[Stop()])
        assert len(model.predict(X, batch_size=4, callbacks=[Stop()])) == 4
    assert seen == [0, 1, 0] * 2


def test_interrupted_training_ends_with_the_moving_averages_too():
    class Interrupt(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = network(optimizer=optimizers.SGD(0.5, use_ema=True))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, batch_size=4, verbose=0, callbacks=[Interrupt()])
    kernel = model.layers[0].kernel
    np.testing.assert_array_equal(kernel.numpy(), model.optimizer.average(kernel).numpy())
    assert len(model.fit(X, LABELS, verbose=0).epoch) == 1


def test_two_optimizers_of_one_name_both_get_the_scheduled_rate():
    first, second = optimizers.SGD(0.2), optimizers.SGD(0.4)
    model = Sequential([Input((4,)), layers.Dense(2, name="one"), layers.Dense(3, name="two")])
    model.compile(optimizers.MultiOptimizer(optimizers.OptimizerMap(first, {"two/.*": second})), "mse")
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, X[:, :3], verbose=0, callbacks=[halve]).history
    assert (float(first.learning_rate), float(second.learning_rate)) == (0.1, 0.2)
    assert (history["learning_rate_sgd"], history["learning_rate_sgd_1"]) == ([0.2], [0.1])


def test_a_model_without_an_optimizer(tmp_path):
    """It is evaluated and saved; it trains only by a train_step with optimizers of its own."""
    model = network(optimizer=None)
    expected = model.evaluate(X, LABELS, verbose=0)
    with pytest.raises(ValueError, match="was compiled with optimizer=None"):
        model.fit(X, LABELS)
    for name, compiled in (("m.keras", True), ("m.h5", False)):
        again = reloaded(model, tmp_path / name)
        assert again.optimizer is None and again.compiled is compiled
        again.compile(None, again.loss or model.loss)
        assert again.evaluate(X, LABELS, verbose=0) == expected


def test_order_of_the_metrics_of_several_outputs():
    """As Keras 3 returns them: the losses by output, the metrics by name."""
    inputs = Input((4,))
    model = Model(inputs, [layers.Dense(1, name=name)(inputs) for name in "ba"])
    model.compile("sgd", "mse", metrics=[["mse", "mae"], ["mape"]])
    results = model.evaluate(X, [X[:, :1], X[:, 1:2]], verbose=0)
    assert model.metrics_names == ["loss", "b_loss", "a_loss", "a_mape", "b_mae", "b_mse"]
    assert results[1] == results[-1] and results[0] == pytest.approx(results[1] + results[2])


# -------------------- numbers of batches, steps and epochs --------------------

COUNTS = ("batch_size", "steps_per_epoch", "validation_steps", "validation_batch_size", "epochs", "initial_epoch")
NO_COUNTS = (-1, 2.5, "3", True, float("nan"), [2], np.float32(2))
WRONG = [
    *(("fit", name, value) for name in COUNTS for value in NO_COUNTS),
    *(("fit", name, 0) for name in COUNTS[:4]),
    *(
        (kind, name, each)
        for kind in ("evaluate", "predict")
        for name in ("batch_size", "steps")
        for each in (0, *NO_COUNTS)
    ),
    *(("fit", "validation_split", each) for each in (1, 1.0, -0.1, float("nan"), "0.1", True, [0.1])),
    *(("fit", "validation_freq", each) for each in (0, -1, 1.5, "2", True, None)),
]


@pytest.mark.parametrize(("method", "name", "value"), WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_counts_that_cannot_be(method, name, value, stream):
    model = Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3)), np.ones((4, 1))
    given = (iter([(x, y)]),) if stream else (x,) if method == "predict" else (x, y)
    more = {"validation_data": (x, y)} if name.startswith("validation_") and name != "validation_split" else {}
    with pytest.raises(ValueError, match=f"{name} must be"):
        getattr(model, method)(*given, verbose=0, **more, **{name: value})


def test_counts_of_numpy_and_epochs_that_are_over():
    model = Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    x, y = np.ones((10, 3)), np.ones((10, 1))
    counts = {"epochs": np.int64(2), "batch_size": np.int32(3), "validation_freq": np.int64(2)}
    history = model.fit(x, y, verbose=0, validation_split=np.float32(0.3), **counts).history
    assert len(history["loss"]) == 2 and len(history["val_loss"]) == 1
    assert len(model.predict(x, batch_size=np.int64(4), steps=np.int64(2))) == 8
    assert model.fit(x, y, verbose=0, epochs=2, initial_epoch=5).history == {}  # as in Keras
