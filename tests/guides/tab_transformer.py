"""TabTransformer: the categories of a table attend to each other, and join its numbers in a dense net; rows have weights."""

import csv
import pathlib
import random
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

NUMBERS = ["hours", "gain"]
WORDS = {"work": ["office", "farm", "sea"], "school": ["none", "some", "much", "all"], "home": ["town", "land"]}
COLUMNS = ["hours", "work", "share", "school", "gain", "home", "income"]
DEFAULTS = [[0.0] if name in [*NUMBERS, "share"] else ["NA"] for name in COLUMNS]
INCOMES = [" low", " high"]
UNITS = 8

random.seed(3)
folder = pathlib.Path(tempfile.mkdtemp())
for name, count in {"train": 200, "test": 60}.items():
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        for _ in range(count):
            row = {word: random.choice(values) for word, values in WORDS.items()}
            row |= {"hours": random.randint(10, 60), "share": random.uniform(0.5, 1.5), "gain": random.random()}
            is_high = (row["work"] == "sea") != (row["home"] == "town")
            writer.writerow([row.get(column, INCOMES[is_high]) for column in COLUMNS])

of_income = layers.StringLookup(vocabulary=INCOMES, mask_token=None, num_oov_indices=0)
lookups = {
    name: layers.StringLookup(vocabulary=words, mask_token=None, num_oov_indices=0) for name, words in WORDS.items()
}


def prepare(features, target):
    weights = features.pop("share")
    return dict(features), of_income(target), weights


def encode(features, target, weights):
    for name, lookup in lookups.items():
        features[name] = lookup(features[name])
    return features, target, weights


def read(path, batch_size=50, shuffle=False):
    rows = tf.data.experimental.make_csv_dataset(
        str(path),
        batch_size=batch_size,
        column_names=COLUMNS,
        column_defaults=DEFAULTS,
        label_name="income",
        num_epochs=1,
        header=False,
        na_value="?",
        shuffle=shuffle,
    )
    return rows.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).map(encode).cache()


def make_mlp(sizes, rate, normalization, name=None):
    net = []
    for size in sizes:
        net += [normalization(), layers.Dense(size, activation=keras.activations.selu), layers.Dropout(rate)]
    return keras.Sequential(net, name=name)


inputs = {
    name: keras.Input((), name=name, dtype="float32" if name in NUMBERS else "int64") for name in [*NUMBERS, *WORDS]
}
encoded = [layers.Embedding(len(words), UNITS)(inputs[name]) for name, words in WORDS.items()]
x = ops.stack(encoded, axis=1)
x += layers.Embedding(len(WORDS), UNITS)(ops.arange(0, len(WORDS), 1))
for block in range(2):
    attended = layers.MultiHeadAttention(2, UNITS, dropout=0.1, name=f"attention_{block}")(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add(name=f"skip_{block}")([attended, x]))
    dense = make_mlp([UNITS], 0.1, lambda: layers.LayerNormalization(epsilon=1e-6), name=f"mlp_{block}")(x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([dense, x]))
numbers = layers.concatenate([ops.expand_dims(inputs[name], -1) for name in NUMBERS])
features = layers.concatenate([layers.Flatten()(x), layers.LayerNormalization(epsilon=1e-6)(numbers)])
features = make_mlp([2 * features.shape[-1], features.shape[-1]], 0.1, layers.BatchNormalization, name="head")(features)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="sigmoid")(features))

model.compile(
    optimizer=keras.optimizers.AdamW(learning_rate=0.01, weight_decay=0.0001),
    loss=keras.losses.BinaryCrossentropy(),
    metrics=[keras.metrics.BinaryAccuracy(name="accuracy")],
)
history = model.fit(
    read(folder / "train.csv", shuffle=True), epochs=15, validation_data=read(folder / "test.csv"), verbose=0
)
_, accuracy = model.evaluate(read(folder / "test.csv"), verbose=0)
assert accuracy > 0.8, accuracy
assert history.history["loss"][-1] < history.history["loss"][0]
assert model.predict(read(folder / "test.csv"), verbose=0).shape == (60, 1)
assert np.array_equal(of_income([" high", " low"]), [1, 0])
