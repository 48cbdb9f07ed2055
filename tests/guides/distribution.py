"""Distribution: a device mesh of one device, data parallel and layouts."""

import keras
import numpy as np

devices = keras.distribution.list_devices()
assert len(devices) >= 1
mesh = keras.distribution.DeviceMesh(shape=(1, 1), axis_names=["batch", "model"], devices=devices[:1])
layout_map = keras.distribution.LayoutMap(mesh)
layout_map["d1/kernel"] = (None, "model")
model_parallel = keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")
keras.distribution.set_distribution(model_parallel)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d1"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
history = model.fit(np.random.random((16, 4)), np.random.random((16, 1)), verbose=0)
keras.distribution.set_distribution(None)
assert np.isfinite(history.history["loss"]).all()
