"""Make tests/reference/tables.npz and tables.zip: results and files of Keras for audio, FeatureSpace and sharded weights.

pip install keras==3.15.1 tensorflow-cpu tf_keras jax scipy
KERAS_BACKEND=jax python scripts/make_tables_references.py
"""

import pathlib
import sys
import tempfile
import zipfile

import jax
import keras
import numpy as np
import tensorflow as tf
import tf_keras

jax.config.update("jax_enable_x64", True)
FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "reference"
sys.path.insert(0, str(FOLDER))
import audio_cases  # noqa: E402
import feature_space_cases  # noqa: E402


def keep(model, name: str) -> None:
    """Write the file of a model into tables.zip, which compresses it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(FOLDER / "tables.zip", "a", zipfile.ZIP_DEFLATED) as file,
    ):
        model.save(f"{folder}/{name}")
        file.write(f"{folder}/{name}", name)


def audio() -> dict[str, np.ndarray]:
    """The outputs and gradients of the cases, the losses of a training, and a model's predictions, whose file it writes."""
    found = {}
    for name, (cls, options, _) in audio_cases.CASES.items():
        layer, x = getattr(keras.layers, cls)(**options), audio_cases.signal(name)
        found[name] = np.asarray(layer(x))
        if name not in audio_cases.WITHOUT_GRADIENTS:
            factors = audio_cases.factors(name, found[name].shape)
            (gradient,) = jax.vjp(layer, jax.numpy.asarray(x))[1](jax.numpy.asarray(factors))
            found[f"{name} gradient"] = np.asarray(gradient)
    found["losses"] = audio_cases.trained(keras)[1]
    keras.utils.set_random_seed(1)
    model = audio_cases.recognizer(keras)
    keep(model, "audio.keras")
    found["recognizer"] = model.predict(audio_cases.signal("mel"), verbose=0)
    return found


def stream(parts: list[dict]) -> tf.data.Dataset:
    """Batches of dicts as the data set that FeatureSpace of Keras adapts to."""
    kinds = {name: tf.TensorSpec((None,), tf.as_dtype(column.dtype.type)) for name, column in parts[0].items()}
    return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=kinds)


def spaces() -> dict[str, np.ndarray]:
    """The encoded tables of the cases, and of files that it writes: a FeatureSpace, and a model that begins with one."""
    keras.stream = stream
    made = {name: case(keras) for name, case in feature_space_cases.CASES.items()}
    found = {
        f"{name} {key}": value
        for name, (space, tables) in made.items()
        for key, value in feature_space_cases.encoded(space, tables).items()
    }
    keep(made["all_types"][0], "feature_space.keras")
    model = feature_space_cases.numbers_model(keras)
    keep(model, "feature_model.keras")
    old = tf_keras.utils.FeatureSpace(feature_space_cases.TYPES, crosses=[("colour", "grade")], crossing_dim=7)
    old.adapt(tf.data.Dataset.from_tensor_slices(feature_space_cases.table()))
    keep(old, "feature_space_of_keras_2.keras")
    found["of_keras_2"] = np.asarray(old(feature_space_cases.part(feature_space_cases.table(), slice(0, 9))))
    found["numbers_model"] = model.predict(feature_space_cases.numbers(), verbose=0)
    return found


def sharded() -> dict[str, np.ndarray]:
    """The weights of a model, whose files it writes, each for at most 9000 bytes of arrays."""
    model = feature_space_cases.network(keras)
    model.set_weights([np.random.default_rng(5).normal(size=weight.shape) for weight in model.weights])
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(FOLDER / "tables.zip", "a", zipfile.ZIP_DEFLATED) as file,
    ):
        model.save_weights(f"{folder}/net.weights.json", max_shard_size=9000 / 2**30)
        for path in sorted(pathlib.Path(folder).iterdir()):
            file.write(path, path.name)
    return {f"net {number}": np.asarray(weight) for number, weight in enumerate(model.get_weights())}


def main() -> None:
    (FOLDER / "tables.zip").unlink(missing_ok=True)
    np.savez_compressed(FOLDER / "tables.npz", **audio(), **spaces(), **sharded())


if __name__ == "__main__":
    main()
