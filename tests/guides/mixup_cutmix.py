"""MixUp, CutMix and RandAugment of images and labels together."""

import numpy as np
from keras import layers

rng = np.random.default_rng(0)
data = {
    "images": rng.integers(0, 256, (8, 16, 16, 3)).astype("float32"),
    "labels": np.eye(4, dtype="float32")[rng.integers(0, 4, 8)],
}
for layer in (layers.MixUp(alpha=0.8, seed=1), layers.CutMix(seed=2)):
    mixed = layer(data, training=True)
    images, labels = np.asarray(mixed["images"]), np.asarray(mixed["labels"])
    assert images.shape == (8, 16, 16, 3) and np.allclose(labels.sum(axis=1), 1, atol=1e-5)
    same = layer(data, training=False)
    np.testing.assert_array_equal(np.asarray(same["images"]), data["images"])
for layer in (
    layers.RandAugment(value_range=(0, 255), num_ops=2),
    layers.AugMix(value_range=(0, 255)),
    layers.RandomErasing(value_range=(0, 255)),
):
    images = np.asarray(layer(data["images"], training=True))
    assert images.shape == (8, 16, 16, 3) and images.min() >= 0 and images.max() <= 255
