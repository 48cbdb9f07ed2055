"""Masking and padding: generation, propagation and layers that support masks."""

import keras
import numpy as np
from keras import layers, ops

raw = [[711, 632, 71], [73, 8, 3215, 55, 927], [83, 91, 1, 645, 1253, 927]]
padded = keras.utils.pad_sequences(raw, padding="post")
embedding = layers.Embedding(input_dim=5000, output_dim=16, mask_zero=True)
mask = ops.convert_to_numpy(embedding.compute_mask(padded))
np.testing.assert_array_equal(mask, padded != 0)
masking_layer = layers.Masking()
unmasked = ops.cast(ops.tile(ops.expand_dims(padded, axis=-1), [1, 1, 10]), "float32")
assert tuple(masking_layer(unmasked).shape) == (3, 6, 10)


class TemporalSoftmax(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        broadcast = ops.expand_dims(ops.cast(mask, "float32"), -1)
        e = ops.exp(inputs) * broadcast
        return e / ops.sum(e * broadcast, axis=1, keepdims=True)


class MyActivation(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return ops.relu(inputs)


inputs = keras.Input(shape=(None,), dtype="int32")
x = MyActivation()(layers.Dense(1)(layers.Embedding(input_dim=5000, output_dim=16, mask_zero=True)(inputs)))
model = keras.Model(inputs, TemporalSoftmax()(x))
result = ops.convert_to_numpy(model(padded))
assert np.all(result[0, 3:] == 0)
np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)
