"""Floor 1: vmap turns a function of one example into a function of many examples. Its ops run once for all examples.

A mapped tensor has a `Mapped` in place of its array. It has the shape of one example, and holds the *physical* tensor of all
examples (members), with the members along the first axis. `apply` passes an op with a mapped input to `applied`, which computes
it by ops on the physical tensors. These ops are applied as outside the vmap, so outer tapes record them. table.py says
how to compute an op for all members; an op without a rule runs once for each member.

A tape inside the function gets a Record of the op on one example, with its Call. Derivatives from Calls are computed by mapped
ops again, so each member has its own gradient, also with respect to weights that all members share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np

from nbkeras import ops
from nbkeras.autodiff import rules, walks
from nbkeras.autodiff.batch_call import BatchCall, elementwise
from nbkeras.autodiff.nesting import Tape, rule_of, table
from nbkeras.engine import structures, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.tensor import Tensor, as_tensor, stand_in
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.messages import named
from nbkeras.ops.control import _with_gradient

Found = Sequence[Tensor | None]
Axes = Any  # an int, None, or a structure of these


class Level:
    """A running vmap: the number of its members, and the thread's state outside it."""

    def __init__(self, size: int):
        self.size, self.depth = size, tape.thread.levels + 1
        self.tapes, self.keeps = tape.thread.tapes, tape.thread.keeps

    def inside(self) -> Any:
        """`with level.inside():` applies ops as inside the mapped function."""
        return tape.thread.now(levels=self.depth)

    def around(self) -> Any:
        """`with level.around():` applies ops as outside the vmap."""
        now = tape.thread.tapes
        outer = tuple(each for each in self.tapes if each in now)  # not the tapes in `stop_recording`
        return tape.thread.now(levels=self.depth - 1, keeps=self.keeps, tapes=outer)


class Mapped:
    """Replaces the array of a mapped tensor: it has the shape and dtype of one member. The value differs by member."""

    __slots__ = ("physical", "level", "shape", "dtype", "__weakref__")
    base = None  # the physical tensor holds the memory

    def __init__(self, physical: Tensor, level: Level):
        self.physical, self.level = physical, level
        self.shape, self.dtype = physical.shape[1:], physical.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def spread(self, x: Tensor) -> Tensor:
        """x as a tensor that is mapped by the same vmap as this one."""
        if type(x.data) is Mapped and x.data.level is self.level:
            return x
        return ops.add(x, _logical(self.level, ops.zeros(self.level.size, x.dtype)))

    def applied(self, op: Callable, op_vjp: Callable | None, tensors: Found, constants: dict[str, Any]) -> Any:
        """Apply an op to tensors if at least one is mapped; `apply` calls this."""
        return applied(op, op_vjp, tensors, constants)

    def constant(self) -> Tensor:
        """Detach the value from every tape, including those outside the vmaps that map it."""
        physical = self.physical.data
        whole = physical.constant() if type(physical) is Mapped else Tensor(physical)
        return Tensor(Mapped(whole, self.level))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<a value for each of {self.level.size} members of a vmap>"

    def __array__(self, dtype=None, copy=None) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise device.ValueReadError(
            f"the value of a tensor of shape {self.shape} was needed, but autodiff.vmap maps it: it has a different value for "
            f"each of {self.level.size} members. In the mapped function use ops instead of values, for example "
            "ops.where(condition, x, y) instead of `if`. To assign a value to a variable, keep it or print it, return it and use "
            "the result of the mapped function"
        )


def level_of(x: Tensor | None) -> Level | None:
    """The innermost vmap that maps a tensor."""
    data: Any = None if x is None else x.data
    return data.level if type(data) is Mapped else None


def applied(op: Callable, op_vjp: Callable | None, tensors: Found, constants: dict[str, Any]) -> Any:
    """`apply` for tensors if at least one is mapped."""
    level = _innermost(tensors)
    if hasattr(op, "changes_inputs"):
        raise ValueError(
            f"{named(op)} changes a variable that all members of a vmap share, by values that differ between members. Call "
            "layers such as BatchNormalization with training=False in the mapped function, or use GroupNormalization"
        )
    call = MappedCall.of(level, op, op_vjp, tensors, constants)
    if op_vjp is not None and _is_recorded(level, tensors):
        rule = rule_of(op, op_vjp)
        if _is_first_order(call, rule, tensors):
            return _with_gradient_around(level, call, tensors)
        if isinstance(rule, rules.Composed):
            result = rule.function(*tensors, **constants)
            if result is not None:
                return result
        result = _around(level, call)
        _record(op, op_vjp, tensors, constants, result)
        return result
    return _around(level, call)


def _innermost(tensors: Found) -> Level:
    levels = {found for t in tensors if (found := level_of(t)) is not None}
    level = max(levels, key=lambda each: each.depth)
    if sum(each.depth == level.depth for each in levels) > 1:
        raise ValueError("an op received tensors of two vmaps: one of them was kept after its vmap had ended")
    return level


def _around(level: Level, call: MappedCall) -> Any:
    with level.around():
        return _logical(level, _given(level, call) if hasattr(call.op, "given") else outputs_of(call))


def _logical(level: Level, outputs: Any) -> Any:
    """Physical outputs as mapped tensors."""
    if isinstance(outputs, tuple):
        return tuple(_logical(level, each) for each in outputs)
    return Tensor(Mapped(outputs, level))  # type: ignore[arg-type]


def _is_recorded(level: Level, tensors: Found) -> bool:
    """Whether a tape inside the mapped function records an op on these tensors."""
    inner = any(each not in level.tapes for each in tape.thread.tapes)
    return inner and any(t is not None and t.record is not None for t in tensors)


def _record(op: Callable, op_vjp: Callable, tensors: Found, constants: dict[str, Any], result: Any) -> None:
    outputs = result if isinstance(result, tuple) else (result,)
    parents = tuple(None if t is None or t.record is None else (t.record, t.index) for t in tensors)
    forms = tuple(None if t is None else (t.shape, t.dtype) for t in tensors)
    record = tape.Record(op.__name__, _needs_ops, rules.UNSAVED, parents, forms, len(outputs), layer_stack.layer)
    for i, each in enumerate(outputs):
        if each.dtype.kind == "f":
            each.record, each.index = record, i
    rules.keep_call(op, op_vjp, tensors, constants, result)


def _needs_ops(saved: Any, dy: Any, needs: tuple) -> tuple:
    raise NotImplementedError(
        "a gradient through a function mapped by autodiff.vmap was requested outside of it, for a tensor that was kept. "
        "Compute the gradient inside the function, or return the tensor"
    )


# -------------------- first derivatives --------------------


def _is_first_order(call: MappedCall, rule: rules.Rule | None, tensors: Found) -> bool:
    """Whether an op's own vjp can compute the gradients of all members: first derivatives, and no input that members share.

    It is False for an op whose rule is as cheap, such as a sum: the rule is used.
    """
    state = tape.thread
    if state.keeps or len(state.tapes) > 1 or stand_in(call.tensors) is not None or hasattr(call.op, "given"):
        return False
    if isinstance(rule, rules.Linear | rules.Multilinear | rules.NoRule) or (
        isinstance(rule, rules.Elementwise) and len(tensors) > 1
    ):
        return False
    return all(m for t, m in zip(tensors, call.mapped, strict=True) if t is not None and t.record is not None)


def _with_gradient_around(level: Level, call: MappedCall, tensors: Found) -> Any:
    """The op on mapped tensors. A tape outside the vmap computes its gradient, for one backward pass."""
    given = [
        x if t is None or x is None or t.record is None else Tensor(x.data, tape.leaf("members"))
        for t, x in zip(tensors, call.tensors, strict=True)
    ]
    with level.around(), tape.thread.now(levels=0), Tape() as within:
        found = outputs_of(call._replace(tensors=tuple(given)))
    outputs = found if isinstance(found, tuple) else (found,)

    def op(*arrays, **constants):
        return call.op(*arrays, **constants)

    def gradient(record, dys, needs):
        def back(*arrays):
            raise NotImplementedError  # the gradients of outputs are mapped

        def batched(mapped):
            if tape.thread.levels + 1 != level.depth:  # another vmap is around the backward pass
                return NotImplemented
            return _back(outputs, mapped.tensors, [x for x, need in zip(given, needs, strict=True) if need], within)

        back.__name__ = f"gradient of {call.op.__name__}"
        back.batching = batched  # type: ignore[attr-defined]
        dys = [None if dy is None else record.call.outputs[0].spread(dy) for dy in dys]
        results = iter(rules.applied_once(back, call.op.__name__, dys))
        return [next(results) if need else None for need in needs]

    op.__name__ = call.op.__name__
    rules.define(op, rules.Explicit(gradient))
    result = _logical(level, tuple(Tensor(y.data) for y in outputs))
    result = result if isinstance(found, tuple) else result[0]
    _record(op, cast(Callable, call.op_vjp), tensors, call.constants, result)
    return result


def _back(outputs: Sequence[Tensor], dys: Found, sources: Sequence[Any], within: Tape) -> tuple[Tensor, ...]:
    """Gradients of sources, computed by a tape outside a vmap."""
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if y.record is not None and dy is not None]
    starts: Any = [((y.record, y.index), dy.data) for y, dy in pairs]
    found = tape.backward(starts, [(x.record, 0) for x in sources], retain=True, within=within)
    return tuple(rules.zeros_of(x.data) if g is None else Tensor(g) for x, g in zip(sources, found, strict=True))


# -------------------- an op for all members --------------------


class MappedCall(BatchCall):
    """A call of an op for all members, which can also compute its gradients."""

    @staticmethod
    def of(
        level: Level, op: Callable, op_vjp: Callable | None, tensors: Found, constants: dict[str, Any]
    ) -> MappedCall:
        """The call for tensors, some of which are mapped at this level."""
        mapped = tuple(t is not None and type(t.data) is Mapped and t.data.level is level for t in tensors)
        physical = tuple(t.data.physical if m else t for t, m in zip(tensors, mapped, strict=True))  # type: ignore[union-attr]
        return MappedCall(op, op_vjp, physical, mapped, level.size, constants)

    def pulled(
        self,
        call: rules.Call,
        inputs: Found,
        mapped: Sequence[bool],
        which: Sequence[int],
        dys: Found,
        computes: bool = True,
    ) -> list[Tensor]:
        """Physical gradients of some inputs of an op that is linear in them, back through its computation for all members.

        Args:
            call: The call of that op; this call is its gradient.
            inputs: Physical inputs of the op; the inputs in `which` are replaced by zeros for each member.
            mapped: For each input, whether it is mapped.
            which: The indices of the inputs that get gradients.
            dys: Physical gradients of each output.
            computes: Whether the gradients need the op's results.
        """
        given, is_of_members = list(inputs), list(mapped)
        for i in which:
            like = cast(Tensor, call.inputs[i])
            given[i], is_of_members[i] = _source((self.size, *like.shape), like.dtype), True
        every = tuple(given), tuple(is_of_members), self.size, call.constants, computes
        forward = MappedCall(call.op, call.op_vjp, *every)
        return _pulled_back(lambda: outputs_of(forward), dys, [cast(Tensor, given[i]) for i in which])

    def transposed(self, linear: Callable, shape: tuple[int, ...], dy: Tensor) -> Tensor:
        """The gradient dy of a linear function of an array of this shape, pulled back to the array."""
        x = _source(shape, dy.dtype)
        return _pulled_back(lambda: linear(x), [dy], [x])[0]

    def backwards(self, call: rules.Call, which: Sequence[int]) -> Any:
        """Physical gradients of some inputs of an op, which runs again. `self.tensors` are its inputs, then the dys."""
        if stand_in(self.tensors) is not None:
            return NotImplemented
        count, given, is_of_members = len(call.inputs), list(self.tensors), list(self.mapped)
        for i in which:
            given[i], is_of_members[i] = Tensor(self.front(i).data, tape.leaf("members")), True
        every = tuple(given[:count]), tuple(is_of_members[:count]), self.size, call.constants
        with tape.thread.now(levels=0, keeps=False, tapes=()), Tape() as within:
            y = outputs_of(MappedCall(call.op, call.op_vjp, *every))
        dys = [self.front(i) for i in range(count, len(given))]
        return _back(y if isinstance(y, tuple) else [y], dys, [given[i] for i in which], within)


def _source(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Zeros that get a gradient."""
    zeros = ops.zeros(shape, dtype)
    zeros.record = tape.leaf("zeros")
    return zeros


def _pulled_back(linear: Callable, dys: Found, sources: list[Tensor]) -> list[Tensor]:
    """The gradients of the sources of a linear function."""
    with tape.thread.now(keeps=True), Tape() as within:
        y = linear()
    found = walks.pull_back(y if isinstance(y, tuple) else [y], dys, sources, within)
    return [rules.zeros_of(x.data) if g is None else g for x, g in zip(sources, found, strict=True)]


def outputs_of(call: MappedCall) -> Any:
    """The physical outputs of an op: by its rule, by other ops if it is a composition, or by running it on each member."""
    batch = getattr(call.op, "batching", None) or table.RULES.get(call.op, (None, None))[1]
    rule = rule_of(call.op, call.op_vjp)
    if batch is None and (isinstance(rule, rules.Elementwise) or hasattr(call.op, "broadcasts")):
        batch = elementwise
    result = NotImplemented if batch is None else batch(call)
    if result is NotImplemented and isinstance(rule, rules.Composed):
        result = _by_composition(call, rule)
    return _by_member(call) if result is NotImplemented else result


def _given(level: Level, call: MappedCall) -> Any:
    """The physical outputs of a function with a custom gradient, `ops.custom_gradient`. It ran on the mapped tensors."""
    values, gradients = call.op.given  # type: ignore[attr-defined]
    outputs = [_physical(each, level) for each in values]

    def physical_gradients(dys: Found) -> list[Tensor | None]:
        with level.inside():
            found = gradients([None if dy is None else _logical(level, dy) for dy in dys])
        wholes = [None if g is None else _physical(g, level) for g in found]
        return [g if g is None or m else ops.sum(g, axis=0) for g, m in zip(wholes, call.mapped, strict=True)]

    return _with_gradient(call.op.__name__, outputs, physical_gradients, call.tensors)


def _by_composition(call: MappedCall, rule: rules.Composed) -> Any:
    level = Level(call.size)
    tensors = [_logical(level, t) if m else t for t, m in zip(call.tensors, call.mapped, strict=True)]
    with level.inside():
        found = rule.function(*tensors, **call.constants)
    if found is None:
        return NotImplemented
    return tuple(_physical(each, level) for each in found) if isinstance(found, tuple) else _physical(found, level)


def _by_member(call: MappedCall) -> Any:

    rows = []
    for i in range(max(call.size, 1)):
        given = [
            t if t is None or not m else t[i] if call.size else ops.zeros(t.shape[1:], t.dtype)
            for t, m in zip(call.tensors, call.mapped, strict=True)
        ]
        y = call.run(given)
        rows.append(y if isinstance(y, tuple) else (y,))
    outputs = tuple(ops.stack(each) if call.size else ops.stack(each)[:0] for each in zip(*rows, strict=True))
    return outputs if isinstance(y, tuple) else outputs[0]


def _physical(x: Any, level: Level) -> Tensor:
    """The physical tensor of a result. A result that all members share is repeated."""
    x = as_tensor(x)
    if type(x.data) is Mapped and x.data.level is level:
        return x.data.physical
    return ops.broadcast_to(x, (level.size, *x.shape))


# -------------------- vmap --------------------


def vmap(f: Callable, in_axes: Axes = 0, out_axes: Axes = 0) -> Callable:
    """Return a function that applies `f` to each slice of its arguments along an axis, by ops on all slices at once.

    In `f` a tensor has the shape of one slice. Its value cannot be read there, since it differs from slice to slice. Dropout
    drops different elements in each slice; other random numbers in `f` are the same for all slices. If nbkeras cannot compute an
    op for all slices at once, such as your own op, it runs once for each slice.

    Args:
        f: A function of arrays, tensors or structures of them.
        in_axes: The axis to slice: an int for all arguments, None for arguments that are passed whole, or a tuple with an entry
            for each argument: an int, None, or a structure of these like the argument or its upper part. Keyword arguments are
            sliced along their first axis.
        out_axes: The axis of the results that stacks the slices: an int, or a structure of ints like the result; None for a
            result that is the same for all slices.

    Returns:
        A function of the same arguments.

    Raises:
        ValueError: if nothing is mapped, sizes differ, an axis is out of range, or a structure of axes does not match.

    Example:
        >>> from nbkeras import autodiff
        >>> autodiff.vmap(lambda x, y: ops.sum(x * y))(np.ones((2, 3)), np.arange(6.0).reshape(2, 3)).numpy()
        array([ 3., 12.])
        >>> gradients = autodiff.vmap(autodiff.grad(lambda w, x: ops.sum(w * x) ** 2), in_axes=(None, 0))
        >>> gradients(np.array([1.0, 1.0]), np.array([[1.0, 2.0], [3.0, 4.0]])).numpy()
        array([[ 6., 12.],
               [42., 56.]])
    """

    @functools.wraps(f)
    def call(*args, **kwargs):

        leaves, axes = structures.flatten(args), _axes_of_arguments(in_axes, args)
        extra = structures.flatten(kwargs)
        leaves, axes = [*leaves, *extra], [*axes, *[0] * len(extra)]
        given = [
            (leaf, None) if axis is None or leaf is None else _checked(as_tensor(leaf), axis)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        level = Level(_size_of(given))
        members = [
            leaf if axis is None else _logical(level, leaf if axis == 0 else ops.moveaxis(leaf, axis, 0))
            for leaf, axis in given
        ]
        count = len(members) - len(extra)
        with level.inside():
            y = f(*structures.pack(args, members[:count]), **structures.pack(kwargs, members[count:]))
        found = [
            _joined(each, axis, level)
            for each, axis in zip(structures.flatten(y), _spread("out_axes", out_axes, y), strict=True)
        ]
        return structures.pack(y, found)

    return call


def _axes_of_arguments(in_axes: Axes, args: tuple) -> list[int | None]:
    """The axis of each leaf of the arguments."""
    if not isinstance(in_axes, list | tuple):
        in_axes = (in_axes,) * len(args)
    if len(in_axes) != len(args):
        raise ValueError(
            f"vmap: in_axes is an int, None, or a tuple with an entry for each argument, received {len(in_axes)} entries for "
            f"{len(args)} arguments: {briefly(in_axes)}"
        )
    return [axis for each, arg in zip(in_axes, args, strict=True) for axis in _spread("in_axes", each, arg)]


def _spread(name: str, axes: Axes, value: Any) -> list[int | None]:
    """The axis of each leaf of a value. axes: a structure like the value, or like the upper part of it."""
    if axes is None or (isinstance(axes, int | np.integer) and not isinstance(axes, bool)):
        return [None if axes is None else int(axes)] * len(structures.flatten(value))
    if not structures.is_nested(axes):
        raise TypeError(f"vmap: {name} holds ints and None, received {briefly(axes)}")
    own, given = structures.parts(axes), structures.parts(value) if structures.is_nested(value) else None
    same_kind = isinstance(axes, dict) == isinstance(value, dict)
    if given is None or not same_kind or [key for key, _ in own] != [key for key, _ in given]:
        raise ValueError(
            f"vmap: {name} must have the structure of the value, or the upper part of it: received {briefly(axes)} for "
            f"{briefly(value)}"
        )
    return [axis for (_, part), (_, each) in zip(own, given, strict=True) for axis in _spread(name, part, each)]


def _checked(x: Tensor, axis: int) -> tuple[Tensor, int]:
    """A tensor and its axis, counted from 0."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"vmap: axis {axis} is out of range for an argument of shape {x.shape}. in_axes are axes of the arguments; None "
            "passes an argument whole. Keyword arguments are mapped along axis 0: bind others by functools.partial"
        )
    return x, axis % x.ndim


def _size_of(given: list[tuple]) -> int:
    sizes = [x.shape[axis] for x, axis in given if axis is not None]
    if not sizes:
        raise ValueError("vmap: no argument is mapped. At least one array needs an axis other than None in in_axes")
    if len(set(sizes)) > 1:
        raise ValueError(f"vmap: all mapped axes must have the same size, received sizes {sizes}")
    return sizes[0]


def _joined(value: Any, axis: int | None, level: Level) -> Any:
    """A result of the mapped function, with the members along an axis."""
    if value is None:
        return None
    x = as_tensor(value)
    if axis is None:
        if type(x.data) is Mapped and x.data.level is level:
            raise ValueError("vmap: out_axes is None for a result that is not the same for all members")
        return x
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"vmap: out_axes has axis {axis} for a result with {x.ndim + 1} axes, members included")
    y = _physical(x, level)
    return y if axis == 0 else ops.moveaxis(y, 0, axis)
