"""CSBDeep's models predict what they predict with tf_keras and the same weights."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import imaging

EXPECTED = np.load(pathlib.Path(__file__).parent / "data" / "imaging.npz")


@pytest.mark.parametrize("name", ["care", "projection"])
def test_predictions_are_those_of_tf_keras(name):
    expected = EXPECTED[name]
    np.testing.assert_allclose(imaging.MODELS[name](), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
