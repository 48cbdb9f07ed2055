"""Timeseries forecasting for weather: windows by timeseries_dataset_from_array."""

import keras
import numpy as np

features = np.random.random((300, 4)).astype("float32")
x, y = features[:-12], features[12:, 0]
dataset = keras.utils.timeseries_dataset_from_array(x, y, sequence_length=8, sampling_rate=2, batch_size=32)
inputs = keras.layers.Input(shape=(8, 4))
model = keras.Model(inputs=inputs, outputs=keras.layers.Dense(1)(keras.layers.LSTM(8)(inputs)))
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.001), loss="mse")
history = model.fit(dataset, epochs=2, validation_data=dataset, verbose=0)
for batch_x, batch_y in dataset:
    assert tuple(batch_x.shape) == (32, 8, 4) and tuple(batch_y.shape) == (32,)
    break
assert history.history["val_loss"][-1] < 1
