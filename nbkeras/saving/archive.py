"""Floor 3: files on disk, written completely or not at all; zip archives and JSON, checked before they are read.

Only members that the format defines are read, into memory; `assets` unpacks the files of a user's own layers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
import struct
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from nbkeras.data.unpacking import check_methods
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file

try:
    import fcntl
except ImportError:  # on Windows, where open files cannot be removed
    fcntl = None  # type: ignore[assignment]

JSON_LIMIT = 64 << 20  # bytes of JSON; more than the configuration of any model needs
_DEPTH = 200  # nesting depth of dicts and lists
ITEM_LIMIT = 4_000_000  # items of all dicts and lists: each becomes a Python object, far larger than its text
_HEADER = 4096  # bytes of a header; more than any .npy array needs
_MESSAGE_LIMIT = 1_000  # characters of a message
_UNEXPECTED = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RuntimeError, AssertionError, MemoryError),
)
_RATIO, _FREE = 100, 1 << 20  # a member larger than _FREE may unpack to _RATIO times its stored size


def is_path(file: Any) -> bool:
    """Whether a file is given as a path."""
    return isinstance(file, str | os.PathLike)


def name_of(file: Any) -> str:
    """A file's path for messages, or "the file"."""
    name = os.fspath(file) if is_path(file) else getattr(file, "name", None)
    return f"{name!r}" if isinstance(name, str | bytes) else "the file"


# The first bytes of files of Frozen.save: now, and of earlier versions, which wrote a pickle
FROZEN, OLD_FROZEN = b"nbkeras bundle\n\0", b"nbkeras frozen\n\0"
START = 16  # first bytes of a file that `kind_of` needs


def kind_of(start: bytes) -> str:
    """'zip', 'hdf5', 'frozen', 'safetensors' or 'shards', by a file's first bytes; "" for others."""
    if start.startswith(b"PK"):
        return "zip"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if start.startswith((FROZEN, OLD_FROZEN)):
        return "frozen"
    if start[8:9] == b"{":
        return "safetensors"
    return "shards" if start.startswith(b"{") else ""


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Any]:
    """A file to write in a `with` block. It gets its name when it is complete and on disk.

    After an error in the block the old file remains. Links are followed and the old file's permissions kept, as
    if the file were written in place.

    Args:
        path: The name of the file.

    Returns:
        A context manager that gives a binary file.

    Raises:
        FileNotFoundError: if its folder does not exist.
        OSError: if there is a folder or a device of that name, and for a full disk and the like; the message says what to do.

    Example:
        >>> with keras.saving.atomic_file("numbers.bin") as file:
        ...     _ = file.write(b"123")
        >>> with open("numbers.bin", "rb") as file:
        ...     file.read()
        b'123'
    """
    given, path = os.fspath(path), os.path.realpath(path)
    if _kept.files is not None:
        with _kept.files.added(given) as content:
            yield content
        return
    folder, name = os.path.split(path)
    part = os.path.join(folder, f"{name[:50]}.{os.getpid()}.{secrets.token_hex(4)}.part")
    with disk_errors(given, path, part, folder):
        _check_target(given, path)
        try:
            with open(part, "x+b") as file:
                _lock(file)
                yield file
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(path):
                shutil.copymode(path, part)
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                os.remove(part)
    _sync_folder(folder)


def _check_target(given: Any, path: str) -> None:
    folder = os.path.dirname(path)
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # raises if the name is too long, or if a parent is a file
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot write {given!r}: there is no folder {folder!r}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot write {given!r}: it is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(
            f"cannot write {given!r}: it is not an ordinary file and cannot be replaced at the end of writing"
        )


def _sync_folder(folder: str) -> None:
    """Make a file's new name durable. Some systems cannot open folders, and some file systems cannot sync them."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise OSError(
                error.errno, f"a file was written into {folder!r}, but may be lost in a power cut: {error.strerror}"
            ) from None
    finally:
        os.close(opened)


class PreparedFiles:
    """Files in memory that will be written to disk together."""

    def __init__(self) -> None:
        self._files: list[tuple[str, Callable[[Any], None]]] = []

    @contextlib.contextmanager
    def added(self, given: Any) -> Iterator[io.BytesIO]:
        """A file to write in the block."""
        content = io.BytesIO()
        yield content
        self.add(given, lambda file: file.write(content.getbuffer()))

    def add(self, given: Any, fill: Callable[[Any], None]) -> None:
        """Add a file that fill(file) will write."""
        with disk_errors(given, os.path.realpath(given)):
            _check_target(given, os.path.realpath(given))
        self._files.append((os.path.abspath(given), fill))

    def write(self) -> None:
        """Write all files to disk. When all are complete, they get their names in the order in which they were added."""
        with contextlib.ExitStack() as stack:
            for path, fill in reversed(self._files):  # an ExitStack exits in reverse order
                file = stack.enter_context(atomic_file(path))
                fill(file)
                file.flush()


class _Kept(threading.local):
    files: PreparedFiles | None = None


_kept = _Kept()


@contextlib.contextmanager
def in_memory() -> Iterator[PreparedFiles]:
    """Collect the files that this thread writes by `atomic_file` in the block; call the result's `write` later, in any thread."""
    before, _kept.files = _kept.files, PreparedFiles()
    try:
        yield _kept.files
    finally:
        _kept.files = before


_ELSEWHERE = "choose a folder elsewhere"
_REMEDIES = {
    "ENOSPC": f"free space on that disk, or {_ELSEWHERE}",
    "EDQUOT": f"delete other files, or {_ELSEWHERE}",
    "EFBIG": "the system, or the file system, limits the size of a file (`ulimit -f`)",
    "EROFS": _ELSEWHERE,
    "EACCES": f"let this user write into the folder, or {_ELSEWHERE}",
    "EPERM": f"let this user write into the folder, or {_ELSEWHERE}",
    "ENOENT": f"its folder was removed: make it again, or {_ELSEWHERE}",
    "EEXIST": f"a file is where a folder should be: remove it, or {_ELSEWHERE}",
    "ENOTDIR": f"a file is where a folder should be: remove it, or {_ELSEWHERE}",
    "ENAMETOOLONG": "choose a shorter name",
    "EIO": f"the disk has failed: {_ELSEWHERE}",
    "ESTALE": f"the connection to the disk was lost: {_ELSEWHERE}",
    "EMFILE": "this process has too many files open (`ulimit -n`)",
}
_REMEDY = {getattr(errno, name): text for name, text in _REMEDIES.items() if hasattr(errno, name)}


@contextlib.contextmanager
def disk_errors(given: Any, *paths: str) -> Iterator[None]:
    """Turn system errors about these paths, or without a path, into errors that name `given` and say what to do."""
    try:
        yield
    except OSError as error:
        number, other = error.errno, error.filename is not None and error.filename not in paths
        if number is None or number not in _REMEDY or other or hasattr(error, "is_explained"):
            raise
        before = " The existing file is unchanged." if os.path.isfile(given) else ""
        text = f"cannot write {given!r}: {os.strerror(number)}; {_REMEDY[number]}.{before}"
        explained = OSError(number, text)
        explained.is_explained = True  # type: ignore[attr-defined]
        raise explained from None


def parents(folder: str) -> Iterator[str]:
    """Yield a path and its parent folders, named as by `os.makedirs`."""
    while folder:
        yield folder
        folder, before = os.path.dirname(folder), folder
        if folder == before:
            return


@contextlib.contextmanager
def last_named(last: Callable[[], str | None]) -> Iterator[None]:
    """Add the last good file to the error for a file that cannot be written. last: returns its path, or None."""
    try:
        yield
    except OSError as error:
        path = last()
        if path is None:
            raise
        text = f"{error if error.errno is None else error.strerror} The last one, {path!r}, is complete."
        raise (type(error)(text) if error.errno is None else OSError(error.errno, text)) from None


_PART = re.compile(r"(.*)\.([0-9]{1,9})\.[0-9a-f]{8}\.part", re.DOTALL)


def _lock(file: IO[bytes]) -> None:
    """Mark a file as being written. The mark ends with the process, however it ends."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(folder: str, is_own: Callable[[str], bool]) -> None:
    """Remove temporary files of `atomic_file` that killed processes left in a folder; is_own(name) selects by file name.

    Names are cut after 50 characters. Files that are being written stay.
    """
    for name in os.listdir(folder):
        match, path = _PART.fullmatch(name), os.path.join(folder, name)
        if match and is_own(match[1]):
            with contextlib.suppress(OSError):
                if stat.S_ISREG(os.lstat(path).st_mode) and not _is_being_written(path, int(match[2])):
                    os.remove(path)


def _is_being_written(path: str, process: int) -> bool:
    if fcntl is None:
        return False
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def written(target: Any) -> contextlib.AbstractContextManager[Any]:
    """The binary file to write: an `atomic_file` for a path, else the target itself, an open file."""
    return atomic_file(target) if is_path(target) else contextlib.nullcontext(target)


def write(target: Any, fill: Callable[[Any], None]) -> None:
    """Write a file, or an open target, by fill(file). Within `in_memory`, `fill` is called later, in any thread."""
    if is_path(target) and _kept.files is not None:
        _kept.files.add(target, fill)
        return
    with written(target) as file:
        fill(file)


class NoFileError(FileNotFoundError, ValueError):
    """A file that does not exist: for a model, Keras 3 raises a ValueError, and Keras 2 an OSError."""


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn an error about a file or string of an unexpected form into a ValueError that names it.

    A message that the file makes too long is shortened to its start and end. An error of the system, such as a failed disk, stays
    an OSError, and names the file.
    """
    try:
        yield
    except NoFileError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"cannot read {name}: {os.strerror(error.errno)}") from None
    except _UNEXPECTED as error:
        text = str(error)
        if not isinstance(error, ValueError):
            kind = f"{type(error).__name__}: {text}"
            text = f"{name} cannot be read, its configuration or arrays are not of the expected form: {kind}"
        elif name not in text:
            text = f"{name}: {text}"
        if len(text) <= _MESSAGE_LIMIT:
            raise ValueError(text) from (None if isinstance(error, ValueError) else error)
        left_out = f" ... [{len(text) - _MESSAGE_LIMIT} characters] ... "
        raise ValueError(text[: _MESSAGE_LIMIT // 2] + left_out + text[-_MESSAGE_LIMIT // 2 :]) from None


@contextlib.contextmanager
def open_archive(file: Any) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive, from a path or a binary file, and check its members. Raises ValueError if it is not an archive."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open(file, "rb", opener=ordinary_file)) if is_path(file) else file
        with _undamaged(
            f"{name_of(file)} is not a model file (not a zip archive): it may be truncated or from another program"
        ):
            archive = stack.enter_context(zipfile.ZipFile(source))
        check_members(archive)
        yield archive


def check_members(archive: zipfile.ZipFile) -> None:
    """Raise ValueError for members that overlap, lie outside of the archive, occur twice, or could unpack without end."""
    check_methods(archive)
    seen: set[str] = set()
    starts: set[int] = set()
    for info in archive.infolist():
        name = info.filename
        outside = (
            name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/") or "\0" in info.orig_filename
        )
        if outside or stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(
                f"the archive has a member {briefly(info.orig_filename)} that points outside of it: it is not read"
            )
        if name in seen:
            raise ValueError(f"the archive has two members {briefly(name)}: it is not read")
        if info.flag_bits & 1:
            raise ValueError(f"the archive's member {briefly(name)} is encrypted: it is not read")
        if info.header_offset in starts:  # some versions of zipfile only warn
            raise ValueError(f"the archive's member {briefly(name)} overlaps another one: it is not read")
        seen.add(name)
        starts.add(info.header_offset)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError:
        raise ValueError(f"this is not a model file: it has no {name}") from None


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The bytes of a member. Before unpacking, raises ValueError if it is larger than `limit` or a zip bomb."""
    info = _member(archive, name)
    if info.file_size > limit or (info.file_size > _FREE and info.file_size > _RATIO * info.compress_size):
        raise ValueError(
            f"{name} unpacks to {info.file_size} bytes from {info.compress_size}: too many (at most {limit} bytes, and "
            f"{_RATIO} times the stored size): it is not read"
        )
    with _undamaged(f"{name} is damaged"), archive.open(info) as member:
        return member.read(info.file_size)


def read_file(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a layer's file. A stored one may have any size; a compressed one is limited as a configuration is."""
    return read_member(archive, name, max(JSON_LIMIT, _member(archive, name).compress_size))


_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, OverflowError, OSError)


@contextlib.contextmanager
def _undamaged(message: str) -> Iterator[None]:
    """Turn errors about an archive's bytes into a ValueError."""
    try:
        yield
    except _DAMAGE as error:
        # zipfile raises BadZipFile for an error of the system; EINVAL is a position before the file's start
        for each in (error, error.__context__):
            if isinstance(each, OSError) and each.errno not in (None, errno.EINVAL):
                raise each from None
        raise ValueError(f"{message} ({error})") from None


class _Section(io.RawIOBase):
    """The bytes start to start + size of a file, as a separate file to read and seek."""

    def __init__(self, file: IO[bytes], start: int, size: int):
        self._file, self._start, self._size, self._at = file, start, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_member(archive: zipfile.ZipFile, name: str, limit: int) -> IO[bytes]:
    """A member as a seekable file: in place if it is stored uncompressed, else unpacked up to `limit` bytes.

    Raises ValueError if its bytes do not have their checksum: HDF5 would read wrong numbers.
    """
    info, file = _member(archive, name), archive.fp
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or file is None:
        return io.BytesIO(read_member(archive, name, limit))
    with _undamaged(f"{name} is damaged"), archive.open(info) as member:  # checks the header before the member
        while member.read(_PIECE):  # the last piece compares the checksum
            pass
    file.seek(info.header_offset + 26)
    lengths = struct.unpack("<HH", file.read(4))  # the lengths of the name and of the extra field
    return _Section(file, info.header_offset + 30 + sum(lengths), info.file_size)  # type: ignore[return-value]


def parse_json(text: bytes | str, what: str) -> dict[str, Any]:
    """Parse a dict from JSON. Raises ValueError if it is not a dict, is too long, or is nested too deeply."""
    if not isinstance(text, bytes | str):
        raise TypeError(f"{what} must be JSON in a string, received {briefly(text)}")
    if len(text) > JSON_LIMIT:
        raise ValueError(f"{what} has {len(text)} bytes: configurations with more than {JSON_LIMIT} are rejected")
    check_count(_count_of_parts(text if isinstance(text, bytes) else text.encode("utf-8", "replace")), what)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} must hold a dict, received {type(value).__name__}")
    check_depth(value, what)
    return value


def _count_of_parts(text: bytes) -> int:
    return sum(text.count(mark) for mark in (b",", b"[", b"{"))


def check_to_write(text: str) -> str:
    """The JSON of a model's configuration. Raises ValueError if `parse_json` would not read it."""
    raw = text.encode()
    count = _count_of_parts(raw)
    if len(raw) > JSON_LIMIT or count > ITEM_LIMIT:
        raise ValueError(
            f"the model's configuration has {len(raw)} bytes and {count} parts, but a file may have {JSON_LIMIT} and "
            f"{ITEM_LIMIT}: a layer has a very long list, such as a vocabulary. Write the weights alone (model.save_weights), "
            "and make the model by its code, from the file of the vocabulary"
        )
    return text


def check_count(count: int, what: str) -> None:
    """Raise ValueError for more dicts, lists and items than any model needs."""
    if count > ITEM_LIMIT:
        raise ValueError(f"{what} declares {count} parts: configurations with more than {ITEM_LIMIT} are rejected")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):  # another program may have read the other value
        raise ValueError("a name occurs twice in one dict")
    return value


def check_depth(value: Any, what: str) -> None:
    """Raise ValueError for dicts and lists nested more deeply than any model needs. No recursion, so no stack overflow."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"{what} is nested more than {_DEPTH} levels deep")


def read_json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """The dict in a JSON member."""
    return parse_json(read_member(archive, name, JSON_LIMIT), name)


class OtherShape(ValueError):
    """The error for an array whose shape or type differs from the model's."""


def read_npy(archive: zipfile.ZipFile, member: str, what: str, like: Any) -> Any:
    """A member's .npy array, of the shape of `like`. Its header is checked before anything is allocated."""
    text = io.BytesIO(read_member(archive, member, like.nbytes * 2 + _HEADER))
    shape, _, dtype = _npy_header(text, member)
    if shape != like.shape or dtype.kind not in NUMBERS:
        raise OtherShape(f"{briefly(what)} has shape {like.shape} in the model, but {shape} ({dtype}) in the file")
    text.seek(0)
    return np.lib.format.read_array(text, allow_pickle=False)


NUMBERS = "fiub"  # kinds of numeric dtypes


def _npy_header(text: IO[bytes], member: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, dtype) of a .npy array. Leaves the file at the first element."""
    try:
        version = np.lib.format.read_magic(text)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return reader(text)
    except (ValueError, SyntaxError, tokenize.TokenError) as error:  # NumPy parses the header as Python literals
        raise ValueError(f"member {briefly(member)} of the file is not an array: {error}") from None


def read_stored_npy(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """A member's .npy array of numbers of any shape: a read-only view of its bytes, which must be stored uncompressed."""
    info = _member(archive, member)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"member {briefly(member)} is compressed: it is not read")
    data = read_member(archive, member, info.compress_size)
    text = io.BytesIO(data)
    shape, fortran, dtype = _npy_header(text, member)
    start = text.tell()
    plain = dtype.kind in NUMBERS and not fortran and all(length >= 0 for length in shape)
    if not plain or len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"member {briefly(member)} of the file is not an array of numbers: {shape} ({dtype}), {len(data)} bytes"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def write_npy(archive: zipfile.ZipFile, member: str, array: np.ndarray) -> None:
    """Store an array as a .npy member, in pieces, so that other threads can run."""
    array = np.asarray(array, order="C")
    with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(array))
        data = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), _PIECE):
            file.write(data[start : start + _PIECE])


_PIECE = 1 << 20  # bytes
