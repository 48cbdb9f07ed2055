"""Collaborative filtering: embeddings of users and films, a subclassed model, encoded identifiers."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

users, films = np.repeat(np.arange(10), 10), np.tile(np.arange(10), 10)
ratings = ((users + films) % 2).astype("float32")


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        regularizer = keras.regularizers.l2(1e-6)
        self.user_embedding = layers.Embedding(
            num_users, embedding_size, embeddings_initializer="he_normal", embeddings_regularizer=regularizer
        )
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(
            num_movies, embedding_size, embeddings_initializer="he_normal", embeddings_regularizer=regularizer
        )
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user, movie = self.user_embedding(inputs[:, 0]), self.movie_embedding(inputs[:, 1])
        dot = ops.sum(user * movie, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.movie_bias(inputs[:, 1]))


model = RecommenderNet(10, 10, 8)
model.compile(loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.05))
data = tf.data.Dataset.from_tensor_slices((np.stack([users, films], 1), ratings[:, None])).shuffle(100).batch(20)
history = model.fit(data, epochs=20, verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0] / 2
top = model.predict(np.stack([np.zeros(10, int), np.arange(10)], 1), verbose=0).flatten().argsort()[-5:][::-1]
assert set(top.tolist()) == {1, 3, 5, 7, 9}
