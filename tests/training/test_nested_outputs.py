"""Losses, metrics, targets and sample weights in the structure of nested outputs, such as a dict of lists; names as Keras 3's."""

import numpy as np
import pytest
from made_models import compiled, reloaded

import nbkeras as keras
from nbkeras import layers

X = np.linspace(-1, 1, 24).reshape(8, 3).astype("float32")
A, B, C = X[:, :2] ** 2, X[:, :1], X[:, 1:2] - 1
W = [np.linspace(0, 1, 8), np.ones(8), np.linspace(2, 0, 8)]

NESTED = {
    "dict of lists": lambda a, b, c: {"p": [a, b], "q": c},
    "list of dicts": lambda a, b, c: [{"p": a, "r": b}, c],
    "list of lists": lambda a, b, c: [[a, b], c],
    "dict of dicts": lambda a, b, c: {"p": {"x": a, "y": b}, "q": c},
    "deeper": lambda a, b, c: {"p": [[a], {"z": b}], "q": (c,)},
}
# as Keras 3.15.1 prints them
LOSSES = {
    "dict of lists": ["p/a_loss", "p/b_loss", "q_loss"],
    "list of dicts": ["0/p_loss", "0/r_loss", "c_loss"],
    "list of lists": ["0/a_loss", "0/b_loss", "c_loss"],
}


def functional(nest):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    return keras.Model(
        inputs, nest(*(layers.Dense(n, name=name)(inputs) for n, name in ((2, "a"), (1, "b"), (1, "c"))))
    )


class Own(keras.Model):
    def __init__(self, nest):
        super().__init__()
        self.nest, self.parts = nest, [layers.Dense(n) for n in (2, 1, 1)]

    def call(self, x):
        return self.nest(*(part(x) for part in self.parts))


def trained(model, nest, **weights):
    weights = {key: nest(*value) for key, value in weights.items()}
    loss_weights = weights.pop("loss_weights", None)
    model.compile("sgd", nest("mse", "mae", "mse"), nest(["mae"], None, ["mse"]), loss_weights=loss_weights)
    return model.fit(X, nest(A, B, C), epochs=2, batch_size=4, shuffle=False, verbose=0, **weights)


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize(
    "weights", [{}, {"loss_weights": [1.0, 0.5, 2.0], "sample_weight": W}], ids=["plain", "weighted"]
)
def test_a_nested_model_learns_as_a_flat_one(kind, weights):
    nest = NESTED[kind]
    model, flat = functional(nest), functional(lambda *parts: list(parts))
    history, expected = (
        trained(model, nest, **weights).history,
        trained(flat, lambda *parts: list(parts), **weights).history,
    )
    assert history["loss"] == expected["loss"] and history["a_mae"] == expected["a_mae"]
    assert sorted(np.ravel(list(history.values()))) == sorted(np.ravel(list(expected.values())))
    if kind in LOSSES:
        assert [name for name in sorted(history) if name.endswith("_loss")] == LOSSES[kind]
    np.testing.assert_equal(model.get_weights(), flat.get_weights())
    again = model.evaluate(X, nest(A, B, C), verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(flat.evaluate(X, [A, B, C], verbose=0, return_dict=True)["loss"])
    np.testing.assert_equal(keras.tree.flatten(model.predict(X)), flat.predict(X))


def test_a_subclass_with_nested_outputs():
    nest = NESTED["dict of lists"]
    keras.utils.set_random_seed(0)
    model = Own(nest)
    history = trained(model, nest).history
    assert len([name for name in history if name.endswith("_loss")]) == 3 and history["loss"][1] < history["loss"][0]
    assert model.predict(X)["p"][0].shape == (8, 2)


def test_parts_without_loss_and_one_loss_for_all():
    nest = NESTED["dict of lists"]
    model = compiled(functional(nest), "sgd", {"q": "mse"}, metrics={"q": ["mae"]})
    with pytest.warns(UserWarning, match="gradients do not exist for variables"):
        history = model.fit(X, {"q": C}, verbose=0).history
    assert set(history) == {"loss", "c_mae"}
    model.compile("sgd", "mse")
    model.train_on_batch(X, nest(A, B, C))
    model.compile("sgd", {"a": "mse", "b": "mse", "c": "mse"})  # by the names of the layers
    model.train_on_batch(X, {"a": A, "b": B, "c": C})


def test_mistakes_are_explained():
    model = functional(NESTED["dict of lists"])
    with pytest.raises(ValueError, match=r"loss names '[pr]', which is not an output"):
        model.compile("sgd", {"p": ["mse", "mse"], "r": "mse"})
    with pytest.raises(ValueError, match=r"loss names 'p', which is not an output"):
        model.compile("sgd", {"p": ["mse"], "q": "mse"})


def test_a_file_keeps_nested_losses(tmp_path):
    pytest.importorskip("h5py")
    nest = NESTED["dict of lists"]
    model = functional(nest)
    trained(model, nest)
    again = reloaded(model, tmp_path / "m.keras")
    assert again.train_on_batch(X, nest(A, B, C)) == model.train_on_batch(X, nest(A, B, C))


@pytest.mark.parametrize("kind", NESTED)
def test_a_train_step_gets_targets_in_the_structure_of_the_outputs(kind):
    nest, seen = NESTED[kind], []

    class Watched(keras.Model):
        def train_step(self, data):
            seen.append(keras.tree.map_structure(lambda each: each.shape, data[1]))
            return super().train_step(data)

    inputs = keras.Input((3,))
    model = compiled(Watched(inputs, nest(*(layers.Dense(n)(inputs) for n in (2, 1, 1)))))
    model.train_on_batch(X, nest(A, B, C))
    assert seen == [keras.tree.map_structure(lambda each: each.shape, nest(A, B, C))]
