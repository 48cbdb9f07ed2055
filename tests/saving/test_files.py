"""Files of real Keras: models that Keras 3 (on JAX, PyTorch and TensorFlow) and tf_keras saved give the same outputs and
the same further training here, and files saved here in real Keras, if it is installed. See reference/make_files.py.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from exchange import ALL, draw, outcome, outline, worst
from file_cases import SHAPES

import nbkeras
from nbkeras import layers, losses, metrics, ops, saving
from nbkeras.models import Model, Sequential, load_model, model_from_json
from nbkeras.saving import hdf5, keras_2_config, keras_2_ops, keras_ops

FOLDER = Path(__file__).parents[1] / "reference" / "files"
STORED = [
    (path.stem, name)
    for path in sorted(FOLDER.glob("*.zip"))
    for name in sorted(zipfile.ZipFile(path).namelist())
    if not name.endswith(".npz")
]


@pytest.mark.parametrize(("writer", "name"), STORED, ids=["-".join(pair) for pair in STORED])
def test_file_of_keras(writer, name):
    with zipfile.ZipFile(FOLDER / f"{writer}.zip") as archive:
        file = io.BytesIO(archive.read(name))
        case = name.split(".")[0]
        with np.load(io.BytesIO(archive.read(f"{case}.npz")), allow_pickle=False) as stored:
            expected = dict(stored)
    error, where = worst(expected, outcome(load_model(file), case, draw(ALL[case])))
    assert error <= 1e-5, where


def test_every_kind_of_file_is_stored_and_small():
    assert len({name for _, name in STORED}) >= 40 and {writer for writer, _ in STORED} >= {"jax", "torch", "tf_keras"}
    assert sum(path.stat().st_size for path in FOLDER.glob("*.zip")) < 1_100_000


OUTLINES = json.loads((FOLDER.parent / "keras_3_configs.json").read_text(encoding="utf-8"))["shapes"]
OTHERWISE = {  # arguments that Keras 3 refuses or does not use, and Keras 2 accepts
    "batch_input_shape": [["InputLayer", [6, 3]], ["Dense"]],
    "batch_size": [["InputLayer", [6, 3]], ["Dense"]],
    "input_length": [["InputLayer", [None, 3]], ["Embedding"], ["LSTM"]],
    "called": [["InputLayer", [None, 3]], ["Dense"]],  # Keras 3 keeps the size of that batch
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_of_an_input_is_that_of_an_input_layer(name, tmp_path):
    """As real Keras 3 writes it, however it was given; `.h5` too, in Keras 2's form."""
    model = SHAPES[name](nbkeras)
    assert outline(json.loads(model.to_json())["config"]) == OTHERWISE.get(name, OUTLINES[name])
    assert "batch_input_shape" not in model.to_json()
    model.save(tmp_path / "m.h5")
    first = stored_config(tmp_path / "m.h5")["config"]["layers"][0]
    assert first["class_name"] == "InputLayer" and tuple(first["config"]["batch_input_shape"]) == model.input.shape


KERAS = importlib.util.find_spec("keras") is not None and importlib.util.find_spec("jax") is not None
SOME = "mlp nested_models masks_shared_and_named_outputs ops_in_the_graph stacked_cells layer_shared_by_two_models frozen_parts"
SOME += " int8_dense int8_weights_only int8_in_part int8_einsum int8_attention int8_reversible_with_two_tables"
SOME += " lora_layers lora_by_arguments"
SOME += " shape_by_input_shape shape_by_batch_input_shape shape_by_input_length shape_by_wrapped"


@pytest.mark.process
@pytest.mark.skipif(not KERAS, reason="needs real Keras 3 with JAX: pip install '.[bench]'")
def test_real_keras_reads_what_is_saved_here(tmp_path):
    script = str(FOLDER.parent / "make_files.py")
    for keras, job in (("nbkeras", "write"), ("keras", "read")):
        command = [sys.executable, script, "--keras", keras, job, str(tmp_path), *SOME.split()]
        result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "jax"})
        assert result.returncode == 0, result.stdout + result.stderr


def test_names_of_ops():
    """Each op that files may name is a class of that name in Keras; make_files.py compares with real Keras."""
    known = json.loads((FOLDER.parent / "keras_3_ops.json").read_text(encoding="utf-8"))
    arguments = {name: tuple(own) for ops_of_module in known.values() for name, own in ops_of_module.items()}
    assert {name: keras_ops.arguments_of(name) for name in keras_ops.MODULES} == arguments
    assert {name: module.split(".")[-1] for name, module in keras_ops.MODULES.items()} == {
        name: module for module, ops_of_module in known.items() for name in ops_of_module
    }
    made = keras_ops.written(ops.mean, (1,), {"axis": 1})
    assert made == ({"module": "keras.src.ops.numpy", "class_name": "Mean", "config": {"axis": 1}}, (1,), {})
    assert keras_ops.written(ops.einsum, ("ab,bc", 1, 2), {})[0]["config"] == {"subscripts": "ab,bc"}
    assert keras_ops.written(ops.relu, (1, 0.5), {}) is None  # Keras's has no slope
    assert keras_ops.function_of("keras.src.ops.numpy", "GetItem") == "getitem"
    with pytest.raises(ValueError, match="unknown op of Keras: 'keras.src.ops.numpy.Popen'"):
        keras_ops.function_of("keras.src.ops.numpy", "Popen")


DRAWN = []


def counted(shape, dtype=None):
    DRAWN.append(shape)
    return np.full(shape, 5, dtype)


class ReadsItself(layers.Dense):
    def load_own_variables(self, store):
        self.bias.assign(store["1"])


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_weights_that_a_file_has_are_not_drawn_before(tmp_path, name):
    """To draw an orthogonal kernel of 2890 x 2890 took 20 s, longer than to read it."""
    known = {"counted": counted, "ReadsItself": ReadsItself}
    inner = Sequential([layers.Dense(2, kernel_initializer=counted, input_shape=(3,))])
    last = layers.Dense(2) if name == "m.h5" else ReadsItself(2, kernel_initializer=counted)
    model = Sequential([inner, layers.BatchNormalization(), last])
    model.build((None, 3))
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.save(tmp_path / name)
    DRAWN.clear()
    again = load_model(tmp_path / name, custom_objects=known)
    if name == "m.h5":
        assert not DRAWN
    else:  # a layer that reads the file itself may leave weights as they were made
        assert DRAWN == [(2, 2)] and (again.layers[-1].get_weights()[0] == 5).all()
        again.layers[-1].kernel.assign(model.layers[-1].kernel)
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


# -------------------- Keras 2.3.1 --------------------


def keras_2(kind, **config):
    return {"class_name": kind, "config": config}


def dense(name, units, **more):
    scaling = keras_2("VarianceScaling", scale=1.0, mode="fan_avg", distribution="uniform", seed=None)
    own = {
        "name": name,
        "trainable": True,
        "dtype": "float32",
        "units": units,
        "activation": "linear",
        "use_bias": True,
    }
    own |= {"kernel_initializer": scaling, "bias_initializer": keras_2("Zeros")}
    absent = "kernel_regularizer bias_regularizer activity_regularizer kernel_constraint bias_constraint"
    return keras_2("Dense", **{**own, **dict.fromkeys(absent.split()), **more})


def stored_config(path):
    """The model's configuration in a file that nbkeras has written."""
    if path.suffix == ".keras":
        return json.loads(zipfile.ZipFile(path).read("config.json"))
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])


def stored_in_hdf5(config, weights, training=None, optimizer=()):
    """An HDF5 file as Keras 2.3.1 writes it. weights: layer name -> [(weight name, array)]."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = b"2.3.1", b"tensorflow"
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [key.encode() for key, _ in arrays]
            for key, array in arrays:
                layer[key] = array
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()
            state = file.create_group("optimizer_weights")
            state.attrs["weight_names"] = [key.encode() for key, _ in optimizer]
            for key, array in optimizer:
                state[key] = array
    return buffer


def draws(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def test_a_sequential_model_of_keras_2_3_1_goes_on_training():
    first = dense("dense_1", 2, batch_input_shape=[None, 3], activation="hard_sigmoid")
    config = keras_2("Sequential", name="sequential_1", layers=[first, dense("dense_2", 2)])
    kernel, bias, second, zero = draws((3, 2), (2,), (2, 2), (2,))
    slots = draws((3, 2), (2,), (2, 2), (2,), (3, 2), (2,), (2, 2), (2,))
    weights = {
        "dense_1": [("dense_1/kernel:0", kernel), ("dense_1/bias:0", bias)],
        "dense_2": [("dense_2/kernel:0", second), ("dense_2/bias:0", zero)],
    }
    adam = keras_2("Adam", learning_rate=0.01, beta_1=0.9, beta_2=0.999, decay=0.0, epsilon=1e-07, amsgrad=False)
    training = {"optimizer_config": adam, "loss": "mse", "metrics": ["mae"]}
    training |= {"sample_weight_mode": None, "loss_weights": None}
    state = [("Adam/iterations:0", np.int64(4)), *((f"training/Adam/{i}:0", abs(slot)) for i, slot in enumerate(slots))]
    state += [(f"training/Adam/vhat_{i}:0", np.zeros(1, "float32")) for i in range(4)]
    model = load_model(stored_in_hdf5(config, weights, training, state))
    x = np.float32([[1, 2, 3]])
    hidden = np.clip(0.2 * (x @ kernel + bias) + 0.5, 0, 1)
    np.testing.assert_allclose(model.predict(x, verbose=0), hidden @ second + zero, rtol=1e-5)
    assert int(model.optimizer.iterations) == 4 and float(model.optimizer.learning_rate) == 0.01
    by_slot = [abs(slot) for i in range(4) for slot in (slots[i], slots[4 + i])]
    assert all(np.array_equal(a, b) for a, b in zip(model.optimizer.get_weights()[2:], by_slot, strict=True))


def test_an_optimizer_that_has_not_trained_has_counted_no_steps(recwarn):
    config = keras_2("Sequential", name="s", layers=[dense("d", 1, batch_input_shape=[None, 1])])
    training = {"optimizer_config": keras_2("Adam", learning_rate=0.5), "loss": "mse", "metrics": None}
    weights = {"d": [("kernel:0", np.ones((1, 1))), ("bias:0", np.ones(1))]}
    model = load_model(stored_in_hdf5(config, weights, training, [("iteration:0", np.int64(0))]))
    assert int(model.optimizer.iterations) == 0 and not recwarn


@pytest.mark.parametrize(
    ("kind", "arguments", "before", "slots"),
    [
        ("SGD", {"momentum": 0.9, "nesterov": False}, [7], 1),
        ("RMSprop", {"rho": 0.9, "epsilon": 1e-8}, [], 1),  # before 2.3 without the number of steps
        ("RMSprop", {"rho": 0.9, "epsilon": 1e-8}, [7], 1),
        ("Adagrad", {"epsilon": 1e-8}, [], 1),
        ("Adadelta", {"rho": 0.95, "epsilon": 1e-8}, [], 2),
        ("Adam", {"epsilon": 1e-8}, [7], 2),
        ("Adam", {"epsilon": None, "amsgrad": True}, [7], 3),
        ("Adamax", {"epsilon": 1e-8}, [7], 2),
        ("Nadam", {"schedule_decay": 0.004}, [7], 2),
        ("Nadam", {"schedule_decay": 0.004}, [7, 0.5], 2),  # with its product
    ],
)
def test_optimizers_of_keras_2_0_to_2_3(kind, arguments, before, slots):
    """Their state is [steps, first slots of all weights, second slots of all, ...], under names without meaning."""
    config = {"class_name": "Sequential", "config": [dense("d", 2, batch_input_shape=[None, 3])]}
    kernel, bias, *state = map(abs, draws((3, 2), (2,), *[(3, 2), (2,)] * slots))
    training = {"optimizer_config": keras_2(kind, lr=0.5, decay=0.0, **arguments), "loss": "mse", "metrics": []}
    named = [(f"Variable_{i}:0", np.float32(array)) for i, array in enumerate([*before, *state])]
    weights = {"d": [("d/kernel:0", kernel), ("d/bias:0", bias)]}
    optimizer = load_model(stored_in_hdf5(config, weights, training, named)).optimizer
    found = [[slot.numpy() for slot in optimizer.variables if name in slot.name] for name in ("kernel", "bias")]
    expected = [array for pair in zip(*found, strict=True) for array in pair]
    assert len(expected) == 2 * slots and float(optimizer.learning_rate) == 0.5
    assert int(optimizer.iterations) == (before[0] if before else 0)
    for one, other in zip(expected, state, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_graph_of_keras_2_3_1():
    """Inputs as [layer, call, output, arguments]; nested models count their calls from 1; a layer is called twice."""
    inner = keras_2("Sequential", name="inner", layers=[dense("d", 3, batch_input_shape=[None, 3])])
    start = keras_2("InputLayer", name="input_1", batch_input_shape=[None, 3], dtype="float32", sparse=False)
    add = keras_2("Add", name="add_1", trainable=True)
    first, once, twice = ["input_1", 0, 0], ["inner", 1, 0], ["inner", 2, 0]
    nodes = ([], [[[*first, {}]], [[*once, {}]]], [[[*source, {}] for source in (once, twice, first)]])
    entries = [
        {**entry, "name": entry["config"]["name"], "inbound_nodes": calls}
        for entry, calls in zip((start, inner, add), nodes, strict=True)
    ]
    ends = {"input_layers": [first], "output_layers": [["add_1", 0, 0], twice]}
    config = keras_2("Model", name="model_1", layers=entries, **ends)
    model = model_from_json(json.dumps({**config, "keras_version": "2.3.1", "backend": "tensorflow"}))
    kernel, bias, x = draws((3, 3), (3,), (4, 3))
    model.set_weights([kernel, bias])
    once = x @ kernel + bias
    twice = once @ kernel + bias
    for found, expected in zip(model.predict(x, verbose=0), [once + twice + x, twice], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layers_of_cudnn(kind):
    gates, units = (4, 2) if kind == "LSTM" else (3, 2)
    own = Sequential([getattr(layers, kind)(units, input_shape=(None, 3))])
    kernel, recurrent, bias = own.get_weights()
    bias = draws(bias.shape)[0]
    own.set_weights([kernel, recurrent, bias])
    cudnn = keras_2(f"CuDNN{kind}", name="rnn", units=units, batch_input_shape=[None, None, 3], return_sequences=False)
    for_inputs = np.hstack([k.T.reshape(k.shape) for k in np.hsplit(kernel, gates)])
    for_states = np.hstack([k.T for k in np.hsplit(recurrent, gates)])
    both = np.concatenate([bias * 0.25, bias * 0.75]) if kind == "LSTM" else bias.reshape(-1)
    weights = [("rnn/kernel:0", for_inputs), ("rnn/recurrent_kernel:0", for_states), ("rnn/bias:0", both)]
    model = load_model(stored_in_hdf5(keras_2("Sequential", name="s", layers=[cudnn]), {"rnn": weights}))
    x = draws((2, 5, 3))[0]
    np.testing.assert_allclose(model.predict(x, verbose=0), own.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_named_function_of_a_lambda_layer_of_keras_2():
    layer = {"name": "twice", "function": "double", "function_type": "function", "output_shape": None, "arguments": {}}
    layer |= {"batch_input_shape": [None, 3], "output_shape_type": "raw", "output_shape_module": None, "module": "m"}
    text = json.dumps(keras_2("Sequential", layers=[keras_2("Lambda", **layer)]))
    model = model_from_json(text, custom_objects={"double": lambda x: x * 2})
    assert model.predict(np.ones((1, 3)), verbose=0).tolist() == [[2, 2, 2]]
    with pytest.raises(ValueError, match="nbkeras runs no code of files"):
        model_from_json(text)


CODE = ["4wAAAAA=", None, None]  # how Keras 2 writes a function


def test_functions_for_shape_and_mask_of_a_lambda_layer():
    """Keras's files hold their names or code: the shape is found anew, the mask is known by its name or the layer's."""
    layer = {"name": "twice", "function": CODE, "function_type": "lambda", "output_shape": CODE, "arguments": {}}
    layer |= {"batch_input_shape": [None, 3, 1], "output_shape_type": "lambda"}
    layer |= dict.fromkeys(("output_shape_module", "module"), "m")
    layer |= {"mask": CODE, "mask_type": "lambda", "mask_module": "m"}
    older = keras_2("Sequential", layers=[keras_2("Lambda", **layer)])
    given = {"twice": lambda x: x * 2, "twice_mask": lambda inputs, mask: ops.any(inputs > 1, axis=-1)}
    of_keras_3 = {"class_name": "function", "module": "builtins", "registered_name": "function"}
    shape = {"class_name": "__lambda__", "config": {"code": CODE[0], "defaults": None, "closure": None}}
    own = {"name": "twice", "function": {**of_keras_3, "config": "double"}, "output_shape": shape}
    own |= {"mask": {**of_keras_3, "config": "over"}}
    newer = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": own}
    named = {"double": given["twice"], "over": given["twice_mask"]}
    inputs = {**keras_2("InputLayer", batch_shape=[None, 3, 1], name="i"), "module": "keras.layers"}
    config = {**keras_2("Sequential", name="s", layers=[inputs, newer]), "module": "keras"}
    for text, functions in ((older, given), (config, named)):
        y = model_from_json(json.dumps(text), custom_objects=functions)(np.array([[[0.0], [1.0], [2.0]]], "float32"))
        assert y.numpy().tolist() == [[[0], [2], [4]]] and y.mask.numpy().tolist() == [[False, False, True]]
        with pytest.raises(ValueError, match="nbkeras runs no code of files"):
            model_from_json(json.dumps(text), custom_objects=dict(list(functions.items())[:1]))


def test_a_lambda_layer_in_the_form_of_keras_2(tmp_path):
    def same(inputs, mask):
        return mask

    def double(x):
        return 2 * x

    layer = layers.Lambda(double, output_shape=(3,), mask=same, arguments={}, name="l")
    Sequential([layers.Input((3,)), layer]).save(tmp_path / "m.h5")
    config = stored_config(tmp_path / "m.h5")["config"]["layers"][1]["config"]
    assert config["function"] == "double" and config["function_type"] == "function"
    assert config["output_shape"] == [3] and config["output_shape_type"] == "raw"
    assert config["mask"] == "same" and config["mask_type"] == "function"


class Named(layers.Layer):
    def call(self, named):
        return 2 * named["a"]


def test_what_keras_2_cannot_say_is_refused(tmp_path):
    x = layers.Input((3,))
    for y, message in (
        (x * 2.0, "ops on symbolic tensors"),
        (layers.Dense(2, activation="hard_sigmoid")(x), "does not have Keras 3's hard_sigmoid"),
        (Named()({"a": x}), "is called in a way that HDF5 of Keras 2 cannot hold; save the model as .keras"),
    ):
        with pytest.raises(ValueError, match=message):
            Model(x, y).save(tmp_path / "m.h5")
        assert not list(tmp_path.iterdir())
        Model(x, y).save(tmp_path / "m.keras")
        (tmp_path / "m.keras").unlink()


def test_layers_in_layers_of_the_same_names(tmp_path):
    x = layers.Input((4, 3))
    y = layers.MultiHeadAttention(2, 2)(x, x)
    model = Model(x, layers.MultiHeadAttention(2, 2)(y, y))
    model.compile("adam", "mse")
    data = draws((2, 4, 3))[0]
    model.train_on_batch(data, data)
    model.save(tmp_path / "m.h5")
    again = load_model(tmp_path / "m.h5")
    assert again.train_on_batch(data, data) == model.train_on_batch(data, data)


def test_weights_of_keras_3_go_to_layers_of_the_same_names(tmp_path):
    """Names decide if all of them are the same; otherwise the order does, as in Keras."""

    def model(*names):
        return Sequential([layers.Input((2,)), *(layers.Dense(2, name=name) for name in names)])

    saved = model("a", "b")
    saved.save_weights(tmp_path / "w.weights.h5")
    other, new = model("b", "a"), model("c", "d")
    for each, name in ((other, "a"), (new, "c")):
        each.load_weights(tmp_path / "w.weights.h5")
        np.testing.assert_array_equal(each.get_layer(name).get_weights()[0], saved.get_layer("a").get_weights()[0])


@saving.register_keras_serializable("mine")
def half(x):
    return x * 0.5


@saving.register_keras_serializable("mine")
class Doubled(layers.Layer):
    def call(self, x):
        return x * 2.0


@saving.register_keras_serializable("mine")
def my_loss(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_what_is_yours_has_the_names_that_keras_gives_it(tmp_path, name):
    model = Sequential([layers.Dense(2, activation=half, input_shape=(3,)), Doubled()])
    model.compile("sgd", my_loss, metrics=[my_loss])
    x, y = draws((4, 3), (4, 2))
    model.train_on_batch(x, y)
    model.save(tmp_path / name)
    config = stored_config(tmp_path / name)
    _, first, second = config["config"]["layers"]
    if name.endswith(".h5"):
        assert first["config"]["activation"] == "mine>half" and second["class_name"] == "mine>Doubled"
        with h5py.File(tmp_path / name) as file:
            assert json.loads(file.attrs["training_config"])["loss"] == "mine>my_loss"
    else:
        function = {"module": "builtins", "class_name": "function", "config": "mine>half"}
        assert first["config"]["activation"] == {**function, "registered_name": "function"}
        assert config["compile_config"]["loss"]["config"] == "mine>my_loss"
    assert load_model(tmp_path / name).train_on_batch(x, y) == model.train_on_batch(x, y)


def test_what_has_no_name_is_refused_or_left_out(tmp_path):
    with pytest.raises(TypeError, match="a lambda has no name"):
        Sequential([layers.Dense(2, activation=lambda x: x, input_shape=(3,))]).save(tmp_path / "m.keras")
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("sgd", lambda y_true, y_pred: ops.mean(y_pred))
    with pytest.warns(UserWarning, match="without its compilation"):
        model.save(tmp_path / "m.keras")
    assert not load_model(tmp_path / "m.keras").compiled


def test_hard_sigmoid_of_keras_2_is_a_function_to_pass_for_keras_3(tmp_path):
    model = Sequential([layers.LSTM(2, recurrent_activation="legacy_hard_sigmoid", input_shape=(5, 3))])
    model.save(tmp_path / "m.keras")
    config = stored_config(tmp_path / "m.keras")["config"]["layers"][1]["config"]
    assert config["recurrent_activation"]["config"] == "legacy_hard_sigmoid"
    x = draws((2, 5, 3))[0]
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


class Parts(Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.out = layers.Dense(2)
        self.first, self.norm = layers.Dense(3), layers.BatchNormalization()

    def call(self, x):
        return self.out(self.norm(self.first(x)))


def test_layers_of_a_subclassed_model_lie_where_keras_finds_them(tmp_path):
    """In alphabetical order of the attributes: `first`, then the property `layers` with those that are left."""
    model = Parts()
    model(np.zeros((1, 3)))
    model.save_weights(tmp_path / "w.weights.h5")
    with h5py.File(tmp_path / "w.weights.h5") as file:
        assert set(file) == {"first", "layers", "vars"}
        assert set(file["layers"]) == {"dense", "batch_normalization"} and file["layers/dense/vars/0"].shape == (3, 2)


def test_kernels_of_theano_are_those_of_convolutions(tmp_path):
    def model():
        return Sequential([layers.Conv2D(2, (2, 3), input_shape=(4, 4, 1)), layers.Flatten(), layers.Dense(1)])

    saved, loaded = model(), model()
    saved.save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.attrs["backend"] = b"theano"
    loaded.load_weights(tmp_path / "w.h5")
    kernel, *rest = saved.get_weights()
    for found, expected in zip(loaded.get_weights(), [kernel[::-1, ::-1], *rest], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_skip_mismatch_leaves_out_single_weights_of_keras_2(tmp_path):
    """As Keras does: a bias of twice the size is not taken for one of CuDNN's."""
    saved = Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(4)])
    saved.save_weights(tmp_path / "w.h5")
    other = Sequential([layers.Dense(4, input_shape=(5,)), layers.Dense(2)])
    before = other.get_weights()
    with pytest.warns(UserWarning, match=r"not loaded: .*has shape .* in the file, expected"):
        other.load_weights(tmp_path / "w.h5", skip_mismatch=True)
    np.testing.assert_array_equal(other.get_weights()[1], saved.get_weights()[1])
    for i in (0, 2, 3):
        np.testing.assert_array_equal(other.get_weights()[i], before[i])


def test_mixed_precision_of_keras_2_is_read():
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    layer = dense("d", 2, batch_input_shape=[None, 3], dtype=policy)
    model = model_from_json(json.dumps(keras_2("Sequential", layers=[layer])))
    assert model.predict(np.ones((1, 3)), verbose=0).dtype == "float16"


def test_nadam_of_older_keras_3(tmp_path):
    """The product of all u stood before the moments."""
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("nadam", "mse")
    x, y = draws((4, 3), (4, 2))
    model.train_on_batch(x, y)
    model.save(tmp_path / "m", zipped=False)
    with h5py.File(tmp_path / "m" / "model.weights.h5", "a") as file:
        group = file["optimizer/vars"]
        arrays = [group[str(i)][()] for i in range(len(group))]
        arrays.insert(2, arrays.pop())
        for i, array in enumerate(arrays):
            del group[str(i)]
            group[str(i)] = array
    assert load_model(tmp_path / "m").train_on_batch(x, y) == model.train_on_batch(x, y)


def test_arguments_of_a_call_stand_with_each_of_its_inputs_for_keras_2(tmp_path):
    x, y = layers.Input((4, 3)), layers.Input((4, 3))
    Model([x, y], layers.Attention()([x, y], use_causal_mask=True)).save(tmp_path / "m.h5")
    nodes = stored_config(tmp_path / "m.h5")["config"]["layers"][-1]["inbound_nodes"]
    assert [reference[3] for reference in nodes[0]] == [{"use_causal_mask": True}] * 2


def test_states_in_a_list_are_written_as_keras_3_takes_them():
    """A list of Keras 2, unless a mask comes along, which Keras 3 would not use beside the states."""
    words, x, h, c = layers.Input((4,), dtype="int32"), layers.Input((4, 3)), layers.Input((2,)), layers.Input((2,))
    masked = layers.Embedding(5, 3, mask_zero=True)(words)
    for sequences, layer, states in (
        (x, layers.LSTM(2), [h, c]),
        (x, layers.Bidirectional(layers.GRU(2)), [h, c]),
        (masked, layers.LSTM(2), [h, c]),
    ):
        config = Model([words, x, h, c], layer([sequences, *states])).get_config()
        (node,) = next(entry["inbound_nodes"] for entry in config["layers"] if entry["name"] == layer.name)
        kept = isinstance(node["args"][0], list)
        assert kept == (sequences is masked) and len(node["kwargs"].get("initial_state", [])) == (0 if kept else 2)


def test_the_reduction_auto_is_written_as_keras_3_has_it():
    loss = losses.deserialize(keras_2("MeanSquaredError", reduction="auto", name="mse"))
    assert loss.get_config()["reduction"] == "sum_over_batch_size"


@pytest.mark.parametrize(
    "files, message",
    [
        (["saved_model.pb"], r"is a SavedModel: .* tf_keras.models.load_model\(folder\).save\('model.h5'\)"),
        ([], "is a folder without config.json, so"),
        (["notes.txt"], "is a folder without config.json"),
    ],
)
def test_folders_that_hold_no_model(tmp_path, files, message):
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    for name in files:
        (tmp_path / name).write_bytes(b"")
    for load in (load_model, model.load_weights):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_weights_of_a_model_in_a_folder(tmp_path):
    model = Sequential([layers.Dense(2, input_shape=(3,))])
    model.save(tmp_path / "m", zipped=False)
    with pytest.raises(ValueError, match="is a folder: its weights are in the file model.weights.h5"):
        model.load_weights(tmp_path / "m")
    model.load_weights(tmp_path / "m" / "model.weights.h5")


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "w.weights.h5", "w.h5"])
def test_long_names_of_layers_are_written_and_read(tmp_path, name):
    """Real Keras writes and reads .h5 files with names of up to 64512 bytes."""
    model = Sequential([layers.Input((2,)), *(layers.Dense(2, name=letter * 20_000) for letter in "ab")])
    target = tmp_path / name
    if name.startswith("m"):
        model.compile("sgd", "mse")
        model.save(target)
        again = load_model(target)
    else:
        model.save_weights(target)
        again = Sequential.from_config(model.get_config())
        again.load_weights(target)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    x = np.ones((1, 2))
    np.testing.assert_array_equal(again(x), model(x))


def test_a_name_too_long_for_hdf5_is_refused(tmp_path):
    model = Sequential([layers.Input((2,)), layers.Dense(2, name="ä" * 33_000)])
    with pytest.raises(ValueError, match="too long for HDF5, whose attributes hold 64512 bytes: give a shorter name"):
        model.save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_arrays_in_configurations_of_keras_2():
    config = keras_2("Lambda", arguments={"by": {"type": "ndarray", "value": [1.0, 2.0]}})
    assert keras_2_config.translated(config)["config"]["arguments"] == {"by": [1.0, 2.0]}


def graph_of_keras_2(*source, calls=None):
    start = keras_2("InputLayer", name="i", batch_input_shape=[None, 3], dtype="float32", sparse=False)
    nodes = [[[*source, {}]]] if calls is None else calls
    entries = [{**start, "name": "i", "inbound_nodes": []}, {**dense("d", 1), "name": "d", "inbound_nodes": nodes}]
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [["d", 0, 0]]}
    return json.dumps(keras_2("Model", name="m", layers=entries, **ends))


def test_a_call_of_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="refers to a layer 'elsewhere' that it does not have"):
        model_from_json(graph_of_keras_2("elsewhere", 0, 0))


def test_calls_in_the_form_of_keras_3_in_a_configuration_of_keras_2():
    tensor = {"shape": [None, 3], "dtype": "float32", "keras_history": ["i", 0, 0]}
    call = {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}
    assert model_from_json(graph_of_keras_2(calls=[call])).output_shape == (None, 1)


@pytest.mark.parametrize(
    ("function", "kwargs", "message"),
    [
        ("linalg.expm", {}, "an op of TensorFlow that nbkeras does not know: 'linalg.expm'"),
        ("math.add", {"odd": 3}, "calls TensorFlow's add with odd=3, which nbkeras does not know"),
    ],
)
def test_ops_of_tensorflow_that_are_not_known(function, kwargs, message):
    entry = {"name": "o", "class_name": "TFOpLambda", "config": {"function": function}}
    with pytest.raises(ValueError, match=message):
        keras_2_ops.translated({**entry, "inbound_nodes": [{"args": [1.0, 2.0], "kwargs": kwargs}]})


def test_a_lookup_of_keras_2_has_the_dtype_of_its_output(tmp_path):
    Sequential([layers.Input((2,), dtype="int64"), layers.IntegerLookup(vocabulary=[3, 4])]).save(tmp_path / "m.h5")
    assert stored_config(tmp_path / "m.h5")["config"]["layers"][-1]["config"]["dtype"] == "int64"
    assert load_model(tmp_path / "m.h5").predict([[3, 9]]).tolist() == [[1, 0]]


def test_a_metric_function_has_the_name_of_keras_2(tmp_path):
    model = Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse", metrics=[metrics.MeanMetricWrapper(losses.kl_divergence, name="k")])
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        (metric,) = json.loads(file.attrs["training_config"])["metrics"]
    assert metric["config"]["fn"] == "kullback_leibler_divergence"


def test_states_and_outputs_by_name_in_hdf5_of_keras_2(tmp_path):
    x, h, c = layers.Input((4, 3)), layers.Input((2,)), layers.Input((2,))
    model = Model([x, h, c], {"last": layers.LSTM(2)(x, initial_state=[h, c])})
    model.save(tmp_path / "m.h5")
    values = draws((2, 4, 3), (2, 2), (2, 2))
    np.testing.assert_array_equal(load_model(tmp_path / "m.h5").predict(values)["last"], model.predict(values)["last"])


def test_a_layer_with_another_number_of_weights_than_the_file(tmp_path):
    Sequential([layers.Dense(2, input_shape=(3,), name="d")]).save_weights(tmp_path / "w.h5")
    with pytest.raises(ValueError, match=r"it has 1 weights \[\(3, 2\)\], the file 2"):
        Sequential([layers.Dense(2, use_bias=False, input_shape=(3,), name="d")]).load_weights(tmp_path / "w.h5")


def test_more_names_than_one_attribute_holds():
    texts = [f"{number:08000d}" for number in range(17)]  # 8 to a part: three parts, not two
    with h5py.File(io.BytesIO(), "w") as file:
        hdf5.write_texts(file, "layer_names", texts)
        assert [name for name in file.attrs] == ["layer_names0", "layer_names1", "layer_names2"]


def test_a_layer_of_ones_own_reads_its_arrays_like_a_dict(tmp_path):
    seen = {}

    class Reads(layers.Dense):
        def load_own_variables(self, store):
            seen.update(names=sorted(store), count=len(store), bias=store["1"])
            with pytest.raises(TypeError, match="open for reading cannot be written"):
                store["0"] = 1
            assert store.get("2") is None
            super().load_own_variables(store)

    model = Sequential([Reads(2, input_shape=(3,), bias_initializer="ones")])
    model.save_weights(tmp_path / "m.weights.h5")
    model.load_weights(tmp_path / "m.weights.h5")
    assert seen["names"] == ["0", "1"] and seen["count"] == 2 and seen["bias"].tolist() == [1, 1]
