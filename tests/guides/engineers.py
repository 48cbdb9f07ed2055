"""Introduction to Keras for engineers: a convnet, checkpoints, a data set object, a saved model."""

import os
import tempfile

import keras
import numpy as np

x_train = np.random.default_rng(0).integers(0, 256, (64, 28, 28)).astype("float32") / 255
x_train, y_train = np.expand_dims(x_train, -1), np.random.default_rng(1).integers(0, 10, 64)
model = keras.Sequential(
    [
        keras.layers.Input(shape=(28, 28, 1)),
        keras.layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        keras.layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        keras.layers.MaxPooling2D(pool_size=(2, 2)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    loss=keras.losses.SparseCategoricalCrossentropy(),
    optimizer=keras.optimizers.Adam(learning_rate=1e-3),
    metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
)


class Data(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return x_train[index * 16 : index * 16 + 16], y_train[index * 16 : index * 16 + 16]


with tempfile.TemporaryDirectory() as folder:
    callbacks = [
        keras.callbacks.ModelCheckpoint(filepath=os.path.join(folder, "model_at_epoch_{epoch}.keras")),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=2),
    ]
    model.fit(x_train, y_train, batch_size=16, epochs=2, validation_split=0.15, callbacks=callbacks, verbose=0)
    assert sorted(os.listdir(folder)) == ["model_at_epoch_1.keras", "model_at_epoch_2.keras"]
    again = keras.saving.load_model(os.path.join(folder, "model_at_epoch_2.keras"))
np.testing.assert_allclose(again.predict(x_train, verbose=0), model.predict(x_train, verbose=0), rtol=1e-5)
model.fit(Data(), epochs=1, verbose=0)
score = model.evaluate(Data(), verbose=0)
assert len(score) == 2
