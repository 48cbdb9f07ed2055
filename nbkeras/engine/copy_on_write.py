"""Floor 1: copy on write. Every Tensor keeps its value although Variables are written in place.

Programs need weights at fixed addresses, so a write cannot allocate new memory. Tensors (views of a variable, `v.value`) and
Records of tapes use the memory of variables without a copy. They are its *holders*, known by weak references. Before the memory
is written, `will_write` gives the live holders a copy of what they hold. In a default training step, the weights have no holders
when the optimizer updates them, so nothing is copied.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import types
import weakref
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device, fork_safety

Array = np.ndarray
# Returns an array that keeps the current values: a copy, or the array itself if it is not written.
Preserved = Callable[[Array], Array]
# Replaces the arrays of a holder by the results of a Preserved.
Keep = Callable[[Any, Preserved], None]
# A weak reference to a holder, its Keep, and the id of the program that was being recorded when it was added (0 for none). Plain
# tuples are made three times as fast as named tuples, and a tape makes some for each op.
_Hold = tuple[weakref.ref, Keep, int]


class _HeldMemory:
    """The memory of variables, and its holders."""

    __slots__ = ("owner", "holds", "limit")

    def __init__(self, owner: weakref.ref):
        self.owner, self.limit = owner, 64
        self.holds: list[_Hold] = []

    def add(self, hold: _Hold, key: int) -> None:
        """Add a holder. key: the id of the owner."""
        with _lock:
            if len(self.holds) >= self.limit:  # memory that is never written collects dead holders: remove them
                holds, self.holds = self.holds, []
                self.holds += [each for each in holds if each[0]() is not None]
                self.limit = max(64, 2 * len(self.holds))
            self.holds.append(hold)
            _held[key] = self


_memories: dict[int, _HeldMemory] = {}  # by id of the array that owns the memory
_held: dict[int, _HeldMemory] = {}  # the memories that have holders
_lock = fork_safety.lock(threading.RLock)  # the garbage collector may run code that makes Tensors


def share(array: Array) -> Array:
    """Declare that an array's memory will be written in place. Every later user of it is a holder.

    Returns a view of the array, because callers of `hold` skip CPU arrays that are not views.
    """
    if array.base is None and isinstance(array, np.ndarray):
        array = array.view()
    owner = device.root(array)
    key = id(owner)
    known = _memories.get(key)
    if known is None or known.owner() is not owner:
        _memories[key] = _HeldMemory(weakref.ref(owner, lambda gone: _forget(key, gone)))
    return array


def _forget(key: int, gone: weakref.ref) -> None:
    known = _memories.get(key)
    if known is not None and known.owner is gone:
        del _memories[key]
        _held.pop(key, None)


def is_shared(array: Array) -> bool:
    """Whether an array's memory may be written in place."""
    owner = device.root(array)
    memory = _memories.get(id(owner))
    return memory is not None and memory.owner() is owner


def hold(holder: Any, keep: Keep, owner: Array) -> None:
    """Make an object a holder of memory, if it is shared. keep(holder, preserved): see Keep. owner: the array that owns it."""
    key = id(owner)
    memory = _memories.get(key)
    if memory is None:
        return
    recorder, maker = device.recorder(), 0
    if recorder is not None:
        maker = id(recorder)
        if hasattr(recorder, "depends"):  # if the variable moves to new memory, the step must be recorded again
            recorder.depends.add(key)
    memory.add((weakref.ref(holder), keep, maker), key)


def will_write(*arrays: Array) -> None:
    """Before arrays are written, give each holder a copy of its values.

    If a holder was made in the step that is being recorded, the copy is a launch of that step, so each replay copies too.
    """
    if not _held or device.is_dry():
        return
    for array in arrays:
        owner = device.root(array)
        memory = _held.get(id(owner))
        if memory is not None:
            _preserve(memory, _Write(owner, array))


def write(array: Array, value: Any) -> None:
    """Write a value into an array now; it is not recorded."""
    will_write(array)
    device.write(array, value)


def will_replay(written: Collection[int]) -> None:
    """`will_write` for a program that is about to run. written: the ids of the owners of all memory that it writes."""
    if not _held or _held.keys().isdisjoint(written):
        return
    for key in written:
        memory = _held.get(key)
        owner = None if memory is None else memory.owner()
        if memory is not None and owner is not None:
            _preserve(memory, _Write(owner, owner))


def own(holder: Any, array: Array) -> None:
    """Copy a holder's memory now if it was made before the current recording began, since it is a constant there."""
    owner, recorders = device.root(array), _recorders()
    memory = _held.get(id(owner))
    if memory is None or not recorders:
        return
    for reference, keep, maker in memory.holds:
        if reference() is holder and maker not in recorders:
            keep(holder, _Write(owner, array).preserved)
            return


def _recorders() -> dict[int, Any]:
    """The recorder of this thread, and the programs that it is a part of, by id."""
    found, recorder = {}, device.recorder()
    while recorder is not None:
        found[id(recorder)] = recorder
        recorder = getattr(recorder, "outer", None)
    return found


def _preserve(memory: _HeldMemory, write: _Write) -> None:
    with _lock:
        holds, memory.holds = memory.holds, []
    recorders = _recorders()
    rest = []
    for each in holds:
        reference, keep, maker = each
        holder = reference()
        if holder is not None:
            write.recorder, write.is_partial = recorders.get(maker), False
            keep(holder, write.preserved)
            if write.is_partial:
                rest.append(each)
    with _lock:
        memory.holds += rest
        if not memory.holds:
            _held.pop(id(memory.owner()), None)


def _extent(array: Array) -> tuple[int, int]:
    """The address of the first byte of an array, and the address after its last byte."""
    if array.size == 0:
        return 0, 0
    ends = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    start = device.address(array)
    return start + sum(e for e in ends if e < 0), start + sum(e for e in ends if e > 0) + array.dtype.itemsize


class _Write:
    """A write to an array in its owner's memory, and the copies made of the old values."""

    def __init__(self, owner: Array, array: Array):
        self._owner, self._array = owner, array
        self._range: tuple[int, int] | None = None
        self._copies: dict[tuple, Array] = {}
        self.recorder: Any = None  # the program whose launch makes the copy for this holder
        self.is_partial = False  # whether this holder also holds other parts of the memory

    def preserved(self, array: Array) -> Array:
        """An array that keeps the current values: a view of a copy, or the array itself if it is not written."""
        if device.root(array) is not self._owner:
            return array
        if self._range is None:
            self._range = _extent(self._array)
        start, stop = _extent(array)
        if stop <= self._range[0] or self._range[1] <= start:
            self.is_partial = self.is_partial or array.size > 0
            return array
        key = start, stop, array.dtype, id(self.recorder)
        if key not in self._copies:
            self._copies[key] = self._copy(start, stop, array.dtype)
        offset = device.address(array) - start
        view = device.view_at(device.plain(self._copies[key]), offset, array.shape, array.dtype, array.strides)
        return device.unread(view)

    def _copy(self, start: int, stop: int, dtype: np.dtype) -> Array:
        shape = ((stop - start) // dtype.itemsize,)
        source = device.view_at(self._owner, start - device.address(self._owner), shape, dtype)
        with device.on(device.gpu_of(self._owner)), device.always():
            if self.recorder is not None:
                present: Any = device.recorder()
                with contextlib.nullcontext() if self.recorder is present else present.interrupted(self.recorder):
                    target = device.empty(shape, dtype)
                    device.launch(device.copy, source, target)
            else:
                with device.ordinary():
                    target = device.persistent_empty(shape, dtype)
                    device.launch(device.copy, source, target)
        return target


_WITHOUT_ARRAYS = (np.generic, np.dtype, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def replaced(value: Any, preserved: Preserved, in_object: bool = False) -> Any:
    """A structure with `preserved(array)` in place of each array, in tuples, lists, dicts and attributes of an object.

    Parts without arrays to replace stay the same objects. in_object: whether the value is an attribute of an object; then
    objects in it are not searched.
    """
    if isinstance(value, device.ARRAYS):
        return preserved(value)
    if value is None or isinstance(value, _WITHOUT_ARRAYS):
        return value
    if isinstance(value, tuple | list):
        items = [replaced(each, preserved, in_object) for each in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    is_object = not isinstance(value, dict)
    attributes = (None if in_object else getattr(value, "__dict__", None)) if is_object else value
    if not attributes:
        return value
    changed = {}
    for name, old in attributes.items():
        new = replaced(old, preserved, in_object or is_object)
        if new is not old:
            changed[name] = new
    if not changed:
        return value
    if isinstance(value, dict):
        return type(value)({**value, **changed})
    result = copy.copy(value)
    result.__dict__.update(changed)
    return result
