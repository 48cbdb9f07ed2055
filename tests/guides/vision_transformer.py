"""Vision transformer: patches by ops.image, augmentation in the model, top-5 accuracy."""

import keras
import numpy as np
from keras import layers, ops

image_size, patch_size, projection_dim = 24, 6, 16
num_patches = (image_size // patch_size) ** 2
augmentation = keras.Sequential(
    [
        layers.Normalization(),
        layers.Resizing(image_size, image_size),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(factor=0.02),
        layers.RandomZoom(height_factor=0.2, width_factor=0.2),
    ]
)
x_train, y_train = np.random.random((16, 32, 32, 3)), np.random.randint(0, 10, (16, 1))
augmentation.layers[0].adapt(x_train)


class Patches(layers.Layer):
    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        patches = keras.ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(
            patches, (batch, (height // self.patch_size) * (width // self.patch_size), self.patch_size**2 * channels)
        )


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


inputs = keras.Input(shape=(32, 32, 3))
encoded = PatchEncoder(num_patches, projection_dim)(Patches(patch_size)(augmentation(inputs)))
for _ in range(2):
    x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
    x2 = layers.Add()([layers.MultiHeadAttention(num_heads=2, key_dim=projection_dim, dropout=0.1)(x1, x1), encoded])
    x3 = layers.Dense(projection_dim, activation=keras.activations.gelu)(layers.LayerNormalization(epsilon=1e-6)(x2))
    encoded = layers.Add()([x3, x2])
representation = layers.Dropout(0.5)(layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(encoded)))
model = keras.Model(inputs, layers.Dense(10)(representation))
model.compile(
    optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseTopKCategoricalAccuracy(5, name="top-5-accuracy"),
    ],
)
history = model.fit(x_train, y_train, batch_size=8, epochs=1, verbose=0)
assert {"accuracy", "top-5-accuracy"} < set(history.history)
