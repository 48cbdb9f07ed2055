"""Reads the results of real Keras that scripts/make_images_references.py wrote."""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("augmenting.npz")


def stored():
    """The JSON of the file with its arrays."""
    with np.load(FILE, allow_pickle=False) as file:
        flat = dict(file)

    def filled(value):
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, dict) and "start" in value:
            size = int(np.prod(value["shape"]))
            return flat[value["dtype"]][value["start"] : value["start"] + size].reshape(value["shape"])
        return {key: filled(each) for key, each in value.items()} if isinstance(value, dict) else value

    return filled(json.loads(flat["json"].tobytes()))


def assert_same(found, expected):
    """Equal to 1e-5 of the largest number; labels have the same kind of dtype."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key, each in expected.items():
            assert_same(found[key], each)
        return
    found = np.asarray(found)
    assert found.shape == expected.shape and found.dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))
