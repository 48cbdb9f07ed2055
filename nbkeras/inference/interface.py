"""Floor 3: Interface, which checks the arrays that a stream takes: the inputs of some steps, and a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.data.arrays import to_array
from nbkeras.data.input_matching import GraphInputs, check_numbers

# kinds of tensors: a row for each step, the last step's, one for all steps
STEPS, LAST, GIVEN = ("steps", "last", "given")
Array = np.ndarray


class Interface:
    """The inputs and the state of a stream.

    matching: orders the inputs. inputs: name, shape with the batch axis, and dtype of each. is_sequence: for each, whether
    axis 1 is the steps. limit: the maximum number of steps of a sequence, or None.
    """

    def __init__(
        self,
        name: str,
        matching: GraphInputs,
        inputs: Sequence[tuple[str, tuple, np.dtype]],
        is_sequence: Sequence[bool],
        state_size: int,
        dtype: Any,
        limit: int | None,
    ):
        self._name, self._matching, self.inputs, self.is_sequence = name, matching, list(inputs), list(is_sequence)
        self.state_size, self.dtype, self.limit = state_size, np.dtype(dtype), limit

    def arrays(self, x: Any) -> tuple[list[Array], int, int, bool]:
        """(arrays with a step axis, number of rows, number of steps, whether x had no step axis) of a user's x."""
        leaves = self._matching.in_order(x)
        found = [
            to_array(leaf, f"input {name!r}", dtype) for leaf, (name, _, dtype) in zip(leaves, self.inputs, strict=True)
        ]
        pairs = zip(found, self.inputs, self.is_sequence, strict=True)
        left_out = [array.ndim == len(shape) - 1 for array, (_, shape, _), is_sequence in pairs if is_sequence]
        is_step = all(left_out)
        if is_step:
            found = [array[:, None] if each else array for array, each in zip(found, self.is_sequence, strict=True)]
        batch, steps = self.sizes(found)
        for position, table in self._matching.tables.items():
            check_numbers(found[position], *table, self.inputs[position][0])
        return found, batch, steps, is_step

    def sizes(self, arrays: Sequence[Array]) -> tuple[int, int]:
        """(number of rows, number of steps) of arrays with a step axis. Raises ValueError for shapes that do not fit."""
        rows, steps = {}, {}
        for array, (name, shape, _), is_sequence in zip(arrays, self.inputs, self.is_sequence, strict=True):
            rest = 2 if is_sequence else 1
            sizes = zip(shape[rest:], array.shape[rest:], strict=False)
            if array.ndim != len(shape) or any(expected not in (None, size) for expected, size in sizes):
                raise ValueError(
                    f"input {name!r} of model {self._name!r} must have shape {_shown(shape, is_sequence)}, received {array.shape}"
                )
            rows[name] = array.shape[0]
            if is_sequence:
                steps[name] = array.shape[1]
        if len(set(rows.values())) > 1 or len(set(steps.values())) > 1:
            raise ValueError(
                "all inputs of a call must have the same number of rows, and all sequences the same number of steps, received "
                f"rows {rows} and steps {steps}"
            )
        count = next(iter(steps.values()))
        if count == 0:
            raise ValueError("a call needs one step or more, received an input without any")
        return next(iter(rows.values())), count

    def state(self, state: Any, batch: int, steps: int) -> Array:
        """A state as an array of its dtype. Raises ValueError if it does not fit, or a sequence would become too long."""
        array = state if isinstance(state, np.ndarray) else np.asarray(state)
        if array.shape != (batch, self.state_size) or array.dtype.kind not in "fiu":
            raise ValueError(
                f"the state of {batch} sequences is an array ({batch}, {self.state_size}) that `initial` or the previous call "
                f"returned, received shape {array.shape}, dtype {array.dtype}"
            )
        if self.limit is not None:
            self.check_length(array, steps)
        return np.ascontiguousarray(array, self.dtype)

    def check_length(self, state: Array, steps: int) -> None:
        """Raise ValueError if a sequence would become longer than the state allows."""
        before = int(state[:, 0].max(initial=0))
        if self.limit is not None and before + steps > self.limit:
            raise ValueError(
                f"a sequence has {before} steps and gets {steps} more, but sequences of this stream have up to {self.limit}: "
                "make it with a larger window, or start a new sequence from initial()"
            )


def _shown(shape: tuple, is_sequence: bool) -> str:
    sizes = [str(size or "any") for size in shape[2 if is_sequence else 1 :]]
    one = f"({', '.join(['batch', *sizes])})"
    return f"({', '.join(['batch', 'steps', *sizes])}), or {one} for one step" if is_sequence else one
