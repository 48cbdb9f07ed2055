"""Timeseries anomaly detection with a convolutional autoencoder."""

import keras
import numpy as np
from keras import layers

x_train = np.sin(np.arange(64 * 32) / 5).reshape(64, 32, 1)
model = keras.Sequential(
    [
        layers.Input(shape=(32, 1)),
        layers.Conv1D(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Dropout(rate=0.2),
        layers.Conv1D(filters=4, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=4, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
history = model.fit(
    x_train,
    x_train,
    epochs=5,
    batch_size=16,
    validation_split=0.1,
    callbacks=[keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, mode="min")],
    verbose=0,
)
assert history.history["loss"][-1] < history.history["loss"][0]
