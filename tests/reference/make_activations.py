"""Write activations.npz: what real Keras's activations give on a grid.

KERAS_BACKEND=jax python tests/reference/make_activations.py
"""

import keras
import numpy as np
from arrays import store

X = np.linspace(-6, 6, 96, dtype=np.float32).reshape(4, 24)
PLAIN = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid log_softmax "
    "mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus "
    "tanh tanh_shrink"
).split()
WITH_ARGUMENTS = {
    "relu_all": ("relu", {"negative_slope": 0.1, "max_value": 3.0, "threshold": 1.0}),
    "leaky_relu_slope": ("leaky_relu", {"negative_slope": 0.5}),
    "elu_alpha": ("elu", {"alpha": 0.5}),
    "celu_alpha": ("celu", {"alpha": 2.0}),
    "gelu_approximate": ("gelu", {"approximate": True}),
    "softmax_axis": ("softmax", {"axis": 0}),
    "log_softmax_axis": ("log_softmax", {"axis": 0}),
    "sparsemax_axis": ("sparsemax", {"axis": 0}),
    "threshold": ("threshold", {"threshold": 1.0, "default_value": -2.0}),
}


def main() -> None:
    saved = {"x": X}
    cases = {**{name: (name, {}) for name in PLAIN}, **WITH_ARGUMENTS}
    for name, (function, arguments) in cases.items():
        y = getattr(keras.activations, function)(keras.ops.convert_to_tensor(X), **arguments)
        saved[name] = np.asarray(y)
    store("activations.npz", saved)


if __name__ == "__main__":
    main()
