"""Image classification from scratch: a folder of images, augmentation, Rescaling in the model."""

import os
import tempfile

import keras
import numpy as np
from keras import layers

with tempfile.TemporaryDirectory() as folder:
    for name in ("cat", "dog"):
        os.makedirs(os.path.join(folder, name))
        for i in range(6):
            keras.utils.save_img(os.path.join(folder, name, f"{i}.png"), np.random.randint(0, 256, (20, 24, 3)))
    train, validation = keras.utils.image_dataset_from_directory(
        folder, validation_split=0.25, subset="both", seed=1337, image_size=(16, 16), batch_size=4
    )
    assert train.class_names == ["cat", "dog"]
    inputs = keras.Input(shape=(16, 16, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(x)))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(1, activation=None)(x))
    model.compile(
        optimizer=keras.optimizers.Adam(3e-4),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="acc")],
    )
    history = model.fit(train, epochs=1, validation_data=validation, verbose=0)
    image = keras.utils.img_to_array(keras.utils.load_img(os.path.join(folder, "cat", "0.png"), target_size=(16, 16)))
assert set(history.history) == {"acc", "loss", "val_acc", "val_loss"}
score = float(keras.ops.sigmoid(model.predict(image[None], verbose=0)[0][0]))
assert 0 < score < 1
