"""`tf.train`: checkpoints of models, optimizers and variables, in nbkeras's own files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.building.module import Module
from nbkeras.compat.tensorflow.texts import path_of
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.optimizers import Optimizer
from nbkeras.saving import checkpoints
from nbkeras.saving.archive import atomic_file

_STATE = "checkpoint"  # the text file with the names of a folder's checkpoints, as TensorFlow writes it


def _variables_of(name: str, value: Any) -> dict[str, list[Variable]]:
    """The variables of an object and of those in it, by names of the objects."""
    if isinstance(value, Variable):
        return {name: [value]}
    if isinstance(value, Checkpoint):
        value = value.objects
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: each for part, inner in parts for key, each in _variables_of(f"{name}/{part}", inner).items()}
    if isinstance(getattr(value, "state", None), Variable):  # a generator of random numbers
        return {name: [value.state]}
    variables = getattr(value, "variables", None)
    if variables is None:
        raise TypeError(
            f"tf.train.Checkpoint: {name} must be a model, layer, optimizer, metric, variable, or a list or a dict of these, "
            f"received {briefly(value)}: leave it out"
        )
    return {name: list(variables)}


class _Status:
    """The result of `restore`: the names that only the file or only the objects have."""

    def __init__(self, unused: list[str], without: list[str]):
        self._unused, self._without = unused, without

    def _checked(self, unused: list[str]) -> _Status:
        if unused:
            raise AssertionError(f"tf.train.Checkpoint: nothing in the checkpoint's objects takes {unused}")
        if self._without:
            raise AssertionError(f"tf.train.Checkpoint: the file has no values for {self._without}")
        return self

    def assert_consumed(self) -> _Status:
        """Check that all values of the file were used, and that all objects had some."""
        return self._checked(self._unused)

    def assert_existing_objects_matched(self) -> _Status:
        """Check that the file had values for all objects."""
        return self._checked([])

    assert_nontrivial_match = assert_existing_objects_matched

    def expect_partial(self) -> _Status:
        """Accept what was found."""
        return self


class Checkpoint:
    """TensorFlow's checkpoint of named objects: models, optimizers, variables and others with `variables`.

    A file has the values of their variables in order. An object must have its variables when they are restored.
    """

    def __init__(self, root: Any = None, **kwargs: Any):
        self.save_counter = Variable(np.int64(0), trainable=False, name="save_counter")
        self.objects = {**({} if root is None else {"root": root}), **kwargs, "save_counter": self.save_counter}
        self.__dict__.update(kwargs)
        self._arrays()

    def _arrays(self) -> dict[str, list[Variable]]:
        return {key: own for name, value in self.objects.items() for key, own in _variables_of(name, value).items()}

    def write(self, file_prefix: Any, options: Any = None) -> str:
        """Write the values into the file `file_prefix` and '.npz'; returns file_prefix."""
        path = path_of(file_prefix)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        arrays = {f"{name}:{i}": each.numpy() for name, own in self._arrays().items() for i, each in enumerate(own)}
        with atomic_file(f"{path}.npz") as file:
            checkpoints.write(file, arrays, "{}")
        return path

    def save(self, file_prefix: Any, options: Any = None) -> str:
        """`write` to file_prefix and a hyphen and the next number, which is the newest checkpoint of the folder then."""
        self.save_counter.assign_add(1)
        path = self.write(f"{path_of(file_prefix)}-{int(self.save_counter)}")
        _write_state(path, [*_read_state(os.path.dirname(path)), path])
        return path

    def read(self, save_path: Any, options: Any = None) -> _Status:
        """Set the variables to the values in a file. Returns a status with `assert_consumed` and `expect_partial`."""
        arrays, _ = checkpoints.read(f"{path_of(save_path)}.npz")
        files: dict[str, list[np.ndarray]] = {}
        for key, array in arrays.items():
            files.setdefault(key.rpartition(":")[0], []).append(array)
        self._build_optimizers(files)
        own = self._arrays()
        for name in own.keys() & files.keys():
            shapes = [[tuple(each.shape) for each in values] for values in (own[name], files[name])]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"tf.train.Checkpoint: expected values of shapes {briefly(shapes[0])} for {name}, the file has "
                    f"{briefly(shapes[1])}: it must be the same object, and built: call a model on a batch first, and "
                    "optimizer.build(model.trainable_variables)"
                )
        assign_all(pair for name in own.keys() & files.keys() for pair in zip(own[name], files[name], strict=True))
        return _Status(sorted(files.keys() - own.keys()), sorted(own.keys() - files.keys()))

    def _build_optimizers(self, files: dict) -> None:
        """Optimizers make their variables at the first step: make them now, for the models beside them."""
        models = [each for each in self.objects.values() if isinstance(each, Module)]
        trainable = [each for model in models for each in model.trainable_weights]
        for name, value in self.objects.items():
            if isinstance(value, Optimizer) and not value.built and trainable and name in files:
                value.build(trainable)

    def restore(self, save_path: Any, options: Any = None) -> _Status:
        """`read`; without a path, which `latest_checkpoint` of an empty folder is, it does nothing."""
        return _Status([], []) if save_path is None else self.read(save_path)


class CheckpointManager:
    """TensorFlow's folder of the newest checkpoints: `max_to_keep` files named `checkpoint_name`, a hyphen and a number."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        directory: Any,
        max_to_keep: int | None,
        keep_checkpoint_every_n_hours: Any = None,
        checkpoint_name: str = "ckpt",
        step_counter: Any = None,
        checkpoint_interval: int | None = None,
        init_fn: Callable | None = None,
    ):
        if keep_checkpoint_every_n_hours is not None:
            raise ValueError("tf.train.CheckpointManager: keep_checkpoint_every_n_hours is not offered: leave it out")
        self.checkpoint, self.directory, self.max_to_keep = checkpoint, path_of(directory), max_to_keep
        self._name, self._init = checkpoint_name, init_fn
        self._counter, self.checkpoint_interval = step_counter, checkpoint_interval
        self._last_step: int | None = None

    @property
    def checkpoints(self) -> list[str]:
        """The paths, the newest one last."""
        return _read_state(self.directory)

    @property
    def latest_checkpoint(self) -> str | None:
        """The newest path, or None."""
        return latest_checkpoint(self.directory)

    def save(self, checkpoint_number: Any = None, check_interval: bool = True, options: Any = None) -> str | None:
        """Write a checkpoint and delete the oldest ones; returns its path, or None within `checkpoint_interval` steps."""
        if self._counter is not None and self.checkpoint_interval is not None and check_interval:
            step = int(self._counter)
            if self._last_step is not None and step - self._last_step < self.checkpoint_interval:
                return None
            self._last_step = step
        prefix = os.path.join(self.directory, self._name)
        self.checkpoint.save_counter.assign_add(1)
        number = int(self.checkpoint.save_counter if checkpoint_number is None else checkpoint_number)
        path = self.checkpoint.write(f"{prefix}-{number}")
        kept = [*(each for each in self.checkpoints if each != path), path]
        count = self.max_to_keep or len(kept)
        _write_state(path, kept[-count:])
        for old in kept[:-count]:
            if os.path.exists(f"{old}.npz"):
                os.remove(f"{old}.npz")
        return path

    def restore_or_initialize(self) -> str | None:
        """Restore the newest checkpoint; without one call `init_fn`. Returns its path, or None."""
        if self.latest_checkpoint is not None:
            self.checkpoint.restore(self.latest_checkpoint)
        elif self._init is not None:
            self._init()
        return self.latest_checkpoint


def latest_checkpoint(checkpoint_dir: Any, latest_filename: Any = None) -> str | None:
    """The path of the newest checkpoint in a folder, for `Checkpoint.restore`; None if there is none."""
    return next(reversed(_read_state(path_of(checkpoint_dir))), None)


def _read_state(folder: str) -> list[str]:
    """The paths of a folder's checkpoints, the newest one last."""
    try:
        with open(os.path.join(folder, _STATE), encoding="utf-8") as file:
            names = re.findall(r'^all_model_checkpoint_paths: "(.*)"$', file.read(), re.MULTILINE)
    except FileNotFoundError:
        return []
    return [path for path in (os.path.join(folder, name) for name in names) if os.path.exists(f"{path}.npz")]


def _write_state(newest: str, paths: list[str]) -> None:
    lines = [f'all_model_checkpoint_paths: "{os.path.basename(path)}"\n' for path in paths]
    with atomic_file(os.path.join(os.path.dirname(newest), _STATE)) as file:
        file.write("".join([f'model_checkpoint_path: "{os.path.basename(newest)}"\n', *lines]).encode())
