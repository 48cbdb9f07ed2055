"""compile, fit, evaluate: weights of samples and classes, own metrics and losses, schedules, checkpoints."""

import os
import tempfile

import keras
import numpy as np
from keras import layers, ops

rng = np.random.default_rng(0)
x, y = rng.random((200, 20)).astype("float32"), rng.integers(0, 3, 200)


class CategoricalTruePositives(keras.metrics.Metric):
    def __init__(self, name="categorical_true_positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.true_positives = self.add_variable(shape=(), name="ctp", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.reshape(ops.argmax(y_pred, axis=1), (-1, 1))
        values = ops.cast(
            ops.equal(ops.cast(ops.reshape(y_true, (-1, 1)), "int32"), ops.cast(y_pred, "int32")), "float32"
        )
        if sample_weight is not None:
            values = values * ops.cast(ops.reshape(sample_weight, (-1, 1)), "float32")
        self.true_positives.assign_add(ops.sum(values))

    def result(self):
        return self.true_positives

    def reset_state(self):
        self.true_positives.assign(0)


class ActivityRegularizationLayer(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.sum(inputs) * 1e-3)
        return inputs


inputs = keras.Input(shape=(20,), name="digits")
h = ActivityRegularizationLayer()(layers.Dense(16, activation="relu", name="dense_1")(inputs))
model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="predictions")(h))
schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, decay_steps=10, decay_rate=0.96, staircase=True)
model.compile(
    optimizer=keras.optimizers.RMSprop(learning_rate=schedule),
    loss=keras.losses.SparseCategoricalCrossentropy(),
    metrics=["sparse_categorical_accuracy", CategoricalTruePositives()],
    weighted_metrics=["accuracy"],
)
with tempfile.TemporaryDirectory() as folder:
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=1e-2, patience=2, verbose=0),
        keras.callbacks.ModelCheckpoint(
            os.path.join(folder, "m_{epoch}.keras"), save_best_only=True, monitor="val_loss"
        ),
    ]
    history = model.fit(
        x,
        y,
        class_weight={0: 1.0, 1: 2.0, 2: 1.0},
        batch_size=64,
        epochs=3,
        validation_split=0.2,
        callbacks=callbacks,
        verbose=0,
    )
    assert os.listdir(folder)
    names = {"loss", "sparse_categorical_accuracy", "categorical_true_positives", "accuracy"}
    assert names | {"val_" + name for name in names} == set(history.history)
results = model.evaluate(x, y, verbose=0, return_dict=True)
assert set(results) == names
