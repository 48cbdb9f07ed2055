"""Floor 3: HDF5 files through h5py (an optional dependency): opening, and reading with every step checked.

Only arrays of plain numbers inside the file can be read. Soft and external links, external data, virtual datasets, references,
objects, filters that would load a library, and huge attributes raise an error before any of their content is read. Only
objects that the model needs are visited.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import threading
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.user_errors import optional_import
from nbkeras.saving import archive
from nbkeras.saving.hdf5_texts import Texts

Array = np.ndarray
_ATTRIBUTE_LIMIT = archive.JSON_LIMIT
_DEFLATE = 1
_FILTERS = {_DEFLATE, 2, 3}  # deflate, shuffle, fletcher32: HDF5's own filters, which cannot load a plugin
_BFLOAT16 = np.dtype("V2")
_VISITS, _VISIT = 5_000, 32  # limit of visited groups and arrays: _VISITS plus one for each _VISIT bytes of the file
_TIMES, _FREE = 8, 1 << 25  # limit of arrays of unknown size: _TIMES the file's bytes plus _FREE, as for models
_CHUNK = 1 << 24  # limit of the bytes of a chunk of a small array
_CHECKSUM = 4  # bytes of fletcher32


def h5py() -> Any:
    """The module h5py; the ImportError names the package to install."""
    with optional_import("files of Keras (.keras, .h5) hold their weights in HDF5, which needs h5py", "files"):
        import h5py
    return h5py


def is_h5(file: Any) -> bool:
    """Whether an object is an open h5py.File or Group."""
    return type(file).__module__.partition(".")[0] == "h5py"


@contextlib.contextmanager
def opened(file: Any) -> Iterator[Any]:
    """Open an HDF5 file, from a path or a binary file, or use an open one. Raises ValueError if it is not HDF5."""
    if is_h5(file):
        with _bytes_of(file.file) as source, _reading(file, source):
            yield file
        return
    path, name, module = archive.is_path(file), archive.name_of(file), h5py()
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open(file, "rb", opener=ordinary_file)) if path else file
            group = stack.enter_context(module.File(file, "r"))
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no file {name}") from None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the system, not about the file's content
                raise OSError(error.errno, f"cannot read {name}: {os.strerror(error.errno)}") from None
            raise ValueError(
                f"{name} is not an HDF5 file: it may be truncated or from another program ({error})"
            ) from None
        with _undamaged(name), _reading(group, source):
            yield group


def _bytes_of(file: Any) -> IO[bytes]:
    """The bytes of an open h5py.File: from disk if possible, else a copy."""
    file.flush()
    if file.driver == "sec2" and os.path.exists(file.filename):
        if os.path.samestat(os.stat(file.filename), os.fstat(file.id.get_vfd_handle())):
            return open(file.filename, "rb")
    source = io.BytesIO(bytes(file.userblock_size))  # HDF5's copy lacks the user block
    source.seek(0, io.SEEK_END)
    source.write(file.id.get_file_image())
    return source


class _Open(threading.local):
    def __init__(self) -> None:
        self.texts: dict[int, Texts] = {}  # by HDF5's file number
        self.visits = 0  # remaining visits
        self.room = 0  # remaining bytes of arrays of unknown size


_open = _Open()


@contextlib.contextmanager
def _reading(file: Any, source: IO[bytes]) -> Iterator[None]:
    """Read an open file in the block, with limits by its size; `source` holds its bytes."""
    before, number = (_open.texts, _open.visits, _open.room), h5py().h5o.get_info(file.id).fileno
    texts = Texts(file.file, source)
    _open.texts = {**before[0], number: texts}
    _open.visits, _open.room = _VISITS + texts.size // _VISIT, _FREE + _TIMES * texts.size
    try:
        yield
    finally:
        _open.texts, _open.visits, _open.room = before


def _visit(count: int) -> None:
    """Count visited names, groups, arrays and chunks: a few bytes can make a group a member of itself, or of thousands."""
    _open.visits -= count
    if _open.visits < 0:
        raise ValueError(
            "the file links to more names, groups, arrays and chunks than its bytes can hold: it is damaged, or was made to "
            "take a long time"
        )


@contextlib.contextmanager
def _undamaged(name: str) -> Iterator[None]:
    """Turn HDF5's errors about damaged data into a ValueError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is damaged: {error}") from None


@contextlib.contextmanager
def written(target: Any) -> Iterator[Any]:
    """A new HDF5 file at a path, where it appears when complete, or in a binary file; an open h5py.File is used directly."""
    if is_h5(target):
        yield target
        return
    module = h5py()
    with archive.written(target) as file, module.File(file, "w") as group:
        yield group


def to_bytes(fill: Any) -> bytes:
    """The bytes of an HDF5 file written by `fill(file)`."""
    buffer = io.BytesIO()
    with written(buffer) as file:
        fill(file)
    return buffer.getvalue()  # without a copy


# -------------------- reading --------------------


def child(group: Any, path: str) -> Any:
    """The group or dataset at a path below `group`, or None. Raises ValueError for links other than hard links."""
    module, start = h5py(), group
    for name in path.split("/"):
        if not name:
            continue
        if name == "." or not isinstance(group, module.Group):
            return None
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, module.HardLink):
            raise ValueError(
                f"{briefly(path)} is a {type(link).__name__} to another location: files with such links are not read"
            )
        if group is start:
            _visit(1)
        group = group[name]
    return group


def subgroup(group: Any, path: str) -> Any:
    """The group at a path, or None."""
    found = child(group, path)
    return found if isinstance(found, h5py().Group) else None


def names(group: Any) -> list[str]:
    """The names in a group, or [] for None."""
    if group is None:
        return []
    _visit(len(group))
    return list(group)


def array_shape(group: Any, name: str) -> tuple[int, ...] | None:
    """The shape of a dataset, after checking that it can be read safely; None if it does not exist."""
    dataset = child(group, name) if group is not None else None
    if dataset is None or not isinstance(dataset, h5py().Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{briefly(dataset.name)} stores its data outside of the file: such files are not read")
    plain = dataset.dtype.kind in "fiub" or _is_bfloat16(dataset)
    if dataset.shape is None or not plain or dataset.dtype.hasobject:
        raise ValueError(f"{briefly(dataset.name)} holds no plain numbers ({dataset.dtype}): it is not read")
    filters = _filters(dataset)
    if set(filters) - _FILTERS or len(set(filters)) < len(filters):
        raise ValueError(f"{briefly(dataset.name)} is compressed by filters {briefly(filters)}: it is not read")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    # HDF5 always unpacks a whole chunk, even if the array uses only a part of it
    if chunk > max(_CHUNK, 4 * dataset.nbytes):
        raise ValueError(
            f"{briefly(dataset.name)} is stored in chunks of {chunk} bytes, more than it holds: it is not read"
        )
    return dataset.shape


def _filters(dataset: Any) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]


def read_array(group: Any, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """The array of that name, of the expected shape. Without a shape, the file's size limits the array's size."""
    found = array_shape(group, name)
    if found is None:
        raise ValueError(f"the file has no array {briefly(name)} in {briefly(getattr(group, 'name', 'it'))}")
    dataset = child(group, name)
    if shape is None and dataset.nbytes > _open.room:
        stored = dataset.id.get_storage_size()
        raise ValueError(
            f"{briefly(dataset.name)} claims {dataset.nbytes} bytes, but {stored} are stored, and all arrays read may "
            f"take {_open.room} bytes more: it is not read"
        )
    if shape is not None and found != shape:
        raise ValueError(f"{briefly(dataset.name)} has shape {found} in the file, expected {shape}")
    if dataset.chunks:
        _check_chunks(dataset)
    return _from_bfloat16(dataset[()]) if _is_bfloat16(dataset) else dataset[()]


def read_arrays(group: Any) -> dict[str, Array]:
    """All arrays of a group, by name. The file's size limits the size of all arrays that are read so, also of equal ones."""
    found = {}
    for name in names(group):
        if array_shape(group, name) is not None:
            found[name] = read_array(group, name)
            _open.room -= found[name].nbytes
    return found


def _check_chunks(dataset: Any) -> None:
    """Raise ValueError for chunks that unpack to more bytes than a chunk has, since HDF5 unpacks all, and for too many chunks."""
    _visit(math.prod(-(-length // size) for length, size in zip(dataset.shape, dataset.chunks, strict=True)))
    filters = _filters(dataset)
    if _DEFLATE not in filters:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize + _CHECKSUM
    starts = (range(0, length, step) for length, step in zip(dataset.shape, dataset.chunks, strict=True))
    for start in itertools.product(*starts):
        try:
            left_out, data = dataset.id.read_direct_chunk(start)
        except (OSError, RuntimeError):  # it is not stored, or dataset[()] reports the damage
            continue
        if left_out >> filters.index(_DEFLATE) & 1:
            continue
        try:
            unpacked = len(zlib.decompressobj().decompress(data, size + 1))
        except zlib.error as error:
            raise ValueError(f"{briefly(dataset.name)} is damaged: {error}") from None
        if unpacked > size:
            raise ValueError(
                f"{briefly(dataset.name)} has a chunk that unpacks to more bytes than it holds: it is not read"
            )


def _is_bfloat16(dataset: Any) -> bool:
    """Whether an array holds bfloat16 in Keras's form: opaque items of two bytes, and an attribute that names the dtype."""
    return dataset.dtype == _BFLOAT16 and read_text(dataset, "dtype") == "bfloat16"


def _from_bfloat16(values: Array) -> Array:
    return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _attribute(item: Any, name: str) -> list[Any] | None:
    """The values of an attribute, strings as bytes, or None if it does not exist. Raises ValueError for other kinds or sizes."""
    module = h5py()
    encoded = name.encode()
    if not module.h5a.exists(item.id, encoded):
        return None
    attribute = module.h5a.open(item.id, encoded)
    count, dtype = math.prod(attribute.shape or ()), attribute.dtype
    if count * dtype.itemsize > _ATTRIBUTE_LIMIT or dtype.kind not in "SOfiub":
        raise ValueError(f"the attribute {name!r} of {briefly(item.name)} ({dtype}, {count} values) is not read")
    archive.check_count(count, f"the attribute {name!r} of {briefly(item.name)}")
    info = module.h5o.get_info(item.id)
    texts = _open.texts[info.fileno]
    if dtype.kind != "O":
        texts.take(count * dtype.itemsize)  # the same group may be a member of thousands of others
        return np.asarray(item.attrs[name]).reshape(-1).tolist()
    if module.check_string_dtype(dtype) is None:
        raise ValueError(f"the attribute {name!r} of {briefly(item.name)} holds no string: it is not read")
    return texts.read(info.addr, name, count)


def read_text(item: Any, name: str) -> str | None:
    """A string attribute, or None."""
    values = _attribute(item, name)
    if values is None:
        return None
    if len(values) != 1 or not isinstance(values[0], bytes) or len(values[0]) > _ATTRIBUTE_LIMIT:
        raise ValueError(f"the attribute {name!r} of {briefly(item.name)} holds no string: it is not read")
    return values[0].decode("utf-8", "replace")


def read_texts(item: Any, name: str) -> list[str]:
    """A list of strings in an attribute, or in attributes name0, name1, ... if it was too long for one."""
    values = _attribute(item, name)
    if values is None:
        numbered = (_attribute(item, f"{name}{number}") for number in itertools.count())
        values = [value for part in iter(lambda: next(numbered), None) for value in part]
    _visit(len(values))
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


# -------------------- writing --------------------


def write_array(group: Any, name: str, value: Array, bfloat16: bool = False) -> None:
    """Write an array. bfloat16: floats are rounded to the nearest bfloat16 and written in Keras's form."""
    if value.dtype.name == "bfloat16":
        value, bfloat16 = value.astype(np.float32), True
    if not bfloat16 or value.dtype.kind != "f":
        group[name] = value
        return
    bits = np.ascontiguousarray(value, np.float32).reshape(value.shape).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    halves = np.where(np.isnan(value), np.uint32(0x7FC0), rounded).astype(np.uint16)
    group.create_dataset(name, data=halves.view(_BFLOAT16)).attrs["dtype"] = "bfloat16"


_HEADER_LIMIT = 64512  # bytes of an attribute that HDF5 can store in an object's header


def write_texts(item: Any, name: str, texts: list[str]) -> None:
    """Write a list of strings as Keras does: in one attribute, or in name0, name1, ... if it is too long for one."""
    longest = max(texts, key=lambda text: len(text.encode()), default="")
    if len(longest.encode()) > _HEADER_LIMIT:
        raise ValueError(
            f"the name {briefly(longest)} is too long for HDF5, whose attributes hold {_HEADER_LIMIT} bytes: give a shorter "
            "name, or save as .keras"
        )
    data = np.array([text.encode() for text in texts]) if texts else np.zeros(0, "S1")
    parts = max(1, -(-data.nbytes // _HEADER_LIMIT))
    while any(part.nbytes > _HEADER_LIMIT for part in np.array_split(data, parts)):
        parts += 1
    if parts == 1:
        item.attrs[name] = data
    for number, part in enumerate(np.array_split(data, parts) if parts > 1 else []):
        item.attrs[f"{name}{number}"] = part
