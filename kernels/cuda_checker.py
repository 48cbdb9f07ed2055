"""What the simulator checks where NBKERAS_SIMULATOR=strict is set: indices, and races of threads for memory.

Kernels get Checked arrays instead of NumPy's. Each refuses an index outside of it (Numba's kernels take negative ones as Python
does, and never check) and notes who touches which element. A *log* holds what was touched since the last barrier: of threads
by themselves, of warps, of blocks, of the grid. At a barrier the logs of those who meet there are compared: an element in two
of them that one has written is a race, whether or not it went well this time.

Not seen: races for parts of an element through views of other dtypes, and those between some lanes of a warp and the others.
"""

import linecache
import os
import sys
from operator import index as integer
from typing import Any, NamedTuple

import numpy as np


class RaceError(RuntimeError):
    """Two threads touch an element with no barrier in between, and one of them writes."""


class Who(NamedTuple):
    """A thread."""

    block: tuple
    thread: tuple

    def __str__(self) -> str:
        return f"thread {self.thread} of block {self.block}"


class _Access(NamedTuple):
    who: Who
    code: Any
    instruction: int
    array: "Checked"
    key: Any

    @property
    def line(self) -> str:
        return line_of(self.code, self.instruction)


def line_of(code: Any, instruction: int) -> str:
    """Where in the source an instruction is."""
    spans = (line for start, stop, line in code.co_lines() if start <= instruction < stop)
    return f"line {next(spans, None)} of {os.path.basename(code.co_filename)}"


class Log:
    """Who touched which element, by its address: the first to do so since the log was emptied."""

    __slots__ = ("reads", "writes", "atomics")

    def __init__(self) -> None:
        self.reads: dict[int, _Access] = {}
        self.writes: dict[int, _Access] = {}
        self.atomics: dict[int, _Access] = {}

    def add(self, other: "Log") -> None:
        self.reads |= other.reads
        self.writes |= other.writes
        self.atomics |= other.atomics

    def conflicts(self, other: "Log") -> list[tuple[str, _Access, str, _Access]]:
        """Elements in both that at least one changed; two atomic changes are none."""
        return [
            (verb, mine[address], other_verb, others[address])
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
    """The logs of one launch. The scheduler says whose turn it is (`enter`) and who meets at a barrier (`meet`)."""

    def __init__(self, kernel: str):
        self._kernel = kernel
        self._kept: list[Any] = []  # shared memory stays until the launch is over, so that addresses stay unique
        self._fenced: set[tuple] = set()  # blocks that called threadfence
        self._released: dict[int, set[tuple]] = {}  # by address: blocks whose writes an atomic there hands on
        self._acquired: dict[tuple, set[tuple]] = {}  # by block: blocks whose writes it may read
        self.grid = Log()  # of blocks that have ended
        self.who = Who((), ())
        self.log = Log()

    def enter(self, who: Who, log: Log) -> None:
        """From now on a thread runs, with its own log."""
        self.who, self.log = who, log

    def meet(self, logs: list[Log], whole: Log | None = None) -> Log:
        """Compare logs with `whole` and each other; all of them together, in `whole` if it is given. RaceError."""
        whole = Log() if whole is None else whole
        for log in logs:
            found = [each for each in whole.conflicts(log) if not self._ordered(each[1].who, each[3].who)]
            if found:
                raise RaceError(self._sentence(found))
            whole.add(log)
        return whole

    def _ordered(self, earlier: Who, later: Who) -> bool:
        return earlier.block != later.block and earlier.block in self._acquired.get(later.block, ())

    def _sentence(self, found: list) -> str:
        verb, first, other_verb, second = found[0]
        more = f" ({len(found)} elements are touched like this)" if len(found) > 1 else ""
        between = "atomics" if first.who.block != second.who.block else "a barrier in between"
        return (
            f"a race in {self._kernel}: {first.who} {verb} {first.array.name}{_brackets(first.key)} in {first.line}, and "
            f"{second.who} {other_verb} {second.array.name}{_brackets(second.key)} in {second.line}, without {between}{more}"
        )

    def fence(self) -> None:
        """What the thread's block wrote so far is handed on by its next atomics."""
        self._fenced.add(self.who.block)

    def hand_on(self, address: int) -> None:
        """An atomic: the block learns what others handed on there, and hands on what it wrote before a fence."""
        mine = self._acquired.setdefault(self.who.block, set())
        mine |= self._released.get(address, set())
        if self.who.block in self._fenced:
            self._released.setdefault(address, set()).update(mine, (self.who.block,))

    def keep(self, array: Any) -> None:
        self._kept.append(array)


def name_at(code: Any, line: int) -> str:
    """The variable that a line assigns to."""
    before, equals, _ = linecache.getline(code.co_filename, line).partition("=")
    return before.strip() if equals and before.strip().isidentifier() else f"the array of line {line}"


def _brackets(key: Any) -> str:
    return f"[{', '.join(map(str, key)) if isinstance(key, tuple) else key}]"


class Checked:
    """An array for a kernel: elements by integers within its shape, views by slices, and what else Numba's arrays offer there.

    journal: None for memory that only one thread sees.
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
        return Checked(self.array.reshape(*shape, copy=False), f"{self.name}.reshape{shape}", self.journal)

    def ravel(self) -> "Checked":
        return self.reshape(-1)

    def _element(self, key: Any) -> int:
        """The address of an element; IndexError where there is none."""
        key = key if type(key) is tuple else (key,)
        if len(key) != self.ndim:
            raise IndexError(f"{self.name} has {self.ndim} axes, and is indexed by {key}")
        address = self.address
        for at, count, stride in zip(key, self.shape, self.strides, strict=True):
            at = integer(at)
            if not 0 <= at < count:
                raise IndexError(f"{self.name}{_brackets(key)} is outside of its shape {self.shape}")
            address += at * stride
        return address

    def _view(self, key: tuple) -> "Checked":
        for at, count in zip(key, self.shape, strict=False):
            if isinstance(at, slice):
                ends = [end for end in (at.start, at.stop) if end is not None]
                wrong = any(not 0 <= integer(end) <= count for end in ends)
            else:
                wrong = at is not None and at is not Ellipsis and not 0 <= integer(at) < count
            if wrong:
                raise IndexError(f"{self.name}{_brackets(key)} is outside of its shape {self.shape}")
        part = self.array[(*key, Ellipsis)] if Ellipsis not in key else self.array[key]
        return Checked(part, f"{self.name}{_brackets(key)}", self.journal)

    def __getitem__(self, key: Any) -> Any:
        parts = key if type(key) is tuple else (key,)
        if len(parts) != self.ndim or any(type(part) is slice for part in parts):
            return self._view(parts)
        address = self._element(key)
        if self.journal is not None:
            reads = self.journal.log.reads
            if address not in reads:
                frame = sys._getframe(1)
                reads[address] = _Access(self.journal.who, frame.f_code, frame.f_lasti, self, key)
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        address = self._element(key)
        if self.journal is not None:
            writes = self.journal.log.writes
            if address not in writes:
                frame = sys._getframe(1)
                writes[address] = _Access(self.journal.who, frame.f_code, frame.f_lasti, self, key)
        self.array[key] = value

    def atomically(self, key: Any, frame: Any) -> np.ndarray:
        """The array, for one atomic change of an element by the code of a frame."""
        address = self._element(key)
        if self.journal is not None:
            access = _Access(self.journal.who, frame.f_code, frame.f_lasti, self, key)
            self.journal.log.atomics.setdefault(address, access)
            self.journal.hand_on(address)
        return self.array
