"""Trains two small models and exports each as a library: `python make_libraries.py [FOLDER] [EPOCHS]`.

libdigits.so recognizes handwritten digits, one at a time or 32; classify.c and classify.py use it.
libforecast.so predicts the next number of a series, step by step; stream.cpp uses it.
"""

import os
import sys

import numpy as np

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits

folder = sys.argv[1] if len(sys.argv) > 1 else "."
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
keras.utils.set_random_seed(0)

(x_train, y_train), (x_test, y_test) = digits.load_data()
recognizer = keras.Sequential(
    [
        keras.Input((8, 8), name="image"),
        layers.Rescaling(1 / 16),
        layers.Reshape((8, 8, 1)),
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax", name="probabilities"),
    ]
)
recognizer.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
recognizer.fit(x_train, y_train, epochs=epochs, verbose=0)
print(f"digits: accuracy {recognizer.evaluate(x_test, y_test, verbose=0)[1]:.1%}")
recognizer.export(os.path.join(folder, "libdigits.so"), batch=[1, 32])
x_test[:40].astype("<f4").tofile(os.path.join(folder, "images.bin"))

series = np.sin(np.arange(600) * 0.3).astype("float32")
windows = np.lib.stride_tricks.sliding_window_view(series, 31)[..., None]
forecaster = keras.Sequential(
    [keras.Input((30, 1), name="value"), layers.LSTM(24, return_sequences=True), layers.Dense(1, name="following")]
)
forecaster.compile("adam", "mse")
forecaster.fit(windows[:, :-1], windows[:, 1:], epochs=epochs, verbose=0)
print(f"forecast: mean square error {forecaster.evaluate(windows[:, :-1], windows[:, 1:], verbose=0):.4f}")
forecaster.export(os.path.join(folder, "libforecast.so"), state="explicit")
