"""A pipeline of zea's documentation: echoes become an image in decibels, as with Keras on JAX."""

import os

import numpy as np

DATA = os.path.join(os.path.dirname(__file__), "data", "zea.npz")


def image():
    import keras
    import zea

    pipeline = zea.Pipeline(
        [zea.ops.keras_ops.Abs(), zea.ops.Normalize(output_range=(0, 1)), zea.ops.LogCompress()],
        with_batch_dim=True,
        jit_options=None,
    )
    rng = np.random.default_rng(0)
    depth = np.arange(64.0)[:, None]
    echoes = np.sin(0.9 * depth + rng.normal(size=(1, 48))) * np.exp(-depth / 40) + 0.05 * rng.normal(size=(64, 48))
    data = keras.ops.convert_to_tensor(echoes[None, ..., None].astype("float32"))
    return keras.ops.convert_to_numpy(pipeline(data=data, dynamic_range=(-60, 0))["data"])


def test_an_image_equals_that_of_keras():
    np.testing.assert_allclose(image(), np.load(DATA)["image"], rtol=1e-4, atol=1e-4)
