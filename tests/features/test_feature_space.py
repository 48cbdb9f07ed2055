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
    with pytest.raises(
        ValueError, match=r"feature 'town' has missing values .* in 1 of 100 rows \(3, counted from 0\): drop"
    ):
        space.adapt(frame)


def test_frames_of_polars(adapted):
    polars = pytest.importorskip("polars", reason="needs polars")
    frame = polars.DataFrame({name: np.asarray(column).tolist() for name, column in TABLE.items()})
    np.testing.assert_allclose(adapted(frame).numpy(), adapted(TABLE).numpy(), rtol=1e-6)
    gaps = frame.with_columns(town=polars.Series([None, "a"] * 50))
    with pytest.raises(
        ValueError, match=r"feature 'town' has missing values .* in 50 of 100 rows \(0, 2, 4, 6, 8, \.\.\., co"
    ):
        adapted(gaps)
    space = FeatureSpace({"town": FeatureSpace.string_categorical(missing="oov")})
    space.adapt(gaps)
    np.testing.assert_array_equal(space(gaps).numpy()[:2], [[1, 0], [0, 1]])


def test_rows_are_encoded_one_by_one_as_together(adapted):
    together = adapted(ROWS[:4]).numpy()
    for row, expected in zip(ROWS[:4], together, strict=True):
        np.testing.assert_array_equal(adapted(row).numpy(), expected)


def test_data_sets_are_encoded_by_map(adapted):
    data = Dataset.from_tensor_slices((ARRAYS, np.arange(100))).batch(30).map(lambda x, y: (adapted(x), y))
    found = np.concatenate([np.asarray(x) for x, _ in data])
    np.testing.assert_array_equal(found, adapted(TABLE).numpy())


# -------------------- missing values --------------------

NAN = float("nan")
GAPS = {
    "size": [1.0, None, 3.0, NAN],
    "age": [30.0, 40.0, NAN, 20.0],
    "grade": [5, None, 5, 6],
    "id": [7, 8, None, 9],
    "colour": ["red", None, "blue", "red"],
    "town": [None, "a", "b", "c"],
}
POLICIES = {
    "size": FeatureSpace.float_normalized(missing="mean"),
    "age": FeatureSpace.float_discretized(None, [25.0, 35.0], missing=50),
    "grade": FeatureSpace.integer_categorical(missing="oov"),
    "id": FeatureSpace.integer_hashed(3, missing=9),
    "colour": FeatureSpace.string_categorical(missing="oov"),
    "town": FeatureSpace.string_hashed(3, missing="oov"),
}
FILLED = {
    "age": [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]],
    "colour": [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]],
    "grade": [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "size": [[-1.0], [0.0], [1.0], [0.0]],
    "size_missing": [[0], [1], [0], [1]],
}


ROWS_WITH_GAPS = [cases.part(GAPS, row) for row in range(4)]


def forms_of_gaps():
    yield "lists", GAPS
    yield "rows", [{name: value for name, value in row.items() if value is not None} for row in ROWS_WITH_GAPS]
    yield "objects", {name: np.array(column, object) for name, column in GAPS.items()}
    yield "floats", {**GAPS, **{name: np.array(GAPS[name], float) for name in ("size", "age", "grade", "id")}}
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    for kinds in (
        {},
        dict.fromkeys(GAPS, object),
        {"size": "Float64", "age": "Float32", "grade": "Int64", "id": "Int32", "colour": "string", "town": "string"},
        {"size": "category", "grade": "category", "colour": "category"},
    ):
        yield f"DataFrame {kinds}", pandas.DataFrame(GAPS).astype(kinds)
    yield "NA", {**GAPS, "grade": [5, pandas.NA, 5, 6], "colour": ["red", pandas.NA, "blue", "red"]}
    yield "NaT", {**GAPS, "colour": ["red", pandas.NaT, "blue", "red"]}


def test_missing_values_become_what_the_types_say():
    for form, table in forms_of_gaps():
        space = FeatureSpace(POLICIES, "dict")
        for data in (table, iter(ROWS_WITH_GAPS if form == "rows" else [table])):
            space.adapt(data)
        encoded = space(table)
        assert list(encoded) == ["age", "colour", "grade", "id", "size", "size_missing", "town"], form
        for name, expected in FILLED.items():
            np.testing.assert_allclose(encoded[name], expected, atol=1e-6, err_msg=f"{form} {name}")
        np.testing.assert_array_equal(encoded["id"][2], encoded["id"][3])
        np.testing.assert_array_equal(encoded["town"][0], space({**cases.part(GAPS, 1), "town": ""})["town"])


def test_indicators_follow_their_feature_and_are_saved():
    names = ("size", "size_b", "colour")
    types = {name: POLICIES.get(name, "float") for name in names}
    table = {"size": GAPS["size"], "size_b": [1, True, 3, 4], "colour": GAPS["colour"]}
    space = FeatureSpace(types)
    space.adapt(table)
    expected = [
        [*colour, size[0], flag[0], b]
        for colour, size, flag, b in zip(
            *map(FILLED.get, ("colour", "size", "size_missing")), [1, 1, 3, 4], strict=True
        )
    ]
    for each in (space, saved(space)):
        np.testing.assert_allclose(each(table), expected, atol=1e-6)
        np.testing.assert_allclose(each(cases.part(table, 1)), expected[1], atol=1e-6)
        assert each.get_encoded_features().shape == (None, 6)


def test_only_a_policy_changes_the_file():
    config = FeatureSpace({"x": "float", "y": FeatureSpace.float(missing=1)}).get_config()["features"]
    assert sorted(config["x"]["config"]) == ["dtype", "output_mode", "preprocessor"]
    assert config["y"]["config"]["missing"] == 1.0


@pytest.mark.cpu("frozen models are for the CPU")
def test_missing_numbers_in_models(tmp_path):
    space = FeatureSpace({"size": POLICIES["size"], "age": POLICIES["age"], "x": FeatureSpace.float(missing=-1)})
    table = {"size": np.array(GAPS["size"], float), "age": np.array(GAPS["age"]), "x": np.array([NAN, 0, 1, 2])}
    space.adapt(table)
    model = Model(space.get_inputs(), layers.Dense(2, use_bias=False)(space.get_encoded_features()))
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(table, np.zeros((4, 2)), verbose=0).history["loss"]).all()
    expected = space(table).numpy() @ model.layers[-1].kernel.numpy()
    model.save(tmp_path / "model.keras")
    kept, frozen = models.load_model(tmp_path / "model.keras"), model.frozen()
    for found in (model.predict(table, verbose=0), kept.predict(table, verbose=0), frozen(table)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_models_of_integers_and_strings_name_missing_rows():
    space = FeatureSpace({"grade": POLICIES["grade"], "colour": POLICIES["colour"]})
    space.adapt(GAPS)
    model = Model(space.get_inputs(), space.get_encoded_features())
    expected = space(GAPS).numpy()
    given = {"grade": np.array([5, -1, 5, 6]), "colour": np.array(["red", "[UNK]", "blue", "red"])}
    np.testing.assert_array_equal(model.predict(given, verbose=0), expected)
    with pytest.raises(ValueError, match=r"'grade' holds NaN .* in 1 of 4 rows \(1, counted from 0\): drop"):
        model.predict({**given, "grade": np.array(GAPS["grade"], float)}, verbose=0)
    with pytest.raises(TypeError, match=r"'colour' takes strings, but it has missing values .* in 1 of 4 rows \(1, co"):
        model.predict({**given, "colour": np.array(GAPS["colour"], object)}, verbose=0)


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
    assert FeatureSpace.__module__ == "nbkeras.preprocessing.features.feature_space"
    assert "feature_space" not in Path(nbkeras.__file__).read_text()


# -------------------- errors --------------------

NUMBERS = {"x": [1.0, 2.0]}
AS_INTEGERS = layers.Identity(dtype="int32")
PAIR, CROSS = {"x": "float", "y": "float"}, {"crosses": [("x", "y")]}


def refused(message, call):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FeatureSpace({}), "FeatureSpace needs a dict of features, received {}"),
        (lambda: FeatureSpace(["float"]), "needs a dict of features, received"),
        (lambda: FeatureSpace({"x": "flot"}), "the type of 'x' must be one of 'float'.*received 'flot'"),
        (lambda: FeatureSpace(PAIR, "list"), "output_mode must be 'concat' or 'dict', received 'list'"),
        (lambda: FeatureSpace.string_hashed(3, "multi"), "output_mode must be one of 'int', 'one_hot'"),
        (lambda: FeatureSpace.cross(("a", "b"), 3, "float"), "output_mode must be 'int' or 'one_hot', received"),
        (lambda: FeatureSpace.feature("float32", abs, "float"), "preprocessor must be a layer, received"),
        (lambda: FeatureSpace({"x": "float"}, **CROSS), "a cross names .'y'., expected names of features .'x'."),
        (lambda: FeatureSpace(PAIR, **CROSS, crossing_dim=0), "crosses need crossing_dim, received 0"),
        (lambda: FeatureSpace.float(missing="oov"), "float32 must be 'error' or 'mean', or a finite .* received 'oov'"),
        (lambda: FeatureSpace.integer_hashed(3, missing=0.5), "int32 must be 'error' or 'oov', or .* received 0.5"),
        (lambda: FeatureSpace.string_hashed(3, missing=3), "of your own fill the column, by .fillna"),
        (
            lambda: FeatureSpace.string_categorical(num_oov_indices=0, missing="oov"),
            "needs an index for unknown values: pass num_oov_indices=1",
        ),
        (
            lambda: FeatureSpace({"x": FeatureSpace.float(missing="mean"), "x_missing": "float"}),
            "adds outputs of the names .'x_missing'., which features have",
        ),
        (lambda: FeatureSpace(PAIR).save("space.h5"), "name ends in .keras, received 'space.h5'"),
    ],
)
def test_declarations_that_are_refused(call, message):
    refused(message, call)


@pytest.mark.parametrize(
    ("types", "table", "message"),
    [
        ("float_normalized", NUMBERS, "must learn its features .'x'. first: call adapt"),
        ("float", [1.0], "takes a dict of arrays or lists, a DataFrame"),
        ({"y": "float"}, NUMBERS, "no values for the features .'y'.*columns are .'x'."),
        (PAIR, [{"x": 1}], "no values for the features"),
        ("float", {"x": [1.0, None]}, "feature 'x' has missing values"),
        ("float", {"x": NAN}, r"in 1 of 1 rows .0, counted from 0.: drop .* the feature missing='mean', or a number"),
        (
            "float",
            {"x": np.array(["2020-01-01"], "M8[D]")},
            r"'x' must hold numbers .* datetime64\[D\]: subtract a date",
        ),
        (
            FeatureSpace.float(missing=0),
            {"x": [1, "a", None]},
            "feature 'x' must hold numbers or strings.* values of the types NoneType, int, str",
        ),
        ("integer_hashed", {"x": [{}, "a"]}, "must hold numbers or strings"),
        ("float", {"x": [[1.0], [1.0, 2.0]]}, "must hold numbers or strings"),
        (
            FeatureSpace.integer_hashed(3, "int"),
            {"x": [1]},
            "because 'x' has dtype int64: give its type output_mode='one_hot', or make the .* with output_mode='dict'",
        ),
        (
            FeatureSpace.feature("int32", AS_INTEGERS, "int"),
            {"x": [1]},
            "because 'x' has dtype int32: let its layer return floats, or make the .* with output_mode='dict'",
        ),
        (
            FeatureSpace.feature("float32", layers.Rescaling(2.0), "one_hot"),
            NUMBERS,
            "feature 'x' has output_mode 'one_hot', so its layer must return integers, received dtype float32",
        ),
        (
            FeatureSpace.feature("int32", AS_INTEGERS, "one_hot"),
            {"x": [1]},
            "its layer, Identity, does not say how many integers it returns: .* floats and use output_mode='float'",
        ),
    ],
)
def test_tables_that_are_refused(types, table, message):
    space = FeatureSpace(types if isinstance(types, dict) else {"x": types})
    refused(message, lambda: space(table))


def test_crosses_of_floats_are_refused():
    space = FeatureSpace(PAIR, **CROSS)
    refused("takes integers or strings, received dtype float32", lambda: space({"x": 1.0, "y": 2.0}))


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("float_normalized", [{"x": [1.0]}, {"x": [2.0, None]}], "in 1 of 2 rows .1, counted from 0. of item 1"),
        (
            FeatureSpace.float(missing="mean"),
            {"x": [None]},
            "'x_missing' cannot learn a mean, .* all values are missing",
        ),
        ("float_normalized", {"x": [1.0, np.inf]}, "'x' has infinite values in 1 of 2 rows .1, .* so it has no mean"),
        ("float_normalized", {"x": ["1.5", "b"]}, "'x' takes numbers, .* such as '1.5': .* type string_categorical"),
        (
            "string_categorical",
            {"x": [1, 2]},
            "'x' takes strings, .* dtype int32: give it the type integer_categorical",
        ),
        ("float_normalized", 3, "or batches of dicts, received 3"),
        ("float_normalized", [np.ones(3)], "takes batches that are dicts or DataFrames, received a batch"),
        ("float_normalized", {"x": []}, "needs data, received none"),
        ("float_normalized", [], "needs data, received none"),
    ],
)
def test_data_from_which_nothing_is_learnt(kind, data, message):
    refused(message, lambda: FeatureSpace({"x": kind}).adapt(iter(data) if isinstance(data, list) else data))


SIZE = "config.features.size.config"
LAYER = f"{SIZE}.preprocessor"
WORDS = "config.features.colour.config.preprocessor.config"
PRODUCT = "config.crosses.0.config"


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (SIZE, {"missing": [1]}, "missing must be a number, received"),
        (LAYER, {"class_name": "Lambda", "module": "keras.layers"}, "nbkeras runs no code of files"),
        (
            LAYER,
            {"class_name": "system", "module": "os", "registered_name": "os>system"},
            "unknown layer: 'system' of module 'os'",
        ),
        (SIZE, {"preprocessor": "os.system"}, "preprocessor must be a layer, received 'os.system'"),
        ("config.features", {"size": [1, 2]}, "the type of 'size' must be one of"),
        ("config.features.size", {"class_name": "Cross"}, "expected the configuration of a Feature"),
        ("config", {"features": []}, "needs a dict of features, received"),
        ("config", {"crosses": 3}, "FeatureSpace.from_config takes the dict"),
        (PRODUCT, {"feature_names": ["colour", "none"]}, "a cross names .'none'., expected names of features"),
        (PRODUCT, {"crossing_dim": -1}, "num_bins must be a positive integer, received -1"),
        (PRODUCT, {"crossing_dim": 2**40}, "too much for a file of this size"),
        (WORDS, {"vocabulary": "/etc/passwd"}, "loading a model may not read other files"),
        (WORDS, {"num_oov_indices": 2**40}, "too much for a file of this size"),
        ("config", {"run": "rm"}, "cannot be made from its configuration"),
        ("build_config", {"other": {"input_shape": [None, 1]}}, "not of the expected form: KeyError: 'other'"),
        ("build_config", {"income": {"input_shape": [None, 2**40]}}, "too much for a file of this size"),
        ("", {"build_config": "x"}, "not of the expected form"),
    ],
)
def test_hostile_files_are_refused_in_words(place, change, message):
    content, made = zipfile.ZipFile(file("feature_space.keras")), io.BytesIO()
    with zipfile.ZipFile(made, "w") as written:
        for name in content.namelist():
            text = content.read(name)
            if name == "config.json":
                config = found = json.loads(text)
                for key in filter(None, place.split(".")):
                    found = found[int(key) if key.isdecimal() else key]
                found.update(change)
                text = json.dumps(config).encode()
            written.writestr(name, text)
    with pytest.raises(ValueError, match=message) as caught:
        models.load_model(made)
    assert is_meant(caught.value)
