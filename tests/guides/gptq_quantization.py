"""GPTQ: quantization of the layers of blocks with calibration texts."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
vocabulary = ["a", "b", "c", "d", "e", "f", "g"]
texts = [" ".join(np.random.default_rng(i).choice(vocabulary, 40)) for i in range(8)]


class Tokenizer:
    def tokenize(self, text):
        return np.array([[vocabulary.index(word) for word in text.split()]])


embedding = layers.Embedding(8, 16)
blocks = [
    keras.Sequential([keras.Input((None, 16)), layers.Dense(32, activation="relu"), layers.Dense(16)]) for _ in range(2)
]
head = layers.Dense(8)
model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, *blocks, head])
tokens = np.random.default_rng(9).integers(0, 7, (2, 10))
before, last = model.predict(tokens, verbose=0), head.get_weights()
config = keras.quantizers.GPTQConfig(
    dataset=texts,
    tokenizer=Tokenizer(),
    weight_bits=4,
    num_samples=4,
    sequence_length=10,
    group_size=-1,
    quantization_layer_structure={"pre_block_layers": [embedding], "sequential_blocks": blocks},
)
model.quantize("gptq", config=config)
after = model.predict(tokens, verbose=0)
assert np.mean(np.square(after - before)) < 1e-2 and not np.array_equal(after, before)
