"""The Sequential model: deferred building, add and pop, features of a middle layer."""

import keras
import numpy as np
from keras import layers, ops

model = keras.Sequential(
    [layers.Dense(2, activation="relu", name="layer1"), layers.Dense(3, name="layer2"), layers.Dense(4)]
)
y = model(ops.ones((1, 4)))
assert y.shape == (1, 4) and len(model.weights) == 6
model.pop()
assert len(model.layers) == 2

model = keras.Sequential(name="my_sequential")
model.add(keras.Input(shape=(50, 50, 3)))
model.add(layers.Conv2D(8, 5, strides=2, activation="relu"))
model.add(layers.Conv2D(8, 3, activation="relu", name="my_intermediate_layer"))
model.add(layers.MaxPooling2D(3))
model.add(layers.GlobalMaxPooling2D())
model.add(layers.Dense(10))
model.summary()
extractor = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers])
features = extractor(ops.ones((1, 50, 50, 3)))
assert [tuple(f.shape) for f in features] == [(1, 23, 23, 8), (1, 21, 21, 8), (1, 7, 7, 8), (1, 8), (1, 10)]
middle = keras.Model(inputs=model.inputs, outputs=model.get_layer(name="my_intermediate_layer").output)
assert np.asarray(ops.convert_to_numpy(middle(ops.ones((1, 50, 50, 3))))).min() >= 0
