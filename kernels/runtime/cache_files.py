"""The files of compiled kernels. A kernel has a file, named by a hash of everything that its code depends on.

A file's content never changes, so checkouts, versions and processes share a folder. Reads are checked: a damaged file counts as
absent. New files go into the first of `folders()`:

* the folder `nbkeras` in NUMBA_CACHE_DIR, if that is set;
* else the user's own folder for caches.

Processes that belong together, such as a server's, set NBKERAS_SPARE_KERNELS to a folder for kernels that cannot be kept; then
one process compiles for all. pack.py describes the kernels that the package itself holds.

A file's content is executed. So a folder or a file counts as absent, with a warning, if others may write it, or if its owner is
neither this user nor root.
"""

import contextlib
import errno
import functools
import hashlib
import os
import stat
import sys
import tempfile
import time
import uuid
import warnings

from nbkeras.kernels.runtime import elf
from nbkeras.kernels.runtime.opener import ordinary_file

SPARE = "NBKERAS_SPARE_KERNELS"
_MAX_BYTES = 512 * 2**20  # in a folder: about ten times all kernels in float32 and float64
_DAY = 86400.0
_CHECKSUM = hashlib.sha256().digest_size
_LARGEST = _CHECKSUM + elf.LARGEST  # bytes of a file


def folders() -> list[str]:
    """Returns the folders to search for kernels, in order. New kernels go to the first."""
    spare = _spare_folder()
    return [
        os.path.join(_chosen_folder(), "nbkeras") if _chosen_folder() else _users_folder(),
        *([spare] if spare else []),
    ]


def _spare_folder() -> str:
    """Returns the folder for kernels that cannot be written elsewhere, or ''."""
    return os.environ.get(SPARE, "")


def _chosen_folder() -> str:
    """Returns the folder that the user chose, or ''."""
    return os.environ.get("NUMBA_CACHE_DIR", "")


def _users_folder() -> str:
    """Returns the user's cache folder, by the convention of the system."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        parent = "~/Library/Caches"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.join(os.path.expanduser(parent), "nbkeras")


class _Untrusted(PermissionError):
    """Raised for a folder or a file that another user could have written."""


@functools.cache
def _make_folder(folder: str) -> None:
    """Makes the folder if it does not exist. Only this user gets rights, unless the user chose the folder."""
    is_chosen = bool(_chosen_folder())
    if not os.path.isabs(folder) and not is_chosen:
        raise FileNotFoundError(errno.ENOENT, "there is no home directory")
    _make_folders(folder, 0o755 if is_chosen else 0o700)


def _make_folders(folder: str, mode: int) -> None:
    """Makes folders that others cannot write into, whatever the umask."""
    if folder and not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder), 0o755)
        try:
            os.mkdir(folder, mode)
        except FileExistsError:
            if not os.path.isdir(folder):  # if it exists now, another process made it
                raise


@functools.cache
def _check_folder(folder: str) -> None:
    """Raises _Untrusted for a folder that another user may write or replace."""
    if hasattr(os, "geteuid"):  # Windows has no such rights
        _check_rights(os.stat(folder), "there")
        if os.lstat(folder).st_uid not in (0, os.geteuid()):
            raise _Untrusted(errno.EACCES, "another user made this link")
        around = os.stat(os.path.dirname(os.path.abspath(folder))).st_mode
        if around & stat.S_IWOTH and not around & stat.S_ISVTX:
            raise _Untrusted(errno.EACCES, "others can put another folder in its place")


def _check_rights(found: os.stat_result, where: str) -> None:
    """Raises _Untrusted if others may write the file, or if its owner is neither this user nor root."""
    if found.st_uid not in (0, os.geteuid()):
        raise _Untrusted(errno.EACCES, f"user number {found.st_uid} can write {where}")
    if found.st_mode & 0o022:
        raise _Untrusted(errno.EACCES, f"others can write {where}")


def check_writable(folder: str) -> None:
    """Raise OSError if no folder of `folders()` is writable."""
    _make_folder(folder)
    _check_folder(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _checksum(name: str, payload: bytes) -> bytes:
    """The digest covers content and name, so that a renamed file counts as damaged."""
    return hashlib.sha256(name.encode() + payload).digest()


def read(name: str) -> bytes | None:
    """Returns the payload of a name. Returns None if there is none, if it is damaged, or if others could have written it."""
    for folder in folders():
        path = os.path.join(folder, name)
        try:
            _check_folder(folder)
            with open(path, "rb", opener=ordinary_file) as file:
                status = os.fstat(file.fileno())  # not os.stat(path): by now, the name may refer to another file
                if hasattr(os, "geteuid"):
                    _check_rights(status, name)
                content = file.read() if status.st_size <= _LARGEST else b""
        except _Untrusted as error:
            _warn_ignored(folder, error)
            continue
        except OSError:
            continue
        payload = content[_CHECKSUM:]
        if content[:_CHECKSUM] != _checksum(name, payload):
            _warn_damaged(path)
            continue
        if time.time() - status.st_mtime > _DAY:  # `_prune` reads the time of the last use from it
            with contextlib.suppress(OSError):
                os.utime(path)
        return payload
    return None


def write(name: str, payload: bytes) -> None:
    """Saves the payload under a name; warns if that fails."""
    folder = folders()[0]
    try:
        _write(folder, name, payload)
        return
    except _Untrusted as error:
        _warn_ignored(folder, error)
    except OSError as error:
        if os.path.isfile(os.path.join(folder, name)):
            return  # Windows does not replace a file while another process, which just wrote it, reads it
        warn_not_saved(f"in {folder}", error.strerror, "set NUMBA_CACHE_DIR to a folder where this user can write")
    if _spare_folder():
        with contextlib.suppress(OSError):
            _write(_spare_folder(), name, payload)


def _write(folder: str, name: str, payload: bytes) -> None:
    _make_folder(folder)
    _check_folder(folder)
    _prune(folder)
    put(os.path.join(folder, name), _checksum(name, payload) + payload)


def put(path: str, content: bytes) -> None:
    """Writes a file, completely or not at all. Others cannot write into it, whatever the umask."""
    unfinished = f"{path}.{uuid.uuid4().hex[:16]}.tmp"
    try:
        with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(content)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


@functools.cache
def _prune(folder: str) -> None:
    """Deletes the least recently used files if there are too many. It runs before a process writes its first file."""
    found = []
    for entry in os.scandir(folder):
        if ".nbc" in entry.name:
            with contextlib.suppress(OSError):  # another process may delete the file first
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= _MAX_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


@functools.cache
def _warn_damaged(path: str) -> None:
    warnings.warn(
        f"the compiled kernel {path} in nbkeras's cache is damaged; nbkeras compiles it again and replaces the file. If this "
        "happens again, check the disk.",
        RuntimeWarning,
        stacklevel=2,
    )


_ignored: set[str] = set()  # folders that warnings have named


def _warn_ignored(folder: str, error: OSError) -> None:
    """Warns once that another user could have written the kernels of a folder."""
    if folder not in _ignored:
        _ignored.add(folder)
        warnings.warn(
            f"nbkeras ignores compiled kernels in {folder}, because {error.strerror} and kernels run with this user's rights; it "
            f"compiles them again. If you trust the folder, give it to this user or root and run chmod -R go-w '{folder}'; "
            "else set NUMBA_CACHE_DIR to a folder where only this user can write.",
            RuntimeWarning,
            stacklevel=2,
        )


@functools.cache
def warn_not_saved(what: str, reason: str, advice: str) -> None:
    """Warns once that later processes will compile again."""
    warnings.warn(
        f"nbkeras could not save a compiled kernel {what} ({reason}), so the next process compiles it again. To keep it: "
        f"{advice}.",
        RuntimeWarning,
        stacklevel=2,
    )
