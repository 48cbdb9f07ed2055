"""`nbkeras profile FILE`, `nbkeras warmup FILE` and `nbkeras compile FILE`: commands on a saved model."""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine import structures
from nbkeras.engine.progress import print_message
from nbkeras.models import load_model
from nbkeras.training.model import Model
from nbkeras.training.profile import profile

_LENGTH = 16  # the length of an axis that the model leaves open


def profile_file(
    path: str,
    batch_size: int = 32,
    steps: int = 10,
    predict: bool = False,
    save: str | None = None,
    memory: str | None = None,
) -> None:
    """Profile a saved model and print the tables: a training step if the model was compiled, else a prediction.

    Args:
        path: The model's file.
        batch_size: The number of rows of the step.
        steps: The number of measurements.
        predict: Measure a prediction even if the model was compiled.
        save: A file to write the profile to, .svg or .json.
        memory: A file to draw the planned memory into, .svg.

    Raises:
        ValueError: The file is not a model, or the model has no defined inputs.

    Example:
        >>> from nbkeras import commands
        >>> keras.Sequential([keras.Input((4,)), layers.Dense(2, name="only")]).save("m.keras")
        >>> commands.profile_file("m.keras")  # doctest: +ELLIPSIS
        sequential..., one prediction of 32 rows: ...
    """
    model = _loaded(path, "nbkeras.profile(model, x)")
    x, y = _batch(model, batch_size)
    y = None if predict else y
    found = profile(model, x, y, batch_size=None, steps=steps)
    print_message(str(found))
    if save:
        found.save(save)
    if memory:
        found.memory(memory)


def warm_file(path: str, batch_size: int = 32) -> None:
    """Compile a saved model's kernels for predictions, and for training if it was compiled, into the cache on disk.

    Args:
        path: The model's file.
        batch_size: The number of rows of a batch. A prediction of one row also runs, because small work uses other kernels.

    Raises:
        ValueError: The file is not a model, or the model has no defined inputs.

    Example:
        >>> from nbkeras import commands
        >>> keras.Sequential([keras.Input((4,)), layers.Dense(2)]).save("m.keras")
        >>> commands.warm_file("m.keras")
    """
    model = _loaded(path, "it once, in a process that may write the cache")
    for rows in dict.fromkeys((1, batch_size)):
        x, y = _batch(model, rows)
        model.predict(x, batch_size=rows, verbose=0)
        if y is not None:
            model.fit(x, y, batch_size=rows, verbose=0)
            model.evaluate(x, y, batch_size=rows, verbose=0)


def compile_file(path: str, folder: str = ".", shapes: Sequence[Sequence[int]] | None = None, **options: Any) -> None:
    """Write a saved model as a shared library or a WebAssembly module, and the files beside it, named after the model's file.

    Args:
        path: The model's file.
        folder: The folder to write into; it is created if it does not exist.
        shapes: The shape of a sample of each input, if the model leaves sizes open.
        **options: Options of `nbkeras.export.export_library`.

    Raises:
        ValueError: The file is not a model, or the model needs Python.

    Example:
        >>> from nbkeras import commands
        >>> keras.Sequential([keras.Input((4,)), layers.Dense(2)]).save("name.keras")
        >>> commands.compile_file("name.keras", "deployed")
        Saved the library at 'deployed/libname.so', with name.h and name.py.
    """
    signature = None if shapes is None else [(None, *shape) for shape in shapes]
    model = load_model(path, compile=False)
    name = re.sub(r"[^0-9A-Za-z_]+", "_", os.path.splitext(os.path.basename(path))[0])
    os.makedirs(folder, exist_ok=True)
    file = f"{name}.wasm" if options.get("target") == "wasm32" else f"lib{name}.so"
    model.export(os.path.join(folder, file), "library", input_signature=signature, **options)


def _loaded(path: str, instead: str) -> Model:
    model = load_model(path)
    if getattr(model, "_graph", None) is None:
        raise ValueError(f"the model in {path!r} has no defined inputs, so no data can be made up: use {instead}")
    return model


def _batch(model: Model, batch_size: int) -> tuple[Any, dict[str, np.ndarray] | None]:
    """Made-up inputs of a model, and targets if it was compiled."""
    random = np.random.default_rng(0)
    x = structures.map_leaves(lambda symbol: _values(symbol, batch_size, random), model.input)
    return x, _targets(model, batch_size, random) if model.compiled else None


def _shape(symbol: Any, batch_size: int) -> tuple[int, ...]:
    return (batch_size, *(_LENGTH if n is None else n for n in symbol.shape[1:]))


def _values(symbol: Any, batch_size: int, random: np.random.Generator) -> np.ndarray:
    """Numbers below 1, so that an Embedding finds its rows; zeros for integers."""
    kind = np.dtype(symbol.dtype)
    return (
        random.random(_shape(symbol, batch_size)).astype(kind)
        if kind.kind == "f"
        else np.zeros(_shape(symbol, batch_size), kind)
    )


def _targets(model: Model, batch_size: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Class numbers for losses that take them, else one-hot arrays with the outputs' shapes."""
    shapes = [_shape(symbol, batch_size) for symbol in model.outputs]
    found = {}
    for output, shape in zip(
        model._check_compiled("training").outputs(model.output_names, shapes), shapes, strict=True
    ):
        if not output.has_loss:
            continue
        classes = random.integers(0, max(shape[-1], 1), shape[:-1])
        found[output.name] = classes if output.classes is not None else np.eye(shape[-1], dtype=np.float32)[classes]
    return found
