"""Write crossentropy.npz: cross-entropies and their gradients as real Keras computes them.

KERAS_BACKEND=jax python tests/reference/make_crossentropy.py
"""

import jax
import keras
import numpy as np
from arrays import store


def main() -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((2, 4, 5))).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    probabilities[0, 0], probabilities[0, 1] = [1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]  # to be clipped
    unscaled = (rng.random((2, 4, 5)) + 0.1).astype(np.float32)
    soft = rng.random((2, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, 4)).astype(np.int32)
    weight = rng.standard_normal((2, 4, 5)).astype(np.float32)
    saved = {"logits": logits, "probabilities": probabilities, "unscaled": unscaled, "soft": soft, "labels": labels}
    saved["weight"] = weight
    cases = {
        "categorical_logits": ("categorical_crossentropy", soft, logits, True),
        "categorical": ("categorical_crossentropy", soft, probabilities, False),
        "categorical_unscaled": ("categorical_crossentropy", soft, unscaled, False),
        "sparse_logits": ("sparse_categorical_crossentropy", labels, logits, True),
        "sparse": ("sparse_categorical_crossentropy", labels, probabilities, False),
        "sparse_unscaled": ("sparse_categorical_crossentropy", labels, unscaled, False),
        "binary_logits": ("binary_crossentropy", soft, logits, True),
        "binary": ("binary_crossentropy", soft, probabilities, False),
    }
    for name, (function, target, output, from_logits) in cases.items():
        call = getattr(keras.ops, function)

        def weighted(output, call=call, target=target, from_logits=from_logits):
            loss = call(target, output, from_logits=from_logits)
            return (loss * (weight if loss.ndim == 3 else weight[..., 0])).sum()

        saved[f"{name}_loss"] = np.asarray(call(target, output, from_logits=from_logits))
        saved[f"{name}_gradient"] = np.asarray(jax.grad(weighted)(output))
    store("crossentropy.npz", saved)


if __name__ == "__main__":
    main()
