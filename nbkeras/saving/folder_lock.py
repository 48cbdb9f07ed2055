"""Floor 3: FolderLock, which lets one training at a time use a folder."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """A lock on a folder, held until it is released, this process ends in any way, or the object is deleted.

    The locked file is `<folder>.lock`, since the folder need not exist, or `.lock` in the folder if nothing can be written
    beside it. A killed process leaves the file unlocked. If the system cannot lock files, `take` always succeeds.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._remove: weakref.finalize | None = None

    def __reduce__(self) -> tuple:  # a copy or a pickle holds no lock
        return FolderLock, (self.folder,)

    def take(self) -> bool:
        """Lock the folder. Returns False if another process has it."""
        folder = os.path.realpath(self.folder)
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
        for path in (f"{folder}.lock", os.path.join(folder, ".lock")):
            if self._remove is None:
                try:
                    self._remove = weakref.finalize(self, _remove, path, _locked(path))
                    _held.add(self)
                except BlockingIOError:
                    return False
                except OSError:  # the first file of the training will raise the same error
                    continue
        return True

    def release(self) -> None:
        """Unlock the folder."""
        if self._remove is not None:
            self._remove()
            self._remove = None


def _locked(path: str) -> int:
    """The descriptor of a locked file. Raises BlockingIOError if another process has locked it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
        except BlockingIOError:
            os.close(file)
            raise
        except BaseException:
            _remove(path, file)
            raise
        os.close(file)  # its previous owner has removed it, so the lock is void


def _lock(file: int) -> None:
    if sys.platform == "win32":
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(path: str, file: int) -> None:
    if sys.platform != "win32":  # Windows cannot remove open files
        with contextlib.suppress(OSError):
            os.remove(path)
    os.close(file)
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            os.remove(path)


def _after_fork() -> None:
    """Close the child's descriptors, which would keep the parent's locks after its end."""
    for lock in list(_held):
        if lock._remove is not None and (held := lock._remove.detach()) is not None:
            os.close(held[2][1])
            lock._remove = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
