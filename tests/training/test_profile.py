"""`nbkeras.profile(model, x, y)`: times, bytes and operations by layer and kernel; pictures and traces of them."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import twins

import nbkeras as keras
from nbkeras import layers, ops

X, Y = np.linspace(-1, 1, 16 * 36).reshape(16, 6, 6, 1).astype("float32"), np.arange(16) % 3


def network(**compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 2, activation="relu", name="first"),
            layers.Conv2D(4, 3, name="<second>"),
            layers.Flatten(),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(3, activation="softmax", name="last"),
        ],
        name="net",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **compiled)
    return model


@pytest.fixture(scope="module")
def trained():
    return keras.profile(network(), X, Y, batch_size=8, steps=2)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_layers_and_directions(run_eagerly):
    profile = keras.profile(network(run_eagerly=run_eagerly), X, Y, batch_size=8, steps=2)
    rows = {(row.layer, row.direction): row for row in profile.layers}
    parts = {("loss", "forward"), ("loss", "backward"), ("metrics", "forward"), ("optimizer", "update")}
    both = {(name, way) for name in ("first", "<second>", "last", "dropout") for way in ("forward", "backward")}
    assert set(rows) >= parts | both
    assert not {layer for layer, _ in rows} - {layer for layer, _ in parts | both}
    assert all(row.seconds > 0 and row.calls > 0 for row in profile.layers)
    assert rows["first", "forward"].flops == 2 * (8 * 5 * 5 * 2) * (2 * 2)
    assert rows["first", "backward"].flops == rows["first", "forward"].flops  # of the kernel; x needs no gradient
    assert rows["<second>", "forward"].flops == 2 * (8 * 3 * 3 * 4) * (3 * 3 * 2)
    assert rows["<second>", "backward"].flops == 2 * rows["<second>", "forward"].flops
    assert rows["last", "forward"].flops == 2 * 8 * 36 * 3
    assert rows["last", "backward"].flops == 2 * rows["last", "forward"].flops
    assert rows["optimizer", "update"].flops is None
    assert sum(row.calls for row in profile.layers) == sum(row.calls for row in profile.kernels)
    assert sum(row.seconds for row in profile.rows) == pytest.approx(profile.seconds)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_bytes(run_eagerly):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="a"), layers.Activation("tanh", name="b")])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    rows = {row.layer: row for row in keras.profile(model, np.ones((16, 4)), steps=1).layers}
    assert (rows["a"].read, rows["a"].written) == (4 * (16 * 4 + 4 * 8 + 8), 4 * 16 * 8)
    assert (rows["b"].read, rows["b"].written) == (4 * 16 * 8, 4 * 16 * 8)


def test_the_model_is_as_before(trained):
    model = network()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    before, state = model.get_weights(), model.optimizer.get_weights()
    keras.profile(model, X, Y, steps=3)
    np.testing.assert_equal([*before, *state], [*model.get_weights(), *model.optimizer.get_weights()])
    same = network()
    same.fit(X, Y, batch_size=8, epochs=3, verbose=0, shuffle=False)
    profiled = network()
    profiled.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    keras.profile(profiled, X, Y, batch_size=8, steps=2)
    profiled.fit(X, Y, batch_size=8, verbose=0, shuffle=False)  # with the same numbers of dropout
    np.testing.assert_equal(same.get_weights(), profiled.get_weights())


def test_predictions_and_nested_layers():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="deep")], name="inner")
    inputs = keras.Input((4,))
    recurrent = layers.LSTM(5, name="lstm")(layers.Reshape((3, 1))(inner(inputs)))
    attended = layers.MultiHeadAttention(2, 3, name="heads")(
        layers.Reshape((5, 1))(recurrent), layers.Reshape((5, 1))(recurrent)
    )
    model = keras.Model(inputs, attended, name="outer")
    profile = keras.profile(model, np.ones((16, 4)), steps=1)
    rows = {row.layer: row for row in profile.layers}
    assert set(rows) >= {"inner/deep", "lstm"} and {row.direction for row in profile.layers} == {"forward"}
    assert rows["lstm"].flops == 2 * 16 * 3 * (1 * 20 + 5 * 20)
    assert any(name.startswith("heads") for name in rows)
    assert profile.kind == "predict" and profile.batch_size == 16


def test_tables_fit_the_terminal(trained, monkeypatch):
    for columns in (200, 80, 40):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = str(trained).splitlines()
        assert max(map(len, lines)) <= columns
        assert any("first" in line and "forward" in line for line in lines)
        assert ("GFLOP/s" in str(trained)) == (columns == 200) or columns == 80
    assert repr(trained) == str(trained)


def elements(path):
    return list(ElementTree.parse(path).iter())  # noqa: S314 - a file of our own


def test_pictures(trained, tmp_path):
    trained.save(tmp_path / "p.svg")
    trained.memory(tmp_path / "m.svg")
    titles = " ".join(e.text for e in elements(tmp_path / "p.svg") if e.tag.endswith("title"))
    assert "first" in titles and "<second>" in titles and "backward" in titles and "adam" in titles
    boxes = [e for e in elements(tmp_path / "m.svg") if e.tag.endswith("rect")]
    assert len(boxes) > 5
    bytes_each = [e.text for e in elements(tmp_path / "m.svg") if e.tag.endswith("title")]
    assert all(re.match(r"[\d,]+ bytes at [\d,]+, from ", each) for each in bytes_each)
    html = trained._repr_html_()
    assert "&lt;second&gt;" in html and "<second>" not in html and "<svg" in html and "<table>" in html


def test_trace(trained, tmp_path):
    trained.save(tmp_path / "p.json")
    events = json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"layers", "kernels"}
    kernels = [e for e in events if e["ph"] == "X" and e["tid"] == 2]
    assert len(kernels) == sum(row.calls for row in trained.layers)
    assert all(e["dur"] > 0 for e in kernels) and kernels == sorted(kernels, key=lambda e: e["ts"])
    assert any(e["tid"] == 1 and e["name"] == "first (backward)" for e in events)


def test_the_plan_has_a_place_for_each_launch_and_buffers_do_not_meet():
    model = network()
    for _ in range(2):  # the first batch makes the metrics, which its program does not reset
        model.train_on_batch(X, Y)
    (program,) = model._step_for("train_on_batch").programs()
    assert len(program.layers) == len(program.launches) and program.buffers
    for one in program.buffers:
        for other in program.buffers:
            if one is not other and one.first <= other.last and other.first <= one.last:
                assert one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset


def test_wrong_arguments(trained, tmp_path):
    model = network()
    with pytest.raises(TypeError, match="needs a model or a jitted function first"):
        keras.profile(X, model)
    with pytest.raises(TypeError, match="needs inputs"):
        keras.profile(model)
    for wrong in ({"steps": 0}, {"batch_size": 0}, {"steps": 1.5}):
        with pytest.raises(ValueError, match="must be a positive integer"):
            keras.profile(model, X, **wrong)
    with pytest.raises(ValueError, match="needs arrays"):
        keras.profile(model, iter([(X, Y)]))
    with pytest.raises(ValueError, match="the data has no samples"):
        keras.profile(model, X[:0])
    with pytest.raises(ValueError, match="not compiled"):
        keras.profile(keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten()]), X, Y)
    with pytest.raises(ValueError, match=r"\.svg .* or \.json"):
        trained.save(tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"drawn as \.svg"):
        trained.memory(tmp_path / "p.png")
    with pytest.raises(ValueError, match="runs eagerly"):
        keras.profile(network(run_eagerly=True), X, steps=1).memory(tmp_path / "p.svg")


def test_the_context_goes_on():
    model = network()
    with keras.profile() as counts:
        model.predict(X)
    assert counts.calls["multiply"] == 1 and "launches" in str(counts)


@twins.needs_cuda
def test_chains_of_launches_that_are_one_on_a_gpu_keep_their_layers():
    with keras.device("cuda"):
        inputs = keras.Input((6,))
        hidden = layers.Dense(4, name="before")(inputs)
        chained = layers.Lambda(lambda x: ops.exp(ops.negative(ops.square(x))) + 1.0, name="chain")(hidden)
        model = keras.Model(inputs, layers.Dense(2, name="after")(chained))
        model.compile("adam", "mse")
        rows = keras.profile(model, np.ones((8, 6)), np.ones((8, 2)), steps=1).rows
    fused = [(row.layer, row.direction) for row in rows if "|" in row.kernel]
    assert {("chain", "forward"), ("chain", "backward"), ("loss", "forward"), ("loss", "backward")} == set(fused)
    assert [row.flops for row in rows if (row.layer, row.direction) == ("before", "forward")] == [2 * 8 * 6 * 4]


def test_operations_of_a_recurrent_layer():
    model = keras.Sequential([layers.LSTM(4, name="first", return_sequences=True), layers.LSTM(2, name="second")])
    model.compile("sgd", "mse")
    profile = keras.profile(model, np.ones((8, 5, 3)), np.ones((8, 2)), batch_size=8, steps=2)
    flops = {(row.layer, row.direction): row.flops for row in profile.layers}
    steps = 2 * 8 * 5
    assert flops["first", "forward"] == steps * 16 * (3 + 4)
    assert flops["first", "backward"] == steps * 16 * (3 + 2 * 4)  # without the gradient of x
    assert flops["second", "backward"] == steps * 8 * (2 * 4 + 2 * 2)
