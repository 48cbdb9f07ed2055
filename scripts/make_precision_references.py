"""Writes tests/reference/precision.npz and precision_*.keras: results of Keras 3 on JAX in 16 bits, for tests of precision.

Run it where Keras 3.15 and JAX are installed, from the repository's root:

    KERAS_BACKEND=jax python scripts/make_precision_references.py
"""

import io
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"
FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "reference"
sys.path.insert(0, str(FOLDER))

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import precision_cases as cases  # noqa: E402


def name_of(dtype):
    """The name of a dtype."""
    return keras.backend.standardize_dtype(dtype)


def plain(value):
    """An array of float32, or of integers."""
    value = np.asarray(value)
    return value if value.dtype.kind in "iub" else value.astype(np.float32)


def layer_results(name, policy):
    """Outputs, gradients and dtypes of a layer."""
    layer = cases.LAYERS[name][1](keras.layers, policy)
    given = cases.inputs_of(name)
    symbols = [keras.Input(batch_shape=a.shape, dtype=name_of(a.dtype)) for a in given[:1]] * len(given)
    model = keras.Model(symbols[0], layer(*symbols))  # a layer's own stateless_call casts nothing
    layer.set_weights(cases.weights_like(layer.get_weights()))
    options = {"training": name == "batch_normalization"}
    trainable = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    y, _ = model.stateless_call(trainable, others, given[0], **options)
    factors = cases.numbers(6, *y.shape)

    def loss(weights, x):
        outputs, _ = model.stateless_call(weights, others, x, **options)
        return (outputs.astype("float32") * factors).sum()

    first = given[0]
    if first.dtype.kind == "i":
        by_weights, by_input = jax.grad(loss)(trainable, first), None
    else:
        by_weights, by_input = jax.grad(loss, (0, 1))(trainable, first)
    found = {"y": plain(y), "dtypes": np.array([name_of(y.dtype), *(name_of(v.dtype) for v in layer.weights)])}
    found |= {f"dw{i}": plain(g) for i, g in enumerate(by_weights)}
    return found if by_input is None else {**found, "dx": plain(by_input)}


def training_results(name):
    """Losses, weights and the scale after three steps."""
    policy, factor = cases.TRAININGS[name]
    keras.config.set_dtype_policy(policy)  # the model's own policy: Keras scales the loss if it is mixed_float16
    model = cases.network(keras, policy)
    keras.config.set_dtype_policy("float32")
    model.set_weights(cases.weights_like(model.get_weights()))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    losses = [model.train_on_batch(x, y) for x, y in cases.batches(factor)]
    found = {"losses": np.array(losses, np.float32), "optimizer": np.array(type(model.optimizer).__name__)}
    found |= {f"w{i}": plain(w) for i, w in enumerate(model.get_weights())}
    if hasattr(model.optimizer, "dynamic_scale"):
        found["scale"] = plain(model.optimizer.dynamic_scale)
    return found


def main():
    """Writes the files."""
    found = {}
    for policy in cases.POLICIES:
        for name in cases.LAYERS:
            found |= {f"layer/{policy}/{name}/{key}": value for key, value in layer_results(name, policy).items()}
        model = cases.network(keras, policy, last=policy)
        model.set_weights(cases.weights_like(model.get_weights()))
        model.save(FOLDER / f"precision_{policy}.keras")
        prediction = model.predict(cases.numbers(40, 4, 6), verbose=0)
        found[f"file/{policy}/y"], found[f"file/{policy}/dtype"] = (
            plain(prediction),
            np.array(name_of(prediction.dtype)),
        )
    for name in cases.TRAININGS:
        found |= {f"training/{name}/{key}": value for key, value in training_results(name).items()}
    kinds = {"int": int, "float": float}
    table = [[keras.backend.result_type(kinds.get(a, a), kinds.get(b, b)) for b in cases.DTYPES] for a in cases.DTYPES]
    found["promotion"] = np.array(table)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)
    (FOLDER / "precision.npz").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
