"""
A small GPT that writes characters
==================================

In a causal Transformer each position attends only to earlier positions and predicts the next character. So one call with 64
characters trains 64 predictions. After training, the model writes text.

The data are the 370,000 characters of ``pydoc_data.topics``, the help texts that come with Python. After this short training the
model needs **2.36 bits per character** on text that it has not seen; pairs of characters (how often does "h" follow "t"?) need
3.59. It takes 27 s on two cores.
"""

from pydoc_data.topics import topics
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers, ops

EPOCHS = 6
STEPS_PER_EPOCH = 150
BATCH = 32
CONTEXT = 64
WIDTH = 64
HEADS = 4
BLOCKS = 2
SAMPLE = 400

keras.utils.set_random_seed(0)

# %%
# The text
# --------
# Some paragraphs appear in several texts: each is taken once, so that the last tenth, which is for validation, is new.
# A batch has sequences of 64 characters from random positions; the target is one character further.

text = "\n\n".join(dict.fromkeys("\n\n".join(topics.values()).split("\n\n")))
text = "".join(character for character in text if character.isascii())
alphabet = sorted(set(text))
codes = np.array([alphabet.index(character) for character in text])
train, test = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :]


def batches():
    rng = np.random.default_rng(0)
    while True:
        starts = rng.integers(len(train) - CONTEXT, size=BATCH)
        places = starts[:, None] + np.arange(CONTEXT)
        yield train[places], train[places + 1]


places = np.arange(0, len(test) - CONTEXT, CONTEXT)[:300, None] + np.arange(CONTEXT)
validation = test[places], test[places + 1]

# %%
# The model
# ---------
# A block as in GPT-2: normalization, attention, shortcut; normalization, two-layer network, shortcut.


class Block(layers.Layer):
    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.network = keras.Sequential([layers.Dense(4 * width, activation="gelu"), layers.Dense(width)])
        self.norm_1, self.norm_2 = layers.LayerNormalization(), layers.LayerNormalization()

    def call(self, x):
        normed = self.norm_1(x)
        x = x + self.attention(normed, normed, use_causal_mask=True)
        return x + self.network(self.norm_2(x))


class GPT(keras.Model):
    def __init__(self, characters):
        super().__init__()
        self.characters = layers.Embedding(characters, WIDTH)
        self.positions = layers.Embedding(CONTEXT, WIDTH)
        self.blocks = [Block(WIDTH, HEADS) for _ in range(BLOCKS)]
        self.norm = layers.LayerNormalization()
        self.logits = layers.Dense(characters)

    def call(self, inputs):
        x = self.characters(inputs) + self.positions(ops.arange(inputs.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


model = GPT(len(alphabet))
model.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

# %%
# Writing
# -------
# The model reads the last 64 characters, and its last position predicts the next one. A shorter text is padded at its end, which
# earlier positions cannot see.


def write(prompt, length, temperature=0.7):
    text = [alphabet.index(character) for character in prompt]
    for _ in range(length):
        window = text[-CONTEXT:]
        padded = np.array([window + [0] * (CONTEXT - len(window))])
        logits = model.predict_on_batch(padded)[0, len(window) - 1] / temperature
        probabilities = np.exp(logits - logits.max())
        text.append(np.random.choice(len(alphabet), p=probabilities / probabilities.sum()))
    return "".join(alphabet[code] for code in text)


class Sample(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(f"\nepoch {epoch + 1}, {logs['val_loss'] / np.log(2):.2f} bits per character: {write('The ', 60)!r}")


# %%
# Training
# --------

options = {"epochs": EPOCHS, "steps_per_epoch": STEPS_PER_EPOCH, "callbacks": [Sample()], "verbose": 0}
history = model.fit(batches(), validation_data=validation, **options).history

# %%
# For comparison: the frequencies of pairs of characters in the training text.

pairs = np.full((len(alphabet), len(alphabet)), 0.1)
np.add.at(pairs, (train[:-1], train[1:]), 1)
pair_bits = -np.log2(pairs / pairs.sum(axis=1, keepdims=True))[validation].mean()
bits = np.array(history["val_loss"]) / np.log(2)
print(f"GPT: {bits[-1]:.3f} bits per character on unseen text; pairs: {pair_bits:.3f}")

steps = STEPS_PER_EPOCH * np.arange(1, EPOCHS + 1)
plt.plot(steps, np.array(history["loss"]) / np.log(2), label="training")
plt.plot(steps, bits, label="unseen text")
plt.axhline(pair_bits, color="gray", linestyle=":", label="pairs of characters")
plt.xlabel("step")
plt.ylabel("bits per character")
plt.legend()
plt.show()
sample = write("The ", SAMPLE)
print(sample)
# sphinx_gallery_thumbnail_number = 2
plt.figure(figsize=(7, 4))
plt.figtext(0.02, 0.02, fill(sample, 50), family="monospace")
plt.show()
