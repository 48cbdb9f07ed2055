"""The limits of a processor: multiply-adds per second, bytes read per second from each cache, and the times between threads.

Used by run_roofline.py, run_scaling.py and run_probe.py. The loops of `calculate` and `read` use vectors of the process's level,
so that LLVM does not choose their size. Their innermost iterations are multiply-adds in registers, and loads with an `or`.
"""

import glob
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from work import Limits, Store

from nbkeras.kernels import compiled, launch_shares
from nbkeras.kernels.runtime import pointers
from nbkeras.kernels.runtime.processor import has

_BYTES = 64 if has("avx512f") else 32 if has("avx") else 16  # of a vector
_CHAINS = 12  # independent sums: enough for the latency of two units, and few enough for 16 registers
_PAUSE = 0.002  # seconds, after which the threads of the pool sleep
_PROBE = 0.01  # seconds of each of five measurements of a probe
# A processor is disturbed below this share of the best rate, or above this multiple of the lowest latency between processors.
_SLOWER, _LATER = 0.9, 2.5
_INDEX = ir.IntType(64)


# -------------------- loops --------------------


def _repeated(builder, count, first, iteration):
    """Values in registers after `count` calls (at least one) of `iteration(number, values)`, starting from `first`."""
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    number, before = builder.phi(_INDEX), [builder.phi(value.type) for value in first]
    after = iteration(number, before)
    following = builder.add(number, _INDEX(1))
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    for phi, start, value in zip([number, *before], [_INDEX(0), *first], [following, *after], strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, loop)
    builder.position_at_end(end)
    return after


@intrinsic
def _multiply_adds(typing, count, x, y):
    """`count` multiply-adds of every lane of every sum; the sums start from different numbers."""

    def generate(context, builder, signature, args):
        count, *factors = args
        lanes = _BYTES // 4
        vector = ir.VectorType(ir.FloatType(), lanes)
        zero = ir.IntType(32)(0)

        def everywhere(value):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))

        x, y = map(everywhere, factors)
        name, kind = f"llvm.fmuladd.v{lanes}f32", ir.FunctionType(vector, [vector] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
        first = [ir.Constant(vector, [float(chain * lanes + i) for i in range(lanes)]) for chain in range(_CHAINS)]
        sums = _repeated(
            builder, count, first, lambda _, values: [builder.call(multiply_add, [each, x, y]) for each in values]
        )
        total = sums[0]
        for each in sums[1:]:
            total = builder.fadd(total, each)
        return builder.extract_element(total, zero)

    return types.float32(types.int64, types.float32, types.float32), generate


@intrinsic
def _all_bits(typing, array):
    """All numbers of an int64 array, joined by `or`. The array's size is a multiple of the vectors of an iteration."""

    def generate(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0])
        lanes = _BYTES // 8
        vector = ir.VectorType(_INDEX, lanes)

        def iteration(number, values):
            first = builder.mul(number, _INDEX(_CHAINS * lanes))
            joined = []
            for chain, value in enumerate(values):
                at = builder.gep(source.data, [builder.add(first, _INDEX(chain * lanes))])
                joined.append(builder.or_(value, builder.load(builder.bitcast(at, vector.as_pointer()), align=8)))
            return joined

        count = builder.sdiv(source.nitems, _INDEX(_CHAINS * lanes))
        found = _repeated(builder, count, [ir.Constant(vector, None)] * _CHAINS, iteration)
        total = found[0]
        for each in found[1:]:
            total = builder.or_(total, each)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.int64(array), generate


@njit("float32(int64, float32, float32)", nogil=True)
def calculate(rounds, x, y):
    return _multiply_adds(rounds, x, y)


@njit("int64(int64[::1], int64)", nogil=True)
def read(array, rounds):
    found = 0
    for _ in range(rounds):
        found |= _all_bits(array)
    return found


@njit("void(int64, int64, int64)", nogil=True)
def take_turns(state, me, rounds):
    """Wait for an even number (me = 0) or an odd one (me = 1), and write the next number; repeat `rounds` times."""
    for _ in range(rounds):
        while pointers.read(state, 0) & 1 != me:
            pointers.relax()
        pointers.write(state, 0, pointers.read(state, 0) + 1)


@compiled
def _nothing(share, shares):
    pass


# -------------------- measuring --------------------


def least_seconds(functions: Sequence[Callable[[int], Any]], seconds: float, of_five: Callable = min) -> float:
    """The minimum seconds of a round of `functions(rounds)`, which run at once, each on a thread with its own processor.

    of_five: reduces five measurements of at least `seconds` to one.
    """
    processors = iter(sorted(os.sched_getaffinity(0)))

    def settle() -> None:
        os.sched_setaffinity(0, [next(processors)])  # of this thread, so that no thread waits for another

    with ThreadPoolExecutor(len(functions), initializer=settle) as threads:

        def together(rounds: int) -> float:
            start = time.perf_counter()
            list(threads.map(lambda function: function(rounds), functions))
            return time.perf_counter() - start

        rounds = 1
        while min(together(rounds), together(rounds)) < seconds:  # the first one also starts the threads
            rounds *= 2
        return of_five([together(rounds) for _ in range(5)]) / rounds


def caches() -> list[tuple[str, int, int]]:
    """Each level of cache: its name, its bytes, and how many processors share it. RuntimeError if the system hides them."""
    found = {}
    for folder in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        level, kind, size, shared = (_line(f"{folder}/{name}") for name in ("level", "type", "size", "shared_cpu_map"))
        if kind != "Instruction":
            sharing = bin(int(shared.replace(",", ""), 16)).count("1")
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024, sharing
    if not found:
        raise RuntimeError(
            "the sizes of the caches are read from /sys/devices/system/cpu/cpu0/cache, which is not there"
        )
    return [(name, *values) for name, values in found.items()]


def _line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def numbers(size: float) -> np.ndarray:
    """An int64 array of about this many bytes, which starts at a page."""
    per_iteration = _CHAINS * _BYTES
    count = max(1, int(size) // per_iteration) * per_iteration
    memory = np.ones(count + 4096, np.uint8)
    first = -memory.ctypes.data % 4096
    return memory[first : first + count].view(np.int64)


def rate(threads: int, seconds: float, of_five: Callable = min) -> float:
    """Multiply-adds a second of all threads together; for the arguments see `least_seconds`."""
    x, y, rounds = np.float32(0.999), np.float32(0.001), 1000
    took = least_seconds([lambda n: calculate(n * rounds, x, y)] * threads, seconds, of_five)
    return threads * rounds * _CHAINS * _BYTES / 4 / took


def between(seconds: float, of_five: Callable = min) -> float:
    """Seconds of latency from one processor to another; for the arguments see `least_seconds`."""
    memory, turns = np.zeros(1, np.int64), 100
    state = memory.ctypes.data
    sides = [lambda n, me=me: take_turns(state, me, n * turns) for me in (0, 1)]
    return least_seconds(sides, seconds, of_five) / turns / 2


class Probe:
    """Checks whether the processors are as fast as at their best.

    A virtual machine may lose a processor to others, or have it moved to another chiplet, for seconds to minutes: then the
    latency between them is five times as long, and a step of two threads takes up to 1.7 times as long. The probe uses the mean
    of five measurements, because the minimum hides the time that others take.
    """

    def __init__(self, threads: int, best: float = 0.0, shortest: float = math.inf):
        self.threads, self.best, self.shortest = threads, best, shortest

    def is_undisturbed(self) -> bool:
        """Compare with the best measurements so far."""
        found, way = rate(self.threads, _PROBE, statistics.fmean), 0.0
        if self.threads > 1:
            way = between(_PROBE, statistics.fmean)
        self.best, self.shortest = max(self.best, found), min(self.shortest, way)
        return found >= _SLOWER * self.best and way <= _LATER * self.shortest

    def settles(self, seconds: float) -> bool:
        """True if the processors are undisturbed, now or within this many seconds."""
        until = time.monotonic() + seconds
        while not (found := self.is_undisturbed()) and time.monotonic() < until:
            time.sleep(0.5)
        return found


def measure(threads: int, quick: bool) -> Limits:
    """The limits of this many threads.

    A cache is read in pieces that fill half of it. Memory is read in pieces that fill the last cache four times.
    """
    seconds, processors = 0.003 if quick else 0.05, len(os.sched_getaffinity(0))
    multiply_adds = rate(threads, seconds)
    stores, largest = [], 0.0
    for name, size, sharing in caches():
        # threads at one cache, if they are spread evenly
        together = -(-threads * min(sharing, processors) // processors)
        stores.append((name, threads * size / together, threads * size / together / 2))
        largest = max(largest, stores[-1][1])
    stores.append(("memory", float("inf"), largest if quick else 4 * largest))
    return Limits(
        threads, multiply_adds, [Store(*named, _bandwidth(threads, size, seconds)) for *named, size in stores]
    )


def _bandwidth(threads: int, size: float, seconds: float) -> float:
    """Bytes per second that the threads read together, each from its part of this many bytes."""
    arrays = [numbers(size / threads) for _ in range(threads)]
    took = least_seconds([lambda n, array=array: read(array, n) for array in arrays], seconds)
    return sum(array.nbytes for array in arrays) / took


def starts(threads: int, quick: bool) -> dict[str, float]:
    """Seconds to launch an empty kernel, and of the latency between two processors.

    A launch has one share, or one for each thread; then the threads wait for work, or sleep.
    """

    def launch(shares: int, pause: float) -> float:
        times = []
        for _ in range(20 if quick else 500):
            time.sleep(pause)
            begin = time.perf_counter()
            launch_shares(_nothing, shares)
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    launch(threads, 0)  # compiles
    cases = {"one share": (1, 0.0), "shares for threads that wait": (threads, 0.0)}
    cases["shares for threads that sleep"] = threads, _PAUSE
    found = {f"a launch of {name}": launch(*case) for name, case in cases.items()}
    if threads > 1:
        found["a number from one processor to another"] = between(0.001 if quick else 0.05)
    return found
