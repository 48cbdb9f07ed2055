"""Floor 1: the costs of each launch of a program or of an eager step: time, bytes and operations.

A launch lists its arrays but not which of them it writes. So one run, which is not timed, compares the arrays before and after
each launch. A temporary array counts as written at its first use, even if its bytes do not change. Other arrays that a kernel
changes also count as read: sums, weights and arrays that are updated in place.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write
from nbkeras.engine.layer_stack import LayerScope, layer_stack
from nbkeras.engine.program import Bound
from nbkeras.kernels.recurrent.recurrence import Backward, Forward
from nbkeras.kernels.runtime import device, threads

Array = np.ndarray


class Launch(NamedTuple):
    """A launch of a step: its bytes and operations (None: not counted), and the start and seconds of each timed run."""

    place: LayerScope
    kernel: str
    read: int
    written: int
    flops: int | None
    starts: list[float]
    seconds: list[float]


def measure(bound: Bound, runs: int) -> list[Launch]:
    """Replay a program launch by launch, with the inputs of its last run."""
    launches, program = [], bound.program
    steps, start = bound.steps, device.address(bound.arena)
    for number, ((function, args), place) in enumerate(zip(steps, program.layers, strict=True)):
        new = {start + buffer.offset for buffer in program.buffers if buffer.first == number}
        launches.append(_inspected(function, args, place, new))
    for _ in range(runs):
        for (function, args), launch in zip(steps, launches, strict=True):
            _time(function, args, launch)
    return launches


def measure_eagerly(step: Callable[[], Any], runs: int) -> list[Launch]:
    """Run an eager step, and measure each of its launches."""
    launches: list[Launch] = []
    for _ in range(1 + runs):
        with device.run_by(_Runner(launches)):
            step()
    return launches


class _Runner:
    """Inspects the launches of the first run. In later runs, it times those launches that occur again."""

    def __init__(self, launches: list[Launch]):
        self.launches = launches
        self._is_first, self._position = not launches, 0
        self._seen: dict[int, Any] = {}  # the owners of used memory; kept alive so that ids stay unique

    def run(self, function: Callable, args: tuple) -> None:
        if self._is_first:
            self.launches.append(_inspected(function, args, layer_stack.place(), self._new(args)))
            return
        known = self.launches[self._position] if self._position < len(self.launches) else None
        self._position += 1
        if known is not None and known.kernel == _name(function):
            _time(function, args, known)
        else:  # the step does not always launch the same kernels
            device.run(function, args)

    def _new(self, args: tuple) -> set[int]:
        """The addresses of temporary arrays that no launch has used before."""
        arrays = [a for a in args if isinstance(a, device.ARRAYS)]
        found = {device.address(a) for a in arrays if id(device.root(a)) not in self._seen}
        found -= {device.address(a) for a in arrays if device.is_persistent(device.root(a))}
        self._seen.update((id(device.root(a)), device.root(a)) for a in arrays)
        return found


@contextlib.contextmanager
def restoring(bound: Bound) -> Iterator[None]:
    """In the block, the program may run; afterwards the arrays that it writes have their values again."""
    arrays, written = bound.program.arrays.values(), bound.program.written
    owners = {id(owner): owner for owner in map(device.root, arrays) if id(owner) in written}
    kept = [(owner, device.read(owner).copy("K")) for owner in owners.values()]
    try:
        yield
    finally:
        for owner, before in kept:
            copy_on_write.write(owner, before)


def _time(function: Callable, args: tuple, launch: Launch) -> None:
    gpu, start = device.gpu(), time.perf_counter()
    device.run(function, args)
    if gpu is not None:
        gpu.synchronize()
    launch.seconds.append(time.perf_counter() - start)
    launch.starts.append(start)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", repr(function))


def _inspected(function: Callable, args: tuple, place: LayerScope, new: set[int]) -> Launch:
    """Run a launch and find its costs. new: the addresses of buffers that no earlier launch has used."""
    arrays = {
        (device.address(a), a.shape, a.strides): a for a in args if isinstance(a, device.ARRAYS) and a.size
    }.values()
    before = [_bytes(array) for array in arrays]
    device.run(function, args)
    if isinstance(function, np.ufunc):
        outputs = [a for a in args[function.nin :] if isinstance(a, device.ARRAYS)]
        is_written = [any(a is output for output in outputs) for a in arrays]
    elif function is device.copy:
        is_written = [a is args[1] for a in arrays]
    else:
        is_written = [device.address(a) in new or old != _bytes(a) for a, old in zip(arrays, before, strict=True)]
    is_read = [
        not changed or _is_added_to(function, device.address(a) in new)
        for a, changed in zip(arrays, is_written, strict=True)
    ]
    read, written = (
        sum(a.nbytes for a, counts in zip(arrays, chosen, strict=True) if counts) for chosen in (is_read, is_written)
    )
    return Launch(place, _name(function), read, written, _flops(function, args), [], [])


def _is_added_to(function: Callable, is_new: bool) -> bool:
    """Whether a kernel also reads an array that it writes, as kernels that update weights and sums do."""
    return not is_new and not isinstance(function, np.ufunc) and function not in (device.copy, device.fill)


def _bytes(array: Array) -> bytes:
    return np.ascontiguousarray(device.read(array)).tobytes()


# -------------------- operations --------------------

# The number of additions and multiplications of matrix and convolution kernels, from their arguments. Winograd's algorithm needs
# fewer but counts as the plain convolution, so that the numbers are comparable.
_FLOPS: dict[str, Callable[..., int]] = {
    "dense.multiply": lambda ta, tb, a, b, bias, c, batches, m, n, k, *_: 2 * batches * m * n * k,
    "quantized.multiply_integers": lambda a, b, c, m, n, k, *_: 2 * m * n * k,
    "quantized.multiply_converted": lambda a, b, panels, c, m, n, k, *_: 2 * m * n * k,
    "attention.multiply_heads": lambda ta, tb, a, b, c, *sizes: 2 * math.prod(sizes[:6]),
    "implicit_gemm.forward_bands": lambda x, flat, kernel, form, bias, y, buffers, tables, window, groups, *_: (
        2 * y.size * window[0] * window[1] * (x.shape[3] // groups)
    ),
    "implicit_gemm.kernel_gradient_bands": lambda x, flat, dy, parts, *_: 2 * dy.size // dy.shape[3] * parts[0].size,
    "implicit_gemm.input_gradient_bands": lambda dy, flat, kernel, *_: 2 * dy.size // dy.shape[3] * kernel.size,
    "implicit_gemm.forward": lambda x, kernel, bias, y, *_: 2 * y.size * math.prod(kernel.shape[:3]),  # on a GPU
    "implicit_gemm.kernel_gradient": lambda x, dy, dkernel, *_: 2 * dy.size * math.prod(dkernel.shape[:3]),
    "implicit_gemm.input_gradient": lambda dy, kernel, *_: 2 * dy.size * math.prod(kernel.shape[:3]),
    "integers.multiply_bands": lambda x, packed, start, factors, bias, steps, y, tables, runs, run, *_: (
        2 * y.size * runs * run
    ),
    "integers.convolve": lambda x, w, factors, bias, y, *_: 2 * y.size * math.prod(w.shape[:3]),  # on a GPU
    # the third number of a tiling is the number of channels
    "winograd.convolve_tiles": lambda x, kernel, bias, y, buffers, tiling, *_: 2 * 9 * y.size * tiling[2],
    "winograd.kernel_gradient_tiles": lambda x, dy, parts, buffers, tiling, *_: 2 * 9 * dy.size * tiling[2],
    "direct.rows_by_nine": lambda x, flat, weights, y, *_: 2 * 9 * y.size,
}


def _recurrent_forward(*args: Any) -> int:
    a = Forward(*args[: len(Forward._fields)])  # further arguments describe a share
    (batch, length, features), width = a.x.shape, a.kernel.shape[1]
    return 2 * batch * length * width * (features + a.h_last.size // max(1, batch))


def _recurrent_backward(*args: Any) -> int:
    """Counts the gradients of both kernels and the states, and of the input if it is needed."""
    a = Backward(*args[: len(Backward._fields)])
    width = a.dz.size // max(1, a.batch * a.block)
    return 2 * a.batch * a.length * width * (a.features * (2 if a.dx.size else 1) + 2 * a.units)


for _kind in ("lstm", "gru", "simple_rnn"):
    _FLOPS[f"{_kind}.{_kind}_forward_share"] = _recurrent_forward
    _FLOPS[f"{_kind}.{_kind}_backward_share"] = _recurrent_backward


def _flops(function: Callable, args: tuple) -> int | None:
    """The additions and multiplications of a launch; None for kernels that are not counted."""
    if isinstance(function, threads.Shared):
        function, args = function.kernel, args[1:]
    module = getattr(function, "__module__", None) or ""
    count = _FLOPS.get(f"{module.rpartition('.')[2]}.{_name(function)}")
    return None if count is None or not module.startswith("nbkeras.kernels.") else count(*args)
