"""Floor 1: passes over the tape by ops: backward with gradients, forward with tangents. Their results are differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbkeras import ops
from nbkeras.autodiff.nesting import Tape, rule_of
from nbkeras.autodiff.rules import Composed, Found, Once, Rule, of_shape, plus, zeros_of
from nbkeras.engine import tape
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.tensor import Tensor, as_tensor


def pull_back(
    targets: Sequence[Tensor], seeds: Sequence[Any] | None, sources: Sequence[Tensor], within: Tape
) -> list[Tensor | None]:
    """Gradients of the targets' weighted sum with respect to sources. Like `tape.backward`, but by differentiable ops.

    Args:
        targets: Tensors.
        seeds: Factors of the elements of each target; None for ones.
        sources: Tensors.
        within: The tape whose records are followed.

    Returns:
        A tensor for each source; None where no target depends on it.
    """
    sums: dict[tape.Source, Tensor] = {}
    for target, seed in zip(targets, seeds or [None] * len(targets), strict=True):
        if target.record is None:
            continue
        dy = ops.ones_like(target) if seed is None else as_tensor(seed, target.dtype)
        if dy.shape != target.shape:
            raise ValueError(f"output_gradients must have the target's shape {target.shape}, received {dy.shape}")
        source = target.record, target.index
        sums[source] = plus(sums.get(source), dy)
    keys = [None if each.record is None else (each.record, each.index) for each in sources]
    wanted = {key for key in keys if key is not None}
    order, between = tape.in_order([record for record, _ in sums], wanted, within)
    outer = layer_stack.back
    try:
        for record in order:
            layer_stack.back = record.layer
            _step_back(record, sums, wanted, between)
    finally:
        layer_stack.back = outer
    return [None if key is None else sums.get(key) for key in keys]


def _step_back(record: tape.Record, sums: dict, wanted: set, between: set) -> None:
    dys = []
    for index in range(record.outputs):
        source = record, index
        dys.append(sums.get(source) if source in wanted else sums.pop(source, None))
    if all(dy is None for dy in dys):
        return
    needs = [parent is not None and (parent in wanted or parent[0] in between) for parent in record.parents]
    gradients = _rule(record).vjp(record, dys, needs)
    for parent, form, need, gradient in zip(record.parents, record.forms, needs, gradients, strict=True):
        if need and gradient is not None:
            sums[parent] = plus(sums.get(parent), unbroadcast(gradient, form[0]))


def unbroadcast(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum a gradient over the axes along which its operand of `shape` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = [i for i in range(gradient.ndim) if i < extra or (shape[i - extra] == 1 and gradient.shape[i] != 1)]
    if axes:
        gradient = ops.sum(gradient, axis=axes)
    return ops.broadcast_to(ops.reshape(gradient, shape), shape) if gradient.shape != shape else gradient


def push_forward(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor | None], within: Tape
) -> list[Tensor | None]:
    """Tangents of outputs from tangents of inputs, through the records of a tape.

    Args:
        outputs: Tensors that were computed from the inputs.
        inputs: Tensors.
        tangents: The tangent of each input, of its shape; None for zeros.
        within: The tape whose records are followed.

    Returns:
        A tangent for each output; None where it depends on no input.
    """
    known: dict[tape.Source, Tensor] = {}
    for each, tangent in zip(inputs, tangents, strict=True):
        if each.record is not None and tangent is not None:
            known[each.record, each.index] = tangent
    order, _ = tape.in_order([each.record for each in outputs if each.record is not None], set(known), within)
    for record in reversed(order):
        given = [None if parent is None else known.get(parent) for parent in record.parents]
        if any(each is not None for each in given):
            for index, tangent in enumerate(_tangents(record, given)):
                if tangent is not None:
                    known[record, index] = tangent
    return [None if each.record is None else known.get((each.record, each.index)) for each in outputs]


def _tangents(record: tape.Record, given: Found) -> Found:
    """The tangent of each output of an op, from the tangents of its inputs.

    If the rule has no jvp, the vjp is applied twice: it is linear in the dys, and its transposed map is the jvp.
    """
    rule = _rule(record)
    found = rule.jvp(record, given)
    if found is not None:
        return found
    dys = [zeros_of(array) for array in record.call.outputs]
    for dy in dys:
        dy.record = tape.leaf("cotangent")
    needs = [tangent is not None for tangent in given]
    with tape.thread.now(keeps=True), Tape() as within:
        gradients = rule.vjp(record, dys, needs)
    pairs = [(g, t) for g, t in zip(gradients, given, strict=True) if g is not None and t is not None]
    return pull_back([g for g, _ in pairs], [of_shape(t, g.shape) for g, t in pairs], dys, within)


def _rule(record: tape.Record) -> Rule:
    """The rule of the op that made a record. Raises NotImplementedError if there is none."""
    tape.check_is_kept(record)
    is_mapped = tape.thread.levels > 0
    if record.call is None and is_mapped:
        return Once()
    if record.call is None:
        raise NotImplementedError(
            f"{record.name!r} has no higher-order derivative here: it was computed outside the inner tape. Compute it in "
            "the block of the tape whose gradient is differentiated"
        )
    rule = rule_of(record.call.op, record.call.op_vjp)
    if isinstance(rule, Composed):
        rule = rule.otherwise
    if rule is None and is_mapped:
        return Once()
    if rule is None:
        raise NotImplementedError(
            f"the op {record.name!r} has only a first derivative. If it is yours, give it a rule: "
            f"autodiff.define({record.name}, autodiff.Elementwise(slope)), or Linear, Multilinear, Composed or Explicit; see "
            "docs/autodiff.md"
        )
    return rule
