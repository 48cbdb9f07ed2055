"""Floor 1: nested tapes. Ops are applied there so that their Records keep what derivatives of derivatives need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbkeras.autodiff import rules
from nbkeras.engine import tape
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import Tensor, apply_plainly

table = LazyModule("nbkeras.autodiff.table")  # most tapes are not nested, and need none of it


def rule_of(op: Callable, op_vjp: Callable | None) -> rules.Rule | None:
    """The rule of an op, or None."""
    rule = getattr(op, "derivative", None)
    made = getattr(op_vjp, "derivative", None)
    if rule is None and made is not None:  # the vjp has a function that makes the rule from the module `rules`
        rule = made(rules)
    if rule is None:
        rule, _ = table.RULES.get(op, (None, None))
    return rule


def applied(op: Callable, op_vjp: Callable | None, tensors: Sequence[Tensor | None], constants: dict[str, Any]) -> Any:
    """`apply` while Records keep the calls of their ops."""
    if op_vjp is None or not any(t is not None and t.record is not None for t in tensors):
        return apply_plainly(op, op_vjp, tensors, constants)
    rule = rule_of(op, op_vjp)
    if isinstance(rule, rules.Composed) and (rule.otherwise or tape.thread.composes or len(tape.thread.tapes) > 1):
        result = rule.function(*tensors, **constants)
        if result is not None:
            return result
    result = apply_plainly(op, op_vjp, tensors, constants)
    rules.keep_call(op, op_vjp, tensors, constants, result)
    return result


class Tape(tape.GradientRecording):
    """A separate recording, even inside another one. `backward(..., within=tape)` goes back only through its Records."""

    is_spent = False  # whether no more gradients will be taken from this tape
    applied = staticmethod(applied)

    def __enter__(self) -> Tape:
        state = tape.thread
        self._before = before, leaves_fast_path = state.tapes, state.leaves_fast_path
        state.tapes = (*before, self)
        state.leaves_fast_path = leaves_fast_path or bool(before) or state.levels > 0
        return self

    def others(self) -> tuple:
        """The active recordings, without this one."""
        return tuple(each for each in tape.thread.tapes if each is not self)
