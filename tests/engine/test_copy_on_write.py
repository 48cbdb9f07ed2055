"""Who writes the memory of variables says so before: those who hold the old values get a copy, and nobody else pays for it."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from made_models import compiled
from own_models import Around

import nbkeras as keras
from nbkeras import layers, metrics, ops, optimizers
from nbkeras.engine import copy_on_write
from nbkeras.kernels.runtime import device

OPTIMIZERS = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True, "weight_decay": 0.01, "use_ema": True, "ema_overwrite_frequency": 2},
    "AdamW": {"gradient_accumulation_steps": 2},
    "Adagrad": {"clipnorm": 1.0},
    "Adadelta": {},
    "Adamax": {"clipvalue": 0.5},
    "Nadam": {},
    "Ftrl": {},
    "Lion": {},
    "Lamb": {},
    "Adafactor": {},
    "Muon": {"global_clipnorm": 1.0},
}
METRICS = ["mae", metrics.AUC(), metrics.Precision(), metrics.Recall(), metrics.BinaryAccuracy(), metrics.F1Score()]
METRICS += [metrics.R2Score(), metrics.RootMeanSquaredError(), metrics.MeanIoU(2), metrics.CosineSimilarity()]
X = np.random.default_rng(0).integers(0, 7, (8, 5))
Y = np.random.default_rng(1).integers(0, 2, (8, 3)).astype("float32")


class Announced:
    """A runner of launches that compares the memory of variables before and after each, with what `will_write` was told."""

    def __init__(self, monkeypatch):
        self.extents, self.silent, self.seen = [], set(), 0
        told = copy_on_write.will_write

        def will_write(*arrays):
            self.extents += [copy_on_write._extent(array) for array in arrays]
            told(*arrays)

        for module in ("engine.copy_on_write", "ops.metrics", "optimizers.slots", "optimizers.guard"):
            monkeypatch.setattr(f"nbkeras.{module}.will_write", will_write)

    def run(self, function, args):
        shared = [arg for arg in args if isinstance(arg, np.ndarray) and arg.size and copy_on_write.is_shared(arg)]
        before = [np.array(each) for each in shared]
        device.run(function, args)
        for array, value in zip(shared, before, strict=True):
            if array.tobytes() != value.tobytes():
                self.seen += 1
                start, stop = copy_on_write._extent(array)
                if not any(first <= start and stop <= last for first, last in self.extents):
                    self.silent.add(getattr(function, "__name__", repr(function)))


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            layers.Input((5,), batch_size=4),
            layers.Embedding(7, 6),
            layers.LSTM(6, stateful=True, return_sequences=True),
            layers.BatchNormalization(),
            layers.SpectralNormalization(layers.Dense(6)),
            layers.GRU(4, stateful=True),
            layers.Dropout(0.2, seed=1),
            layers.Dense(3, activation="sigmoid", kernel_constraint="max_norm"),
        ]
    )


def check_announced(monkeypatch, optimizer, metrics=None, callbacks=None):
    model, runner = network(), Announced(monkeypatch)
    model.compile(optimizer, "binary_crossentropy", metrics=metrics, run_eagerly=True)
    with device.run_by(runner):
        model.fit(X, Y, batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
    assert runner.seen > 20
    assert not runner.silent


@pytest.mark.cpu("compares memory around each launch")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_write_of_a_variable_is_announced(name, monkeypatch):
    optimizer = getattr(optimizers, name)(learning_rate=0.1, **OPTIMIZERS[name])
    check_announced(monkeypatch, optimizer, METRICS if name == "SGD" else None)


@pytest.mark.cpu("compares memory around each launch")
def test_writes_of_wrappers_and_guards_are_announced(monkeypatch):
    optimizer = optimizers.LossScaleOptimizer(optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)))
    check_announced(monkeypatch, optimizer, callbacks=[keras.callbacks.TerminateOnNaN()])


def test_replays_know_what_they_write():
    model, x, y = network(), X[:4], Y[:4]
    model.compile("adam", "binary_crossentropy", metrics=METRICS)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *(v for m in model.metrics for v in m.variables)]
    held = [ops.reshape(each, (-1,)) for each in variables]
    before = [each.numpy() for each in held]
    assert all(copy_on_write.is_shared(each.data) for each in held)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)  # replays alone
    changed = sum(not np.array_equal(each.numpy().ravel(), old) for each, old in zip(variables, before, strict=True))
    assert changed > 30
    np.testing.assert_equal([each.numpy() for each in held], before)


def launches(persistent):
    """The names of the launches of a recorded step of one's own."""

    class Own(Around):
        def train_step(self, data):
            x, y = data
            with keras.GradientTape(persistent=persistent) as tape:
                loss = ops.mean((self(x) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return {"loss": loss}

    model = compiled(Own(layers.Dense(4)), "sgd", None)
    model.fit(np.ones((8, 3)), np.ones((8, 4)), batch_size=4, epochs=2, verbose=0)
    with keras.profile() as profile:
        model.fit(np.ones((8, 3)), np.ones((8, 4)), batch_size=8, epochs=1, verbose=0)
        profile.calls.clear()
        model.fit(np.ones((8, 3)), np.ones((8, 4)), batch_size=8, epochs=1, verbose=0)
    return profile.calls


def test_a_recorded_step_makes_no_copy_that_it_does_not_read():
    assert launches(persistent=True) == launches(persistent=False)


def test_a_default_step_leaves_no_holders():
    model = keras.Sequential([layers.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=4, epochs=2, verbose=0)
    owners = {id(device.root(v.data)) for v in (*model.variables, *model.optimizer.variables)}
    assert owners.isdisjoint(copy_on_write._held)


def test_views_that_nobody_has_any_more_take_no_memory():
    v = keras.Variable(np.ones(3))
    memory = copy_on_write._memories[id(device.root(v.data))]
    kept = [v[:2] for _ in range(100)]
    for _ in range(10_000):
        v[:1]
    assert len(memory.holds) < 500
    v.assign([2.0, 3.0, 4.0])
    assert not memory.holds
    assert all(each.numpy().tolist() == [1.0, 1.0] for each in kept)


def test_a_held_value_does_not_keep_the_variable_alive_and_is_dropped_with_it():
    v = keras.Variable(np.ones(3))
    key, owner = id(device.root(v.data)), weakref.ref(device.root(v.data))
    view = v[:2]
    v.assign([5.0, 6.0, 7.0])
    del v
    gc.collect()
    assert owner() is None
    assert key not in copy_on_write._memories or copy_on_write._memories[key].owner() is not None
    assert view.numpy().tolist() == [1.0, 1.0]


def test_only_what_is_written_is_copied():
    model = compiled(keras.Sequential([layers.Input((3,)), layers.Dense(4), layers.Dense(2)]))
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)  # both kernels lie in one flat buffer
    first, second = model.layers[0].kernel, model.layers[1].kernel
    assert device.root(first.data) is device.root(second.data)
    views = ops.reshape(first, (4, 3)), ops.reshape(second, (2, 4))
    before = second.numpy().reshape(2, 4)
    first.assign(first * 2.0)
    assert not copy_on_write.is_shared(views[0].data)
    assert copy_on_write.is_shared(views[1].data)
    second.assign(second * 2.0)
    np.testing.assert_array_equal(views[1].numpy(), before)


class Saved:
    def __init__(self, x):
        self.x, self.nested = x, {"list": [x]}


@pytest.mark.parametrize(
    "pack",
    [lambda x: x, lambda x: (1, [x]), lambda x: {"a": (None, x)}, Saved],
    ids=["array", "tuple and list", "dict", "attributes"],
)
def test_whatever_an_op_of_your_own_saves_keeps_its_value(pack):
    from nbkeras.tensor import apply

    def unpack(saved):
        if isinstance(saved, Saved):
            return unpack(saved.nested)
        if isinstance(saved, dict | list | tuple):
            return unpack(list(saved.values() if isinstance(saved, dict) else saved)[0 if len(saved) == 1 else -1])
        return saved

    def square(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(np.multiply, x, x, y)
        return y, pack(x)

    def square_vjp(saved, dy, needs):
        dx = device.output(needs[0], dy.shape, dy.dtype)
        device.launch(np.multiply, unpack(saved), dy, dx)
        device.launch(np.multiply, dx, 2, dx)
        return (dx,)

    v = keras.Variable([1.0, 2.0])
    with keras.GradientTape() as tape:
        y = apply(square, square_vjp, [v])
    v.assign([10.0, 20.0])
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]


def test_views_with_any_strides_keep_their_values():
    v = keras.Variable(np.arange(24.0).reshape(2, 3, 4))
    arrays = (v.data, v.data[::-1], v.data[:, 1], v.data[:, ::2, ::-1], v.data.T)
    views = [keras.Tensor(each) for each in (*arrays, np.broadcast_to(v.data[1, 1, 1], (5, 5)))]
    before = [np.array(each.numpy()) for each in views]
    v.assign(v * 0.0)
    np.testing.assert_equal([view.numpy() for view in views], before)
    assert device.root(views[-1].data).size == 1  # what is broadcast is copied once


@pytest.mark.parametrize("again", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["deepcopy", "pickle"])
def test_variables_that_were_copied_or_pickled_give_values_too(again):
    v = again(keras.Variable([1.0, 2.0], name="v"))
    before = v.value
    with keras.GradientTape() as tape:
        y = ops.sum(v**2)
    v.assign([5.0, 6.0])
    assert before.numpy().tolist() == [1.0, 2.0]
    assert tape.gradient(y, v).numpy().tolist() == [2.0, 4.0]
    assert again(before).numpy().tolist() == [1.0, 2.0]


def test_shallow_copies_are_values_too():
    v = keras.Variable([1.0, 2.0], name="v")
    value, variable = copy.copy(v.value), copy.copy(v)
    v.assign([5.0, 6.0])
    assert value.numpy().tolist() == variable.numpy().tolist() == [1.0, 2.0]
    variable.assign([0.0, 0.0])
    assert v.numpy().tolist() == [5.0, 6.0]
    assert (variable.name, variable.trainable) == ("v", True)


def test_a_variable_is_assigned_views_of_itself():
    v = keras.Variable([1.0, 2.0, 3.0])
    v.assign(v[::-1])
    assert v.numpy().tolist() == [3.0, 2.0, 1.0]
    v.assign_add(v)
    v.assign_sub(v[::-1])
    assert v.numpy().tolist() == [4.0, 0.0, -4.0]
    v.assign(v)
    assert v.numpy().tolist() == [4.0, 0.0, -4.0]


def test_a_view_from_outside_is_a_constant_of_a_recorded_step():
    class Outside(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(3,), initializer="ones")
            self.last = self.add_weight(shape=(3,), initializer="zeros", trainable=False)
            self.first = ops.reshape(self.w, (3,))  # the value when it was built

        def call(self, x):
            y = x * self.w * ops.stop_gradient(self.first)
            self.last.assign(self.first)
            return y * (1 + self.last)

    def train(eagerly):
        model = compiled(keras.Sequential([Outside()]), optimizers.SGD(0.1), run_eagerly=eagerly)
        x = np.arange(12.0, dtype="float32").reshape(4, 3)
        model.fit(x, x * 2, batch_size=2, epochs=3, shuffle=False, verbose=0)
        assert model.get_weights()[1].tolist() == [1.0, 1.0, 1.0]
        return model.get_weights()[0]

    np.testing.assert_array_equal(train(True), train(False))


def test_copies_are_made_also_where_an_update_is_left_out():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(shape=(2,), initializer="ones")
            self.seen = self.add_weight(shape=(2,), initializer="zeros", trainable=False)
            self.first = self.w.value

        def call(self, x):
            return x * self.w

        def train_step(self, data):
            x, y = data
            before = self.w.value
            with keras.GradientTape() as tape:
                loss = ops.mean((self(x) - y) ** 2)
            self.optimizer.apply(tape.gradient(loss, [self.w]), [self.w])
            self.seen.assign(before)
            return {"loss": loss, "first": self.first}

    model = compiled(Own(), optimizers.SGD(0.1, gradient_accumulation_steps=3), None)
    x = np.ones((1, 2), "float32")
    expected, w = [], model.w.numpy()
    for _ in range(7):
        expected.append(w)
        history = model.fit(x, x * 3, epochs=1, verbose=0).history
        np.testing.assert_array_equal(history["first"][0], [1.0, 1.0])
        np.testing.assert_array_equal(model.seen.numpy(), expected[-1])
        w = model.w.numpy()
    assert len({tuple(each) for each in expected}) == 3
