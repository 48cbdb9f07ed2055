"""Introduction to Keras for researchers: layers with states, losses made in call, hypernetworks."""

import keras
import numpy as np
from keras import layers, ops


class ComputeSum(keras.layers.Layer):
    def __init__(self, input_dim):
        super().__init__()
        self.total = self.add_weight(initializer="zeros", shape=(input_dim,), trainable=False)

    def call(self, inputs):
        self.total.assign_add(ops.sum(inputs, axis=0))
        return self.total


my_sum = ComputeSum(2)
my_sum(ops.ones((2, 2)))
np.testing.assert_array_equal(ops.convert_to_numpy(my_sum(ops.ones((2, 2)))), [4.0, 4.0])
assert my_sum.trainable_weights == [] and len(my_sum.non_trainable_weights) == 1


class ActivityRegularization(keras.layers.Layer):
    def __init__(self, rate=1e-2):
        super().__init__()
        self.rate = rate

    def call(self, inputs):
        self.add_loss(self.rate * ops.mean(inputs))
        return inputs


class SparseMLP(layers.Layer):
    def __init__(self, output_dim):
        super().__init__()
        self.dense_1 = layers.Dense(32, activation=ops.relu)
        self.regularization = ActivityRegularization(1e-2)
        self.dense_2 = layers.Dense(output_dim)

    def call(self, inputs):
        return self.dense_2(self.regularization(self.dense_1(inputs)))


mlp = SparseMLP(1)
mlp(ops.ones((10, 10)))
assert len(mlp.losses) == 1
mlp(ops.ones((10, 10)))
assert len(mlp.losses) == 1  # each call begins anew

# a hypernetwork makes the weights of another layer
outer = layers.Dense(10 * 3 + 3)
inputs = np.random.random((4, 10)).astype("float32")
predicted = outer(ops.ones((1, 4)))
w, b = ops.reshape(predicted[:, :30], (10, 3)), ops.reshape(predicted[:, 30:], (3,))
assert tuple((ops.matmul(inputs, w) + b).shape) == (4, 3)
