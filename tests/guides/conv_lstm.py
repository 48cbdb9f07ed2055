"""Next-frame prediction with ConvLSTM2D."""

import keras
import numpy as np
from keras import layers

inp = layers.Input(shape=(None, 12, 12, 1))
x = layers.ConvLSTM2D(filters=4, kernel_size=(3, 3), padding="same", return_sequences=True, activation="relu")(inp)
x = layers.BatchNormalization()(x)
x = layers.ConvLSTM2D(filters=4, kernel_size=(1, 1), padding="same", return_sequences=True, activation="relu")(x)
model = keras.Model(inp, layers.Conv3D(filters=1, kernel_size=(3, 3, 3), activation="sigmoid", padding="same")(x))
model.compile(loss=keras.losses.binary_crossentropy, optimizer=keras.optimizers.Adam())
callbacks = [
    keras.callbacks.EarlyStopping(monitor="val_loss", patience=10),
    keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=5),
]
movies = np.random.random((4, 6, 12, 12, 1))
history = model.fit(
    movies[:, :-1], movies[:, 1:], batch_size=2, epochs=1, validation_split=0.5, callbacks=callbacks, verbose=0
)
assert "learning_rate" in history.history
