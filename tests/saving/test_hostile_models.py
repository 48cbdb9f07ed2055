"""Model files that need far more than they hold: memory, or work without end. They soon raise a ValueError."""

import json
import resource
import time
import zipfile

import h5py
import numpy as np
import pytest

from nbkeras import Input, Model, activations, layers, ops
from nbkeras.engine import load_budget
from nbkeras.models import load_model, model_from_json

pytestmark = pytest.mark.cpu("files are read on the CPU")


@pytest.fixture(autouse=True)
def soon(tmp_path, monkeypatch):
    """Every test must load within seconds and with little memory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load_budget, "_STEPS", 60_000)  # so that the test takes less time
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000


def keras_file(config, **members):
    """m.keras with this configuration and no weights."""
    with h5py.File("w.h5", "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile("m.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", **members.pop("metadata", {})}))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.write("w.h5", "model.weights.h5")
        for name, text in members.items():
            archive.writestr(name, text)
    return "m.keras"


def entry(kind, name, *sources, **config):
    """A functional model's layer, called once on outputs of others."""
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"keras_history": list(source)}}
        for source in ((each, 0, 0) if isinstance(each, str) else each for each in sources)
    ]
    calls = [{"args": tensors, "kwargs": {}}] if sources else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": calls}


def functional(*entries, shape=(None, 4), end=None):
    start = entry("InputLayer", "i", batch_shape=list(shape))
    ends = {"input_layers": ["i", 0, 0], "output_layers": [end or entries[-1]["name"], 0, 0]}
    return {"class_name": "Functional", "module": "keras", "config": {"name": "f", "layers": [start, *entries], **ends}}


def operation(function, *args):
    made = entry("Operation", "o", "i", function=function)
    made["inbound_nodes"][0]["args"] += args
    return made


def sequential(*layers_, shape=(None, 4)):
    start = {"class_name": "InputLayer", "config": {"batch_shape": list(shape), "name": "i"}}
    return {"class_name": "Sequential", "config": {"name": "s", "layers": [start, *layers_]}}


def layer(kind, name="l", **config):
    return {"class_name": kind, "config": {"name": name, **config}}


def compiled(**arguments):
    model = sequential(layer("Flatten"))
    return {**model, "compile_config": {"optimizer": "sgd", "loss": "mse", **arguments}}


def within(*entries, shape):
    """A model as a layer of another: what its layers do is run to find its shapes."""
    inner = {**functional(*entries, shape=shape), "name": "f", "inbound_nodes": entry("", "", "i")["inbound_nodes"]}
    return functional(inner, end="i", shape=shape)


def nested(depth):
    """A model of a model of a model ... each calls the one in it twice: 2**depth calls."""
    inner = functional(entry("Activation", "a", "i", activation="linear"))
    for _ in range(depth):
        model = {**inner, "name": "inner", "inbound_nodes": entry("", "", "i")["inbound_nodes"]}
        model["inbound_nodes"] = model["inbound_nodes"] + entry("", "", ("inner", 0, 0))["inbound_nodes"]
        inner = functional(model, end="inner")
        inner["config"]["output_layers"] = ["inner", 2, 0]
        inner["config"]["name"] = "inner"
    return inner


TOO_MUCH = {
    "a giant layer": sequential(layer("Dense", units=10**12)),
    "a giant input": sequential(layer("Dense", units=5), shape=(None, 10**10)),
    "giant states": sequential(layer("LSTM", units=3, stateful=True), shape=(10**10, 5, 3)),
    "many large layers": sequential(*(layer("Dense", f"d{i}", units=2000) for i in range(100))),
    "a giant embedding": sequential(layer("Embedding", input_dim=10**12, output_dim=8)),
    "a table of unknown words": sequential(layer("IntegerLookup", num_oov_indices=10**10, vocabulary=[1, 2])),
    "a padded table": sequential(layer("IntegerLookup", max_tokens=10**10, pad_to_max_tokens=True, vocabulary=[1])),
    "layers without weights": sequential(*(layer("Flatten", f"f{i}") for i in range(20_000))),
    "a metric of many thresholds": compiled(metrics=[layer("AUC", num_thresholds=10**10)]),
    "another such metric": compiled(metrics=[layer("PrecisionAtRecall", recall=0.5, num_thresholds=10**10)]),
    "a giant confusion matrix": compiled(metrics=[layer("MeanIoU", num_classes=10**5)]),
    "a giant constant": functional(operation("full_like", 1.0), shape=(None, 10**10)),
    "a long range": functional(entry("Resizing", "r", "i", height=10**10, width=2), shape=(None, 4, 4, 3)),
    "a histogram of many values": within(entry("Equalization", "q", "i", bins=10**12), shape=(None, 4, 4, 3)),
    "many parts of an image": functional(
        entry("ContrastLimitedAdaptiveHistogramEqualization", "q", "i", tile_grid_size=[10**6, 10**6]),
        shape=(None, 4, 4, 3),
    ),
    "many layers chosen": within(entry("RandAugment", "q", "i", num_ops=10**9), shape=(None, 4, 4, 3)),
    "many chains of layers": within(entry("AugMix", "q", "i", num_chains=10**9), shape=(None, 4, 4, 3)),
    "many windows": functional(operation("extract_sequences", 10**8, 1), shape=(None, 2 * 10**8)),
    "a window larger than its image": functional(operation("fold", 2, 10**8), shape=(None, 4, 3)),
    "a wide pooling": within(entry("AdaptiveAveragePooling1D", "p", "i", output_size=10**9), shape=(None, 4, 3)),
    "windows of a pooling": within(entry("AdaptiveMaxPooling1D", "p", "i", output_size=10**7), shape=(None, 4, 3)),
    "models in models": nested(40),
    "a loop over steps": within(entry("LSTM", "l", "i", units=2, activation="gelu"), shape=(None, 10**8, 3)),
    "a histogram of many bins": functional(operation("histogram", 10**8)),
    "a giant triangle": functional(operation("tril"), shape=(None, 10**5, 10**5)),
    "a giant diagonal": functional(operation("diagflat"), shape=(None, 10**5)),
    "a long correlation": functional(operation("correlate", [1.0] * 60_000), shape=(10**5,)),
    "an axis taken apart": functional(operation("unstack", None, 1), shape=(None, 10**9)),
    "an axis cut": functional(operation("split", 10**8, 1), shape=(None, 10**8)),
    "differences of differences": functional(operation("diff", 10**9), shape=(None, 10**9)),
}


def refused(config, match, **options):
    with pytest.raises(ValueError, match=match):
        load_model(keras_file(config, **options))


@pytest.mark.grid
@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_the_file_holds(name):
    refused(TOO_MUCH[name], "m.keras.*(too much for a file of this size|calls of layers and ops|cannot be read)")


@pytest.mark.grid
def test_models_in_models_as_json():
    with pytest.raises(ValueError, match="calls of layers and ops"):
        model_from_json(json.dumps(nested(40)))


def test_the_older_format_has_the_same_limits():
    config = sequential(layer("Dense", units=10**8))
    refused(config, "too much for a file of this size", metadata={"format": "nbkeras-1", "weights": []})


@pytest.mark.parametrize("dtype", ["U100000000", "V100000000", "S100000000", "object", "complex64", "M8[s]", "f4,f4"])
def test_arrays_and_layers_of_other_things_than_numbers(dtype):
    array = {"class_name": "__numpy__", "config": {"value": ["1"] * 50, "dtype": dtype}}
    for config in (
        functional(operation("add", array)),
        functional(entry("InputLayer", "j", batch_shape=[None, 2], dtype=dtype)),
        functional(entry("Dense", "d", "i", units=2, dtype=dtype)),
    ):
        refused(config, "numbers or booleans")


@pytest.mark.parametrize(
    "function, message",
    [
        ("zeros", "'zeros' of nbkeras.ops cannot be applied as a layer"),
        ("ones", "'ones' of nbkeras.ops cannot be applied as a layer"),
        ("arange", "'arange' of nbkeras.ops cannot be applied as a layer"),
        ("eye", "'eye' of nbkeras.ops cannot be applied as a layer"),
        ("full", "calls layer 'o' on no tensor of the model"),
        ("linspace", "calls layer 'o' on no tensor of the model"),
        ("random.uniform", "'random.uniform' is not an op of nbkeras.ops"),
    ],
)
def test_calls_on_constants_compute_nothing(function, message):
    call = {"args": [[3]], "kwargs": {}}
    refused(functional({**entry("Operation", "o", function=function), "inbound_nodes": [call]}), message)


@pytest.mark.parametrize("history", [("b", 0, 0), ("i", 7, 0), ("i", 0, 9)])
def test_calls_that_wait_for_each_other_or_for_outputs_that_do_not_exist(history):
    config = functional(entry("Dense", "a", history, units=2), entry("Dense", "b", "a", units=2))
    refused(config, "wait for each other|no such output")


@pytest.mark.parametrize(
    "nodes", [*(entry("", "", h)["inbound_nodes"] for h in (("i", -1, 0), ("x", 0, 0), (1, 2))), 3]
)
def test_calls_that_are_none(nodes):
    config = functional({**entry("Dense", "a", units=2), "inbound_nodes": nodes})
    refused(config, "configuration|takes the dict that get_config returned")


@pytest.mark.grid
def test_many_layers_in_any_order():
    """The largest allowed number takes seconds, in the worst order too: no step of reading goes over all others."""
    chain = [entry("Activation", "a0", "i", activation="linear")]
    chain += [entry("Activation", f"a{n}", f"a{n - 1}", activation="linear") for n in range(1, 1500)]
    for entries in (chain, chain[::-1]):
        assert len(load_model(keras_file(functional(*entries, end="a1499"))).layers) == 1501
    several = [layer("Activation", f"a{n}", activation="linear") for n in range(1500)]
    assert len(load_model(keras_file(sequential(*several))).layers) == 1500


def test_many_layers_that_share_a_name_and_an_id():
    value = {**layer("Dense", "d", units=2, bias_initializer="zeros"), "shared_object_id": 1}
    refused(sequential(*[value] * 20_000), "the names of a Sequential's layers must be unique: 'd'")


def test_json_of_many_parts_and_of_names_that_stand_twice():
    for text, match in (
        ('{"a": [' + "[]," * 5_000_000 + "[]]}", "parts: configurations with more than"),
        ('{"class_name": "Sequential", "class_name": "Sequential", "config": {}}', "occurs twice"),
    ):
        refused(text, match)
        with pytest.raises(ValueError, match=match):
            model_from_json(text)


def test_a_vocabulary_of_many_lines():
    config = sequential(layer("IntegerLookup", vocabulary=None), shape=(None, 1))
    lines = {"assets/layers/integer_lookup/vocabulary.txt": "\n" * 5_000_000}
    refused(config, "parts: configurations with more than", **lines)


NUMBERS = [10**30, -(10**30), -1, 0, 1.5, float("nan"), float("inf"), True, "3", [], {}, [[3]], None, "\ud800"]


@pytest.mark.parametrize("value", NUMBERS)
def test_odd_values_where_numbers_are_expected(value):
    conv = {"filters": 2, "kernel_size": 2}
    for kind, config in (
        ("Dense", {"units": value}),
        ("Conv1D", {**conv, "kernel_size": value}),
        ("Conv1D", {**conv, "strides": value}),
        ("MaxPooling1D", {"pool_size": value}),
    ):
        config = functional(entry(kind, "l", "i", **config), shape=(None, 6, 3))
        try:
            load_model(keras_file(config))
        except ValueError as error:
            assert "m.keras" in str(error)


def test_a_large_model_is_built_where_that_is_asked_for():
    config = sequential(layer("Dense", units=6000), shape=(None, 2000))
    refused(config, "too much for a file of this size.*safe_mode=False")
    # it was built, and the file has no weights for it
    with pytest.raises(ValueError, match="belong to different models"):
        load_model(keras_file(config), safe_mode=False)


def test_values_that_take_long_are_not_drawn():
    """The file has the values, or needs none."""
    start = time.process_time()
    wide = layer("Dense", units=2800, kernel_initializer="orthogonal")
    refused(sequential(wide, shape=(None, 2800)), "belong to different models")
    assert time.process_time() - start < 5


@pytest.mark.grid
def test_what_models_have_is_no_part_of_the_limits(tmp_path):
    """A long sequence step by step, shared layers, and a thousand layers are read."""
    inputs = Input((400, 3))
    unrolled = layers.RNN(layers.LSTMCell(2, activation="gelu"))(inputs)
    shared = layers.Dense(2)
    x = shared(shared(unrolled))
    for _ in range(300):
        x = layers.Activation(activations.relu)(x)
    model = Model(inputs, ops.add(x, 1))
    model.compile("adam", "mse", metrics=["AUC"])
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(2, 400, 3)).astype("float32")
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
