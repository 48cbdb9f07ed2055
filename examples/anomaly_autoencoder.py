"""
Find anomalies with an autoencoder
==================================

An autoencoder learns to copy normal heartbeats through a bottleneck of a few numbers. It never sees abnormal beats. A beat that
it cannot copy well is an anomaly.

The script makes the beats: a P wave, a QRS complex and a T wave as bell curves, with random times, widths and heights, and noise.
Anomalies are beats without a P wave, with a broad QRS complex, or with an inverted T wave, and weaker forms of these. The
reconstruction error finds them with an **AUC of 0.90**; the distance from the mean beat reaches 0.61. It takes 5 s on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

import nbkeras as keras
from nbkeras import layers

EPOCHS = 30
BEATS = 4000
SAMPLES = 96

keras.utils.set_random_seed(0)

# %%
# The beats
# ---------

rng = np.random.default_rng(0)
time = np.linspace(0, 1, SAMPLES)
WAVES = {"P": (0.20, 0.030, 0.25), "Q": (0.36, 0.012, -0.2), "R": (0.40, 0.015, 1.2), "S": (0.44, 0.012, -0.3)}
WAVES["T"] = (0.66, 0.055, 0.4)


def beat(kind):
    stretch, shift, strength = rng.uniform(0.85, 1.15), rng.uniform(-0.04, 0.04), rng.uniform(0.3, 1)
    values = np.zeros(SAMPLES)
    for name, (place, width, height) in WAVES.items():
        width, height = width * rng.uniform(0.85, 1.15), height * rng.uniform(0.8, 1.2)
        if kind == "no P" and name == "P":
            height *= 1 - strength
        elif kind == "broad QRS" and name in "QRS":
            width *= 1 + strength
        elif kind == "inverted T" and name == "T":
            height *= 1 - 2 * strength
        center = 0.4 + stretch * (place - 0.4) + shift
        values += height * np.exp(-0.5 * ((time - center) / width) ** 2)
    return values + rng.normal(scale=0.03, size=SAMPLES)


kinds = ["normal", "no P", "broad QRS", "inverted T"]
x_train = np.array([beat("normal") for _ in range(BEATS)], dtype="float32")
test_kinds = np.repeat(kinds, [600, 200, 200, 200])
x_test = np.array([beat(kind) for kind in test_kinds], dtype="float32")

# %%
# The model
# ---------
# Convolutions shrink the beat to 12 steps, and a ``Dense`` layer to six numbers; the decoder does the opposite.

model = keras.Sequential(
    [
        keras.Input((SAMPLES, 1)),
        layers.Conv1D(16, 7, strides=2, padding="same", activation="relu"),
        layers.Conv1D(16, 7, strides=2, padding="same", activation="relu"),
        layers.Conv1D(8, 5, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(6, name="bottleneck"),
        layers.Dense(SAMPLES // 8 * 8, activation="relu"),
        layers.Reshape((SAMPLES // 8, 8)),
        layers.Conv1DTranspose(16, 5, strides=2, padding="same", activation="relu"),
        layers.Conv1DTranspose(16, 7, strides=2, padding="same", activation="relu"),
        layers.Conv1DTranspose(1, 7, strides=2, padding="same"),
    ]
)
model.compile(keras.optimizers.Adam(0.002), "mse")
model.summary()
history = model.fit(
    x_train[..., None], x_train[..., None], batch_size=64, epochs=EPOCHS, validation_split=0.1, verbose=0
).history
print(f"validation loss: {history['val_loss'][0]:.5f} in the first epoch, {history['val_loss'][-1]:.5f} in the last")

plt.plot(range(1, EPOCHS + 1), history["loss"], label="training")
plt.plot(range(1, EPOCHS + 1), history["val_loss"], label="validation")
plt.yscale("log")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.legend()
plt.show()

# %%
# Beats and their copies
# ----------------------

copies = model.predict(x_test[..., None], verbose=0)[..., 0]
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), sharey=True)
for kind, axis in zip(kinds, axes, strict=True):
    index = np.argmax(test_kinds == kind)
    axis.plot(time, x_test[index], label="beat")
    axis.plot(time, copies[index], label="copy")
    axis.set_title(kind)
    axis.set_xlabel("time")
axes[0].legend(fontsize="small")
plt.tight_layout()
plt.show()

# %%
# The threshold
# -------------
# The threshold comes from the training set: 2% of its beats may be called anomalies.

train_errors = np.mean((model.predict(x_train[..., None], verbose=0)[..., 0] - x_train) ** 2, axis=1)
threshold = np.quantile(train_errors, 0.98)
errors = np.mean((copies - x_test) ** 2, axis=1)
bins = np.geomspace(errors.min(), errors.max(), 40)
# sphinx_gallery_thumbnail_number = 3
plt.hist([errors[test_kinds == kind] for kind in kinds], bins, stacked=True, label=kinds)
plt.axvline(threshold, color="black", linestyle="--", label="threshold")
plt.xscale("log")
plt.xlabel("reconstruction error")
plt.ylabel("beats")
plt.legend()
plt.show()
for kind in kinds:
    print(f"{kind}: {np.mean(errors[test_kinds == kind] > threshold):.1%} above the threshold")

# %%
# ROC curve
# ---------

sick = test_kinds != "normal"
distances = np.mean((x_test - x_train.mean(axis=0)) ** 2, axis=1)
for name, score in {"autoencoder": errors, "distance from the mean beat": distances}.items():
    auc = roc_auc_score(sick, score)
    print(f"{name}: AUC {auc:.3f}")
    plt.plot(*roc_curve(sick, score)[:2], label=f"{name} (AUC {auc:.3f})")
plt.xlabel("false alarms")
plt.ylabel("anomalies found")
plt.legend()
plt.show()
