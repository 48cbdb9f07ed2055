"""Runs launches at once by the interpreter, and joins chains of recorded launches for it.

Where the interpreter's bits may differ from NumPy's (`differs`), it runs eager calls too, so that a replay repeats them exactly.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.kernels.interpreter import chains, emitter, programs
from nbkeras.kernels.interpreter.chains import Chain, Step, operation
from nbkeras.kernels.interpreter.instruction_set import WORDS
from nbkeras.kernels.interpreter.programs import ProgramRow, linked, parts_of
from nbkeras.kernels.runtime import code, compilers, fork_safety
from nbkeras.kernels.runtime.device_array import address_of, root
from nbkeras.kernels.runtime.row import Row

Array = np.ndarray
_MAX_PLANS = 1024
_ROUNDED = {"exp", "expm1", "log", "log1p", "bfloat16", "float16", *programs.CALLED}


def ran(function: Callable, args: tuple, plans: Any) -> bool:
    """Runs function(*args) where the interpreter's bits may differ from NumPy's, see `differs`. Returns True if it ran.

    plans: the class native.Plans, or None. With it, native code finds the next launches of small arrays.
    """
    small = _small.get(function)
    if small is not None and small.start(*args) is None:
        return True
    return differs(function, args) and run(function, args, plans=plans)


def differs(function: Callable, args: tuple) -> bool:
    """True if the interpreter's bits may differ from NumPy's: it sums in another order, or rounds a function differently."""
    name = operation(function)
    if name == "copy":  # NumPy is slower: see `device.copy`
        return args[0].dtype.kind == "f" and args[1].dtype.kind in "iu"
    return name in _ROUNDED or (name == "fold" and args[1] in (np.add, np.multiply) and args[-1].dtype.kind == "f")


def expect(function: Callable, args: tuple) -> bool:
    """Requests the interpreter if `ran` needs it and it must be compiled, see compilers.py; returns whether it must."""
    return differs(function, args) and compilers.is_missing(entry)


@functools.cache
def _entry() -> Callable[[int, int, int], int]:
    return code.c_function(emitter.SYMBOL)


def rows_of(function: Callable, args: tuple) -> list[Row] | None:
    """Returns a launch as rows of a native program; None if the interpreter cannot run it."""
    parts = parts_of(function, args)
    if parts is None:
        return None
    own = {id(root(each)) for each in args if isinstance(each, Array)}
    written = [root(x) for part in parts for at, x in part.addresses if at % WORDS == 2]
    scratch = list({id(owner): owner for owner in written if id(owner) not in own}.values())
    return [
        Row(emitter.SYMBOL, frame, shares, code=code, code_addresses=addresses, scratch=scratch)
        for frame, shares, code, addresses in parts
    ]


@functools.cache
def entry() -> int:
    """Returns the address of the interpreter's entry, for rows of native programs."""
    return code.address(emitter.SYMBOL)


class _Slots:
    """Where the code of parts holds addresses of a launch's arrays: (code, index, number of the array, offset in it)."""

    def __init__(self, parts: list[ProgramRow], bounds: Sequence[tuple[int, int]]):
        self.slots: list[tuple[memoryview, int, int, int]] = []
        self.keep: list[Array] = []  # the other arrays that the code uses: tables, numbers, intermediate results
        for part in parts:
            code = memoryview(part.code.reshape(-1))
            for place, array in part.addresses:
                address = code[place]
                number = next((i for i, (low, high) in enumerate(bounds) if low <= address < high), None)
                if number is None:
                    self.keep.append(array)
                else:
                    self.slots.append((code, place, number, address - bounds[number][0]))


class _Plan:
    """The parts of a launch, reusable for arrays at other addresses. Only one thread at a time can use it."""

    def __init__(self, parts: list[ProgramRow], bounds: list[tuple[int, int]]):
        self.lock = fork_safety.lock()
        slots = _Slots(parts, bounds)
        self._slots, self._keep = slots.slots, (slots.keep, [part.code for part in parts])
        self._parts = [(part.frame, address_of(part.frame), part.shares) for part in parts]

    def run(self, bounds: list[tuple[int, int]], shares: int = 0) -> None:
        for words, place, number, distance in self._slots:
            words[place] = bounds[number][0] + distance
        for _, frame, own in self._parts:
            count = shares or own
            for share in range(count):
                _entry()(frame, share, count)


_plans: dict[tuple, _Plan | None] = {}
_small: dict[Callable, Any] = {}  # plans that native code finds, by function


def run(function: Callable, args: tuple, shares: int = 0, plans: Any = None) -> bool:
    """Runs function(*args); returns False if the interpreter cannot. shares: their number; by default the size determines it."""
    bounds = [bounds_of(x) for x in args if isinstance(x, Array)]
    key = _key(function, args, bounds)
    plan = _plans.get(key)
    if plan is None:
        if key in _plans:
            return False
        if plans is not None and _add_small(function, args, plans):
            return _small[function].start(*args) is None
        plan = _plans[key] = _made(function, args, bounds)
        if len(_plans) > _MAX_PLANS:
            _plans.clear()
        if plan is None:
            return False
    if plan.lock.acquire(blocking=False):
        try:
            plan.run(bounds, shares)
        finally:
            plan.lock.release()
    else:  # another thread is using the plan
        _made(function, args, bounds).run(bounds, shares)  # type: ignore[union-attr]
    return True


def _made(function: Callable, args: tuple, bounds: list[tuple[int, int]]) -> _Plan | None:
    parts = parts_of(function, args)
    return None if parts is None else _Plan(parts, bounds)


def _add_small(function: Callable, args: tuple, plans: Any) -> bool:
    """Makes a plan that native code finds. Returns False if it cannot: arrays overlap or are large, for example."""
    if not plans.accepts(args):
        return False
    bounds = {number: bounds_of(x) for number, x in enumerate(args) if isinstance(x, Array)}
    parts = parts_of(function, args)
    is_apart = all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(bounds.values())))
    if not parts or not is_apart or any(part.shares > 1 for part in parts):
        return False
    numbers = list(bounds)
    slots = _Slots(parts, list(bounds.values()))
    patches = [(address_of(np.asarray(code)) + 8 * at, numbers[i], distance) for code, at, i, distance in slots.slots]
    keep = [(part.frame, part.code) for part in parts], slots.keep
    _small.setdefault(function, plans()).add(args, entry(), linked(parts)[0].frame, patches, keep)
    return True


def _key(function: Callable, args: tuple, bounds: list[tuple[int, int]]) -> tuple:
    """Returns a key that is equal for launches whose parts differ only in addresses."""
    key: list[Any] = [function]
    for x in args:
        if isinstance(x, Array):
            key += x.dtype, x.shape, x.strides
        else:
            key += type(x), repr(x) if isinstance(x, float | np.floating) else x  # NaN's repr equals itself
    ordered = sorted(bounds)
    if any(ordered[i][1] > ordered[i + 1][0] for i in range(len(ordered) - 1)):  # some arrays overlap, or are the same
        key += [low - bounds[0][0] for low, _ in bounds]
    return tuple(key)


def bounds_of(x: Array) -> tuple[int, int]:
    """Returns the addresses where an array's memory begins and ends."""
    start = address_of(x)
    if x.flags.c_contiguous:
        return start, start + x.nbytes
    reaches = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    return start + sum(r for r in reaches if r < 0), start + sum(r for r in reaches if r > 0) + x.itemsize


# -------------------- chains --------------------


class Joined:
    """The function that programs record for a chain. It takes the inputs (arrays and numbers), then the outputs."""

    def __init__(self, chain: Chain):
        self.__name__ = str(chain)
        self.chain = chain

    def __call__(self, *args: Any) -> None:
        run(self, args)


def fuse(
    steps: Sequence[Step], memory_of: Callable[[Any], Any], needed_after: Callable[[Any, int], bool]
) -> list[Step]:
    """Returns the recorded launches with chains joined, see chains.fuse."""
    return chains.fuse(steps, memory_of, needed_after, programs.NAMES, Joined)
