"""Models with strings as inputs. The references are of real Keras on TensorFlow: scripts/make_strings_references.py."""

import copy as copying
import gc
import json
import pathlib
import pickle
import subprocess
import sys
import weakref
import zipfile

import numpy as np
import pytest
from made_models import compiled, reloaded
from mistakes import mistakes
from own_models import Around, OwnStep

import nbkeras as keras
from nbkeras import layers as L
from nbkeras import ops

FOLDER = pathlib.Path(__file__).parents[1] / "reference" / "strings"
OUTPUTS = dict(np.load(FOLDER / "outputs.npz"))
INPUTS = json.loads((FOLDER / "inputs.json").read_text())
TEXTS = np.array(["the cat sat on the mat", "A dog! barked, twice", "the dog and the cat", "", "Zebra"], object)
DATA = {
    "texts": TEXTS[:, None],
    "flat_texts": TEXTS,
    "cities": np.array(["Rome", "Oslo", "Rome", "Paris", "Lima"], object)[:, None],
    "numbers": np.array([[0.5, -1.0], [1.5, 2.0], [-2.0, 0.0], [3.0, 1.0], [0.0, 0.25]], "float32"),
    "wholes": np.array([[1], [2], [1], [40], [-5]], "int64"),
}
H5 = [name for name in zipfile.ZipFile(FOLDER / "models.zip").namelist() if name.endswith(".h5")]


def data_of(name):
    arrays = [DATA[each] for each in INPUTS[name]]
    if name == "encoded":
        return dict(zip(("city", "numbers"), arrays, strict=True))
    return arrays if len(arrays) > 1 else arrays[0]


def file_of(name, tmp_path):
    with zipfile.ZipFile(FOLDER / "models.zip") as archive:
        return archive.extract(name, tmp_path)


@pytest.fixture
def model_of(tmp_path):
    return lambda name: keras.saving.load_model(file_of(f"{name}.keras", tmp_path))


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def text_model(words=8, **options):
    vectorize = L.TextVectorization(vocabulary=["a", "b", "c"], **options)
    return keras.Sequential(
        [keras.Input((1,), dtype="string"), vectorize, L.Embedding(words, 2), L.GlobalMaxPooling1D()]
    )


class TestAgainstKeras:
    @pytest.mark.parametrize("name", INPUTS)
    def test_a_file_of_keras_3(self, name, model_of):
        model, x = model_of(name), data_of(name)
        close(model(x).numpy(), OUTPUTS[name])
        close(model.predict(x, verbose=0), OUTPUTS[name])
        close(model.predict_on_batch(x), OUTPUTS[name])

    @pytest.mark.parametrize("name", INPUTS)
    def test_training(self, name, model_of):
        model, x = model_of(name), data_of(name)
        model.compile("sgd", "mse")
        y = np.linspace(-1, 1, 5, dtype="float32")[:, None] * np.ones((1, model.output_shape[-1]), "float32")
        model.fit(x, y, epochs=3, verbose=0)
        close(model.predict(x, verbose=0), OUTPUTS[f"{name} trained"])

    @pytest.mark.parametrize("name", H5)
    def test_an_hdf5_file(self, name, tmp_path):
        kind = name.partition(".")[0]
        model = keras.saving.load_model(file_of(name, tmp_path))
        close(model.predict(data_of(kind), verbose=0), OUTPUTS[f"{kind} tf_keras" if "tf_keras" in name else kind])

    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    @pytest.mark.parametrize("name", ["sequential", "multi_hot", "tf_idf", "encoded", "nested", "discretized"])
    def test_files_of_ones_own(self, name, suffix, model_of, tmp_path):
        model = model_of(name)
        again = reloaded(model, tmp_path / f"own.{suffix}")
        close(again.predict(data_of(name), verbose=0), OUTPUTS[name])
        assert again.inputs[0].dtype == "string"

    @pytest.mark.parametrize("name", ["sequential", "encoded", "nested"])
    def test_configurations_and_clones(self, name, model_of):
        model = model_of(name)
        for same in (type(model).from_config(model.get_config()), keras.models.clone_model(model)):
            same.set_weights(model.get_weights())
            for ours, theirs in zip(same._all_layers(), model._all_layers(), strict=True):
                if hasattr(theirs, "set_vocabulary"):
                    ours.set_vocabulary(theirs.get_vocabulary())
            close(same.predict(data_of(name), verbose=0), OUTPUTS[name])

    def test_pictures(self, model_of, tmp_path):
        lines = []
        model_of("nested").summary(print_fn=lambda line, *_, **__: lines.append(line))
        assert "inner (Functional)" in "\n".join(lines) or "inner (Model)" in "\n".join(lines)
        pytest.importorskip("pydot")
        keras.utils.plot_model(model_of("encoded"), tmp_path / "model.dot", show_dtype=True)
        assert "string" in (tmp_path / "model.dot").read_text(encoding="utf-8")


class TestShapes:
    """The shapes and dtypes of symbolic calls are those of real Keras."""

    MODES = {"int": "int64", "one_hot": "float32", "multi_hot": "float32", "count": "float32"}
    SHAPES = {
        "int": [(None, 1), (None, 3), (None,)],
        "one_hot": [(None, 3), (None, 3, 3), (None, 3)],
        "multi_hot": [(None, 3), (None, 3), (3,)],
        "count": [(None, 3), (None, 3), (3,)],
    }

    @pytest.mark.parametrize("mode", MODES)
    def test_lookups(self, mode):
        layer = L.StringLookup(vocabulary=["a", "b"], output_mode=mode)
        found = [layer(keras.Input(shape, dtype="string")) for shape in ((1,), (3,), ())]
        assert [each.shape for each in found] == self.SHAPES[mode]
        assert {each.dtype.name for each in found} == {self.MODES[mode]}

    def test_words(self):
        text = keras.Input((1,), dtype="string")
        assert L.TextVectorization(vocabulary=["a"])(text).shape == (None, None)
        assert L.TextVectorization(vocabulary=["a"], output_sequence_length=5)(text).shape == (None, 5)
        bag = L.TextVectorization(vocabulary=["a"], output_mode="count", max_tokens=7, pad_to_max_tokens=True)(text)
        assert bag.shape == (None, 7) and bag.dtype == "float32"

    def test_hashes(self):
        text, number = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")
        assert L.Hashing(4)(text).shape == (None, 1) and L.Hashing(4)(text).dtype == "int64"
        assert L.HashedCrossing(4)([text, number]).dtype == "int64"
        assert L.HashedCrossing(4, output_mode="one_hot")([text, number]).shape == (None, 4)


class TestData:
    FORMS = {
        "array of U": np.array([["a b"], ["c"]]),
        "array of S": np.array([[b"a b"], [b"c"]]),
        "array of objects": np.array([["a b"], ["c"]], object),
        "array of bytes objects": np.array([[b"a b"], [b"c"]], object),
        "vector": np.array(["a b", "c"]),
        "list": ["a b", "c"],
        "nested list": [["a b"], ["c"]],
        "list of an array": [np.array([["a b"], ["c"]])],
    }

    @pytest.mark.parametrize("form", FORMS)
    def test_forms(self, form):
        model, x = text_model(), self.FORMS[form]
        wanted = model.predict(np.array([["a b"], ["c"]]))
        for found in (model(x).numpy(), model.predict(x), model.predict_on_batch(x)):
            np.testing.assert_array_equal(found, wanted)

    def test_tensors_of_strings(self):
        texts = ops.convert_to_tensor([["a b"], ["c"]])
        model = text_model()
        assert texts.shape == (2, 1) and texts.dtype == "string" and texts.numpy().tolist() == [["a b"], ["c"]]
        np.testing.assert_array_equal(model(texts).numpy(), model.predict(texts))
        assert ops.convert_to_tensor("a", dtype="string").shape == ()

    def test_columns_of_pandas(self):
        pandas = pytest.importorskip("pandas")
        model = text_model()
        np.testing.assert_array_equal(model.predict(pandas.Series(["a b", "c"])), model.predict(["a b", "c"]))

    def test_batches_are_padded_each(self):
        model = text_model()
        x = ["a", "a b c", "b b b b b b"] * 20
        found = model.predict(x, batch_size=1)
        np.testing.assert_array_equal(found[:3], np.concatenate([model.predict([each]) for each in x[:3]]))

    def test_shuffled_batches(self):
        model = compiled(text_model(), "adam")
        x, y = np.array(["a", "b"] * 40), np.array([[1.0, 1.0], [-1.0, -1.0]] * 40)
        model.fit(x, y, epochs=60, batch_size=16, verbose=0, validation_split=0.1)
        first = model.evaluate(x, y, verbose=0)
        assert first < 0.9 and np.isclose(model.test_on_batch(x, y), first, rtol=1e-4)
        assert model.train_on_batch(x, y) < 0.9

    def test_streams(self):
        model = compiled(text_model())

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, index):
                return np.array(["a", "b c"]), np.zeros((2, 2))

        assert model.predict(Batches()).shape == (6, 2)
        model.fit(Batches(), epochs=2, verbose=0)
        model.fit(((["a", "b"], np.zeros((2, 2))) for _ in range(4)), steps_per_epoch=4, verbose=0)
        assert model.evaluate(Batches(), verbose=0) >= 0

    def test_text_files(self, tmp_path):
        for label, text in (("no", "a b"), ("yes", "c")):
            (tmp_path / label).mkdir()
            for number in range(3):
                (tmp_path / label / f"{number}.txt").write_text(text)
        data = keras.utils.text_dataset_from_directory(str(tmp_path), batch_size=2, verbose=False)
        model = compiled(keras.Sequential([text_model(), L.Dense(1, "sigmoid")]), "adam", "binary_crossentropy")
        assert len(model.fit(data, epochs=1, verbose=0).history["loss"]) == 1

    def test_a_sequential_without_an_input(self):
        for call in ("predict", "__call__"):
            model = keras.Sequential(
                [L.TextVectorization(vocabulary=["a", "b"]), L.Embedding(4, 2), L.GlobalMaxPooling1D()]
            )
            assert np.shape(getattr(model, call)(np.array(["a b", "b"]))) == (2, 2)
            assert model.inputs[0].dtype == "string"

    def test_several_texts_in_a_dict(self):
        b, a = keras.Input((1,), dtype="string", name="b"), keras.Input((1,), dtype="string", name="a")
        look = [L.StringLookup(vocabulary=[name], output_mode="one_hot")(each) for name, each in (("b", b), ("a", a))]
        model = keras.Model({"b": b, "a": a}, L.Concatenate()(look))
        x = {"a": np.array([["a"]]), "b": np.array([["x"]])}
        assert model.predict(x).tolist() == model(x).numpy().tolist() == [[1, 0, 0, 1]]

    def test_own_training_step(self):
        base = text_model()
        model = compiled(OwnStep(base.inputs, base.outputs[0]), "sgd", None)
        assert model.fit(["a", "b"], np.zeros((2, 2)), verbose=0).history["loss"][0] > 0


class Upper(L.HostLayer):
    def call(self, texts):
        return np.char.upper(texts.astype(str))


class Length(L.HostLayer):
    def call(self, texts):
        return np.array([len(text) for text in texts.ravel()], "float32").reshape(texts.shape)


class Nothing(L.HostLayer):
    def call(self, texts):
        return None


class TestOwnLayers:
    def test_of_strings(self):
        text = keras.Input((1,), dtype="string")
        upper = Upper()(text)
        assert upper.dtype == "string" and upper.shape == (None, 1)
        both = L.Concatenate()([Length()(upper), L.StringLookup(vocabulary=["A"], output_mode="one_hot")(upper)])
        assert keras.Model(text, both).predict(["a", "bcd"]).tolist() == [[1, 0, 1], [3, 1, 0]]

    def test_direct_calls(self):
        assert Upper()(["a"]).numpy().tolist() == ["A"] and Length()("abc").numpy() == 3


class TestGraphs:
    def test_a_model_that_is_called_twice(self):
        inner = text_model()
        a, b = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="string")
        model = keras.Model([a, b], L.Subtract()([inner(a), inner(b)]))
        found = model.predict([["a", "b c"], ["b c", "a"]])
        np.testing.assert_allclose(found[0], -found[1], rtol=1e-5)
        assert np.abs(found).max() > 0

    def test_strings_between_two_layers(self):
        number = keras.Input((1,), dtype="int64")
        text = L.StringLookup(vocabulary=["a", "b"], invert=True)(number)
        model = keras.Model(number, L.TextVectorization(vocabulary=["b"], output_sequence_length=1)(text))
        assert text.dtype == "string" and model.predict(np.array([[1], [2]])).tolist() == [[1], [2]]

    def test_copies(self, model_of):
        x = data_of("masked")
        for copy in (copying.deepcopy, lambda model: pickle.loads(pickle.dumps(model))):
            close(copy(model_of("masked")).predict(x), OUTPUTS["masked"])

    def test_a_model_is_freed(self):
        model = text_model()
        model.predict(["a"])
        gone = weakref.ref(model._host_part)
        del model
        gc.collect()
        assert gone() is None

    def test_a_loss_that_is_added(self):
        base = text_model()
        model = keras.Model(base.inputs, base.outputs[0])
        model.add_loss(ops.mean(ops.square(base.outputs[0])))
        model.compile("sgd")
        assert model.fit(["a", "b"], verbose=0).history["loss"][0] > 0


def symbol(dtype="float32", shape=(1,)):
    return keras.Input(shape, dtype=dtype)


WANTS_STRINGS = "takes strings, an array or a list of str, received"
test_mistakes_are_explained = mistakes(
    [
        (lambda: Nothing()(["a"]), TypeError, "must return NumPy arrays of numbers or of str, received None"),
        (
            lambda: Around(L.StringLookup(vocabulary=["a"])).predict(np.array(["a"])),
            TypeError,
            r"x must hold numbers or booleans, received dtype <U1 \(models made with Input",
        ),
        (lambda: L.StringLookup(vocabulary=["a"])(symbol()), TypeError, "takes strings, received <KerasTensor shape="),
        (lambda: text_model()(symbol()), TypeError, f"input 'input_layer.*' {WANTS_STRINGS} <KerasT"),
        (
            lambda: text_model().predict(np.array([["a"], [None]], object)),
            TypeError,
            r"takes strings, but it has missing values .* in 1 of 2 rows \(1, counted",
        ),
        (
            lambda: text_model().predict(np.array([[b"\xff"]])),
            ValueError,
            "bytes given as a string must be UTF-8, received",
        ),
        (
            lambda: keras.Model(number := symbol("int64"), L.StringLookup(vocabulary=["a"], invert=True)(number)),
            ValueError,
            "holds strings, but the outputs of a model are numbers: end the model before",
        ),
        (
            lambda: text_model(words=3).predict(["c"]),
            ValueError,
            "holds numbers from 4 to 4, but layer .* looks them up in a table of 3 rows",
        ),
        (lambda: text_model().predict(np.array([["a", "b"]])), ValueError, r"expects shape \(None, 1\), received"),
        (
            lambda: L.TextVectorization()(symbol("string", (3,))),
            ValueError,
            r"splits strings of shape \(batch,\) or \(batch, 1\), received",
        ),
    ]
)


class TestErrors:
    def test_layers_of_numbers(self):
        text = keras.Input((1,), dtype="string")
        sentence = "takes numbers, received a tensor of strings: strings go into TextVectorization, StringLookup"
        for call in (
            L.Dense(2),
            L.Flatten(),
            L.IntegerLookup(vocabulary=[1]),
            L.Lambda(lambda x: x),
            ops.sum,
            lambda x: x + 1,
            keras.Sequential([L.Dense(1, input_shape=(1,))]),
        ):
            with pytest.raises(TypeError, match=sentence):
                call(text)

    @pytest.mark.parametrize("call", ["predict", "predict_on_batch", "__call__"])
    def test_numbers_for_strings(self, call):
        with pytest.raises(
            TypeError, match=r"input 'input_layer.*' takes strings, an array or a list of str, received"
        ):
            getattr(text_model(), call)(np.ones((2, 1)))

    def test_a_long_string_takes_no_table_of_long_strings(self):
        x = np.array(["a"] * 9_999 + ["b" * 10_000_000], object)  # 400 GB as an array of dtype U
        assert L.StringLookup(vocabulary=["a"], num_oov_indices=2)(x).numpy()[:2].tolist() == [2, 2]

    @pytest.mark.parametrize("mode", ["multi_hot", "count"])
    def test_a_long_string_takes_no_memory_for_each_word_and_term(self, mode):
        """A one-hot vector for each word, or a row of words for each text, would take 240 MB or more here."""
        layer = L.TextVectorization(vocabulary=["a", "b"], output_mode=mode, max_tokens=2_000, pad_to_max_tokens=True)
        found = layer(np.array(["a"] * 999 + ["b " * 30_000], object)).numpy()
        assert found.shape == (1000, 2_000) and found[0, :3].tolist() == [0, 1, 0]
        assert found[-1, 2] == (30_000 if mode == "count" else 1) and found[-1].sum() == found[-1, 2]

    def test_strings_in_a_recorded_function(self):
        model = text_model()
        with pytest.raises(ValueError, match="strings cannot be in a recorded step"):
            keras.jit(lambda x: model(["a"]) * x)(ops.ones(()))


def test_import_loads_no_strings():
    """The modules for strings are imported with the first string."""
    model = "nbkeras.Sequential([nbkeras.layers.Dense(1, input_shape=(2,))])"
    code = f"import nbkeras, sys; {model}.predict([[1.0, 2.0]]); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    rooms = {"nbkeras.engine.strings", "nbkeras.building.host_graph", "nbkeras.data.host_batches"}
    assert not rooms & set(run.stdout.split())


@pytest.mark.cpu("models on a GPU are not frozen or exported")
class TestInference:
    def test_open_lengths(self, model_of):
        with pytest.raises(
            ValueError, match="the size of axis 1 of input 'inner_words' is open.* or output_sequence_length"
        ):
            model_of("nested").frozen()

    @pytest.mark.parametrize("name", ["sequential", "encoded", "multi_hot", "tf_idf", "crossed", "hashed"])
    def test_frozen_models(self, name, model_of, tmp_path):
        model, x = model_of(name), data_of(name)
        frozen = model.frozen(batch_sizes=(1, 4))
        frozen.save(tmp_path / "model.frozen")
        loaded = keras.inference.Frozen.load(tmp_path / "model.frozen")
        for each in (frozen, loaded, pickle.loads(pickle.dumps(frozen))):
            close(each(x), OUTPUTS[name])
            assert each.inputs == frozen.inputs and np.dtype(object) in [spec.dtype for spec in each.inputs]
        loaded.replace(model)
        close(loaded(x), OUTPUTS[name])

    def test_later_vocabularies_do_not_change_it(self):
        layer = L.TextVectorization(vocabulary=["a", "b"], output_sequence_length=1)
        model = keras.Sequential([keras.Input((1,), dtype="string"), layer, L.Embedding(4, 1), L.Flatten()])
        frozen = model.frozen()
        before = frozen(["a", "b"])
        layer.set_vocabulary(["b", "a"])
        np.testing.assert_array_equal(frozen(["a", "b"]), before)
        np.testing.assert_array_equal(model.predict(["b", "a"]), before)

    def test_numbers_and_wrong_strings_are_refused(self):
        frozen = text_model(output_sequence_length=2).frozen()
        for call in (frozen, lambda x: frozen.run([x])):
            with pytest.raises(TypeError, match="takes strings, an array or a list of str, received"):
                call(np.zeros((1, 1), "int64"))
        with pytest.raises(ValueError, match=r"expects shape \(None, 1\), received"):
            frozen(np.array([["a", "b"]]))

    def test_a_damaged_bundle(self):
        bundle = text_model(output_sequence_length=2).frozen()._state.bundle
        other = keras.Model(i := keras.Input((1,), dtype="string"), [L.Hashing(3)(i), L.Hashing(4)(i)]).frozen()
        for host, message in (
            (other._state.bundle.host, "its host part makes 2 arrays, and its program takes 1"),
            ("{}", ""),
        ):
            with pytest.raises(ValueError, match=f"'file' is damaged: its programs do not run .*{message}"):
                keras.inference.Frozen._of(bundle._replace(host=host), "file")

    def test_another_length_than_the_frozen_one(self):
        frozen = text_model().frozen(input_signature=[(None, 2)])
        assert frozen(["a b"]).shape == (1, 2)
        for call in (frozen, lambda x: frozen.run([np.array([x], object)])):
            with pytest.raises(
                ValueError, match=r"of shape \(1, 3\) and dtype int64, but the model was frozen for \(None, 2\)"
            ):
                call(["a b c"])

    CHANGES = {
        "a lambda": {
            "class_name": "Lambda",
            "config": {"name": "h", "function": {"class_name": "__lambda__", "config": {}}},
        },
        "a file": {"class_name": "StringLookup", "config": {"name": "h", "vocabulary": "/etc/passwd"}},
        "a large table": {"class_name": "StringLookup", "config": {"name": "h", "num_oov_indices": 10**12}},
        "numbers": {"class_name": "Dense", "config": {"name": "h", "units": 10**9}},
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_hostile_layers_in_a_bundle(self, change):
        model = keras.Sequential([keras.Input((1,), dtype="string"), L.Hashing(3, name="h")])
        bundle = model.frozen()._state.bundle
        config = json.loads(bundle.host)
        config["config"]["layers"][1].update(self.CHANGES[change])
        with pytest.raises(ValueError, match="'file' is damaged: its programs do not run"):
            keras.inference.Frozen._of(bundle._replace(host=json.dumps(config)), "file")

    def test_exports_take_numbers(self, model_of, tmp_path, capsys):
        onnx_reference = pytest.importorskip("onnx.reference")
        model, x = model_of("hashed"), data_of("hashed")
        model.export(tmp_path / "model.onnx")
        sentence = (
            "Layers that take strings are outside: the file takes numbers, hashed, which nbkeras.export.host_inputs"
        )
        assert sentence in capsys.readouterr().out
        arrays = keras.export.host_inputs(model, x)
        found = onnx_reference.ReferenceEvaluator(str(tmp_path / "model.onnx")).run(None, arrays)[0]
        np.testing.assert_allclose(found, OUTPUTS["hashed"], rtol=1e-4)
        with pytest.raises(ValueError, match="takes no strings: its file takes the arrays that `predict` takes"):
            keras.export.host_inputs(keras.Sequential([L.Dense(1, input_shape=(1,))]), x)

    def test_streams(self):
        with pytest.raises(ValueError, match="takes strings, which have no steps"):
            text_model().stream()


def write_for_keras(folder):
    """Write files for `scripts/make_strings_references.py check`."""
    folder = pathlib.Path(folder)
    for name in INPUTS:
        with zipfile.ZipFile(FOLDER / "models.zip") as archive:
            (folder / "source.keras").write_bytes(archive.read(f"{name}.keras"))
        model = keras.saving.load_model(folder / "source.keras")
        (folder / "source.keras").unlink()
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", model.predict(data_of(name), verbose=0))
