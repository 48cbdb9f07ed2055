"""Wide and deep learning on a CSV file that tf.data reads."""

import os
import tempfile

import keras
import tensorflow as tf
from keras import layers

path = os.path.join(tempfile.mkdtemp(), "train.csv")
with open(path, "w", encoding="utf-8") as file:
    file.writelines(f"{i}.5,{'abc'[i % 3]},{i % 2}\n" for i in range(60))
names, defaults = ["Elevation", "Soil", "Cover"], [[0.0], ["NA"], [0]]


def get_dataset_from_csv(path, batch_size, shuffle=False):
    dataset = tf.data.experimental.make_csv_dataset(
        path,
        batch_size=batch_size,
        column_names=names,
        column_defaults=defaults,
        label_name="Cover",
        num_epochs=1,
        header=False,
        shuffle=shuffle,
    )
    return dataset.cache()


inputs = {
    "Elevation": layers.Input(name="Elevation", shape=(), dtype="float32"),
    "Soil": layers.Input(name="Soil", shape=(), dtype="string"),
}
lookup = layers.StringLookup(vocabulary=["a", "b", "c"], mask_token=None, num_oov_indices=0, output_mode="int")
soil = layers.Embedding(input_dim=3, output_dim=2)(lookup(inputs["Soil"]))
numeric = keras.ops.expand_dims(inputs["Elevation"], -1)
wide = layers.BatchNormalization()(layers.concatenate([numeric, soil]))
deep = layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(layers.concatenate([numeric, soil]))))
model = keras.Model(inputs=inputs, outputs=layers.Dense(2, activation="softmax")(layers.concatenate([wide, deep])))
model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=0.01),
    loss=keras.losses.SparseCategoricalCrossentropy(),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)
history = model.fit(get_dataset_from_csv(path, 16, shuffle=True), epochs=2, verbose=0)
assert history.history["loss"][-1] < 2
_, accuracy = model.evaluate(get_dataset_from_csv(path, 16), verbose=0)
assert 0 <= accuracy <= 1
