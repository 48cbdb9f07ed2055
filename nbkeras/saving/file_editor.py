"""Floor 3: KerasFileEditor, which changes the names and arrays of a weights file without its model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.building.module import Module
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import print_message
from nbkeras.saving import archive, hdf5, state

# an unpacked file may have so many times the bytes of the archive: no array of weights is compressed further
_ROOM = 1000


class KerasFileEditor:
    """The arrays of a weights file as nested dicts, to look at, to change and to save again.

    `weights_dict` holds them: layers by name, and in each layer its arrays '0', '1', ... and its parts.

    Args:
        filepath: A file of Keras 3 or nbkeras that ends in .weights.h5 or .keras.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another ending, and for a file that is not safe to read.

    Example:
        >>> keras.Sequential([layers.Dense(2, input_shape=(3,))]).save_weights("old.weights.h5")
        >>> editor = keras.saving.KerasFileEditor("old.weights.h5")
        >>> editor.rename_object("dense", "head")
        >>> editor.save("new.weights.h5")
        >>> keras.saving.KerasFileEditor("new.weights.h5").summary()
        layers
          head
            0: shape=(3, 2), dtype=float32
            1: shape=(2,), dtype=float32
    """

    def __init__(self, filepath: Any):
        self.filepath = os.fspath(filepath)
        self.metadata: dict[str, Any] | None = None
        self.config: dict[str, Any] | None = None
        if not self.filepath.endswith((".keras", ".weights.h5")):
            raise ValueError(
                f"KerasFileEditor reads names that end in .keras or .weights.h5, received {briefly(self.filepath)}"
            )
        with archive.readable(self.filepath), self._opened() as file:
            # by the paths of layers, for layers that keep their paths
            self._names: dict[str, str] = {}
            self.weights_dict = self._read(file, "")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        if self.filepath.endswith(".weights.h5"):
            with hdf5.opened(self.filepath) as file:
                yield file
            return
        with archive.open_archive(self.filepath) as members:
            self.config = archive.read_json(members, "config.json")
            self.metadata = archive.read_json(members, "metadata.json")
            limit = _ROOM * os.path.getsize(self.filepath)
            with hdf5.opened(archive.open_member(members, "model.weights.h5", limit)) as file:
                yield file

    def _read(self, group: Any, path: str) -> dict[str, Any]:
        """A group as a dict: the arrays of its subgroup `vars`, and its other subgroups unless they are empty."""
        own = hdf5.subgroup(group, "vars")
        found: dict[str, Any] = {**hdf5.read_arrays(own)}
        name = None if own is None else hdf5.read_text(own, "name")
        if name is not None:
            self._names[path] = name
        for key in hdf5.names(group):
            inner = hdf5.subgroup(group, key) if key != "vars" else None
            parts = {} if inner is None else self._read(inner, f"{path}/{key}".strip("/"))
            if parts:
                found[key] = parts
        return found

    def summary(self) -> None:
        """Print the layers and the shapes and dtypes of their arrays."""
        for line in _lines(self.weights_dict, ""):
            print_message(line)

    def compare(self, reference_model: Any) -> dict[str, Any]:
        """Compare the arrays with the weights of a model, and print each difference.

        Args:
            reference_model: A built model.

        Returns:
            A dict with 'status', 'success' or 'error', and the numbers 'error_count' and 'match_count'.

        Raises:
            TypeError: for anything but a model or layer.
        """
        if not isinstance(reference_model, Module):
            raise TypeError(f"compare takes a model or a layer, received {briefly(reference_model)}")
        expected: dict[str, Any] = {}
        for path, layer in state.walk(reference_model):
            arrays: dict[str, Any] = {}
            layer.save_own_variables(arrays)
            place = expected
            for part in path.split("/") if path and arrays else ():
                place = place.setdefault(part, {})
            place.update({key: np.shape(value) for key, value in arrays.items()})
        differences, matches = _compared(self.weights_dict, expected, "")
        for line in differences:
            print_message(line)
        status = "error" if differences else "success"
        return {"status": status, "error_count": len(differences), "match_count": matches}

    # -------------------- changes --------------------

    def _place(self, name: str) -> tuple[dict[str, Any], str]:
        """The dict that holds an object, and the object's own name there; name: a path, or a name that occurs once."""
        if "/" in name:
            *parents, own = name.split("/")
            place: Any = self.weights_dict
            for part in parents:
                place = place.get(part) if isinstance(place, dict) else None
            if not isinstance(place, dict) or own not in place:
                raise ValueError(f"the file has no object with the path {briefly(name)}: summary() prints all")
            return place, own
        found = list(_holders(self.weights_dict, name))
        if len(found) != 1:
            wrong = "several objects" if found else "no object"
            raise ValueError(f"the file has {wrong} with the name {briefly(name)}: give a path that summary() prints")
        return found[0], name

    def rename_object(self, object_name: str, new_name: str) -> None:
        """Give a layer another name.

        Args:
            object_name: The name of the layer, if it occurs once, or its path.
            new_name: The new name, without a path.

        Raises:
            ValueError: for a name that the file does not have, or has several times, and for a path as the new name.
        """
        if not isinstance(new_name, str) or "/" in new_name or not new_name:
            raise ValueError(f"new_name must be a name without a path, received {briefly(new_name)}")
        place, own = self._place(object_name)
        if new_name in place:
            raise ValueError(f"there is an object {new_name!r} beside {briefly(object_name)} already: delete it first")
        place[new_name] = place.pop(own)

    def delete_object(self, object_name: str) -> None:
        """Remove a layer with its parts.

        Args:
            object_name: The name of the layer, if it occurs once, or its path.
        """
        place, own = self._place(object_name)
        del place[own]

    def add_object(self, object_path: str, weights: Mapping[str, Any]) -> None:
        """Add a layer.

        Args:
            object_path: The path of the layer, whose parent exists.
            weights: Its arrays by name: {"0": kernel, "1": bias}.

        Raises:
            ValueError: for a parent that does not exist, and for weights that are no dict of arrays.
        """
        *parents, own = object_path.split("/")
        place = self.weights_dict
        if parents:
            holder, last = self._place("/".join(parents))
            place = holder[last]
        if not isinstance(place, dict) or own in place:
            raise ValueError(f"the file has an array or object at {briefly(object_path)} already: delete it first")
        place[own] = _arrays(weights)

    def delete_weight(self, object_name: str, weight_name: str) -> None:
        """Remove an array of a layer.

        Args:
            object_name: The name of the layer, if it occurs once, or its path.
            weight_name: The name of the array, such as '0'.

        Raises:
            ValueError: for a name that the layer does not have.
        """
        place, own = self._place(object_name)
        if weight_name not in place[own]:
            raise ValueError(
                f"{briefly(object_name)} has the arrays {list(place[own])}, received {briefly(weight_name)}"
            )
        del place[own][weight_name]

    def add_weights(self, object_name: str, weights: Mapping[str, Any]) -> None:
        """Add arrays to a layer, or replace arrays.

        Args:
            object_name: The name of the layer, if it occurs once, or its path.
            weights: The arrays by name: {"2": values}.
        """
        place, own = self._place(object_name)
        place[own].update(_arrays(weights))

    def save(self, filepath: Any) -> None:
        """Write the arrays into a file of weights.

        Args:
            filepath: A name that ends in .weights.h5.

        Raises:
            ValueError: for another ending.
        """
        if not os.fspath(filepath).endswith(".weights.h5"):
            raise ValueError(f"the file's name must end in .weights.h5, received {briefly(os.fspath(filepath))}")
        with hdf5.written(filepath) as file:
            self._write(file, self.weights_dict, "")

    resave_weights = save

    def _write(self, file: Any, weights: dict[str, Any], path: str) -> None:
        arrays = {key: value for key, value in weights.items() if not isinstance(value, dict)}
        if arrays:
            group = file.require_group(f"{path}/vars".strip("/"))
            for key, value in arrays.items():
                group[key] = value
            if path in self._names:
                group.attrs["name"] = self._names[path]
        for key, value in weights.items():
            if isinstance(value, dict):
                self._write(file, value, f"{path}/{key}".strip("/"))


def _arrays(weights: Any) -> dict[str, np.ndarray]:
    arrays = {key: np.asarray(value) for key, value in weights.items()} if isinstance(weights, Mapping) else None
    if arrays is None or not all(isinstance(key, str) and value.dtype.kind in "fiub" for key, value in arrays.items()):
        raise ValueError(
            f"weights must be a dict from names such as '0' to arrays of numbers, received {briefly(weights)}"
        )
    return arrays


def _holders(weights: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The dicts that have an object of that name."""
    if isinstance(weights.get(name), dict):
        yield weights
    for value in weights.values():
        if isinstance(value, dict):
            yield from _holders(value, name)


def _lines(weights: dict[str, Any], before: str) -> Iterator[str]:
    for key, value in weights.items():
        if isinstance(value, dict):
            yield f"{before}{key}"
            yield from _lines(value, f"{before}  ")
        else:
            yield f"{before}{key}: shape={value.shape}, dtype={value.dtype}"


def _compared(weights: dict[str, Any], expected: dict[str, Any], path: str) -> tuple[list[str], int]:
    """The differences between arrays and expected shapes, and the number of arrays that fit."""
    differences, matches = [], 0
    for key in dict.fromkeys([*expected, *weights]):
        if key == "states" and key not in expected:  # counters and recurrent states of nbkeras: no weights
            continue
        where = f"{path}/{key}".strip("/")
        if key not in weights or key not in expected:
            differences.append(f"{where} is only in the {'model' if key in expected else 'file'}")
        elif isinstance(weights[key], dict) and isinstance(expected[key], dict):
            inner, count = _compared(weights[key], expected[key], where)
            differences += inner
            matches += count
        elif isinstance(weights[key], dict) or isinstance(expected[key], dict):
            differences.append(f"{where} is an array in one of the file and the model, and an object in the other")
        elif weights[key].shape != expected[key]:
            differences.append(f"{where} has shape {weights[key].shape} in the file, {expected[key]} in the model")
        else:
            matches += 1
    return differences, matches
