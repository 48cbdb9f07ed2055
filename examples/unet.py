"""
Segmentation with a U-Net
=========================

Segmentation assigns a class to each pixel. A U-Net shrinks the image to recognize objects, enlarges it to locate them, and
connects both paths at each size to keep details.

The data are made by this script: bright and dark circles, squares and triangles on a noisy background. The mean
intersection over union (IoU) of the test images is 0.82; predicting only background gives 0.19.
The whole program takes about 39 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers

EPOCHS = 12
IMAGES = 1000
SIZE = 32
CLASSES = ["background", "circle", "square", "triangle"]

keras.utils.set_random_seed(0)

# %%
# The data
# --------
#
# Each image has three shapes of random size, position and brightness; later shapes may cover earlier ones.


def make_images(count, random):
    row, column = np.mgrid[:SIZE, :SIZE]
    images = random.normal(0, 0.15, (count, SIZE, SIZE)).astype("float32")
    masks = np.zeros((count, SIZE, SIZE), "int32")
    for image, mask in zip(images, masks, strict=True):
        for kind in random.integers(1, 4, size=3):
            radius = random.uniform(4, 8)
            dy, dx = row - random.uniform(6, SIZE - 6), column - random.uniform(6, SIZE - 6)
            shapes = {
                1: dy**2 + dx**2 < radius**2,
                2: np.maximum(abs(dy), abs(dx)) < 0.85 * radius,
                3: (dy < 0.8 * radius) & (dy > 2 * abs(dx) - radius),
            }
            image[shapes[kind]] += random.choice([-1, 1]) * random.uniform(0.5, 1) - image[shapes[kind]].mean()
            mask[shapes[kind]] = kind
    return images[..., None], masks


random = np.random.default_rng(0)
x_train, y_train = make_images(IMAGES, random)
x_test, y_test = make_images(100, random)

# %%
# The model
# ---------


def block(x, filters):
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu")(x)
    return x


inputs = keras.Input((SIZE, SIZE, 1))
skips = []
x = inputs
for filters in [8, 16, 32]:
    x = block(x, filters)
    skips.append(x)
    x = layers.MaxPooling2D()(x)
x = block(x, 64)
for filters, skip in zip([32, 16, 8], reversed(skips), strict=True):
    x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
    x = block(layers.Concatenate()([x, skip]), filters)
outputs = layers.Conv2D(len(CLASSES), 1, activation="softmax")(x)
model = keras.Model(inputs, outputs)
print(f"{model.count_params():,} parameters")

# %%
# Training
# --------

iou = keras.metrics.MeanIoU(num_classes=len(CLASSES), sparse_y_pred=False, name="iou")
model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy", metrics=["accuracy", iou])
history = model.fit(x_train, y_train, batch_size=25, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2).history

baseline = keras.metrics.MeanIoU(num_classes=len(CLASSES))
baseline.update_state(y_test, np.zeros_like(y_test))
print(f"IoU {history['val_iou'][-1]:.3f}, all background {float(baseline.result()):.3f}")

plt.figure(figsize=(5, 3.5))
plt.plot(history["iou"], label="training")
plt.plot(history["val_iou"], label="test")
plt.xlabel("epoch")
plt.ylabel("mean IoU")
plt.legend()
plt.show()

# %%
# Predictions
# -----------

predicted = model.predict(x_test[:6], verbose=0).argmax(axis=-1)
# sphinx_gallery_thumbnail_number = 2
colors = plt.get_cmap("viridis", len(CLASSES))
figure, axes = plt.subplots(3, 6, figsize=(9, 4.8))
for i in range(6):
    axes[0, i].imshow(x_test[i, ..., 0], cmap="gray")
    axes[1, i].imshow(y_test[i], cmap=colors, vmin=-0.5, vmax=3.5)
    shown = axes[2, i].imshow(predicted[i], cmap=colors, vmin=-0.5, vmax=3.5)
for row, title in zip(axes, ["image", "truth", "prediction"], strict=True):
    row[0].set_ylabel(title)
    for axis in row:
        axis.set(xticks=[], yticks=[])
bar = figure.colorbar(shown, ax=axes, ticks=range(len(CLASSES)))
bar.ax.set_yticklabels(CLASSES)
plt.show()
