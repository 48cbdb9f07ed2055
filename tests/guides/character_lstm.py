"""Character by character with tf.strings: ids of characters, windows as batches of sequences, and text of ids again."""

import keras
import tensorflow as tf
from keras import layers

text = "to be or not to be that is the question " * 8
vocabulary = sorted(set(text))
ids_from_chars = layers.StringLookup(vocabulary=vocabulary, mask_token=None)
chars_from_ids = layers.StringLookup(vocabulary=ids_from_chars.get_vocabulary(), invert=True, mask_token=None)
all_ids = ids_from_chars(tf.strings.unicode_split(text, "UTF-8"))
ids_dataset = tf.data.Dataset.from_tensor_slices(all_ids)
sequences = ids_dataset.batch(17, drop_remainder=True)
dataset = sequences.map(lambda sequence: (sequence[:-1], sequence[1:])).shuffle(100).batch(4, drop_remainder=True)
size = len(ids_from_chars.get_vocabulary())
model = keras.Sequential([layers.Embedding(size, 8), layers.GRU(32, return_sequences=True), layers.Dense(size)])
model.compile(optimizer=keras.optimizers.Adam(0.02), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = model.fit(dataset, epochs=6, verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0] / 1.5
for inputs, _ in dataset.take(1):
    predicted = tf.argmax(model(inputs), axis=-1)
    assert predicted.shape == (4, 16) and keras.ops.shape(chars_from_ids(predicted)) == (4, 16)
