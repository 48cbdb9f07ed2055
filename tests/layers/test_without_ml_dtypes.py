"""Layers, metrics and optimizers of bfloat16 where the package ml_dtypes is missing: then NumPy has no dtype of this name."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np
import nbkeras as keras
from nbkeras import layers, ops

def used(layer):
    layer.adapt(np.eye(3))
    layer(np.eye(3))

def quantized(layer, mode):
    layer(np.ones((2, 4)))
    layer.quantize(mode) if mode else layer.enable_lora(2)
    return layer(np.ones((2, 4)))

sequences, images, sounds = np.ones((2, 4, 3)), np.ones((2, 8, 8, 3)), np.ones((2, 2000, 1))
d = sys.argv[1]
for layer in (layers.LSTM, layers.GRU, layers.SimpleRNN):
    layer(3, dtype=d)(sequences)
layers.Bidirectional(layers.LSTM(3, dtype=d), dtype=d)(sequences)
layers.ConvLSTM1D(2, 3, dtype=d)(np.ones((2, 4, 5, 3)))
for mode in ("psd", "stft"):
    layers.STFTSpectrogram(mode, dtype=d)(sounds)
layers.MelSpectrogram(dtype=d)(sounds[..., 0])
for renorm in (False, True):
    layers.BatchNormalization(renorm=renorm, dtype=d)(np.ones((2, 4)), training=True)
for layer in (layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization, layers.PReLU):
    layer(dtype=d)(np.ones((2, 4)))
layers.GroupNormalization(2, dtype=d)(np.ones((2, 4)))
layers.MultiHeadAttention(2, 4, dtype=d)(sequences, sequences)
layers.GroupQueryAttention(4, 2, 1, dtype=d)(sequences, sequences)
layers.SpectralNormalization(layers.Dense(3, dtype=d), dtype=d)(np.ones((2, 3)), training=True)
for initializer in ("orthogonal", "identity"):
    layers.Dense(4, kernel_initializer=initializer, dtype=d)(np.ones((2, 4)))
for mode in ("int8", "int4", "float8", None):
    quantized(layers.Dense(4, dtype=d), mode)
used(layers.Normalization(dtype=d))
layers.Normalization(mean=1.0, variance=2.0, dtype=d)(np.eye(3))
layers.CategoryEncoding(4, dtype=d)(np.array([[1, 2]]))
for layer in (layers.AugMix(dtype=d), layers.RandomSharpness(0.5, dtype=d), layers.RandomRotation(0.1, dtype=d)):
    layer(images, training=True)
keras.metrics.MeanIoU(3, dtype=d)([0, 1], [0, 1])
keras.metrics.AUC(dtype=d)([0.0, 1.0], [0.2, 0.7])
assert ops.tri(3, dtype="bfloat16").dtype == ops.full((2,), 3, dtype="bfloat16").dtype == "bfloat16"
model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype=d)])
for optimizer in ("sgd", "adam", "muon", "adafactor", "lamb"):
    model.compile(optimizer, "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
keras.config.set_floatx("bfloat16")
layers.TextVectorization(output_mode="tf_idf", vocabulary=["a", "b"], idf_weights=[1.0, 2.0])(["a b"])
print("done")
"""


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_without_ml_dtypes(policy):
    done = subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", PROGRAM, policy], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
