"""Timeseries classification from scratch, with the best checkpoint."""

import os
import tempfile

import keras
import numpy as np

x, y = np.random.random((48, 30, 1)), np.random.randint(0, 2, 48)
input_layer = keras.layers.Input((30, 1))
h = input_layer
for _ in range(3):
    h = keras.layers.ReLU()(
        keras.layers.BatchNormalization()(keras.layers.Conv1D(filters=8, kernel_size=3, padding="same")(h))
    )
model = keras.models.Model(
    inputs=input_layer, outputs=keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling1D()(h))
)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "best_model.keras")
    callbacks = [
        keras.callbacks.ModelCheckpoint(path, save_best_only=True, monitor="val_loss"),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=20, min_lr=0.0001),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=50, verbose=0),
    ]
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
    model.fit(x, y, batch_size=16, epochs=2, callbacks=callbacks, validation_split=0.2, verbose=0)
    best = keras.models.load_model(path)
assert len(best.evaluate(x, y, verbose=0)) == 2
