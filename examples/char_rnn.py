"""
Text, character by character, with a stateful LSTM
==================================================

A recurrent network reads Python's help texts and predicts the next character at each position. Then it writes new text, one
character at a time.

The data are the 370,000 characters of ``pydoc_data.topics``, which comes with Python. The network needs
**2.21 bits per character** on text that it has not seen; characters drawn by their frequency need 4.68.
It takes 10 s on two cores.
"""

from pydoc_data.topics import topics
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers

EPOCHS = 6
CHARACTERS = 500_000
STREAMS = 32
STEPS = 64
UNITS = 128
SAMPLE = 500

keras.utils.set_random_seed(0)

# %%
# The text
# --------
# Some paragraphs appear in several texts: each is taken once, so that the last tenth, which is for validation, is new.

text = "\n\n".join(dict.fromkeys("\n\n".join(topics.values()).split("\n\n")))[:CHARACTERS]
text = "".join(character for character in text if character.isascii())
alphabet = sorted(set(text))
codes = np.array([alphabet.index(character) for character in text], dtype="int32")
cut = len(codes) * 9 // 10

# %%
# A stateful layer starts each batch with the last states of the previous batch, so sample *i* of a batch must continue sample *i*
# of the previous batch. The text is cut into 32 streams, which are read side by side in pieces of 64 steps. The target is the
# same text, one character further.


def in_streams(codes):
    pieces = (len(codes) - 1) // (STREAMS * STEPS)

    def order(codes):
        streams = codes[: STREAMS * pieces * STEPS].reshape(STREAMS, pieces, STEPS)
        return streams.swapaxes(0, 1).reshape(-1, STEPS)

    return order(codes[:-1]), order(codes[1:])


x_train, y_train = in_streams(codes[:cut])
x_test, y_test = in_streams(codes[cut:])

# %%
# The model
# ---------

model = keras.Sequential(
    [
        keras.Input(batch_shape=(STREAMS, None), dtype="int32"),
        layers.Embedding(len(alphabet), 32),
        layers.LSTM(UNITS, return_sequences=True, stateful=True),
        layers.Dense(len(alphabet)),
    ]
)
model.compile(keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.summary()

# %%
# Training
# --------
# The states are set to zero where the text starts again.

train_bits, test_bits = [], []
for epoch in range(EPOCHS):
    model.reset_states()
    history = model.fit(x_train, y_train, batch_size=STREAMS, shuffle=False, verbose=0)
    train_bits.append(history.history["loss"][0] / np.log(2))
    model.reset_states()
    test_bits.append(model.evaluate(x_test, y_test, batch_size=STREAMS, verbose=0) / np.log(2))
    print(f"epoch {epoch + 1}: {train_bits[-1]:.3f} bits per character, {test_bits[-1]:.3f} on unseen text")

# %%
# The frequencies of the characters alone give this many bits:

frequencies = np.bincount(codes[:cut], minlength=len(alphabet)) + 1
unigram_bits = -np.log2(frequencies / frequencies.sum())[codes[cut:]].mean()
print(f"by frequency: {unigram_bits:.3f} bits per character")

epochs = range(1, EPOCHS + 1)
plt.plot(epochs, train_bits, label="training")
plt.plot(epochs, test_bits, label="unseen text")
plt.axhline(unigram_bits, color="gray", linestyle=":", label="by frequency")
plt.xlabel("epoch")
plt.ylabel("bits per character")
plt.ylim(0)
plt.legend()
plt.show()

# %%
# Writing
# -------
# The same model now reads one stream: after ``reset_states()`` the batch size may change. The states remember
# the text, so each step gives the model only the last character. A temperature below 1 makes likely characters likelier.


def write(prompt, length, temperature=0.5):
    model.reset_states()
    logits = model.predict_on_batch(np.array([[alphabet.index(character) for character in prompt]]))[0, -1]
    for _ in range(length):
        probabilities = np.exp((logits - logits.max()) / temperature)
        code = np.random.choice(len(alphabet), p=probabilities / probabilities.sum())
        prompt += alphabet[code]
        logits = model.predict_on_batch(np.array([[code]]))[0, -1]
    return prompt


sample = write("The ", SAMPLE)
print(sample)
# sphinx_gallery_thumbnail_number = 2
plt.figure(figsize=(7, 4))
plt.figtext(0.02, 0.02, fill(sample, 50), family="monospace")
plt.show()
