"""Text classification from scratch: raw text to vectors outside the model, then an end-to-end model."""

import re
import string

import keras
import numpy as np
from keras import layers

texts = ["A great film!", "Bad, bad, bad.", "great acting", "a bad story", "great", "not great but good"] * 4
labels = np.array([1, 0, 1, 0, 1, 1] * 4)
vectorize_layer = layers.TextVectorization(
    standardize="lower_and_strip_punctuation", max_tokens=50, output_mode="int", output_sequence_length=6
)
vectorize_layer.adapt(texts)
x = np.asarray(vectorize_layer(texts))
inputs = keras.Input(shape=(None,), dtype="int64")
h = layers.Dropout(0.5)(layers.Embedding(50, 16)(inputs))
h = layers.Conv1D(16, 3, padding="valid", activation="relu")(h)
h = layers.GlobalMaxPooling1D()(h)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(h))
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
model.fit(x, labels, epochs=2, verbose=0)
raw = keras.Input(shape=(1,), dtype="string")
end_to_end = keras.Model(raw, model(vectorize_layer(raw)))
assert end_to_end.output_shape == (None, 1)
assert re.sub(f"[{re.escape(string.punctuation)}]", "", "a,b") == "ab"
