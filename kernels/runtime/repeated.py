"""Loops in programs: one launch that repeats other launches, see nbkeras/engine/nested.py.

A loop does not know the addresses of its arrays: its launches name its arguments. In a native program a loop is a row, so that no
Python runs between the iterations.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.kernels.runtime import device, native
from nbkeras.kernels.runtime.ref import Ref
from nbkeras.kernels.runtime.row import Row, loop_row

Array = np.ndarray


Launches = list[tuple[Callable, tuple]]  # with Refs instead of arrays; memory i is the loop's argument i


class Parts(NamedTuple):
    """The launches of a loop. `before` and `after` run once; an iteration runs `condition` and `body`."""

    before: Launches
    condition: Launches
    body: Launches
    after: Launches


class Loop:
    """A kernel that repeats launches. Its arguments are the memories of its launches' Refs.

    limit: the most iterations. counter: the int64 number that holds the number of the current iteration. flag: an int64 number
    that the condition writes; 0 ends the loop. count: an int64 number, the most iterations if it is less than `limit`. done: the
    int64 number that receives the number of iterations. backwards: whether the numbers run down to 0.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        limit: int,
        counter: Ref,
        flag: Ref | None = None,
        count: Ref | None = None,
        done: Ref | None = None,
        backwards: bool = False,
    ):
        self.__name__, self.__module__ = name, __name__
        self.parts, self.limit, self.backwards = parts, limit, backwards
        self._numbers = flag, count, counter, done
        # A CUDA graph can hold the launches of a loop unless Python must read a number, or compute, between them.
        launches = [function for part in parts for function, _ in part]
        self.on_host = bool(flag or count or done) or any(getattr(each, "on_host", False) for each in launches)
        self._last: tuple[list[weakref.ref], Callable[[], None]] | None = None  # the last arguments, and their `_play`

    def __call__(self, *args: Any) -> None:
        """Run. Arrays that are given again need no preparation."""
        known = self._last
        if known is None or not all(each() is arg for each, arg in zip(known[0], args, strict=True)):
            known = self._last = [weakref.ref(arg) for arg in args], self._prepared(args)
        known[1]()

    def expect(self, args: tuple) -> bool:
        """Requests the code of the launches that must be compiled, as Kernel.expect does."""
        launches = [launch for part in self.parts for launch in compiled(self._placed(part, args))]
        return any([device.expect(function, given) for function, given in launches])  # of all, not only up to the first

    def forget(self) -> None:
        """Drop what is kept for the last arguments; it holds their memory."""
        self._last = None

    def rows(self, args: tuple) -> list[Row] | None:
        """Returns the rows of a native program for a launch with these arrays; None if a launch of the loop needs Python."""
        parts = []
        for part in self.parts:
            found = [device.rows_of(*launch) for launch in compiled(self._placed(part, args))]
            if None in found:
                return None
            parts.append([row for rows in found for row in rows or ()])
        numbers = [None if place is None else _view(place, args) for place in self._numbers]
        return [loop_row(parts, numbers, self.limit, self.backwards)]

    def _placed(self, launches: Launches, args: Sequence[Array]) -> list[tuple[Callable, tuple]]:
        """The launches with arrays instead of Refs."""
        return [
            (function, tuple(_view(each, args) if type(each) is Ref else each for each in described))
            for function, described in launches
        ]

    def _prepared(self, args: tuple) -> Callable[[], None]:
        """A function that runs the loop on these arrays."""
        rows = None if device.gpu() is not None else self.rows(args)
        if rows is not None:
            return native.NativeProgram([self], rows)
        parts = [self._placed(part, args) for part in self.parts]
        numbers = [None if place is None else _view(place, args) for place in self._numbers]
        return functools.partial(self._play, parts, numbers)

    def _play(self, parts: list, numbers: list) -> None:
        before, condition, body, after = parts
        flag, count, counter, done = numbers
        device.play(before)
        limit = self.limit if count is None else min(self.limit, _read(count))
        iterations = 0
        while iterations < limit:
            _write(counter, limit - 1 - iterations if self.backwards else iterations)
            device.play(condition)
            if flag is not None and not _read(flag):
                break
            device.play(body)
            iterations += 1
        if done is not None:
            _write(done, iterations)
        device.play(after)


def compiled(launches: Launches) -> Launches:
    """The launches with compiled kernels instead of Python functions, where libraries use compiled ones."""
    found: Launches = []
    for function, args in launches:
        others = list(getattr(function, "in_library", lambda *args: ())(*args))
        found += [(kernel, tuple(rest)) for kernel, *rest in others] or [(function, args)]
    return found


def _view(place: Ref, args: Sequence[Array]) -> Array:
    array = args[place.memory]
    owner = device.root(array)
    start = device.address(array) - device.address(owner) + place.offset
    return device.view_at(owner, start, place.shape, place.dtype, place.strides)


def _read(number: Array) -> int:
    gpu = device.gpu_of(number)
    return int((number if gpu is None else gpu.read(number))[0])


def _write(number: Array, value: int) -> None:
    """Write by a launch, which is in order with the other launches of a GPU."""
    gpu = device.gpu_of(number)
    (device.fill if gpu is None else gpu.twin(device.fill))(number, value)
