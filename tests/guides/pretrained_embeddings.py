"""Pretrained word embeddings: a file of vectors becomes the frozen table of an Embedding, below a small convolutional net."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

CLASSES = {
    "space": ["moon", "orbit", "rocket", "star"],
    "food": ["bread", "soup", "apple", "oven"],
    "sport": ["goal", "team"],
}
FILLERS = ["the", "and", "with", "near", "zebra"]
DIM, LENGTH = 6, 12

# vectors as their authors publish them: a word and its numbers in each line; one filler has none
random = np.random.default_rng(4)
path = pathlib.Path(tempfile.mkdtemp()) / "vectors.txt"
with open(path, "w") as file:
    for number, words in enumerate([*CLASSES.values(), FILLERS[:-1]]):
        for word in words:
            vector = random.normal(0, 0.1, DIM) + np.eye(4, DIM)[number]
            file.write(f"{word} {' '.join(f'{value:.4f}' for value in vector)}\n")

samples, labels = [], []
for number, words in enumerate(CLASSES.values()):
    for _ in range(40):
        samples.append(" ".join(random.permutation([*random.choice(words, 3), *random.choice(FILLERS, 4)])))
        labels.append(number)
order = random.permutation(len(samples))
samples, labels = [samples[place] for place in order], np.array(labels)[order]
train_samples, val_samples = samples[:90], samples[90:]
train_labels, val_labels = labels[:90], labels[90:]

vectorizer = layers.TextVectorization(max_tokens=100, output_sequence_length=LENGTH)
vectorizer.adapt(tf.data.Dataset.from_tensor_slices(train_samples).batch(16))
vocabulary = vectorizer.get_vocabulary()
word_index = dict(zip(vocabulary, range(len(vocabulary)), strict=True))
output = vectorizer([["the moon and the unknown"]])
assert output.numpy()[0, :5].tolist() == [word_index[word] for word in ("the", "moon", "and", "the", "[UNK]")]

vectors = {}
with open(path) as file:
    for line in file:
        word, coefficients = line.split(maxsplit=1)
        vectors[word] = np.fromstring(coefficients, "f", sep=" ")
num_tokens = len(vocabulary) + 2
matrix = np.zeros((num_tokens, DIM))
misses = []
for word, place in word_index.items():
    if word in vectors:
        matrix[place] = vectors[word]
    else:
        misses.append(word)
assert sorted(misses) == ["", "[UNK]", "zebra"]

embedding = layers.Embedding(num_tokens, DIM, trainable=False)
embedding.build((1,))
embedding.set_weights([matrix])

inputs = keras.Input(shape=(None,), dtype="int32")
x = embedding(inputs)
x = layers.Conv1D(16, 3, activation="relu")(x)
x = layers.MaxPooling1D(2)(x)
x = layers.Conv1D(16, 3, activation="relu")(x)
x = layers.GlobalMaxPooling1D()(x)
x = layers.Dropout(0.2)(layers.Dense(16, activation="relu")(x))
outputs = layers.Dense(len(CLASSES), activation="softmax")(x)
model = keras.Model(inputs, outputs)

x_train = vectorizer(np.array([[text] for text in train_samples])).numpy()
x_val = vectorizer(np.array([[text] for text in val_samples])).numpy()
model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.RMSprop(0.01), metrics=["acc"])
model.fit(x_train, train_labels, batch_size=16, epochs=12, validation_data=(x_val, val_labels), verbose=0)
assert model.evaluate(x_val, val_labels, verbose=0)[1] > 0.8
assert np.allclose(embedding.get_weights()[0], matrix, atol=1e-6)

string_input = keras.Input(shape=(1,), dtype="string")
end_to_end = keras.Model(string_input, model(vectorizer(string_input)))
probabilities = end_to_end.predict(keras.ops.convert_to_tensor([["the rocket near the moon and the star"]]), verbose=0)
assert list(CLASSES)[np.argmax(probabilities[0])] == "space"
