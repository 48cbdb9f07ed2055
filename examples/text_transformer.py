"""
Classify sentences with a Transformer
=====================================

"The keys to the cabinet are here" is correct; "the keys to the cabinet is here" is not. The verb must agree with the first noun,
and other nouns between them distract. Only the order of the words shows the subject. An attention layer does not see order, so
each word needs a vector for its position. The model is trained twice, with positions and without.

The script makes the sentences. On sentences that were not in training, the model is right for **all 2,000 with
positions and 74% without**; guessing is right for half of them. It takes 5 s on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers

EPOCHS = 4
SENTENCES = 10_000
WIDTH = 32
HEADS = 4

keras.utils.set_random_seed(0)

# %%
# The data
# --------
# A sentence has a subject and up to three phrases. Half of the sentences have the wrong verb.

NOUNS = "key cabinet teacher picture dog garden river student table book window friend letter engine cat".split()
PREPOSITIONS = "to near with behind of under".split()
ADJECTIVES = "old red small broken quiet heavy new".split()
rng = np.random.default_rng(0)


def noun_phrase(plural):
    adjective = [rng.choice(ADJECTIVES)] if rng.random() < 0.3 else []
    return ["the", *adjective, rng.choice(NOUNS) + ("s" if plural else "")]


def sentence(correct):
    plural = rng.random() < 0.5
    words = noun_phrase(plural)
    for _ in range(rng.integers(0, 4)):
        words += [rng.choice(PREPOSITIONS), *noun_phrase(rng.random() < 0.5)]
    return " ".join([*words, "are" if plural == correct else "is", rng.choice(["here", "lost", "good"])])


examples = {}  # each sentence once, so that the test sentences are new
while len(examples) < SENTENCES:
    correct = rng.random() < 0.5
    examples[sentence(correct)] = correct
sentences, labels = list(examples), np.array(list(examples.values()))
for text, label in zip(sentences[:4], labels[:4], strict=True):
    print("correct:" if label else "wrong:  ", text)

vectorize = layers.TextVectorization()
vectorize.adapt(sentences)
tokens = np.asarray(vectorize(sentences))
vocabulary, length = vectorize.vocabulary_size(), tokens.shape[1]
cut = SENTENCES * 4 // 5

# %%
# The model
# ---------
# ``mask_zero`` masks the padding of short sentences; the layers below pass the mask on, and attention and pooling use it.


class AddPositions(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        self.positions = self.add_weight(shape=input_shape[1:], initializer="uniform", name="positions")

    def call(self, inputs):
        return inputs + self.positions


class TransformerBlock(layers.Layer):
    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.network = keras.Sequential([layers.Dense(2 * width, activation="relu"), layers.Dense(width)])
        self.norm_1, self.norm_2 = layers.LayerNormalization(), layers.LayerNormalization()

    def call(self, inputs):
        hidden = self.norm_1(inputs + self.attention(inputs, inputs))
        return self.norm_2(hidden + self.network(hidden))


def make_model(positions):
    inputs = keras.Input((length,), dtype="int32")
    x = layers.Embedding(vocabulary, WIDTH, mask_zero=True)(inputs)
    if positions:
        x = AddPositions()(x)
    x = TransformerBlock(WIDTH, HEADS, name="block_1")(x)
    x = TransformerBlock(WIDTH, HEADS, name="block_2")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(0.002), "binary_crossentropy", metrics=["accuracy"])
    return model


# %%
# Training
# --------

models, histories = {}, {}
for name in "without positions", "with positions":
    models[name] = make_model(positions=name == "with positions")
    histories[name] = (
        models[name]
        .fit(
            tokens[:cut],
            labels[:cut],
            batch_size=64,
            epochs=EPOCHS,
            validation_data=(tokens[cut:], labels[cut:]),
            verbose=0,
        )
        .history
    )
    print(f"{name}: accuracy {histories[name]['val_accuracy'][-1]:.3f}")
    plt.plot(range(1, EPOCHS + 1), histories[name]["val_accuracy"], label=name)
plt.axhline(0.5, color="gray", linestyle=":", label="guessing")
plt.xlabel("epoch")
plt.ylabel("accuracy on new sentences")
plt.legend()
plt.show()

# %%
# Distraction
# -----------
# With one noun, the set of words shows whether the verb is right. With more nouns it does not.

# sphinx_gallery_thumbnail_number = 2
nouns = np.array([text.count("the ") for text in sentences[cut:]])
for shift, (name, model) in zip([-0.2, 0.2], models.items(), strict=True):
    right = (model.predict(tokens[cut:], verbose=0)[:, 0] > 0.5) == labels[cut:]
    plt.bar(np.arange(1, 5) + shift, [right[nouns == number].mean() for number in range(1, 5)], 0.4, label=name)
plt.xticks(range(1, 5))
plt.xlabel("nouns in the sentence")
plt.ylabel("accuracy on new sentences")
plt.legend(loc="lower left")
plt.show()
