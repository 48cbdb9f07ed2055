"""Frozen streams: they give what the stream gave, without the model, and wherever they are taken."""

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.inference import Frozen, session

pytestmark = pytest.mark.cpu("frozen models are for the CPU")
random = np.random.default_rng(0)
STEPS = 7


def floats(*shape):
    return random.normal(size=shape).astype("float32")


def lstm_stack():
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Conv1D(4, 2, padding="causal"),
            layers.LSTM(8, return_sequences=True),
            layers.Dense(2),
        ]
    )


def transformer():
    x = keras.Input((None, 4))
    y = x + layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    return keras.Model(x, layers.Dense(2)(layers.LayerNormalization()(y)))


def follow(stream, x, cuts=()):
    """(outputs of all steps, last state) of a sequence that is cut into calls."""
    state, found = stream.initial(len(x)), []
    for begin, end in zip((0, *cuts), (*cuts, x.shape[1]), strict=True):
        y, state = stream(x[:, begin:end], state)
        found.append(y)
    return np.concatenate(found, axis=1), state


@pytest.mark.parametrize(("make", "features", "window"), [(lstm_stack, 3, None), (transformer, 4, STEPS)])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 9])
def test_any_number_of_rows_and_steps(make, features, window, rows):
    model, x = make(), floats(rows, STEPS, features)
    frozen = model.stream(window=window).frozen(batch_sizes=(1, 4), steps=(1, 3))
    assert (frozen.batch_sizes, frozen.steps, frozen.window) == ((1, 4), (1, 3), window)
    whole = model.predict(x)
    for cuts in ((), (3, 6), (1, 2, 3, 4, 5, 6)):
        y, _ = follow(frozen, x, cuts)
        np.testing.assert_allclose(y, whole, atol=1e-5)
    y, _ = frozen(x[:, 0], frozen.initial(rows))  # one step, without its axis
    np.testing.assert_allclose(y, whole[:, 0], atol=1e-5)


def test_states_of_a_stream_and_of_what_was_frozen_are_the_same():
    stream = lstm_stack().stream()
    frozen, x = stream.frozen((1, 2)), floats(2, STEPS, 3)
    _, state = stream(x[:, :3], stream.initial(2))
    y, after = frozen(x[:, 3], state)
    expected = stream(x[:, 3], state)
    np.testing.assert_allclose(y, expected[0], atol=1e-6)
    np.testing.assert_allclose(after, expected[1], atol=1e-6)
    assert frozen.state_size == stream.state_size and frozen.state_dtype == stream.dtype
    assert np.array_equal(frozen.initial(2), stream.initial(2))


def test_what_servers_ask_for():
    a, b = keras.Input((None, 3), name="a"), keras.Input((4,), name="b")
    last = layers.GRU(2, name="last")(a, initial_state=layers.Dense(2)(b))
    model = keras.Model([a, b], [layers.Dense(5, name="each")(a), last])
    frozen = model.stream().frozen(2)
    float32 = np.dtype("float32")
    assert frozen.inputs == (("a", (None, None, 3), float32), ("b", (None, 4), float32))
    assert frozen.outputs == (("each", (None, None, 5), float32), ("last", (None, 2), float32))
    assert frozen.name == model.name and frozen.nbytes >= sum(w.nbytes for w in model.get_weights())
    x = [floats(3, 4, 3), floats(3, 4)]
    (each, last), state = frozen.run(x, frozen.initial(3))
    expected = model.predict(x)
    np.testing.assert_allclose(each, expected[0], atol=1e-6)
    np.testing.assert_allclose(last, expected[1], atol=1e-6)
    (named, _), _ = frozen({"b": x[1], "a": x[0]}, frozen.initial(3))
    np.testing.assert_array_equal(named, each)
    for arrays, state, why in (
        ([x[0]], frozen.initial(3), "has 2 inputs, .* received 1 arrays"),
        ([x[0], x[1].astype("float64")], frozen.initial(3), "input 'b' expects dtype float32, received float64"),
        ([x[0].tolist(), x[1]], frozen.initial(3), "input 'a' must be a NumPy array, received list"),
        ([x[0][:, :, :2], x[1]], frozen.initial(3), r"input 'a' .* must have shape \(batch, steps, 3\)"),
        ([x[0][:2], x[1]], frozen.initial(3), "must have the same number of rows"),
        (x, frozen.initial(2), r"the state of 3 sequences is an array \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=why):
            frozen.run(arrays, state)


def test_numbers_outside_a_table():
    made = layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *made])
    frozen, x = model.stream().frozen((1, 4)), np.array([[3, 0, 8], [0, 1, 2]], "int32")
    np.testing.assert_allclose(frozen.run([x], frozen.initial(2))[0][0], model.predict(x), atol=1e-6)
    for call in (lambda x: frozen.run([x], frozen.initial(1)), lambda x: frozen(x[0], frozen.initial(1))):
        with pytest.raises(ValueError, match="looks them up in a table of 9 rows"):
            call(np.array([[9]], "int32"))


def test_a_sequence_that_is_too_long():
    frozen = transformer().stream(window=3).frozen((1, 2))
    x = floats(1, 1, 4)
    for call in (
        lambda state: frozen.run([x], state),
        lambda state: frozen(x, state),
        lambda state: frozen(x[0], state),
    ):
        state = frozen.initial()
        for _ in range(3):
            _, state = call(state)
        with pytest.raises(ValueError, match="has 3 steps and gets 1 more, but sequences of this stream have up to 3"):
            call(state)


def test_numbers_of_steps_that_are_not_recorded():
    frozen = lstm_stack().stream().frozen(1, steps=(2, 3))
    x = floats(1, 11, 3)
    y, _ = follow(frozen, x)
    np.testing.assert_array_equal(y[:, :7], follow(frozen, x[:, :7])[0])
    for steps, sizes, parts in (
        (7, (3, 2), (3, 2, 2)),
        (1000001, (1000, 1), (1000,) * 1000 + (1,)),
        (11, (8, 6), None),
    ):
        assert session._parted(steps, sizes) == parts
    with pytest.raises(ValueError, match="takes 2 or 3 steps a call and sums of these, received 1 steps"):
        frozen(floats(1, 3), frozen.initial())


@pytest.mark.process
def test_pickle_and_files(tmp_path):
    model = lstm_stack()
    frozen, x = model.stream().frozen((1, 2), (1, 4)), floats(2, STEPS, 3)
    y, state = follow(frozen, x)
    buffers = []
    content = pickle.dumps(frozen, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    frozen.save(tmp_path / "net.stream")
    for other in (
        pickle.loads(content, buffers=buffers),
        pickle.loads(pickle.dumps(frozen)),
        Frozen.load(tmp_path / "net.stream"),
    ):
        again, its = follow(other, x)
        assert again.tobytes() == y.tobytes() and its.tobytes() == state.tobytes()
        assert (other.name, other.steps, other.inputs) == (frozen.name, frozen.steps, frozen.inputs)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import numpy as np\nfrom nbkeras.inference import Frozen\n"
        "x, frozen = np.load('x.npy'), Frozen.load('net.stream')\nstate = frozen.initial(2)\n"
        "for t in range(7):\n    y, state = frozen(x[:, t], state)\nprint(state.tobytes().hex())"
    )
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    last = follow(frozen, x, range(1, 7))[1]
    assert made.stdout.strip() == last.tobytes().hex(), made.stderr


def test_training_changes_nothing_until_it_is_replaced():
    model = lstm_stack()
    stream, x = model.stream(), floats(2, STEPS, 3)
    frozen = stream.frozen((1, 2))
    before, _ = follow(frozen, x)
    model.set_weights([weight * 0.5 for weight in model.get_weights()])
    np.testing.assert_array_equal(follow(frozen, x)[0], before)
    for other in (stream, model):
        name, outputs = frozen.name, frozen.outputs
        frozen.replace(other)
        np.testing.assert_allclose(follow(frozen, x)[0], model.predict(x), atol=1e-6)
        assert (frozen.name, frozen.outputs) == (name, outputs)
        model.set_weights([weight * 0.5 for weight in model.get_weights()])
    with pytest.raises(TypeError, match="expected a Frozen, a stream or a model, received list"):
        frozen.replace([])
    with pytest.raises(ValueError, match="the inputs of model .* differ"):
        frozen.replace(keras.Sequential([keras.Input((None, 2)), layers.LSTM(2)]).stream())
    other = keras.Sequential([keras.Input((None, 3)), layers.GRU(2, return_sequences=True)])
    with pytest.raises(ValueError, match="the states of model .* have another form: expected 19 columns"):
        frozen.replace(other.stream())


def test_threads():
    model = lstm_stack()
    frozen, x = model.stream().frozen((1, 2)), floats(6, 30, 3)
    whole, found = model.predict(x), {}

    def work(row):
        found[row] = follow(frozen, x[row : row + 1], range(1, 30))[0][0]

    threads = [threading.Thread(target=work, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack([found[row] for row in range(6)]), whole, atol=1e-5)


def test_what_cannot_be_frozen():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"cannot be frozen: input .* has open sizes, \(None, None, None, 3\)"):
        model.stream().frozen()
    with pytest.raises(ValueError, match="steps must be a positive integer or a list of them, received 0"):
        lstm_stack().stream().frozen(steps=0)
    frozen = lstm_stack().stream().frozen()
    assert repr(frozen) == f"<Frozen {frozen.name!r}, batch sizes (1, 32), steps (1,)>"

    class Reads(layers.Layer):
        each_step_alone = True

        def compute_output_shape(self, input_shape):
            return input_shape

        def call(self, inputs):
            return inputs if float(ops.sum(inputs)) > 0 else -inputs

    with pytest.raises(
        ValueError, match="cannot be frozen: a tensor's value was read in layer 'reads' at .*, which needs Python"
    ):
        keras.Sequential([keras.Input((None, 3)), Reads(name="reads")]).stream().frozen()
