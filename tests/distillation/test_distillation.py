"""keras.distillation against what Keras 3.15.1 computed (scripts/make_names_references.py)."""

import pathlib

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import distillation, layers, losses, ops
from nbkeras.distillation import Distiller, FeatureDistillation, LogitsDistillation

FOLDER = pathlib.Path(__file__).parents[1] / "reference" / "names"
STORED = np.load(FOLDER / "distillation.npz")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def mlp(name, width=8, inputs=4):
    hidden, out = layers.Dense(width, activation="relu", name=f"{name}_hidden"), layers.Dense(3, name=f"{name}_out")
    model = keras.Sequential([keras.Input((inputs,)), hidden, out], name=name)
    model.set_weights([0.5 * random(number + len(name), *each.shape) for number, each in enumerate(model.weights)])
    return model


def distiller(kinds=None, *rest, **options):
    kinds = LogitsDistillation() if kinds is None else kinds
    return Distiller(mlp("teacher"), mlp("student"), kinds, *rest, **options)


X, Y = random(0, 32, 4), np.arange(32) % 3


def test_a_distiller_learns_as_in_keras():
    features = FeatureDistillation("mse", "teacher_hidden", "student_hidden")
    model = distiller([LogitsDistillation(2.0, losses.KLDivergence()), features], [1.0, 0.5], student_loss_weight=0.3)
    model.compile(keras.optimizers.SGD(0.1), losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    before = model.teacher.get_weights()
    logs = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(X[:8], Y[:8])).history
    assert {f"log {name}" for name in logs} == {name for name in STORED.files if name.startswith("log ")}
    # a small divergence is a difference of terms of about 1, which float32 rounds to 6e-8
    for name, values in logs.items():
        assert np.allclose(values, STORED[f"log {name}"], rtol=1e-5, atol=6e-8), name
    for name, value in model.evaluate(X, Y, verbose=0, return_dict=True).items():
        assert np.allclose(value, STORED[f"test {name}"], rtol=1e-5), name
    assert np.allclose(model.predict(X, verbose=0), STORED["output"], rtol=1e-4, atol=1e-6)
    assert all(map(np.array_equal, before, model.teacher.get_weights())) and not model.teacher.trainable
    assert len(model.trainable_weights) == 4


def test_single_losses_are_those_of_keras():
    one, two = random(1, 8, 5), random(2, 8, 5)
    found = [
        LogitsDistillation().compute_loss(one, two),
        LogitsDistillation(2.0, "mse").compute_loss(one, two),
        LogitsDistillation(4.0, losses.KLDivergence()).compute_loss(one, two),
        LogitsDistillation(1.5, ["mse", None]).compute_loss([one, one], [two, two]),
        FeatureDistillation("cosine_similarity").compute_loss(one, two),
        FeatureDistillation({"a": "mae", "b": "mse"}).compute_loss({"a": one, "b": two}, {"a": two, "b": one}),
    ]
    assert np.allclose([float(each) for each in found], STORED["single"], rtol=1e-5)


def test_files(tmp_path):
    with pytest.warns(UserWarning, match="the file does not have the student's loss"):
        model = keras.models.load_model(FOLDER / "distiller.keras")
    assert np.allclose(model.predict(X, verbose=0), STORED["output"], rtol=1e-4, atol=1e-6)
    assert [type(each.loss).__name__ for each in model.distillation_losses] == ["KLDivergence", "function"]
    model.compile("sgd", "mse", ["mae"])
    model.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert again.compiled and again.student_loss_weight == 0.3 and again.distillation_loss_weights == [1.0, 0.5]
    assert keras.models.clone_model(again).distillation_losses[1].teacher_layer_name == "teacher_hidden"


class Sub(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs)


class Gap(distillation.DistillationLoss):
    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return ops.square(teacher_outputs - student_outputs)


class ScalarGap(Gap):
    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return ops.mean(super().compute_loss(teacher_outputs, student_outputs))


def test_subclasses_and_own_losses():
    model = Distiller(Sub(), Sub(), ScalarGap(), student_loss_weight=0)
    model.compile("adam", "mse")
    history = model.fit(X, X, epochs=5, verbose=0).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0] and history["student_loss"][-1] == 0
    with pytest.raises(NotImplementedError, match="must define get_config"):
        model.get_config()


def test_several_outputs():
    def two(width):
        x = keras.Input((4,))
        return keras.Model(x, {"a": layers.Dense(2, name="a")(x), "b": layers.Dense(width, name="b")(x)})

    model = Distiller(two(3), two(3), LogitsDistillation(loss={"a": "mse", "b": None}))
    model.compile("sgd", {"a": "mse", "b": "mae"})
    targets = {"a": X[:, :2], "b": X[:, :3]}
    names = {"distillation_loss", "loss", "student_loss", "total_loss"}
    assert set(model.fit(X, targets, verbose=0).history) == names


def train(model):
    model.compile("sgd", "mse")
    model.fit(X, X[:, :3], verbose=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Distiller(1, mlp("s"), Gap()), "teacher must be a Model, received 1"),
        (lambda: Distiller(mlp("t"), 1, Gap()), "student must be a Model, received 1"),
        (lambda: Distiller(mlp("t"), mlp("s", inputs=5), Gap()), "must have inputs of the same"),
        (lambda: distiller(["mse"]), "must be a DistillationLoss, .* received 'mse'"),
        (lambda: distiller([Gap()], [1, 2]), "expected 1, received 2"),
        (lambda: distiller(student_loss_weight=2), "a number from 0 to 1, received 2"),
        (lambda: distiller(student_loss_weight="a"), "a number from 0 to 1, received 'a'"),
        (lambda: LogitsDistillation(0), "temperature must be positive, received 0"),
        (lambda: LogitsDistillation(float("nan")), "temperature must be positive, received nan"),
        (lambda: LogitsDistillation(loss=None), "loss must name at least one loss"),
        (lambda: FeatureDistillation([None]), "loss must name at least one loss"),
        (lambda: LogitsDistillation(loss="no"), "unknown loss: 'no'"),
        (lambda: distiller(FeatureDistillation("mse", "no", None)), "the teacher has no layer 'no'; it has"),
        (
            lambda: Distiller(Sub(), mlp("s"), FeatureDistillation("mse", "dense", "s_out")),
            "the teacher is a subclass without a graph",
        ),
        (lambda: distiller().compile("sgd"), "compile needs a loss"),
        (lambda: distiller().compile("sgd", "mse", "mae"), "metrics must be a list, received 'mae'"),
        (lambda: Gap().validate_outputs([X], X), "the structures differ"),
        (lambda: FeatureDistillation(["mse"]).validate_outputs(X, X), "loss must have the structure of"),
        (
            lambda: train(distiller(Gap())),
            r"Gap.compute_loss must return a scalar, received a tensor of shape \(32, 3\)",
        ),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_loss_defines_what_it_computes():
    with pytest.raises(NotImplementedError, match="must define compute_loss"):
        distillation.DistillationLoss().compute_loss(X, X)
