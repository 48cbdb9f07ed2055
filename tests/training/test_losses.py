"""Losses against real Keras (tests/reference/objectives.npz, made by make_objectives.py there)."""

import inspect
import json

import numpy as np
import pytest
from mistakes import mistakes
from objectives import REFERENCE, SPEC, data

from nbkeras import losses, metrics, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

STEPS = [case for case in SPEC["classes"] if case.endswith("steps")]


def masked(predicted):
    tensor = as_tensor(predicted)
    tensor.mask = as_tensor(REFERENCE["mask"])
    return tensor


@pytest.mark.parametrize("case", SPEC["losses"])
def test_values_and_gradients_equal_keras(case):
    name, constants, kind = SPEC["losses"][case]
    true, predicted = data(kind)
    predicted = as_tensor(predicted)
    with GradientTape() as tape:
        tape.watch(predicted)
        values = getattr(losses, name)(true, predicted, **constants)
    gradient = tape.gradient(values, predicted, REFERENCE[f"loss/{case}/seed"])
    np.testing.assert_allclose(values.numpy(), REFERENCE[f"loss/{case}/values"], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(gradient.numpy(), REFERENCE[f"loss/{case}/gradient"], rtol=1e-5, atol=1e-6)
    assert values.dtype == gradient.dtype == np.float32


@pytest.mark.parametrize("reduction", SPEC["reductions"])
@pytest.mark.parametrize("case", SPEC["classes"])
def test_reductions_weights_and_masks_equal_keras(case, reduction):
    _, constants, kind = SPEC["losses"][case]
    true, predicted = data(kind)
    loss = getattr(losses, SPEC["classes"][case])(**constants, reduction=reduction)
    weight = REFERENCE["weights"][:, None] if case in STEPS else REFERENCE["weights"]
    found = {"plain": loss(true, predicted), "weighted": loss(true, predicted, weight)}
    if case in STEPS:
        found["masked"] = loss(true, masked(predicted))
        found["masked_weighted"] = loss(true, masked(predicted), weight)
    for how, value in found.items():
        expected = REFERENCE[f"reduced/{case}/{reduction}/{how}"]
        np.testing.assert_allclose(value.numpy(), expected, rtol=2e-6, atol=1e-6, err_msg=how)


@pytest.mark.parametrize("case", SPEC["losses"])
def test_gradients_in_float64_and_on_replay(case):
    name, constants, kind = SPEC["losses"][case]
    true, predicted = (array[3:6] for array in data(kind))
    if true.dtype.kind == "i" and kind not in ("sparse", "sparse_logits", "sparse_steps", "vectors", "sequences"):
        true = true.astype(float)
    if name == "circle":
        predicted = 0.9 * predicted  # the distance of a unit vector to itself is at a kink
    check_op(lambda t, p: getattr(losses, name)(t, p, **constants), true, predicted, wrt=[1])


def test_weighted_masked_losses_replay():
    loss = losses.CategoricalCrossentropy()
    true, predicted = data("steps")
    targets, outputs = (device.persistent(array[:6].copy()) for array in (true, predicted))
    mask, weight = device.persistent(REFERENCE["mask"][:6].copy()), device.persistent(REFERENCE["weights"][:6].copy())

    def step():
        tensor = Tensor(outputs)
        tensor.mask = Tensor(mask)
        return loss(Tensor(targets), tensor, Tensor(weight)).data

    recorder = Recorder()
    with device.record(recorder):
        value = step()
    program = recorder.sealed([value]).bind()
    (replayed,) = program.outputs
    later = true[6:], predicted[6:], REFERENCE["mask"][6:], REFERENCE["weights"][6:]
    for array, numbers in zip((targets, outputs, mask, weight), later, strict=True):
        device.write(array, numbers)
    program.run()
    np.testing.assert_array_equal(replayed, step())


def test_weights_of_samples_are_for_all_their_steps():
    true, predicted = data("steps")
    loss = losses.CategoricalCrossentropy()
    by_sample = loss(true, predicted, REFERENCE["weights"])
    by_step = loss(true, predicted, np.repeat(REFERENCE["weights"][:, None], 5, axis=1))
    np.testing.assert_allclose(by_sample.numpy(), by_step.numpy(), rtol=1e-6)


def test_everything_masked_is_zero():
    true, predicted = data("steps")
    tensor = as_tensor(predicted)
    tensor.mask = as_tensor(np.zeros(REFERENCE["mask"].shape, bool))
    assert float(losses.CategoricalCrossentropy()(true, tensor)) == 0


def test_column_and_vector_targets():
    predicted = np.array([[0.5], [1.0], [2.0]], np.float32)
    expected = losses.MeanSquaredError()(np.ones((3, 1)), predicted)
    assert float(losses.MeanSquaredError()(np.ones(3), predicted)) == float(expected)
    assert float(losses.MeanSquaredError()(np.ones((3, 1), int), predicted[:, 0])) == float(expected)


@pytest.mark.parametrize("shapes", [((4, 5), (4, 1)), ((4, 1), (4, 5)), ((5,), (4, 5)), ((2, 3, 5), (2, 1, 5))])
@pytest.mark.parametrize(
    "name", "mse mae mape msle huber log_cosh hinge squared_hinge categorical_hinge kl_divergence poisson".split()
)
def test_shapes_broadcast_as_in_keras(name, shapes):
    numbers = np.random.default_rng(3)
    pair = [numbers.uniform(0.1, 0.9, shape).astype("float32") for shape in shapes]
    loss = losses.get(name)
    np.testing.assert_allclose(loss(*pair).numpy(), loss(*np.broadcast_arrays(*pair)).numpy(), rtol=1e-6)


def test_numbers_of_broadcast_losses_and_metrics_are_those_of_keras():
    y_true, y_pred = np.arange(6.0).reshape(2, 3), np.array([[1.0], [3.0]])
    assert losses.mean_squared_error(y_true, y_pred).numpy() == pytest.approx([0.66667, 1.66667], abs=1e-5)
    assert losses.cosine_similarity(y_true, y_pred).numpy() == pytest.approx([-1.34164, -1.69706], abs=1e-5)
    focal = losses.categorical_focal_crossentropy(np.eye(2), np.array([[0.25, 0.75]]))
    assert focal.numpy() == pytest.approx([0.194948, 0.004495], abs=1e-5)
    assert float(metrics.MeanAbsoluteError()(y_true, y_pred)) == pytest.approx(0.83333, abs=1e-5)
    assert float(metrics.BinaryAccuracy()(y_true > 3, y_pred / 4)) == pytest.approx(5 / 6)
    for name in ("binary_crossentropy", "categorical_crossentropy", "binary_focal_crossentropy", "dice", "tversky"):
        with pytest.raises(ValueError, match="the targets' shape .2, 3. "):
            losses.get(name)(y_true, y_pred)


def test_targets_of_custom_functions_are_floats():
    seen = []

    def own(y_true, y_pred):
        seen.append((y_true.dtype, y_true.shape))
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    loss = losses.LossFunctionWrapper(own)
    assert loss.name == "own"
    value = loss(np.array([[200], [1]], np.uint8), np.array([[1.0], [1.0]], np.float32))
    assert float(value) == 199**2 / 2
    assert seen == [(np.float32, (2, 1))]


class Cubed(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 3, axis=-1)


def test_a_subclass_defines_call():
    assert float(Cubed()(np.full((2, 1), 3.0), np.full((2, 1), 1.0))) == 8
    assert float(Cubed(reduction="sum")(np.full((2, 1), 3.0), np.full((2, 1), 1.0))) == 16
    assert Cubed().name == "cubed"


@pytest.mark.parametrize("name", losses.registry.names())
def test_every_loss_by_name(name):
    found = losses.get(name)
    again = losses.deserialize(json.loads(json.dumps(losses.serialize(found))))
    if isinstance(found, losses.Loss):
        assert type(again) is type(found)
        assert again.get_config() == found.get_config()
    else:
        assert again is found


class OfDicts(losses.Loss):
    def call(self, y_true, y_pred):
        assert isinstance(y_true, dict) and {leaf.dtype.name for leaf in y_true.values()} == {"float32"}
        predicted = y_pred["a"] if isinstance(y_pred, dict) else y_pred
        return ops.mean(ops.square(y_true["a"] - predicted), axis=-1) + ops.mean(y_true["b"], axis=-1)


def test_dicts_of_targets_reach_call_as_in_keras():
    y_true = {"b": np.ones((2, 3), int), "a": np.zeros((2, 3))}
    assert float(OfDicts()(y_true, {"a": np.full((2, 3), 2.0)})) == 5
    assert float(OfDicts()(y_true, np.full((2, 3), 2.0), [1.0, 0.0])) == 2.5
    kept = losses.LossFunctionWrapper(lambda y_true, y_pred: y_true["b"] - y_pred["b"])
    assert float(kept(y_true, {"b": np.zeros((2, 3))})) == 1
    with pytest.raises(TypeError, match="expected a number, or lists of numbers"):
        losses.MeanSquaredError()(y_true, y_true)


def test_wrapper_configuration():
    loss = losses.LossFunctionWrapper(losses.huber, delta=0.5, reduction="sum", name="mine")
    again = losses.LossFunctionWrapper.from_config(loss.get_config())
    true, predicted = data("real")
    assert float(again(true, predicted)) == float(loss(true, predicted))
    assert again.name == "mine"


def test_the_options_of_a_loss_are_its_attributes():
    loss = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    assert (loss.from_logits, loss.label_smoothing, loss.axis) == (True, 0.1, -1)
    assert losses.SparseCategoricalCrossentropy(ignore_class=2).ignore_class == 2


def test_gradient_of_a_zero_vector_is_finite():
    predicted = as_tensor(np.zeros((1, 3), np.float32))
    with GradientTape() as tape:
        tape.watch(predicted)
        value = losses.cosine_similarity(np.ones((1, 3)), predicted)
    assert np.isfinite(tape.gradient(value, predicted).numpy()).all()


MISTAKES = [
    (lambda: losses.get("mean_squared_eror"), "Did you mean 'mean_squared_error'"),
    (lambda: losses.MeanSquaredError(reduction="average"), "reduction must be one of"),
    (lambda: losses.MeanSquaredError()(np.ones((4, 3)), np.ones((4, 2))), "targets' shape .4, 3. does not match"),
    (
        lambda: losses.CategoricalCrossentropy()(np.ones(4), np.ones((4, 3))),
        "or use sparse_categorical_crossentropy for class numbers",
    ),
    (lambda: losses.SparseCategoricalCrossentropy()(np.ones((4, 3)), np.ones((4, 3))), "one class number for each"),
    (
        lambda: losses.BinaryCrossentropy(label_smoothing=2)(np.ones((4, 1)), np.ones((4, 1))),
        "label_smoothing must be from 0 to 1, received 2",
    ),
    (lambda: losses.MeanSquaredError()(np.ones((4, 3)), np.ones((4, 3)), np.ones(3)), "sample_weight of shape .3,."),
    (lambda: losses.Loss()(np.ones(2), np.ones(2)), "must define call"),
    (lambda: losses.LossFunctionWrapper(3), "must be callable"),
    (lambda: losses.CategoricalGeneralizedCrossEntropy(q=1), "q must be between 0 and 1"),
    (lambda: losses.dice(np.ones((4, 3)), np.ones((4, 2))), "dice: the targets' shape .4, 3."),
    (lambda: losses.circle(np.ones(3), np.ones((4, 2))), "one class number for each vector"),
    (lambda: losses.ctc(np.ones(3), np.ones((4, 2))), "class numbers .batch, labels. and logits"),
]


test_mistakes_are_explained = mistakes(MISTAKES, (ValueError, TypeError, NotImplementedError))


def test_a_class_of_a_function_alone_has_a_signature_and_can_be_extended():
    assert str(inspect.signature(losses.Hinge)) == (
        "(reduction: str | None = 'sum_over_batch_size', name: str = 'hinge', dtype: Any = None)"
    )
    with pytest.raises(TypeError, match=r"^Hinge.__init__\(\) got an unexpected keyword argument 'nmae'$"):
        losses.Hinge(nmae="mine")

    class Own(losses.Hinge):
        def __init__(self, weight=2.0, **kwargs):
            super().__init__(**kwargs)
            self.weight = weight

        def call(self, y_true, y_pred):
            return self.weight * super().call(y_true, y_pred)

    assert float(Own(name="own")([1.0], [0.5])) == 1.0
    assert Own(name="own", reduction="sum").get_config() == {"name": "own", "reduction": "sum"}
