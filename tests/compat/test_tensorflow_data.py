"""Data sets of tf.data that read text files, and those of windows. The expected elements are TensorFlow 2.21's."""

import gzip

import numpy as np
import pytest

TABLE = 'a,b,c,d,e,y\n1,2.5,x,5000000000,,0\n2,,"q,r",1,,1\n3,1e40,z,2,,0\n'


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE, encoding="utf-8")
    return str(path)


def values(dataset):
    return [each.tolist() for each in dataset.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("arguments", "windows"),
    [
        ({"size": 3, "shift": 2}, [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6]]),
        ({"size": 2, "shift": 3, "stride": 2, "drop_remainder": True}, [[0, 2], [3, 5]]),
        ({"size": 3, "shift": 5}, [[0, 1, 2], [5, 6]]),
        ({"size": 4}, [[0, 1, 2, 3], [4, 5, 6]]),
    ],
)
def test_windows(tf, arguments, windows):
    for source in (tf.data.Dataset.range(7), tf.data.Dataset.range(7).map(lambda n: n)):
        found = source.window(**arguments)
        assert [values(each) for each in found] == windows and len(found) == len(windows)
        assert values(found.flat_map(lambda each: each.batch(arguments["size"]))) == windows
        assert found.element_spec.shape == ()


def test_windows_of_pairs(tf):
    pairs = tf.data.Dataset.from_tensor_slices((np.arange(5.0), {"n": np.arange(5)})).window(3, 1, drop_remainder=True)
    joined = pairs.flat_map(lambda x, y: tf.data.Dataset.zip((x.batch(3), y["n"].batch(3))))
    split = [(x[:-1].numpy().tolist(), int(y[-1])) for x, y in joined]
    assert split == [([0, 1], 2), ([1, 2], 3), ([2, 3], 4)]


@pytest.mark.parametrize(
    ("repeats", "arguments", "elements"),
    [
        (None, {"cycle_length": 2, "block_length": 2}, [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]),
        (None, {"cycle_length": 2}, [1, 2, 2, 3, 3, 4, 3, 4, 4, 4]),
        (None, {"num_parallel_calls": -1}, [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]),
        (
            6,
            {"cycle_length": 2, "block_length": 4},
            [*[1] * 4, *[2] * 4, 1, 1, 2, 2, *[3] * 4, *[4] * 4, 3, 3, 4, 4],
        ),
    ],
)
def test_interleaving(tf, repeats, arguments, elements):
    numbers = tf.data.Dataset.range(1, 5)
    found = numbers.interleave(lambda n: tf.data.Dataset.from_tensors(n).repeat(repeats or int(n)), **arguments)
    assert values(found) == elements and found.cardinality() == tf.data.UNKNOWN_CARDINALITY


def test_lines_of_files(tf, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\n\nc")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"d\n"))
    lines = tf.data.TextLineDataset(str(tmp_path / "a.txt"))
    assert list(lines.as_numpy_iterator()) == [b"a", b"b", b"", b"c"] and lines.cardinality() == -2
    assert isinstance(lines, tf.data.Dataset) and lines.skip(3).element_spec == tf.TensorSpec((), tf.string)
    packed = tf.data.TextLineDataset([tmp_path / "b.gz"], compression_type="GZIP")
    assert next(iter(packed)) == "d"
    paths = tf.data.Dataset.from_tensor_slices([str(tmp_path / "a.txt")])
    assert list(paths.interleave(tf.data.TextLineDataset).as_numpy_iterator()) == [b"a", b"b", b"", b"c"]
    assert list(tf.data.TextLineDataset(paths).as_numpy_iterator()) == [b"a", b"b", b"", b"c"]
    with pytest.raises(ValueError, match="compression_type must be one of None, 'GZIP', 'ZLIB', received 'XZ'"):
        next(iter(tf.data.TextLineDataset(str(tmp_path / "a.txt"), "XZ")))


def test_csv(tf, table):
    data = tf.data.experimental.make_csv_dataset(table, 2, label_name="y", num_epochs=1, shuffle=False)
    (first, labels), (last, _) = data
    assert list(first) == ["a", "b", "c", "d", "e"] and labels.dtype == tf.int32
    kinds = [tf.int32, tf.float64, tf.string, tf.int64, tf.string]
    assert [first[name].dtype for name in "abcde"] == kinds and last["a"].numpy().tolist() == [3]
    assert first["b"].numpy().tolist() == [2.5, 0.0] and first["c"].numpy().tolist() == [b"x", b"q,r"]
    assert first["d"].numpy().tolist() == [5_000_000_000, 1] and first["e"].numpy().tolist() == [b"", b""]
    chosen = tf.data.experimental.make_csv_dataset(
        table, 3, select_columns=["a", "c"], column_defaults=[1.5, "w"], num_epochs=2, shuffle_seed=0, na_value="z"
    )
    batches = list(chosen.as_numpy_iterator())
    assert len(batches) == 2 and batches[0]["a"].dtype == np.float32 and 3 in batches[0]["a"]
    assert sorted(batches[0]["c"].tolist() + batches[1]["c"].tolist()) == [b"q,r"] * 2 + [b"w"] * 2 + [b"x"] * 2
    named = tf.data.experimental.make_csv_dataset(table, 2, select_columns=["e"], column_defaults=["float32"])
    assert next(iter(named))["e"][0] == "float32"  # a default that is a string
    endless = tf.data.experimental.make_csv_dataset(table, 2, select_columns=["d", "y"], column_defaults=[tf.int64, 0])
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_pattern": "nothing*.csv"}, "no file matches 'nothing"),
        ({"label_name": "z"}, r"label_name must be one of \['a', 'b', 'c', 'd', 'e', 'y'\], received 'z'"),
        ({"column_defaults": [0]}, "expected column_defaults for"),
        ({"select_columns": ["c"], "column_defaults": [1]}, "column 'c' has dtype int32, received 'x'"),
        ({"select_columns": ["e"], "column_defaults": [np.float32]}, "column 'e' has no default"),
        ({"header": False}, "pass column_names for files without a header"),
        ({"column_names": ["a"]}, r"expected rows with the columns \['a'\], received"),
    ],
)
def test_mistakes_in_tables(tf, table, arguments, message):
    with pytest.raises(ValueError, match=message):
        tf.data.experimental.make_csv_dataset(**{"file_pattern": table, "batch_size": 2, **arguments})
