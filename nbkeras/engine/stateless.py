"""Floor 1: temporary values of variables, for stateless calls."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from nbkeras.engine import copy_on_write, step_lock, structures
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, brought, copied


def values_for(what: str, owner: str, variables: Sequence[Variable], values: Any) -> list[Tensor]:
    """Values as tensors with their variables' dtypes. Raises ValueError if they do not fit. what: the argument's name."""
    values = list(values)
    if len(values) != len(variables):
        raise ValueError(
            f"{what} must have one value for each of {owner}: expected {len(variables)}, received {len(values)}"
        )
    found = []
    for variable, value in zip(variables, values, strict=True):
        value = brought(as_tensor(value, variable.dtype))
        if value.shape != variable.shape:
            raise ValueError(
                f"{what}: the value of variable {variable.path!r} must have shape {variable.shape}, received {value.shape}"
            )
        found.append(value)
    return found


class _Thread(threading.local):
    depth = 0  # the number of active `holding` blocks


_thread = _Thread()


def is_holding() -> bool:
    """Whether some variables have temporary values, so that programs of other calls would read the wrong memory."""
    return _thread.depth > 0


@contextlib.contextmanager
def holding(variables: Sequence[Variable], values: Sequence[Tensor]) -> Iterator[None]:
    """In the block, the variables have these values. Afterwards they have their own values again, even if they were written.

    The values are not changed either. Values of states are copied first. Values of weights, which a call rarely writes, are
    copied at an assignment. Gradients with respect to the values pass through in both cases.
    """
    # another thread may exchange the same variables
    with step_lock.alone(), temporarily(_thread, depth=_thread.depth + 1):
        states = []
        for variable, value in zip(variables, values, strict=True):
            is_lent = variable.declared_trainable or variable.is_quantized
            value = value if is_lent else copied(value)
            states.append((value.data, value.record, value.index, is_lent))
        before = [(v.data, v.record, v.index, v.is_lent) for v in variables]
        try:
            _set(variables, states)
            yield
        finally:
            _set(variables, before)


def _set(variables: Sequence[Variable], states: Sequence[tuple]) -> None:
    for variable, state in zip(variables, states, strict=True):
        variable.data, variable.record, variable.index, variable.is_lent = state
        if not variable.is_lent:
            variable.data = copy_on_write.share(variable.data)


def current(structure: Any) -> Any:
    """A structure with tensors of the current values in place of variables, for use after `holding`."""
    return structures.map_leaves(
        lambda leaf: Tensor(leaf.data, leaf.record, leaf.index) if isinstance(leaf, Variable) else leaf, structure
    )
