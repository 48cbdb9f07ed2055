"""Image similarity with a Siamese network and a contrastive loss."""

import keras
import numpy as np
from keras import layers, ops

embedding_in = keras.layers.Input((16, 16, 1))
x = layers.BatchNormalization()(embedding_in)
x = layers.AveragePooling2D(pool_size=(2, 2))(layers.Conv2D(4, (5, 5), activation="tanh")(x))
x = layers.BatchNormalization()(layers.Flatten()(x))
embedding = keras.Model(embedding_in, layers.Dense(10, activation="tanh")(x))
input_1, input_2 = layers.Input((16, 16, 1)), layers.Input((16, 16, 1))


def euclidean_distance(vects):
    a, b = vects
    return ops.sqrt(ops.maximum(ops.sum(ops.square(a - b), axis=1, keepdims=True), keras.backend.epsilon()))


merged = layers.Lambda(euclidean_distance, output_shape=(1,))([embedding(input_1), embedding(input_2)])
siamese = keras.Model(
    inputs=[input_1, input_2], outputs=layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(merged))
)


def loss(margin=1):
    def contrastive_loss(y_true, y_pred):
        return ops.mean((1 - y_true) * ops.square(y_pred) + y_true * ops.square(ops.maximum(margin - y_pred, 0)))

    return contrastive_loss


siamese.compile(loss=loss(margin=1), optimizer="RMSprop", metrics=["accuracy"])
pairs, labels = np.random.random((2, 32, 16, 16, 1)), np.random.randint(0, 2, 32).astype("float32")
history = siamese.fit([pairs[0], pairs[1]], labels, batch_size=16, epochs=2, verbose=0)
assert np.isfinite(history.history["loss"]).all()
