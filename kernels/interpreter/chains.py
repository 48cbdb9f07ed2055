"""Chains: launches of NumPy's loops in a recorded program, joined into one launch.

Such loops spend their time reading and writing memory. In a chain the values between them stay in registers or in the first-level
cache, and an array that no other launch reads is never made. This module describes what a chain computes, for all devices.
cuda/interpreter/launches.py turns a description into a CUDA kernel, programs.py into a program for the interpreter.

A description is `dtype:kinds of the inputs|ops|values to store`, as in `float32:aan|multiply 0 1;add 3 2|4`: values 0 and 1 are
arrays, 2 is a number, and the ops make values 3 and 4. Kinds of inputs are: a, an array; b, one of booleans; s, one with a single
element; v, one of the last axes (a bias); r, one number for each row of the last axis; n, a number. An op with a name that ends
in ? makes booleans. A chain may end with a reduction of the last axes: `|add 5 64` computes sums of 64 elements of value 5.
"""

import functools
import itertools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.kernels.runtime.device_array import DeviceArray
from nbkeras.kernels.runtime.ref import is_contiguous

_MAX_ARRAYS, _MAX_INPUTS = 24, 48  # limits of a chain: pointers of a CUDA kernel, registers of the interpreter
_MAX_ELEMENTS = 2**31  # CUDA kernels compute indices in 32 bits
_FOLDS = (np.add, np.multiply, np.maximum, np.minimum)
_OF_BOOLEANS = {"logical_and?", "logical_or?", "logical_xor?", "logical_not?"}

Step = tuple[Callable, tuple]


class Chain(NamedTuple):
    """The computation of a chain. Its arguments are the inputs (arrays and numbers), then the arrays to store to."""

    dtype: str
    kinds: str
    ops: tuple[tuple[str, tuple[int, ...]], ...]  # name, and the indices of its operands among the values
    stored: tuple[int, ...]
    # a reduction: ufunc, index of the value, number of elements; the result goes to the last argument
    fold: tuple[str, int, int] | None = None

    def __str__(self) -> str:
        ops = ";".join(" ".join([name, *map(str, operands)]) for name, operands in self.ops)
        fold = "|" + " ".join(map(str, self.fold)) if self.fold else ""
        return f"{self.dtype}:{self.kinds}|{ops}|{';'.join(map(str, self.stored))}{fold}"

    @classmethod
    def parsed(cls, text: str) -> "Chain":
        """Returns the chain of a description."""
        head, ops, stored, *folds = text.split("|")
        dtype, kinds = head.split(":")
        named = [op.split() for op in ops.split(";")]
        numbered = tuple((name, tuple(map(int, operands))) for name, *operands in named)
        outputs = tuple(int(number) for number in stored.split(";") if number)
        return cls(dtype, kinds, numbered, outputs, *((name, int(i), int(n)) for name, i, n in map(str.split, folds)))


def operation(function: Callable) -> str:
    """Returns the name of the op that a launched function computes for each element; '' if it is unknown."""
    return function.__name__ if isinstance(function, np.ufunc) else getattr(function, "fuses_as", "")


def of_steps(kernel: Callable[..., Iterator[tuple]]) -> Callable[..., None]:
    """Decorates a kernel that consists of launches: it yields (function, *args), which run in order."""

    @functools.wraps(kernel)
    def run(*args: Any) -> None:
        for function, *rest in kernel(*args):
            function(*rest)

    run.steps = kernel  # type: ignore[attr-defined]
    return run


def fuse(
    steps: Sequence[Step],
    memory_of: Callable[[Any], Any],
    needed_after: Callable[[Any, int], bool],
    names: Container[str],
    joined: Callable[[Chain], Callable],
) -> list[Step]:
    """Returns the steps, with each chain replaced by one step.

    Arguments that represent arrays have a shape, strides and a dtype. memory_of(array): a key of the array's memory; None for a
    value that is not an array. needed_after(array, step): True if something reads the array's memory after that step or after the
    program. names: the ops that the device has. joined(chain): makes the function that computes a chain.
    """
    result: list[Step] = []
    chain: _Links | None = None
    for index, (function, args) in enumerate(steps):
        name = operation(function)
        if chain is not None and not chain.take(name, args):
            folds = "fold" in names and name == "fold" and chain.take_fold(*args)
            if folds:
                chain.steps.append((function, args))
            result += chain.finish(index if folds else index - 1, needed_after, joined)
            chain = None
            if folds:
                continue
        if chain is None:
            chain = _Links(memory_of, names)
            if not chain.take(name, args):
                chain = None
                result.append((function, args))
                continue
        chain.steps.append((function, args))
    return result if chain is None else result + chain.finish(len(steps) - 1, needed_after, joined)


class _Links:
    """The steps of the current chain, and the value that each memory holds."""

    def __init__(self, memory_of: Callable[[Any], Any], names: Container[str]):
        self.steps: list[Step] = []
        self._memory_of, self._names = memory_of, names
        self._inputs: list[tuple[str, Any]] = []  # (kind, argument)
        self._ops: list[tuple[str, list]] = []  # (name, operands); an operand is ("in", i) or ("op", i)
        self._holds: dict[Any, tuple] = {}  # memory: (array, its current value, how to read it)
        self._written: dict[Any, Any] = {}  # memory: the array that the chain writes to it
        self._size: int | None = None
        self._dtype: Any = None
        self._fold: tuple[str, tuple, Any, int] | None = None  # (ufunc, value, output, elements)

    def take(self, name: str, args: tuple) -> bool:
        """Adds a step if it belongs to the chain. Reductions never do, not even of single elements: see `take_fold`."""
        if not args or name == "fold" or self._memory_of(args[-1]) is None:
            return False
        if len(self._holds) + len(args) > _MAX_ARRAYS or len(self._inputs) + len(args) > _MAX_INPUTS:
            return False
        *operands, out = args
        if out.dtype == np.bool_:
            name += "?"
        size, dtype = math.prod(out.shape), self._dtype
        if (
            name not in self._names
            or not 0 < size < _MAX_ELEMENTS
            or self._size not in (None, size)
            or not self._fits(out)
        ):
            return False
        kinds = [self._kind(operand, out) for operand in operands]
        for position, (kind, operand) in enumerate(zip(kinds, operands, strict=True)):
            truth = name in _OF_BOOLEANS or (name == "select" and position == 0)
            if kind == "" or truth != (kind == "b") or (kind != "n" and not self._fits(operand)):
                return False
            if kind in "svr" and self._memory_of(operand) in {*self._written, self._memory_of(out)}:
                return False  # other threads may write these elements
        arrays = [*(operand for kind, operand in zip(kinds, operands, strict=True) if kind != "n"), out]
        for one, other in itertools.combinations(arrays, 2):
            if self._memory_of(one) == self._memory_of(other) and not _same(one, other):
                return False
        dtypes = {x.dtype for x in (*operands, out) if hasattr(x, "dtype")}  # NumPy's scalars have dtypes too
        dtypes = (dtypes | {dtype}) - {np.dtype(np.bool_), None}
        if len(dtypes) != 1 or next(iter(dtypes)).kind != "f":
            return False
        self._size, self._dtype = size, dtypes.pop()
        values = [self._value(kind, operand) for kind, operand in zip(kinds, operands, strict=True)]
        self._ops.append((name, values))
        memory = self._memory_of(out)
        self._holds[memory] = (out, ("op", len(self._ops) - 1), "b" if out.dtype == np.bool_ else "a")
        self._written[memory] = out
        return True

    def take_fold(self, x: Any, ufunc: np.ufunc, axes: tuple[int, ...], out: Any) -> bool:
        """Ends the chain with a reduction of a value that the chain computed."""
        memory, target = self._memory_of(x), self._memory_of(out)
        if memory not in self._written or target in self._holds or not (self._fits(x) and self._fits(out)):
            return False
        last_axes = tuple(range(len(x.shape) - len(axes), len(x.shape)))
        if ufunc not in _FOLDS or axes != last_axes or {x.dtype, out.dtype} != {self._dtype} or not axes:
            return False
        self._fold = ufunc.__name__, self._holds[memory][1], out, math.prod(x.shape[axes[0] :])
        return True

    def _kind(self, operand: Any, out: Any) -> str:
        """Returns the kind of an operand for an output; '' if it has none."""
        if self._memory_of(operand) is None:
            return "n"
        shape, size = tuple(operand.shape), math.prod(operand.shape)
        if size == math.prod(out.shape):
            return "b" if operand.dtype == np.bool_ else "a"
        bare = shape[next((i for i, n in enumerate(shape) if n != 1), len(shape)) :]
        if operand.dtype == np.bool_ or size == 0:
            return ""
        if size == 1:
            return "s"
        if bare == tuple(out.shape[len(out.shape) - len(bare) :]):
            return "v"
        return "r" if shape == (*out.shape[:-1], 1) else ""

    def _fits(self, array: Any) -> bool:
        """True if an array is contiguous, and is not a different view of memory that the chain uses."""
        known = self._holds.get(self._memory_of(array))
        return is_contiguous(array) and (known is None or _same(known[0], array))

    def _value(self, kind: str, operand: Any) -> tuple:
        memory = self._memory_of(operand)
        if memory is not None and memory in self._holds and self._holds[memory][2] == kind:
            return self._holds[memory][1]
        self._inputs.append((kind, operand))
        value = ("in", len(self._inputs) - 1)
        if memory is not None and memory not in self._holds:
            self._holds[memory] = (operand, value, kind)
        return value

    def finish(
        self, last: int, needed_after: Callable[[Any, int], bool], joined: Callable[[Chain], Callable]
    ) -> list[Step]:
        """Returns the steps to record for the chain. last: the index of its last step."""
        stored = [array for array in self._written.values() if needed_after(array, last)]
        outputs = [*stored, *([self._fold[2]] if self._fold else [])]
        if len(self.steps) < 2 or not outputs:
            return self.steps if outputs else []
        number = {("in", i): i for i in range(len(self._inputs))}
        number.update({("op", i): len(self._inputs) + i for i in range(len(self._ops))})
        kinds = "".join(kind for kind, _ in self._inputs)
        ops = tuple((name, tuple(number[value] for value in values)) for name, values in self._ops)
        values = tuple(number[self._holds[self._memory_of(array)][1]] for array in stored)
        fold = (self._fold[0], number[self._fold[1]], self._fold[3]) if self._fold else None
        chain = Chain(str(self._dtype), kinds, ops, values, fold)
        return [(joined(chain), (*(arg for _, arg in self._inputs), *outputs))]


def _same(one: Any, other: Any) -> bool:
    """True if two contiguous views of the same memory have the same elements."""
    if one.dtype != other.dtype or math.prod(one.shape) != math.prod(other.shape):
        return False
    return type(one) is type(other) and _start(one) == _start(other)


def _start(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.address if isinstance(array, DeviceArray) else array.offset
