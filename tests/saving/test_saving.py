"""Model files: whole round trips in every format, exact resumption, names, folders, file objects, full disks, hooks."""

import functools
import io
import json
import os
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import nbkeras
from nbkeras import layers, saving, utils
from nbkeras import ops as keras_ops
from nbkeras.__main__ import main
from nbkeras.engine import compatibility
from nbkeras.models import Model, Sequential, load_model, model_from_json
from nbkeras.saving.serialization import plain


def small(units=5):
    first = layers.Dense(units, activation="tanh", input_shape=(3,))
    return Sequential([first, layers.Dropout(0.3), layers.Dense(2)], name="small")


@pytest.fixture
def trained():
    utils.set_random_seed(1)
    model = small()
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).random((20, 3))
    y = np.random.default_rng(1).random((20, 2))
    model.fit(x, y, epochs=2, verbose=0)
    return model, x, y


def same(arrays, others):
    return all(np.array_equal(one, other) for one, other in zip(arrays, others, strict=True))


def same_weights(a, b):
    return same(a.get_weights(), b.get_weights())


def file_of_the_first_format(name):
    with zipfile.ZipFile(Path(__file__).parents[1] / "reference" / "nbkeras_1.zip") as file:
        return file.read(name)


def test_training_resumes_exactly(trained, tmp_path):
    model, x, y = trained
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    for _ in range(3):
        assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert same_weights(again, model)


def test_recurrent_states_are_kept(tmp_path):
    x = np.random.default_rng(0).random((4, 5, 3))
    model = Sequential([layers.LSTM(3, stateful=True, batch_input_shape=(4, 5, 3))])
    model.predict(x, batch_size=4)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, batch_size=4), model.predict(x, batch_size=4))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.hdf5", "w.weights.h5", "w.h5", "w.safetensors", "folder"])
def test_every_format(trained, tmp_path, name):
    model, x, y = trained
    path = tmp_path / name
    if name.startswith("w"):
        model.save_weights(path)
        other = small()
        assert not same_weights(other, model)
        other.load_weights(path)
        assert same_weights(other, model)
        return
    model.save(path, zipped=name != "folder")
    again = load_model(path)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.metrics[0].name == "loss" and again.optimizer.get_config() == model.optimizer.get_config()
    assert same_weights(again.optimizer, model.optimizer)
    assert not load_model(path, compile=False).compiled
    if name != "folder":
        other = small()
        other.load_weights(path)
        assert same_weights(other, model)


@pytest.mark.parametrize("name", ["folder", "m.model", "m.keras.bak"])
def test_a_name_that_says_no_format(trained, tmp_path, monkeypatch, name):
    model, x, _ = trained
    with pytest.raises(ValueError, match=rf"save as '.*{name}': .* Save as '.*{name}.keras', or pass save_format"):
        model.save(tmp_path / name)
    assert not os.listdir(tmp_path)
    monkeypatch.setattr(compatibility, "current", compatibility.KERAS_2)
    model.save(tmp_path / name)
    monkeypatch.undo()
    np.testing.assert_array_equal(load_model(tmp_path / name).predict(x), model.predict(x))


def test_save_format_decides_over_the_name(trained, tmp_path):
    model, *_ = trained
    model.save(tmp_path / "one", save_format="keras_v3")
    model.save(tmp_path / "two.keras", save_format="h5")
    assert zipfile.is_zipfile(tmp_path / "one") and h5py.is_hdf5(tmp_path / "two.keras")
    assert same_weights(load_model(tmp_path / "one"), model) and same_weights(load_model(tmp_path / "two.keras"), model)
    with pytest.raises(ValueError, match="'keras' or 'h5'"):
        model.save(tmp_path / "three", save_format="tf")


def test_file_objects(trained):
    model, x, _ = trained
    buffer = io.BytesIO()
    model.save(buffer)
    assert same_weights(load_model(buffer), model)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        saving.save_model(model, file)
        assert same_weights(load_model(file), model)
        saving.save_weights(model, file.create_group("inner"))
        other = small()
        other.load_weights(file["inner"])
        assert same_weights(other, model)
    assert same_weights(load_model(buffer), model)


def test_by_name_and_skip_mismatch(trained, tmp_path):
    model, *_ = trained
    model.save_weights(tmp_path / "w.h5")
    model.save_weights(tmp_path / "w.weights.h5")
    first, last = model.layers[0], model.layers[2]
    renamed = layers.Dense(5, input_shape=(3,), name=first.name)
    other = Sequential([renamed, layers.Dense(4), layers.Dense(2, name="new")])
    other.load_weights(tmp_path / "w.h5", by_name=True)
    np.testing.assert_array_equal(other.layers[0].get_weights()[0], first.get_weights()[0])
    for name in ("w.h5", "w.weights.h5"):
        wider = small(6)
        before = wider.get_weights()
        with pytest.raises(ValueError, match=r"layer 'dense.*has shape \(3, 5\) in the file, expected \(3, 6\)"):
            wider.load_weights(tmp_path / name)
        assert same(before, wider.get_weights())
        with pytest.warns(UserWarning, match=r"not loaded: .* has shape \(.*5.*\) in the file, expected \(.*6.*\)"):
            wider.load_weights(tmp_path / name, skip_mismatch=True)
        assert not np.array_equal(wider.get_weights()[-2], last.get_weights()[0])  # (6, 2) is not (5, 2)
    with pytest.raises(ValueError, match="by_name=True is for HDF5 files of Keras 2"):
        small().load_weights(tmp_path / "w.weights.h5", by_name=True)


def test_functional_model_with_shared_layers(tmp_path):
    a, b = layers.Input((6, 2), name="a"), layers.Input((6, 2), name="b")
    shared = layers.LSTM(3)
    model = Model([a, b], layers.Dense(1)(layers.concatenate([shared(a), shared(b)])))
    x = list(np.random.default_rng(0).random((2, 4, 6, 2)))
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        again = load_model(tmp_path / name)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        assert len(again.weights) == 5 and not again.compiled


def test_arguments_of_calls_are_kept(tmp_path):
    x = layers.Input((4,))
    model = Model(x, layers.Dropout(0.5)(layers.BatchNormalization()(x, training=False), training=True))
    model.save(tmp_path / "m.keras")
    _, *entries = load_model(tmp_path / "m.keras").get_config()["layers"]
    assert [entry["inbound_nodes"][0]["kwargs"]["training"] for entry in entries] == [False, True]


def test_json_round_trip():
    x = layers.Input((4,))
    model = Model(x, layers.Dense(3)(nbkeras.ops.concatenate([x[:, 1:3], x * 2.0], axis=1)))
    text = model.to_json()
    again = model_from_json(text)
    again.set_weights(model.get_weights())
    data = np.random.default_rng(0).random((2, 4))
    np.testing.assert_array_equal(again.predict(data), model.predict(data))
    config = json.loads(text)
    assert config["module"] == "keras.src.models.functional"
    entry = config["config"]["layers"][1]
    assert entry.pop("inbound_nodes") and entry.pop("config") == {"name": entry.pop("name")}
    assert entry == {"module": "keras.src.ops.numpy", "class_name": "GetItem", "registered_name": "GetItem"}


def named(x):
    return x * 2


def test_any_object_is_a_configuration_and_back():
    objects = {
        "layer": layers.Dense(3, kernel_regularizer="l2"),
        "optimizer": nbkeras.optimizers.Adam(nbkeras.optimizers.schedules.CosineDecay(0.1, 10)),
        "losses": [nbkeras.losses.Huber(), nbkeras.losses.mean_squared_error, "mae"],
        "metric": nbkeras.metrics.AUC(num_thresholds=3),
        "initializer": nbkeras.initializers.Constant(2.0),
        "constraint": nbkeras.constraints.MaxNorm(1.0),
        "seed": nbkeras.random.SeedGenerator(3),
        "numbers": (1, 2.5, None, True),
        "array": np.arange(3.0),
        "slice": slice(1, None, 2),
        "function": named,
    }
    text = json.loads(json.dumps(saving.serialize_keras_object(objects)))
    assert text["layer"]["module"] == "keras.layers" and text["optimizer"]["module"] == "keras.optimizers"
    again = utils.deserialize_keras_object(text, custom_objects={"named": named})
    for key in ("layer", "optimizer", "metric", "initializer", "constraint", "seed"):
        assert type(again[key]) is type(objects[key]) and again[key].get_config() == objects[key].get_config()
    assert (
        again["numbers"] == [1, 2.5, None, True] and again["array"].tolist() == [0, 1, 2] and again["function"] is named
    )
    assert again["slice"] == slice(1, None, 2) and again["losses"][1:] == [nbkeras.losses.mean_squared_error, "mae"]
    with pytest.raises(TypeError, match="a lambda has no name to find it by"):
        saving.serialize_keras_object(lambda x: x)
    with pytest.raises(ValueError, match="unknown layer: 'system' of module 'os'"):
        saving.deserialize_keras_object({"module": "os", "class_name": "function", "config": "system"})


class Options:
    """An object of a user that extends no class of nbkeras."""

    def __init__(self, rate=1):
        self.rate = rate

    def get_config(self):
        return {"rate": self.rate}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_any_object_with_get_config_is_a_configuration():
    written = saving.serialize_keras_object({"one": Options(3), "more": [Options(), 2]})
    own = {"module": Options.__module__, "class_name": "Options", "registered_name": "Options"}
    assert written == {"one": {**own, "config": {"rate": 3}}, "more": [{**own, "config": {"rate": 1}}, 2]}
    again = saving.deserialize_keras_object(written, custom_objects={"Options": Options})
    assert (again["one"].rate, again["more"][0].rate, again["more"][1]) == (3, 1, 2)
    with pytest.raises(TypeError, match="of type type into a configuration"):
        saving.serialize_keras_object(Options)


def test_bytes_and_symbolic_tensors_are_configurations():
    symbol = layers.Input((3,), name="x")
    written = saving.serialize_keras_object({"bytes": b"ab", "tensor": symbol, "free": nbkeras.KerasTensor((None, 2))})
    assert written["bytes"] == {"class_name": "__bytes__", "config": {"value": "ab"}}
    config = {"shape": (None, 3), "dtype": "float32", "keras_history": ["x", 0, 0]}
    assert written["tensor"] == {"class_name": "__keras_tensor__", "config": config}
    again = saving.deserialize_keras_object(json.loads(json.dumps(written)))
    assert again["bytes"] == b"ab" and (again["tensor"].shape, again["free"].shape) == ((None, 3), (None, 2))


def test_names_may_be_looked_up_in_a_module():
    module = {"Options": Options, "named": len}
    written = {"class_name": "Options", "config": {"rate": 5}}
    assert saving.deserialize_keras_object(written, module_objects=module).rate == 5
    assert saving.deserialize_keras_object("Options", module_objects=module).rate == 1
    assert saving.deserialize_keras_object("named", module_objects=module) is len
    assert saving.deserialize_keras_object("Options", {"Options": dict}, module_objects=module) is dict
    assert saving.deserialize_keras_object("other", module_objects=module) == "other"
    with pytest.raises(ValueError, match="unknown layer: 'Options'"):
        saving.deserialize_keras_object(written, module_objects={})


@utils.register_keras_serializable("Mine")
class Scale(layers.Layer):
    """A layer that keeps its factor where only its saving hooks find it."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.built_with = factor, None

    def build(self, input_shape):
        self.shift = self.add_weight((input_shape[-1],), "zeros", name="shift")
        self.built = True

    def call(self, inputs):
        return inputs * self.factor + self.shift

    def save_own_variables(self, store):
        store["factor"] = np.float64(self.factor)
        store["shift"] = self.shift.numpy()

    def load_own_variables(self, store):
        self.factor = float(store["factor"])
        self.shift.assign(store["shift"])

    def get_build_config(self):
        return {"sizes": [None, 3], "from": "me"}

    def build_from_config(self, config):
        self.built_with = config["from"]
        self.build(config["sizes"])


def test_hooks_of_a_users_layer(tmp_path):
    model = Sequential([Scale(name="scale", input_shape=(3,))])
    model.layers[0].factor = 7.0
    model.layers[0].set_weights([np.arange(3)])
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert again.layers[0].factor == 7.0 and again.layers[0].built_with == "me" and same_weights(again, model)
    entry = json.loads(model.to_json())["config"]["layers"][1]
    assert entry["registered_name"] == "Mine>Scale" and entry["class_name"] == "Scale"


class Residual(Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units), [layers.Dense(units)]]
        self.head = layers.Dense(1)

    def call(self, inputs):
        return self.head(self.blocks[1][0](self.blocks[0](inputs)) + inputs)

    def get_config(self):
        return {"units": self.units}


def test_a_subclass_of_model(tmp_path):
    model = Residual(3)
    x = np.ones((2, 3))
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:
        assert all(name in weights for name in ("blocks/dense/vars/0", "blocks/container/dense/vars/0", "head/vars/1"))
    again = load_model(tmp_path / "m.keras", custom_objects={"Residual": Residual})
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.train_on_batch(x, x[:, :1]) == model.train_on_batch(x, x[:, :1])
    with pytest.raises(ValueError, match="unknown layer: 'Residual'"):
        load_model(tmp_path / "m.keras")


def test_custom_function_without_a_name_is_left_out_with_a_warning(trained, tmp_path):
    model, x, y = trained
    model.compile("sgd", functools.partial(odd))
    for name in ("m.keras", "m.h5"):
        with pytest.warns(UserWarning, match="saved without its compilation"):
            model.save(tmp_path / name)
        assert not load_model(tmp_path / name).compiled


def test_overwrite_and_missing_folder(trained, tmp_path):
    model, *_ = trained
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="exists; pass overwrite=True to replace it"):
        model.save(tmp_path / "m.keras", overwrite=False)
    for name in ("m.keras", "m.h5"):
        with pytest.raises(FileNotFoundError, match="cannot write .*: there is no folder"):
            model.save(tmp_path / "nowhere" / name)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_model(tmp_path / "none.keras")
    for name in ("none.weights.h5", "none.h5"):  # a model without weights is not the same as a model that is not built
        flat = Sequential([layers.Input((2, 2)), layers.Flatten()])
        flat.save_weights(tmp_path / name)
        flat.load_weights(tmp_path / name)


def test_without_h5py_and_safetensors_a_sentence_says_what_to_install(trained, tmp_path, monkeypatch):
    model, *_ = trained
    model.save(tmp_path / "m.keras")
    for missing, names in (("h5py", ["m.keras", "m.h5"]), ("safetensors.numpy", ["w.safetensors"])):
        monkeypatch.setitem(sys.modules, missing, None)
        for name in names:
            with pytest.raises(ImportError, match=r"pip install 'nbkeras\[files\]'"):
                (model.save if name.startswith("m") else model.save_weights)(tmp_path / "new" / name)
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[files\]'"):
        load_model(tmp_path / "m.keras")


def test_convert_keeps_the_optimizer(trained, tmp_path, capsys):
    model, x, y = trained
    model.save(tmp_path / "a.h5")
    main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "b.keras")])
    again = load_model(tmp_path / "b.keras")
    assert again.train_on_batch(x, y) and len(again.optimizer.variables) == len(model.optimizer.variables)
    main(["convert", str(tmp_path / "b.keras"), str(tmp_path / "w.safetensors")])
    other = small()
    other.load_weights(tmp_path / "w.safetensors")
    assert same_weights(other, model)
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "w.safetensors"), str(tmp_path / "c.keras")])
    assert "holds only weights" in capsys.readouterr().err


def odd(y_true, y_pred):
    return nbkeras.ops.mean(y_pred - y_true, axis=-1)


class OddSGD(nbkeras.optimizers.SGD):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"metrics": [odd]},
        lambda: {"loss": odd},
        lambda: {"optimizer": OddSGD()},
        lambda: {"metrics": [nbkeras.metrics.MeanMetricWrapper(odd)]},
    ],
)
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_convert_needs_no_compilation(trained, tmp_path, name, make):
    """A file may name a loss, a metric or an optimizer that only its own program has."""
    model, x, y = trained
    model.compile(**{"optimizer": "sgd", "loss": "mse", **make()})
    model.fit(x, y, verbose=0)
    model.save(tmp_path / name)
    for target in ("again.keras", "again.h5"):
        with pytest.warns(UserWarning, match=r"converted without its compilation: .*unknown .*[oO]dd"):
            saving.convert(tmp_path / name, tmp_path / target)
        again = load_model(tmp_path / target)
        assert same_weights(again, model) and not again.compiled
    with pytest.raises(ValueError, match="not a model or weights file"):
        (tmp_path / "bad.h5").write_bytes(b"nothing of the kind")
        saving.convert(tmp_path / "bad.h5", tmp_path / "again.keras")


@pytest.mark.cpu("the stored numbers are the CPU's, to 1e-6")
@pytest.mark.parametrize("name", ["dense", "graph", "weights"])
def test_files_of_the_first_format_still_load(tmp_path, name):
    (tmp_path / "old").write_bytes(file_of_the_first_format(f"{name}.keras"))
    expected = np.load(io.BytesIO(file_of_the_first_format(f"{name}.npz")))
    if name == "weights":
        model = Sequential([layers.Dense(4, activation="tanh", input_shape=(3,)), layers.Dropout(0.5), layers.Dense(2)])
        model.load_weights(tmp_path / "old")
    else:
        model = load_model(tmp_path / "old")
    np.testing.assert_allclose(model.predict(expected["x"], verbose=0), expected["out"], rtol=1e-6)
    for loss in expected["losses"] if name != "weights" else ():
        np.testing.assert_allclose(model.train_on_batch(expected["x"], expected["y"]), loss, rtol=1e-6)


def test_weights_of_a_trained_model_bring_the_state_of_its_optimizer(trained, tmp_path):
    """As in Keras 3, if the model's optimizer is built and of the same kind."""
    model, x, y = trained
    for name in ("w.weights.h5", "m.keras"):
        model.save_weights(tmp_path / name) if name.startswith("w") else model.save(tmp_path / name)
        again = load_model(io.BytesIO(saving.to_bytes(model)))
        expected = again.train_on_batch(x, y)
        again.load_weights(tmp_path / name)
        assert again.train_on_batch(x, y) == expected
        again.compile("sgd", "mse")
        again.load_weights(tmp_path / name)  # its optimizer is not built
        again.train_on_batch(x, y)
        with pytest.warns(UserWarning, match="it is not loaded"):
            again.load_weights(tmp_path / name)


@utils.register_keras_serializable("Mine")
def doubled(y_true, y_pred):
    return 2 * keras_ops.abs(y_true - y_pred)[..., 0]


class TwoPart(Model):
    """A model with a `compile` of its own, as GANs have."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def compile(self, first, error):
        super().compile(optimizer=first, loss=error)
        self.error = error


@utils.register_keras_serializable("Mine")
class TwoPartOfFiles(TwoPart):
    def get_compile_config(self):
        return {"first": self.optimizer, "error": self.error}

    def compile_from_config(self, config):
        self.compile(**{key: saving.deserialize_keras_object(value) for key, value in config.items()})


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_compiled_by_the_models_own_hooks(tmp_path, zipped):
    x, y = np.ones((4, 3)), np.ones((4, 1))
    model = TwoPartOfFiles()
    model.compile("adam", doubled)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras", zipped=zipped)
    again = load_model(tmp_path / "m.keras")
    assert again.error is doubled and int(again.optimizer.iterations) == 1
    assert again.train_on_batch(x, y) == model.train_on_batch(x, y)


def test_a_compile_of_other_arguments_is_not_called_for_a_file(tmp_path):
    """As in Keras 3: the model is loaded, and a warning says that it is not compiled."""
    model = TwoPart()
    model.compile("adam", doubled)
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="not compiled: the compile method of TwoPart .* Call compile after loading"):
        again = load_model(tmp_path / "m.keras", custom_objects={"TwoPart": TwoPart})
    assert not again.compiled and same_weights(again, model)


@utils.register_keras_serializable("Mine")
class Terms(layers.Dense):
    """A layer with files of its own."""

    def __init__(self, units, terms=None, **kwargs):
        super().__init__(units, **kwargs)
        self.terms = terms

    def save_assets(self, folder):
        os.makedirs(os.path.join(folder, "more"))
        with open(os.path.join(folder, "more", "terms.txt"), "w") as file:
            file.write(self.terms)

    def load_assets(self, folder):
        with open(os.path.join(folder, "more", "terms.txt")) as file:
            self.terms = file.read()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_layers(tmp_path, zipped):
    inner = Sequential([layers.Input((3,)), Terms(2, "inner")])
    model = Sequential([layers.Input((3,)), Terms(3, "first"), inner, Terms(1, "last")])
    model.save(tmp_path / "m.keras", zipped=zipped)
    again = load_model(tmp_path / "m.keras")
    assert [again.layers[0].terms, again.layers[1].layers[0].terms, again.layers[2].terms] == ["first", "inner", "last"]
    if zipped:  # Keras's names
        with zipfile.ZipFile(tmp_path / "m.keras") as file:
            assert "assets/layers/sequential/layers/terms/more/terms.txt" in file.namelist()
    assert load_model(io.BytesIO(saving.to_bytes(model))).layers[2].terms == "last"


def test_files_of_an_earlier_model_in_the_folder_are_removed(tmp_path):
    Sequential([layers.Input((3,)), Terms(2, "old"), Terms(2, "old")]).save(tmp_path / "m", zipped=False)
    (tmp_path / "m" / "notes.txt").write_text("not the model's")
    Sequential([layers.Input((3,)), Terms(2, "new")]).save(tmp_path / "m", zipped=False)
    left = sorted(str(path.relative_to(tmp_path / "m")) for path in (tmp_path / "m").rglob("*.txt"))
    assert left == ["assets/layers/terms/more/terms.txt", "notes.txt"]


@pytest.mark.parametrize("other", ["more", "more/terms.txt/x"])
def test_files_of_a_layer_that_cannot_lie_side_by_side(tmp_path, other):
    Sequential([layers.Input((3,)), Terms(3, "first")]).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras", "a") as file:
        file.writestr(f"assets/layers/terms/{other}", b"")
    with pytest.raises(ValueError, match="assets/layers/terms/more.* have one name"):
        load_model(tmp_path / "m.keras")


def test_lookup_layers_find_their_vocabulary_in_a_folder(tmp_path):
    lookup = layers.IntegerLookup()
    model = Sequential([layers.Input((1,), dtype="int64"), lookup])
    lookup.adapt([5, 5, 7])
    model.save(tmp_path / "m", zipped=False)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["config"]["layers"][1]["config"]["vocabulary"] = None  # Keras writes it beside the weights alone
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    folder = tmp_path / "m" / "assets" / "layers" / "integer_lookup"
    folder.mkdir(parents=True)
    (folder / "vocabulary.txt").write_text("-1\n5\n7")
    assert load_model(tmp_path / "m").layers[0].get_vocabulary() == [-1, 5, 7]


class Sized(Model):
    def __init__(self, units, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dense, self.inner = units, layers.Dense(2), inner

    def call(self, inputs):
        return self.dense(inputs) * self.units


def test_arguments_of_a_subclassed_model_without_get_config(tmp_path):
    """They were left out of the file: a model with a default argument was read as another one."""
    model = Sized(units=3, name="sized")
    model(np.ones((1, 3)))
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras", custom_objects={"Sized": Sized})
    assert again.units == 3 and again.name == "sized" and same_weights(again, model)
    nested = Sized(3, inner=small())
    nested(np.ones((1, 3)))
    with pytest.raises(NotImplementedError, match="Sized was made with inner=.*define get_config"):
        nested.save(tmp_path / "nested.keras")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: saving.convert("m.keras", "m.txt"), ValueError, "no format belongs to the name 'm.txt': expected"),
        (lambda: saving.convert("m.h5", "m.keras"), FileNotFoundError, "there is no file 'm.h5'"),
        (lambda: Sequential([layers.Dense(2)]).load_weights("m.keras"), ValueError, "no weights yet"),
        (
            lambda: Sequential([layers.Dense(2)]).save_weights("m.weights.h5"),
            ValueError,
            "no weights yet: give it an input shape or call it before save_weights",
        ),
    ],
)
def test_mistakes_are_explained(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        call()
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_first_format_with_other_weights_than_its_model(tmp_path):
    with zipfile.ZipFile(io.BytesIO(file_of_the_first_format("dense.keras"))) as model:
        members = {name: model.read(name) for name in model.namelist()}
    for name in members:
        if name.endswith(".json") and "weights" in (index := json.loads(members[name])):
            index["weights"].pop()
            members[name] = json.dumps(index)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    with pytest.raises(ValueError, match="the file has 3 weights, the model has 4: they belong to different models"):
        load_model(tmp_path / "m.keras")


def test_numbers_dtypes_and_slices_are_written_plainly():
    assert plain(np.float32(0.5)) == 0.5 and plain(np.dtype("int32")) == "int32"
    assert plain(...) == {"class_name": "__ellipsis__", "config": {}}


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.safetensors", "m.onnx"])
def test_the_same_model_gives_the_same_bytes(name, tmp_path, monkeypatch):
    """With SOURCE_DATE_EPOCH, which is the only time in a file; no file names its folder."""
    model = Sequential([layers.Dense(2, input_shape=(3,), name="d"), layers.Dropout(0.5)], name="m")
    model.compile("adam", "mse")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    whole = {"m.keras": model.save, "m.h5": model.save, "m.onnx": functools.partial(model.export, verbose=False)}
    save = whole.get(name, model.save_weights)
    save(tmp_path / name)
    first = (tmp_path / name).read_bytes()
    save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first and str(tmp_path).encode() not in first
    if name == "m.keras":
        with zipfile.ZipFile(tmp_path / name) as members:
            assert json.loads(members.read("metadata.json"))["date_saved"] == "2001-09-09@01:46:40"
            assert {each.date_time for each in members.infolist()} == {(1980, 1, 1, 0, 0, 0)}
