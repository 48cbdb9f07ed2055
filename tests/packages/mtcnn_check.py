"""mtcnn finds the faces that it finds with TensorFlow, in the image of its own tests."""

import pathlib

import numpy as np
from mtcnn import MTCNN

EXPECTED = np.load(pathlib.Path(__file__).parent / "data" / "imaging.npz")["faces"]


def test_faces_are_those_found_with_tensorflow():
    found = MTCNN().detect_faces("tests/images/ivan.jpg", output_type="numpy")
    assert found.shape == EXPECTED.shape == (2, 16)
    np.testing.assert_array_equal(found.round(), EXPECTED.round())
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-4, atol=1e-3)
