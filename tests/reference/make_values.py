"""Make values.npz, the results of value_cases.py in real Keras with TensorFlow, for engine/test_values.py:

    KERAS_BACKEND=tensorflow python tests/reference/make_values.py

Three things are asked in another way. `v.value`, `ops.convert_to_tensor(v)` and `ops.array(v)` are the variable itself with
TensorFlow, and the value of the moment with JAX: `now` reads it. `checkpoint` is the function itself, since that of TensorFlow
runs again with the variable's new value and gives the gradient of no function. Arrays are not overwritten: TensorFlow copies
most of them, but some of its functions use the memory of an array if it is aligned.
"""

import types

import numpy as np
from arrays import store
from value_cases import CASES, INPUTS


def library():
    """Keras and TensorFlow as value_cases.py wants them."""
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float64")

    def now(value):
        value = getattr(value, "value", value) if isinstance(value, keras.Variable) else value
        return tf.convert_to_tensor(value)

    def vjp(function, *primals):
        primals = [tf.convert_to_tensor(primal) for primal in primals]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(primals)
            y = function(*primals)
        return y, lambda dy: tape.gradient(y, primals, output_gradients=dy)

    class Tape(tf.GradientTape):
        def watch(self, tensor):
            super().watch(getattr(tensor, "value", tensor))

        def gradient(self, *args, **kwargs):
            """With arrays for gradients of rows."""
            found = super().gradient(*args, **kwargs)
            return tf.nest.map_structure(lambda g: g if g is None else tf.convert_to_tensor(g), found)

    names = "Variable Model Sequential Input ops layers losses metrics optimizers random".split()
    return types.SimpleNamespace(
        **{name: getattr(keras, name) for name in names},
        Tape=Tape,
        now=now,
        vjp=vjp,
        checkpoint=lambda function: function,
        overwrite=lambda array: None,
        clone_model=keras.models.clone_model,
        flatten=keras.tree.flatten,
    )


def numbers(results):
    """All results as one array, in order."""
    results = list(results.values()) if isinstance(results, dict) else results
    arrays = [np.array(each, dtype="float64") for each in results if each is not None]
    return np.concatenate([each.ravel() for each in arrays])


def main():
    k = library()
    found = {}
    for name, case in CASES.items():
        if case.is_step:
            run = case.make(k)
            rows = [run(k.ops.convert_to_tensor(x) if case.is_recorded else x.copy()) for x in INPUTS]
            found[name] = np.stack([numbers(row) for row in rows])
        else:
            found[name] = numbers(case.make(k, True))
            compiled = numbers(case.make(k, False))  # by tf.function
            assert np.allclose(found[name], compiled, rtol=1e-10, atol=1e-12), name
        assert np.isfinite(found[name]).all(), name
    index = "\n".join(f"{name} {each.shape[0] if each.ndim == 2 else 0} {each.size}" for name, each in found.items())
    values = np.concatenate([each.ravel() for each in found.values()])
    store("values.npz", {"index": np.array(index), "values": values})


if __name__ == "__main__":
    main()
