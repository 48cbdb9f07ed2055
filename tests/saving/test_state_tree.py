"""get_state_tree and set_state_tree: paths are those of Keras 3.15."""

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers
from nbkeras.engine.tensor import Tensor
from nbkeras.models import Model, Sequential

X, Y = np.ones((2, 3), "float32"), np.ones((2, 4), "float32")


def trained(name="seq"):
    parts = [layers.Dense(4, name="d"), layers.BatchNormalization(name="bn"), layers.Dropout(0.5, name="drop")]
    model = Sequential([keras.Input((3,)), *parts], name=name)
    model.compile("adam", "mse", metrics=["mse"])
    model.fit(X, Y, verbose=0)
    return model


def flat(tree, outer=""):
    found = {}
    for name, value in tree.items():
        found |= flat(value, f"{outer}{name}/") if isinstance(value, dict) else {f"{outer}{name}": value}
    return found


def test_the_tree_of_a_trained_model():
    model = trained()
    tree = model.get_state_tree("numpy_array")
    weights = [
        f"{layer}/{name}" for layer, names in (("d", "kernel bias"), ("bn", "gamma beta")) for name in names.split()
    ]
    slots = [f"seq_{path.replace('/', '_')}_{slot}" for path in weights for slot in ("momentum", "velocity")]
    assert list(flat(tree["trainable_variables"])) == [f"seq/{path}" for path in weights]
    states = ["seq/bn/moving_mean", "seq/bn/moving_variance", "seq/drop/seed_generator_state"]
    assert list(flat(tree["non_trainable_variables"])) == states
    assert list(flat(tree["optimizer_variables"])) == [
        f"adam/{name}" for name in ("iteration", "learning_rate", *slots)
    ]
    assert list(flat(tree["metrics_variables"])) == ["loss/total", "loss/count", "mse/total", "mse/count"]
    assert list(tree) == ["trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables"]
    kernel = tree["trainable_variables"]["seq"]["d"]["kernel"]
    assert type(kernel) is np.ndarray and np.array_equal(kernel, model.layers[0].kernel)
    tensors = flat(model.get_state_tree())
    assert all(type(value) is Tensor for value in tensors.values())
    kernel = tensors["trainable_variables/seq/d/kernel"]
    model.layers[0].kernel.assign_add(np.ones((3, 4)))
    np.testing.assert_allclose(model.layers[0].kernel - kernel, np.ones((3, 4)), rtol=1e-5)  # the tree stays as it was


def test_a_tree_goes_to_another_model_which_trains_on():
    model, other = trained(), trained()
    other.fit(X, 3.0 * Y, epochs=2, verbose=0)
    tree = model.get_state_tree()
    other.set_state_tree(tree)
    assert all(
        np.array_equal(a, b) for a, b in zip(flat(tree).values(), flat(other.get_state_tree()).values(), strict=True)
    )
    losses = [each.fit(X, Y, epochs=3, verbose=0).history["loss"] for each in (model, other)]
    assert losses[0] == losses[1]
    other.set_state_tree({"trainable_variables": {"seq": {"d": {"bias": np.full(4, 7.0)}}}})
    assert (other.layers[0].bias.numpy() == 7).all()


def test_paths_begin_at_the_innermost_functional_model():
    x, y = keras.Input((4, 6)), keras.Input((4, 6))
    inner = Model(y, layers.Dense(6, name="deep")(y), name="inner")
    several = Sequential([keras.Input((4, 6)), layers.Dense(6, name="in")], name="several")
    heads = layers.MultiHeadAttention(2, 3, use_bias=False, name="heads"), layers.MultiHeadAttention(2, 3, name="more")
    z = several(inner(x))
    model = Model(x, layers.TimeDistributed(layers.Dense(2, name="each"), name="all")(heads[1](heads[0](z, z), z)))
    paths = [*flat(model.get_state_tree()["trainable_variables"])]
    projections = [f"heads/{name}/kernel" for name in ("query", "key", "value", "attention_output")]
    assert {"deep/kernel", "several/in/bias", "all/each/kernel", "more/key/bias", *projections} < set(paths)
    assert model.get_state_tree()["optimizer_variables"] == {}  # not compiled


def test_trees_that_do_not_fit():
    model = trained()
    before = flat(model.get_state_tree("numpy_array"))
    with pytest.raises(ValueError, match="Invalid `value_format` argument"):
        model.get_state_tree("list")
    with pytest.raises(ValueError, match="unknown group of variables 'weights'"):
        model.set_state_tree({"weights": {}})
    wrong = {"bias": np.zeros(4), "kernel": np.zeros((4, 3))}
    with pytest.raises(ValueError, match=r"'seq/d/kernel' has shape \(3, 4\), received a value of shape \(4, 3\)"):
        model.set_state_tree({"trainable_variables": {"seq": {"d": wrong}}})
    assert all(np.array_equal(before[path], value) for path, value in flat(model.get_state_tree()).items())
    new = Sequential([keras.Input((3,)), layers.Dense(4, name="d"), layers.BatchNormalization(name="bn")], name="seq")
    new.compile("adam", "mse")
    with pytest.warns(UserWarning, match="the model has no variables .*seed_generator_state, .* and 6 more"):
        new.set_state_tree({key: value for key, value in model.get_state_tree().items() if key != "metrics_variables"})
    assert np.array_equal(new.layers[0].kernel, model.layers[0].kernel) and int(new.optimizer.iterations) == 1

    class Twice(Model):
        def __init__(self):
            super().__init__(name="twice")
            self.first, self.second = layers.Dense(2, name="same"), layers.Dense(2, name="same")

        def call(self, inputs):
            return self.second(self.first(inputs))

    twice = Twice()
    twice(X)
    with pytest.raises(ValueError, match="found twice in the model: 'twice/same/kernel'"):
        twice.get_state_tree()


def test_a_layer_in_two_places_is_in_the_tree_once():
    shared = layers.Dense(3, name="d")
    x = keras.Input((3,))
    model = Model(x, Sequential([shared], name="inner")(shared(x)))
    assert list(flat(model.get_state_tree()["trainable_variables"])) == ["d/kernel", "d/bias"]
