"""Metrics in `compile`: names in the logs as real Keras 3.15 has them, metrics of your own in recorded steps."""

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import GradientTape, Model, Sequential, layers, losses, metrics, ops, utils

RNG = np.random.default_rng(0)
X = RNG.random((16, 4)).astype("float32")
Y = (RNG.random((16, 1)) > 0.5).astype("float32")
CLASSES = np.eye(3, dtype="float32")[RNG.integers(0, 3, 16)]


class Distance(metrics.Metric):
    """Written as Keras's guide does: state by add_weight and add_variable, its own reset."""

    def __init__(self, name="distance", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", shape=(), initializer="zeros")
        self.counts = self.add_variable((2,), "ones", aggregation="sum", name="counts")
        self.reset_state()

    def update_state(self, y_true, y_pred, sample_weight=None):
        distance = ops.mean(ops.abs(y_true - y_pred))
        self.total.assign_add(distance)
        self.counts.assign(self.counts + ops.stack([1.0, distance]))

    def result(self):
        return self.total / self.counts[0]

    def reset_state(self):
        self.total.assign(0.0)
        self.counts.assign(ops.zeros((2,)))


class Late(metrics.Metric):
    """A metric whose state is made by the first batch."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.variables:
            self.seen = self.add_weight(name="seen", shape=(y_pred.shape[-1],), initializer="zeros")
        self.seen.assign_add(ops.sum(ops.ones_like(y_pred), axis=0))

    def result(self):
        return ops.sum(self.seen)


class Several(metrics.Metric):
    def __init__(self, name="several"):
        super().__init__(name=name)
        self.batches = self.add_weight(name="batches", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.batches.assign_add(1.0)

    def result(self):
        return {"once": self.batches, "twice": self.batches * 2.0}


def bias(y_true, y_pred):
    return ops.mean(y_pred - y_true, axis=-1)


def PSNR(y_true, y_pred):
    return ops.mean(y_pred, axis=-1)


def fitted(outputs, **specs):
    """A model with one or two outputs, and the history of two epochs."""
    inputs = layers.Input((4,))
    first = layers.Dense(1, activation="sigmoid", name="a")(inputs)
    second = layers.Dense(3, activation="softmax", name="b")(inputs)
    model = Model(inputs, [first, second] if outputs == 2 else first)
    model.compile("sgd", ["mse", "categorical_crossentropy"] if outputs == 2 else "mse", **specs)
    history = model.fit(X, [Y, CLASSES] if outputs == 2 else Y, batch_size=8, epochs=2, verbose=0).history
    return model, history


NAMES = [
    (1, {"metrics": ["acc"], "weighted_metrics": ["acc", "mae"]}, "acc weighted_acc mae"),
    (1, {"metrics": [metrics.BinaryAccuracy(), metrics.BinaryAccuracy(threshold=0.3)]}, "binary_accuracy binary_accuracy_1"),
    (1, {"metrics": [bias, Distance(), Distance(name="other")]}, "bias distance other"),
    (1, {"metrics": {"a": ["accuracy"]}}, "accuracy"),
    (1, {"metrics": [PSNR, "Accuracy"]}, "psnr Accuracy"),
    (1, {"metrics": [["accuracy", "mae"]]}, "accuracy mae"),
    (1, {"metrics": ["MSE", "MeanSquaredError", losses.mean_squared_error]}, "MSE MeanSquaredError mean_squared_error"),
    (1, {"metrics": [losses.MeanSquaredError()]}, "mean_squared_error"),
    (1, {"metrics": [metrics.TruePositives(), metrics.TruePositives()]}, "true_positives true_positives_1"),
    (1, {"metrics": [Several()]}, "once twice"),
    (2, {"metrics": ["accuracy", "mae"]}, "a_accuracy b_mae"),
    (2, {"metrics": [["accuracy", "accuracy"], ["mae"]]}, "a_accuracy a_accuracy_1 b_mae"),
    (2, {"metrics": {"a": "accuracy", "b": ["accuracy", metrics.F1Score()]}}, "a_accuracy b_accuracy b_f1_score"),
    (2, {"metrics": {"b": ["acc"]}, "weighted_metrics": {"b": ["acc"], "a": ["mae"]}}, "a_mae b_acc b_weighted_acc"),
    (2, {"metrics": [None, ["mae"]]}, "b_mae"),
    (2, {"metrics": ["mae", None]}, "a_mae"),
    (2, {"metrics": [Several(), Distance()]}, "once twice b_distance"),
]  # fmt: skip


@pytest.mark.parametrize("case", NAMES, ids=lambda case: case[2].replace(" ", "-"))
def test_names_in_the_logs(case):
    outputs, specs, names = case
    _, history = fitted(outputs, **specs)
    assert set(history) == {"loss", *names.split(), *(["a_loss", "b_loss"] if outputs == 2 else [])}


def test_your_own_metrics_are_recorded():
    """Replayed steps add to their state, their reset is called between epochs, and evaluate agrees."""
    calls = []

    class Counted(Distance):
        def update_state(self, y_true, y_pred, sample_weight=None):
            calls.append(1)
            super().update_state(y_true, y_pred, sample_weight)

    model, history = fitted(1, metrics=[Counted(), Late(), Several(), "mae"])
    assert len(calls) == 1  # recorded once for all batches of both epochs
    np.testing.assert_allclose(history["distance"], history["mae"], rtol=1e-6)
    assert history["late"] == [16.0, 16.0] and history["once"] == [2.0, 2.0] and history["twice"] == [4.0, 4.0]
    results = model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    assert results["distance"] == pytest.approx(np.abs(model.predict(X, verbose=0) - Y).mean(), rel=1e-6)
    assert model.evaluate(X, Y, batch_size=8, verbose=0) == list(results.values())


def test_progress_bar_shows_several_values(capsys):
    model = Sequential([layers.Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[metrics.F1Score(), Several()])
    model.fit(X, CLASSES, verbose=2)
    assert "twice" in capsys.readouterr().out


def test_a_train_step_of_your_own_with_several_values():
    """`training=` reaches the layers inside although `call` does not take it."""

    class Own(Model):
        def __init__(self):
            super().__init__()
            self.dense, self.dropout = layers.Dense(1), layers.Dropout(0.999999)
            self.several, self.mean = Several(), metrics.Mean(name="mean_loss")

        def call(self, x):
            return self.dropout(self.dense(x))

        @property
        def metrics(self):
            return [self.mean, self.several]

        def train_step(self, data):
            x, y = data
            with GradientTape() as tape:
                predicted = self(x, training=True)
                loss = ops.mean(ops.square(predicted - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            self.mean.update_state(ops.mean(ops.abs(predicted)))
            self.several.update_state(y, predicted)
            return {metric.name: metric.result() for metric in self.metrics}

    model = Own()
    model.compile("sgd")
    history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
    assert history["once"] == [4.0, 4.0] and history["twice"] == [8.0, 8.0]
    assert history["mean_loss"] == [0.0, 0.0]  # training drops everything
    assert np.abs(model(X, training=False).numpy()).max() > 0


def test_state_from_outside():
    metric = metrics.MeanSquaredError()
    metric.update_state([[5.0]], [[0.0]])
    state = metric.stateless_reset_state()
    for half in (slice(0, 8), slice(8, 16)):
        state = metric.stateless_update_state(state, Y[half], X[half, :1])
    assert float(metric.stateless_result(state)) == pytest.approx(np.square(Y - X[:, :1]).mean(), rel=1e-6)
    assert float(metric.result()) == 25
    with pytest.raises(ValueError, match="mean_squared_error: expected 2, received 1"):
        metric.stateless_result(state[:1])


def test_configuration_of_your_own():
    class Scaled(Distance):
        def __init__(self, scale, **kwargs):
            super().__init__(**kwargs)
            self.scale = scale

        def get_config(self):
            return {**super().get_config(), "scale": self.scale}

    metric = Scaled(3, name="mine")
    again = metrics.deserialize(metrics.serialize(metric), custom_objects={"Scaled": Scaled})
    assert again.get_config() == metric.get_config() and again.scale == 3 and again.name == "mine"


def test_a_loss_with_no_more_than_a_configuration():
    """Keras 2 requires of a loss only that it can be called and has get_config."""

    class Blend:
        def __init__(self, part=0.3):
            self.part = part

        def __call__(self, y_true, y_pred, sample_weight=None):
            return ops.mean(self.part * ops.square(y_true - y_pred))

        def get_config(self):
            return {"part": self.part}

    again = losses.deserialize(losses.serialize(Blend(0.5)), custom_objects={"Blend": Blend})
    assert again.part == 0.5
    with pytest.raises(ValueError, match="metric must be a name"):
        metrics.get(5)


def compiled(outputs=1, loss="mse", **options):
    x = layers.Input((4,))
    model = Model(x, [layers.Dense(1, name=name)(x) for name in "pq"[:outputs]])
    model.compile("sgd", loss, **options)
    return model


def test_one_metric_without_a_list():
    assert compiled(metrics=metrics.MeanAbsoluteError()).evaluate(X, Y, return_dict=True).keys() == {
        "loss",
        "mean_absolute_error",
    }


def test_a_weighted_metric_of_the_same_name():
    found = compiled(metrics=["mae"], weighted_metrics=["mae"]).evaluate(
        X, Y, sample_weight=np.arange(16.0), return_dict=True
    )
    assert found["mae"] != found["weighted_mae"]


def test_a_flat_list_of_metrics_is_for_each_output():
    logs = compiled(2, metrics=["mae"]).evaluate(X, [Y, Y], return_dict=True)
    assert list(logs) == ["loss", "p_loss", "q_loss", "p_mae", "q_mae"]


test_mistakes_are_explained = mistakes(
    [
        (
            lambda: compiled(2, ["mse", None], metrics={"q": ["mae"]}).evaluate(X, {"p": Y}),
            ValueError,
            "metric 'mae' needs targets for output 'q'",
        ),
        (lambda: compiled().evaluate(X, Y, return_dict="yes"), TypeError, "must be True or False, received 'yes'"),
        (
            lambda: compiled().fit(iter([(X, Y)]), validation_split=0.5),
            ValueError,
            "validation_split needs arrays: a generator or Sequence cannot be split",
        ),
        (lambda: compiled().train_on_batch(X[:0], Y[:0]), ValueError, "the data has no samples"),
    ]
)


class Resets(Model):
    def test_step(self, data):
        x, y = data
        loss, others = self.metrics
        assert others == self.metrics[1] != loss
        assert others in {self.metrics[1]}
        others.update_state(y, self(x))
        assert len(others.variables) == 2
        before = others.result()["mae"]
        others.reset_state()
        return {"before": before, "after": others.result()["mae"]}


def test_a_step_resets_the_metrics_of_compile():
    x = layers.Input((4,))
    model = Resets(x, layers.Dense(1)(x))
    model.compile("sgd", "mse", metrics=["mae"])
    found = model.evaluate(X, Y, return_dict=True)
    assert found["before"] > found["after"] == 0


def test_targets_that_are_all_ignored():
    model = compiled(loss=losses.SparseCategoricalCrossentropy(ignore_class=-1))
    assert model.evaluate(X, np.full((16, 1), -1)) == 0


class Nothing(utils.Sequence):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise AssertionError


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((Nothing(),), {}, "the Sequence has no batches"),
        ((iter([(X[:0], Y[:0])]),), {}, "a batch of the generator or Sequence has no samples"),
        (
            (X, Y),
            {"class_weight": {1.5: 2.0}},
            r"class_weight's keys must be class numbers \(0, 1, ...\), received 1.5",
        ),
    ],
)
def test_data_that_do_not_fit(data, options, message):
    with pytest.raises(ValueError, match=message):
        compiled().fit(*data, verbose=0, **options)


def test_numbers_that_are_no_integers():
    model = Sequential([layers.Embedding(5, 2, input_shape=(2,))])
    with pytest.raises(ValueError, match="holds NaN or infinity where whole numbers"):
        model.predict(np.array([[np.nan, 1.0]]))
