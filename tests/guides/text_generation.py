"""Text generation with a miniature GPT: a causal mask, a callback that samples."""

import keras
import numpy as np
from keras import layers, ops


def causal_attention_mask(batch_size, n_dest, n_src, dtype):
    i, j = ops.arange(n_dest)[:, None], ops.arange(n_src)
    mask = ops.reshape(ops.cast(i >= j - n_src + n_dest, dtype), [1, n_dest, n_src])
    return ops.broadcast_to(mask, [batch_size, n_dest, n_src])


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.norm = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        batch, length = ops.shape(inputs)[0], ops.shape(inputs)[1]
        mask = causal_attention_mask(batch, length, length, "bool")
        return self.norm(inputs + self.att(inputs, inputs, attention_mask=mask))


class TextGenerator(keras.callbacks.Callback):
    sampled = None

    def on_epoch_end(self, epoch, logs=None):
        logits, _ = self.model.predict(np.ones((1, 10), "int32"), verbose=0)
        probabilities = ops.convert_to_numpy(keras.activations.softmax(ops.expand_dims(logits[0][3], 0)))[0]
        TextGenerator.sampled = np.random.choice(50, p=probabilities / probabilities.sum())


inputs = layers.Input(shape=(10,), dtype="int32")
x = TransformerBlock(8, 2)(layers.Embedding(50, 8)(inputs))
model = keras.Model(inputs=inputs, outputs=[layers.Dense(50)(x), x])
model.compile("adam", loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True), None])
tokens = np.random.randint(0, 50, (32, 11))
model.fit(tokens[:, :-1], tokens[:, 1:], epochs=1, verbose=0, callbacks=[TextGenerator()])
assert 0 <= TextGenerator.sampled < 50
