"""Make the stored numbers of test_keras_equality.py with real Keras:

    python tests/reference/make_models.py [case ...]

in an environment with keras 3, jax, tensorflow-cpu and tf_keras. Each case is measured under its backends, in one
process each; what is stored is the first one's result and how far the second one's is from it (JAX and TensorFlow,
unless the case says otherwise). Writes one models_<family>.npz a family: arrays named case/kind/name, float32, no pickle.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cases import CASES
from protocol import difference, draw, initial_weights, measure

HERE = Path(__file__).parent


def jax_gradients(model, xs, seeds):
    import jax
    from jax import numpy as jnp

    fixed = [variable.value for variable in model.non_trainable_variables]

    def total(weights, floats):
        inputs = [floats.get(i, x) for i, x in enumerate(xs)]
        outputs, _ = model.stateless_call(weights, fixed, inputs[0] if len(inputs) == 1 else inputs, training=True)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return sum(jnp.sum(out * seed) for out, seed in zip(outputs, seeds, strict=True))

    floats = {i: jnp.asarray(x) for i, x in enumerate(xs) if x.dtype.kind == "f"}
    weights = [variable.value for variable in model.trainable_variables]
    of_weights, of_inputs = jax.grad(total, argnums=(0, 1))(weights, floats)
    return [np.asarray(g) for g in of_weights], {str(i): np.asarray(g) for i, g in of_inputs.items()}


def tensorflow_gradients(model, xs, seeds):
    import tensorflow as tf

    inputs = [tf.constant(x) for x in xs]
    floats = {str(i): x for i, x in enumerate(inputs) if x.dtype.is_floating}
    with tf.GradientTape() as tape:
        tape.watch(list(floats.values()))
        outputs = model(inputs[0] if len(inputs) == 1 else inputs, training=True)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        total = sum(tf.reduce_sum(out * seed) for out, seed in zip(outputs, seeds, strict=True))
    weights = [getattr(w, "value", w) if hasattr(w, "regularizer") else w for w in model.trainable_variables]
    of_weights, of_inputs = tape.gradient(total, [weights, floats])
    return [tf.convert_to_tensor(g).numpy() for g in of_weights], {i: g.numpy() for i, g in of_inputs.items()}


def work(backend: str, folder: Path, names: list[str]) -> None:
    """Measure the named cases in this process and write one file a case."""
    k = importlib.import_module("tf_keras" if backend == "tf_keras" else "keras")
    gradients = jax_gradients if backend == "jax" else tensorflow_gradients
    for name in names:
        if (folder / f"{name}.{backend}.npz").exists():
            continue
        case = CASES[name]
        stored = folder / f"{name}.start.npz"
        if not stored.exists():
            data = draw(case) | {f"w{i}": w for i, w in enumerate(initial_weights(k, case))}
            np.savez(stored, **data)
        with np.load(stored) as file:
            data = dict(file)
        np.savez(folder / f"{name}.{backend}.npz", **measure(k, case, data, gradients))
        print(backend, name, flush=True)


def collect(folder: Path, names: list[str]) -> None:
    """Join the backends' files into one file a family, with the differences between them."""
    families: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        case = CASES[name]
        family = families.setdefault(case.family, {})
        first, *others = case.backends
        with np.load(folder / f"{name}.start.npz") as file:
            family |= {f"{name}/data/{key}": value for key, value in file.items()}
        with np.load(folder / f"{name}.{first}.npz") as file:
            found = dict(file)
        for key, value in found.items():
            family[f"{name}/{key}"] = value.astype("float32")
        for other in others:
            with np.load(folder / f"{name}.{other}.npz") as file:
                differences = difference(found, dict(file))
            for kind, value in differences.items():
                family[f"{name}/difference/{kind}"] = np.float32(value)
            for kind, value in differences.items():
                if value > 1e-5:
                    print(f"{name}: {kind} of {first} and {other} differ by {value:.1e}")
    for family_name, arrays in families.items():
        path = HERE / f"models_{family_name}.npz"
        if path.exists():
            with np.load(path) as file:
                kept = {key: value for key, value in file.items() if key.split("/")[0] in set(CASES) - set(names)}
            arrays = kept | arrays
        np.savez_compressed(path, **arrays)
        print(path.name, path.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases to make anew; all by default")
    parser.add_argument("--folder", help="keep the single results there, and do not measure again what is there")
    parser.add_argument("--worker", nargs=2, metavar=("BACKEND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or list(CASES)
    if options.worker:
        return work(options.worker[0], Path(options.worker[1]), names)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        for backend in ("jax", "tensorflow", "tf_keras"):
            ours = [name for name in names if backend in CASES[name].backends]
            if ours:
                environment = os.environ | {
                    "KERAS_BACKEND": backend.removeprefix("tf_keras"),
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                }
                command = [sys.executable, __file__, "--worker", backend, folder, *ours]
                subprocess.run(command, check=True, env=environment)
        collect(Path(folder), names)


if __name__ == "__main__":
    main()
