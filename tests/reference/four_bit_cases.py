"""The model with weights of 4 bits whose results scripts/make_names_references.py stores."""

import numpy as np


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def language_model(keras, tied):
    layers = keras.layers
    tokens, table = keras.Input((6,), dtype="int32"), layers.ReversibleEmbedding(11, 10, tie_weights=tied, name="table")
    x = layers.Dense(9, activation="relu", name="dense")(table(tokens))
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", name="query")(x)
    x = layers.EinsumDense("abde,def->abf", (None, 7), name="output")(x)
    x = layers.Add()([layers.Embedding(11, 7, name="embedding")(tokens), x])
    x = layers.EinsumDense("abc,dc->abd", (None, 10), name="turned")(x)
    model = keras.Model(tokens, table(layers.Dense(10, name="last")(x), reverse=True))
    model.set_weights([random(number, *weight.shape) for number, weight in enumerate(model.weights)])
    return model
