"""Collaborative filtering by embeddings in a subclassed model, with string lookups outside."""

import keras
import numpy as np
from keras import layers, ops


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(
            num_users,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-6),
        )
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(
            num_movies,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-6),
        )
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user, movie = inputs[:, 0], inputs[:, 1]
        dot = ops.sum(self.user_embedding(user) * self.movie_embedding(movie), axis=-1, keepdims=True)
        return ops.nn.sigmoid(dot + self.user_bias(user) + self.movie_bias(movie))


users = layers.StringLookup(vocabulary=["ann", "bob", "eve"])
assert np.asarray(users(["bob", "zoe"])).tolist() == [2, 0]
model = RecommenderNet(20, 30, 8)
model.compile(loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.001))
x = np.stack([np.random.randint(0, 20, 128), np.random.randint(0, 30, 128)], axis=1)
history = model.fit(x=x, y=np.random.random(128), batch_size=64, epochs=2, verbose=0, validation_split=0.1)
assert np.isfinite(history.history["val_loss"]).all()
