"""Checks: a recorder and runner of launches that finds errors in kernels; nbkeras.testing exports it.

Margins surround each array, and new arrays hold numbers that no kernel computes. So a check after each launch shows whether the
kernel wrote outside its arrays or changed the inputs of its op, and a check after each op shows whether all elements were
computed. Kernels from outside nbkeras are recompiled with bounds checks. Slow; meant for tiny arrays on the CPU.
"""

import dis
import functools
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device, lazy, threads
from nbkeras.kernels.runtime.messages import named, not_compiled

# imported where a kernel that is not nbkeras's own is compiled again: layers and ops made of ops need no Numba
numba: Any = lazy.LazyModule("numba")
ir: Any = lazy.LazyModule("numba.core.ir")

Array = np.ndarray
_MARGIN = 4096  # bytes before and after each array
_FILLED = 0xFF  # each byte of margins and new arrays; a float is then a NaN with a payload that no computation produces


class Checks:
    """Checks of the launches in `with device.record(checks), device.run_by(checks):`.

    An AssertionError names the kernel. `check_op` uses it; see docs/custom-ops.md.

    Example:
        >>> from nbkeras.kernels.runtime import device
        >>> from nbkeras.testing import Checks
        >>> checks = Checks()
        >>> x = keras.Tensor(checks.array(np.ones(3, "float32")))
        >>> with device.record(checks), device.run_by(checks):
        ...     y = ops.exp(x)
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        # id of the memory's owner: (the owner, the array in its middle)
        self._memory: dict[int, tuple[Array, Array]] = {}
        self._last: dict[int, Callable] = {}  # the last kernel that received each memory
        # arrays that the running op must not change: name, array, content
        self._given: list[tuple[str, Array, bytes]] = []
        self._op = ""

    def array(self, value: Array) -> Array:
        """Returns a copy of an array between margins; they are checked after each kernel.

        Args:
            value: The array.
        """
        copy = self.allocated(value)
        copy[...] = value
        return copy

    # Methods of a recorder, see device.record

    def allocated(self, array: Array) -> Array:
        size = -(-array.nbytes // 64) * 64 if array.nbytes else 0
        memory = np.full(2 * _MARGIN + size + 64, _FILLED, np.uint8)
        start = _MARGIN - memory.ctypes.data % 64
        middle = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self._memory[id(memory)] = memory, middle
        return middle

    def knows(self, array: Array) -> bool:
        owner = device.root(array)
        return id(owner) in self._memory or device.is_persistent(owner) or array.size == 0

    def launched(self, function: Callable, args: tuple) -> None:
        pass

    def value_read(self) -> None:
        self.reason = "a value was read"

    def called(self, function: Callable, inputs: tuple, rest: tuple, constants: dict[str, Any]) -> Any:
        names = ["what its op saved", "dy"] if rest else [f"input {i}" for i in range(len(inputs))]
        before = self._op, self._given
        self._op, self._given = (
            named(function),
            [
                (name, array, array.tobytes())
                for name, value in zip(names, inputs, strict=True)
                for array in _arrays(value)
                if id(device.root(array)) in self._memory  # other arrays are states, which ops may change
            ],
        )
        try:
            result = function(*inputs, *rest, **constants)
        finally:
            self._op, self._given = before
        is_pair = isinstance(result, tuple) and len(result) == 2
        # the second item of a pair is only for the vjp
        for array in _arrays(result if rest or not is_pair else result[0]):
            self._check_written(function, array)
        return result

    # Method of a runner, see device.run_by

    def run(self, function: Callable, args: tuple) -> None:
        kernel, calls = function, [args]
        if isinstance(function, threads.Shared):
            kernel, (shares, *own) = function.kernel, args
            calls = [(*own, share, shares) for share in range(shares)]
        for call in calls:
            self._run_checked(kernel, call)
        for array in _arrays(args):
            self._last[id(device.root(array))] = kernel
        self._check_margins(kernel, args)
        for what, array, content in self._given:
            if array.tobytes() != content:
                raise AssertionError(
                    f"the kernel {named(kernel)} changed {what} of {self._op}, an array of shape {array.shape}: a kernel "
                    "writes only into arrays that its op made with device.empty or device.output"
                )

    def _run_checked(self, kernel: Any, args: tuple) -> None:
        if _is_own(kernel) or hasattr(kernel, "formula"):  # a formula has no indices
            device.run(kernel, args)
            return
        if isinstance(kernel, types.FunctionType):
            _warn_of_loops(kernel)
        elif hasattr(kernel, "py_func") and not hasattr(kernel, "options"):
            raise AssertionError(
                f"the kernel {named(kernel.py_func)} is compiled by Numba's decorator: use @compiled of nbkeras.kernels"
            )
        checked = _with_bounds(kernel) if hasattr(kernel, "py_func") else kernel
        content = [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args]
        try:
            device.run(checked, args)
        except IndexError as error:
            raise AssertionError(
                f"the kernel {named(kernel)} uses an index outside its arrays: {_as_python_says(kernel, content, error)}"
            ) from None
        if checked is not kernel:
            _check_stores(kernel, checked)

    def _check_margins(self, kernel: Callable, args: tuple) -> None:
        for array in _arrays(args):
            known = self._memory.get(id(device.root(array)))
            if known is None:
                continue
            memory, middle = known
            start = middle.ctypes.data - memory.ctypes.data
            for where, part in (("before", memory[:start]), ("after", memory[start + middle.nbytes :])):
                if (part != _FILLED).any():
                    raise AssertionError(
                        f"the kernel {named(kernel)} wrote outside an array of shape {middle.shape} and dtype "
                        f"{middle.dtype}, {where} its memory: check the ranges of its loops"
                    )

    def _check_written(self, function: Callable, array: Array) -> None:
        if array.dtype.kind != "f" or id(device.root(array)) not in self._memory:
            return
        unwritten = np.ascontiguousarray(array).view(f"u{array.itemsize}") == np.iinfo(f"u{array.itemsize}").max
        if unwritten.any():
            first = tuple(int(i) for i in np.argwhere(unwritten)[0])
            last = self._last.get(id(device.root(array)))
            raise AssertionError(
                f"{named(function)} returned an array of shape {array.shape} with {int(unwritten.sum())} elements that no kernel "
                "wrote, or that a kernel computed from unwritten memory: the first is "
                f"{first}"
                + (f". The last kernel with that array is {named(last)}" if last else "; no kernel received that array")
            )


def _arrays(value: Any) -> Iterator[Array]:
    """Yields the arrays in a value, and in tuples and lists within it."""
    if isinstance(value, np.ndarray):
        yield device.plain(value)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _arrays(each)


def _is_own(kernel: Callable) -> bool:
    """True if a kernel belongs to nbkeras or NumPy."""
    return (getattr(kernel, "__module__", None) or "numpy").startswith(("nbkeras.", "numpy"))


@functools.cache
def _with_bounds(kernel: Any) -> Any:
    """Recompiles a compiled kernel with a check of each index."""
    try:
        return numba.njit(**{**kernel.options, "boundscheck": True})(kernel.py_func)
    except ModuleNotFoundError:
        raise not_compiled(kernel.py_func, None) from None


def _as_python_says(kernel: Any, args: list, error: Exception) -> str:
    """Returns the index and line of an IndexError, from a run in Python if that is possible."""
    try:
        getattr(kernel, "py_func", kernel)(*args)
    except IndexError as found:
        trace: Any = found.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        return f"line {trace.tb_lineno}: {found}"
    except Exception:  # the kernel may use features that only compiled code has
        return str(error)
    return str(error)


def _check_stores(kernel: Any, checked: Any) -> None:
    """Raises AssertionError for a kernel that computes float64 and writes it into float32."""
    for overload in checked.overloads.values():
        kinds, blocks = overload.type_annotation.typemap, overload.type_annotation.blocks.values()
        statements = [statement for block in blocks for statement in block.body]
        computed = _computed(statements)
        for store in statements:
            if not isinstance(store, ir.SetItem | ir.StaticSetItem):
                continue
            target, value = kinds.get(store.target.name), kinds.get(store.value.name)
            narrows = isinstance(target, lazy.types.Array) and target.dtype == lazy.types.float32
            if narrows and value == lazy.types.float64 and store.value.name in computed:
                raise AssertionError(
                    f"the kernel {named(kernel)} computes float64 and writes it into a float32 array, line {store.loc.line}: a "
                    "plain 2 or 2.0 makes arithmetic float64. Write x.dtype.type(2), or if float64 is intended, convert what is "
                    "written: y.dtype.type(value)"
                )


def _computed(statements: list) -> set[str]:
    """Returns the variables with results of arithmetic, not with plain numbers such as 0.5, -np.inf, arguments or elements."""
    computed: set[str] = set()
    count = -1
    while count < len(computed):
        count = len(computed)
        for each in statements:
            if isinstance(each, ir.Assign):
                value, kind = each.value, getattr(each.value, "op", None)
                source = value.value if kind in ("unary", "cast") else value
                is_copy = isinstance(source, ir.Var) and source.name in computed
                if is_copy or kind in ("binop", "inplace_binop", "call"):
                    computed.add(each.target.name)
    return computed


@functools.cache
def _warn_of_loops(kernel: Any) -> None:
    if not getattr(kernel, "on_host", False) and any(i.opname == "FOR_ITER" for i in dis.get_instructions(kernel)):
        warnings.warn(
            f"the kernel {named(kernel)} is a loop in Python, about a hundred times slower than a compiled one: decorate it with "
            "@compiled of nbkeras.kernels.runtime.cache, or with @device.host if it should run in Python",
            stacklevel=2,
        )
