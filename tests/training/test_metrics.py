"""Metrics against real Keras (tests/reference/objectives.npz), and their state on replay."""

import inspect
import json

import numpy as np
import pytest
from mistakes import mistakes
from objectives import REFERENCE, SPEC, data

from nbkeras import metrics, ops
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.ops.metrics import class_matches, one_hot_matches, threshold_matches

CUT = pytest.mark.filterwarnings("ignore:.*weights are truncated to integers")
HALVES = (slice(0, 6), slice(6, 12))


HOW = [key.removeprefix("metric/").split("/") for key in REFERENCE if key.startswith("metric/")]


@CUT
@pytest.mark.parametrize(("case", "how"), HOW)
def test_results_equal_keras(case, how):
    name, constants, kind = SPEC["metrics"][case]
    true, predicted = data(kind)
    metric = getattr(metrics, name)(**constants)
    for _ in range(2):  # a reset starts anew
        for half, expected in zip(HALVES, REFERENCE[f"metric/{case}/{how}"], strict=True):
            weight = REFERENCE["weights"][half] if "weighted" in how else None
            if weight is not None and kind.endswith("steps"):
                weight = weight[:, None]
            tensor = as_tensor(predicted[half])
            if "masked" in how:
                tensor.mask = as_tensor(REFERENCE["mask"][half])
            metric.update_state(true[half], tensor, sample_weight=weight)
            np.testing.assert_allclose(metric.result().numpy(), expected, rtol=2e-6, atol=1e-6)
        assert metric.result().dtype == np.float32
        metric.reset_state()


@CUT
@pytest.mark.parametrize("case", SPEC["metrics"])
def test_replay_equals_eager(case):
    name, constants, kind = SPEC["metrics"][case]
    arrays = [*data(kind), REFERENCE["weights"]]
    inputs = [device.persistent(array[HALVES[0]].copy()) for array in arrays]
    eager, replayed = getattr(metrics, name)(**constants), getattr(metrics, name)(**constants)
    eager.update_state(*[array[HALVES[0]] for array in arrays])
    recorder = Recorder()
    with device.record(recorder):
        replayed.update_state(*[Tensor(array) for array in inputs])
    program = recorder.sealed([]).bind()
    assert recorder.reason is None
    for half in (HALVES[1], HALVES[0]):
        for held, array in zip(inputs, arrays, strict=True):
            device.write(held, array[half])
        program.run()
        eager.update_state(*[array[half] for array in arrays])
        np.testing.assert_array_equal(replayed.result().numpy(), eager.result().numpy())


@pytest.mark.parametrize("case", SPEC["metrics"])
def test_configuration_round_trip(case):
    name, constants, _ = SPEC["metrics"][case]
    metric = getattr(metrics, name)(**constants)
    again = metrics.deserialize(json.loads(json.dumps(metrics.serialize(metric))))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    if name == "AUC":
        assert again.thresholds == metric.thresholds


def test_hot_accuracies_take_two_launches():
    for kind, metric in (
        ("classes", metrics.CategoricalAccuracy()),
        ("sparse", metrics.SparseCategoricalAccuracy()),
        ("binary", metrics.BinaryAccuracy()),
    ):
        true, predicted = data(kind)
        true = as_tensor(true, np.float32 if kind != "sparse" else None)
        with device.profile() as profile:
            metric.update_state(true, as_tensor(predicted))
        assert sum(profile.calls.values()) == 2, kind


def test_masked_steps_do_not_count():
    true, predicted = data("sparse_steps")
    mask = REFERENCE["mask"]
    tensor = as_tensor(predicted)
    tensor.mask = as_tensor(mask)
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state(true, tensor)
    right = predicted.argmax(-1) == true
    np.testing.assert_allclose(float(metric.result()), right[mask].mean(), rtol=1e-6)
    whole = metrics.MeanMetricWrapper(lambda y_true, y_pred: ops.mean(y_pred), name="mean_pred")
    whole.update_state(true, tensor)
    np.testing.assert_allclose(float(whole.result()), predicted.mean(), rtol=1e-6)


def test_mean_and_sum():
    mean, total = metrics.Mean(), metrics.Sum()
    assert float(mean.result()) == 0
    for values, weight in (([1.0, 3.0], None), ([5.0], [2.0]), (4.0, 3.0)):
        mean.update_state(values, weight)
        total.update_state(values, weight)
    assert float(mean.result()) == pytest.approx((1 + 3 + 10 + 12) / 7)
    assert float(total.result()) == 26
    assert float(mean(np.ones((2, 3)), np.array([1.0, 0.0]))) == pytest.approx(27 / 8)
    total.reset_states()
    assert float(total.result()) == 0
    grid = metrics.Mean()
    grid.update_state(np.arange(6.0).reshape(2, 3), np.array([[0.0, 1.0, 0.0]]))
    assert float(grid.result()) == 2.5


@pytest.mark.big
def test_means_of_many_values_do_not_drift():
    metric = metrics.Mean()
    for _ in range(10):
        metric.update_state(np.full(2_000_000, 0.1, np.float32))
    assert float(metric.result()) == np.float32(0.1)


class Positives(metrics.Metric):
    """Written as Keras's guide does."""

    def __init__(self, name="positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.seen = self.add_weight(name="seen", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign_add(ops.sum(ops.cast(y_pred > 0.5, self.dtype)))

    def result(self):
        return self.seen


def test_a_subclass_adds_variables_and_updates_them():
    metric = Positives()
    metric.update_state(None, as_tensor(np.array([0.1, 0.9, 0.8])))
    metric.update_state(None, as_tensor(np.array([0.9])))
    assert float(metric.result()) == 3
    assert [v.name for v in metric.variables] == ["seen"]
    metric.reset_state()
    assert float(metric.result()) == 0


def test_metric_of_a_metric():
    class Outer(metrics.Metric):
        def __init__(self):
            super().__init__()
            self.inner = metrics.Mean()

    outer = Outer()
    outer.inner.update_state([2.0])
    assert outer.name == "outer" and len(outer.variables) == 2
    outer.reset_state()
    assert float(outer.inner.result()) == 0


@pytest.mark.parametrize("name", metrics.registry.names())
def test_every_metric_by_name(name):
    if name in ("MeanMetricWrapper", "mean_metric_wrapper"):
        return
    key = name.lower().replace("_", "")
    arguments = {
        value: 0.5 for value in ("sensitivity", "specificity", "recall", "precision") if key.endswith("at" + value)
    }
    if key.endswith("iou") and key != "binaryiou":
        arguments = {"num_classes": 3} if "mean" in key else {"num_classes": 3, "target_class_ids": [0]}
    assert isinstance(metrics.get(name, **arguments), metrics.Metric)


def test_names_are_keras_s():
    assert metrics.get("mse").name == "mean_squared_error"
    assert metrics.get("mse", name="mse").name == "mse"
    assert metrics.Precision().name == "precision" and metrics.TruePositives().name == "true_positives"

    def own(y_true, y_pred):
        return y_pred

    assert metrics.get(own) is own
    assert metrics.MeanMetricWrapper(own).name == "own"
    wrapper = metrics.MeanMetricWrapper(metrics.binary_accuracy, threshold=0.3)
    again = metrics.deserialize(metrics.serialize(wrapper))
    assert again.get_config() == wrapper.get_config()


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ((8,), (8, 1), "binary_accuracy"),
        ((8, 1), (8, 1), "binary_accuracy"),
        ((8, 3), (8, 3), "categorical_accuracy"),
        ((8,), (8, 3), "sparse_categorical_accuracy"),
        ((8, 1), (8, 3), "sparse_categorical_accuracy"),
        ((8, 5), (8, 5, 3), "sparse_categorical_accuracy"),
        ((8, 5, 3), (8, 5, 3), "categorical_accuracy"),
        ((8,), (8,), "categorical_accuracy"),
    ],
)
def test_what_accuracy_means(y_true, y_pred, expected):
    assert metrics.resolve_accuracy(y_true, y_pred) == expected


def test_directions_are_keras_s():  # a private name of Keras's, which KerasTuner reads
    assert metrics.get("mse")._direction == "down" and metrics.AUC()._direction == "up"
    assert metrics.get("accuracy")._direction == metrics.Recall()._direction == "up"


MISTAKES = [
    (lambda: metrics.get("acuracy"), "Did you mean 'accuracy'"),
    (lambda: metrics.AUC(curve="RIC"), "curve must be one of 'ROC', 'PR', 'PRGAIN', received 'RIC'"),
    (lambda: metrics.AUC(summation_method="x"), "summation_method must be"),
    (lambda: metrics.AUC(num_thresholds=1), "num_thresholds must be"),
    (lambda: metrics.AUC(num_labels=3), "multi_label=True only"),
    (lambda: metrics.AUC(thresholds=[2.0]), "thresholds must be numbers from 0 to 1"),
    (lambda: metrics.Precision(thresholds=1.5), "thresholds must be numbers from 0 to 1"),
    (lambda: metrics.PrecisionAtRecall(2.0), "recall must be a number from 0 to 1"),
    (lambda: metrics.Precision()(np.ones((4, 3)), np.ones((4, 2))), "does not match"),
    (
        lambda: metrics.Precision(class_id=5)(np.ones((4, 3)), np.ones((4, 3))),
        r"class_id=5 needs predictions of shape \(batch, classes\)",
    ),
    (lambda: metrics.CategoricalAccuracy()(np.ones(4), np.ones((4, 3))), "one-hot vectors"),
    (lambda: metrics.SparseCategoricalAccuracy()(np.ones((4, 3)), np.ones((4, 3))), "one class number for each"),
    (lambda: metrics.BinaryAccuracy()(np.ones((4, 3)), np.ones((4, 2))), "does not match"),
    (lambda: metrics.Mean()(np.ones((4, 3)), np.ones(3)), "sample_weight of shape .3,."),
    (lambda: metrics.Metric().result(), "must define result"),
    (lambda: metrics.MeanMetricWrapper(3), "must be callable"),
    (lambda: metrics.AUC(multi_label=True)(np.ones(4), np.ones(4)), r"shape \(batch, labels\), received \(4,\)"),
    (
        lambda: metrics.AUC(multi_label=True, num_labels=3)(np.ones((4, 2)), np.ones((4, 2))),
        r"shape \(batch, 3\), received \(4, 2\)",
    ),
    (
        lambda: metrics.AUC(multi_label=True, label_weights=[1.0, 2.0])(np.ones((4, 3)), np.ones((4, 3))),
        r"AUC has 2 label_weights for predictions \(4, 3\)",
    ),
    (lambda: metrics.PrecisionAtRecall(0.5, num_thresholds=0), "num_thresholds must be a positive integer, received 0"),
    (lambda: metrics.FBetaScore(beta=0), "FBetaScore: beta must be > 0, received 0"),
    (lambda: metrics.FBetaScore(threshold=2), "threshold must be > 0 and <= 1, received 2"),
    (lambda: metrics.FBetaScore()(np.ones(4), np.ones(4)), r"shape \(batch, classes\), received \(4,\) and \(4,\)"),
    (lambda: metrics.IoU(2, [2]), r"IoU: target_class_ids must be from 0 to 1, received \[2\]"),
    (lambda: metrics.R2Score(num_regressors=-1), "num_regressors must be >= 0, received -1"),
    (lambda: metrics.MeanIoU(2)([0, 1], [0]), r"targets of shape \(2,\) do not match predictions of shape \(1,\)"),
    (lambda: metrics.Metric()(1, 2), "Metric must define update_state"),
    (
        lambda: class_matches([1], np.ones((2, 3))),
        r"one class number for each prediction, received \(1,\) for \(2, 3\)",
    ),
    (
        lambda: one_hot_matches(np.ones((2, 2)), np.ones((2, 3))),
        r"one-hot targets of shape \(2, 3\), received \(2, 2\)",
    ),
    (lambda: threshold_matches([1], [[1]], 0.5), r"expected targets of shape \(1, 1\), received \(1,\)"),
]


test_mistakes_are_explained = mistakes(MISTAKES, (ValueError, TypeError, NotImplementedError))


def test_a_class_of_a_function_alone_has_a_signature_and_can_be_extended():
    assert str(inspect.signature(metrics.LogCoshError)) == "(name: str = 'logcosh', dtype: Any = None)"
    with pytest.raises(TypeError, match=r"^Hinge.__init__\(\) got an unexpected keyword argument 'nmae'$"):
        metrics.Hinge(nmae="mine")

    class Own(metrics.Hinge):
        pass

    own = Own(name="own")
    own.update_state([1.0], [0.5])
    assert float(own.result()) == 0.5 and own.get_config() == {"name": "own", "dtype": "float32"}


def test_counts_of_integers_give_a_mean_of_floats():
    metric = metrics.Mean(dtype="int64")
    metric.update_state([1, 2, 4])
    assert metric.result().dtype == np.float32 and round(float(metric.result()), 4) == 2.3333


def test_predictions_without_classes():
    with pytest.raises(ValueError, match="one class or more on the last axis, received shape"):
        metrics.sparse_categorical_accuracy(np.array(0), np.zeros((0,), "float32"))


@pytest.mark.parametrize(
    "make", [lambda: metrics.AUC(multi_label=True), metrics.FBetaScore, metrics.R2Score, metrics.Mean]
)
def test_a_metric_that_has_seen_nothing_is_zero(make):
    assert float(make().result()) == 0


@pytest.mark.parametrize(
    ("regressors", "expected"), [(1, 0.8764), (4, 0.80224), (8, 0.0112), (9, 0.89013), (12, 0.89013)]
)
def test_adjusted_r2_counts_numbers_as_in_keras(regressors, expected):
    """The numbers are Keras 3.15's for 5 samples of 2 outputs: n is 10."""
    y = np.array([[1, 2], [2, 4], [4, 3], [5, 9], [6, 7]], "float32")
    found = metrics.R2Score(num_regressors=regressors)(y, y + np.float32([0.5, -1]))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("constant", [0, 1])
def test_the_correlation_of_a_constant_is_nan_as_in_keras(constant):
    metric, pair = metrics.PearsonCorrelation(), [np.array([[1.0, 2, 3]]), np.array([[1.0, 3, 2]])]
    assert np.isfinite(metric(*pair))
    pair[constant] = np.ones((1, 3))
    assert np.isnan(metric(*pair)) and np.isnan(metric([[1.0, 2, 3]], [[1.0, 3, 2]]))


def test_no_values_change_no_mean():
    mean = metrics.Mean()
    mean.update_state([2.0])
    mean.update_state(np.zeros(0))
    assert float(mean.result()) == 2


def test_weights_in_the_order_of_keras_2():
    metric = metrics.Metric(name="own")
    assert metric.add_weight("total", (2,), "ones").numpy().tolist() == [1, 1]
    assert metric.add_weight("count", "zeros").numpy() == 0
    assert [v.name for v in metric.variables] == ["total", "count"] and repr(metric) == "<Metric 'own'>"
