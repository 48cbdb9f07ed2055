"""Structured data classification with FeatureSpace."""

import keras
import numpy as np
from keras.utils import FeatureSpace

rng = np.random.default_rng(0)
n = 64
data = {
    "sex": rng.integers(0, 2, n),
    "thal": rng.choice(["fixed", "normal", "reversible"], n),
    "age": rng.integers(20, 80, n).astype("float32"),
    "chol": rng.normal(240, 30, n).astype("float32"),
}
target = rng.integers(0, 2, n)
space = FeatureSpace(
    features={
        "sex": "integer_categorical",
        "thal": FeatureSpace.string_categorical(num_oov_indices=0, output_mode="one_hot"),
        "age": FeatureSpace.float_discretized(num_bins=5),
        "chol": FeatureSpace.float_normalized(),
    },
    crosses=[("sex", "age")],
    crossing_dim=16,
    output_mode="concat",
)


class Rows(keras.utils.PyDataset):  # Keras itself adapts on tf.data; both take these batches
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {name: values[index * 32 : index * 32 + 32] for name, values in data.items()}


try:
    space.adapt(data)
except ValueError:  # Keras: "adapt() can only be called on a tf.data.Dataset"
    import tensorflow as tf

    space.adapt(tf.data.Dataset.from_tensor_slices(data).batch(32))
preprocessed = space(data)
assert preprocessed.shape[0] == n and preprocessed.shape[1] > 16
encoded = space.get_encoded_features()
x = keras.layers.Dense(16, activation="relu")(encoded)
model = keras.Model(encoded, keras.layers.Dense(1, activation="sigmoid")(x))
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.fit(np.asarray(preprocessed), target, epochs=2, verbose=0)
inference = keras.Model(space.get_inputs(), model(encoded))
sample = {name: values[:1] for name, values in data.items()}
assert encoded.shape[-1] == preprocessed.shape[-1] and set(space.get_inputs()) == set(sample)
