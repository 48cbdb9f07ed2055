"""Customizing what happens in fit: an own compute_loss and metrics; stateless calls (in Keras on JAX)."""

import keras
import numpy as np
from keras import ops

inputs = keras.Input(shape=(32,))
model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
x, y = np.random.random((100, 32)).astype("float32"), np.random.random((100, 1)).astype("float32")


class CustomModel(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = ops.mean(ops.square(y - y_pred))
        self.loss_tracker.update_state(loss)
        return loss

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae_metric]


model = CustomModel(model.inputs, model.outputs)
model.compile(optimizer=keras.optimizers.Adam(1e-2))
history = model.fit(x, y, epochs=3, verbose=0)
assert set(history.history) == {"loss", "mae"}
assert history.history["loss"][-1] < history.history["loss"][0]

# a stateless step, as in a loop of one's own
tvars, ntvars = model.trainable_variables, model.non_trainable_variables
pred, new_state = model.stateless_call(
    [ops.convert_to_tensor(v) for v in tvars], [ops.convert_to_tensor(v) for v in ntvars], x
)
assert tuple(pred.shape) == (100, 1)
optimizer = keras.optimizers.Adam(1e-3)
optimizer.build(tvars)
values = [ops.convert_to_tensor(v) for v in tvars]
grads = [ops.ones_like(v) for v in values]
new_values, new_optimizer_variables = optimizer.stateless_apply(
    [ops.convert_to_tensor(v) for v in optimizer.variables], grads, values
)
assert not np.allclose(ops.convert_to_numpy(new_values[0]), ops.convert_to_numpy(values[0]), atol=1e-6)
