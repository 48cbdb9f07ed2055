"""Floor 1: what a function changes in Python while it is recorded. Replays run no Python, so they do not repeat it."""

from __future__ import annotations

import contextlib
import random
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras.engine import user_errors
from nbkeras.engine.recorder import current_recorder
from nbkeras.engine.tensor import Variable

_GROWING = (list, set, deque)


class SideEffects:
    """The random generators, lists, sets and variables that a function of the user's can reach, to notice changes.

    function: the function, or a bound method; None for only the generators of the modules `random` and `numpy.random`.
    """

    def __init__(self, function: Any = None):
        self._function = function
        self._before, self._made = dict(_states(function)), Variable.made

    def warn(self, subject: str) -> bool:
        """Warn if something has changed. subject: what was recorded. Returns whether it warned.

        A first call that makes variables may draw random numbers and fill lists. A function that reads values runs eagerly.
        """
        program = current_recorder()
        if program is None or program.reason is not None or Variable.made != self._made:
            return False
        changed = [name for name, state in _states(self._function) if self._before.get(name, state) != state]
        if not changed:
            return False
        draws = next((name for name in changed if name.endswith("generator")), None)
        user_errors.warn(
            f"{subject} was recorded, and drew random numbers from {draws}: replays run no Python, so they use the same numbers "
            "again. Draw by nbkeras.random with a SeedGenerator, or draw outside and pass the numbers as an argument"
            if draws
            else f"{subject} was recorded, and changed {changed[0]}: replays run no Python, so they do not repeat this. Return "
            "the value, or keep it in a Variable"
        )
        return True


def _states(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function may change, by name, each with a value that is another one afterwards."""
    yield "Python's random generator", random.getstate()
    if "numpy.random" in sys.modules:  # NumPy imports it when it is used
        yield "NumPy's random generator", _generator_state(np.random.mtrand._rand)
    for name, value in _reached(function):
        if isinstance(value, np.random.Generator | np.random.RandomState):
            yield f"{name}, a random generator", _generator_state(value)
        elif isinstance(value, _GROWING):
            yield f"the {type(value).__name__} {name}", len(value)
        elif isinstance(value, dict):
            yield f"a list in {name}", sum(len(each) for each in list(value.values()) if isinstance(each, _GROWING))
        elif isinstance(value, int | float):
            yield f"the variable {name}", repr(value)  # NaN is not equal to itself


def _generator_state(generator: Any) -> str:
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    state = bits.state
    return repr({**state, "state": {k: v if isinstance(v, int) else v.tobytes() for k, v in state["state"].items()}})


def _reached(function: Any) -> Iterator[tuple[str, Any]]:
    """The variables of a function's closure, the globals that it names, and the attributes of its object."""
    if isinstance(function, types.MethodType):
        yield from ((f"self.{name}", value) for name, value in list(vars(function.__self__).items()))
        function = function.__func__
    if isinstance(function, types.FunctionType):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                yield repr(name), cell.cell_contents
        names = [name for name in function.__code__.co_names if name in function.__globals__]
        yield from ((repr(name), function.__globals__[name]) for name in names)
