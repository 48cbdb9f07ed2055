"""Floor 1: a recorded step that can be played again, over planned memory.

While a step runs, a Program hears of every buffer and every launch. `seal` then lays the buffers out in one arena by
first and last use, and `run` plays the launches again: no Python graph walk, no allocation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
import weakref

import numpy as np

from nbkeras.kernels import device

Array = np.ndarray
_ALIGNMENT = 64


class _View(NamedTuple):
    """Where an argument lies: in a planned buffer, described without holding the array itself."""

    buffer: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype


class Program:
    """Launches of one step for one signature; made by running the step once inside `device.record(program)`."""

    def __init__(self) -> None:
        self.steps: list[tuple[Callable, tuple]] = []
        self.reason: str | None = None  # why the step cannot be replayed
        self.on_read: Callable[[], str] = lambda: "a tensor's value was read"
        self.nbytes = 0
        self._recorded: list[tuple[Callable, tuple]] = []
        self._sizes: list[int] = []
        self._alive: dict[int, tuple[weakref.ref, int]] = {}

    # What the recorder of kernels/device.py hears. Arrays are described, not kept, so that memory returns while recording.

    def allocated(self, array: Array) -> None:
        self._alive[id(array)] = (weakref.ref(array), len(self._sizes))
        self._sizes.append(array.nbytes)

    def launched(self, function: Callable, args: tuple) -> None:
        if self.reason is None:
            described = tuple(self._describe(function, a) if isinstance(a, np.ndarray) else a for a in args)
            self._recorded.append((function, described))

    def value_read(self) -> None:
        if self.reason is None:
            self.reason = self.on_read()
            self._recorded.clear()

    def _describe(self, function: Callable, array: Array) -> Any:
        owner = device.root(array)
        known = self._alive.get(id(owner))
        if known is not None and known[0]() is owner:
            offset = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
            return _View(known[1], offset, array.shape, array.strides, array.dtype)
        if device.is_persistent(owner) or array.size == 0:
            return array
        raise RuntimeError(
            f"{getattr(function, '__name__', function)!r} was given an array of shape {array.shape} that was made outside "
            "device.empty and device.persistent: computed by NumPy outside a launch, it would be stale on replay"
        )

    # Sealing and playing

    def seal(self, outputs: list[Array]) -> list[Array]:
        """Plan the memory; `outputs` stay readable after each run. Returns them as they will be in the arena."""
        kept = [self._describe(Program.seal, array) for array in outputs]
        offsets, size = _plan(self._sizes, self._recorded, [view for view in kept if isinstance(view, _View)])
        arena = device.persistent(np.empty(size + _ALIGNMENT, np.uint8))
        start = -arena.__array_interface__["data"][0] % _ALIGNMENT
        views: dict[_View, Array] = {}

        def place(arg: Any) -> Any:
            if not isinstance(arg, _View):
                return arg
            if arg not in views:
                at = start + offsets[arg.buffer] + arg.offset
                views[arg] = np.ndarray(arg.shape, arg.dtype, arena, at, arg.strides)
            return views[arg]

        self.steps = [(function, tuple(place(arg) for arg in args)) for function, args in self._recorded]
        self.nbytes = size
        self._recorded, self._alive, self._sizes = [], {}, []
        return [place(view) for view in kept]

    @np.errstate(all="ignore")
    def run(self) -> None:
        """Play the step again."""
        profile = device.profiling()
        if profile is not None:
            for function, args in self.steps:
                profile.run(function, args)
            return
        for function, args in self.steps:
            function(*args)


def _plan(sizes: list[int], recorded: list, kept: list[_View]) -> tuple[list[int], int]:
    """Offsets of buffers in one arena so that no two that live at once overlap, and the arena's size.

    Greedy, largest first, each at the lowest gap among those already placed that live at the same time.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, (_, args) in enumerate(recorded):
        for arg in args:
            if isinstance(arg, _View):
                first.setdefault(arg.buffer, step)
                last[arg.buffer] = step
    for view in kept:
        first.setdefault(view.buffer, 0)
        last[view.buffer] = len(recorded)
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    total = 0
    for buffer in sorted(first, key=lambda b: (-sizes[b], b)):
        size = -(-sizes[buffer] // _ALIGNMENT) * _ALIGNMENT
        begin, finish, at = first[buffer], last[buffer], 0
        for offset, end, other_first, other_last in sorted(placed):
            if other_last < begin or other_first > finish:
                continue
            if offset - at >= size:
                break
            at = max(at, end)
        offsets[buffer] = at
        placed.append((at, at + size, begin, finish))
        total = max(total, at + size)
    return offsets, total
