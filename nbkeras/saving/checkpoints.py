"""Floor 3: CheckpointFolder, numbered checkpoints of a training in a folder: written in the background, atomically.

A checkpoint is a zip archive of uncompressed .npy arrays. Its last member is JSON and proves that the file is complete: it has
the arrays' names, sizes and checksums, and notes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import warn
from nbkeras.saving import archive as archives
from nbkeras.saving.background import BackgroundWriter
from nbkeras.saving.folder_lock import FolderLock

Array = np.ndarray
_ENTRY, _FORMAT = "checkpoint.json", "nbkeras checkpoint 1"
_NAME = re.compile(r"(0|[1-9][0-9]{0,17})\.npz")


class CheckpointFolder:
    """Numbered checkpoints in a separate folder.

    `save` returns immediately, and a thread writes. The next call raises the thread's error.

    Args:
        folder: The path; the first `save` makes the folder.
        keep: The number of newest files that stay.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 1):
        if not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep must be a positive number of files, received {briefly(keep)}")
        self.folder, self.keep = os.fspath(folder), keep
        self._writer = BackgroundWriter()
        self._lock = FolderLock(self.folder)
        self._damaged: set[int] = set()
        self._is_made = False

    def __enter__(self) -> CheckpointFolder:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Wait for the file being written and release the folder. During another error, the file's error becomes a warning."""
        try:
            self._writer.__exit__(kind, error, traceback)
        finally:
            self._lock.release()

    def take(self) -> bool:
        """Lock the folder for this training, until `release` or the end of the process. Returns False if another one has it."""
        return self._lock.take()

    def release(self) -> None:
        """Unlock the folder for other trainings."""
        self._lock.release()

    @property
    def is_busy(self) -> bool:
        """Whether a file is being written."""
        return self._writer.is_busy

    def wait(self) -> None:
        """Wait until the file is on disk. Raises the error, once, if it could not be written."""
        self._writer.wait()

    def check(self) -> None:
        """Raise the error, once, of a file that could not be written. Does not wait for a file that is being written."""
        self._writer.check()

    def save(self, number: int, arrays: Mapping[str, Array], notes: Mapping[str, Any]) -> None:
        """Write a checkpoint in the background, then delete all but the newest `keep`.

        Waits for the previous checkpoint. Call `wait` before you copy arrays, so that two copies never exist.

        Args:
            number: The checkpoint's number, 0 or more; greater ones are newer. Files with greater numbers are deleted.
            arrays: The arrays by name. They must not change until they are written: pass copies.
            notes: Values that JSON can hold.

        Raises:
            OSError: if this file or the previous one could not be written.
            TypeError: for an object that cannot be written.
        """
        for name, array in arrays.items():
            if (
                not isinstance(name, str)
                or not isinstance(array, np.ndarray)
                or array.dtype.kind not in archives.NUMBERS
            ):
                raise TypeError(
                    f"a checkpoint holds arrays of numbers by name, received {briefly(name)}: {briefly(array)}"
                )
        if not 0 <= number < 10**18:
            raise ValueError(f"a checkpoint's number must be 0 or more, received {briefly(number)}")
        text = json.dumps(dict(notes), default=_plain)  # now, because lists and dicts may change later
        archives.parse_json(text, "the notes of a checkpoint")  # raises now if `newest` could not read it
        self._writer.wait()
        if not self._is_made:
            with archives.disk_errors(self.folder, *archives.parents(self.folder)):
                os.makedirs(self.folder, exist_ok=True)
            self._is_made = True
        self._writer.start(functools.partial(self._write, int(number), dict(arrays), text))

    def path(self, number: int) -> str:
        """The path of a checkpoint."""
        return os.path.join(self.folder, f"{number}.npz")

    def _write(self, number: int, arrays: dict[str, Array], notes: str) -> None:
        path = self.path(number)
        with archives.last_named(self._last):
            if os.path.islink(path):  # a link is replaced, not followed
                os.remove(path)
            with archives.atomic_file(path) as file:
                write(file, arrays, notes)
        self._damaged.discard(number)
        older = sorted((found for found in self._undamaged_numbers() if found < number), reverse=True)
        self._remove(set(self._numbers()) - {number, *older[: self.keep - 1]})

    def _last(self) -> str | None:
        """The path of the newest file that is not known to be damaged."""
        good = self._undamaged_numbers()
        return self.path(max(good)) if good else None

    def _remove(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            with contextlib.suppress(OSError):
                os.remove(self.path(number))

    def _undamaged_numbers(self) -> list[int]:
        """The numbers of the files that are not known to be damaged."""
        return [number for number in self._numbers() if number not in self._damaged]

    def _numbers(self) -> list[int]:
        """The numbers of the existing files."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]

    def newest(self, accept: Callable[[dict[str, Array], dict[str, Any]], Any]) -> int | None:
        """Find the newest undamaged checkpoint, and pass it to a function.

        Damaged checkpoints are skipped with a warning. Temporary files of killed processes are removed.

        Args:
            accept: Called with (arrays, notes). The arrays are read-only. It raises ValueError if the checkpoint does not fit.

        Returns:
            The checkpoint's number, or None if there is none.

        Raises:
            ValueError: if accept raised one.
            OSError: if all checkpoints are damaged.
        """
        self._writer.wait()
        self._remove_leftovers()
        why: Exception | None = None
        for number in sorted(self._numbers(), reverse=True):
            path = self.path(number)
            try:
                arrays, notes = read(path)
            except PermissionError:
                raise
            except (OSError, ValueError) as error:
                if isinstance(error.__cause__, MemoryError):
                    raise
                self._damaged.add(number)
                warn(f"the checkpoint {path!r} is damaged and skipped: {error}")
                why = error
                continue
            try:
                accept(arrays, notes)
            except ValueError as error:
                raise ValueError(
                    f"the checkpoint {path!r} belongs to another model or training ({error}): delete the folder "
                    f"{self.folder!r}, or choose another one"
                ) from error
            return number
        if why is not None:
            raise OSError(
                f"no checkpoint in {self.folder!r} can be read ({why}): delete the folder to start from the beginning"
            ) from why
        return None

    def delete(self) -> None:
        """Delete all checkpoints, and the folder if nothing else is in it, and release the folder."""
        self._writer.wait()
        self._remove(self._numbers())
        self._remove_leftovers()
        self._lock.release()  # it may be a file in the folder
        with contextlib.suppress(OSError):  # it does not exist, or contains other files
            os.rmdir(self.folder)
        self._is_made = False

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(OSError):
            archives.remove_leftovers(self.folder, lambda name: _NAME.fullmatch(name) is not None)


def _plain(value: Any) -> Any:
    """A NumPy scalar or array as a value for JSON."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"the notes of a checkpoint hold what JSON can hold, received {briefly(value)}")
    return value.tolist()


def write(file: Any, arrays: dict[str, Array], notes: str) -> None:
    """Write a checkpoint into a binary file. notes: JSON."""
    with zipfile.ZipFile(file, "w") as archive:
        for place, array in enumerate(arrays.values()):
            archives.write_npy(archive, f"{place}.npy", array)
        held = [(name, info.file_size, info.CRC) for name, info in zip(arrays, archive.infolist(), strict=True)]
        entry = json.dumps({"format": _FORMAT, "arrays": held})
        archive.writestr(zipfile.ZipInfo(_ENTRY), f'{entry[:-1]}, "notes": {notes}}}')


def read(path: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and notes of a checkpoint. Raises ValueError if it is damaged. The file's size limits the memory used."""
    with archives.readable(repr(path)), archives.open_archive(path) as archive:
        *members, last = [(info.filename, info.file_size, info.CRC) for info in archive.infolist()] or [("", 0, 0)]
        if last[0] != _ENTRY or last[1] + sum(size for _, size, _ in members) > os.path.getsize(path):
            raise ValueError(f"it is not a checkpoint: it has no {_ENTRY} at its end")
        entry = archives.read_json(archive, _ENTRY)
        held, notes = entry["arrays"], entry["notes"]
        expected = [(f"{place}.npy", size, crc) for place, (_, size, crc) in enumerate(held)]
        names = [name for name, _, _ in held]
        named = all(type(name) is str for name in names) and len(set(names)) == len(names)
        if entry["format"] != _FORMAT or expected != members or not named or type(notes) is not dict:
            raise ValueError(f"it is incomplete: its arrays are not those listed in {_ENTRY}")
        return {name: archives.read_stored_npy(archive, f"{place}.npy") for place, name in enumerate(names)}, notes
