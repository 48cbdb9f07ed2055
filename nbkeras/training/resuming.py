"""Floor 3: TrainingState, everything that an interrupted `fit` needs to resume as if it had not stopped."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras import random
from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.training.loop import EpochRunner

Array = np.ndarray


class TrainingState:
    """The state of a `fit`: variables, the position in the data, callbacks, random numbers.

    A context manager around the training; leaving it closes `closing`. loop: the EpochRunner of the training. validation: the
    EpochRunner of its validation, or None. Without a loop (in a user's own loop) the state has an epoch but no position in it.
    """

    def __init__(
        self, model: Any, callbacks: CallbackList | None = None, loop: EpochRunner | None = None, validation: Any = None
    ):
        self._model, self._callbacks, self._loop, self._validation = model, callbacks, loop, validation
        self.closing = contextlib.ExitStack()
        self._found: list[tuple[str, Variable]] = []  # all variables, and the global count at that time
        self._made = -1

    def __enter__(self) -> TrainingState:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.closing.__exit__(*error)

    # -------------------- capture --------------------

    def capture(self, epoch: int = 0) -> tuple[dict[str, Array], dict[str, Any]]:
        """Copies of all arrays, and notes for JSON, at the end of a batch or of an epoch.

        epoch: in a user's own loop, the number of the next epoch. All processes that train together must call it; the result
        does not depend on their number.
        """
        self._model.settle_ranks()
        arrays = {name: variable.numpy() for name, variable in self._variables()}
        place = {"epoch": epoch - 1, "phase": "end"} if self._loop is None else self._loop.place(self._validation)
        notes = {"in_fit": self._loop is not None, "place": _packed(place, "place", arrays)}
        if self._loop is not None:
            for name, loop in self._loops():
                notes[name] = _packed(loop.data.state_dict(), name, arrays)
        if self._callbacks is not None:
            notes["callbacks"] = _packed(self._callbacks.state_dict(), "a callback's state_dict()", arrays)
        notes["random"] = _packed([settings.random_state(), random._global_state()], "random", arrays)
        return arrays, notes

    def _loops(self) -> Iterator[tuple[str, EpochRunner]]:
        yield "training", self._loop  # type: ignore[misc]
        if self._validation is not None:
            yield "validation", self._validation

    def _variables(self) -> list[tuple[str, Variable]]:
        """All variables that training changes, with their names in the arrays. Metric variables have the metric's name."""
        if self._made != Variable.made:  # a walk through a model of 100 layers takes 10 ms
            self._found, self._made = list(self._model._state_variables()), Variable.made
        return self._found

    # -------------------- restore --------------------

    def restore(self, arrays: dict[str, Array], notes: dict[str, Any]) -> None:
        """Resume training from the result of `capture`, in a `fit` with the same arguments.

        The values are written when training reaches the position: before the next epoch begins, or before the next batch of an
        epoch, after the callbacks' hooks for its beginning.

        Raises:
            ValueError: for the state of another training.
        """
        if notes["in_fit"] != (self._loop is not None):
            raise ValueError("one of the two is a `fit`, the other is your own loop")
        place = _unpacked(notes["place"], arrays)
        if place["phase"] == "test" and self._validation is None:
            raise ValueError("it was saved in a validation, but this fit has no validation data")
        if self._loop is not None:
            self._make_parts(arrays, notes, place["phase"])
        self._pairs(arrays)
        self._model.initial_epoch = place["epoch"] + (place["phase"] == "end")
        if self._loop is None:
            self._write(arrays, notes)
        else:
            self._loop.resume(place, self._validation, lambda: self._write(arrays, notes))

    def _make_parts(self, arrays: dict[str, Array], notes: dict[str, Any], phase: str) -> None:
        """Run steps on a sample so that they make weights, states and metrics. The restored state then overwrites all values.

        The steps really run: some states are made only when they are computed, and training needs the recorded programs anyway.
        """
        loops = [loop for _, loop in self._loops()]
        if "validation" in notes and not _unpacked(notes["validation"], arrays)["has_begun"]:
            del loops[1:]
        if phase == "train":  # the last step leaves recurrent states of its batch size
            loops.reverse()
        for loop in loops:
            self._model.reset_states()
            loop.rehearse()

    def _pairs(self, arrays: dict[str, Array]) -> list[tuple[Variable, Array]]:
        """Variables with their saved values."""
        found = dict(self._variables())
        groups = [
            name for name in arrays if name.partition("/")[0].partition(" ")[0] in ("model", "optimizer", "metric")
        ]
        missing = [name for name in (*found, *groups) if name not in arrays or name not in found]
        if missing:
            raise ValueError(
                f"it has {len(groups)} arrays, expected {len(found)}: {missing[0]!r} is only in one of the two"
            )
        for name, variable in found.items():
            own, saved = (variable.shape, variable.dtype.name), (arrays[name].shape, arrays[name].dtype.name)
            if own != saved:
                raise ValueError(f"{name!r} ({variable.path}) has shape and dtype {own}, in the file {saved}")
        return [(variable, arrays[name]) for name, variable in found.items()]

    def _write(self, arrays: dict[str, Array], notes: dict[str, Any]) -> None:
        if self._loop is not None:
            for name, loop in self._loops():
                if name in notes:
                    loop.data.load_state_dict(_unpacked(notes[name], arrays))
        if self._callbacks is not None:
            self._callbacks.load_state_dict(_unpacked(notes["callbacks"], arrays))
        assign_all(self._pairs(arrays))
        distributed = self._model._distributed()
        if distributed is not None:
            distributed.restored()
        own, shared = _unpacked(notes["random"], arrays)
        random._restore_global_state(shared)
        settings.restore_random_state(own)


# -------------------- values as JSON and arrays --------------------


def _packed(value: Any, what: str, arrays: dict[str, Array]) -> Any:
    """A value in JSON's types; its arrays go into `arrays`."""
    if value is None or isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins":
        return value
    # in the state of torch's data loaders
    is_torch = type(value).__module__ == "torch" and type(value).__name__ == "Tensor"
    if is_torch or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub"):
        name = f"value {len(arrays)}"
        arrays[name] = np.array(value)
        return {"torch" if is_torch else "array" if isinstance(value, np.ndarray) else "number": name}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_packed(each, what, arrays) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[_packed(key, what, arrays), _packed(each, what, arrays)] for key, each in value.items()]}
    raise TypeError(
        f"the state of training may hold numbers, strings, None, arrays, and lists, tuples and dicts of these; {what} holds "
        f"{briefly(value)} of type {type(value).__name__}"
    )


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    """Undo `_packed`; the arrays are copies."""
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "array":
        return arrays[held].copy()
    if kind == "torch":
        return importlib.import_module("torch").from_numpy(arrays[held].copy())
    if kind == "number":
        return arrays[held][()]
    if kind == "dict":
        return {_unpacked(key, arrays): _unpacked(each, arrays) for key, each in held}
    values = [_unpacked(each, arrays) for each in held]
    return tuple(values) if kind == "tuple" else values
