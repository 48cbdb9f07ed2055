"""Keras's `utils`: one-hot labels, normalize, pad_sequences, seeds, PyDataset, custom objects."""

import copy
import json
import random
import threading

import numpy as np
import pytest

from nbkeras import config, ops, utils
from nbkeras.engine import registry


class TestToCategorical:
    @pytest.mark.parametrize(
        "labels, shape",
        [
            ([1, 0, 2], (3, 3)),
            ([[1], [0], [2]], (3, 3)),
            ([[0, 2], [1, 1]], (2, 2, 3)),
            (2, (3,)),
            ([[[2]]], (1, 1, 3)),
        ],
    )
    def test_shapes_are_keras_s(self, labels, shape):
        result = utils.to_categorical(labels)
        assert result.shape == shape
        np.testing.assert_array_equal(result.argmax(-1).ravel(), np.ravel(labels))
        np.testing.assert_array_equal(result.sum(-1), 1)

    def test_dtype(self):
        assert utils.to_categorical([0, 1]).dtype == np.float64
        assert utils.to_categorical(ops.array([0, 1])).dtype == np.float32
        assert utils.to_categorical([0, 1], dtype="int8").dtype == np.int8

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "bool"])
    def test_any_real_labels(self, dtype):
        labels = np.array([1, 0, 1], dtype)
        np.testing.assert_array_equal(utils.to_categorical(labels, 2), [[0, 1], [1, 0], [0, 1]])

    def test_more_classes_than_labels(self):
        assert utils.to_categorical([0, 1], 5).shape == (2, 5)
        assert utils.to_categorical([], 5).shape == (0, 5)

    @pytest.mark.parametrize(
        "labels, classes, message",
        [
            ([0, -1], None, "received -1 to 0"),
            ([0, 3], 3, "from 0 to num_classes - 1 = 2, received 0 to 3; labels that start at 1"),
            ([0.5, 1], None, "integer class numbers"),
            ([np.nan], None, "integer class numbers"),
            ([np.inf], 3, "integer class numbers"),
            (["cat", "dog"], None, "expects class numbers"),
            ([], None, "to_categorical needs num_classes"),
        ],
    )
    def test_wrong_labels(self, labels, classes, message):
        with pytest.raises(ValueError, match=message):
            utils.to_categorical(labels, classes)


class TestNormalize:
    def test_rows_get_length_one_and_zeros_stay(self):
        x = np.array([[3.0, 4.0], [0.0, 0.0]])
        np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])

    def test_axis_and_order(self):
        x = np.arange(1.0, 7.0).reshape(2, 3)
        np.testing.assert_allclose(utils.normalize(x, axis=0, order=1).sum(0), 1)
        np.testing.assert_allclose(utils.normalize(x, axis=1), x / np.sqrt((x * x).sum(1, keepdims=True)))
        assert utils.normalize([3, 4]).tolist() == [0.6, 0.8]


class TestPadSequences:
    sequences = [[1], [2, 3], [4, 5, 6]]

    @pytest.mark.parametrize(
        "arguments, expected",
        [
            ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
            ({"value": -1}, [[-1, -1, 1], [-1, 2, 3], [4, 5, 6]]),
            ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
            ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
            ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ],
    )
    def test_examples_of_keras_s_documentation(self, arguments, expected):
        result = utils.pad_sequences(self.sequences, **arguments)
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, expected)

    def test_steps_with_features_and_empty_sequences(self):
        result = utils.pad_sequences([np.ones((2, 3)), np.empty((0, 3)), np.ones((1, 3))], dtype="float32")
        assert result.shape == (3, 2, 3)
        np.testing.assert_array_equal(result.sum((1, 2)), [6, 0, 3])

    @pytest.mark.parametrize(
        "sequences, arguments, message",
        [
            ([[1], 2], {}, "received 2 at position 1"),
            ([[1], [[1, 2]]], {}, r"position 1 has steps of shape \(2,\), expected \(\)"),
            (3, {}, "pad_sequences expects a list of sequences, received 3"),
            ([[1]], {"padding": "left"}, "padding must be 'pre' or 'post', received 'left'"),
            ([[1]], {"truncating": "left"}, "truncating must be"),
        ],
    )
    def test_mistakes_are_explained(self, sequences, arguments, message):
        with pytest.raises(ValueError, match=message):
            utils.pad_sequences(sequences, **arguments)


class TestSeed:
    def test_all_generators_repeat(self):
        def draw():
            return random.random(), float(np.random.random()), config.next_seed(), config.next_seed()

        utils.set_random_seed(7)
        first = draw()
        utils.set_random_seed(np.int64(7))
        assert draw() == first
        utils.set_random_seed(8)
        assert draw() != first

    @pytest.mark.parametrize(
        "seed, error, message",
        [
            (-1, ValueError, r"seed must be between 0 and 2\*\*32 - 1, received -1"),
            (2**32, ValueError, r"seed must be between 0 and 2\*\*32 - 1, received 4294967296"),
            (1.5, TypeError, "'float' object cannot be interpreted as an integer"),
            ("7", TypeError, "'str' object cannot be interpreted as an integer"),
        ],
    )
    def test_wrong_seeds(self, seed, error, message):
        with pytest.raises(error, match=message):
            utils.set_random_seed(seed)


class TestPyDataset:
    def test_iterates_over_its_batches(self):
        squares = {"__len__": lambda self: 3, "__getitem__": lambda self, index: index**2}
        data = type("Squares", (utils.PyDataset,), squares)(workers=2)
        assert list(data) == [0, 1, 4]
        assert data.num_batches == 3 and data.workers == 2

    def test_without_super_init_and_as_sequence(self):
        class Data(utils.Sequence):
            def __init__(self):
                pass

            num_batches = None

            def __getitem__(self, index):
                return index

        data = Data()
        assert data.workers == 1
        assert [item for item, _ in zip(data, range(4), strict=False)] == [0, 1, 2, 3]

    def test_what_is_missing_is_named(self):
        empty = type("Empty", (utils.PyDataset,), {})()
        with pytest.raises(NotImplementedError, match="Empty must define __getitem__"):
            empty[0]
        with pytest.raises(NotImplementedError, match="Empty must define __len__ or num_batches"):
            list(empty)


class TestCustomObjects:
    def test_scope_and_registration(self):
        kinds, mine = registry.Registry("thing"), len
        with utils.custom_object_scope({"mine": mine}):
            assert kinds.get("mine") is mine
        with pytest.raises(ValueError, match="unknown thing: 'mine'"):
            kinds.get("mine")
        utils.get_custom_objects()["mine"] = mine
        try:
            assert kinds.get("mine") is mine
        finally:
            del utils.get_custom_objects()["mine"]

    def test_registered_names(self):
        @utils.register_keras_serializable(package="house", name="twice")
        def double(x):
            return 2 * x

        try:
            assert registry.custom_object("house>twice") is double
        finally:
            for name in ("twice", "house>twice"):
                del utils.get_custom_objects()[name]

    def test_a_thread_that_looks_up_while_another_one_reads_finds_all_names(self):
        kinds, found = registry.Registry("thing"), []

        def read():
            if not found:
                found.append(None)
                other = threading.Thread(target=lambda: found.append(kinds.names()))
                other.start()
                other.join()
            return {"Late": "nbkeras.no_such_module"}

        kinds.later(read)
        assert kinds.names() == ["Late"] and found[1] == ["Late"]
        registry._registries.remove(kinds)


def test_config():
    config = utils.Config(rate=0.1)
    config.steps = 3
    config["name"] = "a"
    assert dict(config) == config.as_dict() == json.loads(config.to_json()) == {"rate": 0.1, "steps": 3, "name": "a"}
    assert config.rate == 0.1 and config.get("other", 5) == 5 and "steps" in config and len(config) == 3
    config.freeze()
    for change in (lambda: setattr(config, "rate", 1), lambda: config.pop("rate"), lambda: config.update(b=1)):
        with pytest.raises(ValueError, match=r"this Config is frozen: call unfreeze\(\)"):
            change()
    config.unfreeze()
    del config.rate
    with pytest.raises(AttributeError, match=r"no entry 'rate', only \['name', 'steps'\]"):
        _ = config.rate
    assert copy.deepcopy(config) == config


def test_batches_packed_and_unpacked():
    for given in ((1,), (1, 2), (1, 2, 3)):
        for batch in (given, list(given)):
            assert utils.unpack_x_y_sample_weight(batch) == (*given, None, None)[:3]
        assert utils.pack_x_y_sample_weight(*given) == (1 if len(given) == 1 else given)
    assert utils.unpack_x_y_sample_weight(1) == (1, None, None) and utils.pack_x_y_sample_weight([1, 2]) == ([1, 2],)
    with pytest.raises(ValueError, match=r"must be x, \(x, y\) or \(x, y, sample_weight\), received a tuple of 4"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))


def test_standard_names_of_dtypes():
    names = {None: "float32", float: "float32", int: "int32", bool: "bool", "int": "int32"}
    names |= {np.int8: "int8", np.dtype("f8"): "float64"}
    for dtype, name in names.items():
        assert utils.standardize_dtype(dtype) == name
    for wrong in ("string", "flote32", object):
        with pytest.raises(ValueError, match="must be a dtype of numbers"):
            utils.standardize_dtype(wrong)
