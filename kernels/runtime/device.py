"""The runtime of kernels: arrays (`empty`, `persistent`) and `launch`, the only function that runs compiled code.

Three rules make a run recordable, replayable and measurable:

* every temporary array comes from `empty`, every array that outlives a step from `persistent`;
* every computation is a `launch` of a function that writes into its array arguments, even a copy or a fill;
* a view that needs no copy (a reshape, a slice of leading rows) is free and needs no launch.

A *listener* (a recording program, a profiler) is called at each of them. Each thread has its own listeners and dry mode. While a
step is recorded or run dry, op code gets UnreadArrays: arrays that only a launch may read or change.

On a GPU arrays are DeviceArrays, and `launch` starts a function's twin: see cuda/machine/kernel.py. A GPU is a Gpu of
cuda/machine/gpu.py, the CPU is None; each thread may compute on its own device.
"""

import contextlib
import functools
import itertools
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import compilers, fork_safety, lazy, native
from nbkeras.kernels.runtime.device_array import ARRAYS, VIEWS, DeviceArray, StandIn, root, view_key
from nbkeras.kernels.runtime.messages import cannot_compile, named, takes, wrong_number
from nbkeras.kernels.runtime.row import Row, play_row
from nbkeras.kernels.runtime.waiting import Waiting

_interpreter = lazy.LazyModule("nbkeras.kernels.interpreter.launches")
Array = np.ndarray


class _Thread(threading.local):
    # the device of new arrays and launches; the class attribute is the default of all threads
    gpu: Any = None
    recorder: Any = None  # `empty`, `launch` and `read` call its methods, see nbkeras/engine/program.py
    runner: Any = None  # runs the launches if it is set: a Profile, or the Checks of checking.py
    flags: tuple = ()  # the conditions of launches, see `only_if`
    dry = False
    waiting: Any = None  # the launches that wait for their code while a step is recorded, see waiting.py
    # True if nothing above is set and no GPU was used: `empty` and `launch` need no checks. False in blocks of `_temporarily`.
    is_plain = True


_thread = _Thread()
_persistent: dict[int, weakref.ref] = {}
_constants: set[int] = set()  # ids of owners that `mark_constant` marked
# id of an owner: its watchers, see `watch`. Threads read this without a lock
_watched: dict[int, tuple[weakref.ref, ...]] = {}
_watching = fork_safety.lock()
gpu_used = False  # True once a GPU was used; before, `launch` need not check the devices of arrays


def gpu() -> Any:
    """Returns the Gpu that this thread computes on; None is the CPU."""
    return _thread.gpu


def gpu_of(array: Array) -> Any:
    """Returns the Gpu that an array is on; None is the CPU."""
    return array.gpu if isinstance(array, DeviceArray) else None


def on(gpu: Any) -> contextlib.AbstractContextManager[None]:
    """Computes on a GPU, or on the CPU (None), in this thread."""
    _note_use(gpu)
    return _temporarily(gpu=gpu)


def set_gpu(gpu: Any) -> None:
    """Computes on a GPU, or on the CPU (None), in this thread and in all threads that did not call `on`."""
    _note_use(gpu)
    _Thread.gpu = gpu
    _thread.__dict__.pop("gpu", None)


def _note_use(gpu: Any) -> None:
    global gpu_used
    gpu_used = gpu_used or gpu is not None
    _Thread.is_plain = not gpu_used


def is_on_other_device(array: Array | None) -> bool:
    """True if an array is not on this thread's device."""
    return gpu_used and array is not None and not _thread.dry and gpu_of(array) is not _thread.gpu


def to_this_device(array: Array) -> Array:
    """Returns the array on this thread's device: itself, or a copy if it is elsewhere."""
    return persistent(read(array)) if is_on_other_device(array) else array


def empty(shape, dtype=np.float32) -> Array:
    """Returns a C-contiguous temporary array with undefined content. A program plans and reuses its memory."""
    if _thread.is_plain:
        return np.empty(shape, dtype)
    gpu = _thread.gpu
    array = np.empty(shape, dtype) if gpu is None or _thread.dry else gpu.empty(shape, dtype)
    if _thread.recorder is not None:
        array = _thread.recorder.allocated(array)
    elif not _thread.dry:
        return array
    return unread(array)


def output(need, shape, dtype) -> Array:
    """Returns the destination for a gradient: `need` if it is an array of that shape and dtype, else a new array."""
    if isinstance(need, ARRAYS) and need.shape == tuple(shape) and need.dtype == dtype:
        return need
    return empty(shape, dtype)


def persistent(array) -> Array:
    """Returns an array that recorded programs may read and write in place: C-contiguous, writable, native; copies it if not.

    It is for arrays that outlive a step: weights, states, counters, program inputs, constants. On a GPU it is a copy there.
    """
    if not isinstance(array, DeviceArray):
        array = np.require(array, requirements=["C", "W", "A", "E"])
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        if _thread.gpu is not None and not _thread.dry:
            array = _thread.gpu.upload(array)
    owner = root(array)
    key = id(owner)
    known = _persistent.get(key)
    if known is None or known() is not owner:
        _persistent[key] = weakref.ref(owner, lambda gone: _forget(key, gone))
    return array


def _forget(key: int, gone: weakref.ref) -> None:
    if _persistent.get(key) is gone:
        del _persistent[key]
        _constants.discard(key)
        _watched.pop(key, None)


def is_persistent(owner: Array) -> bool:
    """True if `persistent` made or adopted an owning array."""
    known = _persistent.get(id(owner))
    return known is not None and known() is owner


def mark_constant(*arrays: Array) -> None:
    """Marks arrays that never change. Code may read them while a step is recorded or run dry."""
    _constants.update(id(root(persistent(array))) for array in arrays)


def is_readable_constant(array: Array | None) -> bool:
    """True if a step is recorded or run dry, and `mark_constant` marked the array."""
    return (_thread.dry or _thread.recorder is not None) and array is not None and id(root(array)) in _constants


def watch(owners: Iterable[int], watcher: Any) -> None:
    """Sets `watcher.stale` whenever a launch may have written one of these arrays. owners: ids of persistent owners."""
    with _watching:
        for owner in owners:
            alive = [each for each in _watched.get(owner, ()) if each() is not None]
            _watched[owner] = (*alive, weakref.ref(watcher))


def changed(owners: Iterable[int]) -> None:
    """Marks the watchers of these arrays stale, because something may have written the arrays. owners: ids of their owners."""
    for owner in owners:
        for watcher in _watched.get(owner, ()):
            found = watcher()
            if found is not None:
                found.stale = True


def launch(function: Callable, *args) -> None:
    """Runs a kernel: `function(*args)`, where args are arrays (outputs included) and constants. Returns nothing.

    Values that differ from step to step must be in an array: a replay repeats constants. Overflow and division by zero
    give infinity and NaN without a warning, in NumPy's loops as in compiled ones.
    """
    if _thread.is_plain:
        run(function, args)
    elif _thread.dry:
        return
    else:
        _launch_checked(function, args)
    if _watched:
        _report(args)


def _report(args: tuple) -> None:
    """Marks the watchers of a launch's arrays stale."""
    changed([id(arg if arg.base is None else root(arg)) for arg in args if isinstance(arg, ARRAYS)])


def _launch_checked(function: Callable, args: tuple) -> None:
    """Runs a launch on a GPU, or in a block that sets a recorder, a runner or flags."""
    if gpu_used:
        function, args = _on_device(function, args)
    if _thread.flags:
        function, args = Conditional(function, len(_thread.flags)), (*_thread.flags, *args)
    if _thread.recorder is None and _thread.runner is None:
        run(function, args)
    else:
        _launch_observed(function, args)


def _launch_observed(function: Callable, args: tuple) -> None:
    """Runs a launch that a recorder or a runner sees. They do not see the launches inside the function, which are part of it."""
    recorder, runner = _thread.recorder, _thread.runner
    if recorder is not None:
        args = tuple(plain(arg) for arg in args)
        recorder.launched(function, args)
    if runner is None:
        if _may_wait():
            _run_or_wait(function, args)
            return
        run_waiting()
        with _temporarily(recorder=None):
            run(function, args)
    else:
        with _temporarily(runner=None):  # the runner may ask for the recorder
            runner.run(function, args)


def _may_wait() -> bool:
    """True if nothing can read a launch's results before `run_waiting`: a Program is being recorded on the CPU."""
    recorder = _thread.recorder
    return (
        _thread.gpu is None
        and getattr(recorder, "launches_wait", False)
        and recorder.reason is None
        and compilers.are_available()
    )


def _run_or_wait(function: Callable, args: tuple) -> None:
    """Runs a launch, or lets it wait for its code."""
    waiting = _thread.waiting = _thread.waiting or Waiting(expect)
    with _temporarily(recorder=None):
        if waiting.add_or_run(function, args, run if native.starts_at_once() else run_once) and len(waiting) == 1:
            native.request_programs()
            compilers.is_missing(_interpreter.entry)  # programs need it too: for copies, casts and elementwise chains


def expect(function: Any, args: tuple) -> bool:
    """Requests the code of a launch that must be compiled, as far as it is known without running it; returns whether any must."""
    if hasattr(function, "expect"):
        return function.expect(args)
    return not hasattr(function, "row") and _interpreter.expect(function, args)


def run_waiting() -> None:
    """Runs the launches of this thread's recording that wait for their code, in order."""
    waiting = _thread.waiting
    if waiting:
        _thread.waiting = None
        with _temporarily(gpu=None, recorder=None, runner=None, dry=False):
            for function, args in waiting.taken():
                run_once(function, args)
                if _watched:  # a program may have read the arrays after `launch` reported the change
                    _report(args)


def run_once(function: Callable, args: tuple) -> None:
    """Does what `run` does, as a program would: without the code for starts from Python, which takes long to compile."""
    if hasattr(function, "row"):
        native.NativeProgram([function], [function.row(args)])()
    else:
        run(function, args, plans=None)


def prepared(*arrays: Array | None) -> contextlib.AbstractContextManager[None]:
    """Declares that the block's launches depend only on these arrays. The block writes its results into its own `empty` arrays.

    If the arrays are weights, a program that predicts runs these launches only after a weight changed, not at each replay.
    """
    preparation = _preparation_of(arrays)
    return contextlib.nullcontext() if preparation is None else preparing(preparation)


def prepares(*arrays: Array | None) -> bool:
    """True if `prepared` would run its block's launches only after one of the arrays changed."""
    return not _thread.is_plain and _preparation_of(arrays) is not None


def _preparation_of(arrays: tuple) -> Any:
    find = getattr(_thread.recorder, "preparation_of", None)
    return None if find is None else find(arrays)


def preparing(preparation: Any) -> contextlib.AbstractContextManager[None]:
    """Records the launches of the block for a preparation instead of this thread's program."""
    run_waiting()
    return _temporarily(recorder=preparation)


def host(function: Callable) -> Callable:
    """Decorates a kernel for rare work that has no twin. For arrays on a GPU it runs on the CPU, on copies.

    The arrays that the kernel changed are copied back. On a GPU, a program with this kernel is launched kernel by kernel. The
    kernel uses NumPy, or it is `compiled`.
    """
    function.on_host = True  # type: ignore[attr-defined]
    return function


def only_if(flag: Array) -> contextlib.AbstractContextManager[None]:
    """Runs the launches of the block only if flag[0] is not 0. A replay reads the flag again.

    flag: int64 (1,), persistent or written by a launch. Only the block may use the arrays that it makes. On a GPU each launch
    waits for the flag, and a program with these launches does not become a CUDA graph.
    """
    return _temporarily(flags=(*_thread.flags, flag))


def always() -> contextlib.AbstractContextManager[None]:
    """Runs the launches of the block even if an `only_if` around it would skip them."""
    return _temporarily(flags=())


class Conditional:
    """A kernel that takes flags before its arguments. It does nothing if a flag is 0."""

    on_host = True

    def __init__(self, function: Any, flags: int):
        self.function, self.flags = function, flags
        self.__name__ = getattr(function, "__name__", repr(function))

    def expect(self, args: tuple) -> bool:
        """Requests the code of the kernel if it must be compiled, as Kernel.expect does."""
        return expect(self.function, args[self.flags :])

    def __call__(self, *args: Any) -> None:
        for flag in args[: self.flags]:
            if not (flag.gpu.read(flag) if isinstance(flag, DeviceArray) else flag)[0]:
                return
        run(self.function, args[self.flags :])


def _on_device(function: Callable, args: tuple) -> tuple[Callable, tuple]:
    """Returns the launch for this thread's device. Raises ValueError for arrays on another device."""
    gpu = _thread.gpu
    if gpu is not None:
        args = tuple(gpu.empty(a.shape, a.dtype) if isinstance(a, np.ndarray) and not a.size else a for a in args)
    for arg in args:
        if isinstance(arg, ARRAYS) and gpu_of(arg) is not gpu and not (function is copy and gpu is not None):
            raise ValueError(
                f"{getattr(function, '__name__', function)!r} runs on {gpu or 'the CPU'}, but was given an array of shape "
                f"{arg.shape} on {gpu_of(arg) or 'the CPU'}: create variables, layers, optimizers and metrics on the device "
                "where they are used (nbkeras.config.set_device, or `with nbkeras.device(...)`)"
            )
    return (function, args) if gpu is None else (gpu.twin(function), args)


@np.errstate(all="ignore")
def _in_numpy(function: Callable, args: tuple) -> Any:
    return function(*args)


def run(function: Callable, args: tuple, plans: Any = native.Plans) -> None:
    """Runs a kernel; errors name it. plans: the class that keeps the interpreter's launches for the next time, or None."""
    # Compiled kernels do not use NumPy: to set its error state takes longer than some of them.
    is_compiled = type(function) is not np.ufunc and hasattr(function, "row")
    if not is_compiled and _thread.gpu is None and _interpreter.ran(function, args, plans):
        return
    try:
        result = function(*args) if is_compiled else _in_numpy(function, args)
    except Exception as error:
        if type(error).__module__.startswith("numba."):  # Numba compiles this function itself
            raise cannot_compile(function, error) from None
        if isinstance(error, TypeError) and not takes(function, *args):
            raise wrong_number(function, args) from None
        raise
    if result is None or (args and result is args[-1]):  # ufuncs return their `out`
        return
    if not any(result is arg for arg in args):
        raise TypeError(
            f"the kernel {named(function)} returned a value, which is lost: received {result!r:.80}, expected None. Let it "
            "write into an array argument: y = device.empty(shape, dtype); device.launch(kernel, x, y)"
        )


@np.errstate(all="ignore")
def play(steps: list[tuple[Callable, tuple]]) -> None:
    """Runs recorded launches again, in order."""
    runner = _thread.runner
    if runner is None:
        for function, args in steps:
            function(*args)
    else:
        with _temporarily(runner=None):
            for function, args in steps:
                runner.run(function, args)


class Replayer:
    """Runs recorded launches again. On a GPU it runs them as one CUDA graph.

    inputs, outputs: arrays of the launches that `copying` copies.
    """

    def __init__(
        self, steps: list[tuple[Callable, tuple]], inputs: Sequence[Array] = (), outputs: Sequence[Array] = ()
    ):
        self._native: native.NativeProgram | None = None
        self._run: Callable[[], Any]
        if _thread.gpu is not None:
            plain = functools.partial(play, steps)
            self._run = _thread.gpu.graph(steps, plain) or plain
            return
        segments = native_segments(steps, inputs, outputs)
        self._run = segments[0] if len(segments) == 1 else functools.partial(_call_all, segments)
        if isinstance(self._run, native.NativeProgram):
            self._native = self._run

    def __call__(self) -> None:
        """Run."""
        self._run()

    def over(
        self, old: Array, new: Array, inputs: Sequence[Array] = (), outputs: Sequence[Array] = ()
    ) -> "Replayer | None":
        """Returns these launches with the memory of an array replaced by another one's; None if not all are native."""
        if self._native is None:
            return None
        made = object.__new__(Replayer)
        made._run = made._native = self._native.over(old, new, inputs, outputs)
        return made

    @property
    def copying(self) -> Callable[..., bool]:
        """A function that copies arrays to the inputs, runs, and copies the outputs to the remaining arrays.

        It returns True if native code did it; otherwise nothing was done.
        """
        return self._native or _not_native


def _not_native(*arrays: Array) -> bool:
    return False


def native_segments(
    steps: list[tuple[Callable, tuple]], inputs: Sequence[Array] = (), outputs: Sequence[Array] = ()
) -> list[Any]:
    """Returns functions that run recorded launches on the CPU: native programs, and Python functions between them."""
    segments: list[Any] = []
    found = [(step, rows_of(*step)) for step in steps]
    for is_native, part in itertools.groupby(found, key=lambda each: each[1] is not None):
        group = list(part)
        if not is_native:
            segments.append(functools.partial(play, [step for step, _ in group]))
            continue
        pairs = [(function, row) for (function, _), rows in group for row in rows or ()]
        rows = [row for _, row in pairs]
        segments.append(native.NativeProgram([function for function, _ in pairs], rows, inputs, outputs))
    return segments


def rows_of(function: Any, args: tuple) -> list[Row] | None:
    """Returns a launch as rows of a native program; None for a Python function that the interpreter does not know."""
    if isinstance(function, Conditional):
        rows = rows_of(function.function, args[function.flags :])
        if rows is None:
            return None
        *outer, flag = args[: function.flags]
        rows = [row._replace(flag=flag) for row in rows]
        for flag in reversed(outer):
            rows = [play_row(rows, flag)]
        return rows
    if hasattr(function, "rows"):  # a loop
        return function.rows(args)
    if hasattr(function, "row"):
        return [function.row(args)]
    return None if hasattr(function, "on_host") else _interpreter.rows_of(function, args)


def _call_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()


def fuse(
    steps: list[tuple[Callable, tuple]], memory_of: Callable, needed_after: Callable
) -> list[tuple[Callable, tuple]]:
    """Returns the recorded launches with chains of elementwise launches joined, see chains.py."""
    join = _interpreter.fuse if _thread.gpu is None else _thread.gpu.twin(_interpreter.fuse)
    return join(steps, memory_of, needed_after)


class InputStaging:
    """Arrays that receive the next batch for a program's input buffers. On the CPU they are the buffers themselves."""

    def __init__(self, buffers: list):
        self.arrays = buffers

    def send(self) -> None:
        """Copies `arrays` to the buffers."""


def input_staging(buffers: list) -> Any:
    """Returns an InputStaging for buffers on this thread's device. On a GPU the next batch is copied while a step runs."""
    return InputStaging(buffers) if _thread.gpu is None else _thread.gpu.input_staging(buffers)


ALIGNMENT = 64  # bytes of a cache line, and of the widest vector


def persistent_empty(shape, dtype) -> Array:
    """Returns a `persistent` array with undefined content; its memory starts at a cache line."""
    if _thread.gpu is None or _thread.dry:
        return persistent(_aligned_empty(shape, np.dtype(dtype)))
    return persistent(_thread.gpu.empty(shape, dtype))


def persistent_copy(value: Array) -> Array:
    """Returns a `persistent` array with a copy of an array's values."""
    # Only if necessary: newbyteorder makes a new dtype object, and each kernel would need a guard for it, see native.Calls.
    copy = _aligned_empty(value.shape, value.dtype if value.dtype.isnative else value.dtype.newbyteorder("="))
    copy[...] = value
    return persistent(copy)


def _aligned_empty(shape: Any, dtype: np.dtype) -> Array:
    count = math.prod(shape) if isinstance(shape, tuple | list) else int(shape)
    memory = np.empty(count * dtype.itemsize + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -address(memory) % ALIGNMENT)


def view_at(owner: Array, offset: int, shape: tuple, dtype: Any, strides: tuple | None = None) -> Array:
    """Returns a view of any form, `offset` bytes into an array that owns its memory."""
    if isinstance(owner, DeviceArray):
        return owner.at(offset, shape, dtype, strides)  # type: ignore[return-value]
    return np.ndarray(shape, dtype, owner, offset, strides)


def address(array: Array) -> int:
    """Returns the address of an array's first element."""
    return array.address if isinstance(array, DeviceArray) else array.__array_interface__["data"][0]


def write(array: Array, value: Any) -> None:
    """Writes a value into an array of the same shape at once, without recording it."""
    run_waiting()
    if isinstance(array, DeviceArray):
        array.gpu.write(array, value)
    else:
        array[...] = value
    if _watched:
        changed((id(root(array)),))


def read(array: Array) -> Array:
    """Returns the array as a NumPy array for Python (a copy if it is on a GPU). A step that reads values cannot be recorded."""
    array = readable(array)
    return array.copy() if isinstance(array, DeviceArray) else array


def readable(array: Array) -> Array:
    """Returns the array itself, if its values may be read now; see `read`."""
    array = plain(array)
    if is_readable_constant(array):
        return array
    if _thread.dry:
        raise ValueReadError(
            "a tensor's value was read while only its shape was being worked out (building a functional model or "
            "a layer's output shape); give the layer a compute_output_shape method, or use ops instead of the value"
        )
    run_waiting()
    if _thread.recorder is not None:
        _thread.recorder.value_read()
    return array


class ValueReadError(RuntimeError):
    """Raised if a value is read where only a shape exists, or where a replay would not read it again.

    Example:
        >>> from nbkeras.testing import ValueReadError
        >>> class Scaled(layers.Layer):
        ...     def call(self, x):
        ...         return x / float(ops.max(x))
        >>> try:
        ...     Scaled()(layers.Input((3,)))
        ... except ValueReadError:
        ...     print("use x / ops.max(x)")
        use x / ops.max(x)
    """


def _is_unread() -> bool:
    """True if op code must not read values now: a replay would not read them again, or nothing was computed."""
    return _thread.dry or (_thread.recorder is not None and _thread.recorder.reason is None)


def _refuse(what: str) -> None:
    """Raises ValueReadError for op code that reads or changes an array's values outside a launch."""
    frame: Any = sys._getframe(1)
    while any(part in frame.f_code.co_filename for part in _FOREIGN):
        frame = frame.f_back
    when, why = (
        "a step is recorded",
        "a replay starts the launches again and does not run this line: results would be stale",
    )
    if _thread.dry:
        when, why = "its shape is worked out", "nothing is computed then"
    raise ValueReadError(
        f"{frame.f_code.co_name!r} ({frame.f_code.co_filename}:{frame.f_lineno}) used {what} on an array while {when}. Op code "
        f"may use shapes, dtypes and views of arrays, not their values: {why}. Put the computation into a kernel and start it "
        "by device.launch(kernel, *arrays). If Python must read values, use device.read(array): steps then run eagerly and are "
        "not recorded, and the layer needs a compute_output_shape method"
    )


# files that call methods of an array for op code
_FOREIGN = (*(f"{os.sep}{name}{os.sep}" for name in ("numpy", "numba")), functools.__file__, os.path.dirname(__file__))
_FORMS = {np.shape, np.ndim, np.size, np.result_type, np.can_cast}  # these read no values


class UnreadArray(StandIn):
    """An array for op code while a step is recorded or run dry. Views are allowed; reading values is an error.

    It behaves like a DeviceArray on a GPU. After the step it is an ordinary array, because a layer may have kept it.
    """

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if _is_unread():
            _refuse(f"numpy.{ufunc.__name__}")
        if "out" in kwargs:
            kwargs["out"] = tuple(map(plain, kwargs["out"]))
        return getattr(ufunc, method)(*map(plain, args), **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if _is_unread() and function not in VIEWS and function not in _FORMS:
            _refuse(f"numpy.{function.__name__}")
        result = super().__array_function__(function, types, args, kwargs)
        return result.view(UnreadArray) if function in VIEWS else result

    def __getitem__(self, key):
        """Returns a view while unread, even for a single element (a view without axes)."""
        if not _is_unread():
            return plain(self)[key]
        whole = view_key(key)
        if whole is None:
            _refuse(f"an index {key!r:.60}, which gives no view,")
        return super().__getitem__(whole)

    def for_kernel(self):
        """Returns the ordinary array, for a kernel that is called without a launch."""
        if _is_unread():
            _refuse("a compiled function, without device.launch,")
        return plain(self)

    @property
    def flat(self):
        if _is_unread():
            _refuse(".flat")
        return plain(self).flat

    @flat.setter
    def flat(self, values):
        if _is_unread():
            _refuse(".flat")
        plain(self).flat = values

    def __repr__(self):
        return f"<array of shape {self.shape} and dtype {self.dtype}>" if _is_unread() else repr(plain(self))

    __str__ = __repr__


def _refusing(name: str) -> Any:
    """Returns a method of UnreadArray that refuses to read values."""

    def method(self, *args, **kwargs):
        if _is_unread():
            _refuse(f".{name}()")
        return getattr(plain(self), name)(*args, **kwargs)

    return method


for _name in (
    "all any argmax argmin argpartition argsort astype byteswap choose clip compress conj conjugate copy cumprod cumsum "
    "diagonal dot dump dumps fill flatten getfield item max mean min nonzero partition prod put ravel repeat resize round "
    "searchsorted setfield sort std sum take tobytes tofile tolist trace var "
    "__bool__ __complex__ __contains__ __copy__ __deepcopy__ __float__ __format__ __index__ __int__ __iter__ __reduce__ "
    "__setitem__"
).split():
    setattr(UnreadArray, _name, _refusing(_name))


def unread(array: Any) -> Any:
    """Returns an array for op code: an UnreadArray over the same memory while a step is recorded or run dry, else itself."""
    return array.view(UnreadArray) if type(array) is np.ndarray and _is_unread() else array


def plain(value: Any) -> Any:
    """Returns an UnreadArray as an ordinary array, anything else unchanged."""
    return value.view(np.ndarray) if type(value) is UnreadArray else value


class _temporarily:  # noqa: N801 (it is used like a function)
    """Sets attributes of `_thread` for a block, then restores them; one that was not set has the class's value again."""

    def __init__(self, result: Any = None, **chosen: Any):
        self._result, self._chosen = result, {**chosen, "is_plain": False}

    def __enter__(self) -> Any:
        own = vars(_thread)
        self._before = {name: own[name] for name in self._chosen if name in own}
        own.update(self._chosen)
        return self._result

    def __exit__(self, *error: object) -> None:
        own = vars(_thread)
        for name in self._chosen:
            own.pop(name, None)
        own.update(self._before)


class _recording(_temporarily):  # noqa: N801 (it is used like a function)
    """Records in a block. At its end the waiting launches run, unless the user interrupts it."""

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None or issubclass(error[0], Exception):
                run_waiting()
        finally:
            _thread.waiting = None
            super().__exit__(*error)


def record(recorder: Any) -> contextlib.AbstractContextManager[Any]:
    """Reports each `empty`, `launch` and `read` of this thread to `recorder` (its methods allocated, launched, ...).

    If the recorder has a true attribute `launches_wait`, launches may wait for their code until the block ends.
    """
    return _recording(recorder, recorder=recorder)


def recorder() -> Any:
    """Returns this thread's recorder, or None."""
    return _thread.recorder


def runner() -> Any:
    """Returns the object that runs this thread's launches, or None."""
    return _thread.runner


def dry() -> contextlib.AbstractContextManager[None]:
    """Runs no kernels: ops then compute only shapes and dtypes, and nothing is compiled."""
    return _temporarily(dry=True, recorder=None)


def ordinary(makes_new: bool = False) -> contextlib.AbstractContextManager[None]:
    """Runs without recording, even inside `dry` or `record`, for work that is done once, such as building weights.

    makes_new: True for a block that only makes new arrays, whose values depend on no others: waiting launches go on waiting.
    """
    if not makes_new:
        run_waiting()
    return _temporarily(dry=False, recorder=None)


def is_dry() -> bool:
    """True if this thread computes only shapes."""
    return _thread.dry


def is_plain() -> bool:
    """True if this thread computes on the CPU, at once and unobserved, and no GPU was used yet: most checks can be skipped."""
    return _thread.is_plain


class Profile:
    """Launches by function name: `calls[name]` and `seconds[name]`; `str(profile)` is a table, slowest first."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def run(self, function: Callable, args) -> None:
        name = getattr(function, "__name__", repr(function))
        start = time.perf_counter()
        run(function, args)
        if _thread.gpu is not None:
            _thread.gpu.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.calls[name] = self.calls.get(name, 0) + 1

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        lines = [f"{'kernel':<36}{'launches':>9}{'total ms':>11}{'share':>8}"]
        for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            lines.append(f"{name:<36}{self.calls[name]:>9}{seconds * 1e3:>11.3f}{seconds / total:>8.1%}")
        return "\n".join(lines)


def profile() -> contextlib.AbstractContextManager[Profile]:
    """Count and time the kernels that this thread launches in a `with` block, also those of replayed steps.

    Returns:
        A context manager that gives a Profile: `calls` and `seconds` are dicts by kernel, and `print` shows a
        table.

    Example:
        >>> with keras.profile() as p:
        ...     y = ops.exp(np.ones(4, "float32"))
        >>> sum(p.calls.values()), set(p.calls) == set(p.seconds)
        (1, True)
    """
    return run_by(Profile())


def run_by(runner: Any) -> contextlib.AbstractContextManager[Any]:
    """Lets `runner.run(function, args)` run this thread's launches; the runner calls `run`."""
    run_waiting()
    return _temporarily(runner, runner=runner)


def copy(source: Array, target: Array) -> None:
    """Kernel: target[...] = source, any strides, with a cast where dtypes differ.

    Floats that become integers lose their fraction. NaN becomes 0, a number out of range the nearest integer.
    """
    if source.dtype.kind != "f" or target.dtype.kind not in "iu":
        target[...] = source
        return
    limits = np.iinfo(target.dtype)
    source = source if source.dtype.itemsize > 2 else source.astype(np.float32)
    below, beyond = source < float(limits.min), source >= float(limits.max + 1)
    target[...] = np.where(below | beyond | np.isnan(source), 0, source)
    np.copyto(target, limits.min, where=below)
    np.copyto(target, limits.max, where=beyond)


def converted(array: Array, dtype: np.dtype) -> Array:
    """Returns a NumPy array in another dtype, with the numbers of `copy`; itself if it has that dtype."""
    if array.dtype == dtype:
        return array
    result = np.empty(array.shape, dtype)
    copy(array, result)
    return result


def fill(target: Array, value) -> None:
    """Kernel: target[...] = value."""
    target.fill(value)


copy.fuses_as, fill.fuses_as = "copy", "fill"  # type: ignore[attr-defined]  # see chains.operation


def contiguous(array: Array) -> Array:
    """Returns the array itself if it is C-contiguous, else a C-contiguous copy."""
    if array.flags.c_contiguous:
        return array
    result = empty(array.shape, array.dtype)
    launch(copy, array, result)
    return result
