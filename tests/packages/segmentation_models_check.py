"""Nets of Keras-Applications, image-classifiers, efficientnet and segmentation-models give the numbers of tf_keras."""

import pathlib
import sys

import keras
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import zoo

EXPECTED = np.load(pathlib.Path(__file__).parent / "data" / "zoo.npz")


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_net_gives_the_same_numbers(name):
    np.testing.assert_allclose(zoo.outputs(name, keras), EXPECTED[name], rtol=1e-4, atol=1e-6)
