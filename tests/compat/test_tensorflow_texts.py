"""Strings as TensorFlow has them: tensors of bytes, in data sets and before layers. tensorflow_cases.py compares their values."""

import numpy as np
import pytest

from nbkeras import layers, ops

REVIEWS = ["A great<br />film!", "Bad, bad.", "great"]


def test_a_tensor_of_strings(tf):
    text = tf.constant([["a", "\u00e9"], ["b\0", "c"]])
    assert text.dtype == tf.string and text.shape == (2, 2) and text.ndim == 2 and text.size == 4 == tf.size(text)
    assert text.numpy().tolist() == [[b"a", b"\xc3\xa9"], [b"b\0", b"c"]] and text[0, 1].numpy() == b"\xc3\xa9"
    assert repr(text[0, 0]) == "<tf.Tensor: shape=(), dtype=string, numpy=b'a'>"
    assert text[1, 0] == b"b\0" and not bool(text[1, 0] == "b") and bool(text[1, 0] != "b") and "a" != text[0, 1]
    assert [row.shape for row in text] == [(2,), (2,)] and len(text) == 2 and tf.is_tensor(text)
    assert np.asarray(text)[0, 1] == b"\xc3\xa9" and ("x" + text[0]).numpy().tolist() == [b"xa", b"x\xc3\xa9"]
    assert (
        tf.constant("a")[tf.newaxis].shape == (1,) and text != 3 and tf.strings.lower(ops.convert_to_tensor("A")) == "a"
    )
    assert tf.constant(7, tf.int32) == 7 and tf.constant([[b"a"], [b"b"]], tf.string).shape == (2, 1)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda tf: tf.strings.lower([1, 2]), "expected a string, str or bytes, received 1"),
        (lambda tf: tf.strings.length(3.0), r"expected strings, an array or a list of str or bytes, received 3\.0"),
        (lambda tf: layers.StringLookup()(tf.constant(bytes([255]))), "bytes given as a string must be UTF-8"),
        (lambda tf: tf.strings.substr("abc", 4, 1), "pos 4 lies outside a string of length 3, b'abc'"),
        (lambda tf: tf.strings.length("a", "CHAR"), "unit must be 'BYTE' or 'UTF8_CHAR', received 'CHAR'"),
        (lambda tf: tf.strings.unicode_split("a", "UTF-16-BE"), "input_encoding must be one of 'UTF-8'"),
        (
            lambda tf: next(iter(tf.data.Dataset.from_tensors(["a b"]).map(tf.strings.split))),
            r"cannot have rows of different lengths: call to_tensor\(\)",
        ),
    ],
)
def test_mistakes(tf, mistake, message):
    with pytest.raises((TypeError, ValueError), match=message):
        mistake(tf)


def test_rows_of_different_lengths(tf):
    rows = tf.strings.split(["a b", "", "c"])
    assert rows.shape == (3, None) and rows.dtype == tf.string and len(rows) == 3 and tf.is_tensor(rows)
    assert rows.to_list() == [[b"a", b"b"], [], [b"c"]] and repr(rows[:1]) == "<tf.RaggedTensor [[b'a', b'b']]>"
    assert rows[0].numpy().tolist() == [b"a", b"b"] and [len(row) for row in rows] == [2, 0, 1]
    deep = tf.strings.unicode_split(rows, "UTF-8")
    assert deep.to_list() == [[[b"a"], [b"b"]], [], [[b"c"]]] and deep.to_tensor("_").shape == (3, 2, 1)
    assert tf.strings.bytes_split([]).to_tensor().shape == (0, 0)


def test_elements_of_data_sets(tf):
    data = tf.data.Dataset.from_tensor_slices((np.array(REVIEWS), [1, 0, 1]))
    text, label = next(iter(data))
    assert text.numpy() == REVIEWS[0].encode() and text.dtype == tf.string and int(label) == 1
    assert data.element_spec[0] == tf.TensorSpec((), tf.string)
    wide = data.map(lambda x, y: (tf.expand_dims(tf.strings.lower(x), -1), y)).batch(2)
    assert [x.shape for x, _ in wide] == [(2, 1), (1, 1)]
    assert [x.tolist() for x, _ in wide.as_numpy_iterator()][1] == [[b"great"]]
    assert [x.numpy() for x, _ in data.filter(lambda x, y: tf.strings.regex_full_match(x, ".*great.*"))] == [
        REVIEWS[0].encode(),
        b"great",
    ]
    words = data.map(lambda x, y: tf.strings.split(x)).padded_batch(3)
    assert next(iter(words)).numpy()[2].tolist() == [b"great", b"", b""]
    typed = tf.data.Dataset.from_generator(lambda: ["a", b"b\0"], output_signature=tf.TensorSpec((), tf.string))
    assert next(iter(typed.batch(2))).numpy().tolist() == [b"a", b"b\0"]
    assert list(typed.as_numpy_iterator()) == [b"a", b"b\0"]


def test_callables_of_text_vectorization(tf):
    def standardize(text):
        text = tf.strings.regex_replace(tf.strings.lower(text), "<br />", " ")
        return tf.strings.regex_replace(text, "[!,.]", "")

    words = layers.TextVectorization(standardize=standardize, split=tf.strings.split)
    data = tf.data.Dataset.from_tensor_slices(REVIEWS).batch(2)
    words.adapt(data)
    assert words.get_vocabulary() == ["", "[UNK]", "great", "bad", "film", "a"]
    assert words(tf.constant(["A film"])).numpy().tolist() == [[5, 4]]
    letters = layers.TextVectorization(
        standardize=None, split=lambda text: tf.strings.unicode_split(text, input_encoding="UTF-8")
    )
    letters.adapt(tf.constant(["ab\u00e9", "a"]))
    assert sorted(letters.get_vocabulary()[2:]) == ["a", "b", "\u00e9"]
    assert letters(["b\u00e9"]).shape == (1, 2)
    whole = layers.StringLookup(vocabulary=["a", "b"])(tf.strings.split(["a b", "b"]).to_tensor(default_value="b"))
    assert whole.numpy().tolist() == [[1, 2], [2, 2]]


def test_numpy_functions_take_bytes(tf):
    found = tf.numpy_function(lambda text, n: (text * int(n), n + 1), [tf.constant("a"), 2], [tf.string, tf.int64])
    assert found[0] == "aa" and found[1] == 3
