"""Transfer learning: freezing, BatchNormalization's special case, a base from keras.applications, fine-tuning."""

import keras
import numpy as np

layer = keras.layers.BatchNormalization()
layer.build((None, 4))
assert (len(layer.weights), len(layer.trainable_weights), len(layer.non_trainable_weights)) == (4, 2, 2)
base_model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35)
base_model.trainable = False
inputs = keras.Input(shape=(32, 32, 3))
x = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
x = base_model(x, training=False)
x = keras.layers.GlobalAveragePooling2D()(x)
x = keras.layers.Dropout(0.2)(x)
model = keras.Model(inputs, keras.layers.Dense(1)(x))
model.compile(
    optimizer=keras.optimizers.Adam(),
    loss=keras.losses.BinaryCrossentropy(from_logits=True),
    metrics=[keras.metrics.BinaryAccuracy()],
)
frozen = base_model.get_weights()
images, labels = np.random.random((8, 32, 32, 3)) * 255, np.random.randint(0, 2, 8)
model.fit(images, labels, epochs=1, verbose=0)
assert all(np.array_equal(a, b) for a, b in zip(frozen, base_model.get_weights(), strict=True))
assert len(model.trainable_weights) == 2
base_model.trainable = True
model.compile(optimizer=keras.optimizers.Adam(1e-5), loss=keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(images, labels, epochs=1, verbose=0)
assert any(not np.array_equal(a, b) for a, b in zip(frozen, base_model.get_weights(), strict=True))
