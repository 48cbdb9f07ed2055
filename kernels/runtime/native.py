"""Native programs: one call from Python runs many launches, without the GIL.

A program is rows of four numbers: the address of a kernel's entry, the address of its frame, the number of shares, and the
address of a flag, or 0 for no flag. A row with a flag of 0 is skipped. `play` runs the rows in order. It is an entry itself, so a
program can be a row of another program.

A program and everything that its rows read, frames and instructions, is one piece of memory. It is known which of its words are
addresses, and of what. So `NativeProgram.over` makes a program for other memory by a copy.

For a single launch, a C function (`start`) fills the frame from the fields of the objects, so a launch runs no Python code. The
objects must match a *guard*: numbers that describe argument types for which code exists. A launch by the interpreter must match a
*plan*: instructions for arrays of these shapes, in which the C function replaces the addresses.
"""

import copy
import ctypes
import itertools
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import code, fork_safety
from nbkeras.kernels.runtime.device_array import address_of, root
from nbkeras.kernels.runtime.messages import file_of, named, short_description
from nbkeras.kernels.runtime.pointers import call, load, load32, stack, store
from nbkeras.kernels.runtime.pool import Pool, run_shares
from nbkeras.kernels.runtime.row import Row
from nbkeras.kernels.runtime.signatures import ArrayType, Type

Array = np.ndarray

# -------------------- Python's objects --------------------

# the bytes before the fields of an object, and before the items of a tuple (Python 3.14 has one more field there)
_HEADER, _ITEMS = object.__basicsize__, tuple.__basicsize__
# offsets of an array's fields after its header
_DATA, _NDIM, _DIMENSIONS, _STRIDES, _DESCR, _ARRAY_FLAGS = 0, 8, 16, 24, 40, 48
# offsets in a dtype, in NumPy 1 and 2: 4 bytes with kind, character, byte order and flags; the dtype's number
_MARKS, _DTYPE_NUMBER = 8, 12
# offset of the names of an element's fields, 0 if it has none
_NAMES_OF_DTYPE = 40 if np.__version__.startswith("1.") else 88
# the position of the byte order in the 4 bytes, and the order that is not this machine's
_ORDER, _FOREIGN = (16, ord(">")) if sys.byteorder == "little" else (8, ord("<"))
# the numbers of booleans, integers, floats and complex numbers are 0 to this one
_LAST_NUMBER = np.dtype(np.clongdouble).num
# what compiled functions must know about Python: the addresses of objects, of functions and of the pool
_INT_TYPE, _TRUE, _NO_VALUE, _AS_INT, _FROM_INT, _HOLD, _SAVE, _RESTORE, _MOVE, _POOL, _NAMES, _TUPLE_ITEMS = range(12)


def _of_python() -> Array:
    api = ctypes.pythonapi
    functions = (
        api.PyLong_AsLongLongAndOverflow,
        api.PyLong_FromLongLong,
        api.Py_IncRef,
        api.PyEval_SaveThread,
        api.PyEval_RestoreThread,
        ctypes.memmove,
    )
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    return np.array([id(int), id(True), id(None), *addresses, Pool.state, _NAMES_OF_DTYPE, _ITEMS], np.int64)


_of_this_python = _of_python()
_PYTHON = _of_this_python.ctypes.data


@code.CompiledFunction
def _result(failure, python):
    """Returns the object that a function returns to Python: None, or a number."""
    if failure != 0:
        return call(load(python, _FROM_INT), failure)
    call(load(python, _HOLD), load(python, _NO_VALUE))
    return load(python, _NO_VALUE)


_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400  # flags of NumPy's arrays
_MISS = -1  # a function returns it if objects do not match; it then has done nothing


class _Method(ctypes.Structure):
    """PyMethodDef of Python's C API."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("text", ctypes.c_char_p),
    )


_FASTCALL = 0x80  # METH_FASTCALL: code(self, objects, count)


_methods: dict[str, _Method] = {}  # never replaced, because Python functions hold their addresses


def python_function(name: str, array: Array) -> Callable[..., int | None]:
    """Makes a Python function from a registered function `(self, objects, count)`; `self` is an array of int64."""
    method = _methods.get(name)
    if method is None:
        # Several threads may make one. All use the first; `functools.cache` would keep the last and free the others.
        method = _methods.setdefault(name, _Method(name.encode(), code.address(name), _FASTCALL, None))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(method), array, None)


# -------------------- programs --------------------

_CACHE_LINE = 64  # bytes

_CODE, _FRAME, _SHARES, _FLAG, _ROW = range(5)
# The frame of a program. A port is an input or output array: the address of the object, and the number of bytes.
_ROWS, _COUNT, _STATE, _FAILED, _TABLE, _HOLDS_GIL, _PORTS, _INPUTS, _OUTPUTS, _PROGRAM = range(10)


@code.CompiledFunction
def _play_rows(frame):
    """Runs the rows of a program. Returns 0, or the result of the entry whose kernel raised an exception."""
    row, state = load(frame, _ROWS), load(frame, _STATE)
    for i in range(load(frame, _COUNT)):
        flag = load(row, _FLAG)
        run = True
        if flag != 0:
            run = load(flag, 0) != 0
        if run:
            failure = run_shares(state, load(row, _CODE), load(row, _FRAME), load(row, _SHARES))
            if failure != 0:
                store(frame, _FAILED, i)
                return failure
        row += 8 * _ROW
    return 0


def _play(frame, share, shares):
    """The entry of a program that is a row of another one. The frame's word is the address of the program's frame."""
    return _play_rows(load(frame, 0))


# The frame of a loop. Its parts are frames of programs, or 0; other words are addresses of numbers, or 0, and the most iterations
_BEFORE_LOOP, _CONDITION, _BODY, _AFTER_LOOP, _FLAG_AT, _COUNT_AT, _COUNTER, _DONE, _LIMIT, _BACKWARDS = range(10)


@code.CompiledFunction
def _play_part(frame, part):
    """Runs a part of a loop, if it has this part."""
    program = load(frame, part)
    return _play_rows(program) if program != 0 else 0


def _play_loop(frame, share, shares):
    """The entry of a loop: it repeats the rows of its body, see Loop in repeated.py."""
    failure = _play_part(frame, _BEFORE_LOOP)
    if failure != 0:
        return failure
    count = load(frame, _LIMIT)
    if load(frame, _COUNT_AT) != 0:
        count = min(count, load(load(frame, _COUNT_AT), 0))
    done = 0
    while done < count:
        store(load(frame, _COUNTER), 0, count - 1 - done if load(frame, _BACKWARDS) != 0 else done)
        failure = _play_part(frame, _CONDITION)
        if failure != 0:
            return failure
        if load(frame, _FLAG_AT) != 0:
            if load(load(frame, _FLAG_AT), 0) == 0:
                break
        failure = _play_part(frame, _BODY)
        if failure != 0:
            return failure
        done += 1
    if load(frame, _DONE) != 0:
        store(load(frame, _DONE), 0, done)
    return _play_part(frame, _AFTER_LOOP)


@code.CompiledFunction
def _is_dtype(dtype, expected, python):
    """True if a dtype equals the expected native one. Numeric dtypes may be different objects, as in unpickled arrays."""
    if dtype == expected:
        return True
    number = load32(dtype + _HEADER + _DTYPE_NUMBER)
    if number != load32(expected + _HEADER + _DTYPE_NUMBER) or not 0 <= number <= _LAST_NUMBER:
        return False
    names = _HEADER + load(python, _NAMES)
    if load(dtype + names, 0) != 0 or load(expected + names, 0) != 0:
        return False
    return (load32(dtype + _HEADER + _MARKS) >> _ORDER) & 255 != _FOREIGN


@code.CompiledFunction
def _fits(item, port, python):
    """True if an object is a C-contiguous array with the port's dtype and shape."""
    if load(item + _HEADER - 8, 0) != load(port + _HEADER - 8, 0):
        return False
    fields, expected = item + _HEADER, port + _HEADER
    axes = load32(expected + _NDIM)
    if load32(fields + _NDIM) != axes or not _is_dtype(load(fields + _DESCR, 0), load(expected + _DESCR, 0), python):
        return False
    if load32(fields + _ARRAY_FLAGS) & _CONTIGUOUS == 0:
        return False
    for axis in range(axes):
        if load(load(fields + _DIMENSIONS, 0), axis) != load(load(expected + _DIMENSIONS, 0), axis):
            return False
    return True


@code.CompiledFunction
def _copy(source, target, size, python):
    """Copies the memory of an array to another one."""
    call(load(python, _MOVE), load(target + _HEADER + _DATA, 0), load(source + _HEADER + _DATA, 0), size)


@code.CompiledFunction
def _play_with(frame, objects, count, python):
    """Copies inputs into the program, runs it, and copies its outputs. Without objects, it only runs it."""
    ports, inputs = load(frame, _PORTS), load(frame, _INPUTS)
    if count != 0:
        for i in range(inputs):
            _copy(load(objects, i), load(ports, 2 * i), load(ports, 2 * i + 1), python)
    failure = _play_rows(frame)
    if failure == 0:
        for i in range(inputs, count):
            _copy(load(ports, 2 * i), load(objects, i), load(ports, 2 * i + 1), python)
    return failure


def _run_program(self, objects, count):
    """Runs `_play_with` for Python, without the GIL if the program is long. Returns _MISS if an object does not match."""
    frame = load(self + _HEADER + _DATA, 0)
    python, ports = load(frame, _TABLE), load(frame, _PORTS)
    if count != 0 and count != load(frame, _INPUTS) + load(frame, _OUTPUTS):
        return _result(_MISS, python)
    for i in range(count):
        if not _fits(load(objects, i), load(ports, 2 * i), python):
            return _result(_MISS, python)
    if load(frame, _HOLDS_GIL) != 0:
        return _result(_play_with(frame, objects, count, python), python)
    thread = call(load(python, _SAVE))
    failure = _play_with(frame, objects, count, python)
    call(load(python, _RESTORE), thread)
    return _result(failure, python)


code.symbol("nbkeras_play", _play, "int64(int64, int64, int64)")
code.symbol("nbkeras_play_loop", _play_loop, "int64(int64, int64, int64)")
code.symbol("nbkeras_run_program", _run_program, "int64(int64, int64, int64)")


class _Words:
    """The words of a program while they are put together."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.inside: list[tuple[int, int]] = []  # (index of a word, index of the word whose address it holds)
        self.arrays: list[tuple[int, Array]] = []  # (index of a word, the array whose address it holds)
        self.scratch: list[tuple[int, int]] = []  # (index of a word, a number of bytes into the scratch memory)
        self.scratch_bytes = 0

    def program(self, rows: Sequence[Row], inputs: int = 0, outputs: int = 0) -> int:
        """Adds a program, and returns the index of its frame."""
        numbers = {_COUNT: len(rows), _STATE: Pool.state, _TABLE: _PYTHON, _INPUTS: inputs, _OUTPUTS: outputs}
        frame = self._add([numbers.get(word, 0) for word in range(_PROGRAM)])
        table = self._add([0] * _ROW * len(rows))
        self.inside.append((frame + _ROWS, table))
        for at, row in zip(range(table, len(self.words), _ROW), rows, strict=True):
            self.words[at + _CODE], self.words[at + _SHARES] = row.entry(), row.shares
            self.inside.append((at + _FRAME, self._frame(row)))
            if row.flag is not None:
                self.arrays.append((at + _FLAG, row.flag))
        return frame

    def _frame(self, row: Row) -> int:
        frame = self._add([*[0] * len(row.inner), *row.frame])
        self._note(frame + len(row.inner), row.addresses, {})
        if row.code is not None:
            code = self._add(row.code.ravel().tolist())
            self.inside.append((frame + 1, code))
            self._note(code, row.code_addresses, self._places(row.scratch))
        for number, rows in enumerate(row.inner):
            if rows:
                self.inside.append((frame + number, self.program(rows)))
        return frame

    def _add(self, words: Sequence[int]) -> int:
        self.words += words
        return len(self.words) - len(words)

    def _note(self, start: int, addresses: Sequence[tuple[int, Array]], scratch: dict[int, int]) -> None:
        for at, array in addresses:
            owner = root(array)
            if id(owner) in scratch:
                self.scratch.append((start + at, scratch[id(owner)] + address_of(array) - address_of(owner)))
            else:
                self.arrays.append((start + at, array))

    def _places(self, scratch: Sequence[Array]) -> dict[int, int]:
        """The positions of a launch's scratch arrays, by id. All launches use the same memory, since they run in order."""
        places, end = {}, 0
        for array in scratch:
            places[id(array)] = end
            end += -(-array.nbytes // _CACHE_LINE) * _CACHE_LINE
        self.scratch_bytes = max(self.scratch_bytes, end)
        return places


class NativeProgram:
    """Launches that one native call runs: rows, and the function of each for messages.

    inputs, outputs: arrays of the program that a call may copy into and from.
    """

    _SHORT = 15e-6  # seconds of a run; handing over the GIL costs more than a shorter one
    _TRIES = 20

    def __init__(
        self,
        functions: Sequence[Callable],
        rows: Sequence[Row],
        inputs: Sequence[Array] = (),
        outputs: Sequence[Array] = (),
    ):
        made = _Words()
        made.program(rows, len(inputs), len(outputs))
        self._functions, self.uses_pool = functions, any(row.uses_pool() for row in rows)
        self._size, self._scratch_bytes = len(made.words), made.scratch_bytes
        scratch = -(-len(made.words) * 8 // _CACHE_LINE) * _CACHE_LINE  # it follows the words
        within = [(at, 8 * word) for at, word in made.inside] + [(at, scratch + byte) for at, byte in made.scratch]
        self._within = np.array(
            [at for at, _ in within], np.int64
        )  # indices of words that are addresses of this memory
        # indices of the words that are addresses of arrays, and the position of each array's owner among all of them
        owners = {id(owner): owner for owner in (root(array) for _, array in made.arrays)}
        numbers = {key: number for number, key in enumerate(owners)}
        self._owners = list(owners.values())  # they keep the memory alive
        self._at = np.array([at for at, _ in made.arrays], np.int64)
        self._owner_of = np.array([numbers[id(root(array))] for _, array in made.arrays], np.int64)
        words = self._new_words()
        words[: self._size] = made.words
        words[self._within] = [address_of(words) + byte for _, byte in within]
        words[self._at] = [address_of(array) for _, array in made.arrays]
        self._seconds: list[float] | None = []  # seconds of the first runs
        self._use(words, [*inputs, *outputs])

    def _new_words(self) -> Array:
        """Returns memory for the words and the scratch memory, at a cache line."""
        memory = np.empty(self._size + self._scratch_bytes // 8 + 2 * _CACHE_LINE // 8, np.int64)
        return memory[-address_of(memory) % _CACHE_LINE // 8 :]

    def _use(self, words: Array, ports: list[Array]) -> None:
        self._ports = ports, np.array([(id(array), array.nbytes) for array in ports], np.int64)
        words[_PORTS] = address_of(self._ports[1])
        self._words, self._play = words, python_function("nbkeras_run_program", words)

    def over(
        self, old: Array, new: Array, inputs: Sequence[Array] = (), outputs: Sequence[Array] = ()
    ) -> "NativeProgram":
        """Returns this program with the memory of an array replaced by another one's. inputs, outputs: arrays in the latter."""
        made, words, before, after = copy.copy(self), self._new_words(), root(old), root(new)
        words[: self._size] = self._words[: self._size]
        words[self._within] += address_of(words) - address_of(self._words)
        for number, owner in enumerate(self._owners):
            if owner is before:
                words[self._at[self._owner_of == number]] += address_of(new) - address_of(old)
        made._owners = [after if owner is before else owner for owner in self._owners]
        made._seconds = None if self._seconds is None else []
        made._use(words, [*inputs, *outputs])
        return made

    def __call__(self, *arrays: Array) -> bool:
        """Runs the program. With arrays, one for each input and output, copies the inputs before and the outputs afterwards.

        Returns:
            True if it ran; False if an array is not C-contiguous, or differs in shape or dtype.
        """
        if self.uses_pool and Pool.current is None:
            Pool.get()
        failure = self._play(*arrays) if self._seconds is None else self._timed(self._seconds, arrays)
        if failure is None:
            return True
        if failure == _MISS:
            return False
        raise exception(failure, self._functions[self._words[_FAILED]], " in a recorded step")

    def _timed(self, seconds: list[float], arrays: tuple[Array, ...]) -> int | None:
        """Runs, and chooses if later runs keep the GIL: two threads with short programs would only hand it to each other.

        It measures processor time, because the thread may wait for the GIL.
        """
        start = time.thread_time()
        failure = self._play(*arrays)
        seconds.append(time.thread_time() - start)
        if len(seconds) == self._TRIES:
            self._words[_HOLDS_GIL], self._seconds = min(seconds) < self._SHORT, None
        return failure


def exception(failure: int, kernel: Any, where: str = "") -> Exception:
    """Returns the exception that a kernel raised. The entry returned the address of Numba's description of the exception."""
    data, size = ctypes.c_void_p.from_address(failure).value or 0, ctypes.c_int32.from_address(failure + 8).value
    place = None
    try:
        kind, args, place = pickle.loads(ctypes.string_at(data, size))
        error = kind(*(args or ()))
    except Exception:  # only Numba's own wrapper finds the computed arguments of an exception
        error = RuntimeError("a kernel raised an exception")
    line = "" if place is None else f", at {file_of(place[1])}:{place[2]}"
    error.add_note(f"raised by the kernel {named(kernel)}{where}{line}")
    return error


# -------------------- single launches --------------------

_MAX_SLOTS, _MAX_GUARDS = 512, 64
_LARGE = 16384  # launches with at least this many elements release the GIL
# A guard: the kernel's next guard, the entry, the numbers of arguments and slots, and a check for each argument
_NEXT, _ENTRY, _NUMBER, _SLOTS, _EXPECTED = range(5)
# A check: kind and Python type; for an array also dtype, axes and flags, for a tuple also its size
_KIND, _TYPE, _DTYPE, _AXES, _FLAGS, _WORDS = range(6)
_ARRAY, _INT, _BOOL, _FIELD, _TUPLE, _NONE = range(6)
# The `self` of `start`: the address of the first guard, and the number of objects that are not arguments of the kernel. These
# are the number of shares, before the arguments (all shares run), or a share and the number of shares, after the arguments.
_FIRST_GUARD, _START_TABLE, _BEFORE, _AFTER = range(4)


@code.CompiledFunction
def _fill_number(kind, item, frame, slot, python):
    """Writes a number into a slot. Returns False if it does not fit."""
    if kind == _INT:
        overflow = stack(1)
        store(overflow, 0, 0)
        store(frame, slot, call(load(python, _AS_INT), item, overflow))
        return load32(overflow) == 0
    if kind == _BOOL:
        store(frame, slot, np.int64(1) if item == load(python, _TRUE) else np.int64(0))
    else:
        store(frame, slot, load(item + _HEADER, 0))
    return True


@code.CompiledFunction
def _fill(guard, items, frame, python):
    """Fills a frame from objects. Returns the number of array elements, or _MISS if the objects do not match the guard."""
    expected = guard + 8 * _EXPECTED
    slot, elements = 0, 0
    for i in range(load(guard, _NUMBER)):
        item, kind = load(items, i), load(expected, _KIND)
        if kind == _NONE:
            if item != load(expected, _TYPE):
                return _MISS
        elif load(item + _HEADER - 8, 0) != load(expected, _TYPE):
            return _MISS
        elif kind == _ARRAY:
            fields, axes = item + _HEADER, load(expected, _AXES)
            flags = load32(fields + _ARRAY_FLAGS) & (_CONTIGUOUS | _ALIGNED | _WRITEABLE)
            if load32(fields + _NDIM) != axes or not _is_dtype(
                load(fields + _DESCR, 0), load(expected, _DTYPE), python
            ):
                return _MISS
            if flags != load(expected, _FLAGS):
                return _MISS
            store(frame, slot, load(fields + _DATA, 0))
            slot += 1
            size, shape = 1, load(fields + _DIMENSIONS, 0)
            for axis in range(axes):
                size *= load(shape, axis)
                store(frame, slot, load(shape, axis))
                slot += 1
            elements += size
            if flags & _CONTIGUOUS == 0:
                strides = load(fields + _STRIDES, 0)
                for axis in range(axes):
                    store(frame, slot, load(strides, axis))
                    slot += 1
        elif kind == _TUPLE:
            size = load(expected, _AXES)
            if load(item + _HEADER, 0) != size:
                return _MISS
            parts = item + load(python, _TUPLE_ITEMS)
            for j in range(size):
                expected += 8 * _WORDS
                part = load(parts, j)
                if load(part + _HEADER - 8, 0) != load(expected, _TYPE):
                    return _MISS
                if not _fill_number(load(expected, _KIND), part, frame, slot, python):
                    return _MISS
                slot += 1
        else:
            if not _fill_number(kind, item, frame, slot, python):
                return _MISS
            slot += 1
        expected += 8 * _WORDS
    return elements


@code.CompiledFunction
def _fill_int(item, frame, slot, python):
    """Writes an int into a slot. Returns False if the object is not an int, or is too large."""
    if load(item + _HEADER - 8, 0) != load(python, _INT_TYPE):
        return False
    return _fill_number(_INT, item, frame, slot, python)


@code.CompiledFunction
def _run(guard, frame, share, elements, python):
    """Runs the entry of a guard, without the GIL if the arrays are large."""
    entry, thread = load(guard, _ENTRY), 0
    if elements > _LARGE:
        thread = call(load(python, _SAVE))
    if load(share, 0) < 0:
        failure = run_shares(load(python, _POOL), entry, frame, load(share, 1))
    else:
        failure = call(entry, frame, load(share, 0), load(share, 1))
    if elements > _LARGE:
        call(load(python, _RESTORE), thread)
    return failure


def _start(self, objects, count):
    """Runs a kernel for Python: one share, or all. Returns _MISS if no guard matches the objects."""
    site = load(self + _HEADER + _DATA, 0)
    python, before, after = load(site, _START_TABLE), load(site, _BEFORE), load(site, _AFTER)
    frame, share, number = stack(_MAX_SLOTS), stack(2), count - before - after
    store(share, 0, -before)
    store(share, 1, 1)
    fits = number >= 0
    if fits and before != 0:
        fits = _fill_int(load(objects, 0), share, 1, python)
    elif fits and after != 0:
        last = load(objects, count - 2), load(objects, count - 1)
        fits = _fill_int(last[0], share, 0, python) and _fill_int(last[1], share, 1, python)
    if fits:
        guard = load(site, _FIRST_GUARD)
        while guard != 0:
            if load(guard, _NUMBER) == number:
                elements = _fill(guard, objects + 8 * before, frame, python)
                if elements != _MISS:
                    return _result(_run(guard, frame, share, elements, python), python)
            guard = load(guard, _NEXT)
    return _result(_MISS, python)


code.symbol("nbkeras_fill_frame", _fill.py_func, "int64(int64, int64, int64, int64)")
code.symbol("nbkeras_start", _start, "int64(int64, int64, int64)")


_OF_POOL = "nbkeras_serve", "nbkeras_wake_all"


def starts_at_once() -> bool:
    """True if the code that starts single launches is at hand. A program does not need it."""
    return code.is_at_hand("nbkeras_start")


def request_programs() -> None:
    """Requests the code that runs programs, see compilers.py."""
    code.request("nbkeras_run_program", "nbkeras_fill_frame", *_OF_POOL)


_adding = fork_safety.lock()


class _Known:
    """Guards or plans, linked for C code: the site has the address of the newest one, and each one has the next one's."""

    def __init__(self, site: Array, limit: int):
        self._site, self._limit = site, limit
        self._known: list[tuple[Array, Any]] = []  # each one, with what it has addresses of

    def add(self, words: Sequence[int], kept: Any) -> Array:
        """Adds one. words: all after the link. kept: the objects whose addresses they hold. A full list begins anew."""
        with (
            _adding
        ):  # two threads would link their new ones to the same older one, and C code would not find one of them
            if len(self._known) == self._limit:
                self._site[_FIRST_GUARD] = 0  # first: another thread may search before the next line
                self._known.clear()
            added = np.array([self._site[_FIRST_GUARD], *words], np.int64)
            self._known.append((added, kept))
            self._site[_FIRST_GUARD] = address_of(added)
            return added

    def find(self, words: list[int], start: int) -> Array | None:
        """Returns the one whose words from `start` on are these."""
        return next((known for known, _ in tuple(self._known) if known[start:].tolist() == words), None)

    def __contains__(self, each: Array) -> bool:
        return any(known is each for known, _ in tuple(self._known))


class Calls:
    """Launches of a kernel. `before` objects come before its arguments and `after` objects after them; see `_start`."""

    def __init__(self, kernel: Any, before: int, after: int):
        self._kernel, self._before, self._after = kernel, before, after
        self._site = np.array([0, _PYTHON, before, after], np.int64)
        self._guards = _Known(self._site, _MAX_GUARDS)  # new record dtypes, for example, make many

    @fork_safety.cached_property
    def start(self) -> Callable[..., int | None]:
        """The function that takes the objects. It returns None, or a number for `go_on`."""
        code.check_enabled(self._kernel.py_func)
        if not starts_at_once():
            code.request("nbkeras_start_plan", *_OF_POOL)  # the next launches need them
        return python_function("nbkeras_start", self._site)

    def go_on(self, failure: int, args: tuple) -> None:
        """After a miss, runs again with a matching guard. Otherwise raises the exception of a kernel."""
        while failure == _MISS:
            args, guard, _ = self._prepare(args)
            failure = self.start(*args) or 0
            if failure == _MISS and guard in self._guards:  # otherwise other threads have filled the guards meanwhile
                raise TypeError(
                    f"the kernel {named(self._kernel)} cannot be started with {', '.join(map(short_description, args))}"
                )
        if failure:
            raise exception(failure, self._kernel)

    def row(self, args: tuple, shares: int) -> Row:
        """Returns the row of a program for this launch."""
        code.check_enabled(self._kernel.py_func)
        args, guard, signature = self._prepare(args)
        frame = np.empty(int(guard[_SLOTS]), np.int64)
        fill_frame = code.c_function("nbkeras_fill_frame", holds_gil=True)
        if fill_frame(address_of(guard), id(args) + _ITEMS + 8 * self._before, address_of(frame), _PYTHON) == _MISS:
            raise RuntimeError(f"the frame of {self._kernel.__name__!r} was not filled")
        addresses, slot = [], 0
        for value, kind in zip(args[self._before : len(args) - self._after], signature, strict=True):
            if isinstance(kind, ArrayType):
                addresses.append((slot, value))
            slot += _slots(kind)
        return Row((self._kernel, signature), frame, shares, addresses)

    def _prepare(self, args: tuple) -> tuple[tuple, Array, tuple[Type, ...]]:
        """Returns the objects, the guard for them, and their types; makes the guard if necessary."""
        args = tuple(map(_plain, args))
        own = args[self._before : len(args) - self._after]
        signature = self._kernel.signature(own)
        objects = [word for value, kind in zip(own, signature, strict=True) for word in _expected(value, kind)]
        words = [word if isinstance(word, int) else id(word) for word in objects]
        guard = self._guards.find(words, _EXPECTED)
        if guard is not None:
            return args, guard, signature
        slots = sum(map(_slots, signature))
        if slots > _MAX_SLOTS:
            raise TypeError(
                f"the kernel {named(self._kernel)} takes {slots} numbers in total; the limit is {_MAX_SLOTS}"
            )
        entry = self._kernel.entry(signature)
        return args, self._guards.add([entry, len(own), slots, *words], objects), signature


# -------------------- single launches by the interpreter --------------------

_MAX_OBJECTS, _RANGES, _MAX_PLANS = 16, 2 * 16, 256
# A plan: the next plan, the entry, the number of objects, the frame, the number of patches; then each object, then each patch.
# An array is 0, then its type, dtype, axes and bytes, and each size; a tuple is 1, then its type, size and items; another object
# is its address. A patch is the address of a number in the instructions, the array into which it points, and the distance from
# the array's start.
_PLAN_FRAME, _PATCHES, _OBJECTS = 3, 4, 5
_ARRAY_WORD, _TUPLE_WORD = 0, 1


@code.CompiledFunction
def _patch(plan, objects, python):
    """Writes the addresses of arrays into a plan. Returns False if the objects do not match, or arrays overlap."""
    at, ranges = plan + 8 * _OBJECTS, stack(_RANGES)
    for i in range(load(plan, _NUMBER)):
        item, wanted, first, last = load(objects, i), load(at, 0), 0, 0
        at += 8
        if wanted == _TUPLE_WORD:
            size = load(at, 1)
            if load(item + _HEADER - 8, 0) != load(at, 0) or load(item + _HEADER, 0) != size:
                return False
            for part in range(size):
                if load(item + load(python, _TUPLE_ITEMS), part) != load(at, 2 + part):
                    return False
            at += 8 * (2 + size)
        elif wanted != _ARRAY_WORD:
            if item != wanted:
                return False
        else:
            fields, axes = item + _HEADER, load(at, 2)
            if load(fields - 8, 0) != load(at, 0) or load32(fields + _NDIM) != axes:
                return False
            flags = load32(fields + _ARRAY_FLAGS) & (_CONTIGUOUS | _ALIGNED)
            if flags != _CONTIGUOUS | _ALIGNED or not _is_dtype(load(fields + _DESCR, 0), load(at, 1), python):
                return False
            shape = load(fields + _DIMENSIONS, 0)
            for axis in range(axes):
                if load(shape, axis) != load(at, 4 + axis):
                    return False
            first = load(fields + _DATA, 0)
            last = first + load(at, 3)
            for j in range(i):
                if first < load(ranges, 2 * j + 1) and load(ranges, 2 * j) < last:
                    return False
            at += 8 * (4 + axes)
        store(ranges, 2 * i, first)
        store(ranges, 2 * i + 1, last)
    for _ in range(load(plan, _PATCHES)):
        store(load(at, 0), 0, load(ranges, 2 * load(at, 1)) + load(at, 2))
        at += 24
    return True


def _start_plan(self, objects, count):
    """Runs a plan for Python. Returns _MISS if no plan matches the objects."""
    site = load(self + _HEADER + _DATA, 0)
    plan, python = load(site, _FIRST_GUARD), load(site, _START_TABLE)
    while plan != 0:
        if load(plan, _NUMBER) == count and _patch(plan, objects, python):
            return _result(call(load(plan, _ENTRY), load(plan, _PLAN_FRAME), 0, 1), python)
        plan = load(plan, _NEXT)
    return _result(_MISS, python)


code.symbol("nbkeras_start_plan", _start_plan, "int64(int64, int64, int64)")


class Plans:
    """Launches of a function by the interpreter on small arrays. The GIL is held, so no two threads use a plan at once."""

    def __init__(self) -> None:
        self._site = np.array([0, _PYTHON], np.int64)
        self._plans = _Known(self._site, _MAX_PLANS)
        self.start = python_function("nbkeras_start_plan", self._site)

    @staticmethod
    def accepts(args: tuple) -> bool:
        """True for contiguous small arrays, ufuncs, and tuples of small integers, of which Python has one object each."""
        for each in args:
            if type(each) is np.ndarray:
                flags = each.flags
                if not (0 < each.size <= _LARGE and flags.c_contiguous and flags.aligned):
                    return False
            elif type(each) is tuple:
                if not all(type(item) is int and 0 <= item <= 256 for item in each):
                    return False
            elif type(each) is not np.ufunc:
                return False
        return len(args) <= _MAX_OBJECTS

    def add(self, args: tuple, entry: int, frame: Array, patches: Sequence[tuple[int, int, int]], keep: Any) -> None:
        """Adds a plan for objects like these. patches: see above. keep: the memory of the instructions."""
        words: list[int] = [entry, len(args), address_of(frame), len(patches)]
        for each in args:
            if type(each) is np.ndarray:
                words += [_ARRAY_WORD, id(np.ndarray), id(each.dtype), each.ndim, each.nbytes, *each.shape]
            else:
                words += [_TUPLE_WORD, id(tuple), len(each), *map(id, each)] if type(each) is tuple else [id(each)]
        objects = [each.dtype if type(each) is np.ndarray else each for each in args]
        self._plans.add([*words, *itertools.chain.from_iterable(patches)], (objects, frame, keep))


def _plain(value: Any) -> Any:
    """Returns an ordinary array for an array of a subclass of NumPy's."""
    if not isinstance(value, np.ndarray) or type(value) is np.ndarray:
        return value
    return value.for_kernel() if hasattr(value, "for_kernel") else value.view(np.ndarray)


def _slots(kind: Type) -> int:
    """Returns the number of slots of an argument."""
    if isinstance(kind, ArrayType):
        return 1 + kind.ndim * (1 if kind.contiguous else 2)
    return sum(map(_slots, kind)) if isinstance(kind, tuple) else kind is not None


def _expected(value: Any, kind: Type) -> list:
    """Returns the words of a guard for an argument: numbers, and objects in place of their addresses."""
    if isinstance(kind, ArrayType):
        flags = _CONTIGUOUS * kind.contiguous | _ALIGNED * kind.aligned | _WRITEABLE * kind.writeable
        return [_ARRAY, np.ndarray, kind.dtype, kind.ndim, flags]
    if isinstance(kind, tuple):
        parts = [word for each, part in zip(value, kind, strict=True) for word in _expected(each, part)]
        return [_TUPLE, type(value), 0, len(kind), 0, *parts]
    if kind is None:
        return [_NONE, None, 0, 0, 0]
    return [{bool: _BOOL, int: _INT}.get(type(value), _FIELD), type(value), 0, 0, 0]
