"""Customizing what happens in fit: a GAN's train_step is replaced by alternating compiled models (all backends)."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
discriminator = keras.Sequential(
    [
        keras.Input((12, 12, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.GlobalMaxPooling2D(),
        layers.Dense(1),
    ],
    name="discriminator",
)
generator = keras.Sequential(
    [
        keras.Input((8,)),
        layers.Dense(3 * 3 * 8),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Reshape((3, 3, 8)),
        layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
        layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
        layers.Conv2D(1, 7, padding="same", activation="sigmoid"),
    ],
    name="generator",
)
bce = keras.losses.BinaryCrossentropy(from_logits=True)
discriminator.compile(keras.optimizers.Adam(3e-3), bce)
gan = keras.Sequential([keras.Input((8,)), generator, discriminator])
discriminator.trainable = False
gan.compile(keras.optimizers.Adam(3e-3), bce)
real = np.random.random((32, 12, 12, 1)).astype("float32")
for _ in range(3):
    fake = generator.predict(np.random.normal(size=(32, 8)), verbose=0)
    d_loss = discriminator.train_on_batch(
        np.concatenate([fake, real]), np.concatenate([np.ones((32, 1)), np.zeros((32, 1))])
    )
    before = discriminator.get_weights()
    g_loss = gan.train_on_batch(np.random.normal(size=(32, 8)), np.zeros((32, 1)))
    assert all(np.array_equal(a, b) for a, b in zip(before, discriminator.get_weights(), strict=True))
assert np.isfinite([d_loss, g_loss]).all()
