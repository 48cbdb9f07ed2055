"""
Sequence to sequence with attention
===================================

A network reads dates as people write them, such as "thursday, 12 march 1998", and writes them as "1998-03-12". The encoder is a
bidirectional GRU over the characters. The decoder writes one character at a time and reads the encoder's outputs with an
attention layer. Its weights show the source characters of each digit.

The script makes the dates. **All 1,000 test dates, of days that were not in training, are written without a mistake.**
It takes 5 s on two cores.
"""

from datetime import date, timedelta

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers

EPOCHS = 4
DATES = 10_000
UNITS = 64

keras.utils.set_random_seed(0)

# %%
# The data
# --------
# No day appears twice, so the days of the test are new.

FORMATS = ["%d %B %Y", "%B %d, %Y", "%A, %d %B %Y", "%d %b %y", "%b %d %Y", "%A %B %d %Y", "%d/%m/%Y", "%d.%m.%y"]
rng = np.random.default_rng(0)
days = [date(1970, 1, 1) + timedelta(days=int(day)) for day in rng.permutation(365 * 60)[:DATES]]
written = [day.strftime(rng.choice(FORMATS)).lower() for day in days]
iso = [day.isoformat() for day in days]
for pair in zip(written[:5], iso[:5], strict=True):
    print(*pair, sep=" -> ")

# %%
# Code 0 is padding. The decoder's input is its target, one character late, with a start sign in front.

START = "^"
letters = sorted(set("".join(written)))
digits = sorted("0123456789-" + START)
length = max(map(len, written))
encoder_input = np.array([[letters.index(c) + 1 for c in text] + [0] * (length - len(text)) for text in written])
target = np.array([[digits.index(c) for c in text] for text in iso])
decoder_input = np.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=digits.index(START))
cut = DATES * 9 // 10

# %%
# The model
# ---------
# In training, the decoder reads the correct previous characters at each position (teacher forcing), so one call computes all ten
# positions. The embedding passes the padding mask to the attention.

source = keras.Input((length,), dtype="int32", name="source")
x = layers.Embedding(len(letters) + 1, 32, mask_zero=True)(source)
encoded = layers.Bidirectional(layers.GRU(UNITS // 2, return_sequences=True))(x)

previous = keras.Input((10,), dtype="int32", name="previous")
y = layers.Embedding(len(digits), 32)(previous)
y = layers.GRU(UNITS, return_sequences=True)(y)
context, weights = layers.Attention(use_scale=True, name="attention")([y, encoded], return_attention_scores=True)
y = layers.Dense(UNITS, activation="relu")(layers.Concatenate()([y, context]))
outputs = layers.Dense(len(digits), activation="softmax")(y)

model = keras.Model([source, previous], outputs)
model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()
history = model.fit(
    [encoder_input[:cut], decoder_input[:cut]],
    target[:cut],
    batch_size=64,
    epochs=EPOCHS,
    validation_data=([encoder_input[cut:], decoder_input[cut:]], target[cut:]),
    verbose=2,
).history

# %%
epochs = range(1, EPOCHS + 1)
plt.plot(epochs, history["loss"], label="training")
plt.plot(epochs, history["val_loss"], label="validation")
plt.yscale("log")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()

# %%
# Translation
# -----------
# Without a target, the decoder reads its own output: the most probable character at each position.


def translate(encoder_input):
    previous = np.full((len(encoder_input), 10), digits.index(START))
    for position in range(10):
        codes = model.predict([encoder_input, previous], verbose=0, batch_size=500)[:, position].argmax(axis=1)
        if position < 9:
            previous[:, position + 1] = codes
    return np.column_stack([previous[:, 1:], codes]), previous


codes, previous = translate(encoder_input[cut:])
correct = np.mean(np.all(codes == target[cut:], axis=1))
print(f"{correct:.3f} of the new dates are correct")
for text, row in zip(written[cut:][:8], codes[:8], strict=True):
    print(f"{text:>30} -> {''.join(digits[code] for code in row)}")

# %%
# Where the decoder looks
# -----------------------

scores = keras.Model(model.inputs, weights).predict([encoder_input[cut:], previous], verbose=0)
longest = max(range(len(scores)), key=lambda index: len(written[cut + index]))
text = written[cut + longest]
# sphinx_gallery_thumbnail_number = 2
plt.figure(figsize=(8, 4))
plt.imshow(scores[longest][:, : len(text)], cmap="Blues")
plt.xticks(range(len(text)), text)
plt.yticks(range(10), [digits[code] for code in codes[longest]])
plt.xlabel("date as written")
plt.ylabel("decoder's output")
plt.colorbar(label="attention", shrink=0.6)
plt.tight_layout()
plt.show()
