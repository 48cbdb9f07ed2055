"""Names of TensorFlow 1 that packages for Keras 2 use: `import tensorflow` offers them beside those of TensorFlow 2."""

import numpy as np
import pytest

from nbkeras.compat.tensorflow import first_version, image, math, nn

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(6, 3, 5)).astype("float32")
LABELS = RANDOM.integers(1, 4, size=(3, 2)).astype("int32")
OF_TENSORFLOW = {None: [8.716192, 6.209656, 4.1210203], -1: [5.438378, 7.4146576, 4.6504726]}  # of version 2.21


@pytest.mark.parametrize("blank", OF_TENSORFLOW)
def test_ctc_loss_of_dense_labels(blank):
    lengths, steps = np.array([2, 1, 2], "int32"), np.array([6, 5, 4], "int32")
    found = first_version.ctc_loss_v2(LABELS, LOGITS, lengths, steps, blank_index=blank)
    np.testing.assert_allclose(found, OF_TENSORFLOW[blank], rtol=1e-6)
    again = first_version.ctc_loss_v2(LABELS, LOGITS.transpose(1, 0, 2), lengths, steps, False, blank_index=blank)
    np.testing.assert_array_equal(again, found)


def test_older_names_of_functions_and_arguments():
    pixels = np.arange(32.0, dtype="float32").reshape(1, 4, 4, 2)
    sizes, steps, rates = [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1]
    found = first_version.extract_image_patches(pixels, sizes, steps, rates, "VALID")
    np.testing.assert_array_equal(found, image.extract_patches(pixels, sizes, steps, rates, "VALID"))
    assert found.shape == (1, 2, 2, 8)
    apart = nn.space_to_depth(pixels, 2)
    np.testing.assert_array_equal(nn.depth_to_space(apart, 2), pixels)
    np.testing.assert_array_equal(math.floordiv([7, -7], 2), [3, -4])
    mean, variance = nn.moments(pixels, [0, 1, 2], keep_dims=True)
    assert mean.shape == variance.shape == (1, 1, 1, 2)
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2), keepdims=True))
