"""A kernel's work shared among threads: `launch_shares(kernel, shares, *args)` runs `kernel(*args, share, shares)` for each.

    @compiled
    def scale(x, factor, share, shares):
        first, last = stretch(x.size, share, shares)
        x = x[first:last]
        for i in range(x.size):
            x[i] *= factor

    launch_shares(scale, share_count(x.size, 16384), x, factor)

The number of shares is chosen by shape, never by the number of threads, so results are the same on every machine.

Numba's `prange` is not used, because of its thread layers. The threads of GNU OpenMP sleep or spin between regions. Waking a
sleeping one costs 50 us in a virtual machine; if they spin, a busy neighbour makes each region wait for a time slice (8 ms,
measured). They do not survive a fork. And a `prange` wrapper takes 0.6 s to compile, this one 0.04 s for few arguments.

Here no thread waits for one that sleeps. The calling thread takes the shares of its own stretch, one after the other, then
those that other threads have not begun. A thread that is awake takes its own stretch first, the same one every time, so that
data stay in its cache. After about 300 us without work it goes to sleep on a Python lock, and the next shared launch wakes it
without waiting. One launch at a time uses the pool; launches by other Python threads meanwhile run on their own thread.

A spinning thread uses up its time slices on a processor that other processes want too; then the scheduler keeps it waiting
when there is work. A thread that slept has time left, and is woken in 5 us. So when threads find that they were kept off
their processors, all wait by sleeping for a while.
"""

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import config, typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.atomic import OWN, WALL, add, exchange, nanoseconds, nap, read, relax, write
from nbkeras.kernels.runtime.cache import cached_cfunc, compiled, provide, symbol
from nbkeras.kernels.runtime.messages import DOES_NOT_FIT, named, raise_named

_LINE = 8  # numbers in a cache line of 64 bytes; different threads write to different lines
# Indices in the pool's memory. The numbers of the first line are written before the tickets.
_CODE, _FRAME, _SHARES, _THREADS, _PATIENCE = range(5)
_DONE, _BUSY, _ROUND, _STOP, _TICKETS = (i * _LINE for i in range(1, 6))
_HALF, _LOW = 32, 0xFFFFFFFF  # a ticket: the end of a thread's stretch in the high half, its next share in the low half
_IDLE_SECONDS, _BUSY_SECONDS = 300e-6, 100e-6  # time to spin: on an idle machine, beside busy neighbours
_LOST = 1_000_000  # nanoseconds off its processor (and a tenth of its time) after which a thread assumes a neighbour
_BUSY_FOR = 0.1  # seconds for which it assumes that
_ROUNDS = 32  # launches after which a thread looks at the clock
_MOST_SHARES = 32
_I64, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
_word = types.int64
# what `_call_shares` makes: code(frame, share, shares)
_ONE_SHARE = ir.FunctionType(ir.VoidType(), [_BYTES, _I64, _I64])


@intrinsic
def _invoke(typing, code, frame, share, shares):
    """Run a share."""

    def generate(context, builder, signature, args):
        code, frame, share, shares = args
        function = builder.inttoptr(code, _ONE_SHARE.as_pointer())
        builder.call(function, [builder.inttoptr(frame, _BYTES), share, shares])
        return context.get_dummy_value()

    return types.void(_word, _word, _word, _word), generate


# -------------------- shares --------------------


@compiled
def _take_shares(state, me, threads):
    """Run shares until none is left: of the own stretch first, then of the others. Returns their number."""
    taken = 0
    for i in range(threads):
        at = _TICKETS + (me + i) % threads * _LINE
        while True:
            ticket = read(state, at)
            if ticket & _LOW >= ticket >> _HALF:
                break
            ticket = add(state, at, 1)  # perhaps already of the next round, which does no harm
            share = ticket & _LOW
            if share >= ticket >> _HALF:
                break
            _invoke(read(state, _CODE), read(state, _FRAME), share, read(state, _SHARES))
            add(state, _DONE, 1)
            taken += 1
    return taken


def _run_shares(state, code, frame, shares):
    """Offer the shares to all threads, take part, and return when all are done; alone if the pool is in use."""
    threads = min(read(state, _THREADS), shares)
    if threads < 2 or exchange(state, _BUSY, 1) != 0:
        for share in range(shares):
            _invoke(code, frame, share, shares)
        return
    write(state, _CODE, code)
    write(state, _FRAME, frame)
    write(state, _SHARES, shares)
    write(state, _DONE, 0)
    for i in range(threads):
        write(state, _TICKETS + i * _LINE, (shares * (i + 1) // threads << _HALF) + shares * i // threads)
    add(state, _ROUND, 1)
    _take_shares(state, np.int64(0), threads)  # a literal 0 would have it compiled a second time
    looks, patience = 0, read(state, _PATIENCE)
    while read(state, _DONE) < shares:
        looks += 1
        if looks < patience:
            relax()
        else:
            nap()
    write(state, _BUSY, 0)


@compiled
def _serve(state, me, rounds):
    """Take shares as they come, until `rounds` launches are over or none came for a while.

    Returns (whether the rounds are over, the nanoseconds that it took, the nanoseconds of them off its processor).
    """
    looks, seen, wall, own = 0, -1, nanoseconds(WALL), nanoseconds(OWN)
    while rounds > 0 and looks < read(state, _PATIENCE) and read(state, _STOP) == 0:
        now = read(state, _ROUND)
        if now != seen:
            seen = now
            threads = min(read(state, _THREADS), read(state, _SHARES))
            if me < threads and _take_shares(state, me, threads) > 0:
                looks = 0
                rounds -= 1
        relax()
        looks += 1
    took = nanoseconds(WALL) - wall
    return rounds == 0, took, took - (nanoseconds(OWN) - own)


def _borrowed(context, builder, kind, value):
    """An argument without reference count: each view of an array, one for each row, would change one number in memory.

    The caller keeps the array. With two threads a softmax of short rows took 1.7 times as long as with one.
    """
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


_RUN_SHARES = "nbkeras_run_shares"
symbol(_RUN_SHARES, functools.partial(cached_cfunc(types.void(_word, _word, _word, _word)), _run_shares))


@intrinsic
def _call_shares(typing, address, state, shares, args):
    """`_run_shares` for the kernel at `address`; its arguments go to a frame on the stack, which each thread reads."""
    provide(_RUN_SHARES)
    signature = types.void(_word, _word, _word, args)

    def generate(context, builder, signature, values):
        address, state, shares, packed = values
        kinds = [*signature.args[3].types, _word, _word]
        arguments = zip(signature.args[3].types, cgutils.unpack_tuple(builder, packed), strict=True)
        operands = [address, *(_borrowed(context, builder, kind, value) for kind, value in arguments)]
        frame_type = ir.LiteralStructType([operand.type for operand in operands])
        frame = cgutils.alloca_once(builder, frame_type)
        for i, operand in enumerate(operands):
            builder.store(operand, cgutils.gep_inbounds(builder, frame, 0, i))
        code = ir.Function(builder.module, _ONE_SHARE, builder.module.get_unique_name("nbkeras_one_share"))
        code.linkage = "internal"
        inside = ir.IRBuilder(code.append_basic_block())
        there = inside.bitcast(code.args[0], frame_type.as_pointer())
        found = [inside.load(cgutils.gep_inbounds(inside, there, 0, i)) for i in range(len(operands))]
        kernel = inside.inttoptr(found[0], context.call_conv.get_function_type(types.none, kinds).as_pointer())
        context.call_conv.call_function(inside, kernel, types.none, kinds, [*found[1:], *code.args[1:]])
        inside.ret_void()
        run = ir.FunctionType(ir.VoidType(), [_I64] * 4)
        numbers = [state, builder.ptrtoint(code, _I64), builder.ptrtoint(frame, _I64), shares]
        builder.call(cgutils.get_or_insert_function(builder.module, run, _RUN_SHARES), numbers)
        return context.get_dummy_value()

    return signature, generate


@compiled
def _enter(address, state, shares, *args):
    """All shares of the kernel at `address`."""
    _call_shares(address, state, shares, args)


# -------------------- the pool --------------------


class _Pool:
    """The threads of this process. A forked child has none of them and makes its own pool."""

    current: "_Pool | None" = None
    _making = threading.Lock()

    def __init__(self) -> None:
        self.most = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        memory = np.zeros(_TICKETS + (self.most + 1) * _LINE, np.int64)
        self._memory = memory[-memory.ctypes.data % 64 // 8 :]  # starts at a cache line
        self.state = self._memory.ctypes.data
        self.asleep: dict[int, threading.Lock] = {}  # the lock that a sleeping thread waits for, by its number
        self.threads = self.most
        _serve(self.state, self.most, 1)  # compiled or loaded now
        self._memory[_PATIENCE] = 1000
        start = time.perf_counter()
        _serve(self.state, self.most, 1)
        self._looks_per_second = 1000 / (time.perf_counter() - start)
        self._busy_until = 0.0
        self._be_patient(_IDLE_SECONDS)
        self._threads: list[threading.Thread] = []
        for i in range(1, self.most):
            thread = threading.Thread(target=self._work, args=(i,), name=f"nbkeras-{i}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads: use those that there are
                self.most = self.threads = i
                break
            self._threads.append(thread)

    @classmethod
    def get(cls) -> "_Pool":
        """The process's pool, made if need be."""
        with cls._making:
            if cls.current is None:
                cls.current = _Pool()
            return cls.current

    @property
    def threads(self) -> int:
        """The number of threads of a launch, the launching one included."""
        return self._count

    @threads.setter
    def threads(self, count: int) -> None:
        self._count = self._memory[_THREADS] = count

    def _work(self, me: int) -> None:
        lock = threading.Lock()
        lock.acquire()
        while not self._memory[_STOP]:
            goes_on, took, lost = _serve(self.state, me, _ROUNDS)
            self._judge(time.monotonic(), lost > max(_LOST, took // 10))
            if not goes_on:
                self.asleep[me] = lock
                lock.acquire()

    def _judge(self, now: float, lost: bool) -> None:
        """Choose how long threads spin. lost: whether one was kept off its processor."""
        if lost:
            self._busy_until = now + _BUSY_FOR
            self._be_patient(_BUSY_SECONDS)
        elif now > self._busy_until > 0:
            self._busy_until = 0.0
            self._be_patient(_IDLE_SECONDS)

    def _be_patient(self, seconds: float) -> None:
        self._memory[_PATIENCE] = int(seconds * self._looks_per_second)

    def wake(self, shares: int) -> None:
        """Wake the threads that some of the shares are for."""
        for me in range(1, min(shares, self._count)):
            lock = self.asleep.pop(me, None)
            if lock is not None:
                lock.release()

    def stop(self) -> None:
        """End the threads, before Python shuts down."""
        self._memory[_STOP] = 1
        for thread in self._threads:
            self.threads = self.most
            while thread.is_alive():
                self.wake(self.most)
                thread.join(0.001)


def _stop() -> None:
    if _Pool.current is not None:
        _Pool.current.stop()


def _forget() -> None:
    _Pool.current, _Pool._making = None, threading.Lock()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)


def set_threads(count: int) -> None:
    """Set the number of threads that compute each kernel.

    Args:
        count: From 1 to NUMBA_NUM_THREADS, which is the number of processors by default.

    Raises:
        ValueError: for another number.

    Example:
        >>> keras.set_threads(0)
        Traceback (most recent call last):
            ...
        ValueError: the number of threads must be 1 to ... (NUMBA_NUM_THREADS), received 0
    """
    pool = _Pool.get()
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= pool.most:
        raise ValueError(f"the number of threads must be 1 to {pool.most} (NUMBA_NUM_THREADS), received {count!r}")
    pool.threads = count


def get_threads() -> int:
    """The number of threads of each kernel."""
    return _Pool.get().threads


class Shared:
    """The function that is recorded for shared launches of a kernel."""

    def __init__(self, kernel: Callable):
        self.kernel, self.__name__ = kernel, kernel.__name__

    def __call__(self, address: int, shares: int, *args) -> None:
        pool = _Pool.current or _Pool.get()
        if pool.asleep:
            pool.wake(shares)
        _enter(address, pool.state, shares, *args)


_shared: dict[Callable, Shared] = {}
_addresses: dict[tuple, int] = {}


def share_count(size: int, least: int, *most: int) -> int:
    """The number of shares of `size` elements: each has `least` at least, and there are not more than any number in `most`."""
    return max(1, min(_MOST_SHARES, *most, size // least))


@compiled
def stretch(size, share, shares):
    """(first, last) of a share of `size` elements, inside kernels; cut at multiples of 64, which are whole cache lines."""
    first, last = size * share // shares, size * (share + 1) // shares
    return first // 64 * 64, size if share + 1 == shares else last // 64 * 64


def launch_shares(kernel: Callable, shares: int, *args) -> None:
    """Launch `kernel(*args, share, shares)` for each share, on several threads if there are several shares."""
    if device.gpu() is not None:  # twins on a GPU cut the work themselves
        device.launch(kernel, *args)
    elif shares == 1:
        device.launch(kernel, *args, 0, 1)
    elif not device.is_dry():
        shared = _shared.get(kernel) or _shared.setdefault(kernel, Shared(kernel))
        device.launch(shared, _address(kernel, *args, 0, shares), shares, *args)


def _address(kernel, *args) -> int:
    """The address of a kernel's code for the types of these arguments; compiled or loaded if need be.

    Called by address, the kernel is compiled once. Linked into `_enter`, it would be compiled again for it: 5 s for an LSTM.
    """
    key = (kernel, *[(a.dtype, a.ndim) if isinstance(a, np.ndarray) else type(a) for a in args])
    address = _addresses.get(key)
    if address is None:
        if not hasattr(kernel, "compile"):
            raise TypeError(
                f"launch_shares needs a compiled kernel: decorate {named(kernel)} with @compiled of nbkeras.kernels.runtime.cache"
            )
        signature = tuple(typeof(device.plain(a)) for a in args)
        try:
            kernel.compile(signature)
        except DOES_NOT_FIT as error:
            raise_named(kernel, args, error)
        code = kernel.overloads[signature]
        address = _addresses[key] = code.library.get_pointer_to_function(code.fndesc.llvm_func_name)
    return address
