# mypy: disallow-untyped-calls, disallow-untyped-defs, disallow-incomplete-defs, disallow-untyped-decorators
# mypy: disallow-subclassing-any, disallow-any-generics, warn-return-any, check-untyped-defs, strict-equality
"""A user's program for `mypy --strict`: models, layers and callbacks have types; classes of users may have other arguments."""

from typing import Any, assert_type

import numpy as np

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.applications.vgg16 import VGG16, preprocess_input
from nbkeras.models import Model, Sequential, load_model


class Net(keras.Model):
    def __init__(self, units: int) -> None:
        super().__init__(name="net")
        self.dense = layers.Dense(units)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)

    def call(self, x: keras.Tensor, training: bool | None = None) -> keras.Tensor:
        y: keras.Tensor = self.dense(x)
        return y

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": 3}


class Scale(layers.Layer):
    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(input_shape[-1:])
        super().build(input_shape)

    def call(self, x: keras.Tensor) -> keras.Tensor:
        return x * self.scale


class Names(keras.callbacks.EarlyStopping):
    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        print(self.model.name)


x, y = np.ones((4, 8)), np.ones((4, 1))
inputs = keras.Input((8,))
model = keras.Model(inputs, layers.Dense(1)(Scale()(inputs)), name="model")
model.build((None, 8))
model.compile("adam", "mse")
model.fit(x, y, verbose=0, callbacks=[Names("loss")])
model.evaluate(x, y)
model.train_on_batch(x, y)
model.test_on_batch(x, y)
assert_type(model.predict_on_batch(x), Any)
model.summary()
model.save("model.keras")
model.save_weights("model.weights.h5")
model.load_weights("model.weights.h5")
model.export("model.onnx")
model.set_weights(model.get_weights())
model.reset_states()
model.quantize("int8")
model.compute_output_shape((None, 8))
model.compute_loss(x=None, y=None, y_pred=None)
model.train_step((x, y))
assert_type(model.get_config(), dict[str, Any])
assert_type(Model.from_config(model.get_config()), Model)
assert_type(Net.from_config({"units": 3}), Net)
assert_type(layers.Dense.from_config({"units": 3}), layers.Dense)
assert_type(load_model("model.keras"), Model)

stack = Sequential([layers.Input((3,)), layers.Dense(2)], name="stack")
stack.add(layers.Dense(2))
stack.pop()
assert_type(Sequential.from_config(stack.get_config()), Sequential)

net = Net(3)
with keras.GradientTape() as tape:
    loss = ops.sum(net(np.ones((1, 3))))
keras.optimizers.Adam().apply(tape.gradient(loss, net.trainable_weights), net.trainable_weights)

assert_type(keras.__version__, str)
keras.applications.vgg16.preprocess_input(x)
assert_type(VGG16(weights=None), Model)
assert_type(preprocess_input(x), Any)

keras.Model(inputs, name=3)  # type: ignore[arg-type]
model.get_config(1)  # type: ignore[call-arg]
