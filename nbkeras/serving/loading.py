"""Loading: turns a model's file into a frozen file, which all workers map, in a separate process, so that no file harms the
server.

`Loading` starts that process, which runs `preparation.py` with limits of time and memory. Any failure becomes a LoadingError
of one sentence. The supervisor holds no model, so this module imports nothing that models need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from nbkeras.serving.errors import LoadingError, end_of

_PREFIX = "nbkeras-serve-"
# the options that make a frozen file
DESCRIBES = ("path", "batch_sizes", "input_signature", "stream", "window", "steps", "safe_mode")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A frozen file that was run and compared with `predict`.

    digest, modified, size: of the model's file, the one that was loaded: its SHA-256, time (of `time.time`) and bytes. is_same:
    the caller already has the frozen file of this digest, so none was made.
    """

    file: str
    digest: str
    modified: float = 0.0
    size: int = 0
    bytes: int = 0
    seconds: float = 0.0
    warnings: Sequence[str] = ()
    is_same: bool = False

    @property
    def source(self) -> dict[str, Any]:
        """The model's file, as clients see it."""
        return {"sha256": self.digest, "modified": utc(self.modified), "bytes": self.size}


def utc(seconds: float) -> str:
    """A time of `time.time` in ISO 8601, such as 2026-01-31T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# -------------------- the server's folder --------------------


class Folder:
    """The private folder of a running server, for frozen files and sockets. Only this user can read it.

    The server's processes hold a lock on it, so that programs that delete old temporary files skip it. A folder without a lock
    belonged to a server that was killed; the next server of the same user deletes it.
    """

    def __init__(self, parent: str | None = None):
        parent = parent or _writable()
        for name in _left(parent):
            shutil.rmtree(name, ignore_errors=True)
        while True:
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            # another server took it for an abandoned folder and deleted it
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                self._lock = _locked(self.path)
                break

    def file(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self.path, name)

    def delete(self) -> None:
        """Delete the folder. Files that processes have mapped stay in their memory."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked(folder: str) -> int:
    """A descriptor of a folder, locked as long as a process has it open; BlockingIOError if another one has locked it."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(found)
        raise
    return found


def _writable() -> str:
    """The folder for temporary files, or the one in memory if no other is writable, as in a read-only container."""
    for folder in (os.environ.get("TMPDIR"), "/tmp", "/dev/shm"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise LoadingError(
        "no folder for frozen models is writable: mount one at /tmp, or name one with --folder or TMPDIR"
    )


def _left(parent: str) -> Iterator[str]:
    """Folders left by killed servers of this user."""
    try:
        entries = [entry for entry in os.scandir(parent) if entry.name.startswith(_PREFIX)]
    except OSError as error:
        raise LoadingError(f"the folder for frozen models cannot be read: {parent} ({error.strerror})") from None
    for entry in entries:
        with contextlib.suppress(OSError):  # it is not a folder, is another user's, or belongs to a running server
            lock = _locked(entry.path)
            if os.fstat(lock).st_uid == os.geteuid():
                yield entry.path
            os.close(lock)


# -------------------- the process that loads --------------------


class Loading:
    """A process that loads a model's file. `fileno()` becomes readable when the process has a result or has ended."""

    def __init__(
        self, options: Any, target: str, *, seconds: float = 300.0, memory: int | None = None, known: str | None = None
    ):
        self.target, self.seconds, self.memory = target, seconds, memory
        self.deadline = time.monotonic() + seconds
        job = {name: getattr(options, name) for name in DESCRIBES}
        job |= {"target": target, "memory": memory, "known": known, "parent": os.getpid()}
        folders = [os.path.abspath(folder) for folder in sys.path if os.path.exists(folder or ".")]
        # One thread: the compiler's memory is limited, and the code of a kernel does not depend on the number of threads.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(folders),
            "NUMBA_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", "-m", "nbkeras.serving.preparation", json.dumps(job)]
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise LoadingError(f"no process could be started to load it: {error.strerror}") from None

    def fileno(self) -> int:
        return self._process.stdout.fileno()  # type: ignore[union-attr]

    def result(self) -> Loaded:
        """Wait for the process. Raises LoadingError if there is no frozen file."""
        is_late = False
        try:
            line, _ = self._process.communicate(timeout=max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            self.close()
        if is_late:
            raise self._failure(f"it was not loaded within {self.seconds:g} s (--load-seconds)")
        if not line:
            raise self._failure(f"the process that loads it {end_of(self._process.returncode)}; {self._memory_hint()}")
        answer = json.loads(line)
        if "error" in answer:
            is_told = answer["error"] is not None
            raise self._failure(answer["error"] if is_told else f"it needs too much memory; {self._memory_hint()}")
        return Loaded(self.target, **answer)

    def _failure(self, sentence: str) -> LoadingError:
        for name in glob.glob(f"{glob.escape(self.target)}*"):  # an unfinished file has an additional suffix
            os.unlink(name)
        return LoadingError(sentence)

    def _memory_hint(self) -> str:
        if self.memory is None:
            return "is there enough memory?"
        return f"its limit is {self.memory >> 20} MB (--load-memory-mb)"

    def close(self) -> None:
        """Kill the process, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
