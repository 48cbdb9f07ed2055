"""Data in the structure of nested inputs, such as a tuple of dicts, as Keras 3 takes them."""

import numpy as np
import pytest
from made_models import built, compiled

import nbkeras as keras
from nbkeras import layers, ops

X = np.linspace(-1, 1, 32).reshape(8, 4).astype("float32")
Y = X[:, :1] ** 2
NESTED = {
    "dict of dicts": lambda a, b, c: {"p": {"z": a, "y": b}, "q": {"x": c}},
    "list of dicts": lambda a, b, c: [{"z": a, "y": b}, {"x": c}],
    "tuple of a list": lambda a, b, c: ([a, b], c),
}


def functional(nest, model=keras.Model):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((size,)) for size in (4, 3, 2)]
    return model(nest(*inputs), layers.Dense(1)(layers.Concatenate()(inputs)))


@pytest.mark.parametrize("kind", NESTED)
def test_a_nested_model_learns_as_a_flat_one(kind):
    nest = NESTED[kind]
    found = []
    for each in (nest, lambda *parts: list(parts)):
        model, data = functional(each), each(X, X[:, :3], X[:, :2])
        model.compile("sgd", "mse")
        history = model.fit(data, Y, 4, 2, 0, shuffle=False).history["loss"]
        again = model.fit(iter([(data, Y)]), verbose=0, steps_per_epoch=1).history["loss"]
        np.testing.assert_allclose(model(data), model.predict(data, verbose=0), rtol=1e-6)
        found.append((history, again, model.evaluate(data, Y, verbose=0), model.predict(data, verbose=0)))
    np.testing.assert_equal(*found)


def test_a_step_of_the_users_gets_the_structure():
    seen = []

    class Steps(keras.Model):
        def train_step(self, data):
            x, _ = data
            seen.append((type(x), sorted(x[0]), x[0]["z"].shape, x[1]["x"].shape))
            return super().train_step(data)

    nest = NESTED["list of dicts"]
    model = compiled(functional(nest, Steps))
    model.fit(nest(X, X[:, :3], X[:, :2]), Y, 8, verbose=0)
    assert seen[0] == (list, ["y", "z"], (8, 4), (8, 2))


def test_data_of_another_structure_are_refused():
    model = functional(NESTED["dict of dicts"])
    with pytest.raises(ValueError, match="inputs \\['q'\\] are missing"):
        model.predict({"p": {"z": X, "y": X[:, :3]}}, verbose=0)
    with pytest.raises(ValueError, match="expects shape"):
        model.predict({"p": {"z": X, "y": X}, "q": {"x": X[:, :2]}}, verbose=0)


def test_a_model_with_its_own_step_is_not_called_before():
    """As in Keras: its `call` may take other arguments, if all layers are built and `compile` has no loss and no metrics."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def build(self, shapes):
            self.dense.build(shapes["x"])

        def call(self, x, noise):
            return self.dense(x) + noise

        def train_step(self, data):
            with keras.GradientTape() as tape:
                loss = ops.mean(ops.square(self(data["x"], data["noise"])))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    model = built(Own(), {"x": (None, 4), "noise": (None, 1)})
    model.compile("sgd")
    first, second = model.fit({"x": X, "noise": Y}, epochs=2, verbose=0).history["loss"]
    assert second < first
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'noise'"):
        model.fit({"x": X, "noise": Y}, Y, verbose=0)
