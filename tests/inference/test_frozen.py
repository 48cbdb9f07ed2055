"""Frozen models: the same bits as `predict`, without the model, from many threads and processes; files; weights replaced."""

import gc
import mmap
import os
import pickle
import subprocess
import sys
import threading
import weakref
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hostile_frozen import write_old_file_that_makes
from inference_models import (
    cnn,
    floats,
    inputs_of,
    kernel_layer,
    lstm_stack,
    mlp,
    quantized_cnn,
    quantized_mlp,
    same_bits,
    transformer,
    two_and_two,
)

import nbkeras as keras
from nbkeras import Input, Model, Sequential, layers, ops
from nbkeras.engine import replays
from nbkeras.engine.recorder import before_replays
from nbkeras.engine.tensor import apply
from nbkeras.inference import Frozen, TensorSpec, bundle, session
from nbkeras.kernels import compiled, device
from nbkeras.kernels.runtime import device as runtime
from nbkeras.kernels.runtime.pool import Pool
from nbkeras.models import load_model

pytestmark = pytest.mark.cpu("frozen models are for the CPU")
REFERENCE = Path(__file__).parents[1] / "reference"


def predicted(model, x):
    return model.predict(x, batch_size=len(np.asarray(x if isinstance(x, np.ndarray) else x[0])), verbose=0)


# -------------------- the same bits --------------------


@pytest.mark.parametrize(
    "make",
    [mlp, cnn, quantized_mlp, quantized_cnn, lstm_stack, transformer, two_and_two],
    ids=lambda make: make.__name__,
)
def test_it_computes_what_predict_does(make):
    model = make()
    for layer in model._all_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + floats(*w.shape) ** 2 for w in layer.get_weights()])
    ready = model.frozen(batch_sizes=[3, 1])
    for rows in (1, 3):
        inputs = inputs_of(model, rows)
        given = inputs if len(inputs) > 1 else inputs[0]
        same_bits(ready(given), predicted(model, given))
        same_bits(ready.run(inputs), predicted(model, given))
    assert ready.batch_sizes == (1, 3)
    for protocol in (2, 4, 5):
        same_bits(pickle.loads(pickle.dumps(ready, protocol))(given), ready(given))


def test_it_describes_itself():
    ready = two_and_two().frozen(4)
    assert [spec.name for spec in ready.inputs] == ["left", "words"]
    assert ready.inputs[1] == TensorSpec("words", (None, 3), np.dtype("int32"))
    assert ready.outputs == (
        TensorSpec("score", (None, 2), np.dtype("float32")),
        TensorSpec("both", (None, 2, 5), np.dtype("float32")),
    )
    weights = 4 * (9 * 2 + 10 * 2 + 2)
    assert weights <= ready.nbytes < weights + 3 * 64 and ready.is_by_rows
    assert repr(ready) == f"<Frozen {ready.name!r}, batch sizes (4,)>"


def test_weights_of_all_batch_sizes_are_kept_once():
    model = Sequential([Input((100,)), layers.Dense(192), layers.BatchNormalization()])
    one, many = model.frozen(1), model.frozen((1, 2, 3, 4, 5, 6, 7, 8))
    assert one.nbytes == many.nbytes < 1.02 * 4 * 100 * 192


def test_training_goes_on_without_an_effect():
    model = mlp()
    x, ready = floats(1, 20), model.frozen(1)
    before = predicted(model, x)
    model.compile("sgd", "mse")
    model.fit(floats(8, 20), floats(8, 10), verbose=0)
    same_bits(ready(x), before)
    assert np.any(model.predict(x, verbose=0) != before)


class Subclassed(Model):
    def __init__(self):
        super().__init__()
        self.embedding, self.mask = layers.Embedding(9, 4, mask_zero=True), layers.Masking()
        self.recurrent, self.normalization = layers.GRU(3), layers.BatchNormalization()

    def call(self, inputs):
        words = self.recurrent(self.embedding(inputs["words"]))
        return {"sum": words + self.recurrent(self.mask(inputs["steps"])), "words": self.normalization(words)}


def test_a_subclassed_model_with_masks_and_dicts():
    model = Subclassed()
    x = {"words": np.array([[1, 2, 0], [3, 0, 0]], "int32"), "steps": floats(2, 5, 4)}
    x["steps"][:, 3:] = 0
    expected = model.predict(x, verbose=0)
    ready = model.frozen(2, [Input((5, 4)), Input((3,), dtype="int32")])
    assert [spec.name for spec in ready.inputs] == ["steps", "words"]
    found = ready(x)
    assert list(found) == ["sum", "words"]
    same_bits(found, expected)


def test_a_subclassed_model_that_has_no_weights_yet():
    class Plain(Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Plain()
    with pytest.raises(ValueError, match="no input shapes: call it once, or give input_signature"):
        model.frozen()
    ready = model.frozen(2, (None, 4))
    x = floats(2, 4)
    same_bits(ready(x), predicted(model, x))


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param(lambda x: x, id="the input itself"),
        pytest.param(lambda x: [x, layers.Dense(2)(x), x], id="the input twice"),
        pytest.param(lambda x: layers.Reshape((2, 2))(x), id="a view"),
        pytest.param(lambda x: ops.sort(x), id="a function of NumPy"),
        pytest.param(lambda x: ops.inv(ops.reshape(x, (-1, 2, 2))), id="a function of LAPACK"),
        pytest.param(lambda x: ops.pinv(ops.reshape(x, (-1, 2, 2))), id="a function of LAPACK with an option"),
        pytest.param(lambda x: list(ops.rfft(x)), id="a Fourier transform"),
        pytest.param(lambda x: ops.top_k(layers.Dense(5)(x), 2), id="several functions of NumPy"),
        pytest.param(
            lambda x: {"b": x + 1.0, "a": {"c": ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1))}}, id="dicts"
        ),
    ],
)
def test_outputs_of_each_kind(outputs):
    x = Input((4,))
    model = Model(x, outputs(x))
    ready = pickle.loads(pickle.dumps(model.frozen(3), 5))
    for given in (floats(3, 4), floats(3, 8)[:, ::2], floats(4, 3).T, np.asfortranarray(floats(3, 4))):
        same_bits(ready(given), predicted(model, given))


def test_work_under_a_condition():
    def op(x):
        y, flag = device.empty(x.shape, x.dtype), device.empty((1,), np.int64)
        device.launch(np.copyto, y, x)
        device.launch(is_positive, x, flag)
        with runtime.only_if(flag):
            device.launch(np.negative, x, y)
        return y, None

    class Own(layers.Layer):
        def call(self, inputs):
            return apply(op, None, [inputs])

    ready = pickle.loads(pickle.dumps(Sequential([Input((2,)), Own()]).frozen(1), 5))
    assert (ready([[1.0, 2.0]]).tolist(), ready([[-1.0, -2.0]]).tolist()) == ([[-1, -2]], [[-1, -2]])


def is_positive(x, flag):
    flag[0] = x[0, 0] > 0


def test_data_in_the_forms_that_predict_takes():
    model = mlp()
    x, ready = floats(2, 20), model.frozen(2)
    expected = predicted(model, x)
    for given in (x.tolist(), x.astype("float64"), ops.convert_to_tensor(x), {model.input_names[0]: x}, [x]):
        same_bits(ready(given), expected)
    model = two_and_two()
    left, words = inputs_of(model, 2)
    ready = model.frozen(2)
    expected = predicted(model, [left, words])
    same_bits(ready({"words": words, "left": left}), expected)
    same_bits(ready((left, words.astype("int64"))), expected)


def test_inputs_in_a_dict_whose_order_is_not_that_of_their_names():
    first, second = Input((2,), name="z"), Input((3,), name="y")
    model = Model({"a": first, "b": second}, ops.concatenate([first, 2 * second], axis=1))
    x = {"b": floats(2, 3), "a": floats(2, 2)}
    ready = model.frozen(2)
    same_bits(ready(x), model.predict(x, verbose=0))
    assert [spec.name for spec in ready.inputs] == ["z", "y"]
    same_bits(ready.run([x["a"], x["b"]])[0], model.predict(x, verbose=0))


def test_a_tuple_of_inputs():
    pair = (Input((2,)), Input((2,)))
    model = Model(pair, pair[0] - pair[1])
    x = [floats(2, 2), floats(2, 2)]
    same_bits(model.frozen(2)(x), model.predict(x, verbose=0))


def test_lora_and_a_step_of_the_users_own():
    class Classes(Model):
        def predict_step(self, data):
            return ops.argmax(super().predict_step(data), axis=-1)

    x = Input((20,))
    model = Classes(x, layers.Dense(10, name="last")(x))
    model.get_layer("last").enable_lora(2, b_initializer="normal")
    given = floats(5, 20)
    same_bits(model.frozen(5)(given), predicted(model, given))


def test_a_file_of_keras_2(tmp_path):
    with zipfile.ZipFile(REFERENCE / "files" / "tf_keras.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith(".h5") and "lstm" in name)
        archive.extract(name, tmp_path)
    model = load_model(tmp_path / name, compile=False)
    inputs = inputs_of(model, 3)
    given = inputs if len(inputs) > 1 else inputs[0]
    same_bits(model.frozen(3)(given), predicted(model, given))


# -------------------- any number of rows --------------------


def test_batches_are_split_and_padded():
    model = mlp()
    ready = model.frozen((1, 4, 32))
    x = floats(75, 20)
    expected = model.predict(x, verbose=0)
    for rows in (*range(1, 12), 31, 32, 33, 36, 63, 64, 65, 75):
        np.testing.assert_allclose(ready(x[:rows]), expected[:rows], rtol=1e-5, atol=1e-7)
        same_bits(ready.run([x[:rows]])[0], ready(x[:rows]))
    same_bits(ready(x[:36]), np.concatenate([predicted(model, x[:32]), predicted(model, x[32:36])]))


@pytest.mark.parametrize(
    "rows, sizes, expected",
    [
        (2, (1, 32), (1, 1)),
        (9, (1, 32), (32,)),
        (64, (1, 32), (32, 32)),
        (66, (1, 32), (32, 32, 1, 1)),
        (70, (1, 32), (32, 32, 32)),
        (3, (8,), (8,)),
        (11, (4, 8), (8, 4)),
        (5, (4, 8), (8,)),
    ],
)
def test_the_sizes_of_the_parts(rows, sizes, expected):
    assert session.cover(rows, sizes, tuple(size + 7.0 for size in sizes)) == expected


@pytest.mark.parametrize(
    "rows, costs, expected",
    [
        (8, (2, 6, 15), (4, 4)),
        (5, (2, 6, 15), (4, 1)),
        (7, (2, 6, 15), (4, 4)),
        (7, (2, 6, 10), (8,)),
        (3, (2, 3, 15), (4,)),
        (20, (2, 6, 10), (8, 8, 4)),
        (1001, (1, 6, 10), (1,) * 1001),
    ],
)
def test_the_parts_that_take_the_least_time(rows, costs, expected):
    assert session.cover(rows, (1, 4, 8), tuple(map(float, costs))) == expected


def test_measured_programs_give_the_same_answers(monkeypatch):
    frozen = mlp().frozen((1, 4, 8))
    x = floats(19, 20)
    expected = frozen(x[:8])
    times = [0.0, 1.0, 2.0, 9.0]  # the begin and the ends: 8 rows take 7 s, and 4 rows 1 s
    monkeypatch.setattr("nbkeras.inference.session.time", SimpleNamespace(perf_counter=lambda: times.pop(0)))
    frozen.measure(0)
    assert frozen.parts(8) == (4, 4) and frozen.parts(19) == (4, 4, 4, 4, 4)
    np.testing.assert_allclose(frozen(x[:8]), expected, rtol=1e-6)
    same_bits(frozen.run([x[:8]])[0], frozen(x[:8]))
    assert frozen(x).shape == (19, 10)


def test_what_cannot_be_measured():
    for seconds in (-1, float("nan"), float("inf"), "long", None):
        with pytest.raises(ValueError, match="seconds must be a number of at least 0, received"):
            mlp().frozen(1).measure(seconds)
    x = Input((4,))
    frozen = Model(x, x - ops.mean(x, axis=0, keepdims=True)).frozen((2, 5))
    frozen.measure(0)  # whose rows cannot be split: nothing
    assert frozen(floats(5, 4)).shape == (5, 4)


def test_rows_that_have_an_effect_on_others_are_never_mixed():
    x = Input((4,))
    model = Model(x, x - ops.mean(x, axis=0, keepdims=True))
    ready = model.frozen((2, 5))
    assert not ready.is_by_rows
    given = floats(5, 4)
    same_bits(ready(given), predicted(model, given))
    with pytest.raises(ValueError, match=r"rows .* depend on each other.*it takes 2 or 5 rows, received 3"):
        ready(given[:3])


class Of(Model):
    """A model that computes a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


@pytest.mark.parametrize(
    "function, is_by_rows",
    [
        pytest.param(lambda x: x - ops.mean(x, axis=0, keepdims=True), False, id="a mean over rows"),
        pytest.param(lambda x: ops.reshape(2 * x, (1, 4)), False, id="one row alone"),
        pytest.param(lambda x: x - ops.mean(x, axis=1, keepdims=True), True, id="a mean over columns"),
    ],
)
def test_a_model_that_is_frozen_for_one_row(function, is_by_rows):
    model = Of(function)
    model.predict(floats(1, 4), verbose=0)
    ready = model.frozen(1)
    assert ready.is_by_rows == is_by_rows and ready(floats(1, 4)).shape == (1, 4)
    if not is_by_rows:
        with pytest.raises(ValueError, match="it takes 1 rows, received 2"):
            ready(floats(2, 4))


# -------------------- errors --------------------


@pytest.mark.parametrize(
    "arrays, message",
    [
        ([floats(2, 4)], r"has 2 inputs, \['left', 'words'\], received 1 arrays"),
        ([floats(2, 4), [[1, 2, 3]]], "input 'words' must be a NumPy array, received list"),
        ([floats(2, 4), floats(2, 3)], "input 'words' expects dtype int32, received float32"),
        ([floats(2, 5), np.zeros((2, 3), "int32")], r"input 'left' expects shape \(None, 4\), received \(2, 5\)"),
        ([floats(4), np.zeros((2, 3), "int32")], r"input 'left' expects shape \(None, 4\), received \(4,\)"),
        ([floats(2, 4), np.zeros((3, 3), "int32")], "the same number of rows, received {'left': 2, 'words': 3}"),
        ([floats(0, 4), np.zeros((0, 3), "int32")], "input 'left' has no rows"),
        ([floats(2, 4), np.full((2, 3), 9, "int32")], "input 'words' holds numbers from 9 to 9.*a table of 9 rows"),
    ],
)
def test_wrong_arrays_are_named_before_anything_runs(arrays, message, monkeypatch):
    ready = two_and_two().frozen(2)
    monkeypatch.setattr(ready._state, "run", None)
    with pytest.raises(ValueError, match=message):
        ready.run(arrays)


@pytest.mark.parametrize(
    "x, message",
    [
        ([floats(2, 4)], r"has 2 inputs \['left', 'words'\]"),
        ({"left": floats(2, 4), "word": floats(2, 3)}, r"inputs \['words'\] are missing.*Did you mean 'words'"),
        ([floats(2, 5), floats(2, 3)], r"input 'left' of model 'two' expects shape \(None, 4\), received \(None, 5\)"),
        ([floats(2, 4), floats(3, 3)], "the same number of rows"),
        ([floats(2, 4), np.full((2, 3), -10)], "input 'words' holds numbers from -10 to -10"),
    ],
)
def test_wrong_data_are_explained_as_by_predict(x, message):
    model = two_and_two()
    ready = Model(model.inputs, model.outputs, name="two").frozen(2)
    with pytest.raises(ValueError, match=message):
        ready(x)


class Reads(layers.Layer):
    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        return inputs * 2 if float(ops.sum(inputs)) > 0 else inputs


class Counts(layers.Layer):
    """Keeps a sum of its inputs."""

    def build(self, input_shape):
        self.total = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, inputs):
        self.total.assign_add(ops.sum(inputs))
        return ops.cast(inputs, "float32")


class Draws(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.normal(inputs.shape)


class Computes(layers.Layer):
    def call(self, inputs):
        before_replays(lambda: None)
        return inputs


@pytest.mark.parametrize(
    "make, message",
    [
        pytest.param(
            lambda: Sequential([Input((2,)), Computes(name="own")]),
            "layer 'own' needs Python to compute values before each run",
            id="computes before",
        ),
        pytest.param(
            lambda: Sequential([Input((2,)), Reads(name="own")]), "a tensor's value was read in layer 'own'", id="reads"
        ),
        pytest.param(
            lambda: Sequential([Input((2,)), Draws()]),
            "a prediction changes the model's state, such as counters of random numbers",
            id="draws random numbers",
        ),
        pytest.param(
            lambda: Sequential([Input(batch_shape=(8, 3, 2)), layers.LSTM(2, stateful=True, name="own")]),
            r"layer 'own' is stateful: use model\.stream\(\)",
            id="is stateful",
        ),
        pytest.param(
            lambda: Sequential([Input((2,), dtype="int32"), Counts()]),
            "a prediction changes the model's state",
            id="counts",
        ),
        pytest.param(
            lambda: Sequential([Input((None, 2), name="steps"), layers.LSTM(2)]),
            r"the size of axis 1 of input 'steps' is open.*input_signature=\[\(None, 16, 2\)\]",
            id="open size",
        ),
        pytest.param(
            lambda: Model(x := Input((2,)), ops.sum(x)), "output .* has no row for each of 1 samples", id="no rows"
        ),
    ],
)
def test_models_that_cannot_be_frozen(make, message):
    model = make()
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(ValueError, match=f"model '.*' cannot be frozen: .*{message}"):
        model.frozen(1)
    same_bits(model.get_weights(), before)


def test_a_model_on_a_gpu_is_refused():
    model = mlp()
    model._gpu = object()
    with pytest.raises(ValueError, match="is on a GPU and cannot be frozen, which is for the CPU"):
        model.frozen()


@pytest.mark.parametrize("sizes", [0, (), (1, -2), True, (1.0,), "1"])
def test_batch_sizes_are_positive_integers(sizes):
    with pytest.raises(ValueError, match="batch_sizes must be a positive integer or a list of them, received"):
        mlp().frozen(sizes)


# -------------------- without the model --------------------


def test_nothing_of_the_model_is_kept():
    model = cnn()
    alive = [weakref.ref(each) for each in (model, model._graph, *model._all_layers(), *model.weights)]
    x = floats(2, 14, 14, 3)
    ready = model.frozen(2)
    expected = predicted(model, x)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert not [each for each in (ref() for ref in alive) if each is not None]
    same_bits(ready(x), expected)
    content = pickle.dumps(ready, 5)
    assert b"nbkeras" in content
    for package in ("building", "training", "layers", "engine", "export"):
        assert f"nbkeras.{package}".encode() not in content


def test_the_weights_leave_the_pickle_as_one_buffer():
    ready = Sequential([Input((300,)), layers.Dense(300)]).frozen()
    buffers = []
    content = pickle.dumps(ready, 5, buffer_callback=buffers.append)
    (buffer,) = (each.raw() for each in buffers)
    assert buffer.nbytes == ready.nbytes > 4 * 300 * 300 and len(content) < 10_000
    memory = mmap.mmap(-1, buffer.nbytes)  # where another process could see it
    memory[:] = buffer
    again = pickle.loads(content, buffers=[memory])
    x = floats(3, 300)
    same_bits(again(x), ready(x))
    memory[:] = bytes(len(memory))
    assert not again(x).any()
    same_bits(pickle.loads(content, buffers=[bytes(buffer)])(x), ready(x))  # copied: it must be writable and aligned


@pytest.mark.parametrize("compile", [compiled, lambda function: function], ids=["compiled", "of NumPy"])
def test_a_kernel_that_another_process_would_not_find_is_named_when_it_is_pickled(compile):
    @compile
    def hidden(x, y):
        for i in range(len(x)):
            y[i] = 3 * x[i]

    x = floats(2, 4)
    ready = Sequential([Input((4,)), kernel_layer(hidden)]).frozen()
    np.testing.assert_array_equal(ready(x), 3 * x)
    with pytest.raises(pickle.PicklingError, match="the kernel .*hidden.* cannot be pickled.*top level of a module"):
        pickle.dumps(ready)


def test_a_profile_sees_its_kernels():
    ready = mlp().frozen(2)
    with runtime.profile() as found:
        ready(floats(2, 20))
    assert "softmax" in str(found)


def test_a_frozen_model_is_not_part_of_a_recording():
    ready, x = mlp().frozen(2), floats(2, 20)
    expected = ready(x)

    @keras.jit
    def function(scale):
        np.testing.assert_array_equal(ready(x), expected)
        return scale * 2

    function(np.ones(1))
    assert len(function.programs()[0].launches) == 1


# -------------------- threads --------------------


def in_threads(count, work):
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("make", [mlp, cnn, lstm_stack], ids=lambda make: make.__name__)
def test_threads_get_their_own_answers(make):
    model = make()
    ready = model.frozen((1, 4))
    data = [inputs_of(model, rows)[0] for rows in (1, 4, 1, 4, 1, 4, 1, 4)]
    expected = [predicted(model, x) for x in data]

    def work(number):
        for _ in range(100):
            same_bits(ready(data[number]), expected[number])

    in_threads(8, work)


@pytest.mark.parametrize("kept, limit", [(0, Pool.maximum), (1 << 20, 40)], ids=["large arenas", "small arenas"])
def test_arenas_of_a_burst_of_calls_are_freed(kept, limit, monkeypatch):
    monkeypatch.setattr(replays, "_KEPT", kept)
    own = mlp().frozen(1)._state
    inside = []

    def at_the_same_time():
        inside.append(None)
        if len(inside) < 40:
            own.run((1, 1), floats(1, 20))

    monkeypatch.setattr(runtime, "runner", at_the_same_time)  # it is asked for while an instance is taken
    own.run((1, 1), floats(1, 20))
    assert len(inside) == 40
    assert len(own._replays[1, 1]._free) == limit


def test_weights_are_replaced_between_two_calls():
    model = mlp()
    x, others, answers = floats(40, 20), [], set()  # three calls of programs each
    for _ in range(2):
        model.set_weights([floats(*w.shape) for w in model.get_weights()])
        others.append(model.frozen((1, 16)))
        answers.add(others[-1](x).tobytes())
    ready, done = model.frozen((1, 16)), threading.Event()

    def work(number):
        if number == 0:
            for turn in range(200):
                ready.replace(others[turn % 2])
            done.set()
        while not done.is_set():
            assert ready(x).tobytes() in answers

    in_threads(5, work)
    assert len(answers) == 2


class Alike(layers.Layer):
    """Two weights, which training changes by the same amounts; the outputs are the differences."""

    def build(self, input_shape):
        self.first = self.add_weight(shape=(200_000,), initializer="zeros")
        self.second = self.add_weight(shape=(200_000,), initializer="zeros")

    def call(self, inputs):
        self.add_loss(ops.sum(self.first) + ops.sum(self.second))
        return inputs + ops.sum(ops.absolute(self.first - self.second))


def test_weights_are_those_of_the_end_of_a_step():
    """Of a model that another thread trains meanwhile."""
    model = Sequential([Input((1,)), Alike()])
    model.compile("sgd")
    x, begun = np.zeros((1, 1), "float32"), threading.Event()
    begin = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: begun.set())

    def work(number):
        if number:
            begun.wait()
            try:
                for _ in range(25):
                    assert not model.frozen(1)(x).any()
            finally:
                model.stop_training = True
        else:
            model.fit(np.zeros((8, 1)), batch_size=1, epochs=100_000, verbose=0, callbacks=[begin])

    in_threads(2, work)


def test_replaced_weights_are_freed():
    model = mlp()
    ready, gone = model.frozen(), []
    for _ in range(20):
        gone.append(weakref.ref(ready._state))
        model.set_weights([w + 1 for w in model.get_weights()])
        ready.replace(model)
    x = floats(1, 20)
    same_bits(ready(x), model.predict(x, verbose=0))
    assert not [ref for ref in gone if ref() is not None]
    assert ready.batch_sizes == (1, 32)


def test_names_stay_when_weights_are_replaced():
    model, other = mlp(), mlp()
    ready, before = model.frozen(), (model.name, model.input_names, model.output_names)
    ready.replace(other.frozen(4))
    assert (ready.name, [ready.inputs[0].name], [ready.outputs[0].name]) == before
    x = floats(4, 20)
    same_bits(ready(x), predicted(other, x))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Sequential([Input((21,)), layers.Dense(10)]), "the inputs of model .* differ"),
        (lambda: Sequential([Input((20,)), layers.Dense(9)]), "the outputs of model .* differ"),
        (lambda: Model(x := Input((20,)), {"y": layers.Dense(10)(x)}), "in another structure"),
    ],
)
def test_only_a_model_of_the_same_form_replaces_another(make, message):
    model = mlp()
    ready, x = model.frozen(), floats(2, 20)
    expected = ready(x)
    with pytest.raises(TypeError, match="expected a Frozen or a model, received str"):
        ready.replace("model.frozen")
    with pytest.raises(ValueError, match=message):
        ready.replace(make().frozen())
    same_bits(ready(x), expected)


# -------------------- files --------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.frozen"
    two_and_two().frozen(2).save(path)
    return path


def test_a_file_can_be_mapped(tmp_path):
    model, path = mlp(), tmp_path / "net.frozen"
    ready = model.frozen((1, 3))
    ready.save(path)
    ready.save(str(path))
    again = Frozen.load(path, mapped=True)
    constants = again._state.bundle.constants
    owner = constants
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner.obj if isinstance(owner, memoryview) else owner, mmap.mmap)
    x = floats(3, 20)
    same_bits(again(x), predicted(model, x))
    assert (again.inputs, again.outputs, again.nbytes, again.name) == (
        ready.inputs,
        ready.outputs,
        ready.nbytes,
        ready.name,
    )
    content = path.read_bytes()
    constants[:] = 0  # its own copy
    assert path.read_bytes() == content
    path.unlink()
    assert not again(x).tobytes() == ready(x).tobytes()


@pytest.mark.parametrize("change", ["overwritten", "truncated", "replaced"])
def test_what_happens_to_a_file_after_it_was_read_changes_nothing(tmp_path, change):
    path = tmp_path / "net.frozen"
    ready = mlp().frozen((1, 3))
    ready.save(path)
    again, size = Frozen.load(path), path.stat().st_size
    if change == "overwritten":
        with open(path, "r+b") as file:
            file.write(b"\xff" * size)
    elif change == "truncated":
        os.truncate(path, 0)
    else:
        two_and_two().frozen(1).save(path)
    x = floats(3, 20)
    same_bits(again(x), ready(x))
    assert (again.nbytes, again.batch_sizes) == (ready.nbytes, (1, 3))


def test_a_mapped_file_may_be_replaced_by_save(tmp_path):
    path = tmp_path / "net.frozen"
    ready = mlp().frozen((1, 3))
    ready.save(path)
    again = Frozen.load(path, mapped=True)
    two_and_two().frozen(1).save(path)
    x = floats(3, 20)
    same_bits(again(x), ready(x))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="no list of the memory's pages")
def test_processes_share_the_pages_of_a_mapped_file(tmp_path):
    """No page of it is this process's own, after predictions too."""
    path = tmp_path / "net.frozen"
    Sequential([Input((500,)), layers.Dense(1000), layers.BatchNormalization(), layers.Dense(10)]).frozen().save(path)
    ready = Frozen.load(path, mapped=True)
    ready(floats(40, 500))
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.endswith(str(path)))
    pages = {
        name: int(size) for name, size, *_ in (line.replace(":", "").split() for line in lines[start + 1 : start + 20])
    }
    assert pages["Rss"] >= 2000 and pages["Private_Dirty"] == pages["Anonymous"] == 0


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="no owners of files")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_others_cannot_write_a_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        two_and_two().frozen(1).save(tmp_path / "net.frozen")
    finally:
        os.umask(before)
    assert (tmp_path / "net.frozen").stat().st_mode & 0o777 == 0o666 & ~umask & ~0o022


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="no owners of files")
def test_a_file_that_others_can_write_is_refused(file, monkeypatch):
    file.chmod(0o664)
    with pytest.raises(PermissionError, match=r"other users can write '.*net\.frozen' \(mode 664\).*chmod go-w"):
        Frozen.load(file)
    file.chmod(0o644)
    Frozen.load(file)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    monkeypatch.setattr(os, "fstat", lambda number, fstat=os.fstat: _Owned(fstat(number)))
    with pytest.raises(PermissionError, match=r"belongs to another user \(number 12345\)"):
        Frozen.load(file)


class _Owned:
    """The status of a file of a user that is neither this one nor root."""

    st_uid = 12345

    def __init__(self, status):
        self._status = status

    def __getattr__(self, name):
        return getattr(self._status, name)


def test_files_of_earlier_versions_are_refused_before_their_pickle_runs(tmp_path):
    made = tmp_path / "made"
    write_old_file_that_makes(tmp_path / "old.frozen", made)
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match=r"'.*old\.frozen' is a frozen model of an earlier version.*\.keras file"):
            Frozen.load(tmp_path / "old.frozen", safe_mode)
    assert not made.exists()


def test_damaged_files_are_refused(file):
    content = file.read_bytes()
    random = np.random.default_rng(1)
    starts = [0, 1, 15, 16, 20, 24, 100, len(content) - 1]
    for end in (*starts, *random.integers(0, len(content), 40)):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match="is damaged, or was not copied|is not a frozen model|is empty"):
            Frozen.load(file)
    used = content.index(b"\0" * 64)  # behind the pickle the file is filled up to a whole page
    for at in (*range(24), *random.integers(24, used, 60), len(content) - 100, len(content) - ready_bytes(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged, or was not copied|is not a frozen model|has format"):
            Frozen.load(file)
    file.write_bytes(content)
    Frozen.load(file)


def ready_bytes(content):
    return len(content) - len(content) // 4096 * 4096 or 4096


def test_other_files_are_refused(file, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nothing.frozen"):
        Frozen.load(tmp_path / "nothing.frozen")
    other = tmp_path / "other.frozen"
    other.write_bytes(b"PK" * 100)
    with pytest.raises(ValueError, match="is not a frozen model, as Frozen.save writes it"):
        Frozen.load(other)

    monkeypatch.setattr(bundle.settings, "VERSION", "9.9")
    with pytest.raises(ValueError, match=r"is from nbkeras .*, and this is 9\.9: freeze the model again"):
        Frozen.load(file)


def test_a_file_of_other_kernels_is_refused(file, monkeypatch):
    monkeypatch.setattr(bundle, "_stamp", lambda kernel: "changed")
    with pytest.raises(ValueError, match="is not the one that this model was frozen with: freeze the model again"):
        Frozen.load(file)


# -------------------- processes --------------------


@pytest.mark.process
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver", "preload"])
@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this system")
def test_other_processes_answer_too(start, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", REFERENCE / "frozen_jobs.py", start],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["right"] * 3, "")
