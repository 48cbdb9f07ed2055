"""Floor 1: transforms that return derivatives of functions, with the names of jax and torch.func. They compose."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.autodiff import walks
from nbkeras.autodiff.batching import vmap
from nbkeras.autodiff.nesting import Tape
from nbkeras.autodiff.rules import Elementwise, define, zeros_of
from nbkeras.engine import structures, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_tensor, gradient, like
from nbkeras.engine.user_errors import entry

_Argnums = int | Sequence[int]


# -------------------- arguments --------------------


def _identity(x):
    return x, None


def _identity_vjp(saved, dy, needs):
    return (dy,)


define(_identity, Elementwise(1))


def _alias(x: Tensor) -> Tensor:
    """A tensor with the value of x and a new Record, whose parent is x's Record for outer tapes."""
    y = apply(_identity, _identity_vjp, [x])
    if y.record is None:
        y.record = tape.leaf("argument")
    return y


def _sources(name: str, arguments: Sequence[Any]) -> list[Any]:
    """Arguments to be differentiated, as structures of new tensors. Raises TypeError for an argument that is not float."""
    result = []
    for argument in arguments:
        # flatten refuses structures that contain themselves
        tensors = [as_tensor(each) for each in structures.flatten(argument)]
        for each in tensors:
            if each.dtype.kind != "f":
                raise TypeError(
                    f"{name}: arguments to be differentiated must be floats, received dtype {each.dtype}. Pass floats, or select "
                    "other arguments by argnums"
                )
        result.append(structures.pack(argument, map(_alias, tensors)))
    return result


def _chosen(name: str, argnums: _Argnums, args: tuple) -> list[int]:
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for number in numbers:
        if not isinstance(number, int) or not -len(args) <= number < len(args):
            raise ValueError(
                f"{name}: argnums {argnums} is out of range for the {len(args)} positional arguments of the call; keyword "
                "arguments are not differentiated"
            )
    return [number % len(args) for number in numbers]


def _with(args: tuple, numbers: list[int], values: list) -> list:
    given = list(args)
    for number, value in zip(numbers, values, strict=True):
        given[number] = value
    return given


def _split_aux(name: str, returned: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return returned, None
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise TypeError(
            f"{name}: with has_aux=True the function returns (output, auxiliary), received {briefly(returned)}"
        )
    return returned


def _is_higher() -> bool:
    """Whether derivatives must be computed by ops, so that they can be differentiated or mapped."""
    return bool(tape.thread.tapes or tape.thread.keeps or tape.thread.levels)


def _back(targets: list[Tensor], seeds: list | None, sources: list[Tensor], within: Tape, retain: bool) -> list[Tensor]:
    """Gradients of targets, with zeros for sources that have none."""
    if _is_higher():
        within.is_spent = not retain
        found = walks.pull_back(targets, seeds, sources, within)
    else:
        arrays = gradient(targets, sources, seeds, retain=retain, within=within)
        found = [None if g is None else like(s, Tensor(g)) for s, g in zip(sources, arrays, strict=True)]
    return [zeros_of(source.data) if g is None else g for source, g in zip(sources, found, strict=True)]


# -------------------- backwards --------------------


def value_and_grad(f: Callable, argnums: _Argnums = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes the value of `f`, a scalar, and its gradient.

    Args:
        f: A function of arrays, tensors or structures of them that returns a tensor with one element.
        argnums: The index of the argument to differentiate with respect to, or several indices.
        has_aux: Whether `f` returns (value, auxiliary); the auxiliary is returned unchanged.

    Returns:
        A function of the same arguments that returns (value, gradient), or ((value, auxiliary), gradient). The gradient has the
        structure of the argument; it is a tuple if argnums is a sequence.

    Raises:
        TypeError: for an argument that is not float, or a value that is not a float scalar.

    Example:
        >>> from nbkeras import autodiff
        >>> value, gradient = autodiff.value_and_grad(lambda x: ops.sum(x**2))(np.array([1.0, 2.0]))
        >>> value.item(), gradient.numpy()
        (5.0, array([2., 4.]))
    """

    @entry
    @functools.wraps(f)
    def call(*args, **kwargs):
        numbers = _chosen("grad", argnums, args)
        chosen = _sources("grad", [args[i] for i in numbers])
        with Tape() as within:
            returned = f(*_with(args, numbers, chosen), **kwargs)
        output, aux = _split_aux("grad", returned, has_aux)
        if not isinstance(output, Tensor) or output.size != 1 or output.dtype.kind != "f":
            raise TypeError(
                f"grad: the function must return a float tensor with one element, received {briefly(output)}. "
                "Use vjp or jacrev for several elements"
            )
        flat = structures.flatten(chosen)
        gradients = structures.pack(chosen, _back([output], None, flat, within, False))
        found = gradients[0] if isinstance(argnums, int) else tuple(gradients)
        value = _detached(output)
        return ((value, aux) if has_aux else value), found

    return call


def _detached(outputs: Any) -> Any:
    """Results for the caller, without records unless an outer tape needs them."""
    if tape.thread.tapes:
        return outputs
    return structures.map_leaves(lambda each: Tensor(each.data) if type(each) is Tensor else each, outputs)


def grad(f: Callable, argnums: _Argnums = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes the gradient of `f`, which returns a scalar.

    Args:
        f: A function of arrays, tensors or structures of them that returns a tensor with one element.
        argnums: The index of the argument to differentiate with respect to, or several indices.
        has_aux: Whether `f` returns (value, auxiliary); then (gradient, auxiliary) is returned.

    Returns:
        A function of the same arguments. The gradient has the structure of the argument; it is a tuple if argnums is a sequence.

    Raises:
        TypeError: for an argument that is not float, or a value that is not a float scalar.

    Example:
        >>> from nbkeras import autodiff
        >>> autodiff.grad(lambda w: ops.sum(w["a"] ** 3))({"a": np.array([1.0, 2.0])})["a"].numpy()
        array([ 3., 12.])
        >>> autodiff.grad(autodiff.grad(lambda x: x**3))(2.0).item()
        12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @entry
    @functools.wraps(f)
    def call(*args, **kwargs):
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return call


@entry
def vjp(f: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """The value of `f`, and a function that maps cotangents of the value to gradients of the arguments.

    Args:
        f: A function of arrays, tensors or structures of them.
        *primals: Its arguments.
        has_aux: Whether `f` returns (value, auxiliary).

    Returns:
        (value, pull), or (value, pull, auxiliary). `pull(cotangents)` takes the structure of the value and returns a tuple with
        the gradient of each argument; it may be called several times.

    Example:
        >>> from nbkeras import autodiff
        >>> y, pull = autodiff.vjp(lambda x: x * x, np.array([1.0, 2.0]))
        >>> pull(np.array([1.0, 10.0]))[0].numpy()
        array([ 2., 40.])
    """
    output, pull, aux, _ = _with_pull("vjp", f, primals, has_aux)
    return (output, pull, aux) if has_aux else (output, pull)


def _with_pull(name: str, f: Callable, primals: Sequence[Any], has_aux: bool) -> tuple[Any, Callable, Any, int]:
    """Like `vjp`, and also the size in bytes of the computed values."""
    chosen = _sources(name, primals)
    with Tape() as within:
        output, aux = _split_aux(name, f(*chosen), has_aux)
    targets, sources = structures.flatten(output), structures.flatten(chosen)

    def pull(cotangents: Any) -> tuple:
        seeds = _matching(name, cotangents, output)
        return tuple(structures.pack(chosen, _back(targets, seeds, sources, within, True)))

    return _detached(output), pull, aux, _bytes_between(targets, sources, within)


def _bytes_between(targets: Sequence[Tensor], sources: Sequence[Tensor], within: Tape) -> int:
    """The total size in bytes of the inputs of all ops between sources and targets."""
    starts = [each.record for each in targets if each.record is not None]
    order, _ = tape.in_order(starts, {(each.record, each.index) for each in sources if each.record is not None}, within)
    forms = [form for record in order for form in record.forms if form is not None]
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in forms)


def _matching(name: str, values: Any, like: Any) -> list[Tensor]:
    """Values as a list of tensors; their number and shapes must match the leaves of `like`, whose dtypes they get."""
    expected, given = structures.flatten(like), structures.flatten(values)
    if len(expected) != len(given):
        raise ValueError(f"{name}: expected {len(expected)} arrays, as many as there are values, received {len(given)}")
    result = []
    for each, value in zip(expected, given, strict=True):
        tensor = as_tensor(value, each.dtype)
        if tensor.shape != each.shape:
            raise ValueError(f"{name}: expected an array of the shape {each.shape}, received {tensor.shape}")
        result.append(tensor)
    return result


# -------------------- forwards --------------------


@entry
def jvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple:
    """The value of `fun` and its directional derivative along tangents, in forward mode.

    Args:
        fun: A function of arrays, tensors or structures of them.
        primals: Its arguments, a tuple or list.
        tangents: The direction for each argument, of the same structures and shapes.
        has_aux: Whether `fun` returns (value, auxiliary).

    Returns:
        (value, derivative), or (value, derivative, auxiliary).

    Raises:
        NotImplementedError: for an op without a rule.

    Example:
        >>> from nbkeras import autodiff
        >>> y, dy = autodiff.jvp(ops.sin, (np.array([0.0, np.pi]),), (np.array([1.0, 1.0]),))
        >>> dy.numpy()
        array([ 1., -1.])
    """
    return _jvp("jvp", fun, primals, tangents, has_aux)


def _jvp(name: str, fun: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple:
    """`jvp`; name: of the transform, for errors."""
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, list | tuple):
            raise TypeError(
                f"{name}: {what} must be a tuple with an entry for each argument, (x,) for one; received {briefly(given)}"
            )
    chosen = _sources(name, primals)
    directions = _matching(name, list(tangents), chosen)
    with tape.thread.now(keeps=True), Tape() as within:
        output, aux = _split_aux(name, fun(*chosen), has_aux)
    targets = structures.flatten(output)
    found = walks.push_forward(targets, structures.flatten(chosen), directions, within)
    derivative = structures.pack(
        output, [zeros_of(y.data) if t is None else t for y, t in zip(targets, found, strict=True)]
    )
    output = _detached(output)
    return (output, derivative, aux) if has_aux else (output, derivative)


# -------------------- matrices of derivatives --------------------


def jacrev(f: Callable, argnums: _Argnums = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes the Jacobian of `f` in reverse mode, for functions with fewer outputs than inputs.

    Args:
        f: A function of arrays, tensors or structures of them.
        argnums: The index of the argument to differentiate with respect to, or several indices.
        has_aux: Whether `f` returns (value, auxiliary); then (Jacobian, auxiliary) is returned.

    Returns:
        A function of the same arguments. Its result has the structure of the value. Each tensor in it is replaced by the
        structure of the argument, with arrays of shape (*value.shape, *argument.shape).

    Example:
        >>> from nbkeras import autodiff
        >>> autodiff.jacrev(lambda x: x * x)(np.array([1.0, 2.0])).numpy()
        array([[2., 0.],
               [0., 4.]])
    """

    @entry
    @functools.wraps(f)
    def call(*args, **kwargs):

        numbers = _chosen("jacrev", argnums, args)
        primals = [args[i] for i in numbers]
        with tape.thread.now(keeps=True, composes=_is_higher() and tape.thread.composes):
            output, pull, aux, nbytes = _with_pull(
                "jacrev", lambda *chosen: f(*_with(args, numbers, list(chosen)), **kwargs), primals, has_aux
            )
        targets = structures.flatten(output)
        rows = []
        for k, target in enumerate(targets):

            def row(seed: Tensor, k: int = k) -> list[Tensor]:
                seeds = [seed if i == k else zeros_of(each.data) for i, each in enumerate(targets)]
                return structures.flatten(pull(structures.pack(output, seeds)))

            found = [ops.reshape(y, (*target.shape, *y.shape[1:])) for y in _for_each_element(row, target, nbytes)]
            packed = structures.pack(list(primals), found)
            rows.append(packed[0] if isinstance(argnums, int) else tuple(packed))
        result = structures.pack(output, rows)
        return (result, aux) if has_aux else result

    return call


_FEW = 4  # from this number of elements on, one vmapped pass is faster than a pass for each element
_MEMORY = 1 << 28  # limit in bytes on the values of one vmapped pass


def _for_each_element(function: Callable, like: Tensor, nbytes: int) -> list[Tensor]:
    """The results of a function for each unit tensor of like's shape (a 1 and zeros), stacked along a new first axis.

    nbytes: the size of the values that are computed for one of them.
    """

    directions = np.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape)
    if not like.size:
        return [ops.stack([y])[:0] for y in function(zeros_of(like.data))]
    if like.size < _FEW:
        rows = [function(as_tensor(each)) for each in directions]
        return [ops.stack(each) for each in zip(*rows, strict=True)]
    count = max(1, _MEMORY // max(1, nbytes))
    parts = [vmap(function)(directions[i : i + count]) for i in range(0, like.size, count)]
    return [each[0] if len(parts) == 1 else ops.concatenate(each) for each in zip(*parts, strict=True)]


def jacfwd(f: Callable, argnums: _Argnums = 0, has_aux: bool = False) -> Callable:
    """Return a function that computes the Jacobian of `f` in forward mode, for functions with fewer inputs than outputs.

    Args:
        f: A function of arrays, tensors or structures of them.
        argnums: The index of the argument to differentiate with respect to, or several indices.
        has_aux: Whether `f` returns (value, auxiliary); then (Jacobian, auxiliary) is returned.

    Returns:
        A function of the same arguments, with the same result as `jacrev`.

    Example:
        >>> from nbkeras import autodiff
        >>> autodiff.jacfwd(lambda x: ops.stack([x, x**2, x**3]))(2.0).numpy()
        array([ 1.,  4., 12.], dtype=float32)
    """

    @entry
    @functools.wraps(f)
    def call(*args, **kwargs):
        numbers = _chosen("jacfwd", argnums, args)
        chosen = _sources("jacfwd", [args[i] for i in numbers])
        with tape.thread.now(keeps=True), Tape() as within:
            returned = f(*_with(args, numbers, chosen), **kwargs)
        output, aux = _split_aux("jacfwd", returned, has_aux)
        targets, sources = structures.flatten(output), structures.flatten(chosen)
        nbytes = _bytes_between(targets, sources, within)
        columns: list[list[Tensor]] = []
        for k, source in enumerate(sources):

            def column(direction: Tensor, k: int = k) -> list[Tensor]:
                given = [direction if i == k else None for i in range(len(sources))]
                pushed = walks.push_forward(targets, sources, given, within)
                return [zeros_of(y.data) if t is None else t for y, t in zip(targets, pushed, strict=True)]

            found = [ops.moveaxis(t, 0, -1) for t in _for_each_element(column, source, nbytes)]
            columns.append([ops.reshape(t, (*t.shape[:-1], *source.shape)) for t in found])
        parts = [structures.pack(chosen, [column[i] for column in columns]) for i in range(len(targets))]
        result = structures.pack(output, [part[0] if isinstance(argnums, int) else tuple(part) for part in parts])
        return (result, aux) if has_aux else result

    return call


def hessian(f: Callable, argnums: _Argnums = 0) -> Callable:
    """Return a function that computes the second derivatives of `f`: `jacfwd(jacrev(f))`.

    Args:
        f: A function of arrays, tensors or structures of them.
        argnums: The index of the argument to differentiate with respect to, or several indices.

    Returns:
        A function of the same arguments.

    Example:
        >>> from nbkeras import autodiff
        >>> autodiff.hessian(lambda x: ops.sum(x**3))(np.array([1.0, 2.0])).numpy()
        array([[ 6.,  0.],
               [ 0., 12.]])
    """
    return jacfwd(jacrev(f, argnums), argnums)


@entry
def hvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    """The value of `f`, a scalar, and the product of its Hessian with tangents. It does not make the Hessian.

    Args:
        f: A function of arrays, tensors or structures of them that returns a scalar.
        primals: Its arguments, a tuple or list.
        tangents: The vectors to multiply the Hessian by, of the same structures and shapes.

    Returns:
        (value, product); the product is a tuple with an entry for each argument.

    Example:
        >>> from nbkeras import autodiff
        >>> value, product = autodiff.hvp(lambda x: ops.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
        >>> value.item(), product[0].numpy()
        (9.0, array([6., 0.]))
    """

    def both(*given):
        return value_and_grad(f, tuple(range(len(given))))(*given)

    (value, _), (_, product) = _jvp("hvp", both, primals, tangents)
    return value, product
