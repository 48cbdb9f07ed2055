"""Floor 3: models and weights written and read: the format is chosen by name or by content."""

from __future__ import annotations

import functools
import io
import operator
import os
from collections.abc import Mapping
from typing import Any

from nbkeras.engine import compatibility
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.registry import custom_object_scope
from nbkeras.engine.user_errors import entry, warn
from nbkeras.saving import archive as archives
from nbkeras.saving import (
    assets,
    hdf5,
    keras_2,
    keras_2_config,
    keras_3,
    keras_3_config,
    nbkeras_1,
    safetensors,
    shards,
    state,
)

_FORMATS = {None: None, "keras": ".keras", "keras_v3": ".keras", "h5": ".h5", "tf": None}


@entry
def save_model(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    include_optimizer: bool = True,
    save_format: str | None = None,
    zipped: bool = True,
    weights_dtype: str | None = None,
) -> None:
    """Write a model's architecture, weights, states, compile arguments and optimizer state to a file.

    `load_model` reads it, and training goes on exactly where it stopped. Needs h5py.

    Args:
        model: The model.
        filepath: A name that ends in .keras, or a binary file to write: Keras 3's format. A name that ends in .h5 or .hdf5, or an
            open h5py.File: Keras 2's HDF5. In Keras 2's mode, any other name too.
        overwrite: Whether an existing file is replaced.
        include_optimizer: Whether the optimizer's state is written.
        save_format: 'keras' (also 'keras_v3') or 'h5' to choose the format; None to choose it by the name.
        zipped: False writes Keras 3's files into a folder instead of a zip file.
        weights_dtype: 'bfloat16' rounds the weights in the file to half of their bytes and two to three digits. Keras 3 reads
            it too. None keeps the weights' dtype.

    Raises:
        FileExistsError: for an existing file with overwrite=False.
        ValueError: for another save_format or weights_dtype, and for a name with another ending, without a save_format.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> keras.saving.save_model(model, "model.keras")
        >>> keras.saving.load_model("model.keras").output_shape
        (None, 2)
    """
    kind, path = _checked_format(filepath, save_format, overwrite), archives.is_path(filepath)
    bfloat16 = _is_bfloat16(weights_dtype)
    if zipped and kind is None and path:
        _check_ending(os.fspath(filepath))
    if not zipped:
        with archives.disk_errors(filepath, os.fspath(filepath)):
            os.makedirs(filepath, exist_ok=True)
        files = archives.PreparedFiles()
        parts = keras_3.parts(model, include_optimizer, bfloat16)
        for name, content in parts.items():
            os.makedirs(os.path.dirname(os.path.join(filepath, name)), exist_ok=True)
            files.add(os.path.join(filepath, name), operator.methodcaller("write", content))
        files.write()
        assets.remove_others(os.fspath(filepath), parts)
    elif kind == ".keras" or not (path or hdf5.is_h5(filepath) or kind):
        hdf5.h5py()
        parts = keras_3.parts(model, include_optimizer, bfloat16)
        archives.write(filepath, functools.partial(keras_3.write_archive, parts))
    elif bfloat16:
        raise ValueError("weights_dtype='bfloat16' needs Keras 3's format: a name that ends in .keras")
    else:
        with hdf5.written(filepath) as file:
            keras_2.write_model(file, model, include_optimizer)


def _is_bfloat16(weights_dtype: str | None) -> bool:
    if weights_dtype not in (None, "bfloat16"):
        raise ValueError(f"weights_dtype must be None or 'bfloat16', received {briefly(weights_dtype)}")
    return weights_dtype is not None


def read_model(
    filepath: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """The model in a file; see `load_model` in training/loading.py, which knows the model classes."""
    with custom_object_scope(custom_objects), archives.readable(archives.name_of(filepath)):
        if archives.is_path(filepath) and os.path.isdir(filepath):
            _check_folder(os.fspath(filepath))
            return keras_3.read_folder(os.fspath(filepath), compile, safe_mode)
        kind = _kind(filepath)
        if kind == "safetensors":
            raise ValueError("a safetensors file holds only weights, no model: build the model and use load_weights")
        if kind == "zip":
            with archives.open_archive(filepath) as archive:
                metadata = archives.read_json(archive, "metadata.json")
                if metadata.get("format") == nbkeras_1.FORMAT:
                    return nbkeras_1.read_model(archive, metadata, _size(filepath), compile, safe_mode)
                return keras_3.read_model(archive, metadata, compile, safe_mode)
        with hdf5.opened(filepath) as file:
            return keras_2.read_model(file, _size(filepath), compile, safe_mode)


def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a configuration; see `model_from_config` in training/loading.py."""
    with custom_object_scope(custom_objects), archives.readable("the configuration"):
        if "module" not in config:
            config = keras_2_config.translated(config)
        with keras_3_config.limits(None):
            return keras_3_config.model_from_config(config)


def to_bytes(model: Any) -> bytes:
    """The content of the file that `save_model` writes; pickle uses it.

    Args:
        model: The model.

    Returns:
        Bytes for `from_bytes`.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> content = keras.saving.to_bytes(model)
        >>> keras.saving.from_bytes(content).output_shape
        (None, 2)
    """
    file = io.BytesIO()
    save_model(model, file)
    return file.getvalue()


def from_bytes(content: bytes) -> Any:
    """The model from a file's content.

    Args:
        content: The result of `to_bytes`, or the bytes of another model file.

    Returns:
        The model, as from `load_model`.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> keras.saving.from_bytes(keras.saving.to_bytes(model)).count_params()
        8
    """
    return read_model(io.BytesIO(content))


@entry
def save_weights(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    save_format: str | None = None,
    weights_dtype: str | None = None,
    max_shard_size: float | None = None,
) -> None:
    """Write all weights of a model to a file.

    Args:
        model: The model.
        filepath: The ending decides the format: .weights.h5 is Keras 3's, with the state of the optimizer if it
            is built; .safetensors; any other is Keras 2's HDF5.
        overwrite: Whether an existing file is replaced.
        save_format: 'h5' for Keras 2's HDF5 with any name; None to choose the format by the name.
        weights_dtype: 'bfloat16' rounds the weights in a file .weights.h5 to half of their bytes; see `save_model`.
        max_shard_size: The largest number of GB in a file; the weights become several files, and filepath, which ends
            in .weights.json, lists them. None for one file.

    Raises:
        FileExistsError: for an existing file with overwrite=False.
        ValueError: if the model has no weights yet, and for another weights_dtype or a file format without it.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> keras.saving.save_weights(model, "model.weights.h5")
        >>> keras.saving.load_weights(model, "model.weights.h5")
    """
    kind = _checked_format(filepath, save_format, overwrite, max_shard_size is not None)
    name = os.fspath(filepath) if archives.is_path(filepath) else ""
    if not (model.built or model.weights):
        raise ValueError("the model has no weights yet: give it an input shape or call it before save_weights")
    bfloat16, own = _is_bfloat16(weights_dtype), name.endswith(".weights.h5") and kind is None
    if max_shard_size is not None:
        return shards.write(
            name, max_shard_size, lambda file: state.write(file, model, getattr(model, "optimizer", None), bfloat16)
        )
    if bfloat16 and not own:
        raise ValueError("weights_dtype='bfloat16' needs Keras 3's format: a name that ends in .weights.h5")
    if name.endswith(".safetensors"):
        return safetensors.write(model, name)
    with hdf5.written(filepath) as file:
        if own:
            state.write(file, model, getattr(model, "optimizer", None), bfloat16)
        else:
            keras_2.write_weights(file, model)


@entry
def load_weights(model: Any, filepath: Any, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Read weights from a file of weights or of a whole model, written by nbkeras or Keras.

    Shapes must agree. All weights are checked before any is written. If a file of Keras 3 holds an optimizer's
    state and the model's optimizer is built, the state is read too.

    Args:
        model: The model.
        filepath: The file; its content decides the format.
        by_name: Match the layers of HDF5 files of Keras 2 by their names; other layers keep their values.
        skip_mismatch: Keep the values of layers (of single weights for Keras 2's files) that do not fit, with a
            warning.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the model has no weights yet, if the file does not fit the model or is not a weights file, and for
            by_name=True with a file that is not Keras 2's.

    Example:
        >>> first, second = (keras.Sequential([layers.Dense(2, input_shape=(3,))]) for _ in range(2))
        >>> first.save("model.keras")
        >>> keras.saving.load_weights(second, "model.keras")
        >>> bool(np.all(first.get_weights()[0] == second.get_weights()[0]))
        True
    """
    if not (model.built or model.weights):
        raise ValueError("the model has no weights yet: give it an input shape or call it before load_weights")
    kind = _kind(filepath)
    with archives.readable(archives.name_of(filepath)):
        if kind in ("hdf5", "shards"):
            with (hdf5 if kind == "hdf5" else shards).opened(filepath) as file:
                if keras_2.is_of_keras_2(file):
                    return keras_2.read_weights(file, model, by_name, skip_mismatch)
                _refuse_by_name(by_name)
                return state.read(file, model, skip_mismatch, _built_optimizer(model))
        _refuse_by_name(by_name)
        if kind == "safetensors":
            return safetensors.read(model, os.fspath(filepath), skip_mismatch)
        with archives.open_archive(filepath) as archive:
            metadata = archives.read_json(archive, "metadata.json")
            if metadata.get("format") == nbkeras_1.FORMAT:
                return nbkeras_1.read_weights(archive, metadata, model)
            with keras_3.opened_weights(archive, model) as file:
                state.read(file, model, skip_mismatch, _built_optimizer(model))


def _built_optimizer(model: Any) -> Any:
    """The optimizer of a trained model, or None; its state is stored with the weights, as in Keras."""
    optimizer = getattr(model, "optimizer", None)
    return optimizer if optimizer is not None and optimizer.built else None


def _refuse_by_name(by_name: bool) -> None:
    if by_name:
        raise ValueError("by_name=True is for HDF5 files of Keras 2; this file is not one: load it without by_name")


def _check_ending(filepath: str) -> None:
    """ValueError for a name whose ending does not say the format of a model, except in Keras 2's mode."""
    if not filepath.endswith((".keras", ".h5", ".hdf5")) and not compatibility.current.saves_under_any_name:
        raise ValueError(
            f"cannot save as {filepath!r}: the name of a model's file ends in .keras (or .h5, Keras 2's format). Save as "
            f"{filepath + '.keras'!r}, or pass save_format='keras' or 'h5', or zipped=False for a folder. A SavedModel, "
            "TensorFlow's folder, is not offered"
        )


def check_target(filepath: str, only_weights: bool) -> None:
    """Raise the error that `save_model`, or `save_weights`, would raise for this name: a missing package, or a bad ending."""
    if not only_weights:
        _check_ending(filepath)
    if only_weights and filepath.endswith(".safetensors"):
        safetensors.library()
    else:
        hdf5.h5py()


def _checked_format(filepath: Any, save_format: str | None, overwrite: bool, sharded: bool = False) -> str | None:
    """'.keras' or '.h5' if the arguments determine it, else None. Raises an error for a format that cannot be written."""
    if save_format not in _FORMATS or save_format == "tf":
        raise ValueError(
            f"save_format must be 'keras' or 'h5' (TensorFlow's is not offered), received {briefly(save_format)}"
        )
    if not archives.is_path(filepath):
        return _FORMATS[save_format]
    if os.fspath(filepath).endswith((".onnx", ".weights.json")) and not sharded:
        raise ValueError(
            f"cannot save as {os.fspath(filepath)!r}: ONNX files are written by model.export(), and sharded weights "
            "(.weights.json) by model.save_weights(..., max_shard_size=2)"
        )
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{os.fspath(filepath)!r} exists; pass overwrite=True to replace it")
    return _FORMATS[save_format] or (".keras" if os.fspath(filepath).endswith(".keras") else None)


def _check_folder(path: str) -> None:
    """ValueError for a folder that holds no model of `save(..., zipped=False)`."""
    files = set(os.listdir(path))
    if files & {"saved_model.pb", "saved_model.pbtxt"}:
        raise ValueError(
            f"{path!r} is a SavedModel: TensorFlow's folder with a graph of TensorFlow's own operations, which nbkeras does not "
            "read. Where TensorFlow is installed, load it with Keras 2 or tf_keras and save it as a file of Keras, "
            "tf_keras.models.load_model(folder).save('model.h5'); load that file here"
        )
    if "config.json" not in files:
        raise ValueError(
            f"{path!r} is a folder without config.json, so save(..., zipped=False) did not write it: pass the path of a "
            ".keras or .h5 file, or of such a folder"
        )


def _kind(filepath: Any) -> str:
    """'zip', 'hdf5', 'safetensors' or 'shards', by a file's first bytes. Raises ValueError for others."""
    if hdf5.is_h5(filepath):
        return "hdf5"
    if archives.is_path(filepath):
        if not os.path.exists(filepath):
            raise archives.NoFileError(f"there is no file {os.fspath(filepath)!r}")
        if os.path.isdir(filepath):
            _check_folder(os.fspath(filepath))
            raise ValueError(f"{os.fspath(filepath)!r} is a folder: its weights are in the file model.weights.h5 in it")
        with open(filepath, "rb", opener=ordinary_file) as file:
            start = file.read(archives.START)
    else:
        filepath.seek(0)
        start = filepath.read(archives.START)
        filepath.seek(0)
    kind, name = archives.kind_of(start), archives.name_of(filepath)
    if kind == "frozen":
        raise ValueError(
            f"{name} is a frozen model (of Frozen.save): it has programs, but no layers and no weights by name. Read it with "
            "nbkeras.inference.Frozen.load, or serve it with `nbkeras serve`; for anything else use the file of model.save"
        )
    if not kind:
        raise ValueError(
            f"{name} is not a model or weights file (neither a zip archive nor HDF5 nor safetensors): it may be truncated or "
            "from another program"
        )
    return kind


def _size(filepath: Any) -> int:
    """The size of an HDF5 file in bytes."""
    if hdf5.is_h5(filepath):
        return filepath.file.id.get_filesize()
    return os.path.getsize(filepath) if archives.is_path(filepath) else filepath.seek(0, os.SEEK_END)


def convert(source: Any, target: Any, model: Any = None) -> None:
    """Convert a model file, or a weights file, to another format.

    The compilation is left out, with a warning, if it has an unknown name.

    Args:
        source: The file to read: a model, or weights for the model in the file `model`.
        target: The name of the file to write. Its ending chooses the format: .keras, .h5, .hdf5 and .onnx for a
            model, .weights.h5 and .safetensors for weights.
        model: A model file to read the weights into; None if source is a model.

    Raises:
        ValueError: for another ending of target, and if source is not a model or weights file.

    Example:
        >>> keras.Sequential([layers.Dense(2, input_shape=(3,))]).save("model.h5")
        >>> keras.saving.convert("model.h5", "model.keras")
        >>> keras.models.load_model("model.keras").output_shape
        (None, 2)
    """
    name = os.fspath(target)
    weights, export = name.endswith((".weights.h5", ".safetensors")), name.endswith(".onnx")
    if not weights and not export and not name.endswith((".keras", ".h5", ".hdf5")):
        raise ValueError(
            f"no format belongs to the name {name!r}: expected the ending .keras, .h5, .onnx, .weights.h5 or .safetensors"
        )
    file = source if model is None else model
    try:
        loaded = read_model(file, compile=not weights and not export)
    except archives.NoFileError:
        raise
    except ValueError as error:  # a loss, metric or optimizer that only the model's own program defines
        loaded = read_model(file, compile=False)
        warn(f"the model is converted without its compilation: {error}")
    if model is not None:
        loaded.load_weights(source)
    if export:
        loaded.export(name)
    elif weights:
        save_weights(loaded, name)
    else:
        save_model(loaded, name)
