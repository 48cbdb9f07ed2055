"""The end-to-end model on raw strings: predict and evaluate (in Keras on the TensorFlow backend)."""

import keras
import numpy as np
from keras import layers, ops

texts = ["a great film", "bad bad bad", "great acting", "a bad story"]
labels = np.array([[1], [0], [1], [0]])
vectorizer = layers.TextVectorization(max_tokens=50, output_sequence_length=4)
vectorizer.adapt(texts)
model = keras.Sequential(
    [
        keras.Input((1,), dtype="string"),
        vectorizer,
        layers.Embedding(50, 8),
        layers.GlobalAveragePooling1D(),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
x = ops.convert_to_tensor([[text] for text in texts])
probabilities = model.predict(x, verbose=0)
assert probabilities.shape == (4, 1)
history = model.fit(x, labels, epochs=2, verbose=0)
assert len(model.evaluate(x, labels, verbose=0)) == 2
