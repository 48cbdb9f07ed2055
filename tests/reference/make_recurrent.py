"""Make recurrent.npz, outputs and states of recurrent layers in real Keras, for layers/test_recurrent.py:

    KERAS_BACKEND=jax python tests/reference/make_recurrent.py

Masks with samples that start masked or have no step at all, with and without initial states, in all combinations of
options. JAX's rule is ours: before the first step that counts, the output is the initial state (TensorFlow: 0).
"""

import numpy as np
from arrays import store

UNITS = 3


def inputs():
    """Sequences, their mask, and states for the layer with the most of them."""
    random = np.random.RandomState(0)
    mask = random.uniform(size=(4, 5)) < 0.5
    mask[0], mask[1, :2], mask[2] = False, False, True
    states = [random.standard_normal((4, UNITS)).astype("float32") for _ in range(4)]
    return random.standard_normal((4, 5, 2)).astype("float32"), mask, states


def layers(k):
    """(name, layer with fixed weights, number of its states) of nbkeras or Keras."""
    x, _, _ = inputs()
    kinds = {
        "lstm": (lambda **options: k.layers.LSTM(UNITS, **options), 2),
        "gru": (lambda **options: k.layers.GRU(UNITS, **options), 1),
        "gru_before": (lambda **options: k.layers.GRU(UNITS, reset_after=False, **options), 1),
        "simple_rnn": (lambda **options: k.layers.SimpleRNN(UNITS, **options), 1),
        "cell": (lambda **options: k.layers.RNN(k.layers.LSTMCell(UNITS), **options), 2),
    }
    made = []
    for number in range(8):
        zero, sequences, backwards = bool(number & 1), bool(number & 2), bool(number & 4)
        options = {"zero_output_for_mask": zero, "return_sequences": sequences, "go_backwards": backwards}
        for kind, (make, states) in kinds.items():
            made.append((f"{kind}_{number}", make(return_state=True, **options), states))
    for mode in ("concat", "sum", "mul", "ave"):
        for sequences in (False, True):
            inner = k.layers.GRU(UNITS, return_sequences=sequences, return_state=True)
            made.append((f"bidirectional_{mode}_{sequences}", k.layers.Bidirectional(inner, merge_mode=mode), 2))
    for _, layer, _ in made:
        layer.build(x.shape)
        random = np.random.RandomState(1)
        layer.set_weights([random.standard_normal(w.shape).astype("float32") / 2 for w in layer.get_weights()])
    return made


def outputs(k):
    """All outputs of a layer in one row, by its name; first from initial states, then without."""
    x, mask, states = inputs()
    found = {}
    for name, layer, count in layers(k):
        results = [*layer(x, mask=mask, initial_state=states[:count]), *layer(x, mask=mask)]
        found[name] = np.concatenate([np.asarray(result).ravel() for result in results])
    return found


if __name__ == "__main__":
    import keras

    store("recurrent.npz", outputs(keras))
