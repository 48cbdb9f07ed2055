"""
MNIST with a convolutional network
==================================

The classic first program for images: 28x28 handwritten digits, two convolutions, dropout.

``nbkeras.datasets.mnist`` reads the file ``~/.keras/datasets/mnist.npz`` and would download it (11 MB) if it is not there. This
program does not download anything: without the file it uses the 1,797 8x8 digits that come with nbkeras, enlarged to 24x24
pixels. The output below is from a machine without the file: a test accuracy of 98.0 % after 12 epochs. MNIST has forty times as
many images, so an epoch takes at least forty times as long. The whole program takes about 5 seconds on two cores.
"""

import os
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits, mnist

EPOCHS = 12
BATCH_SIZE = 64

keras.utils.set_random_seed(0)

# %%
# The data
# --------

home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
if (home / "datasets" / "mnist.npz").exists():
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x_train, x_test = x_train / 255, x_test / 255
else:
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    x_train, x_test = (np.kron(images / 16, np.ones((3, 3))) for images in (x_train, x_test))
x_train = x_train[..., None].astype("float32")
x_test = x_test[..., None].astype("float32")
print("training images:", x_train.shape, "test images:", x_test.shape)

figure, axes = plt.subplots(1, 8, figsize=(9, 1.5))
for axis, image, label in zip(axes, x_train, y_train, strict=False):
    axis.imshow(image[..., 0], cmap="gray_r")
    axis.set_title(label)
    axis.axis("off")
plt.show()

# %%
# The model
# ---------

model = keras.Sequential(
    [
        keras.Input(x_train.shape[1:]),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

# %%
# Training
# --------

model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=BATCH_SIZE, epochs=EPOCHS, validation_split=0.1, verbose=2).history
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test loss {loss:.3f}, test accuracy {accuracy:.3f}")

plt.figure(figsize=(5, 3.5))
plt.plot(history["accuracy"], label="training")
plt.plot(history["val_accuracy"], label="validation")
plt.xlabel("epoch")
plt.ylabel("accuracy")
plt.legend()
plt.show()

# %%
# The filters
# -----------
#
# The 32 filters of the first convolution: 3x3 weights each, blue for positive numbers and red for negative ones. Some
# look like edges or lines of some direction.

filters = model.layers[0].get_weights()[0]
limit = np.abs(filters).max()
# sphinx_gallery_thumbnail_number = 3
figure, axes = plt.subplots(4, 8, figsize=(6, 3.2))
for axis, i in zip(axes.flat, range(32), strict=True):
    axis.imshow(filters[:, :, 0, i], cmap="RdBu", vmin=-limit, vmax=limit)
    axis.axis("off")
plt.show()
