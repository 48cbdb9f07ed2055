"""The threads that compute the shares of a kernel, without the GIL.

A launch with several shares runs `kernel(*args, share, shares)` for each share, on the calling thread and on the pool's threads.
An idle thread spins for about 300 us, then sleeps. The next launch with shares wakes it, and does not wait for it. Each thread
always has the same range of the shares, so that data stay in its cache; a thread that is done takes shares of the others. One
launch at a time uses the pool. Meanwhile, launches by other Python threads run only on the calling thread. All this is compiled,
so a native program wakes and uses the pool without Python.

If other processes use the processors too, a spinning thread uses up its time slices, and then must wait when there is work. A
thread that slept has time left, and wakes in 5 us. So if threads notice that they lost their processors, all threads sleep
instead of spinning for a while.
"""

import atexit
import os
import sys
import threading
import time

import numpy as np

from nbkeras.kernels.runtime import cgroups, code, compilers, fork_safety, pointers, variables

_LINE = 8  # numbers in a cache line of 64 bytes; each thread writes to a separate line
# Indices in the pool's memory. A launch writes the numbers of the first line before the tickets.
_CODE, _FRAME, _SHARES, _THREADS, _PATIENCE, _IDLE, _BUSY_PATIENCE, _BUSY_UNTIL = range(8)
_DONE, _BUSY, _ROUND, _STOP, _FAILURE, _TICKETS = (i * _LINE for i in range(1, 7))
_ASLEEP = 1  # in the line of a thread's ticket, the offset of a flag that is 1 while the thread sleeps
# A ticket has the end of a thread's range in the high half, and its next share in the low half.
_HALF, _LOW = 32, 0xFFFFFFFF
_IDLE_SECONDS, _BUSY_SECONDS = 300e-6, 100e-6  # time to spin on an idle machine, and next to busy processes
# a thread that waited this many nanoseconds (and a tenth of its time) for its processor assumes busy processes
_LOST = 1_000_000
_BUSY_FOR = 100_000_000  # how many nanoseconds the assumption lasts
_ROUNDS = 32  # a thread looks at the clock after this many launches


# -------------------- shares --------------------


@code.CompiledFunction
def _take_shares(state, me, threads):
    """Runs shares until none is left, first from its own range, then from the others. Returns how many it ran."""
    taken = 0
    for i in range(threads):
        at = _TICKETS + (me + i) % threads * _LINE
        while True:
            ticket = pointers.read(state, at)
            if ticket & _LOW >= ticket >> _HALF:
                break
            ticket = pointers.add(state, at, 1)  # the share may already belong to the next launch, which is harmless
            share = ticket & _LOW
            if share >= ticket >> _HALF:
                break
            failure = pointers.call(
                pointers.read(state, _CODE), pointers.read(state, _FRAME), share, pointers.read(state, _SHARES)
            )
            if failure != 0:
                pointers.write(state, _FAILURE, failure)
            pointers.add(state, _DONE, 1)
            taken += 1
    return taken


@code.CompiledFunction
def run_shares(state, entry, frame, shares):
    """Offers the shares to all threads, runs some, and returns when all are done. Runs all of them if the pool is in use.

    Returns 0, or the result of the entry whose kernel raised an exception.
    """
    if shares == 1:
        return pointers.call(entry, frame, 0, 1)
    threads = min(pointers.read(state, _THREADS), shares)
    if threads < 2 or pointers.exchange(state, _BUSY, 1) != 0:
        for share in range(shares):
            failure = pointers.call(entry, frame, share, shares)
            if failure != 0:
                return failure
        return 0
    pointers.write(state, _CODE, entry)
    pointers.write(state, _FRAME, frame)
    pointers.write(state, _SHARES, shares)
    pointers.write(state, _DONE, 0)
    pointers.write(state, _FAILURE, 0)
    for i in range(threads):
        pointers.write(state, _TICKETS + i * _LINE, (shares * (i + 1) // threads << _HALF) + shares * i // threads)
    pointers.add(state, _ROUND, 1)
    for i in range(1, threads):
        at = _TICKETS + i * _LINE + _ASLEEP
        if pointers.read(state, at) != 0 and pointers.exchange(state, at, 0) != 0:
            pointers.wake(state, at)
    _take_shares(state, np.int64(0), threads)  # Numba would compile a second version for a literal 0
    looks, patience = 0, pointers.read(state, _PATIENCE)
    while pointers.read(state, _DONE) < shares:
        looks += 1
        if looks < patience:
            pointers.relax()
        else:
            pointers.nap()
    failure = pointers.read(state, _FAILURE)
    pointers.write(state, _BUSY, 0)
    return failure


def _serve(state, me, rounds):
    """Takes shares as they come until _STOP is set. rounds: the most rounds without work; 0 for no limit.

    If a thread lost its processor for part of its time, all threads spin for a shorter time.
    """
    looks, seen, left, wall, own = (
        0,
        -1,
        _ROUNDS,
        pointers.nanoseconds(pointers.WALL),
        pointers.nanoseconds(pointers.OWN),
    )
    while pointers.read(state, _STOP) == 0:
        now = pointers.read(state, _ROUND)
        if now != seen:
            seen = now
            threads = min(pointers.read(state, _THREADS), pointers.read(state, _SHARES))
            if me < threads and _take_shares(state, me, threads) > 0:
                looks, left = 0, left - 1
        pointers.relax()
        looks += 1
        if rounds != 0:
            if looks >= rounds:
                return 0
        elif left == 0 or looks >= pointers.read(state, _PATIENCE):
            took = pointers.nanoseconds(pointers.WALL) - wall
            if took - (pointers.nanoseconds(pointers.OWN) - own) > max(_LOST, took // 10):
                pointers.write(state, _BUSY_UNTIL, pointers.nanoseconds(pointers.WALL) + _BUSY_FOR)
                pointers.write(state, _PATIENCE, pointers.read(state, _BUSY_PATIENCE))
            elif pointers.nanoseconds(pointers.WALL) > pointers.read(state, _BUSY_UNTIL):
                pointers.write(state, _PATIENCE, pointers.read(state, _IDLE))
            if left != 0:
                at = _TICKETS + me * _LINE + _ASLEEP
                pointers.write(state, at, 1)
                pointers.exchange(state, at, 1)  # orders this store before the loads that follow
                while (
                    pointers.read(state, at) != 0
                    and pointers.read(state, _ROUND) == seen
                    and pointers.read(state, _STOP) == 0
                ):
                    pointers.sleep_while(state, at, 1)
                pointers.write(state, at, 0)
            looks, left, wall, own = 0, _ROUNDS, pointers.nanoseconds(pointers.WALL), pointers.nanoseconds(pointers.OWN)
    return 0


def _wake_all(state, threads):
    """Wakes all threads that sleep."""
    for i in range(1, threads):
        at = _TICKETS + i * _LINE + _ASLEEP
        pointers.write(state, at, 0)
        pointers.wake(state, at)
    return 0


code.symbol("nbkeras_serve", _serve, "int64(int64, int64, int64)")
code.symbol("nbkeras_wake_all", _wake_all, "int64(int64, int64)")

# -------------------- the pool --------------------


def _memory(threads: int) -> np.ndarray:
    """Returns the memory of the pool, which starts at a cache line."""
    memory = np.zeros(_TICKETS + (threads + 1) * _LINE, np.int64)
    memory = memory[-memory.ctypes.data % 64 // 8 :]
    memory[_THREADS] = 1
    return memory


class Pool:
    """The threads of this process. A forked child has none of them and starts its own, over the same memory."""

    maximum = variables.threads() or cgroups.allowed_processors()
    memory = _memory(maximum)
    state = memory.ctypes.data
    current: "Pool | None" = None
    chosen: int | None = None  # the number of threads that `set_threads` set, here or in the parent of a fork
    _making = fork_safety.lock()

    def __init__(self) -> None:
        # compile or load both now, because that is impossible while Python shuts down
        self._serve, self._wake_all = code.c_function("nbkeras_serve"), code.c_function("nbkeras_wake_all")
        self.maximum = Pool.maximum
        self._serve(self.state, self.maximum, 1)
        start = time.perf_counter()
        self._serve(self.state, self.maximum, 1000)
        looks_per_second = 1000 / (time.perf_counter() - start)
        self.memory[_IDLE] = self.memory[_PATIENCE] = int(_IDLE_SECONDS * looks_per_second)
        self.memory[_BUSY_PATIENCE] = int(_BUSY_SECONDS * looks_per_second)
        self._threads: list[threading.Thread] = []
        self._starting = fork_safety.lock()
        self.threads = min(Pool.chosen or variables.threads() or cgroups.usable_processors(), self.maximum)

    @classmethod
    def get(cls) -> "Pool":
        """Returns the process's pool; makes it if necessary."""
        with cls._making:
            if cls.current is None:
                cls.current = Pool()
            return cls.current

    @property
    def threads(self) -> int:
        """The number of threads of a launch, including the calling thread."""
        return int(self.memory[_THREADS])

    @threads.setter
    def threads(self, count: int) -> None:
        with self._starting:
            for i in range(len(self._threads) + 1, count):
                thread = threading.Thread(target=self._serve, args=(self.state, i, 0), name=f"nbkeras-{i}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system gives no more threads, so use those that exist
                    self.maximum = count = i
                    break
                self._threads.append(thread)
            self.memory[_THREADS] = count

    def stop(self) -> None:
        """Ends the threads, before Python shuts down."""
        self.memory[_STOP] = 1
        for thread in self._threads:
            while thread.is_alive():
                self._wake_all(self.state, self.maximum)
                thread.join(0.001)


def _stop() -> None:
    if Pool.current is not None:
        Pool.current.stop()


def _forget() -> None:
    if Pool.current is not None:
        Pool.chosen = Pool.current.threads
    Pool.current = None
    Pool.memory[:] = 0
    Pool.memory[_THREADS] = 1


atexit.register(_stop)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)


def set_threads(count: int) -> None:
    """Set the number of threads that compute each kernel.

    By default it is NUMBA_NUM_THREADS if that is set, else the number of processors that this process can keep busy: those that
    it may use, or fewer in a container whose quota of processor time is less.

    Args:
        count: From 1 to NUMBA_NUM_THREADS, which may be 1 to 1024, or to the number of processors that this process may use.

    Raises:
        ValueError: for another number.

    Example:
        >>> keras.set_threads(0)
        Traceback (most recent call last):
            ...
        ValueError: the number of threads must be 1 to ... (NUMBA_NUM_THREADS), received 0
    """
    maximum = Pool.maximum if Pool.current is None else Pool.current.maximum
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= maximum:
        is_long = isinstance(count, int) and abs(count) > sys.maxsize  # Python writes no more than 4300 digits
        received = "an int above 2**63" if is_long else repr(count)
        raise ValueError(f"the number of threads must be 1 to {maximum} (NUMBA_NUM_THREADS), received {received}")
    Pool.chosen = count
    compilers.use_processors(count)
    if Pool.current is not None:  # otherwise the first launch makes the pool
        Pool.current.threads = count


def get_threads() -> int:
    """The number of threads of each kernel."""
    return Pool.get().threads
