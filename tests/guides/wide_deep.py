"""Wide, deep and cross networks on tables with string categories (lookup inside the model)."""

import keras
from keras import layers

vocabulary = {"soil": ["clay", "sand", "loam"], "area": ["north", "south"]}
inputs = {"elevation": keras.Input((), name="elevation", dtype="float32")}
inputs.update({name: keras.Input((), name=name, dtype="string") for name in vocabulary})
encoded = [layers.Reshape((1,))(inputs["elevation"])]
for name, words in vocabulary.items():
    lookup = layers.StringLookup(vocabulary=words, num_oov_indices=1, output_mode="int")
    encoded.append(layers.Embedding(input_dim=len(words) + 1, output_dim=4)(lookup(inputs[name])))
x0 = cross = layers.concatenate(encoded)
for _ in range(2):
    cross = x0 * layers.Dense(x0.shape[-1])(cross) + cross
deep = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(16)(x0))))
model = keras.Model(
    inputs, layers.Dense(3, activation="softmax")(layers.concatenate([layers.BatchNormalization()(cross), deep]))
)
assert model.output_shape == (None, 3)
