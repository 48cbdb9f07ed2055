"""The arrays of an optimizer as flat buffers, so that a step is one kernel over all weights instead of one per weight.

Each variable has a range of the flat gradient and slot arrays of its dtype. Its weights move to the same range of a flat
weight array, unless they are already in the array of another optimizer (two models that share weights).
A *run* is a sequence of ranges that are adjacent in both layouts; it takes one launch.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nbkeras.engine.tensor import Variable
from nbkeras.kernels.runtime import device

Array = np.ndarray
_ALIGNMENT = 64  # every variable starts at a multiple of these bytes, in every optimizer's buffer

_weights: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()  # flat weight buffers, by id


class Run(NamedTuple):
    """1-D views of a run's weights, gradients and slots. decay: the weight decay of these weights."""

    weights: Array
    gradients: Array
    slots: tuple[Array, ...]
    decay: float
    variables: tuple[Variable, ...]


class _Extent(NamedTuple):
    """A variable's range of the buffers of its dtype, in elements."""

    dtype: np.dtype
    start: int
    stop: int


def _padded(variable: Variable) -> int:
    unit = _ALIGNMENT // variable.dtype.itemsize
    return -(-variable.size // unit) * unit


def _aligned(size: int, dtype: np.dtype, value: float = 0) -> Array:
    """A persistent flat array that starts at a multiple of the alignment."""
    padded = device.persistent(np.zeros(size + _ALIGNMENT // dtype.itemsize, dtype))
    if value:  # untouched pages take no memory
        device.write(padded, value)
    start = -device.address(padded) % _ALIGNMENT // dtype.itemsize
    return padded[start : start + size]


def _flat_owner(variable: Variable) -> Array | None:
    """The flat weight buffer that holds a variable, or None."""
    owner = device.root(variable.data)
    return owner if _weights.get(id(owner)) is owner else None


class Buffers:
    """Flat gradients and slots for a list of variables, and a flat array of their weights.

    slots: the initial value of each slot.
    """

    def __init__(self, variables: Sequence[Variable], slots: Sequence[float]):
        self._extents: dict[Variable, _Extent] = {}
        self._gradients: dict[np.dtype, Array] = {}
        self._slots: dict[np.dtype, list[Array]] = {}
        for dtype in dict.fromkeys(v.dtype for v in variables):
            self._lay_out([v for v in variables if v.dtype == dtype], dtype, slots)

    def _lay_out(self, variables: list[Variable], dtype: np.dtype, slots: Sequence[float]) -> None:
        here = [v for v in variables if _flat_owner(v) is None]
        elsewhere = sorted((v for v in variables if _flat_owner(v) is not None), key=lambda v: device.address(v.data))
        end = 0
        for variable in [*elsewhere, *here]:
            self._extents[variable] = _Extent(dtype, end, end + variable.size)
            end += _padded(variable)
        self._gradients[dtype] = _aligned(end, dtype)
        self._slots[dtype] = [_aligned(end, dtype, value) for value in slots]
        if not here:
            return
        first = self._extents[here[0]].start
        flat = _aligned(end - first, dtype)
        owner = device.root(flat)
        _weights[id(owner)] = owner
        for variable in here:
            _, start, stop = self._extents[variable]
            variable.rebind(flat[start - first : stop - first].reshape(variable.shape))

    def flat_gradients(self) -> list[Array]:
        """The arrays that hold all gradients."""
        return list(self._gradients.values())

    def gaps(self) -> list[Array]:
        """The padding between the gradients in their arrays, which no gradient writes."""
        return [
            self._gradients[extent.dtype][extent.stop : extent.start + _padded(variable)]
            for variable, extent in self._extents.items()
            if extent.stop < extent.start + _padded(variable)
        ]

    def gradient(self, variable: Variable) -> Array:
        """A variable's view of the gradient buffer."""
        return self._view(self._gradients[variable.dtype], variable)

    def slot(self, variable: Variable, index: int) -> Array:
        """A variable's view of a slot's buffer."""
        return self._view(self._slots[variable.dtype][index], variable)

    def buckets(self, variables: Sequence[Variable], nbytes: int) -> list[tuple[Array, tuple[Variable, ...]]]:
        """The gradients of these variables in buckets of about `nbytes`, in the order of a backward pass: the last first.

        No variable is split.
        """
        ordered = sorted((v for v in variables if v.size), key=lambda v: (v.dtype.str, -self._extents[v].start))
        found: list[list[Variable]] = []
        for variable in ordered:
            dtype, start, _ = self._extents[variable]
            if found:
                below, above = self._extents[found[-1][-1]], self._extents[found[-1][0]]
                joins = below.dtype == dtype and start + _padded(variable) == below.start
                if joins and (above.stop - below.start) * dtype.itemsize < nbytes:
                    found[-1].append(variable)
                    continue
            found.append([variable])
        return [
            (self._gradients[v[0].dtype][self._extents[v[-1]].start : self._extents[v[0]].stop], tuple(v))
            for v in found
        ]

    def _view(self, flat: Array, variable: Variable) -> Array:
        _, start, stop = self._extents[variable]
        return flat[start:stop].reshape(variable.shape)

    def runs(self, variables: Sequence[Variable], decays: Callable[[Variable], float]) -> list[Run]:
        """The fewest runs that cover these variables. decays: a function that returns a variable's weight decay."""
        ordered = sorted((v for v in variables if v.size), key=lambda v: (v.dtype.str, self._extents[v].start))
        stretches: list[list[Variable]] = []
        for variable in ordered:
            if stretches and self._follows(stretches[-1][-1], variable, decays):
                stretches[-1].append(variable)
            else:
                stretches.append([variable])
        return [self._run(stretch, decays(stretch[0])) for stretch in stretches]

    def _follows(self, before: Variable, variable: Variable, decays: Callable[[Variable], float]) -> bool:
        """Whether only padding lies between two variables, in these buffers and in the buffer of their weights."""
        owner = _flat_owner(variable)
        if before.dtype != variable.dtype or owner is None or owner is not _flat_owner(before):
            return False
        distance = _padded(before) * variable.dtype.itemsize
        return (
            decays(before) == decays(variable)
            and self._extents[variable].start - self._extents[before].start == _padded(before)
            and device.address(variable.data) - device.address(before.data) == distance
        )

    def _run(self, variables: list[Variable], decay: float) -> Run:
        first, last = variables[0], variables[-1]
        dtype, start, _ = self._extents[first]
        stop = self._extents[last].stop
        owner = device.root(first.data)
        weights = device.view_at(owner, device.address(first.data) - device.address(owner), (stop - start,), dtype)
        slots = tuple(slot[start:stop] for slot in self._slots[dtype])
        return Run(weights, self._gradients[dtype][start:stop], slots, decay, tuple(variables))
