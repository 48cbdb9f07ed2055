"""Eager ops, calls and steps: what they cost, and that nothing which they remember becomes stale."""

import copy
import pickle
import sys
import weakref

import numpy as np
import pytest
from arrays import assert_close
from made_models import built

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.building.module import Module
from nbkeras.engine import tensor
from nbkeras.kernels import device

RNG = np.random.default_rng(0)
X, Y = RNG.random((8, 6), "float32"), np.arange(8) % 3


def calls_of(function) -> int:
    """The number of calls of Python functions in a call, after some calls that compile or remember."""
    for _ in range(4):
        function()
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def mlp() -> keras.Sequential:
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(4), layers.Dense(3)])


class Stack(keras.Model):
    """A model with its layers in a list, a dict and an attribute."""

    def __init__(self):
        super().__init__()
        self.several, self.named = [layers.Dense(4)], {"middle": layers.Dense(4)}
        self.last = layers.Dense(3)

    def call(self, x):
        for each in (*self.several, *self.named.values(), self.last):
            x = each(x)
        return x


def same(found, expected) -> bool:
    return list(map(id, found)) == list(map(id, expected))


@pytest.mark.cpu("counts the functions that an op calls on the CPU")
def test_ops_calls_and_steps_call_few_functions(monkeypatch):
    monkeypatch.setattr(Module, "_losses_exist", False)
    monkeypatch.setattr(tensor, "halves", None)  # no test has used 16 bits
    monkeypatch.setattr(device, "_watched", {})  # predictions of other tests, whose weights launches may change
    a, x, y = ops.ones((4, 4)), ops.convert_to_tensor(X), ops.convert_to_tensor(Y)
    bounds = {ops.add: 28, ops.matmul: 34}
    assert all(calls_of(lambda op=op: op(a, a)) <= maximum for op, maximum in bounds.items())
    bounds = {ops.exp: 24, ops.sum: 27}
    assert all(calls_of(lambda op=op: op(a)) <= maximum for op, maximum in bounds.items())
    model, loss = mlp(), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer, compiled = keras.optimizers.Adam(), mlp()

    def step():
        with keras.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        weights = model.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    assert calls_of(lambda: model(x)) <= 190
    assert calls_of(step) <= 900
    compiled.compile("adam", loss)
    assert calls_of(lambda: compiled.train_on_batch(X, Y)) <= 110
    assert calls_of(lambda: compiled.test_on_batch(X, Y)) <= 110


# -------------------- losses --------------------


def test_losses_that_are_added_after_calls_without_losses(monkeypatch):
    monkeypatch.setattr(Module, "_losses_exist", False)

    class Bound(layers.Layer):
        on = False

        def call(self, x):
            if self.on:
                self.add_loss(ops.sum(x))
            return x

    bound = Bound()
    model = keras.Sequential([keras.Input((6,)), bound])
    for _ in range(3):
        model(X)
    assert model.losses == []
    bound.on = True
    for _ in range(2):  # the second call drops the first one's loss
        model(X)
        assert [float(loss) for loss in model.losses] == pytest.approx([X.sum()])
    bound.on = False
    model(X)
    assert model.losses == []


# -------------------- weights --------------------


def test_weights_that_change_after_they_were_found():
    model = Stack()
    model(X)
    parts = [model.several[0], model.named["middle"], model.last]

    def check():
        expected = [v for part in parts for v in (part.kernel, part.bias)]
        for _ in range(3):  # the second search is kept
            assert {id(v) for v in model.trainable_weights} == {id(v) for v in expected}
            assert same(model.trainable_weights, [v for v in model.weights if v.trainable])

    check()
    more = built(layers.Dense(4), (None, 4))
    model.several.append(more)
    parts.append(more)
    check()
    model.several[1] = other = layers.Dense(4)
    other.build((None, 4))
    parts[-1] = other
    check()
    model.named["other"] = other
    model.several.pop()
    check()
    del model.named["other"]
    parts.pop()
    check()
    model.extra = other
    parts.append(other)
    check()
    del model.extra
    parts.pop()
    check()
    model.last = other
    parts[parts.index(min(parts, key=lambda part: part.kernel.shape[1]))] = other
    check()
    other.extra = other.add_weight((2,), name="extra")
    for _ in range(3):
        assert any(v is other.extra for v in model.trainable_weights)


def test_frozen_layers_after_weights_were_found():
    model = Stack()
    model(X)
    for _ in range(3):
        assert len(model.trainable_weights) == 6
    model.last.trainable = False
    assert len(model.trainable_weights) == 4
    model.last.trainable = True
    model.several[0].kernel.trainable = False
    assert len(model.trainable_weights) == 5
    model.trainable = False
    assert model.trainable_weights == []


def test_a_layer_whose_weights_were_found_is_freed_at_once():
    layer = layers.Dense(2)
    layer(X)
    for _ in range(3):
        assert len(layer.trainable_weights) == 2
    gone = weakref.ref(layer)
    del layer
    assert gone() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_has_its_own_weights(copied):
    layer = layers.Dense(2)
    layer(X)
    for _ in range(3):
        assert same(layer.trainable_weights, [layer.kernel, layer.bias])
    twin = copied(layer)
    for _ in range(3):
        assert same(twin.trainable_weights, [twin.kernel, twin.bias]) and twin.kernel is not layer.kernel


# -------------------- batches --------------------


def trained(reset: bool = True, **options) -> keras.Sequential:
    keras.utils.set_random_seed(1)
    model = mlp()
    options = {"metrics": ["accuracy"], **options}
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model


@pytest.mark.parametrize("kind", ["train", "test"])
def test_batches_give_the_same_values_as_steps_that_run_eagerly(kind):
    recorded, eager = trained(), trained(run_eagerly=True)
    for number in range(5):
        x, y = RNG.random((8, 6), "float32"), RNG.integers(0, 3, 8)
        reset = number != 3
        values = [
            getattr(m, f"{kind}_on_batch")(x, y, reset_metrics=reset, return_dict=True) for m in (recorded, eager)
        ]
        assert list(values[0]) == ["loss", "accuracy"] and values[0] == pytest.approx(values[1], rel=1e-6)
        assert float(recorded.metrics[0].result()) == pytest.approx(values[0]["loss"])
    assert_close(recorded.get_weights(), eager.get_weights(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["train", "test"])
def test_bad_batches_after_good_ones(kind):
    model = trained()
    run = getattr(model, f"{kind}_on_batch")
    for _ in range(3):
        before = run(X, Y)
    for wrong in (-1, 3, 2**40):
        with pytest.raises(ValueError, match="class numbers from"):
            run(X, np.where(Y == 1, wrong, Y))
    with pytest.raises(ValueError, match="expects shape"):
        run(X[:, :3], Y)
    with pytest.raises(ValueError, match="the same number of samples"):
        run(X, Y[:4])
    with pytest.raises(ValueError, match="the data has no samples"):
        run(X[:0], Y[:0])
    assert len(run(X, Y)) == len(before) and len(run(X[::2], Y[::2])) == 2


def test_numbers_of_a_table_are_checked_in_each_batch():
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(5, 2), layers.Flatten(), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x, y = np.zeros((2, 4), "int32"), np.zeros((2, 1), "float32")
    for _ in range(3):
        model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="a table of 5 rows"):
        model.train_on_batch(x + 7, y)


def test_compile_and_parts_that_change_between_batches():
    model = trained()
    for _ in range(3):
        values = model.test_on_batch(X, Y)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert model.test_on_batch(X, Y) == pytest.approx(values[0])  # no metrics now
    model.counted = keras.metrics.Sum(name="counted")
    model.counted.update_state(5.0)
    model.test_on_batch(X, Y)
    assert float(model.counted.result()) == 0.0  # the batch has reset it, as all metrics of the model
    model.add(layers.Dense(2))
    assert len(model.test_on_batch(X, Y % 2)) == 2 and model.output_shape == (None, 2)


def test_a_layer_in_a_list_that_the_optimizer_does_not_know():
    model = Stack()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(3):
        model.train_on_batch(X, Y)
    more = built(layers.Dense(4), (None, 4))
    model.several.append(more)
    with pytest.raises(ValueError, match="was built for other variables"):
        model.train_on_batch(X, Y)


def test_metrics_that_read_values_in_their_result():
    class Read(keras.metrics.Mean):
        def result(self):
            return round(float(super().result()), 1)

    read = Read(name="read")

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.read = layers.Dense(3), read

        def call(self, x):
            y = self.dense(x)
            self.read.update_state(ops.sum(x) * 0.0 + 2.25)
            return y

    model = Model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(3):
        assert model.train_on_batch(X, Y, return_dict=True)["read"] == pytest.approx(2.2)
    assert model._step_for("train").recordings == 1
