"""Write former.zip: models of every format as nbkeras 0.1.0 saved them before its modules moved into folders (commit 5f0b5cc).

Run with that version installed, from the root: python tests/reference/make_former.py. Each model comes with an input and its
prediction; tests/saving/test_former_files.py opens all of them with the version of today.
"""

import io
import pathlib
import pickle
import tempfile
import zipfile

import numpy as np

import nbkeras
from nbkeras import layers, losses, ops, random

OUT = pathlib.Path(__file__).with_name("former.zip")


def functional():
    """A graph with ops of nbkeras.ops, of ops.image and of other modules, which a file names by their modules."""
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(image)
    x = ops.image.resize(x, (4, 4)) * 2.0
    x = ops.image.elastic_transform(x, alpha=0.0, seed=1)
    x = layers.BatchNormalization()(ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
    x = random.dropout(layers.GlobalAveragePooling2D()(x), 0.0, seed=3)
    y = layers.Dense(3, activation="softmax", kernel_constraint="max_norm")(x)
    distance = losses.mean_squared_error(y, ops.softmax(x[:, :3]))
    model = nbkeras.Model(image, [y, distance])
    model.compile("adam", [losses.CategoricalCrossentropy(label_smoothing=0.1), "mse"], metrics=[["accuracy"], []])
    data = np.random.default_rng(0).random((6, 8, 8, 3), "float32")
    model.fit(data, [np.eye(3, dtype="float32")[np.arange(6) % 3], np.zeros(6, "float32")], epochs=1, verbose=0)
    return model, data


def recurrent():
    model = nbkeras.Sequential(
        [
            layers.Input((5, 4)),
            layers.Masking(),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2, activation="gelu")),
            layers.GRU(2, recurrent_dropout=0.1),
        ]
    )
    model.compile(nbkeras.optimizers.SGD(nbkeras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9), "huber")
    data = np.random.default_rng(1).random((3, 5, 4), "float32")
    model.fit(data, np.zeros((3, 2), "float32"), epochs=1, verbose=0)
    return model, data


if __name__ == "__main__":
    nbkeras.utils.set_random_seed(7)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(OUT, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (model, data) in {"functional": functional(), "recurrent": recurrent()}.items():
            for suffix in ("keras", "h5", "nbkeras", "weights.h5", "safetensors"):
                if (name, suffix) == ("functional", "h5"):
                    continue  # Keras 2's files hold no ops
                path = pathlib.Path(folder, f"{name}.{suffix}")
                if suffix in ("weights.h5", "safetensors"):
                    model.save_weights(path)
                elif suffix == "nbkeras":
                    path.write_bytes(nbkeras.saving.to_bytes(model))
                else:
                    model.save(path)
                archive.write(path, path.name)
            archive.writestr(f"{name}.json", model.to_json())
            archive.writestr(f"{name}.pickle", pickle.dumps(model))
            arrays = io.BytesIO()
            outputs = model.predict(data, verbose=0)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            np.savez(arrays, x=data, **{f"y{number}": y for number, y in enumerate(outputs)})
            archive.writestr(f"{name}.npz", arrays.getvalue())
