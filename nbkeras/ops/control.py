"""Control flow over tensors, as in keras.ops.

In eager code loops run in Python. In a recorded step a loop is a program in the step's program: its body is recorded once, see
engine/nested.py. So is each branch of a `cond` or `switch` on a tensor. Python runs a loop also in a recorded step if the loop is
short, if its body needs Python in each iteration (it reads a value, or changes the shape of a loop variable), and in nested
tapes. Then each iteration is recorded, and what decides is read. When only shapes are computed, they come from the first branch
or from one iteration.
"""

import functools
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import nested, structures, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.option import flag_of
from nbkeras.engine.tensor import Number, Tensor, apply, as_integer, as_tensor, op, value_of
from nbkeras.kernels.runtime import device
from nbkeras.ops.arguments import axis_of, count_of
from nbkeras.ops.creation import zeros_like
from nbkeras.ops.elementwise import clip, equal, logical_not, maximum, where
from nbkeras.ops.indexing import getitem
from nbkeras.ops.shape import broadcast_to, concatenate, reshape, stack, unstack

_SHORT = 4  # Python runs loops of up to this many iterations: they are short to record, and unrolled ones are faster


# -------------------- loops as programs --------------------


def _is_read_later(number: Any) -> bool:
    """Whether a number is a tensor whose value only a replay knows, in a step whose loops become programs."""
    return isinstance(number, Tensor) and nested.is_possible() and not device.is_readable_constant(number.data)


def _becomes_program(iterations: int, unroll: int | bool = 1) -> bool:
    """Whether a loop is recorded once, as a program in the program of the step that this thread records.

    Args:
        iterations: Their number.
        unroll: As for `scan`.
    """
    return unroll is not True and iterations > max(_SHORT, unroll) and nested.is_possible()


def _leaves(structure: Any) -> list | None:
    """The leaves of a structure as tensors or None; None if there are others."""
    leaves = structures.flatten(structure)
    if not all(leaf is None or isinstance(leaf, Tensor | np.ndarray | np.generic | int | float) for leaf in leaves):
        return None
    return [None if leaf is None else as_tensor(leaf) for leaf in leaves]


def _given(leaves: Sequence) -> list[Tensor]:
    return [leaf for leaf in leaves if leaf is not None]


def _filled(leaves: Sequence, others: Sequence) -> list:
    """The leaves with other values in place of tensors; None stays."""
    source = iter(others)
    return [None if leaf is None else next(source) for leaf in leaves]


def _repeated(name: str, step: Callable, init: Any, xs: Any = None, **options: Any) -> tuple[Any, Any] | None:
    """(last carry, stacked results) of (carry, result) = step(number, carry, x), recorded as a program.

    None if Python must run the loop. options: of `nested.recorded`; a `condition` takes the carry.
    """
    first, rows = _leaves(init), _leaves(xs)
    is_of_tensors = any(isinstance(leaf, Tensor | np.ndarray) for leaf in structures.flatten([init, xs]))
    if first is None or rows is None or not (is_of_tensors or all(leaf is None for leaf in first)):
        return None
    found: dict[str, Any] = {}

    def body(number: Tensor, values: list, parts: list) -> tuple[list, list]:
        result = step(number, structures.pack(init, _filled(first, values)), structures.pack(xs, _filled(rows, parts)))
        found["carry"], found["result"] = result
        carry, results = _leaves(result[0]), _leaves(result[1])
        if carry is None or results is None or [e is None for e in carry] != [e is None for e in first]:
            raise nested.UnrecordableError("the structure of the carry changes")
        pairs = zip(structures.flatten(result[0]), first, strict=True)
        return [_as_kind_of(old, leaf) for leaf, old in pairs if old is not None], _given(results)

    if (condition := options.pop("condition", None)) is not None:
        options["condition"] = lambda values: condition(structures.pack(init, _filled(first, values)))
    try:
        carry, results = nested.recorded(name, body, _given(first), _given(rows), **options).apply()
    except nested.UnrecordableError:
        return None
    made = structures.flatten(found["result"])
    return structures.pack(found["carry"], _filled(first, carry)), structures.pack(
        found["result"], _filled(made, results)
    )


def _as_kind_of(old: Tensor, leaf: Any) -> Tensor:
    """A tensor of a new value. A number gets the dtype of the old value, unless this would lose its fraction."""
    is_weak = isinstance(leaf, int | float | Number)
    kept = is_weak and (old.dtype.kind == "f" or as_tensor(leaf).dtype.kind != "f")
    return as_tensor(leaf, old.dtype if kept else None)


# -------------------- branches --------------------


def _value(number: Any, while_shapes: Any) -> Any:
    """The number that a tensor holds; `while_shapes` when only shapes are computed."""
    if not isinstance(number, Tensor):
        return number
    return while_shapes if device.is_dry() else number.item()


@op
def cond(pred, true_fn: Callable, false_fn: Callable) -> Any:
    """Call one of two functions: true_fn if pred is true, else false_fn.

    In a recorded step with a tensor `pred`, both functions are recorded, and each replay runs one of them. They must return
    the same structure, shapes and dtypes. In eager code only one function is called.

    Args:
        pred: A boolean or a number, or a tensor of one element.
        true_fn: Function without arguments.
        false_fn: Function without arguments.

    Returns:
        What the function returns.

    Raises:
        ValueError: in a recorded step, if the functions return different structures, shapes or dtypes.

    Example:
        >>> x = ops.array([1.0, -3.0])
        >>> ops.cond(ops.sum(x) > 0, lambda: x, lambda: -x).numpy()
        array([-1.,  3.], dtype=float32)
    """
    if _is_read_later(pred) and pred.size == 1:
        is_true = reshape(as_tensor(pred, "bool"), (1,))
        found = _chosen("cond", [true_fn, false_fn], [is_true, logical_not(is_true)])
        if found is not None:
            return found[0]
    return true_fn() if flag_of("cond", "pred", _value(pred, True)) else false_fn()


def _chosen(name: str, branches: Sequence[Callable], flags: Sequence[Tensor]) -> tuple | None:
    """A tuple of the result of the branch whose flag is true; None if Python must call the branch. flags: bools (1,)."""
    structure: list = []  # the results of the branches

    def recorded(branch: Callable, flag: Tensor) -> nested.Recorded:
        def body(*_: Any) -> tuple[list, list]:
            structure.append(branch())
            leaves = _leaves(structure[-1])
            if leaves is None:
                raise nested.UnrecordableError("a branch returns other values than tensors and numbers")
            return [], _given(leaves)

        return nested.recorded(name, body, [], limit=1, count=as_tensor(flag, "int64"))

    try:
        programs, results = [], []
        for branch, flag in zip(branches, flags, strict=True):
            programs.append(recorded(branch, flag))
            results.append(structure[-1])
    except nested.UnrecordableError:
        return None
    forms = [
        structures.pack(r, _filled(structures.flatten(r), p.forms)) for r, p in zip(results, programs, strict=True)
    ]
    for number, form in enumerate(forms):
        if form != forms[0]:
            raise ValueError(
                f"{name}: all branches must return the same structure, shapes and dtypes when a step is recorded: branch 0 "
                f"returned {_named(forms[0])}, branch {number} returned {_named(form)}. Use ops.cast, ops.reshape or "
                "ops.zeros to make them equal"
            )
    values = [[reshape(rows, rows.shape[1:]) for rows in each.apply()[1]] for each in programs]
    chosen = values[-1]
    for flag, each in zip(flags[-2::-1], values[-2::-1], strict=True):
        chosen = [where(reshape(flag, ()), one, other) for one, other in zip(each, chosen, strict=True)]
    return (structures.pack(results[0], _filled(structures.flatten(results[0]), chosen)),)


@op
def switch(index, branches: Sequence[Callable], *operands) -> Any:
    """Call one of several functions: branches[index](*operands).

    In a recorded step with a tensor `index`, all functions are recorded, and each replay runs one of them. They must return
    the same structure, shapes and dtypes.

    Args:
        index: An integer, or an integer tensor of one element. An index out of range selects the nearest
            branch.
        branches: At least one function.
        *operands: The arguments of the function.

    Returns:
        What the function returns.

    Raises:
        ValueError: if there are no branches; in a recorded step, if they return different structures, shapes or dtypes.
        TypeError: if the index is not an integer.

    Example:
        >>> double, square = lambda x: 2 * x, lambda x: x * x
        >>> ops.switch(1, [double, square], 5)
        25
    """
    if not isinstance(branches, list | tuple) or not all(callable(branch) for branch in branches):
        raise TypeError(f"switch: branches must be a list of functions, received {briefly(branches)}")
    if not branches:
        raise ValueError("switch: expected at least one branch")
    if _is_read_later(index) and index.size == 1 and index.dtype.kind in "iu":
        chosen = clip(reshape(as_tensor(index, "int64"), (1,)), 0, len(branches) - 1)
        calls = [functools.partial(branch, *operands) for branch in branches]
        found = _chosen("switch", calls, [equal(chosen, place) for place in range(len(branches))])
        if found is not None:
            return found[0]
    number = _value(index, 0)
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"switch: index must be an integer, received {briefly(number)}") from None
    return branches[min(max(number, 0), len(branches) - 1)](*operands)


# -------------------- loops --------------------


@op
def while_loop(cond: Callable, body: Callable, loop_vars, maximum_iterations: int | None = None) -> Any:
    """Loop as long as a condition is true: loop_vars = body(*loop_vars) while cond(*loop_vars).

    In a recorded step the loop is a program: cond and body are recorded once, and the shapes and dtypes of the loop variables
    must stay the same. Integers among them become int32 tensors. Gradients need `maximum_iterations`; without it, a step that
    takes gradients through the loop reads the condition and runs eagerly.

    Args:
        cond: Function of the loop variables that returns a boolean, or a tensor of one element.
        body: Function of the loop variables that returns their new values: the same number, or one if `loop_vars` is not a
            list or tuple.
        loop_vars: The initial values: a list or tuple, or one value.
        maximum_iterations: The maximum number of iterations; None for no limit.

    Returns:
        The last loop variables: a tuple, or one value. Numbers become tensors.

    Raises:
        ValueError: if `body` returns another number of loop variables; in a recorded step, if a loop variable changes its shape
            or dtype.

    Example:
        >>> [int(x) for x in ops.while_loop(lambda i, x: x < 100, lambda i, x: (i + 1, 3 * x), (0, 1))]
        [5, 243]
    """
    limit = 1 if device.is_dry() else maximum_iterations
    is_sequence = isinstance(loop_vars, list | tuple)
    values = tuple(loop_vars) if is_sequence else (loop_vars,)

    def step(number: Any, values: tuple, x: Any) -> tuple[tuple, None]:
        results = body(*values)
        if is_sequence and not (isinstance(results, list | tuple) and len(results) == len(values)):
            raise ValueError(f"while_loop: body must return {len(values)} loop variables, received {briefly(results)}")
        return tuple(results) if is_sequence else (results,), None

    if nested.is_possible() and (limit is None or isinstance(limit, int)):
        found = _recorded_while(cond, step, values, limit)
        if found is not None:
            return found if is_sequence else found[0]
    iterations = 0
    while (limit is None or iterations < limit) and flag_of(
        "while_loop", "the result of cond", _value(cond(*values), True)
    ):
        values, _ = step(iterations, values, None)
        iterations += 1
    # an int among symbolic outputs would be a value of the dry run
    values = structures.map_leaves(lambda leaf: as_tensor(leaf) if isinstance(leaf, int | float) else leaf, values)
    return values if is_sequence else values[0]


def _recorded_while(cond: Callable, step: Callable, values: tuple, limit: int | None) -> tuple | None:
    """The last loop variables of a while_loop that is recorded as a program; None if Python must run it."""
    if any(isinstance(leaf, float) for leaf in structures.flatten(values)):
        return None  # Python computes with 64 bits, and tensors with fewer: the loop could end earlier or later

    def condition(values: tuple) -> Tensor:
        found = as_tensor(cond(*values), "bool")
        if found.size != 1:
            raise TypeError(f"while_loop: the result of cond must be True or False, received shape {found.shape}")
        return found

    try:
        found = _repeated("while_loop", step, values, limit=limit, condition=condition)
    except nested.ChangedError as error:
        if not isinstance(cond(*values), Tensor):  # Python can decide
            return None
        leaves = [place for place, leaf in enumerate(structures.flatten(values)) if leaf is not None]
        raise ValueError(
            f"while_loop: loop variable {leaves[error.number]} must keep its shape and dtype when a step is recorded, expected "
            f"{_named(error.expected)}, but body returned {_named(error.received)}: use ops.cast or ops.reshape in body, or "
            "make the first value of that form"
        ) from None
    return None if found is None else found[0]


def _named(form: Any) -> str:
    """A structure of (shape, dtype) for a message."""
    if isinstance(form, tuple) and len(form) == 2 and isinstance(form[1], np.dtype):
        return f"shape {form[0]} and dtype {form[1]}"
    if isinstance(form, dict):
        return "{" + ", ".join(f"{key!r}: {_named(each)}" for key, each in form.items()) + "}"
    return "[" + ", ".join(_named(each) for each in form) + "]" if isinstance(form, list | tuple) else str(form)


@op
def fori_loop(lower, upper, body_fun: Callable, init_val) -> Any:
    """Loop a number of times: value = body_fun(i, value) for i from lower to upper - 1.

    In a recorded step a loop of tensors is a program: `body_fun` is recorded once, and gets i as a number that only a replay
    knows. If `body_fun` needs i in Python, or changes the shape or dtype of the value, each iteration is recorded. Tensors as
    limits are read by the program; gradients through such a loop need limits that Python knows.

    Args:
        lower: The first i, an integer.
        upper: The end of i, not included.
        body_fun: Function of i and the value that returns the next value.
        init_val: The first value; anything that `body_fun` accepts.

    Returns:
        The last value.

    Example:
        >>> ops.fori_loop(1, 5, lambda i, product: i * product, 1)
        24
    """
    value = init_val
    if _is_read_later(lower) or _is_read_later(upper):
        first, end = (as_integer(limit, "fori_loop: the limits") for limit in (lower, upper))
        count = reshape(maximum(end - first, 0), (1,))
        found = _unless_changed("fori_loop", _fori_step(lower, body_fun), init_val, count=count)
        if found is not None:
            return found[0]
    try:
        numbers = range(*(operator.index(_value(limit, place)) for place, limit in enumerate((lower, upper))))
    except TypeError:
        raise TypeError(
            f"fori_loop: the limits must be integers, received {briefly(lower)} and {briefly(upper)}"
        ) from None
    if _becomes_program(len(numbers)):
        found = _unless_changed("fori_loop", _fori_step(numbers.start, body_fun), init_val, limit=len(numbers))
        if found is not None:
            return found[0]
    for i in numbers:
        value = body_fun(i, value)
    return value


def _fori_step(lower: Any, body_fun: Callable) -> Callable:
    def step(number: Tensor, value: Any, x: Any) -> tuple[Any, None]:
        i = Number(number.data)  # it gives way to the dtypes of tensors, as an integer of Python does
        return body_fun(i if isinstance(lower, int) and not lower else i + lower, value), None

    return step


def _unless_changed(*args: Any, **options: Any) -> tuple[Any, Any] | None:
    """`_repeated`; None also if a value changes its shape or dtype: an unrolled loop allows it."""
    try:
        return _repeated(*args, **options)
    except nested.ChangedError:
        return None


def _length(name: str, xs: Any, length: int | None = None) -> int:
    """The common size of the first axes of a structure of tensors."""
    tensors = [as_tensor(leaf) for leaf in structures.flatten(xs)]
    if any(not each.ndim for each in tensors):
        raise ValueError(f"{name}: all tensors must have a first axis, received a tensor without axes")
    counts = {each.shape[0] for each in tensors} | (set() if length is None else {length})
    if len(counts) != 1:
        raise ValueError(f"{name}: all tensors must have the same first axis, received sizes {sorted(counts)}")
    size = counts.pop()
    if not size:
        raise ValueError(f"{name}: there is nothing along the first axis")
    return size


def _slices(xs: Any) -> list:
    """Cut a structure of tensors along the first axis: a list of structures of slices."""
    parts = [unstack(as_tensor(leaf)) for leaf in structures.flatten(xs)]
    return [structures.pack(xs, list(leaves)) for leaves in zip(*parts, strict=True)]


def _stacked(results: list) -> Any:
    """Stack a list of structures into one structure of tensors."""
    return structures.pack(
        results[0],
        [stack(list(leaves)) for leaves in zip(*[structures.flatten(result) for result in results], strict=True)],
    )


@op
def scan(
    f: Callable, init, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: int | bool = 1
) -> Any:
    """Carry a value along the first axis, and stack results: (carry, y) = f(carry, x) for each slice x.

    Args:
        f: Function of the carry and a slice that returns the next carry and a result. The result may be
            None.
        init: The first carry.
        xs: A tensor, or a structure (list, tuple, dict) of tensors whose first axes have the same size; None to
            pass None as x.
        length: The number of iterations, needed if `xs` is None.
        reverse: Whether to run from the last slice to the first; results keep the order of the slices.
        unroll: Whether each iteration is recorded when a step is recorded: True, or a number of at least `length`. By default a
            loop of more than 4 iterations is a program whose body is recorded once.

    Returns:
        The last carry, and the results stacked along a new first axis (None if they are None).

    Raises:
        ValueError: without `xs` and `length`, if sizes differ, or if there are no slices.

    Example:
        >>> def add(total, x):
        ...     return total + x, total + x
        >>> total, sums = ops.scan(add, ops.array(0.0), ops.array([1.0, 2.0, 3.0]))
        >>> sums.numpy()
        array([1., 3., 6.], dtype=float32)
    """
    if xs is None and length is None:
        raise ValueError("scan: give xs, or a length")
    size = count_of("scan", "length", length) if xs is None else _length("scan", xs, length)
    if not size:
        raise ValueError("scan: there is nothing along the first axis")

    def step(number: Any, carry: Any, x: Any) -> tuple[Any, Any]:
        result = f(carry, x)
        if not isinstance(result, list | tuple) or len(result) != 2:
            raise ValueError(f"scan: f must return a pair (carry, result), received {briefly(result)}")
        return result[0], result[1]

    if _becomes_program(size, unroll):
        found = _unless_changed("scan", step, init, xs, limit=size, reverse=reverse)
        if found is not None:
            return found
    items = [None] * size if xs is None else _slices(xs)
    carry, results = init, []
    for number, x in enumerate(reversed(items) if reverse else items):
        carry, result = step(number, carry, x)
        results.append(result)
    if results[0] is None:
        return carry, None
    return carry, _stacked(results[::-1] if reverse else results)


@op
def map(f: Callable, xs) -> Any:
    """Call a function on each slice along the first axis, and stack its results.

    In a recorded step of many slices, the function is recorded once, and the program calls it for each slice. An op on the
    whole tensor is faster if one exists.

    Args:
        f: Function of a slice: a tensor, or a structure of tensors as `xs` is.
        xs: A tensor, or a structure (list, tuple, dict) of tensors whose first axes have the same size of at
            least 1.

    Returns:
        The results, stacked along a new first axis: a tensor, or a structure of tensors.

    Raises:
        ValueError: if sizes differ, or if there are no slices.

    Example:
        >>> rows = ops.array([[3.0, 4.0], [6.0, 8.0]])
        >>> ops.map(lambda row: ops.norm(row), rows).numpy()
        array([ 5., 10.], dtype=float32)
    """
    size = _length("map", xs)
    if _becomes_program(size):
        found = _unless_changed("map", lambda number, carry, x: (carry, f(x)), None, xs, limit=size)
        if found is not None:
            return found[1]
    return _stacked([f(x) for x in _slices(xs)])


@op
def vectorized_map(function: Callable, elements) -> Any:
    """Call a function on each slice along the first axis, and stack its results: the same as `map`.

    Args:
        function: Function of a slice: a tensor, or a structure of tensors as `elements` is.
        elements: A tensor, or a structure (list, tuple, dict) of tensors whose first axes have the same size of
            at least 1.

    Returns:
        The results, stacked along a new first axis: a tensor, or a structure of tensors.

    Raises:
        ValueError: if sizes differ, or if there are no slices.

    Example:
        >>> pairs = (ops.array([[1.0, 2.0], [3.0, 4.0]]), ops.array([[1.0, 0.0], [1.0, 1.0]]))
        >>> ops.vectorized_map(lambda pair: ops.dot(pair[0], pair[1]), pairs).numpy()
        array([1., 7.], dtype=float32)
    """
    return map(function, elements)


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """Make a function of tensors from a function of their elements, as `numpy.vectorize` does.

    The arguments broadcast, and `map` calls the function for each element.

    Args:
        pyfunc: Function of scalar tensors, or of the axes that `signature` names.
        excluded: Positions of arguments that are passed unchanged, like all keyword arguments.
        signature: The axes that `pyfunc` receives: with '(n),(n)->()' it receives two vectors. None for
            scalars.

    Returns:
        A function that returns a tensor, or a structure of tensors as `pyfunc` does.

    Raises:
        ValueError: if the signature is malformed, or names another number of arguments.

    Example:
        >>> def larger(a, b):
        ...     return ops.maximum(a, b)
        >>> ops.vectorize(larger)([1.0, 5.0, 2.0], 3.0).numpy()
        array([3., 5., 3.], dtype=float32)
        >>> ops.vectorize(ops.dot, signature="(n),(n)->()")([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).numpy()
        array([3., 7.], dtype=float32)
    """
    unchanged = () if excluded is None else excluded
    if not isinstance(unchanged, set | frozenset | list | tuple) or not all(
        isinstance(n, int | str) for n in unchanged
    ):
        raise TypeError(f"vectorize: excluded must be a set of positions or names, received {briefly(excluded)}")
    cores = None if signature is None else [len(part.split(",")) if part else 0 for part in _cores(signature)]

    @functools.wraps(pyfunc)
    def call(*args, **kwargs):
        places = [i for i in range(len(args)) if i not in unchanged]
        tensors = [as_tensor(args[i]) for i in places]
        inner = [0] * len(tensors) if cores is None else cores
        if len(inner) != len(tensors):
            raise ValueError(f"vectorize: {briefly(signature)} is for {len(inner)} arguments, received {len(tensors)}")
        split = [x.ndim - n for x, n in zip(tensors, inner, strict=True)]
        loop = np.broadcast_shapes(*(x.shape[:at] for x, at in zip(tensors, split, strict=True)))
        rows = [
            reshape(broadcast_to(x, (*loop, *x.shape[at:])), (math.prod(loop), *x.shape[at:]))
            for x, at in zip(tensors, split, strict=True)
        ]

        def one(elements: list) -> Any:
            given = list(args)
            for i, element in zip(places, elements, strict=True):
                given[i] = element
            return pyfunc(*given, **kwargs)

        stacked = map(one, rows)
        return structures.map_leaves(lambda y: reshape(y, (*loop, *y.shape[1:])), stacked)

    return op(call)


def _cores(signature: str) -> list[str]:
    """The string between the parentheses of each argument in a signature."""
    left, arrow, _ = str(signature).replace(" ", "").partition("->")
    if not arrow or not re.fullmatch(r"\([\w,]*\)(,\([\w,]*\))*", left):
        raise ValueError(f"vectorize: a signature looks like '(n),(n)->()', received {briefly(signature)}")
    return re.findall(r"\(([\w,]*)\)", left)


@op
def associative_scan(f: Callable, elems, reverse: bool = False, axis: int = 0) -> Any:
    """Running results of an associative function along an axis, as `cumsum` is for addition.

    It calls `f` about 2 log2(n) times, each time on many elements, where `scan` calls it n times.

    Args:
        f: Function of two structures of tensors (left, right) that returns one. It works elementwise along
            the axis, and f(f(a, b), c) must be f(a, f(b, c)).
        elems: A tensor, or a structure of tensors that have the same size along the axis.
        reverse: Whether to run from the end: the result at i then combines the elements from i on.
        axis: The axis, counted from the end if negative.

    Returns:
        A structure like `elems`, of the same shapes.

    Raises:
        ValueError: if the sizes along the axis differ.

    Example:
        >>> ops.associative_scan(ops.maximum, ops.array([1, 3, 2, 5, 4])).numpy()
        array([1, 3, 3, 5, 5], dtype=int32)
    """
    leaves = [as_tensor(leaf) for leaf in structures.flatten(elems)]
    axes = [axis_of("associative_scan", axis, leaf.ndim) for leaf in leaves]
    sizes = {leaf.shape[along] for leaf, along in zip(leaves, axes, strict=True)}
    if len(sizes) != 1:
        raise ValueError(
            f"associative_scan: all tensors must have the same size along axis {axis}, received {sorted(sizes)}"
        )

    def part(values: list, start: int | None, stop: int | None, step: int) -> list:
        return [
            getitem(v, (*[slice(None)] * along, slice(start, stop, step)))
            for v, along in zip(values, axes, strict=True)
        ]

    def combined(left: list, right: list) -> list:
        first, second = structures.pack(elems, left), structures.pack(elems, right)
        return structures.flatten(f(second, first) if reverse else f(first, second))

    def running(values: list, n: int) -> list:
        if n < 2:
            return values
        odd = running(combined(part(values, None, n - n % 2, 2), part(values, 1, None, 2)), n // 2)
        rest = part(values, 2, None, 2)
        even = combined(part(odd, None, (n - 1) // 2, 1), rest) if n > 2 else []
        even = (
            [concatenate([a, b], i) for a, b, i in zip(part(values, 0, 1, 1), even, axes, strict=True)]
            if even
            else part(values, 0, 1, 1)
        )
        return [_alternating(a, b, i) for a, b, i in zip(even, odd, axes, strict=True)]

    (n,) = sizes
    if reverse:
        leaves = part(leaves, None, None, -1)
    found = running(leaves, n)
    return structures.pack(elems, part(found, None, None, -1) if reverse else found)


def _alternating(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Interleave two tensors along an axis, the first one first; it may have one element more."""
    size, before = odd.shape[axis], (slice(None),) * axis
    pairs = stack([getitem(even, (*before, slice(size))), odd], axis + 1)
    y = reshape(pairs, (*odd.shape[:axis], 2 * size, *odd.shape[axis + 1 :]))
    return y if even.shape[axis] == size else concatenate([y, getitem(even, (*before, slice(size, None)))], axis)


# -------------------- custom gradients --------------------


def custom_gradient(f: Callable) -> Callable:
    """Give a function of tensors a custom gradient.

    Args:
        f: Function of tensors that returns its result (a tensor, or a tuple of them) and a function for the
            gradients. The latter receives the gradient of each result and returns one for each argument of `f`
            (None for no gradient).

    Returns:
        A function of the same arguments that returns the result only.

    Raises:
        ValueError: if the numbers of gradients and arguments differ.

    Example:
        >>> @ops.custom_gradient
        ... def clipped_gradient(x):
        ...     return x * x, lambda dy: ops.clip(dy * 2 * x, -1.0, 1.0)
        >>> x = keras.Variable([3.0, 0.25])
        >>> with keras.GradientTape() as tape:
        ...     y = ops.sum(clipped_gradient(x))
        >>> tape.gradient(y, x).numpy()
        array([1. , 0.5], dtype=float32)
    """

    @functools.wraps(f)
    def call(*args, **kwargs):
        tensors = [value_of(as_tensor(arg)) for arg in args]
        # recorded if the gradients are differentiated too
        given = tensors if tape.keeps_calls() else [Tensor(tensor.data) for tensor in tensors]
        results, grad = f(*given, **kwargs)
        is_sequence = isinstance(results, list | tuple)
        values = [as_tensor(y) for y in (results if is_sequence else [results])]

        def gradients(dys: Sequence[Tensor | None]) -> list[Tensor | None]:
            grads = grad(*(zeros_like(y) if dy is None else dy for dy, y in zip(dys, values, strict=True)))
            grads = grads if isinstance(grads, list | tuple) else (grads,)
            if len(grads) != len(tensors):
                raise ValueError(
                    f"{f.__name__}: expected a gradient for each of {len(tensors)} arguments, received {len(grads)}"
                )
            return [None if g is None else as_tensor(g) for g in grads]

        y = _with_gradient(f.__name__, values, gradients, tensors)
        return y if is_sequence else y[0]

    return op(call)


def _with_gradient(
    name: str, values: Sequence[Tensor], gradients: Callable, tensors: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Values that were computed from tensors, as results of an op; `gradients(dys)` gives the gradient of each, or None."""
    outputs = tuple(y.data for y in values)

    def forward(*arrays):
        return outputs, None

    def backward(saved, dy, needs):
        dys = dy if isinstance(dy, tuple) else (dy,)
        grads = gradients([None if g is None else Tensor(g) for g in dys])
        return tuple(None if g is None or need is False else g.data for g, need in zip(grads, needs, strict=True))

    forward.__name__ = name
    forward.given = values, gradients  # type: ignore[attr-defined]  # for autodiff.vmap
    backward.derivative = lambda rules: rules.Explicit(lambda record, dys, needs: gradients(dys))  # type: ignore[attr-defined]
    return apply(forward, backward, tensors)
