"""Audio: spectrogram layers in a model of raw signals."""

import keras
import numpy as np
from keras import layers, ops

inputs = keras.Input((2000, 1))
x = layers.STFTSpectrogram(mode="log", frame_length=128, frame_step=64, fft_length=256, trainable=False)(inputs)
x = layers.GlobalAveragePooling1D()(layers.Conv1D(8, 3, activation="relu")(x))
model = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(np.random.random((8, 2000, 1)), np.random.randint(0, 4, 8), epochs=1, verbose=0)
mel = layers.MelSpectrogram(num_mel_bins=32, sampling_rate=8000, sequence_stride=64, fft_length=256)
assert tuple(mel(np.random.random((2, 2000)).astype("float32")).shape[:2]) == (2, 32)
magnitudes = ops.fft((np.random.random((1, 64)).astype("float32"), np.zeros((1, 64), "float32")))
assert len(magnitudes) == 2
