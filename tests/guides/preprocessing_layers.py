"""Preprocessing layers: text inside a model, lookups, normalization, crossing, images."""

import keras
import numpy as np
from keras import layers, ops

text = ops.convert_to_tensor([["I like Keras"], ["I like deep learning"], ["Deep nets are fun"], ["cats and dogs"]])
vectorizer = layers.TextVectorization(output_mode="int", output_sequence_length=6)
vectorizer.adapt(text)
inputs = keras.Input(shape=(1,), dtype="string")
x = vectorizer(inputs)
x = layers.Embedding(vectorizer.vocabulary_size(), 8, mask_zero=True)(x)
x = layers.Bidirectional(layers.LSTM(8))(x)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.fit(text, np.array([1, 1, 1, 0]), epochs=2, verbose=0)
vocab = ["a", "b", "c", "d"]
data = np.array([["a", "c", "d"], ["d", "z", "b"]])
lookup = layers.StringLookup(vocabulary=vocab)
np.testing.assert_array_equal(ops.convert_to_numpy(lookup(data)), [[1, 3, 4], [4, 0, 2]])
multi = layers.StringLookup(vocabulary=vocab, output_mode="multi_hot")
np.testing.assert_array_equal(ops.convert_to_numpy(multi(data)), [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]])
discretized = layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0])(np.array([[-1.5, 1.0, 3.4, 0.5]]))
np.testing.assert_array_equal(ops.convert_to_numpy(discretized), [[0, 2, 3, 1]])
normalization = layers.Normalization()
normalization.adapt(np.array([[0.1, 0.2], [0.8, 0.9]]))
assert abs(float(np.mean(ops.convert_to_numpy(normalization(np.array([[0.1, 0.2], [0.8, 0.9]])))))) < 1e-5
crossed = layers.HashedCrossing(num_bins=64, output_mode="int")((np.array(["a", "b"]), np.array([1, 2])))
assert tuple(crossed.shape) == (2,)
augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)])
assert tuple(augment(np.random.random((2, 16, 16, 3)).astype("float32"), training=True).shape) == (2, 16, 16, 3)
