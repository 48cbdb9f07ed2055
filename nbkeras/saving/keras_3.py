"""Floor 3: Keras 3's files: `.keras`, a zip of config.json, metadata.json, model.weights.h5 and assets; `.weights.h5` alone."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

from nbkeras.engine import load_budget
from nbkeras.engine.outside import number, ordinary_file
from nbkeras.engine.registry import sharing_scope
from nbkeras.saving import archive as archives
from nbkeras.saving import assets, hdf5, keras_2_config, keras_2_weights, keras_3_config, state
from nbkeras.saving.serialization import plain

WEIGHTS = "model.weights.h5"
_KERAS_VERSION = "3.15.1"  # the version whose format is written
_LAST = 253402300799  # seconds until the end of the year 9999, Python's last


# -------------------- writing --------------------


def parts(model: Any, include_optimizer: bool = True, bfloat16: bool = False) -> dict[str, Any]:
    """The files in a `.keras` archive: name -> bytes."""
    compiled = model.get_compile_config() if include_optimizer and model.compiled else None
    config = archives.check_to_write(json.dumps(keras_3_config.model_config(model, compiled), default=plain))
    optimizer = model.optimizer if compiled is not None else None
    return {
        "metadata.json": json.dumps({"keras_version": _KERAS_VERSION, "date_saved": _date()}).encode(),
        "config.json": config.encode(),
        WEIGHTS: hdf5.to_bytes(lambda group: state.write(group, model, optimizer, bfloat16)),
        **assets.files_of(model),
    }


def _date() -> str:
    """The time of saving: the local time, or SOURCE_DATE_EPOCH, so that a model that is saved again gives the same bytes."""
    seconds = number("SOURCE_DATE_EPOCH", 0, _LAST)
    when = datetime.datetime.now() if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.strftime("%Y-%m-%d@%H:%M:%S")


def write_archive(files: Mapping[str, Any], file: Any) -> None:
    """Write the `parts` of a model as a `.keras` archive into a binary file."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)


# -------------------- reading --------------------


def read_model(archive: zipfile.ZipFile, metadata: Mapping[str, Any], compile: bool, safe_mode: bool) -> Any:
    """Read a model from a `.keras` archive: its weights and, unless compile=False, its compilation and optimizer state."""
    if WEIGHTS not in archive.namelist():
        raise ValueError(f"this is not a model file that nbkeras reads: it has no {WEIGHTS}")
    config, old = archives.read_json(archive, "config.json"), _is_old(metadata)
    model = _made(config, old, archive.getinfo(WEIGHTS).file_size, compile, safe_mode)
    with opened_weights(archive, model) as file:
        _restore(file, old, model)
        assets.read(archive.namelist(), lambda name: archives.read_file(archive, name), file, model)
    return model


def read_folder(path: str, compile: bool, safe_mode: bool) -> Any:
    """Read a model from an archive's files in a folder."""
    texts = []
    for name in ("config.json", "metadata.json"):
        with open(os.path.join(path, name), "rb", opener=ordinary_file) as text:
            texts.append(archives.parse_json(text.read(archives.JSON_LIMIT + 1), name))
    weights, old = os.path.join(path, WEIGHTS), _is_old(texts[1])
    model = _made(texts[0], old, os.path.getsize(weights), compile, safe_mode)
    with hdf5.opened(weights) as file:
        _restore(file, old, model)
        assets.read(assets.names_in(path), lambda name: pathlib.Path(path, name).read_bytes(), file, model)
    return model


def _is_old(metadata: Mapping[str, Any]) -> bool:
    """Whether tf_keras wrote the archive, with Keras 3's paths but configurations of Keras 2."""
    return str(metadata.get("keras_version")).startswith("2.")


def _made(config: dict[str, Any], old: bool, size: int, compile: bool, safe_mode: bool) -> Any:
    """Make and compile the model of a configuration; `size` bytes are stored for its weights."""
    if old:
        config = keras_2_config.translated(config)
    with keras_3_config.limits(size, safe_mode):
        with load_budget.unfilled():
            model = keras_3_config.model_from_config(config)
        if compile and config.get("compile_config"):
            with sharing_scope():
                model._compile_from_file(keras_3_config.translated(config["compile_config"], made_here=True))
    return model


def _restore(file: Any, old: bool, model: Any) -> None:
    state.read(file, model)
    group = hdf5.subgroup(file, "optimizer/vars") if model.compiled else None
    if old and group is not None:
        names = [str(number) for number in range(len(group))]
        keras_2_weights.read_optimizer(group, names, model.optimizer, model.trainable_weights, new=True)
    elif group is not None:
        state.read_optimizer(group, model.optimizer, model.trainable_weights)


def opened_weights(archive: zipfile.ZipFile, model: Any) -> Any:
    """The archive's HDF5 member, opened. The size of the model's arrays limits a compressed one."""
    arrays = sum(v.data.nbytes for v in (*model.weights, *model._states_variables))
    count = len(model.weights) + len(model._all_layers())
    return hdf5.opened(archives.open_member(archive, WEIGHTS, 16 * arrays + 8192 * count + (1 << 20)))
