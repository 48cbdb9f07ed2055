"""
Where does the network look? Grad-CAM
=====================================

Grad-CAM shows which part of an image supports a class. It weights the channels of the last convolution by the gradient of the
class's score. The gradient comes from a ``GradientTape``.

The data are made by this script: noisy images with one shape, a circle, a square, a triangle or a cross. The network learns only
the name of the shape, never its position. Its test accuracy is 98.0 %, and 29 % of the heat is on the shapes, which cover 7 % of
the pixels. The whole program takes about 7 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers, ops

EPOCHS = 12
IMAGES = 1500
SIZE = 32
CLASSES = ["circle", "square", "triangle", "cross"]

keras.utils.set_random_seed(0)

# %%
# The data
# --------


def make_images(count, random):
    row, column = np.mgrid[:SIZE, :SIZE]
    labels = random.integers(len(CLASSES), size=count)
    masks = np.zeros((count, SIZE, SIZE), bool)
    for mask, label in zip(masks, labels, strict=True):
        radius = random.uniform(4, 7)
        dy, dx = row - random.uniform(8, SIZE - 8), column - random.uniform(8, SIZE - 8)
        mask[:] = [
            dy**2 + dx**2 < radius**2,
            np.maximum(abs(dy), abs(dx)) < 0.85 * radius,
            (dy < 0.8 * radius) & (dy > 2 * abs(dx) - radius),
            (np.minimum(abs(dy), abs(dx)) < 0.3 * radius) & (np.maximum(abs(dy), abs(dx)) < radius),
        ][label]
    images = masks + random.normal(0, 0.3, masks.shape)
    return images[..., None].astype("float32"), labels, masks


random = np.random.default_rng(0)
x_train, y_train, _ = make_images(IMAGES, random)
x_test, y_test, test_masks = make_images(200, random)

# %%
# The classifier
# --------------

inputs = keras.Input((SIZE, SIZE, 1))
x = inputs
for filters in [16, 32, 64]:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Activation("relu")(x)
    if filters < 64:
        x = layers.MaxPooling2D()(x)
features = x
x = layers.GlobalAveragePooling2D()(features)
outputs = layers.Dense(len(CLASSES))(x)
model = keras.Model(inputs, outputs)
model.compile(
    optimizer=keras.optimizers.Adam(0.003),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2).history

# %%
# The heat map
# ------------
#
# A second model with the same layers also returns the features. Channels that raise the score get a large weight. Negative sums
# are evidence against the class and are set to zero.

with_features = keras.Model(inputs, [features, outputs])


def grad_cam(images, labels):
    with keras.GradientTape() as tape:
        features, scores = with_features(images)
        score = ops.sum(scores * ops.one_hot(labels, len(CLASSES)))
    gradients = tape.gradient(score, features)
    weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
    heat = ops.relu(ops.sum(weights * features, axis=-1, keepdims=True))
    return ops.convert_to_numpy(ops.image.resize(heat, (SIZE, SIZE)))[..., 0]


heat = grad_cam(x_test, y_test)
share = heat[test_masks].sum() / heat.sum()
print(f"heat on the shapes {share:.2f}, area of the shapes {test_masks.mean():.2f}")

figure, axes = plt.subplots(2, 8, figsize=(10, 2.8))
for i, (top, bottom) in enumerate(axes.T):
    top.imshow(x_test[i, ..., 0], cmap="gray")
    top.set_title(CLASSES[y_test[i]], fontsize=9)
    bottom.imshow(x_test[i, ..., 0], cmap="gray")
    bottom.imshow(heat[i], cmap="inferno", alpha=0.6)
    top.axis("off")
    bottom.axis("off")
plt.show()
