"""Super-resolution with sub-pixel convolution (depth to space by reshape and transpose)."""

import keras
import numpy as np
from keras import layers, ops


class DepthToSpace(layers.Layer):
    def __init__(self, block_size):
        super().__init__()
        self.block_size = block_size

    def call(self, input):
        batch, height, width, depth = ops.shape(input)
        depth = depth // (self.block_size**2)
        x = ops.reshape(input, [batch, height, width, self.block_size, self.block_size, depth])
        x = ops.transpose(x, [0, 1, 3, 2, 4, 5])
        return ops.reshape(x, [batch, height * self.block_size, width * self.block_size, depth])


inputs = keras.Input(shape=(None, None, 1))
x = layers.Conv2D(8, 5, activation="relu", kernel_initializer="orthogonal", padding="same")(inputs)
x = layers.Conv2D(9, 3, activation="relu", kernel_initializer="orthogonal", padding="same")(x)
model = keras.Model(inputs, DepthToSpace(3)(x))
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.001), loss=keras.losses.MeanSquaredError())
model.fit(np.random.random((4, 10, 10, 1)), np.random.random((4, 30, 30, 1)), epochs=1, verbose=0)
assert model.predict(np.random.random((1, 7, 9, 1)), verbose=0).shape == (1, 21, 27, 1)
