"""
Metric learning with a siamese network
======================================

Do two images show the same thing? A siamese network applies one encoder to both and compares the results. It learns a distance
that is small between images of one class.

The data are the 8x8 digits that come with nbkeras. The network is trained with pairs of the digits 0 to 6 and tested with pairs
of new images. For these digits, a pair of one digit is closer than a pair of two digits with a probability of 1.000 (0.871 for
the plain distance of the pixels). For the digits 7 to 9, which it never saw, the probability is 0.811, less than the 0.862 of the
pixels: seven classes are too few to learn a distance that works for others. The whole program takes about 7 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.datasets import digits

EPOCHS = 4
PAIRS = 8000

keras.utils.set_random_seed(0)

# %%
# The data
# --------
#
# Half of the pairs show the same digit twice.


def make_pairs(images, labels, count, random):
    first = random.integers(len(images), size=count)
    same = random.integers(2, size=count)
    second = [random.choice(np.flatnonzero((labels == labels[i]) == bool(s))) for i, s in zip(first, same, strict=True)]
    return images[first], images[second], same.astype("float32")


(x_train, y_train), (x_test, y_test) = digits.load_data()
x_train = x_train[..., None].astype("float32") / 16
x_test = x_test[..., None].astype("float32") / 16
random = np.random.default_rng(0)
left_train, right_train, same_train = make_pairs(x_train[y_train < 7], y_train[y_train < 7], PAIRS, random)
known = make_pairs(x_test[y_test < 7], y_test[y_test < 7], 1000, random)
new = make_pairs(x_test[y_test >= 7], y_test[y_test >= 7], 1000, random)

# %%
# The model
# ---------
#
# The encoder is one model that is called twice, so both images use the same weights. Its output is a point on a sphere, so the
# distance of two images is a number from 0 to 2.

encoder = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.6),
        layers.Dense(32),
        layers.UnitNormalization(),
    ],
    name="encoder",
)


class Distance(layers.Layer):
    def call(self, left, right):
        return ops.sqrt(ops.sum(ops.square(left - right), axis=-1, keepdims=True) + 1e-7)


left = keras.Input((8, 8, 1), name="left")
right = keras.Input((8, 8, 1), name="right")
siamese = keras.Model([left, right], Distance()(encoder(left), encoder(right)))

# %%
# The contrastive loss pulls pairs of one digit together, and pushes other pairs apart until their distance is
# ``MARGIN``.

MARGIN = 1.0


def contrastive_loss(same, distance):
    return same * ops.square(distance) + (1 - same) * ops.square(ops.maximum(MARGIN - distance, 0))


siamese.compile(optimizer="adam", loss=contrastive_loss)
history = siamese.fit(
    [left_train, right_train],
    same_train,
    batch_size=64,
    epochs=EPOCHS,
    validation_data=([known[0], known[1]], known[2]),
    verbose=2,
).history

# %%
# Distances
# ---------
#
# The area under the ROC curve (AUC) is the probability that a pair of one digit is closer than a pair of two digits:
# 0.5 is chance.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharex=True, sharey=True)
for axis, (name, (a, b, same)) in zip(axes, {"known digits 0-6": known, "new digits 7-9": new}.items(), strict=True):
    distances = siamese.predict([a, b], verbose=0)[:, 0]
    pixels = np.sqrt(((a - b) ** 2).sum(axis=(1, 2, 3)))
    learned, plain = roc_auc_score(same, -distances), roc_auc_score(same, -pixels)
    print(f"{name}: AUC {learned:.3f}, of the distance of pixels {plain:.3f}")
    axis.hist([distances[same == 1], distances[same == 0]], bins=30, label=["same digit", "two digits"], stacked=True)
    axis.set(title=f"{name}: AUC {learned:.3f}", xlabel="distance", ylabel="pairs")
    axis.legend()
plt.tight_layout()
plt.show()

# %%
# The space of the encoder
# ------------------------
#
# The two main directions of the 32 numbers, for all test images. Crosses are digits that the encoder never saw.

codes = encoder.predict(x_test, verbose=0)
codes = codes - codes.mean(axis=0)
points = codes @ np.linalg.svd(codes, full_matrices=False)[2][:2].T
# sphinx_gallery_thumbnail_number = 2
plt.figure(figsize=(5.5, 4.5))
for digit in range(10):
    plt.scatter(*points[y_test == digit].T, s=15, marker="x" if digit >= 7 else "o", label=digit)
plt.xlabel("first direction")
plt.ylabel("second direction")
plt.legend(title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
