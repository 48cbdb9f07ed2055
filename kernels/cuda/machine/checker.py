"""The checks of the simulator under NBKERAS_SIMULATOR=strict: indices, and data races between threads.

Kernels get Checked arrays instead of NumPy's. Each rejects an index outside it (Numba's kernels accept negative indices as Python
does, and never check) and records which thread accesses which element. A *log* holds the accesses of a thread, a warp, a block or
the grid since the last barrier. A barrier compares the logs of the threads that meet. If an element is in two logs and one of
them wrote it, that is a race, even if the result was right this time.

It does not detect races through views with dtypes of other sizes, nor races between lanes of a warp that met and its other lanes.
"""

import linecache
import os
import sys
from operator import index as integer
from typing import Any, NamedTuple

import numpy as np

_WORDS = {  # modules of the kernel language, whose lines are not the kernel's
    "nbkeras.kernels.cuda.machine.checker",
    "nbkeras.kernels.cuda.machine.language",
    "nbkeras.kernels.cuda.loops.registers",
}


class RaceError(RuntimeError):
    """Two threads access an element without a barrier in between, and one of them writes."""


class _Access(NamedTuple):
    """A thread's access to an element, and its position in the code."""

    block: tuple
    thread: tuple
    code: Any
    instruction: int
    array: "Checked"
    key: Any

    def describe(self, verb: str) -> str:
        return (
            f"thread {tuple(self.thread)} of block {tuple(self.block)} {verb} {self.array.name}{_brackets(self.key)} "
            f"in {line_of(self.code, self.instruction)}"
        )


def line_of(code: Any, instruction: int) -> str:
    """Returns the line and file of an instruction."""
    lines = (line for start, stop, line in code.co_lines() if start <= instruction < stop)
    return f"line {next(lines, None)} of {os.path.basename(code.co_filename)}"


def name_at(code: Any, line: int) -> str:
    """Returns the name of the variable that a line assigns to."""
    before, equals, _ = linecache.getline(code.co_filename, line).partition("=")
    return before.strip() if equals and before.strip().isidentifier() else f"the array of line {line}"


def _brackets(key: Any) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return f"[{', '.join(_span(part) if isinstance(part, slice) else str(part) for part in parts)}]"


def _span(part: slice) -> str:
    return ":".join("" if end is None else str(end) for end in (part.start, part.stop))


class Log:
    """The first access to each element since the log began, by the element's address: an _Access, or its parts."""

    __slots__ = ("reads", "writes", "atomics")

    def __init__(self) -> None:
        self.reads: dict[int, tuple] = {}
        self.writes: dict[int, tuple] = {}
        self.atomics: dict[int, tuple] = {}

    def add(self, other: "Log") -> None:
        self.reads |= other.reads
        self.writes |= other.writes
        self.atomics |= other.atomics

    def conflicts(self, other: "Log") -> list[tuple[str, _Access, str, _Access]]:
        """Returns elements in both logs that at least one log changed. Two atomic changes are no conflict."""
        return [
            (verb, _Access(*mine[address]), other_verb, _Access(*others[address]))
            for verb, mine, other_verb, others in (
                ("writes", self.writes, "writes", other.writes),
                ("writes", self.writes, "reads", other.reads),
                ("reads", self.reads, "writes", other.writes),
                ("changes", self.atomics, "writes", other.writes),
                ("changes", self.atomics, "reads", other.reads),
                ("writes", self.writes, "changes", other.atomics),
                ("reads", self.reads, "changes", other.atomics),
            )
            if mine and others
            for address in mine.keys() & others.keys()
        ]


class Journal:
    """The logs of one launch. The scheduler calls `enter` for the thread that runs and `meet` for those at a barrier."""

    def __init__(self, kernel: str):
        self._kernel = kernel
        self._kept: list[Any] = []
        self._fenced: set[tuple] = set()  # blocks that called threadfence
        # address: the blocks whose writes an atomic at this address published
        self._released: dict[int, set[tuple]] = {}
        self._acquired: dict[tuple, set[tuple]] = {}  # block: the blocks that wrote what it sees
        self.grid = Log()  # the accesses of blocks that have ended
        self.block: tuple = ()
        self.thread: tuple = ()
        self.log = Log()

    def enter(self, block: tuple, thread: tuple, log: Log) -> None:
        """From now on, accesses go to the log of this thread."""
        self.block, self.thread, self.log = block, thread, log

    def keep(self, memory: Any) -> None:
        """Keeps memory of a block until the launch is over, so that addresses stay unique."""
        self._kept.append(memory)

    def meet(self, logs: list[Log], whole: Log | None = None) -> Log:
        """Compares logs with `whole` and with each other, and joins them (into `whole` if given). Raises RaceError for a race."""
        whole = Log() if whole is None else whole
        for log in logs:
            found = [each for each in whole.conflicts(log) if not self._ordered(each[1], each[3])]
            if found:
                raise RaceError(self._sentence(found))
            whole.add(log)
        return whole

    def _ordered(self, earlier: _Access, later: _Access) -> bool:
        return earlier.block != later.block and earlier.block in self._acquired.get(later.block, ())

    def _sentence(self, found: list) -> str:
        verb, first, other_verb, second = found[0]
        between = "a barrier in between" if first.block == second.block else "atomics"
        more = f"; {len(found)} such accesses in all" if len(found) > 1 else ""
        return f"a race in {self._kernel}: {first.describe(verb)}, and {second.describe(other_verb)}, without {between}{more}"

    def fence(self) -> None:
        """The block's next atomics publish its writes so far."""
        self._fenced.add(self.block)

    def change(self, address: int) -> None:
        """Records an atomic: the block sees the writes that others published there, and publishes its writes before a fence."""
        mine = self._acquired.setdefault(self.block, set())
        mine |= self._released.get(address, set())
        if self.block in self._fenced:
            self._released.setdefault(address, set()).update(mine, (self.block,))


class Checked:
    """An array for a kernel, with the methods of Numba's arrays. Integers within its shape select elements, slices views.

    journal: None for memory that belongs to one thread.
    """

    __slots__ = ("array", "name", "shape", "strides", "ndim", "address", "journal")

    def __init__(self, array: np.ndarray, name: str, journal: Journal | None):
        self.array, self.name, self.journal = array, name, journal
        self.shape, self.strides, self.ndim = array.shape, array.strides, array.ndim
        self.address = array.__array_interface__["data"][0]

    size = property(lambda self: self.array.size)
    dtype = property(lambda self: self.array.dtype)
    itemsize = property(lambda self: self.array.itemsize)
    nbytes = property(lambda self: self.array.nbytes)
    T = property(lambda self: Checked(self.array.T, f"{self.name}.T", self.journal))

    def __len__(self) -> int:
        return self.shape[0]

    def view(self, dtype: Any) -> "Checked":
        return Checked(self.array.view(dtype), self.name, self.journal)

    def reshape(self, *shape: Any) -> "Checked":
        return Checked(np.reshape(self.array, shape, copy=False), f"{self.name}.reshape{shape}", self.journal)

    def ravel(self) -> "Checked":
        return self.reshape(-1)

    def copy(self) -> np.ndarray:
        """Reads all elements, and returns a copy."""
        for key in range(self.size) if self.ndim == 1 else np.ndindex(self.shape):
            self._note("reads", self._element(key), key)
        return self.array.copy()

    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice or (type(key) is tuple and slice in map(type, key)) or self._axes(key) < self.ndim:
            return self._view(key if type(key) is tuple else (key,))
        self._note("reads", self._element(key), key)
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is slice:
            part = self._view((key,))
            for each in range(part.size) if part.ndim == 1 else np.ndindex(part.shape):
                part._note("writes", part._element(each), each)
        else:
            self._note("writes", self._element(key), key)
        self.array[key] = value

    def atomically(self, key: Any) -> np.ndarray:
        """Returns the array, for one atomic change of an element."""
        address = self._element(key)
        self._note("atomics", address, key)
        if self.journal is not None:
            self.journal.change(address)
        return self.array

    @staticmethod
    def _axes(key: Any) -> int:
        return len(key) if type(key) is tuple else 1

    def _note(self, kind: str, address: int, key: Any) -> None:
        """Records an access and the kernel's line that made it."""
        journal = self.journal
        if journal is not None:
            log = getattr(journal.log, kind)
            if address not in log:
                frame: Any = sys._getframe(2)
                while frame.f_globals["__name__"] in _WORDS:
                    frame = frame.f_back
                log[address] = journal.block, journal.thread, frame.f_code, frame.f_lasti, self, key

    def _element(self, key: Any) -> int:
        """Returns the address of an element. Raises IndexError if it is out of range."""
        if type(key) is not tuple:
            key = (key,)
        if len(key) != self.ndim:
            raise IndexError(f"{self.name} has {self.ndim} axes, and is indexed by {key}")
        address = self.address
        for at, count, stride in zip(key, self.shape, self.strides):  # noqa: B905  (strict would cost a tenth)
            at = integer(at)
            if not 0 <= at < count:
                raise IndexError(f"{self.name}{_brackets(key)} is outside its shape {self.shape}")
            address += at * stride
        return address

    def _view(self, key: tuple) -> "Checked":
        for at, count in zip(key, self.shape, strict=False):
            ends = (at.start, at.stop) if isinstance(at, slice) else (at, None if at is None else at + 1)
            if any(end is not None and not 0 <= integer(end) <= count for end in ends):
                raise IndexError(f"{self.name}{_brackets(key)} is outside its shape {self.shape}")
        return Checked(self.array[(*key, Ellipsis)], f"{self.name}{_brackets(key)}", self.journal)
