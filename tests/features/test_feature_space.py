"""FeatureSpace: numbers, shapes, dtypes and files of Keras; forms of tables; models that begin with raw features; errors."""

import io
import json
import sys
import zipfile
from pathlib import Path

import feature_space_cases as cases
import numpy as np
import pytest

from nbkeras import Model, Sequential, layers, models
from nbkeras.compat.tensorflow.data import Dataset
from nbkeras.engine.user_errors import is_meant
from nbkeras.utils import FeatureSpace, PyDataset

REFERENCE = Path(__file__).parents[1] / "reference"
EXPECTED = np.load(REFERENCE / "tables.npz")
TABLE = cases.table()
nbkeras = sys.modules["nbkeras"]


def file(name):
    with zipfile.ZipFile(REFERENCE / "tables.zip") as files:
        return io.BytesIO(files.read(name))


def check(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def saved(space):
    content = io.BytesIO()
    space.save(content)
    return models.load_model(content)


@pytest.mark.parametrize("name", cases.CASES)
def test_numbers_of_keras(name):
    space, tables = cases.CASES[name](nbkeras)
    expected = {key.removeprefix(f"{name} "): EXPECTED[key] for key in EXPECTED if key.startswith(f"{name} ")}
    for each in (space, saved(space)):
        found = cases.encoded(each, tables)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            check(value, expected[key])


def test_a_file_of_keras_gives_its_numbers():
    space = models.load_model(file("feature_space.keras"))
    _, tables = cases.all_types(nbkeras)
    for each in (space, saved(space)):
        for key, value in cases.encoded(each, tables).items():
            check(value, EXPECTED[f"all_types {key}"])


def test_a_file_of_keras_2_gives_its_numbers():
    space = models.load_model(file("feature_space_of_keras_2.keras"))
    for each in (space, saved(space)):
        check(each(cases.part(TABLE, slice(0, 9))).numpy(), EXPECTED["of_keras_2"])


def test_a_model_that_begins_with_raw_numbers(tmp_path):
    kept = models.load_model(file("feature_model.keras"))
    check(kept.predict(cases.numbers(), verbose=0), EXPECTED["numbers_model"])
    own = cases.numbers_model(nbkeras)
    own.set_weights(kept.get_weights())
    check(own.predict(cases.numbers(), verbose=0), EXPECTED["numbers_model"])
    own.save(tmp_path / "model.keras")
    check(models.load_model(tmp_path / "model.keras").predict(cases.numbers(), verbose=0), EXPECTED["numbers_model"])


# -------------------- forms of tables --------------------


class Batches(PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return cases.part(ARRAYS, slice(32 * index, 32 * (index + 1))), np.zeros(32)


ARRAYS = {name: np.array(column) for name, column in TABLE.items()}
ROWS = [cases.part(TABLE, row) for row in range(100)]
FORMS = {
    "objects": lambda: {name: np.array(column, object if name == "town" else None) for name, column in TABLE.items()},
    "bytes": lambda: {**TABLE, "town": [town.encode() for town in TABLE["town"]]},
    "further columns": lambda: {**TABLE, "other": [None] * 100},
    "rows": lambda: ROWS,
    "generator of rows": lambda: iter(ROWS),
    "generator with targets": lambda: (Batches(workers=1)[i] for i in range(4)),
    "PyDataset": lambda: Batches(workers=1),
    "tf.data": lambda: Dataset.from_tensor_slices(ARRAYS).batch(32),
}


@pytest.fixture(scope="module")
def adapted():
    return cases.all_types(nbkeras)[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_teaches_the_same(form, adapted):
    space = FeatureSpace(cases.TYPES, hashing_dim=6, num_discretization_bins=5)
    space.adapt(FORMS[form]())
    rows = cases.part(TABLE, slice(0, 9))
    np.testing.assert_array_equal(space(rows).numpy(), adapted(rows).numpy()[:, : space(rows).shape[1]])


def test_data_frames(adapted):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({**TABLE, "target": 1.0}).astype({"colour": "category", "grade": "Int64"})
    space = FeatureSpace(cases.TYPES, hashing_dim=6, num_discretization_bins=5)
    space.adapt(frame)
    expected = adapted(TABLE).numpy()
    np.testing.assert_array_equal(space(frame).numpy(), expected[:, : space(frame).shape[1]])
    np.testing.assert_array_equal(adapted(frame).numpy(), expected)
    frame.loc[3, "town"] = None
    with pytest.raises(TypeError, match="feature 'town' must hold numbers or strings.*fill missing values first"):
        space.adapt(frame)


def test_frames_of_polars(adapted):
    polars = pytest.importorskip("polars", reason="needs polars")
    frame = polars.DataFrame({name: np.asarray(column).tolist() for name, column in TABLE.items()})
    np.testing.assert_allclose(adapted(frame).numpy(), adapted(TABLE).numpy(), rtol=1e-6)
    with pytest.raises(TypeError, match="feature 'town' must hold numbers or strings"):
        adapted(frame.with_columns(town=polars.lit(None)).with_columns(town=polars.Series([None, "a"] * 50)))


def test_rows_are_encoded_one_by_one_as_together(adapted):
    together = adapted(ROWS[:4]).numpy()
    for row, expected in zip(ROWS[:4], together, strict=True):
        np.testing.assert_array_equal(adapted(row).numpy(), expected)


def test_data_sets_are_encoded_by_map(adapted):
    data = Dataset.from_tensor_slices((ARRAYS, np.arange(100))).batch(30).map(lambda x, y: (adapted(x), y))
    found = np.concatenate([np.asarray(x) for x, _ in data])
    np.testing.assert_array_equal(found, adapted(TABLE).numpy())


# -------------------- models --------------------


def test_a_model_trains_on_encoded_tables(adapted):
    x, y = adapted(TABLE).numpy(), (TABLE["income"] > 20).astype("float32")
    model = Sequential([layers.Input(x.shape[1:]), layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy")
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_model_from_raw_numbers_trains():
    space = FeatureSpace({"size": "float", "grade": "integer_categorical"}, "dict", [])
    space.adapt(TABLE)
    encoded = space.get_encoded_features()
    assert {name: each.shape for name, each in encoded.items()} == {"grade": (None, 6), "size": (None, 1)}
    assert {name: each.dtype.name for name, each in space.get_preprocessed_features().items()} == {
        "size": "float32",
        "grade": "int64",
    }
    model = Model(space.get_inputs(), layers.Dense(1)(layers.Concatenate()([encoded["grade"], encoded["size"]])))
    model.compile("sgd", "mse")
    x = {name: TABLE[name][:, None] for name in ("size", "grade")}
    losses = model.fit(x, TABLE["age"] / 80, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(model(x).numpy(), model.predict(x, verbose=0), rtol=1e-5)


def test_adapting_again_learns_anew():
    space = FeatureSpace({"colour": "string_categorical"})
    for colours, size in ((["a", "b"], 3), (["a", "b", "c", "d"], 5)):
        space.adapt({"colour": colours})
        assert space({"colour": "a"}).shape == (size,)
        assert space.preprocessors["colour"].vocabulary_size() == size


def test_boundaries_and_vocabularies_that_are_given_need_no_adapt():
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    space = FeatureSpace(
        {"x": FeatureSpace.float_discretized(None, [0.0, 1.0]), "s": FeatureSpace.feature("string", lookup, "one_hot")}
    )
    np.testing.assert_array_equal(space({"x": 0.5, "s": "b"}), [0, 0, 1, 0, 1, 0])


def test_it_is_not_imported_with_nbkeras():
    assert FeatureSpace.__module__ == "nbkeras.features.feature_space"
    assert "feature_space" not in Path(nbkeras.__file__).read_text()


# -------------------- errors --------------------

NUMBERS = {"x": [1.0, 2.0]}
MISTAKES = {
    "no features": (lambda: FeatureSpace({}), "FeatureSpace needs a dict of features, received {}"),
    "a list": (lambda: FeatureSpace(["float"]), "needs a dict of features, received"),
    "unknown type": (lambda: FeatureSpace({"x": "flot"}), "the type of 'x' must be one of 'float'.*received 'flot'"),
    "unknown mode": (
        lambda: FeatureSpace({"x": "float"}, "list"),
        "output_mode must be 'concat' or 'dict', received 'list'",
    ),
    "mode of a feature": (
        lambda: FeatureSpace.string_hashed(3, "multi"),
        "output_mode must be one of 'int', 'one_hot'",
    ),
    "mode of a cross": (
        lambda: FeatureSpace.cross(("a", "b"), 3, "float"),
        "output_mode must be 'int' or 'one_hot', received",
    ),
    "no layer": (lambda: FeatureSpace.feature("float32", abs, "float"), "preprocessor must be a layer, received"),
    "cross of unknown features": (
        lambda: FeatureSpace({"x": "float"}, crosses=[("x", "y")]),
        "a cross names .'y'., expected names of features .'x'.",
    ),
    "no crossing_dim": (
        lambda: FeatureSpace({"x": "float", "y": "float"}, crosses=[("x", "y")], crossing_dim=0),
        "crosses need crossing_dim, received 0",
    ),
    "not adapted": (
        lambda: FeatureSpace({"x": "float_normalized"})(NUMBERS),
        "must learn its features .'x'. first: call adapt",
    ),
    "no table": (lambda: FeatureSpace({"x": "float"})([1.0]), "takes a dict of arrays or lists, a DataFrame"),
    "missing column": (
        lambda: FeatureSpace({"y": "float"})(NUMBERS),
        "no values for the features .'y'.*columns are .'x'.",
    ),
    "rows without a column": (
        lambda: FeatureSpace({"x": "float", "y": "float"})([{"x": 1}]),
        "no values for the features",
    ),
    "missing value": (lambda: FeatureSpace({"x": "float"})({"x": [1.0, None]}), "must hold numbers or strings"),
    "text for a number": (
        lambda: FeatureSpace({"x": "integer_hashed"})({"x": [{}, "a"]}),
        "must hold numbers or strings",
    ),
    "different lengths": (
        lambda: FeatureSpace({"x": "float"})({"x": [[1.0], [1.0, 2.0]]}),
        "must hold numbers or strings",
    ),
    "integers in a vector": (
        lambda: FeatureSpace({"x": FeatureSpace.integer_hashed(3, "int")})({"x": [1]}),
        "cannot join its features, because 'x' has dtype int64",
    ),
    "floats as indicators": (
        lambda: FeatureSpace({"x": FeatureSpace.feature("float32", layers.Rescaling(2.0), "one_hot")})(NUMBERS),
        "feature 'x' has output_mode 'one_hot', so its layer must return integers, received dtype float32",
    ),
    "unknown number of integers": (
        lambda: FeatureSpace({"x": FeatureSpace.feature("int32", layers.Identity(dtype="int32"), "one_hot")})(
            {"x": [1]}
        ),
        "its layer, Identity, does not say how many integers it returns",
    ),
    "cross of floats": (
        lambda: FeatureSpace({"x": "float", "y": "float"}, crosses=[("x", "y")])({"x": 1.0, "y": 2.0}),
        "takes integers or strings, received dtype float32",
    ),
    "adapt to a number": (lambda: FeatureSpace({"x": "float_normalized"}).adapt(3), "or batches of dicts, received 3"),
    "adapt to arrays": (
        lambda: FeatureSpace({"x": "float_normalized"}).adapt([np.ones(3)]),
        "takes batches that are dicts, received a batch",
    ),
    "adapt to nothing": (lambda: FeatureSpace({"x": "float_normalized"}).adapt({"x": []}), "needs data, received none"),
    "adapt to no batches": (
        lambda: FeatureSpace({"x": "float_normalized"}).adapt(iter(())),
        "needs data, received none",
    ),
    "another file": (lambda: FeatureSpace({"x": "float"}).save("space.h5"), "name ends in .keras, received 'space.h5'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    call, message = MISTAKES[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def changed(change):
    """The file of Keras with a changed configuration."""
    content, made = zipfile.ZipFile(file("feature_space.keras")), io.BytesIO()
    with zipfile.ZipFile(made, "w") as written:
        for name in content.namelist():
            text = content.read(name)
            if name == "config.json":
                config = json.loads(text)
                change(config)
                text = json.dumps(config).encode()
            written.writestr(name, text)
    return made


def layer_of(config, feature="size"):
    return config["config"]["features"][feature]["config"]["preprocessor"]


HOSTILE = {
    "a feature of code": (
        lambda c: layer_of(c).update(class_name="Lambda", module="keras.layers"),
        "nbkeras runs no code of files",
    ),
    "a foreign class": (
        lambda c: layer_of(c).update(class_name="system", module="os", registered_name="os>system"),
        "unknown layer: 'system' of module 'os'",
    ),
    "a layer that is text": (
        lambda c: c["config"]["features"]["size"]["config"].update(preprocessor="os.system"),
        "preprocessor must be a layer, received 'os.system'",
    ),
    "a feature that is a list": (
        lambda c: c["config"]["features"].update(size=[1, 2]),
        "the type of 'size' must be one of",
    ),
    "a feature of another class": (
        lambda c: c["config"]["features"]["size"].update(class_name="Cross"),
        "expected the configuration of a Feature",
    ),
    "features that are a list": (lambda c: c["config"].update(features=[]), "needs a dict of features, received"),
    "crosses that are a number": (lambda c: c["config"].update(crosses=3), "FeatureSpace.from_config takes the dict"),
    "a cross of an unknown feature": (
        lambda c: c["config"]["crosses"][0]["config"].update(feature_names=["colour", "none"]),
        "a cross names .'none'., expected names of features",
    ),
    "a negative cross": (
        lambda c: c["config"]["crosses"][0]["config"].update(crossing_dim=-1),
        "num_bins must be a positive integer, received -1",
    ),
    "a huge cross": (
        lambda c: c["config"]["crosses"][0]["config"].update(crossing_dim=2**40),
        "too much for a file of this size",
    ),
    "a vocabulary of another file": (
        lambda c: layer_of(c, "colour")["config"].update(vocabulary="/etc/passwd"),
        "loading a model may not read other files",
    ),
    "huge indices": (
        lambda c: layer_of(c, "colour")["config"].update(num_oov_indices=2**40),
        "too much for a file of this size",
    ),
    "an unknown argument": (lambda c: c["config"].update(run="rm"), "cannot be made from its configuration"),
    "a build of unknown features": (
        lambda c: c["build_config"].update(other={"input_shape": [None, 1]}),
        "not of the expected form: KeyError: 'other'",
    ),
    "a huge build": (
        lambda c: c["build_config"].update(income={"input_shape": [None, 2**40]}),
        "too much for a file of this size",
    ),
    "a build of text": (lambda c: c.update(build_config="x"), "not of the expected form"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_words(name):
    change, message = HOSTILE[name]
    with pytest.raises(ValueError, match=message) as caught:
        models.load_model(changed(change))
    assert is_meant(caught.value)
