"""A training step as a library: the bits of `fit` with one thread, states, and errors that leave the state as it was."""

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from libraries import loaded, needs_linker

import nbkeras
from nbkeras import Input, Model, Sequential, layers, ops, optimizers
from nbkeras.export import linking, variables_by_name
from nbkeras.kernels.runtime.threads import get_threads
from nbkeras.utils import set_random_seed

pytestmark = [needs_linker, pytest.mark.cpu("libraries are for the CPU")]
random = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def one_thread():
    before = get_threads()
    nbkeras.set_threads(1)
    set_random_seed(3)
    yield
    nbkeras.set_threads(before)


def floats(*shape):
    return random.normal(size=shape).astype("float32")


def of_inputs(arrays):
    return arrays if len(arrays) > 1 else arrays[0]


def exported(model, tmp_path, example, **options):
    model.export(tmp_path / "libnet.so", training=True, example=example, verbose=False, **options)
    return loaded(tmp_path / "libnet.so")


def check_like_fit(model, batches, tmp_path):
    """Train a library and the model with batches of (x, y[, sample_weight]) as lists; returns (library, state)."""
    rows = len(batches[0][0][0])
    library = exported(model, tmp_path, [of_inputs(each) for each in batches[0]])
    state = library.new_state()
    library._workspace()
    library._thread.workspace[:] = 255  # NaN: a step reads nothing that it has not written
    for batch in batches:
        logs = library.train_step(state, *(array for part in batch for array in part))
    parts = [[np.concatenate(each) for each in zip(*parts, strict=True)] for parts in zip(*batches, strict=True)]
    x, y, *weights = map(of_inputs, parts)
    history = model.fit(x, y, rows, 1, sample_weight=of_inputs(weights) if weights else None, shuffle=False, verbose=0)
    assert logs == {name: values[0] for name, values in history.history.items()}
    if getattr(model.optimizer, "use_ema", False):  # `fit` replaces the weights by their averages at its end
        other = clone_of(model)
        library.to_model(state, other)
        other.optimizer.finalize_variable_values()
        np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    else:
        same_variables(library, state, model)
    return library, state


def clone_of(model):
    """A model of the same kind, which is built."""
    other = nbkeras.models.clone_model(model)
    other.compile(type(model.optimizer).from_config(model.optimizer.get_config()), model.loss, metrics=["accuracy"])
    other.optimizer.build(other.trainable_variables)
    return other


def same_variables(library, state, model):
    own = variables_by_name(model)
    found = library.variables(state)
    assert len(found) > len(model.trainable_variables)
    for name, array in found.items():
        if not name.startswith("metric"):
            np.testing.assert_array_equal(array, own[name].numpy(), err_msg=name)


def mlp(optimizer="adam", loss="sparse_categorical_crossentropy"):
    model = Sequential([Input((6,), name="x"), layers.Dense(9, "relu"), layers.Dense(3, "softmax", name="y")])
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def mlp_batches(count=3):
    return [([floats(8, 6)], [random.integers(0, 3, 8).astype("int32")]) for _ in range(count)]


# -------------------- the bits of fit --------------------

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(centered=True, momentum=0.5),
    "adam": lambda: optimizers.Adam(amsgrad=True, weight_decay=0.01),
    "adamw": lambda: optimizers.AdamW(use_ema=True, ema_momentum=0.5),
    "adamax": lambda: optimizers.Adamax(clipnorm=0.1),
    "nadam": lambda: optimizers.Nadam(global_clipnorm=0.1),
    "adagrad": lambda: optimizers.Adagrad(clipvalue=0.01),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adafactor": lambda: optimizers.Adafactor(),
    "lion": lambda: optimizers.Lion(),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "lamb": lambda: optimizers.Lamb(),
    "accumulated": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8.0, dynamic_growth_steps=2),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(0.1), {".*/bias": optimizers.Adam(0.1)})
    ),
}


schedules = optimizers.schedules
SCHEDULES = {
    "exponential": lambda: schedules.ExponentialDecay(0.1, 2, 0.7, staircase=True),
    "polynomial": lambda: schedules.PolynomialDecay(0.1, 3, power=2.0, cycle=True),
    "inverse_time": lambda: schedules.InverseTimeDecay(0.1, 2, 0.5),
    "piecewise": lambda: schedules.PiecewiseConstantDecay([1, 3], [0.1, 0.05, 0.01]),
    "cosine": lambda: schedules.CosineDecay(0.01, 3, warmup_target=0.1, warmup_steps=2),
    "restarts": lambda: schedules.CosineDecayRestarts(0.1, 2),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_count_the_steps_in_the_state(name, tmp_path):
    library, state = check_like_fit(mlp(optimizers.SGD(SCHEDULES[name]())), mlp_batches(5), tmp_path)
    with pytest.raises(RuntimeError, match="the learning rate follows a schedule"):
        library.set_learning_rate(state, 0.1)


def test_keras_2s_decay(tmp_path):
    library, state = check_like_fit(mlp(optimizers.SGD(0.1, decay=0.3)), mlp_batches(4), tmp_path)
    assert library.learning_rate(state) == 0.1  # before the decay


def test_a_learning_rate_that_python_computes_cannot_be_exported(tmp_path):
    x, y = (of_inputs(each) for each in mlp_batches(1)[0])
    with pytest.raises(ValueError, match="cannot become a library that trains: .* needs Python to compute"):
        mlp(optimizers.SGD(lambda: 0.1)).export(tmp_path / "libnet.so", training=True, example=(x, y))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_gives_the_bits_of_fit(name, tmp_path):
    check_like_fit(mlp(OPTIMIZERS[name]()), mlp_batches(4), tmp_path)


def test_dropout_batch_normalization_and_regularizers(tmp_path):
    x = Input((8, 8, 2))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, kernel_regularizer="l2")(x))
    y = layers.Dropout(0.4)(layers.Flatten()(layers.MaxPooling2D()(layers.ReLU()(y))))
    model = Model(x, layers.Dense(2)(layers.GaussianNoise(0.1)(y)))
    model.compile("rmsprop", "mse", metrics=["mae"])
    check_like_fit(model, [([floats(4, 8, 8, 2)], [floats(4, 2)]) for _ in range(3)], tmp_path)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam"])
def test_an_embedding_is_updated_by_rows(optimizer, tmp_path):
    words = Input((5,), dtype="int32")
    y = layers.LSTM(4)(layers.Embedding(50, 6, mask_zero=True)(words))
    model = Model(words, layers.Dense(1)(y))
    model.compile(optimizer, "mse")
    batches = [([random.integers(0, 50, (4, 5)).astype("int32")], [floats(4, 1)]) for _ in range(4)]
    library, state = check_like_fit(model, batches, tmp_path)
    before = state.copy()
    for wrong in (50, -51):
        x = batches[0][0][0].copy()
        x[1, 2] = wrong
        with pytest.raises(RuntimeError, match="class or index does not exist"):
            library.train_step(state, x, batches[0][1][0])
        assert (state == before).all()


def test_a_stateful_lstm_keeps_its_state_in_the_state(tmp_path):
    model = Sequential([Input((3, 2), batch_size=4), layers.LSTM(5, stateful=True), layers.Dense(1)])
    model.compile("adam", "mse")
    batches = [([floats(4, 3, 2)], [floats(4, 1)]) for _ in range(3)]
    library, state = check_like_fit(model, batches, tmp_path)
    x, workspace = batches[0][0][0], state.copy()
    np.testing.assert_array_equal(library.predict(state, x), model.predict(x, batch_size=4))
    same_variables(library, state, model)  # a prediction moves the recurrent state too
    library.reset_states(state)
    model.reset_states()
    same_variables(library, state, model)
    assert (state != workspace).any()


def test_several_inputs_outputs_losses_and_sample_weights(tmp_path):
    left, words = Input((4,), name="left"), Input((3,), dtype="int32", name="words")
    both = layers.Concatenate()([left, layers.Flatten()(layers.Embedding(7, 2)(words))])
    model = Model([left, words], [layers.Dense(1, name="score")(both), layers.Dense(3, "softmax", name="kind")(both)])
    losses = {"score": "mse", "kind": "sparse_categorical_crossentropy"}
    model.compile(
        "adam", losses, loss_weights={"score": 0.3}, metrics={"kind": "accuracy"}, weighted_metrics={"score": "mae"}
    )
    batches = [
        (
            [floats(4, 4), random.integers(0, 7, (4, 3)).astype("int32")],
            [floats(4, 1), random.integers(0, 3, (4, 1))],
            [abs(floats(4)), abs(floats(4))],
        )
        for _ in range(3)
    ]
    library, state = check_like_fit(model, batches, tmp_path)
    names = [name for name, _, _ in library.TRAIN_INPUTS]
    assert names == ["left", "words", "score", "kind", "score_weight", "kind_weight"]
    outputs = library.predict(state, {"words": batches[0][0][1], "left": batches[0][0][0]})
    for own, expected in zip(outputs, model.predict(batches[0][0], verbose=0), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5)


class Doubled(Model):
    """Its own step clips the gradients and returns a log of its own."""

    def train_step(self, data):
        x, y = data
        with nbkeras.GradientTape() as tape:
            loss = 2.0 * ops.mean(ops.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply([ops.clip(each, -0.5, 0.5) for each in gradients], self.trainable_weights)
        return {"loss": loss, "size": ops.sum(ops.abs(gradients[0]))}


def test_a_train_step_of_the_user(tmp_path):
    x = Input((3,))
    model = Doubled(x, layers.Dense(2)(layers.Dense(4, "tanh")(x)))
    model.compile("adam", "mse")
    library, _ = check_like_fit(model, [([floats(8, 3)], [floats(8, 2)]) for _ in range(3)], tmp_path)
    assert library.LOGS == ["loss", "size"]


def test_with_lora_the_state_has_only_the_small_weights(tmp_path):
    model = Sequential([Input((200,)), layers.Dense(300, "relu"), layers.Dense(3)])
    for layer in model.layers:
        layer.enable_lora(2)
    model.compile("adam", "mse")
    batches = [([floats(4, 200)], [floats(4, 3)]) for _ in range(3)]
    library, state = check_like_fit(model, batches, tmp_path)
    assert state.nbytes < 60_000 < 300 * 200 * 4
    np.testing.assert_allclose(
        library.predict(state, batches[0][0][0]), model.predict(batches[0][0][0]), rtol=1e-4, atol=1e-5
    )


def test_a_test_step_measures_and_changes_only_metrics(tmp_path):
    model, batches = mlp(), mlp_batches()
    library = exported(model, tmp_path, [of_inputs(each) for each in batches[0]])
    state = library.new_state()
    logs = [library.test_step(state, x[0], y[0]) for x, y in batches][-1]
    x, y = (np.concatenate([batch[part][0] for batch in batches]) for part in (0, 1))
    expected = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    assert logs == expected
    same_variables(library, state, model)


def test_exporting_changes_nothing_and_needs_no_step_before(tmp_path):
    model, batch = mlp(), mlp_batches(1)[0]
    before = [each.numpy() for each in model.weights]
    library = exported(model, tmp_path, [of_inputs(each) for each in batch])
    for own, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(own.numpy(), old)
    assert int(model.optimizer.iterations) == 0
    assert not model.optimizer.variables[2].numpy().any()
    np.testing.assert_array_equal(library.variables(library.new_state())["model/0"], before[0])


# -------------------- states --------------------


def trained(tmp_path, steps=2, **options):
    model, batches = mlp(), mlp_batches(steps)
    library = exported(model, tmp_path, [of_inputs(each) for each in batches[0]], **options)
    state = library.new_state()
    for x, y in batches:
        library.train_step(state, x[0], y[0])
    return model, library, state, batches


def test_a_state_moves_to_a_model_and_back(tmp_path):
    model, library, state, batches = trained(tmp_path, weights="beside")
    library.to_model(state, model)
    same_variables(library, state, model)
    assert int(model.optimizer.iterations) == 2
    np.testing.assert_allclose(library.predict(state, batches[0][0][0]), model.predict(batches[0][0][0]), rtol=1e-5)
    model.fit(batches[0][0][0], batches[0][1][0], batch_size=8, verbose=0, shuffle=False)
    again = library.from_model(model)
    same_variables(library, again, model)
    library.reset_metrics(state)
    library.train_step(state, batches[0][0][0], batches[0][1][0])
    assert (state == again).all()
    other = Sequential([Input((6,)), layers.Dense(5), layers.Dense(3)])
    other.compile("adam", "mse")
    with pytest.raises(ValueError, match="not of the exported kind"):
        library.from_model(other)


def test_a_state_is_saved_and_loaded(tmp_path):
    _, library, state, _ = trained(tmp_path)
    library.save(state, tmp_path / "state")
    assert (library.load(tmp_path / "state") == state).all()
    assert sorted(os.listdir(tmp_path)) == ["libnet.so", "net.h", "net.py", "state"]
    content = state.tobytes()
    for wrong in (content[:-8], content + b"x", b"", content[:64][::-1] + content[64:], b"x" + content[1:]):
        (tmp_path / "state").write_bytes(wrong)
        with pytest.raises(ValueError, match="state of this library"):
            library.load(tmp_path / "state")
    with pytest.raises(TypeError, match=r"array of \d+ bytes from new_state"):
        library.save(state.view(np.float32), tmp_path / "state")


def test_a_full_disk_leaves_the_old_state(tmp_path, monkeypatch):
    _, library, state, batches = trained(tmp_path)
    library.save(state, tmp_path / "state")
    library.train_step(state, batches[0][0][0], batches[0][1][0])
    monkeypatch.setattr(library.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        library.save(state, tmp_path / "state")
    monkeypatch.undo()
    assert (library.load(tmp_path / "state") != state).any()
    assert sorted(os.listdir(tmp_path)) == ["libnet.so", "net.h", "net.py", "state"]


def test_seeds_change_only_random_numbers(tmp_path):
    nbkeras.random.normal((2,))  # the generator that layers without a seed share exists, but the step does not use it
    model = Sequential([Input((6,)), layers.Dropout(0.5), layers.Dense(3)])
    model.compile("sgd", "mse")
    library = exported(model, tmp_path, (floats(8, 6), floats(8, 3)))
    states = [library.new_state(seed) for seed in (0, 1, 2**63 + 1, 1)]
    assert (states[1] == states[3]).all()
    random_states = [name for name, array in library.variables(states[0]).items() if array.dtype == np.uint32]
    assert random_states
    for one, two in ((0, 1), (0, 2), (1, 2)):
        found = library.variables(states[one]), library.variables(states[two])
        differing = [name for name in found[0] if (found[0][name] != found[1][name]).any()]
        assert differing == random_states


def test_federated_averages(tmp_path):
    _, library, _, batches = trained(tmp_path)
    states = [library.new_state() for _ in range(3)]
    for state, (x, y) in zip(states, mlp_batches(), strict=True):
        library.train_step(state, x[0], y[0])
    mean = library.average(states, [1, 2, 5])
    found, parts = library.variables(mean), [library.variables(state) for state in states]
    for name, array in found.items():
        if name.startswith("model/") and array.dtype.kind == "f":
            expected = (parts[0][name] + 2.0 * parts[1][name] + 5.0 * parts[2][name]) / 8
            np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(array, parts[0][name])
    library.train_step(mean, batches[0][0][0], batches[0][1][0])
    for wrong in ([1, 2], [0, 0, 0], [1, -1, 1], [np.nan, 1, 1]):
        with pytest.raises(ValueError, match="weights must be a number >= 0 for each"):
            library.average(states, wrong)
    with pytest.raises(ValueError, match="average needs at least one state"):
        library.average([])


def test_the_learning_rate_is_read_and_set(tmp_path):
    _, library, state, batches = trained(tmp_path)
    assert library.learning_rate(state) == pytest.approx(0.001)
    library.set_learning_rate(state, 0.0)
    before = library.variables(state)["model/0"].copy()
    library.train_step(state, batches[0][0][0], batches[0][1][0])
    np.testing.assert_array_equal(library.variables(state)["model/0"], before)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(RuntimeError, match="an input is not finite"):
            library.set_learning_rate(state, wrong)
    assert library.learning_rate(state) == 0.0


# -------------------- errors --------------------


def test_nan_in_data_and_losses_change_nothing(tmp_path):
    _, library, state, batches = trained(tmp_path)
    (x,), (y,) = batches[0]
    before = state.copy()
    for wrong in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[3, 2] = wrong
        for function in (library.train_step, library.test_step):
            with pytest.raises(RuntimeError, match="an input is not finite"):
                function(state, bad, y)
            assert (state == before).all()
    for wrong in (3, -1):
        bad = y.copy()
        bad[5] = wrong
        with pytest.raises(RuntimeError, match="class or index does not exist"):
            library.train_step(state, x, bad)
        assert (state == before).all()
    library.train_step(state, x, y)


def test_a_loss_that_overflows_changes_nothing(tmp_path):
    model = Sequential([Input((4,)), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = floats(4, 4), floats(4, 2)
    library = exported(model, tmp_path, (x, y))
    state = library.new_state()
    library.train_step(state, x, y)
    before = state.copy()
    with pytest.raises(RuntimeError, match="the loss is not finite"):
        library.train_step(state, x, y * np.float32(1e30))
    assert (state == before).all()
    library.train_step(state, x, y)


def train_function(library):
    function = library._train
    assert function.restype is ctypes.c_int
    return function


def test_pointers_are_checked_before_anything_is_written(tmp_path):
    _, library, state, batches = trained(tmp_path)
    (x,), (y,) = batches[0]
    logs, workspace = np.zeros(2, "float32"), np.empty(library._size("workspace") + 1, np.uint8)
    arrays = [state, x, y, logs, workspace[1:]]
    good = [each.ctypes.data for each in arrays]
    before = state.copy()
    train = train_function(library)
    for position in range(len(good)):
        assert train(*good[:position], None, *good[position + 1 :]) == 2
    for position in range(4):
        assert train(*good[:position], good[position] + 1, *good[position + 1 :]) == 4
    for one, two in ((0, 1), (0, 3), (0, 4), (1, 4), (3, 4), (1, 3), (2, 3)):
        for shift in (0, 8 if one in (0, 4) or arrays[one].nbytes > 8 else 0):
            given = list(good)
            given[two] = given[one] + shift
            assert train(*given) == 5, (one, two, shift)
    assert (state == before).all()
    assert not logs.any()
    assert train(*good) == 0
    assert logs.any()


def test_a_state_of_another_library_or_byte_order_is_refused(tmp_path):
    _, library, state, batches = trained(tmp_path)
    (x,), (y,) = batches[0]
    for change in (
        lambda words: words.byteswap(inplace=True),
        lambda words: words.__setitem__(0, words[0] + (1 << 56)),  # the version
        lambda words: words.__setitem__(1, 0),
        lambda words: words.__setitem__(2, words[2] + 64),
        lambda words: words.fill(0),
    ):
        other = state.copy()
        change(other[:64].view(np.int64))
        before = other.copy()
        for call in (
            lambda: library.train_step(other, x, y),  # noqa: B023
            lambda: library.test_step(other, x, y),  # noqa: B023
            lambda: library.predict(other, x),  # noqa: B023
            lambda: library.reset_metrics(other),  # noqa: B023
            lambda: library.set_learning_rate(other, 0.1),  # noqa: B023
            lambda: library.learning_rate(other),  # noqa: B023
        ):
            with pytest.raises(RuntimeError, match="belongs to another library"):
                call()
        assert (other == before).all()


def test_no_function_reads_or_writes_outside_its_memory(tmp_path):
    """Each array ends where a page begins that cannot be accessed."""
    _, library, state, batches = trained(tmp_path)
    (x,), (y,) = batches[0]
    page, keep = mmap.PAGESIZE, []
    libc = ctypes.CDLL(None, use_errno=True)

    def guarded(content):
        size = -(-len(content) // page) * page
        area = mmap.mmap(-1, size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for at in (start, start + page + size):
            assert libc.mprotect(ctypes.c_void_p(at), page, 0) == 0
        keep.append((area, start, size))
        at = start + page + size - len(content)
        ctypes.memmove(at, content, len(content))
        return at

    pointers = [guarded(array.tobytes()) for array in (state, x, y, np.zeros(2, "float32"))]
    pointers.append(guarded(bytes(library._size("workspace"))))
    train = train_function(library)
    assert train(*pointers) == 0
    library.train_step(state, x, y)
    assert ctypes.string_at(pointers[0], state.nbytes) == state.tobytes()
    outputs = guarded(bytes(8 * 3 * 4))
    assert library._predict(pointers[0], pointers[1], outputs, pointers[4]) == 0
    assert ctypes.string_at(outputs, 96) == library.predict(state, x).tobytes()
    for _, start, size in keep:
        for at in (start, start + page + size):
            libc.mprotect(ctypes.c_void_p(at), page, 3)


def test_what_cannot_be_exported_is_said_before_anything_is_written(tmp_path):
    batch = [of_inputs(each) for each in mlp_batches(1)[0]]
    model = Sequential([Input((6,)), layers.Dense(3)])
    with pytest.raises(RuntimeError, match="you must compile the model before exporting it with training=True"):
        model.export(tmp_path / "libnet.so", training=True, example=batch)
    with pytest.raises(ValueError, match=r"training=True needs example=\(x, y\)"):
        mlp().export(tmp_path / "libnet.so", training=True)
    with pytest.raises(ValueError, match="example is only with training=True"):
        mlp().export(tmp_path / "libnet.so", example=batch)
    for options in ({"state": "explicit"}, {"batch": 4}, {"input_signature": [(None, 6)]}):
        with pytest.raises(ValueError, match="the example gives all shapes"):
            mlp().export(tmp_path / "libnet.so", training=True, example=batch, **options)
    assert os.listdir(tmp_path) == []


# -------------------- C --------------------

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
int main(void) {  /* reads a batch, trains 20 steps, writes the state */
    void *state = malloc(net_state_size()), *workspace = malloc(net_workspace_size());
    float x[8 * 6], logs[2];
    int32_t y[8];
    if (fread(x, sizeof x, 1, stdin) != 1 || fread(y, sizeof y, 1, stdin) != 1 || net_init(state, 0) != 0) return 1;
    fprintf(stderr, "begin\n");
    for (int step = 0; step < 20; step++)
        if (net_train_step(state, x, y, logs, workspace) != 0) return 2;
    fprintf(stderr, "end\n");
    return fwrite(state, net_state_size(), 1, stdout) == 1 ? 0 : 3;
}
"""
# Counts calls of the allocator and of threads between the two lines on stderr.
WATCH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
static volatile int counting, calls;
void *malloc(size_t n) { static void *(*f)(size_t); if (!f) f = dlsym(RTLD_NEXT, "malloc"); calls += counting; return f(n); }
void *realloc(void *p, size_t n) {
    static void *(*f)(void *, size_t); if (!f) f = dlsym(RTLD_NEXT, "realloc"); calls += counting; return f(p, n);
}
void *mmap(void *a, size_t n, int p, int g, int d, off_t o) {
    static void *(*f)(void *, size_t, int, int, int, off_t);
    if (!f) f = dlsym(RTLD_NEXT, "mmap");
    calls += counting;
    return f(a, n, p, g, d, o);
}
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*s)(void *), void *v) { _exit(9); }
size_t fwrite(const void *p, size_t n, size_t m, void *f) {
    static size_t (*g)(const void *, size_t, size_t, void *);
    if (!g) g = dlsym(RTLD_NEXT, "fwrite");
    if (n * m >= 4 && !memcmp(p, "begi", 4)) { counting = 1; return m; }
    if (n * m >= 4 && !memcmp(p, "end\n", 4)) { counting = 0; if (calls) _exit(8); return m; }
    return g(p, n, m, f);
}
"""


def test_a_c_program_trains_without_memory_threads_or_calls_of_the_system(tmp_path):
    model, batches = mlp(), mlp_batches(1)
    library = exported(model, tmp_path, [of_inputs(each) for each in batches[0]])
    (x,), (y,) = batches[0]
    for name, text in (("main.c", PROGRAM), ("watch.c", WATCH)):
        (tmp_path / name).write_text(text)
    cc = ["cc", "-std=gnu11", "-O1", "-fno-builtin"]
    subprocess.run([*cc, "main.c", "-L.", "-lnet", "-Wl,-rpath,.", "-o", "main"], cwd=tmp_path, check=True, timeout=60)
    subprocess.run([*cc, "-shared", "-fPIC", "watch.c", "-ldl", "-o", "watch.so"], cwd=tmp_path, check=True, timeout=60)
    state = library.new_state()
    for _ in range(20):
        library.train_step(state, x, y)
    for environment in ({}, {"LD_PRELOAD": str(tmp_path / "watch.so")}):
        made = subprocess.run(
            ["./main"],
            input=x.tobytes() + y.tobytes(),
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr
        assert made.stdout == state.tobytes()


@pytest.mark.process
@pytest.mark.skipif(find_spec("ziglang") is None, reason="needs ziglang, which has C libraries for other processors")
@pytest.mark.parametrize("target", ["aarch64", "riscv64"])
def test_a_program_for_another_processor_trains(target, tmp_path, monkeypatch):
    """Its objects in a program without shared libraries, in an emulator."""
    emulator = shutil.which(f"qemu-{target}") or pytest.skip(f"needs qemu-{target} (qemu-user)")
    model, batches = mlp(optimizers.SGD(0.1, momentum=0.9)), mlp_batches(1)
    (x,), (y,) = batches[0]
    objects, link = [], linking.linked
    monkeypatch.setattr(
        linking, "linked", lambda contents, *rest: objects.extend(contents.values()) or link(contents, *rest)
    )
    model.export(tmp_path / "libnet.so", training=True, example=(x, y), target=target, verbose=False)
    names = [f"{number}.o" for number in range(len(objects))]
    for name, content in zip(names, objects, strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(PROGRAM)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{target}-linux-musl", "-static", "-O1"]
    subprocess.run([*compiler, "main.c", *names, "-lm", "-o", "main"], cwd=tmp_path, check=True, timeout=300)
    given = x.tobytes() + y.tobytes()
    made = subprocess.run([emulator, "./main"], input=given, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    library = exported(model, tmp_path, (x, y))
    state = library.new_state()
    found = np.frombuffer(bytearray(made.stdout), state.dtype)
    for _ in range(20):
        library.train_step(state, x, y)
    for name, array in library.variables(state).items():
        np.testing.assert_allclose(library.variables(found)[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
