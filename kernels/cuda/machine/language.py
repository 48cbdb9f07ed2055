"""The `cuda`, `math`, `min` and `max` of kernels in the simulator: Numba's simulated module, completed.

A GPU differs in these points; the simulator cannot show them:

* Numba's integers have 64 bits in any computation: uint32 * uint32 is uint64, while NumPy's wraps at 32 bits. Python's integers
  never overflow. Compile a device function that computes with integers by `numba.njit` to see its result.
* An integer times a float32 is a float64 on a GPU and a float32 here; so is a float32 times a literal. (Float arguments of
  kernels are float64 here too.)
* Here each operation is rounded; on a GPU a multiplication and an addition may be fused. Division, exp and others may differ in
  the last bits, by more with fastmath.
* `x // 0` of integers and an index out of range are errors here, and undefined on a GPU.

As on a GPU, `max` and `min` of two floats return the one that is not NaN.
"""

import math as real_math
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from operator import add, and_, or_, sub, xor
from typing import Any

import numpy as np
from numba.cuda.simulator.kernelapi import FakeCUDAModule

from nbkeras.kernels.cuda.machine.checker import Checked, Journal, name_at

WARP = 32
_ALL = 0xFFFFFFFF


def poisoned(shape: Any, dtype: Any) -> np.ndarray:
    """Returns an array of undefined content: all bits are 1."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8).fill(0xFF)
    return array


def _numpy_dtype(dtype: Any) -> np.dtype:
    return dtype if isinstance(dtype, np.dtype) else np.dtype(getattr(dtype, "name", dtype))


class _Shared:
    """Shared memory of the running block. Each source line that creates an array has one."""

    def array(self, shape, dtype, alignment=None):
        frame, block, dtype = sys._getframe(1), cuda.block, _numpy_dtype(dtype)
        where = frame.f_code, frame.f_lasti
        if where not in block.shared:
            block.shared[where] = _checked(poisoned(shape, dtype), frame)
        return block.shared[where]


class _Local:
    """Local arrays of a thread."""

    def array(self, shape, dtype, alignment=None):
        array = poisoned(shape, _numpy_dtype(dtype))
        frame = sys._getframe(1)
        return array if cuda.journal is None else Checked(array, name_at(frame.f_code, frame.f_lineno), None)


def _checked(array: np.ndarray, frame: Any) -> Any:
    """Returns the shared memory of a frame's source line, in the form that the kernel gets."""
    if cuda.journal is None:
        return array
    cuda.journal.keep(array)
    return Checked(array, name_at(frame.f_code, frame.f_lineno), cuda.journal)


class _Atomic:
    """Atomic changes of an element."""

    @staticmethod
    def _change(array: Any, index: Any, new: Callable) -> Any:
        if type(array) is Checked:
            array = array.atomically(index)
        old = array[index]
        array[index] = new(old)
        return old

    def cas(self, array, index, expected, value):
        return self._change(array, index, lambda old: value if old == expected else old)

    def compare_and_swap(self, array, expected, value):
        return self._change(array, (0,) * array.ndim, lambda old: value if old == expected else old)

    def inc(self, array, index, top):
        return self._change(array, index, lambda old: 0 if old >= top else old + 1)

    def dec(self, array, index, top):
        return self._change(array, index, lambda old: top if old == 0 or old > top else old - 1)


def _atomic(combine: Callable) -> Callable:
    def change(self, array, index, value):
        return self._change(array, index, lambda old: combine(old, value))

    return change


for _name, _function in {
    **{"add": add, "sub": sub, "and_": and_, "or_": or_, "xor": xor, "exch": lambda old, value: value},
    **{"max": np.maximum, "min": np.minimum, "nanmax": np.fmax, "nanmin": np.fmin},
}.items():
    setattr(_Atomic, _name, _atomic(_function))  # type: ignore[arg-type]


class _Module(FakeCUDAModule):
    """The `cuda` of kernels."""

    thread: Any = None  # the running _Thread, if threads are greenlets
    block: Any = None  # the running _Block
    journal: Journal | None = None  # set in strict mode
    threadIdx: Any = None
    blockIdx: Any = None

    def __init__(self):
        super().__init__((1, 1, 1), (1, 1, 1), 0)
        self._shared, self._local, self._atomic = _Shared(), _Local(), _Atomic()

    @property
    def laneid(self) -> int:
        index, shape = self.threadIdx, self.blockDim
        return (index.x + shape.x * (index.y + shape.y * index.z)) % WARP

    def grid(self, axes):
        if axes == 1:
            return self.blockIdx.x * self.blockDim.x + self.threadIdx.x
        return super().grid(axes)

    def fma(self, x, y, z):
        """Computes x * y + z of floats of the same dtype, rounded once."""
        if x.dtype == np.float32:
            return np.float32(np.float64(x) * y + z)
        exact = np.isfinite(x) and np.isfinite(y) and np.isfinite(z)
        return np.float64(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) if exact else x * y + z

    def threadfence(self) -> None:
        if self.journal is not None:
            self.journal.fence()

    threadfence_system = threadfence

    def syncthreads(self) -> None:
        cuda.thread.wait("block", None)

    def syncwarp(self, mask=_ALL) -> None:
        cuda.thread.wait("warp", None, mask)

    def syncthreads_count(self, value):
        return sum(map(bool, cuda.thread.wait("block", value)))

    def syncthreads_and(self, value):
        return int(all(cuda.thread.wait("block", value)))

    def syncthreads_or(self, value):
        return int(any(cuda.thread.wait("block", value)))

    def _shuffle(self, mask, value, lane):
        values = cuda.thread.wait("warp", value, mask)
        if not 0 <= lane < WARP:
            return value
        return values[lane] if lane in values else poisoned((), np.asarray(value).dtype)[()]

    def shfl_sync(self, mask, value, lane):
        return self._shuffle(mask, value, lane % WARP)

    def shfl_up_sync(self, mask, value, delta):
        return self._shuffle(mask, value, self.laneid - delta)

    def shfl_down_sync(self, mask, value, delta):
        return self._shuffle(mask, value, self.laneid + delta)

    def shfl_xor_sync(self, mask, value, bits):
        return self._shuffle(mask, value, self.laneid ^ bits)

    def all_sync(self, mask, value):
        return all(cuda.thread.wait("warp", value, mask).values())

    def any_sync(self, mask, value):
        return any(cuda.thread.wait("warp", value, mask).values())

    def eq_sync(self, mask, value):
        return len(set(cuda.thread.wait("warp", value, mask).values())) == 1

    def ballot_sync(self, mask, value):
        return sum(1 << lane for lane, v in cuda.thread.wait("warp", value, mask).items() if v)


cuda = _Module()


class _Math(types.ModuleType):
    """`math` as on a GPU: in the argument's dtype, with infinity and NaN instead of exceptions."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(real_math, name)
        if callable(found):
            found = _of_argument(found)
        setattr(self, name, found)
        return found


def _of_argument(function: Callable) -> Callable:
    """Returns a version of a function of Python's math that gives a float32 for a float32."""

    def call(x, *others):
        try:
            result = function(x, *others)
        except ValueError:
            result = real_math.nan
        except OverflowError:
            result = real_math.inf
        return x.dtype.type(result) if isinstance(x, np.floating) and isinstance(result, float) else result

    return call


def _rounded_once(function: Callable) -> Callable:
    """Rounds float32 results to 0.5 ulp: a GPU's functions err by one or two ulp, some of NumPy's by four."""

    def call(x: Any) -> Any:
        return np.float32(function(np.float64(x))) if isinstance(x, np.float32) else function(x)

    return call


math = _Math("math")
for _name, _function in {
    **{
        name: _rounded_once(getattr(np, name))
        for name in "exp exp2 expm1 log log1p log2 log10 sin cos tan sinh cosh tanh".split()
    },
    **{name: getattr(np, name) for name in ("sqrt", "hypot", "floor", "ceil", "trunc", "fabs", "copysign")},
    **{name: getattr(np, name) for name in ("isnan", "isinf", "isfinite", "fmod", "nextafter")},
    **{"atan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "atan2": np.arctan2, "pow": np.power},
    **{"asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh},
}.items():
    setattr(math, _name, _function)


def _of_floats(python: Callable, gpu: Callable) -> Callable:
    def choose(*args, **options):
        if len(args) == 2 and any(isinstance(arg, float | np.floating) for arg in args):
            return gpu(*args)
        return python(*args, **options)

    return choose


# a GPU returns the float that is not NaN
minimum, maximum = _of_floats(min, np.fmin), _of_floats(max, np.fmax)
