"""Text classification from raw text with tf.data: a function of strings standardizes, and the layer runs in `map`."""

import re
import string

import keras
import tensorflow as tf
from keras import layers

texts = ["A great film!<br />", "Bad, bad, bad.", "great acting", "a BAD story"] * 8
raw_train_ds = tf.data.Dataset.from_tensor_slices((texts, [1, 0, 1, 0] * 8)).shuffle(32, seed=1).batch(8)
for text_batch, label_batch in raw_train_ds.take(1):
    assert isinstance(text_batch.numpy()[0], bytes) and label_batch.numpy()[0] in (0, 1)


def custom_standardization(input_data):
    lowercase = tf.strings.lower(input_data)
    stripped_html = tf.strings.regex_replace(lowercase, "<br />", " ")
    return tf.strings.regex_replace(stripped_html, f"[{re.escape(string.punctuation)}]", "")


vectorize_layer = layers.TextVectorization(
    standardize=custom_standardization, max_tokens=50, output_mode="int", output_sequence_length=6
)
vectorize_layer.adapt(raw_train_ds.map(lambda x, y: x))


def vectorize_text(text, label):
    return vectorize_layer(tf.expand_dims(text, -1)), label


train_ds = raw_train_ds.map(vectorize_text).cache().prefetch(buffer_size=10)
inputs = keras.Input(shape=(None,), dtype="int64")
x = layers.Embedding(50, 16)(inputs)
x = layers.Conv1D(16, 3, padding="valid", activation="relu")(x)
x = layers.GlobalMaxPooling1D()(x)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x))
model.compile(loss="binary_crossentropy", optimizer=keras.optimizers.Adam(0.05), metrics=["accuracy"])
model.fit(train_ds, validation_data=train_ds, epochs=5, verbose=0)
assert model.evaluate(train_ds, verbose=0)[1] == 1.0
