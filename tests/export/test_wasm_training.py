"""Training in WebAssembly modules in Node.js: the steps of `fit`, states, and errors that leave the state as it was."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from javascript import LOADED, in_node, needs_node, needs_wasm_linker
from libraries import loaded

from nbkeras import Input, Model, Sequential, layers, optimizers
from nbkeras.utils import set_random_seed

pytestmark = [
    pytest.mark.process,
    pytest.mark.cpu("WebAssembly is for the CPU"),
    needs_node,
    needs_wasm_linker,
]
DOCUMENT = Path(__file__).parents[2] / "docs/train-anywhere.md"
random = np.random.default_rng(0)


def floats(*shape):
    return random.normal(size=shape).astype("float32")


def mlp(optimizer="sgd"):
    set_random_seed(1)
    model = Sequential(
        [Input((6,), name="x"), layers.Dense(9, "relu"), layers.Dropout(0.3), layers.Dense(3, "softmax")]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, [floats(8, 6), random.integers(0, 3, 8).astype("int32")]


def lstm():
    model = Sequential([Input(batch_shape=(8, 5, 4)), layers.LSTM(7, stateful=True), layers.Dense(2)])
    model.compile(optimizers.SGD(0.05, momentum=0.9), "mse")
    return model, [floats(8, 5, 4), floats(8, 2)]


def cnn():
    convolved = [layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.Activation("relu")]
    model = Sequential(
        [Input((8, 8, 3)), *convolved, layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(3, "softmax")]
    )
    model.compile(optimizers.Adam(0.001, epsilon=1e-3), "categorical_crossentropy")
    return model, [floats(8, 8, 8, 3), np.eye(3, dtype="float32")[random.integers(0, 3, 8)]]


def words():
    model = Sequential([Input((5,), dtype="int32"), layers.Embedding(20, 6), layers.GRU(4), layers.Dense(1, "sigmoid")])
    model.compile(optimizers.SGD(0.1), "binary_crossentropy")
    return model, [random.integers(0, 20, (8, 5)).astype("int32"), random.integers(0, 2, (8, 1)).astype("float32")]


def two():
    a, b = Input((3,), name="a"), Input((2,), name="b")
    joined = layers.Dense(5, "tanh")(layers.Concatenate()([a, b]))
    model = Model([a, b], [layers.Dense(2, name="p")(joined), layers.Dense(1, name="q")(joined)])
    model.compile(optimizers.SGD(0.1, clipnorm=0.5), "mse")
    return model, [floats(8, 3), floats(8, 2), floats(8, 2), floats(8, 1)]


def exported(made, folder, name="net.wasm"):
    """Exports a model and its batch; returns both."""
    model, batch = made
    inputs = len(model.inputs)
    x, y = (each if len(each) > 1 else each[0] for each in (batch[:inputs], batch[inputs:]))
    model.export(folder / name, training=True, example=(x, y), verbose=False)
    return model, batch, x, y


STEPS = "let logs; for (let i = 0; i < 50; i++) { model.resetMetrics(); logs = model.trainStep(...given); }\n"


@pytest.mark.parametrize("make", [mlp, lstm, cnn, words, two])
def test_fifty_steps_are_those_of_fit(make, tmp_path):
    model, batch, x, y = exported(make(), tmp_path)
    count = len(model.inputs)
    code = f"{LOADED}{STEPS}print([logs, [model.predict(...given.slice(0, {count}))].flat()]);"
    logs, outputs = in_node(tmp_path, code, *batch)
    outputs = [outputs] if isinstance(outputs[0], str) else outputs
    history = model.fit(x, y, 8, 50, shuffle=False, verbose=0).history
    assert logs.keys() == history.keys()
    for name, values in history.items():
        assert logs[name] == pytest.approx(values[-1], rel=1e-4)
    expected = model.predict(x, batch_size=8, verbose=0)
    for (_, numbers), array in zip(outputs, expected if isinstance(expected, list) else [expected], strict=True):
        np.testing.assert_allclose(np.array(numbers).reshape(array.shape), array, rtol=1e-4, atol=1e-4)


def test_a_state_is_that_of_a_library(tmp_path):
    """State bytes move between WebAssembly and a library for this processor."""
    made = mlp("adam")
    model, batch, *_ = exported(made, tmp_path)
    exported(made, tmp_path, "libnet.so")
    library = loaded(tmp_path / "libnet.so")
    state = library.new_state()
    for _ in range(3):
        library.train_step(state, *batch)
    code = (
        f"{LOADED}model.load(given[2]); const before = model.save(); const logs = model.trainStep(given[0], given[1]);\n"
        "print([before, logs, model.save(), model.learningRate]);"
    )
    (_, before), logs, (_, after), rate = in_node(tmp_path, code, *batch, np.asarray(state).view(np.uint8).ravel())
    np.testing.assert_array_equal(np.array(before, np.uint8), np.asarray(state).view(np.uint8).ravel())
    expected = library.train_step(state, *batch)
    assert logs == pytest.approx(expected, rel=1e-5)
    assert rate == library.learning_rate(state) == pytest.approx(0.001)
    changed = library.new_state()
    np.asarray(changed).view(np.uint8).ravel()[:] = after
    for name, array in library.variables(changed).items():
        np.testing.assert_allclose(array, library.variables(state)[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_predictions_of_any_number_of_samples(tmp_path):
    model, _, *_ = exported(mlp(), tmp_path)
    x = floats(19, 6)
    _, numbers = in_node(tmp_path, f"{LOADED}print(model.predict(given[0]));", x)
    np.testing.assert_allclose(np.reshape(numbers, (19, 3)), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    assert in_node(tmp_path, f"{LOADED}print(model.predict(new Float32Array(0)));") == ["Float32Array", []]


def test_a_test_step_a_seed_and_the_learning_rate(tmp_path):
    model, batch, x, y = exported(mlp(optimizers.SGD(0.25)), tmp_path)
    code = (
        LOADED
        + """
const start = model.save(), first = model.testStep(...given), rate = model.learningRate;
model.learningRate = 0;
model.resetMetrics();
model.trainStep(...given);
model.resetMetrics();
const still = model.testStep(...given);
model.load(start);
const one = model.trainStep(...given);
model.initialize(5);
const other = model.trainStep(...given);
model.initialize(0n);
print([first, rate, still, one, other, model.trainStep(...given), Model.batch, Model.targets, Model.logs]);
"""
    )
    first, rate, still, one, other, again, size, targets, names = in_node(tmp_path, code, *batch)
    assert first == still == pytest.approx(model.evaluate(x, y, 8, verbose=0, return_dict=True), rel=1e-5)
    assert (rate, size, names) == (0.25, 8, ["loss", "accuracy"])
    assert [each["shape"] for each in targets] == [[]]
    assert one == again != other


def test_states_of_a_stateful_layer(tmp_path):
    _, batch, *_ = exported(lstm(), tmp_path)
    code = (
        LOADED
        + """
model.trainStep(...given);
model.learningRate = 0;
const carried = model.testStep(...given).loss;
model.resetMetrics(); model.resetStates();
const fresh = model.testStep(...given).loss;
print([carried, fresh]);
"""
    )
    carried, fresh = in_node(tmp_path, code, *batch)
    assert carried != fresh


def test_errors_leave_the_state_as_it_was(tmp_path):
    _, batch, *_ = exported(mlp(), tmp_path)
    code = (
        LOADED
        + """
const [x, y] = given, before = model.save();
const other = before.slice();
other[9] ^= 1;
const nan = x.slice();
nan[3] = NaN;
const calls = [
  () => model.trainStep(x.subarray(6), y.subarray(1)), () => model.trainStep(x), () => model.trainStep(x, x),
  () => model.trainStep(nan, y), () => model.trainStep(x, y.map(() => 3)), () => model.load(before.subarray(1)),
  () => model.load(other), () => model.load([1]), () => model.resetStates(), () => { model.learningRate = -1; },
  () => { model.learningRate = NaN; }, () => model.initialize(0.5),
];
const errors = calls.map(caught);
print([errors, model.save().every((byte, i) => byte === before[i])]);
"""
    )
    errors, is_same = in_node(tmp_path, code, *batch)
    wanted = [
        "Error: a step takes 8 samples, received 7",
        "Error: the inputs are x, .*, received 1 values",
        r"TypeError: input \S+ needs a Int32Array \(int32\), received Float32Array",
        *["Error: net: an input is not finite, or a class or index does not exist"] * 2,
        r"Error: a state of this model has \d+ bytes, received \d+",
        "Error: the state belongs to another model or version",
        "TypeError: a state is a Uint8Array, received Array",
        "Error: the model has no function reset_states",
        *["Error: net: an input is not finite, or a class or index does not exist"] * 2,
        "RangeError: ",
    ]
    for error, pattern in zip(errors, wanted, strict=True):
        assert re.match(pattern, error or "none")
    assert is_same


def test_types(tmp_path):
    exported(two(), tmp_path)
    text = (tmp_path / "net.d.ts").read_text()
    numbers = "Numbers<Float32Array, number>"
    assert f'  trainStep(a: {numbers}, b: {numbers}, p: {numbers}, q: {numbers}): {{ "loss": number' in text
    assert "  learningRate: number;\n" in text and "resetStates" not in text
    assert "  predict(a: Numbers<Float32Array, number>, b: Numbers<Float32Array, number>): [p: " in text
    exported(lstm(), tmp_path)
    assert "  resetStates(): void;\n" in (tmp_path / "net.d.ts").read_text()


def test_the_documented_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text()
    (python,) = re.findall(r"^```python no-run.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (javascript,) = re.findall(r"^```js\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (model,) = re.findall(r"^```python\n(import numpy.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(model.rpartition("model.export")[0] + python, {})
    (tmp_path / "main.mjs").write_text(javascript)
    done = subprocess.run(["node", "main.mjs"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d\.\d+ 3\n", done.stdout)
