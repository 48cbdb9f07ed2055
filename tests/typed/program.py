"""A user's program for type checkers: `tox -e lint` runs mypy on it. Each `type: ignore` is a mistake that it must find."""

from typing import Any, assert_type

import numpy as np

import nbkeras as keras
from nbkeras import callbacks, layers, losses, metrics, ops, optimizers
from nbkeras.callbacks import History

inputs = keras.Input((8, 16))
hidden = layers.LSTM(32, return_sequences=True, dropout=0.1, name="first")(inputs)
hidden = layers.Bidirectional(layers.GRU(16))(hidden)
outputs = layers.Dense(10, activation="softmax", kernel_initializer="he_normal")(hidden)
model = keras.Model(inputs, outputs)
model.compile(
    optimizer=optimizers.Adam(0.001),
    loss=losses.SparseCategoricalCrossentropy(),
    metrics=[metrics.SparseCategoricalAccuracy()],
)
x, y = np.zeros((4, 8, 16), "float32"), np.zeros(4, "int64")
history = model.fit(x, y, epochs=1, callbacks=[callbacks.EarlyStopping(patience=2)], verbose=0)
assert_type(history, History)
best: float = max(history.history["loss"])
predicted: np.ndarray = model.predict(x)
assert_type(model.evaluate(x, y, return_dict=True), dict[str, Any])
assert_type(model.train_on_batch(x, y, return_dict=True), dict[str, Any])
assert_type(model.test_on_batch(x, y, return_dict=True), dict[str, Any])
loss, accuracy = model.evaluate(x, y, verbose=0)
assert_type(keras.models.load_model("model.keras"), keras.Model)
assert_type(keras.models.model_from_json(model.to_json()), keras.Model)
assert_type(optimizers.get("adam"), optimizers.Optimizer)
assert_type(keras.applications.VGG16(weights=None), keras.Model)

assert_type(ops.sum(ops.square(x), axis=-1), keras.Tensor)
assert_type(ops.unique(y), keras.Tensor)
values, counts = ops.unique(y, return_counts=True)
assert_type(ops.svd(x), tuple[keras.Tensor, keras.Tensor, keras.Tensor])
assert_type(ops.svd(x, compute_uv=False), keras.Tensor)
assert_type(ops.linspace(0, 1), keras.Tensor)
assert_type(ops.linspace(0, 1, retstep=True), tuple[keras.Tensor, keras.Tensor])

layers.Dense(10, units=3)  # type: ignore[misc]
layers.Dense("ten")  # type: ignore[arg-type]
layers.Dense(10, activaton="relu")  # type: ignore[call-arg]
layers.LSTM(32, return_sequence=True)  # type: ignore[call-arg]
layers.Conv2D(8, 3, nme="conv")  # type: ignore[call-arg]
optimizers.Adam(learning_rte=0.1)  # type: ignore[call-arg]
model.fit(x, y, epoch=3)  # type: ignore[call-arg]
model.evaluate(x, y, return_dict="yes")  # type: ignore[call-overload]
model.train_on_batch(x, y, return_dct=True)  # type: ignore[call-overload]
keras.models.load_model("model.keras").prdict(x)  # type: ignore[attr-defined]
keras.models.load_model("model.keras", safe=False)  # type: ignore[call-arg]
optimizers.get(0.1)  # type: ignore[call-overload]
ops.sum(x, axes=1)  # type: ignore[call-arg]
ops.svd(x, compute_uv=False).shpe()  # type: ignore[attr-defined]
ops.unique(y, return_count=True)  # type: ignore[call-overload]
keras.layers.Dnse(3)  # type: ignore[attr-defined]
