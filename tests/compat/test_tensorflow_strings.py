"""Programs as keras.io's guides on text and on structured data teach them, with `tensorflow` meaning nbkeras."""

import subprocess
import sys

import pytest

TEXT = """
import nbkeras
nbkeras.install_as_keras(3, tensorflow=True)
import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

texts, labels = np.array(["good film", "bad film", "good"] * 8), np.array([1, 0, 1] * 8)
data = tf.data.Dataset.from_tensor_slices((texts, labels)).batch(4)
words = layers.TextVectorization(max_tokens=20, output_mode="int", output_sequence_length=4)
words.adapt(data.map(lambda x, y: x))
text = keras.Input(shape=(1,), dtype=tf.string, name="text")
x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(words(text)))
model = keras.Model(text, layers.Dense(1, activation="sigmoid")(x))
model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
model.fit(data, epochs=30, verbose=0, validation_data=data)
assert model.evaluate(data, verbose=0)[1] == 1
found = model.predict(tf.constant([["good film"], ["bad"]]))
assert found[0] > 0.5 > found[1]
np.testing.assert_allclose(model(tf.convert_to_tensor([["bad"]])).numpy(), found[1:], rtol=1e-5)
"""
TABLE = """
import nbkeras
nbkeras.install_as_keras(3, tensorflow=True)
import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

columns = {"city": np.array(["Rome", "Oslo"] * 16), "age": np.arange(32.0)}
data = tf.data.Dataset.from_tensor_slices((columns, np.arange(32) % 2)).batch(8)
city, age = keras.Input((1,), name="city", dtype="string"), keras.Input((1,), name="age")
lookup = layers.StringLookup(output_mode="multi_hot")
lookup.adapt(data.map(lambda x, y: x["city"]))
outputs = layers.Dense(1, activation="sigmoid")(layers.concatenate([lookup(city), age]))
model = keras.Model([city, age], outputs)
model.compile("adam", "binary_crossentropy")
model.fit(data, epochs=2, verbose=0)
sample = {"city": "Rome", "age": 3.0}
assert model.predict({name: tf.convert_to_tensor([value]) for name, value in sample.items()}).shape == (1, 1)
"""


@pytest.mark.parametrize("program", [pytest.param(TEXT, id="text"), pytest.param(TABLE, id="table")])
def test_programs(program):
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
