"""
Keyword spotting
================

A small convolutional network detects which of six signals is in one second of noisy sound, or that there is none. The sound
becomes a spectrogram with ``ops.stft``, and the network reads that as an image.

The script makes the sounds: each class is a pattern of tones, with random pitch, speed, time and loudness, and noise.
The test accuracy is **0.98** with seven classes (guessing: 0.14). It takes 18 s on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

import nbkeras as keras
from nbkeras import layers, ops

EPOCHS = 6
SOUNDS = 3000
RATE = 4000

keras.utils.set_random_seed(0)

# %%
# The sounds
# ----------
# A pattern is a list of frequencies over time. The noise has more energy at low frequencies, as in a room.

PATTERNS = {
    "rising": lambda t: 500 + 600 * t,
    "falling": lambda t: 1100 - 600 * t,
    "two tones": lambda t: np.where(t < 0.5, 600, 1000),
    "siren": lambda t: 800 + 250 * np.sin(4 * np.pi * t),
    "steady": lambda t: np.full_like(t, 800.0),
    "bird": lambda t: 900 + 500 * ((4 * t) % 1),
}
classes = ["nothing", *PATTERNS]
rng = np.random.default_rng(0)


def sound(label):
    noise = rng.normal(size=RATE)
    samples = 0.3 * noise + 0.03 * np.cumsum(noise - noise.mean())
    if label:
        length = int(RATE * rng.uniform(0.4, 0.8))
        start = rng.integers(RATE - length)
        frequency = rng.uniform(0.8, 1.25) * PATTERNS[classes[label]](np.linspace(0, 1, length))
        tone = np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * np.hanning(length) ** 0.3
        samples[start : start + length] += rng.uniform(0.15, 0.5) * tone
    return samples


labels = rng.integers(len(classes), size=SOUNDS)
sounds = np.array([sound(label) for label in labels], dtype="float32")

# %%
# Spectrograms
# ------------
# ``stft`` splits the sound into frames of 256 samples, 64 apart, and returns the real and imaginary part of each frequency. The
# logarithm of the power is closer to human hearing.


def spectrograms(sounds):
    real, imaginary = ops.stft(sounds, sequence_length=256, sequence_stride=64, fft_length=256)
    power = ops.square(real) + ops.square(imaginary)
    return ops.convert_to_numpy(ops.log(power + 1e-3))[:, :, :96, None]


x = spectrograms(sounds)
cut = SOUNDS * 4 // 5

figure, axes = plt.subplots(2, 4, figsize=(10, 5), sharex=True, sharey=True)
for label, axis in enumerate(axes.flat):
    if label == len(classes):
        axis.axis("off")
        continue
    axis.imshow(x[np.argmax(labels == label), :, :, 0].T, origin="lower", aspect="auto", extent=(0, 1, 0, 1500))
    axis.set_title(classes[label])
figure.supxlabel("seconds")
figure.supylabel("Hz")
plt.tight_layout()
plt.show()

# %%
# The model
# ---------

normalize = layers.Normalization(axis=None)
normalize.adapt(x[:cut])
model = keras.Sequential(
    [
        keras.Input(x.shape[1:]),
        normalize,
        layers.Conv2D(8, 5, strides=2, padding="same", activation="relu"),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(64, activation="relu"),
        layers.Dense(len(classes), activation="softmax"),
    ]
)
model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()
history = model.fit(
    x[:cut], labels[:cut], batch_size=32, epochs=EPOCHS, validation_data=(x[cut:], labels[cut:]), verbose=2
).history

# %%
# Results
# -------

print(f"test accuracy {history['val_accuracy'][-1]:.3f}")
# sphinx_gallery_thumbnail_number = 2
ConfusionMatrixDisplay.from_predictions(
    labels[cut:],
    model.predict(x[cut:], verbose=0).argmax(axis=1),
    labels=range(len(classes)),
    display_labels=classes,
    xticks_rotation=45,
    colorbar=False,
)
plt.tight_layout()
plt.show()
