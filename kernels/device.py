"""Where arrays live, and `launch`, the one place that runs compiled code.

Three rules make a run recordable, replayable and measurable:

* every temporary array comes from `empty`, every array that outlives a step from `persistent`;
* every computation is a `launch` of a function that writes into arrays it was given, copies and fills too;
* a view that needs no copy (a reshape, a slice of leading rows) is free and needs no launch.

A *listener* (a recording program, a profiler) hears of all of them. Listeners and the dry mode are per thread.

On a GPU arrays are DeviceArrays, and `launch` starts a function's twin: see cuda_kernel.py. A *place* is a GPU
(cuda_place.py), None the CPU; each thread may have its own.
"""

import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.kernels.device_array import DeviceArray

Array = np.ndarray
ARRAYS = (np.ndarray, DeviceArray)


class _Thread(threading.local):
    place: Any = None  # where new arrays and launches go; the class's own is that of all threads that chose none
    recorder: Any = None  # hears of empty(), launch() and read(); see nbkeras/program.py
    profile: "Profile | None" = None
    flags: tuple = ()  # what launches hang on: see only_if
    dry = False


_thread = _Thread()
_persistent: dict[int, weakref.ref] = {}
_known: set[int] = set()  # those whose values never change
gpu_used = False  # whether arrays may be elsewhere than on the CPU: what only then must be checked is checked only then


def root(array: Array) -> Array:
    """The array that owns a view's memory."""
    while isinstance(array.base, ARRAYS):
        array = array.base
    return array


def place() -> Any:
    """The place where this thread computes; None is the CPU."""
    return _thread.place


def place_of(array: Array) -> Any:
    """The place where an array is; None is the CPU's memory."""
    return array.place if isinstance(array, DeviceArray) else None


@contextlib.contextmanager
def on(place: Any) -> Iterator[None]:
    """Compute on a place in this thread."""
    global gpu_used
    before, chosen = _thread.place, "place" in _thread.__dict__
    _thread.place = place
    gpu_used = gpu_used or place is not None
    try:
        yield
    finally:
        if chosen:
            _thread.place = before
        else:
            del _thread.place


def set_place(place: Any) -> None:
    """Compute on a place, in this thread and all others that have not chosen one with `on`."""
    global gpu_used
    _Thread.place = place
    _thread.__dict__.pop("place", None)
    gpu_used = gpu_used or place is not None


def elsewhere(array: Array | None) -> bool:
    """Whether an array is not where this thread computes."""
    return gpu_used and array is not None and not _thread.dry and place_of(array) is not _thread.place


def here(array: Array) -> Array:
    """The array itself where this thread computes, a copy of one that is elsewhere."""
    return persistent(read(array)) if elsewhere(array) else array


def empty(shape, dtype=np.float32) -> Array:
    """A C-contiguous temporary array with undefined content; in a replayed program its memory is planned and reused."""
    place = _thread.place
    array = np.empty(shape, dtype) if place is None or _thread.dry else place.empty(shape, dtype)
    if _thread.recorder is not None:
        _thread.recorder.allocated(array)
    return array


def output(need, shape, dtype) -> Array:
    """The destination for a gradient: `need` itself where the tape gave an array of that shape and dtype, else a new one."""
    if isinstance(need, ARRAYS) and need.shape == tuple(shape) and need.dtype == dtype:
        return need
    return empty(shape, dtype)


def persistent(array) -> Array:
    """An array that recorded programs may read and write in place: C-contiguous, writable, native; copied only if it is not.

    For weights, states, counters, program inputs and constants: whatever lives longer than one step. On a GPU a copy there.
    """
    if not isinstance(array, DeviceArray):
        array = np.require(array, requirements=["C", "W", "A", "E"])
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        if _thread.place is not None and not _thread.dry:
            array = _thread.place.upload(array)
    owner = root(array)
    key = id(owner)
    known = _persistent.get(key)
    if known is None or known() is not owner:
        _persistent[key] = weakref.ref(owner, lambda gone: _forget(key, gone))
    return array


def _forget(key: int, gone: weakref.ref) -> None:
    if _persistent.get(key) is gone:
        del _persistent[key]
        _known.discard(key)


def is_persistent(owner: Array) -> bool:
    """Whether an owning array was made or adopted by `persistent`."""
    known = _persistent.get(id(owner))
    return known is not None and known() is owner


def know(*arrays: Array) -> None:
    """Say of arrays that their values never change: those may be read while a step is recorded or shapes are worked out."""
    _known.update(id(root(persistent(array))) for array in arrays)


def is_known(array: Array | None) -> bool:
    """Whether a step is recorded or shapes are worked out, and `know` was told of the array."""
    return (_thread.dry or _thread.recorder is not None) and array is not None and id(root(array)) in _known


def launch(function: Callable, *args) -> None:
    """Run a kernel: `function(*args)`, where args are arrays (outputs included) and constants; nothing is returned.

    What differs from step to step must be in an array: a constant is replayed as it was. Overflow and division by zero
    give infinity and NaN without a warning, in NumPy's loops as in compiled ones.
    """
    if _thread.dry:
        return
    if gpu_used:
        function, args = _placed(function, args)
    if _thread.flags:
        function, args = _Conditional(function, len(_thread.flags)), (*_thread.flags, *args)
    if _thread.recorder is not None:
        _thread.recorder.launched(function, args)
    if _thread.profile is None:
        _run(function, args)
    else:
        _thread.profile.run(function, args)


def host(function: Callable) -> Callable:
    """Decorator of a kernel for rare work that has no twin: on a GPU it runs on the CPU, over copies of its arrays.

    The copies of arrays that it changed are written back. A recorded program with such a kernel is launched kernel by
    kernel. Written in NumPy, or in loops and `compiled`.
    """
    function.on_host = True  # type: ignore[attr-defined]
    return function


@contextlib.contextmanager
def only_if(flag: Array) -> Iterator[None]:
    """What is launched in the block runs only where flag[0] is not 0; a replay looks at the flag again.

    flag: int64 (1,), persistent or written by a launch. Arrays that the block makes are for the block alone. On a GPU each
    launch waits for the flag, and a program with such launches becomes no CUDA graph.
    """
    before, _thread.flags = _thread.flags, (*_thread.flags, flag)
    try:
        yield
    finally:
        _thread.flags = before


class _Conditional:
    """A kernel that is called with flags before its own arguments, and does nothing if one of them is 0."""

    on_host = True

    def __init__(self, function: Callable, flags: int):
        self._function, self._flags = function, flags
        self.__name__ = getattr(function, "__name__", repr(function))

    def __call__(self, *args: Any) -> None:
        for flag in args[: self._flags]:
            if not (flag.place.read(flag) if isinstance(flag, DeviceArray) else flag)[0]:
                return
        self._function(*args[self._flags :])


def _placed(function: Callable, args: tuple) -> tuple[Callable, tuple]:
    """The launch as this thread's place does it; ValueError for arrays that are somewhere else."""
    place = _thread.place
    if place is not None:
        args = tuple(place.empty(a.shape, a.dtype) if isinstance(a, np.ndarray) and not a.size else a for a in args)
    for arg in args:
        if isinstance(arg, ARRAYS) and place_of(arg) is not place and not (function is copy and place is not None):
            raise ValueError(
                f"{getattr(function, '__name__', function)!r} runs on {place or 'the CPU'}, but was given an array of shape "
                f"{arg.shape} on {place_of(arg) or 'the CPU'}: make variables, layers, optimizers and metrics on the device "
                "that they are used on (nbkeras.config.set_device, or `with nbkeras.device(...)`)"
            )
    return (function, args) if place is None else (place.twin(function), args)


@np.errstate(all="ignore")
def _run(function: Callable, args: tuple) -> None:
    function(*args)


@np.errstate(all="ignore")
def play(steps: list[tuple[Callable, tuple]]) -> None:
    """Run recorded launches again, in order."""
    if _thread.profile is None:
        for function, args in steps:
            function(*args)
    else:
        for function, args in steps:
            _thread.profile.run(function, args)


def replayer(steps: list[tuple[Callable, tuple]]) -> Callable[[], None]:
    """What runs recorded launches again; on a GPU they become one CUDA graph, unless a profile is being taken."""
    place, plain = _thread.place, functools.partial(play, steps)
    graph = None if place is None else place.graph(steps, plain)
    if graph is None:
        return plain
    return lambda: plain() if _thread.profile is not None else graph()


def fuse(
    steps: list[tuple[Callable, tuple]], memory_of: Callable, needed_after: Callable
) -> list[tuple[Callable, tuple]]:
    """Recorded launches with chains of elementwise ones joined, on a GPU; see cuda_fusion.py."""
    return steps if _thread.place is None else _thread.place.fuse(steps, memory_of, needed_after)


class Inlet:
    """Where batches are put together for a program's input buffers: on the CPU the buffers themselves."""

    def __init__(self, buffers: list):
        self.arrays = buffers

    def send(self) -> None:
        """Bring `arrays` to the buffers."""


def inlet(buffers: list) -> Any:
    """An Inlet for buffers of this thread's place; on a GPU the next batch is on its way while a step runs."""
    return Inlet(buffers) if _thread.place is None else _thread.place.inlet(buffers)


def persistent_empty(shape, dtype) -> Array:
    """`persistent` of an array with undefined content."""
    if _thread.place is None or _thread.dry:
        return persistent(np.empty(shape, dtype))
    return persistent(_thread.place.empty(shape, dtype))


def view_at(owner: Array, offset: int, shape: tuple, dtype: Any, strides: tuple | None = None) -> Array:
    """A view of any form, `offset` bytes into an array that owns its memory."""
    if isinstance(owner, DeviceArray):
        return owner.at(offset, shape, dtype, strides)  # type: ignore[return-value]
    return np.ndarray(shape, dtype, owner, offset, strides)


def address(array: Array) -> int:
    """Where the first element of an array is."""
    return array.address if isinstance(array, DeviceArray) else array.__array_interface__["data"][0]


def write(array: Array, value: Any) -> None:
    """Put a value into an array of the same shape, now; not recorded."""
    if isinstance(array, DeviceArray):
        array.place.write(array, value)
    else:
        array[...] = value


def read(array: Array) -> Array:
    """The array as a NumPy array for Python to look at (a copy if it is on a GPU); what looks at values cannot be recorded."""
    array = shown(array)
    return array.copy() if isinstance(array, DeviceArray) else array


def shown(array: Array) -> Array:
    """The array itself, for others to look into: as `read`."""
    if is_known(array):
        return array
    if _thread.dry:
        raise ValueReadError(
            "a tensor's value was read while only its shape was being worked out (building a functional model or "
            "a layer's output shape); give the layer a compute_output_shape method, or use ops instead of the value"
        )
    if _thread.recorder is not None:
        _thread.recorder.value_read()
    return array


class ValueReadError(RuntimeError):
    """A value was asked for where there is only a shape."""


@contextlib.contextmanager
def record(recorder) -> Iterator[Any]:
    """Let `recorder` hear of every `empty` (allocated), `launch` (launched) and `read` (value_read) of this thread."""
    before, _thread.recorder = _thread.recorder, recorder
    try:
        yield recorder
    finally:
        _thread.recorder = before


def recorder() -> Any:
    """This thread's recorder, or None."""
    return _thread.recorder


@contextlib.contextmanager
def dry() -> Iterator[None]:
    """Run no kernel: ops then only work out shapes and dtypes, at no cost and with nothing compiled."""
    before, _thread.dry = _thread.dry, True
    recorder_before, _thread.recorder = _thread.recorder, None
    try:
        yield
    finally:
        _thread.dry, _thread.recorder = before, recorder_before


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Run and do not record, whatever goes on around: for what is done once, such as building weights."""
    before, _thread.dry = _thread.dry, False
    recorder_before, _thread.recorder = _thread.recorder, None
    try:
        yield
    finally:
        _thread.dry, _thread.recorder = before, recorder_before


def is_dry() -> bool:
    """Whether this thread works out shapes only."""
    return _thread.dry


class Profile:
    """Launches by function name: `calls[name]` and `seconds[name]`; `str(profile)` is a table, slowest first."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def run(self, function: Callable, args) -> None:
        name = getattr(function, "__name__", repr(function))
        start = time.perf_counter()
        _run(function, args)
        if _thread.place is not None:
            _thread.place.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.calls[name] = self.calls.get(name, 0) + 1

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        lines = [f"{'kernel':<36}{'launches':>9}{'total ms':>11}{'share':>8}"]
        for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            lines.append(f"{name:<36}{self.calls[name]:>9}{seconds * 1e3:>11.3f}{seconds / total:>8.1%}")
        return "\n".join(lines)


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Count and time this thread's launches, replayed ones too: `with profile() as p: ...; print(p)`."""
    before, _thread.profile = _thread.profile, Profile()
    try:
        yield _thread.profile
    finally:
        _thread.profile = before


def copy(source: Array, target: Array) -> None:
    """Kernel: target[...] = source, any strides, with a cast where dtypes differ."""
    np.copyto(target, source, casting="unsafe")


def fill(target: Array, value) -> None:
    """Kernel: target[...] = value."""
    target.fill(value)


def add(x: Array, y: Array, out: Array) -> None:
    """Kernel: out = x + y, broadcasting; out may be x."""
    np.add(x, y, out=out)


def subtract(x: Array, y: Array, out: Array) -> None:
    """Kernel: out = x - y, broadcasting; out may be x."""
    np.subtract(x, y, out=out)


def contiguous(array: Array) -> Array:
    """The array itself if it is C-contiguous, else a copy that is."""
    if array.flags.c_contiguous:
        return array
    result = empty(array.shape, array.dtype)
    launch(copy, array, result)
    return result
