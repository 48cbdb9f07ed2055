"""
A denoising autoencoder
=======================

An autoencoder compresses an image to a few numbers and rebuilds it. If it gets noisy images and must return the clean ones, it
learns what digits look like, and removes the noise.

The data are the 8x8 digits that come with nbkeras, with noise added by this script. The mean squared error of the
noisy test images is 0.159, or 0.083 if they are cut to the range of images; of the cleaned ones it is 0.025. The whole
program takes about 4 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits

EPOCHS = 40
NOISE = 0.4

keras.utils.set_random_seed(0)

# %%
# The data
# --------
#
# The test images get their noise once. The training images get new noise in each step, from a layer of the model.

(x_train, _), (x_test, _) = digits.load_data()
x_train = x_train[..., None].astype("float32") / 16
x_test = x_test[..., None].astype("float32") / 16
noisy_test = x_test + np.random.default_rng(0).normal(0, NOISE, x_test.shape).astype("float32")

# %%
# The model
# ---------
#
# The encoder halves the size of the image twice with strides, from 8x8 to 2x2, and ends in 24 numbers. The decoder
# goes the same way back with transposed convolutions. ``GaussianNoise`` adds noise in training only.

encoder = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.GaussianNoise(NOISE),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(24),
    ],
    name="encoder",
)
decoder = keras.Sequential(
    [
        keras.Input((24,)),
        layers.Dense(2 * 2 * 64, activation="relu"),
        layers.Reshape((2, 2, 64)),
        layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ],
    name="decoder",
)
autoencoder = keras.Sequential([encoder, decoder])
autoencoder.summary()

# %%
# Training
# --------
#
# The clean images are input and target.

autoencoder.compile(optimizer=keras.optimizers.Adam(0.002), loss="mse")
history = autoencoder.fit(
    x_train, x_train, batch_size=64, epochs=EPOCHS, validation_data=(noisy_test, x_test), verbose=2
).history

plt.figure(figsize=(5, 3.5))
plt.plot(history["loss"], label="training")
plt.plot(history["val_loss"], label="test")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.legend()
plt.show()

# %%
# The cleaned images
# ------------------

cleaned = autoencoder.predict(noisy_test, verbose=0)
noisy_error = np.mean((noisy_test - x_test) ** 2)
clipped_error = np.mean((noisy_test.clip(0, 1) - x_test) ** 2)
cleaned_error = np.mean((cleaned - x_test) ** 2)
print(f"error of the noisy images {noisy_error:.4f}, cut to 0...1 {clipped_error:.4f}, cleaned {cleaned_error:.4f}")

# sphinx_gallery_thumbnail_number = 2
figure, axes = plt.subplots(3, 10, figsize=(9, 3))
for row, (title, images) in enumerate({"noisy": noisy_test, "cleaned": cleaned, "original": x_test}.items()):
    for axis, image in zip(axes[row], images, strict=False):
        axis.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(title)
plt.show()
