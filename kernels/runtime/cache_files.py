"""The files of compiled kernels: one for each, named by a hash of all that its code depends on.

A file's content never changes, so checkouts, versions and processes share a folder. What is read is checked: a damaged file
counts as absent. New files go into the first of `folders()`:

* the folder `nbkeras` in NUMBA_CACHE_DIR, if that is set;
* else the user's own folder for caches. Its files are executed, so no other user may have the right to write there.

They are looked for in PACKAGE too, beside these modules: an image may ship them there (`nbkeras warmup --in-package`). Processes
that belong together, as those of a server, name a folder of their own in NBKERAS_SPARE_KERNELS, for kernels that cannot be kept:
then one of them compiles for all.
"""

import contextlib
import errno
import functools
import hashlib
import os
import sys
import tempfile
import time
import uuid
import warnings

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__pycache__")  # that of kernels/
SPARE = "NBKERAS_SPARE_KERNELS"
_MOST_BYTES = 512 * 2**20  # of a folder: about ten times all kernels in float32 and float64
_DAY = 86400.0
_CHECKSUM = hashlib.sha256().digest_size
_in_package = False


def keep_in_package() -> None:
    """From now on, use the package's own folder alone."""
    global _in_package
    _in_package = True


def folders() -> list[str]:
    """The folders that are searched for kernels, in this order; new ones are written to the first."""
    if _in_package:
        return [PACKAGE]
    spare = _spare()
    return [os.path.join(_chosen(), "nbkeras") if _chosen() else _users_folder(), PACKAGE, *([spare] if spare else [])]


def _spare() -> str:
    """The folder for kernels that cannot be written elsewhere, '' if there is none."""
    return os.environ.get(SPARE, "")


def _chosen() -> str:
    """The folder that the user chose, '' if none."""
    return os.environ.get("NUMBA_CACHE_DIR", "")


def _users_folder() -> str:
    """The user's folder for caches, by the convention of the system."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        parent = "~/Library/Caches"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.join(os.path.expanduser(parent), "nbkeras")


def _is_chosen(folder: str) -> bool:
    """Whether a user chose this folder: the package's, and one in NUMBA_CACHE_DIR. Its owner is then trusted."""
    return folder == PACKAGE or bool(_chosen())


@functools.cache
def _make(folder: str) -> None:
    """Make the folder if it does not exist; with rights for this user alone, unless it was chosen."""
    if not os.path.isabs(folder) and not _is_chosen(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no home directory")
    os.makedirs(folder, 0o777 if _is_chosen(folder) else 0o700, exist_ok=True)


@functools.cache
def _check(folder: str) -> None:
    """PermissionError for a folder that was not chosen and where other users can write."""
    if hasattr(os, "geteuid") and not _is_chosen(folder):
        status = os.stat(folder)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise PermissionError(errno.EACCES, "others can write there")


def check_writable(folder: str) -> None:
    """OSError if no file can be written into a folder of `folders()`."""
    _make(folder)
    _check(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _checksum(name: str, payload: bytes) -> bytes:
    """Of content and name, so that a renamed file counts as damaged."""
    return hashlib.sha256(name.encode() + payload).digest()


def read(name: str) -> bytes | None:
    """The payload written under a name; None if there is none, or only a damaged one."""
    for folder in folders():
        path = os.path.join(folder, name)
        try:
            _check(folder)
            with open(path, "rb") as file:
                content = file.read()
                age = time.time() - os.fstat(file.fileno()).st_mtime
        except OSError:
            continue
        payload = content[_CHECKSUM:]
        if content[:_CHECKSUM] != _checksum(name, payload):
            _warn_damaged(path)
            continue
        if age > _DAY:  # `_prune` reads the time of the last use from it
            with contextlib.suppress(OSError):
                os.utime(path)
        return payload
    return None


def write(name: str, payload: bytes) -> None:
    """Keep the payload under a name; a warning if that cannot be done."""
    folder = folders()[0]
    try:
        _write(folder, name, payload)
    except OSError as error:
        # Windows does not replace what another process wrote meanwhile and reads.
        if not os.path.exists(os.path.join(folder, name)):
            warn_not_saved(f"in {folder}", error.strerror, "set NUMBA_CACHE_DIR to a folder where this user can write")
            if _spare():
                with contextlib.suppress(OSError):
                    _write(_spare(), name, payload)


def _write(folder: str, name: str, payload: bytes) -> None:
    path = os.path.join(folder, name)
    _make(folder)
    _check(folder)
    _prune(folder)
    unfinished = f"{path}.{uuid.uuid4().hex[:16]}.tmp"
    try:
        with open(unfinished, "wb") as file:
            file.write(_checksum(name, payload) + payload)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


@functools.cache
def _prune(folder: str) -> None:
    """Delete the files that were not used for longest, if there are too many; before a process's first file."""
    found = []
    for entry in os.scandir(folder):
        if ".nbc" in entry.name:
            with contextlib.suppress(OSError):  # another process may prune as well
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= _MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


@functools.cache
def _warn_damaged(path: str) -> None:
    warnings.warn(
        f"a compiled kernel in nbkeras's cache is damaged, {path}: it is compiled again and the file replaced. If this happens "
        "again, look after the disk.",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.cache
def warn_not_saved(what: str, reason: str, advice: str) -> None:
    """Warn once that later processes will compile again."""
    warnings.warn(
        f"nbkeras could not save a compiled kernel {what} ({reason}), so the next process compiles it again. To keep it: "
        f"{advice}.",
        RuntimeWarning,
        stacklevel=2,
    )
