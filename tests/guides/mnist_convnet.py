"""Simple MNIST convnet."""

import keras
import numpy as np
from keras import layers

x_train = np.random.random((64, 28, 28, 1)).astype("float32")
y_train = keras.utils.to_categorical(np.random.randint(0, 10, 64), 10)
model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(16, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=32, epochs=1, validation_split=0.1, verbose=0)
assert len(model.evaluate(x_train, y_train, verbose=0)) == 2
assert model.count_params() == (9 + 1) * 8 + (8 * 9 + 1) * 16 + (400 + 1) * 10
