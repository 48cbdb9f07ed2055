"""Sparse matrices of scipy and tables of pandas as data: the same numbers as dense arrays give."""

import contextlib
import datetime
from decimal import Decimal

import numpy as np
import pytest
import scipy.sparse

from nbkeras import layers, utils
from nbkeras.layers import Input
from nbkeras.models import Model, Sequential

pandas = pytest.importorskip("pandas")
RNG = np.random.default_rng(0)
DENSE = RNG.random((30, 6)) * (RNG.random((30, 6)) < 0.3)
Y = RNG.random((30, 1))


def regression(width=6):
    model = Sequential([layers.Dense(1, input_shape=(width,), kernel_initializer="ones")])
    model.compile("sgd", "mse")
    return model


class Subclass(Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)


def history(x, model=regression, **options):
    utils.set_random_seed(3)
    made = model()
    made.compile("sgd", "mse")
    options = {"y": Y, "epochs": 2, "batch_size": 8, "verbose": 0} | options
    return made.fit(x, options.pop("y"), **options).history


# -------------------- sparse matrices --------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_is_as_dense(kind, form):
    sparse, model = kind(DENSE).asformat(form), regression()
    np.testing.assert_array_equal(model.predict(sparse, batch_size=7), model.predict(DENSE, batch_size=7))
    np.testing.assert_array_equal(model.predict_on_batch(sparse), model.predict_on_batch(DENSE))
    assert model.evaluate(sparse, Y, verbose=0) == model.evaluate(DENSE, Y, verbose=0)
    assert model.test_on_batch(sparse, Y) == model.test_on_batch(DENSE, Y)
    for made in (regression, Subclass, lambda: Sequential([layers.Dense(1, kernel_initializer="ones")])):
        assert history(sparse, made) == history(DENSE, made)


@pytest.mark.parametrize(
    "options",
    [{"shuffle": False}, {"shuffle": "batch"}, {"sample_weight": np.arange(30.0)}, {"steps_per_epoch": 3}],
)
def test_sparse_data_is_trained_on_as_dense(options):
    sparse = scipy.sparse.csr_matrix(DENSE)
    assert history(sparse, **options) == history(DENSE, **options)
    found = history(sparse, validation_data=(scipy.sparse.coo_matrix(DENSE), Y), **options)
    assert found == history(DENSE, validation_data=(DENSE, Y), **options)


def test_the_last_rows_of_sparse_data_are_split_off():
    assert history(scipy.sparse.csr_matrix(DENSE), validation_split=0.3) == history(DENSE, validation_split=0.3)


def test_sparse_beside_dense_and_in_streams():
    a, b = Input((6,), name="a"), Input((2,), name="b")
    model = Model([a, b], layers.Dense(1)(layers.concatenate([a, b])))
    sparse, more = scipy.sparse.csr_matrix(DENSE), RNG.random((30, 2))
    expected = model.predict([DENSE, more])
    for x in ([sparse, more], {"b": scipy.sparse.csr_matrix(more), "a": sparse}, iter([([sparse, more],)])):
        np.testing.assert_array_equal(model.predict(x), expected)
    streams = (((x, Y) for _ in range(2)) for x in (sparse, DENSE))
    found, expected = (history(x, y=None, steps_per_epoch=1, batch_size=None) for x in streams)
    assert found == expected


@pytest.mark.big
def test_the_whole_is_never_dense():
    """It would take 40 GB. The user's matrix does not change."""
    places = RNG.integers(0, 100_000, 500)
    sparse = scipy.sparse.csr_matrix((np.ones(500), (places, places)), shape=(100_000, 100_000))
    model = Sequential([layers.Dense(1, input_shape=(100_000,))])
    model.compile("sgd", "mse")
    y, sizes = (
        np.zeros((100_000, 1)),
        {"batch_size": 2, "validation_batch_size": 2, "validation_steps": 1, "verbose": 0},
    )
    model.fit(sparse, y, steps_per_epoch=2, validation_split=0.5, **sizes)
    model.fit(sparse, y, steps_per_epoch=1, validation_data=(sparse, y), **sizes)
    assert model.predict(sparse, batch_size=2, steps=2).shape == (4, 1) and sparse.dtype == np.float64


def test_sparse_targets():
    labels, x = RNG.integers(0, 3, 30), RNG.random((30, 4))
    one_hot = np.eye(3)[labels]

    def train(loss, y):
        utils.set_random_seed(1)
        model = Sequential([layers.Dense(3, "softmax", input_shape=(4,))])
        model.compile("sgd", loss, metrics=["accuracy"])
        return model.fit(x, y, verbose=0, class_weight={0: 2.0}).history

    for loss, y in (("categorical_crossentropy", one_hot), ("sparse_categorical_crossentropy", labels[:, None])):
        sparse = scipy.sparse.csr_matrix(y)
        assert train(loss, sparse) == train(loss, y)
    with pytest.raises(ValueError, match="class numbers from 0 to 8"):
        train("sparse_categorical_crossentropy", sparse * 4)


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        (scipy.sparse.csr_matrix((3, 5)), r"expects shape \(None, 6\), received \(None, 5\)"),
        (scipy.sparse.csr_matrix((0, 6)), "the data has no samples"),
        (scipy.sparse.csr_matrix(DENSE * 1j), "must hold numbers or booleans, received dtype complex128"),
    ],
)
def test_sparse_data_that_do_not_fit(sparse, message):
    with pytest.raises((ValueError, TypeError), match=message):
        regression().predict(sparse)


def test_sparse_numbers_of_a_table():
    model = Sequential([layers.Embedding(4, 2, input_length=6)])
    sparse = scipy.sparse.csr_matrix((DENSE > 0).astype(int))
    np.testing.assert_array_equal(model.predict(sparse), model.predict(sparse.toarray()))
    for wrong, message in ((7 * sparse, "from 7 to 7"), (sparse * 2**33, "dtype int32")):
        with pytest.raises(ValueError, match=message):
            model.predict(wrong)


# -------------------- tables --------------------

N = 8
TABLE = pandas.DataFrame(
    {
        "age": np.arange(N),
        "fare": np.linspace(0, 1, N),
        "single": np.ones(N, "float32"),
        "male": [True, False] * 4,
        "missing": pandas.array([1, 2, None, 4] * 2, dtype="Int64"),
        "whole": pandas.array([1, 2, 3, 4] * 2, dtype="Int64"),
        "truth": pandas.array([True, False] * 4, dtype="boolean"),
        "objects": pandas.Series([1, 2.5] * 4, dtype=object),
        "sparse": pandas.arrays.SparseArray([0, 1.0] * 4),
        "kind": pandas.Categorical(["a", "b"] * 4),
        "number": pandas.Categorical([1, 2] * 4),
        "name": ["x"] * N,
        "when": pandas.date_range("2020", periods=N),
        "lasted": pandas.to_timedelta(range(N)),
    }
)
TARGET = pandas.Series(np.linspace(0, 1, N))
NUMBERS = ["age", "fare", "single", "male", "missing", "whole", "truth", "objects", "sparse"]


@pytest.mark.parametrize("names", [*([name] for name in NUMBERS), ["age", "fare"], ["age", "male"], NUMBERS])
def test_tables_are_matrices(names):
    expected = np.array([[np.nan if pandas.isna(v) else float(v) for v in TABLE[name]] for name in names]).T
    model = regression(len(names))
    np.testing.assert_array_equal(model.predict(TABLE[names]), model.predict(expected))
    options = {"y": TARGET, "validation_data": (TABLE[names], TARGET), "sample_weight": TABLE["fare"]}
    y = TARGET.to_numpy()
    plain = {"y": y, "validation_data": (expected, y), "sample_weight": np.linspace(0, 1, N)}
    make = lambda: regression(len(names))  # noqa: E731
    has_gaps = np.isnan(expected).any()
    with pytest.warns(UserWarning, match="so are the data") if has_gaps else contextlib.nullcontext():
        np.testing.assert_equal(history(TABLE[names], make, **options), history(expected, make, **plain))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["age", "kind"], r"'kind' must hold numbers .* dtype category: use its numbers, table\['kind'\].cat.codes"),
        (["number"], "column 'number' .* category"),
        (["age", "name"], "column 'name' .* StringLookup"),
        (["when"], "column 'when' .*total_seconds"),
        (["lasted", "age"], "column 'lasted' .*total_seconds"),
    ],
)
def test_columns_that_are_no_numbers(names, message):
    with pytest.raises(TypeError, match=message):
        regression(len(names)).predict(TABLE[names])
    with pytest.raises(TypeError, match="y must hold numbers"):
        regression(1).fit(TABLE[["age"]], TABLE[names[-1] if names[-1] != "age" else names[0]], verbose=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "b", 2.0], r"'b' in row 1 \(counted from 0\): make numbers of them by pandas.to_numeric\(table\['c'\]"),
        (["1", "?", "2"], "received '1' in row 0 .* pandas.to_numeric"),
        (["1,000"] * 3, r"received '1,000' in row 0 .* thousands=','"),
        ([None, "a", "b"], "received 'a' in row 1 .* StringLookup"),
        ([Decimal("1.5")] * 3, "in row 0 .* pandas.to_numeric"),
        ([datetime.date(2020, 1, 1)] * 3, "date.* in row 0 .* pandas.to_datetime"),
        (pandas.date_range("2020", periods=3, tz="UTC"), "dtype datetime.*total_seconds"),
        (pandas.period_range("2020", periods=3, freq="D"), "dtype period.*dt.year"),
        ([[1, 2]] * 3, r"a number in each row, received \[1, 2\] in row 0 .* numpy.stack"),
        ([[1, 2], [1], []], r"a number in each row, received \[1, 2\] in row 0 .* numpy.stack"),
    ],
    ids=[*("mixed", "numbers", "thousands", "words", "decimals", "dates", "zone", "periods", "lists", "ragged")],
)
def test_the_first_value_that_is_no_number_is_shown(values, message):
    table = pandas.DataFrame({"age": range(3), "c": values})
    with pytest.raises(TypeError, match=f"column 'c' must hold .*{message}"):
        regression(2).fit(table, np.zeros(3), verbose=0)


def test_labels_as_targets_have_their_own_advice():
    with pytest.raises(TypeError, match="y must hold numbers .* received 'yes' in row 0 .* comparison with one of"):
        regression(1).fit(np.ones((2, 1)), pandas.Series(["yes", "no"]), verbose=0)


@pytest.mark.parametrize("values", [[1, pandas.NA, 3], [True, None, False], [None, 2.5, 1]])
def test_objects_with_gaps_are_numbers_with_nan(values):
    table = pandas.DataFrame({"age": range(3), "c": pandas.Series(values, dtype=object)})
    expected = [np.nan if pandas.isna(value) else float(value) for value in values]
    np.testing.assert_array_equal(regression(2).predict(table), regression(2).predict(np.array([range(3), expected]).T))


def by_columns(as_dict=False):
    """A model with an input for each of two columns, and two outputs."""
    fare, age = Input((1,), name="fare"), Input((), name="age")
    inputs = {"age": age, "fare": fare} if as_dict else [fare, age]
    joined = layers.concatenate([fare, layers.Reshape((1,))(age)])
    outputs = [layers.Dense(1, name=name, kernel_initializer="ones")(joined) for name in ("p", "q")]
    return Model(inputs, outputs)


@pytest.mark.parametrize("as_dict", [False, True])
def test_columns_by_the_names_of_inputs_and_outputs(as_dict):
    targets = pandas.DataFrame({"q": np.zeros(N), "p": np.ones(N)})
    arrays = {"age": np.arange(N), "fare": np.linspace(0, 1, N)}
    y = {"p": np.ones((N, 1)), "q": np.zeros((N, 1))}
    make = lambda: by_columns(as_dict)  # noqa: E731
    expected = history(arrays, make, y=y, validation_split=0.25)
    assert history(TABLE, make, y=targets, validation_split=0.25) == expected
    assert history(dict(TABLE[["age", "fare"]]), make, y=dict(targets), validation_split=0.25) == expected
    stream = ((TABLE, targets) for _ in range(2))
    assert len(history(stream, make, y=None, steps_per_epoch=1)["loss"]) == 2
    with pytest.raises(ValueError, match=r"inputs \['fare'\] are missing: received \['age', 'male'\]"):
        by_columns(as_dict).predict(TABLE[["age", "male"]])
    with pytest.raises(ValueError, match="y names 'z', which is not an output"):
        history(TABLE, make, y=targets.assign(z=1))


def test_columns_of_vectors():
    vectors = pandas.Series(list(np.ones((N, 6))))
    assert regression().predict(vectors).shape == (N, 1)
    with pytest.raises(ValueError, match="rows differ in length"):
        regression().predict(pandas.Series([[1.0] * 6, [1.0]] * 4))
