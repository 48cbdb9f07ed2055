"""Write normalization.npz: what real Keras's normalization and embedding layers give, for tests/layers/test_normalization.py.

Run with Keras 3 and TensorFlow installed: KERAS_BACKEND=tensorflow python tests/reference/make_normalization.py
For each case: x, mask, dy, the weights before; y, moving statistics after, dx and the weights' gradients.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
from arrays import store
from normalization_cases import CASES


def measure(case) -> dict[str, np.ndarray]:
    """A case's arrays under Keras: two training steps with the same input, without an optimizer, then an inference."""
    rng = np.random.default_rng(case.seed)
    layer, x, mask = case.make(keras.layers), case.x(rng), case.mask(rng)
    layer.build(x.shape)
    weights = [rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in layer.weights]
    layer.set_weights(weights)
    arguments = {}
    if "training" in case.takes:
        arguments["training"] = True
    if mask is not None:
        arguments["mask"] = tf.constant(mask)
    tensor = tf.constant(x)
    layer(tensor, **arguments)
    with tf.GradientTape() as tape:
        tape.watch([tensor] if x.dtype.kind == "f" else [])
        y = layer(tensor, **arguments)
        dy = rng.standard_normal(y.shape).astype("float32")
        loss = tf.reduce_sum(y * dy)
    variables = [w.value for w in layer.trainable_weights]
    sources = variables if x.dtype.kind == "i" else [tensor, *variables]
    found = [np.asarray(tf.convert_to_tensor(g)) for g in tape.gradient(loss, sources)]
    arrays = {"x": x, "y": y, "dy": dy, "inference": layer(tensor)}
    arrays |= {"mask": mask} if mask is not None else {}
    arrays |= {f"before{i}": w for i, w in enumerate(weights)} | {
        f"after{i}": w for i, w in enumerate(layer.get_weights())
    }
    arrays |= {f"gradient{i}": g for i, g in enumerate(found)}
    return {key: np.asarray(value) for key, value in arrays.items()}


def main() -> None:
    warnings.simplefilter("ignore")  # Keras's about rms_scaling
    everything = {f"{name}/{key}": array for name, case in CASES.items() for key, array in measure(case).items()}
    store("normalization.npz", everything)


if __name__ == "__main__":
    main()
