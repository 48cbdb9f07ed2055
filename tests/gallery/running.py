"""Runs an example of the gallery with smaller constants."""

import ast
import hashlib
import os
import tempfile
import types
from pathlib import Path

import numpy as np

from nbkeras.datasets import mnist

FOLDER = Path(__file__).parents[2] / "examples"


def write_mnist(home: Path, monkeypatch) -> None:
    """Makes ten random images the digits of MNIST, 400 times, in a home of Keras."""
    random = np.random.default_rng(0)
    labels = random.integers(10, size=400, dtype="uint8")
    images = random.integers(256, size=(10, 28, 28), dtype="uint8")[labels]
    path = home / "datasets" / "mnist.npz"
    path.parent.mkdir()
    np.savez(path, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr(mnist, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())


def falls(losses) -> bool:
    return bool(np.all(np.isfinite(losses)) and losses[-1] < losses[0])


def learns(found: types.SimpleNamespace) -> bool:
    """Whether the losses of an example's training, or of each of its trainings, fall."""
    histories = found.histories.values() if hasattr(found, "histories") else [found.history]
    return all(falls(history["loss"]) for history in histories)


def run(name: str, **constants) -> types.SimpleNamespace:
    """Runs examples/`name` in an empty folder with other values of the constants at its top level; returns its names."""
    os.environ["MPLBACKEND"] = "agg"
    path, here = FOLDER / name, os.getcwd()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = set(constants)
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            constant = node.targets[0].id
            if constant in constants:
                node.value = ast.copy_location(ast.Constant(constants[constant]), node.value)
                missing.discard(constant)
    if missing:
        raise ValueError(f"{name} has no constants {sorted(missing)} at its top level")
    found = {"__name__": "__main__", "__file__": str(path)}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(tree, str(path), "exec"), found)
        finally:
            os.chdir(here)
            plt = found.get("plt")
            if plt is not None:
                plt.close("all")
    return types.SimpleNamespace(**found)
