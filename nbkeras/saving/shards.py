"""Floor 3: Keras 3's sharded weights: `name.weights.json` says which of the files `name_00000.weights.h5`, ... has an array."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.saving import archive, hdf5

_ENDING = ".weights.json"


def write(path: str, max_shard_size: Any, fill: Callable[[Any], None]) -> None:
    """Write the HDF5 file that `fill(file)` makes as several files. All of them appear, or none.

    max_shard_size: the largest number of GB (2**30 bytes) of arrays in a file.
    """
    limit = _bytes_of(max_shard_size)
    if not path.endswith((_ENDING, ".weights.h5")):
        raise ValueError(f"sharded weights need a name that ends in {_ENDING}, received {briefly(path)}")
    path = path.removesuffix(".weights.h5").removesuffix(_ENDING) + _ENDING
    with hdf5.h5py().File(io.BytesIO(hdf5.to_bytes(fill)), "r") as source:
        shards = _shared_out(source, limit)
        names = [f"{path.removesuffix(_ENDING)}_{number:05}.weights.h5" for number in range(len(shards))]
        files = archive.PreparedFiles()
        owners: dict[str, list[str]] = {}
        for name, arrays in zip(names, shards, strict=True):
            files.add(name, functools.partial(_write_shard, source, arrays))
            for group in dict.fromkeys(array.rpartition("/")[0] for array in arrays):
                owners.setdefault(f"/{group}", []).append(os.path.basename(name))
        total = sum(source[array].nbytes for arrays in shards for array in arrays)
        index = json.dumps({"metadata": {"total_size": total}, "weight_map": owners}, indent=4)
        files.add(path, lambda file: file.write(index.encode()))
        files.write()


def _bytes_of(max_shard_size: Any) -> float:
    is_number = isinstance(max_shard_size, int | float) and not isinstance(max_shard_size, bool)
    if not (is_number and max_shard_size > 0):
        raise ValueError(f"max_shard_size must be a positive number of GB, received {briefly(max_shard_size)}")
    return max_shard_size * 2**30


def _shared_out(source: Any, limit: float) -> list[list[str]]:
    """The paths of the arrays of each file, at most `limit` bytes together."""
    paths: list[str] = []
    source.visititems(lambda path, item: paths.append(path) if hasattr(item, "dtype") else None)
    shards: list[list[str]] = [[]]
    size = 0
    for path in paths:
        own = source[path].nbytes
        if own > limit:
            raise ValueError(
                f"max_shard_size={limit / 2**30} GB is too small: the array {path!r} alone has {own} bytes"
            )
        if size + own > limit:
            shards.append([])
            size = 0
        shards[-1].append(path)
        size += own
    return shards


def _write_shard(source: Any, arrays: list[str], file: Any) -> None:
    with hdf5.h5py().File(file, "w") as target:
        for path in arrays:
            where = path.rpartition("/")[0]
            source.copy(source[path], target.require_group(where))
            target[where].attrs.update(source[where].attrs)


@contextlib.contextmanager
def opened(path: Any) -> Iterator[Any]:
    """Sharded weights as one HDF5 file, which is made in the folder of temporary files and removed after the block."""
    with open(path, "rb", opener=ordinary_file) as text:
        index = archive.parse_json(text.read(archive.JSON_LIMIT + 1), os.fspath(path))
    owners = index.get("weight_map")
    if not isinstance(owners, dict):
        raise ValueError(f"{os.fspath(path)!r} is not an index of sharded weights: it has no dict 'weight_map'")
    groups: dict[str, list[str]] = {}  # by the name of the file
    for group, names in owners.items():
        for name in dict.fromkeys(names) if isinstance(names, list) else [names]:
            if not isinstance(name, str) or os.path.basename(name) != name or not name.endswith(".weights.h5"):
                raise ValueError(
                    f"{os.fspath(path)!r} names a file {briefly(name)}: files of weights lie beside it and end in .weights.h5"
                )
            groups.setdefault(name, []).append(group)
    with tempfile.TemporaryFile() as whole:
        with hdf5.h5py().File(whole, "w") as target:
            for name, own in groups.items():
                with hdf5.opened(os.path.join(os.path.dirname(os.fspath(path)), name)) as shard:
                    for group in own:
                        _copy(shard, group, target)
        with hdf5.opened(whole) as file:
            yield file


def _copy(shard: Any, path: str, target: Any) -> None:
    """Copy the arrays of a group, each checked as in every other file, and its layer's name."""
    group = hdf5.subgroup(shard, path)
    if group is None:
        raise ValueError(f"the index of sharded weights names a group {briefly(path)}, which its file does not have")
    copy = target.require_group(path)
    for name, array in hdf5.read_arrays(group).items():
        copy[name] = array
    layer = hdf5.read_text(group, "name")
    if layer is not None:
        copy.attrs["name"] = layer
