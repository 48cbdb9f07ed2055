"""Preprocessing layers give what real Keras gave (reference/make_preprocessing.py), also after a round trip."""

import functools
import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mistakes import mistakes
from preprocessing_cases import BATCHES, CASES, NUMBERS, TEXTS, TOKENS, WORDS

from nbkeras import Input, config, models
from nbkeras import layers as L
from nbkeras.engine import compatibility


@functools.cache
def stored():
    with np.load(Path(__file__).parents[1] / "reference" / "preprocessing.npz", allow_pickle=False) as file:
        return dict(file)


def check_same(found, expected):
    found = np.asarray(found)
    assert found.shape == expected.shape
    if expected.dtype.kind == "f":
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_equals_keras(name):
    kind, arguments, data, inputs = CASES[name]
    layer = getattr(L, kind)(**arguments)
    if data is not None:
        layer.adapt(data)
    check_same(layer(inputs), stored()[name])
    if f"{name} vocabulary" in stored():
        assert [str(term) for term in layer.get_vocabulary()] == stored()[f"{name} vocabulary"].astype(str).tolist()
    if f"{name} boundaries" in stored():
        np.testing.assert_allclose(layer.bin_boundaries, stored()[f"{name} boundaries"], rtol=1e-6)
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    if layer.weights:
        again(inputs)
        again.set_weights(layer.get_weights())
    check_same(again(inputs), stored()[name])


INDICATORS = ("one_hot", "multi_hot", "count")
DTYPES = [  # the dtypes of layer(inputs) and of a symbolic output in Keras 3.15 on TensorFlow, whatever `dtype` a lookup has
    *((kind, mode, "int64", "float32") for kind in ("strings", "integers", "texts") for mode in INDICATORS),
    *((kind, "int", "int64", "int64") for kind in ("strings", "integers", "texts")),
    *((kind, "tf_idf", "float32", "float32") for kind in ("strings", "integers", "texts")),
    *((kind, mode, "float64", "float64") for kind in ("categories", "hashing", "bins") for mode in INDICATORS),
    *(("crossing", mode, "float64", "float64") for mode in ("int", "one_hot")),
    ("bins", "int", "int32", "int32"),
]


@pytest.mark.parametrize("kind, mode, real, symbolic", DTYPES)
def test_dtypes_of_results_are_keras_s(kind, mode, real, symbolic):
    options = {"output_mode": mode, "dtype": "float64"}
    weights = {"idf_weights": [0.1, 0.2]} if mode == "tf_idf" else {}
    numbers, texts = np.array([[1], [2]]), np.array([["a"], ["z"]])
    layer, inputs = {
        "strings": lambda: (L.StringLookup(vocabulary=["a", "b"], **weights, **options), texts),
        "integers": lambda: (L.IntegerLookup(vocabulary=[1, 2], **weights, **options), numbers),
        "texts": lambda: (L.TextVectorization(vocabulary=["a", "b"], **weights, **options), texts),
        "categories": lambda: (L.CategoryEncoding(4, **options), numbers),
        "hashing": lambda: (L.Hashing(4, **options), numbers),
        "bins": lambda: (L.Discretization([0.0, 1.0], **options), numbers),
        "crossing": lambda: (L.HashedCrossing(4, **options), [numbers, numbers]),
    }[kind]()
    assert layer(inputs).dtype == real
    given = Input((1,), dtype="string" if inputs is texts else "int64")
    output = layer([given, given] if isinstance(inputs, list) else given)
    assert output.dtype == symbolic
    data = numbers if isinstance(inputs, list) else inputs
    assert models.Model(given, output).predict(data, verbose=0).dtype == real
    if output.shape[-1] is not None:
        assert models.Model(given, L.Dense(2)(output)).predict(data, verbose=0).dtype == "float32"


def test_in_keras_2_indicators_have_the_dtype_of_their_layer(monkeypatch):
    monkeypatch.setattr(compatibility, "current", compatibility.KERAS_2)
    for dtype in ("float32", "int32"):
        layer = L.IntegerLookup(vocabulary=[1, 2], output_mode="count", dtype=dtype)
        assert layer(np.array([1])).dtype == layer(Input((1,), dtype="int64")).dtype == dtype


def test_a_recorded_model_follows_what_is_adapted_later():
    layer = L.Normalization()
    model = models.Sequential([L.Input((3,)), layer])
    np.testing.assert_allclose(model.predict(NUMBERS, verbose=0), NUMBERS)
    layer.adapt(batch for batch in BATCHES)
    expected = (NUMBERS - NUMBERS.mean(0)) / NUMBERS.std(0)
    np.testing.assert_allclose(model.predict(NUMBERS, verbose=0), expected, rtol=1e-4, atol=1e-5)
    lookup = L.IntegerLookup()
    model = models.Sequential([L.Input((2,), dtype="int64"), lookup])
    assert model.predict(WORDS, verbose=0).max() == 0
    lookup.adapt(WORDS)
    np.testing.assert_array_equal(model.predict(WORDS, verbose=0), lookup(WORDS).numpy())
    assert (model.predict(WORDS, verbose=0) > 0).sum() == (WORDS != -1).sum()


def test_a_vocabulary_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("dog\ncat\n", encoding="utf-8")
    layer = L.StringLookup(vocabulary=str(path))
    assert layer.get_vocabulary() == ["[UNK]", "dog", "cat"]
    np.testing.assert_array_equal(layer(["cat", "emu"]).numpy(), [2, 0])
    np.testing.assert_array_equal(layer(np.array([b"cat", "dog"], object)).numpy(), [2, 1])


def test_a_vocabulary_beside_the_weights_is_read(tmp_path):
    """As Keras writes what its lookup layers learned; ours have it in the configuration, which Keras reads too."""
    pytest.importorskip("h5py")
    inputs, layer = L.Input((2,), dtype="int64"), L.IntegerLookup(output_mode="tf_idf", name="terms")
    layer.adapt(WORDS)
    model = models.Model(inputs, layer(inputs))
    expected = model.predict(WORDS, verbose=0)
    model.save(tmp_path / "ours.keras")
    with zipfile.ZipFile(tmp_path / "ours.keras") as ours, zipfile.ZipFile(tmp_path / "keras.keras", "w") as theirs:
        config = json.loads(ours.read("config.json"))
        own = next(each for each in config["config"]["layers"] if each["config"]["name"] == "terms")["config"]
        own |= {"vocabulary": None, "idf_weights": None}
        theirs.writestr("config.json", json.dumps(config))
        terms = "\n".join(str(term) for term in layer.get_vocabulary())
        theirs.writestr("assets/layers/integer_lookup/vocabulary.txt", terms)
        for name in ("metadata.json", "model.weights.h5"):
            theirs.writestr(name, ours.read(name))
    for name in ("ours", "keras"):
        loaded = models.load_model(tmp_path / f"{name}.keras")
        assert loaded.layers[-1].get_vocabulary() == layer.get_vocabulary()
        np.testing.assert_allclose(loaded.predict(WORDS, verbose=0), expected, rtol=1e-6)


def test_functions_of_your_own_prepare_texts():
    layer = L.TextVectorization(standardize=np.char.upper, split=lambda texts: [text.split("-") for text in texts])
    layer.adapt(["a-b", "a"])
    assert layer.get_vocabulary() == ["", "[UNK]", "A", "B"]
    np.testing.assert_array_equal(layer(["b-a-c"]).numpy(), [[3, 2, 1]])
    with pytest.raises(NotImplementedError, match="a custom function"):
        layer.get_config()


def built(layer, shape):
    layer.build(shape)
    return layer


test_mistakes_are_explained = mistakes(
    [
        (lambda: L.Normalization(mean=1.0), "mean and variance must be given together"),
        (lambda: L.Normalization(axis=None, mean=[1.0], variance=[1.0]), r"mean has shape \(1,\), more axes than"),
        (lambda: L.Normalization(axis=3)(NUMBERS), "its input has shape"),
        (lambda: L.Normalization().adapt([]), "adapt needs data, received none"),
        (lambda: L.Normalization(mean=0.0, variance=1.0).adapt(NUMBERS), "was created with a mean and a variance"),
        (lambda: L.Discretization(), "either bin_boundaries or num_bins"),
        (lambda: L.Discretization(num_bins=3)(NUMBERS), r"has no bin_boundaries yet: call adapt\(data\) first"),
        (lambda: L.Discretization([1.0]).adapt(NUMBERS), "num_bins to adapt"),
        (lambda: L.CategoryEncoding(), "num_tokens must be a positive integer, received None"),
        (lambda: L.CategoryEncoding(3, output_mode="int"), "output_mode must be one of"),
        (lambda: L.CategoryEncoding(3, sparse=True), "does not offer sparse=True"),
        (
            lambda: L.CategoryEncoding(3)(np.array([[1]]), count_weights=np.ones((1, 1))),
            "takes count_weights with output_mode 'count', not 'multi_hot'",
        ),
        (lambda: L.Hashing(0), "num_bins must be a positive integer, received 0"),
        (lambda: L.Hashing(3, salt="x"), "salt must be an integer or two, received 'x'"),
        (
            lambda: L.Hashing(3, dtype="float32"),
            "Hashing with output_mode 'int' has an integer dtype, received 'float32'",
        ),
        (lambda: L.HashedCrossing(3)([WORDS, WORDS]), "needs two or more inputs of one shape"),
        (lambda: L.HashedCrossing(3)([np.ones(2), np.ones(2)]), "takes integers or strings"),
        (lambda: L.StringLookup(vocabulary=["a", "a"]), "each term once"),
        (
            lambda: L.StringLookup(vocabulary=["a", "b"], max_tokens=2),
            "the vocabulary of .* has 2 terms .* max_tokens=2",
        ),
        (
            lambda: L.StringLookup(vocabulary=["a"], output_mode="tf_idf"),
            "takes idf_weights if and only if output_mode is 'tf_idf'",
        ),
        (lambda: L.StringLookup(vocabulary=["a"], num_oov_indices=0)(["b"]), "not in its vocabulary"),
        (lambda: L.StringLookup(vocabulary=["a"]).adapt(TOKENS), "was created with a vocabulary"),
        (lambda: L.TextVectorization(split="lines"), "split must be a function or one of .*, received 'lines'"),
        (lambda: L.TextVectorization(ragged=True), "does not offer ragged=True"),
        (lambda: L.TextVectorization(ngrams="two"), "ngrams must be"),
        (lambda: L.TextVectorization()(TEXTS.reshape(3, 2)), r"shape \(batch,\) or"),
        (lambda: L.Normalization()(Input((None,))), r"needs the sizes of axes \[1\], received shape \(None, None\)"),
        (
            lambda: built(L.Normalization(), (None, 3)).adapt(np.ones((2, 4))),
            r"\(1, 3\) .*, received data of shape \(2, 4\)",
        ),
        (lambda: L.Discretization(num_bins=3).adapt([]), "adapt needs data, received none"),
        (lambda: L.StringLookup(num_oov_indices=-1), "num_oov_indices must be an integer of at least 0, received -1"),
        (lambda: L.StringLookup(num_oov_indices=1.5), "num_oov_indices must be an integer of at least 0, received 1.5"),
        (lambda: L.StringLookup(max_tokens=1), "max_tokens must be None or an integer of at least 2, received 1"),
        (lambda: L.StringLookup(max_tokens=2.5), "max_tokens must be None or an integer of at least 2, received 2.5"),
        (lambda: L.StringLookup(pad_to_max_tokens=True), "with pad_to_max_tokens=True needs max_tokens"),
        (
            lambda: L.StringLookup(vocabulary=["a"], invert=True, output_mode="count"),
            "with invert=True needs output_mode 'int', received 'count'",
        ),
        (lambda: L.StringLookup(vocabulary=["[UNK]"]), r"has no terms; received \['\[UNK\]'\]"),
        (
            lambda: L.StringLookup(vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[1.0]),
            r"idf_weights must have one number for each of the 2 terms, received shape \(1,\)",
        ),
        (
            lambda: L.StringLookup(vocabulary=["a"], idf_weights=[1.0]),
            r"received output_mode 'int' and idf_weights \[1.0\]",
        ),
        (lambda: L.StringLookup(output_mode="tf_idf")([["a"]]), r"has no idf_weights yet: call adapt\(data\)"),
        (
            lambda: L.TextVectorization(output_mode="count", output_sequence_length=3),
            "output_sequence_length is for output_mode 'int'",
        ),
        (lambda: L.TextVectorization(vocabulary=["a"]).adapt(["b"]), "was created with a vocabulary and cannot adapt"),
    ],
    ValueError,
)


def test_texts_in_columns_of_pandas():
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(["b a", "a", "a b"])
    layer = L.TextVectorization()
    layer.adapt(column)
    assert layer.get_vocabulary() == ["", "[UNK]", "a", "b"]
    np.testing.assert_array_equal(layer(column.array), [[3, 2], [2, 0], [2, 3]])
    np.testing.assert_array_equal(L.StringLookup(vocabulary=["a", "a b"])(column), [0, 1, 2])


def test_adapt_to_some_batches_of_a_generator_without_end():
    texts, lookup, bins = L.TextVectorization(), L.IntegerLookup(), L.Discretization(num_bins=2)
    texts.adapt((["b", f"a{number}"] for number in itertools.count()), steps=2)
    assert texts.get_vocabulary() == ["", "[UNK]", "b", "a1", "a0"]
    lookup.adapt((np.array([number]) for number in itertools.count()), steps=2)
    assert lookup.get_vocabulary() == [-1, 1, 0]
    bins.adapt((np.arange(4.0) for _ in itertools.count()), steps=2)
    assert len(bins.bin_boundaries) == 1


def test_texts_are_no_tensors():
    with pytest.raises(
        ValueError, match="received 'string'; only an Input may have dtype 'string', for layers such as"
    ):
        L.Dense(1, dtype="string")
    with pytest.raises(TypeError, match="takes strings, an array or a list of str, received"):
        L.StringLookup(vocabulary=["a"])(np.ones(3))
    with pytest.raises(TypeError, match="takes strings, an array or a list of str, received"):
        L.TextVectorization()(WORDS)


def test_weighted_counts():
    counts = L.CategoryEncoding(4, output_mode="count")([[1, 1, 3]], count_weights=np.array([[0.5, 2.0, 3.0]]))
    np.testing.assert_allclose(counts.numpy(), [[0, 2.5, 0, 3]])


@pytest.mark.parametrize("layer", [L.Normalization, lambda: L.Discretization(num_bins=3)])
def test_numbers_are_not_learned_from_texts(layer):
    with pytest.raises(TypeError, match="takes numbers, received dtype object .*'Lima'.*drop columns of strings"):
        layer().adapt(np.array([[1.0, "Lima"], [2.0, "Oslo"]], object))


@pytest.mark.parametrize("term", [1.5, "a", None])
def test_terms_of_an_integer_lookup_are_integers(term):
    with pytest.raises(ValueError, match="IntegerLookup .* needs integers as terms, received"):
        L.IntegerLookup(vocabulary=[1, term])


def test_a_normalization_has_no_statistics_before_it_is_built():
    assert L.Normalization().mean is None


def test_a_single_number_is_encoded():
    np.testing.assert_array_equal(L.CategoryEncoding(4, "multi_hot")(np.array(2)).numpy(), [0, 0, 1, 0])


def test_factors_of_channels_that_come_first(monkeypatch):
    monkeypatch.setattr(config, "image_data_format", lambda: "channels_first")
    y = L.Rescaling([1.0, 2.0], offset=[0.0, 5.0])(np.ones((1, 2, 1, 3))).numpy()
    np.testing.assert_array_equal(y, [[[[1, 1, 1]], [[7, 7, 7]]]])


def test_the_vocabulary_of_a_text_vectorization_can_be_set():
    layer = L.TextVectorization()
    layer.set_vocabulary(["a", "b"])
    assert layer.vocabulary_size() == 4
    np.testing.assert_array_equal(layer(["b a c"]).numpy(), [[3, 2, 1]])


def test_a_file_of_terms_may_end_in_empty_lines():
    layer = L.StringLookup()
    layer.read_vocabulary(["[UNK]", "a", "", ""])
    assert layer.get_vocabulary() == ["[UNK]", "a"]


@pytest.mark.parametrize("make", [L.Normalization, lambda: L.Discretization(num_bins=2)])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "1 NaN and 0 infinite"), (np.inf, "0 NaN and 1 infinite")])
def test_adapt_warns_of_numbers_that_are_not_finite(make, value, words):
    data = np.arange(8.0).reshape(4, 2)
    make().adapt(data)
    data[2, 1] = value
    with pytest.warns(UserWarning, match=f"adapt received {words} numbers of 8, and learns from them") as found:
        make().adapt([data[:2], data[2:]])
    assert len(found) == 1


def test_nan_has_the_last_bin_as_in_keras():
    layer = L.Discretization(bin_boundaries=[0.0, 1.0])
    assert layer(np.array([np.nan, -np.inf, -1.0, 0.0, 1.0, np.inf])).numpy().tolist() == [2, 0, 0, 1, 2, 2]
