"""Forecasting with windows of tf.data: window, flat_map, batch and map."""

import keras
import numpy as np
import tensorflow as tf

series = np.sin(np.arange(200, dtype="float32") / 5)


def windowed_dataset(series, window_size, batch_size, shuffle_buffer):
    dataset = tf.data.Dataset.from_tensor_slices(tf.expand_dims(series, axis=-1))
    dataset = dataset.window(window_size + 1, shift=1, drop_remainder=True)
    dataset = dataset.flat_map(lambda window: window.batch(window_size + 1))
    dataset = dataset.shuffle(shuffle_buffer).map(lambda window: (window[:-1], window[-1]))
    return dataset.batch(batch_size).prefetch(1)


train_set = windowed_dataset(series, 12, 32, 100)
model = keras.Sequential([keras.Input((12, 1)), keras.layers.LSTM(8), keras.layers.Dense(1)])
model.compile(loss=keras.losses.Huber(), optimizer=keras.optimizers.Adam(0.02), metrics=["mae"])
history = model.fit(train_set, epochs=4, verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0]
