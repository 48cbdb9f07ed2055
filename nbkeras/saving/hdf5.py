"""Floor 3: HDF5 files through h5py (an optional dependency): opening, and reading with every step checked.

A file can only lead to arrays of plain numbers that lie in it: links to other places and files, data stored outside,
virtual datasets, references, objects, filters that would load a library, and attributes without end are refused before
anything of them is read. Nothing is visited but what the model asks for.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import threading
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from nbkeras.saving import archive
from nbkeras.saving.hdf5_texts import Texts

Array = np.ndarray
_ATTRIBUTE_LIMIT = archive.JSON_LIMIT
_NAME_LIMIT = 5_000  # characters
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32: those that HDF5 itself has and that cannot load a plugin
_VISITS, _VISIT = 5_000, 32  # of groups and arrays: _VISITS, and one more for each _VISIT bytes of the file
_RATIO, _FREE = 1000, 1 << 24  # unasked-for arrays: at most _RATIO times what is stored, and _FREE for free


def h5py() -> Any:
    """The module h5py; ImportError with what to install."""
    try:
        import h5py
    except ImportError:
        raise ImportError(
            "files of Keras (.keras, .h5) hold their weights in HDF5, for which h5py is needed: pip install 'nbkeras[files]'"
        ) from None
    return h5py


def is_h5(file: Any) -> bool:
    """Whether an object is an open h5py.File or Group."""
    return type(file).__module__.partition(".")[0] == "h5py"


@contextlib.contextmanager
def opened(file: Any) -> Iterator[Any]:
    """An HDF5 file to read, from a path or a binary file (or as it is, if it is open); ValueError for what is none."""
    if is_h5(file):
        with _bytes_of(file.file) as source, _reading(file, source):
            yield file
        return
    path = isinstance(file, str | os.PathLike)
    name = f"{os.fspath(file)!r}" if path else "the file"
    module = h5py()
    try:
        group = module.File(file, "r")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no HDF5 file: it may be cut short or of another program ({error})") from None
    with group, open(file, "rb") if path else contextlib.nullcontext(file) as source, readable(name):
        with _reading(group, source):
            yield group


def _bytes_of(file: Any) -> IO[bytes]:
    """The bytes of an open h5py.File: from the disk if they are there, else a copy of them."""
    file.flush()
    if file.driver == "sec2" and os.path.exists(file.filename):
        if os.path.samestat(os.stat(file.filename), os.fstat(file.id.get_vfd_handle())):
            return open(file.filename, "rb")
    source = io.BytesIO(bytes(file.userblock_size))  # which HDF5's copy lacks
    source.seek(0, io.SEEK_END)
    source.write(file.id.get_file_image())
    return source


class _Open(threading.local):
    def __init__(self) -> None:
        self.texts: dict[int, Texts] = {}  # by HDF5's number of the file
        self.visits = 0  # that are left


_open = _Open()


@contextlib.contextmanager
def _reading(file: Any, source: IO[bytes]) -> Iterator[None]:
    """In the block an open file is read, whose bytes are in `source`: in a time that its size explains."""
    before, number = (_open.texts, _open.visits), h5py().h5o.get_info(file.id).fileno
    texts = Texts(file.file, source)
    _open.texts, _open.visits = {**before[0], number: texts}, _VISITS + texts.size // _VISIT
    try:
        yield
    finally:
        _open.texts, _open.visits = before


def _visit(count: int) -> None:
    """Count groups and arrays that are found: a few bytes can make a group a member of itself, or of thousands."""
    _open.visits -= count
    if _open.visits < 0:
        raise ValueError(
            "the file leads to more groups and arrays than its bytes can hold: it is damaged, or made to take long"
        )


@contextlib.contextmanager
def readable(name: str = "the file") -> Iterator[None]:
    """What HDF5 says of damaged data becomes a ValueError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is damaged: {error}") from None


@contextlib.contextmanager
def written(target: Any) -> Iterator[Any]:
    """A new HDF5 file at a path (which appears once it is whole), in a binary file, or an open one as it is."""
    if is_h5(target):
        yield target
    elif isinstance(target, str | os.PathLike):
        module = h5py()
        with archive.atomic_file(os.fspath(target)) as file, module.File(file, "w") as group:
            yield group
    else:
        with h5py().File(target, "w") as group:
            yield group


def to_bytes(fill: Any) -> memoryview:
    """The bytes of an HDF5 file that `fill(file)` wrote into."""
    buffer = io.BytesIO()
    with h5py().File(buffer, "w") as file:
        fill(file)
    return buffer.getbuffer()


# -------------------- reading --------------------


def child(group: Any, path: str) -> Any:
    """The group or dataset at a path below `group`, or None; ValueError for links that are not plain."""
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
                f"{path!r} is a {type(link).__name__} to another place: files with such links are not read"
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
    """The names in a group; [] for None."""
    if group is None:
        return []
    _visit(len(group))
    return list(group)


def array_shape(group: Any, name: str) -> tuple[int, ...] | None:
    """The shape of the dataset of that name, checked as all that is read; None if there is none."""
    dataset = child(group, name) if group is not None else None
    if dataset is None or not isinstance(dataset, h5py().Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name!r} keeps its data outside of the file: such files are not read")
    if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.dtype.hasobject:
        raise ValueError(f"{dataset.name!r} holds no plain numbers ({dataset.dtype}): it is not read")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if filters - _FILTERS:
        raise ValueError(f"{dataset.name!r} is compressed by filters {sorted(filters - _FILTERS)}: it is not read")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > max(_FREE, 4 * dataset.nbytes):  # HDF5 unpacks a chunk as a whole, whatever part of it the array has
        raise ValueError(f"{dataset.name!r} is stored in chunks of {chunk} bytes, more than it holds: it is not read")
    return dataset.shape


def read_array(group: Any, name: str, shape: tuple[int, ...] | None = None) -> Array:
    """The array of that name, of a shape that the caller expects; without one, only as large as what is really stored."""
    found = array_shape(group, name)
    if found is None:
        raise ValueError(f"the file has no array {name!r} in {getattr(group, 'name', 'it')!r}")
    dataset = child(group, name)
    stored = dataset.id.get_storage_size()
    if shape is None and dataset.nbytes > _FREE and dataset.nbytes > _RATIO * stored:
        raise ValueError(
            f"{dataset.name!r} claims {dataset.nbytes} bytes, of which {stored} are stored: it is not read"
        )
    if shape is not None and found != shape:
        raise ValueError(f"{dataset.name!r} has shape {found} in the file, expected {shape}")
    return dataset[()]


def _attribute(item: Any, name: str) -> list[Any] | None:
    """The values of an attribute, bytes where it is of texts; None if there is none. ValueError for other kinds and sizes."""
    module = h5py()
    encoded = name.encode()
    if not module.h5a.exists(item.id, encoded):
        return None
    attribute = module.h5a.open(item.id, encoded)
    count, dtype = math.prod(attribute.shape or ()), attribute.dtype
    if count * dtype.itemsize > _ATTRIBUTE_LIMIT or dtype.kind not in "SOfiub":
        raise ValueError(f"the attribute {name!r} of {item.name!r} ({dtype}, {count} values) is not read")
    archive.check_count(count, f"the attribute {name!r} of {item.name!r}")
    if dtype.kind != "O":
        return np.asarray(item.attrs[name]).reshape(-1).tolist()
    if module.check_string_dtype(dtype) is None:
        raise ValueError(f"the attribute {name!r} of {item.name!r} holds no text: it is not read")
    info = module.h5o.get_info(item.id)
    return _open.texts[info.fileno].read(info.addr, name, count)


def read_text(item: Any, name: str) -> str | None:
    """A text attribute, or None."""
    values = _attribute(item, name)
    if values is None:
        return None
    if len(values) != 1 or not isinstance(values[0], bytes) or len(values[0]) > _ATTRIBUTE_LIMIT:
        raise ValueError(f"the attribute {name!r} of {item.name!r} holds no text: it is not read")
    return values[0].decode("utf-8", "replace")


def read_texts(item: Any, name: str) -> list[str]:
    """A list of texts in an attribute, or in several, name0, name1, ..., where one was too small."""
    values = _attribute(item, name)
    if values is None:
        numbered = (_attribute(item, f"{name}{number}") for number in itertools.count())
        values = [value for part in iter(lambda: next(numbered), None) for value in part]
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values or ()]
    if any(len(text) > _NAME_LIMIT for text in texts):
        raise ValueError(
            f"the attribute {name!r} of {item.name!r} has a name longer than {_NAME_LIMIT}: it is not read"
        )
    return texts


# -------------------- writing --------------------

_HEADER_LIMIT = 64512  # bytes of an attribute that HDF5 keeps in an object's header


def write_texts(item: Any, name: str, texts: list[str]) -> None:
    """A list of texts as Keras writes it: one attribute, or name0, name1, ... where it is too long for one."""
    data = np.array([text.encode() for text in texts]) if texts else np.zeros(0, "S1")
    parts = max(1, -(-data.nbytes // _HEADER_LIMIT))
    while any(part.nbytes > _HEADER_LIMIT for part in np.array_split(data, parts)):
        parts += 1
    if parts == 1:
        item.attrs[name] = data
    for number, part in enumerate(np.array_split(data, parts) if parts > 1 else []):
        item.attrs[f"{name}{number}"] = part
