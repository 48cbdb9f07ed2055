"""Translation: pairs of sentences as tf.data of two inputs, a standardization of strings, an encoder and a decoder."""

import re
import string

import keras
import tensorflow as tf
from keras import layers

pairs = [("the cat", "[start] el gato [end]"), ("the dog!", "[start] el perro [end]")] * 8
strip_chars = string.punctuation.replace("[", "").replace("]", "")


def custom_standardization(input_string):
    lowercase = tf.strings.lower(input_string)
    return tf.strings.regex_replace(lowercase, f"[{re.escape(strip_chars)}]", "")


eng_vectorization = layers.TextVectorization(max_tokens=20, output_mode="int", output_sequence_length=4)
spa_vectorization = layers.TextVectorization(
    max_tokens=20, output_mode="int", output_sequence_length=5, standardize=custom_standardization
)
eng_vectorization.adapt([pair[0] for pair in pairs])
spa_vectorization.adapt([pair[1] for pair in pairs])


def format_dataset(eng, spa):
    eng, spa = eng_vectorization(eng), spa_vectorization(spa)
    return {"encoder_inputs": eng, "decoder_inputs": spa[:, :-1]}, spa[:, 1:]


eng_texts, spa_texts = map(list, zip(*pairs, strict=True))
dataset = tf.data.Dataset.from_tensor_slices((eng_texts, spa_texts)).batch(8).map(format_dataset)
train_ds = dataset.cache().shuffle(2048).prefetch(16)
for inputs, targets in train_ds.take(1):
    assert inputs["decoder_inputs"].shape == (8, 4) == targets.shape
encoder_inputs = keras.Input(shape=(None,), dtype="int64", name="encoder_inputs")
encoded = layers.Embedding(20, 16)(encoder_inputs)
encoded = layers.LayerNormalization()(encoded + layers.MultiHeadAttention(2, 8)(encoded, encoded))
decoder_inputs = keras.Input(shape=(None,), dtype="int64", name="decoder_inputs")
x = layers.Embedding(20, 16)(decoder_inputs)
x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True))
x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, encoded))
transformer = keras.Model([encoder_inputs, decoder_inputs], layers.Dense(20, activation="softmax")(x))
transformer.compile(
    keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(ignore_class=0), metrics=["accuracy"]
)
history = transformer.fit(train_ds, epochs=10, validation_data=train_ds, verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0] / 2
tokens = transformer.predict(
    {"encoder_inputs": eng_vectorization(["the dog"]), "decoder_inputs": spa_vectorization(["[start]"])[:, :-1]},
    verbose=0,
)
assert spa_vectorization.get_vocabulary()[int(tokens[0, 0].argmax())] == "el"
