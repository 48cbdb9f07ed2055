"""Structured data from scratch with tf.data: features of a dict, each encoded by a layer that adapts to its column."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

columns = {"age": np.arange(20.0, 60.0), "thal": np.array(["fixed", "normal"] * 20), "ca": np.arange(40) % 3}
labels = np.arange(40) % 2
ds = tf.data.Dataset.from_tensor_slices((columns, labels)).shuffle(40, seed=2).batch(8)


def encode_numerical_feature(feature, name, dataset):
    normalizer = layers.Normalization()
    normalizer.adapt(dataset.map(lambda x, y: x[name]).map(lambda x: tf.expand_dims(x, -1)))
    return normalizer(feature)


def encode_categorical_feature(feature, name, dataset, is_string):
    lookup = (layers.StringLookup if is_string else layers.IntegerLookup)(output_mode="multi_hot")
    lookup.adapt(dataset.map(lambda x, y: x[name]).map(lambda x: tf.expand_dims(x, -1)))
    return lookup(feature)


age = keras.Input(shape=(1,), name="age")
thal = keras.Input(shape=(1,), name="thal", dtype="string")
ca = keras.Input(shape=(1,), name="ca", dtype="int64")
features = layers.concatenate(
    [
        encode_numerical_feature(age, "age", ds),
        encode_categorical_feature(thal, "thal", ds, True),
        encode_categorical_feature(ca, "ca", ds, False),
    ]
)
output = layers.Dense(1, activation="sigmoid")(layers.Dropout(0.1)(layers.Dense(16, activation="relu")(features)))
model = keras.Model([age, thal, ca], output)
model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
model.fit(ds, epochs=8, validation_data=ds, verbose=0)
assert model.evaluate(ds, verbose=0)[1] > 0.9
sample = {"age": 60.0, "thal": "fixed", "ca": 1}
assert model.predict({name: tf.convert_to_tensor([value]) for name, value in sample.items()}, verbose=0)[0] < 0.5
