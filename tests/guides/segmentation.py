"""Image segmentation with a U-Net-like Xception of one's own."""

import keras
import numpy as np
from keras import layers

inputs = keras.Input(shape=(32, 32, 3))
x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(inputs)))
previous = x
for filters in [8, 16]:
    x = layers.BatchNormalization()(layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x)))
    x = layers.BatchNormalization()(layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x)))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(previous)])
    previous = x
for filters in [16, 8, 8]:
    x = layers.BatchNormalization()(layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x)))
    x = layers.UpSampling2D(2)(x)
    x = layers.add([x, layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(previous))])
    previous = x
model = keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))
model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="sparse_categorical_crossentropy")
masks = np.random.randint(0, 3, (4, 32, 32, 1))
model.fit(np.random.random((4, 32, 32, 3)), masks, epochs=1, verbose=0)
iou = keras.metrics.MeanIoU(num_classes=3, sparse_y_pred=False)
iou.update_state(masks, model.predict(np.random.random((4, 32, 32, 3)), verbose=0))
assert 0 <= float(iou.result()) <= 1
