"""Floor 3: `nbkeras.profile`, the time of a step by layer and by kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, overload

import numpy as np

from nbkeras.data.adapters import is_stream
from nbkeras.data.conversion import batch_of
from nbkeras.engine import launch_costs, program, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.tensor import assign_all
from nbkeras.training.jit import Jitted
from nbkeras.training.model import Model
from nbkeras.visualization.profiles import StepProfile


@overload
def profile() -> AbstractContextManager[program.Profile]: ...
@overload
def profile(model: Any, x: Any, y: Any = ..., batch_size: int | None = ..., steps: int = ...) -> StepProfile: ...
def profile(model: Any = None, x: Any = None, y: Any = None, batch_size: int | None = 32, steps: int = 10) -> Any:
    """Measure the time of a model's step or of a jitted function, by layer and by kernel.

    The step is a training step if y is given and the model is compiled, else a prediction. Weights, the optimizer's state and
    the metrics do not change. A jitted function that has no program yet for such arguments is called first, which may change
    variables; the measurement changes none. Without arguments it is a context, `with nbkeras.profile() as p:`. It counts and
    times the kernels that this thread launches or replays in the block: `p.calls` and `p.seconds` by kernel.

    Args:
        model: The model, or a function of `nbkeras.jit`; None for the context.
        x: Inputs, as for `model.fit`; the profile uses the first rows. For a function its arguments: a tuple, or one argument.
        y: Targets, as for `model.fit`; None to profile a prediction.
        batch_size: The number of rows of the step; None for all rows of x.
        steps: The number of measurements; times are their medians.

    Returns:
        A profile: `print(p)` shows tables, `p.save("p.svg")` draws it, `p.save("p.json")` writes a trace for Perfetto,
        `p.memory("m.svg")` draws the planned memory. `p.layers`, `p.kernels` and `p.rows` hold the numbers.

    Raises:
        TypeError: model is neither a model nor a jitted function, or x is missing.
        ValueError: x or y do not match the model, or a count is not positive.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> p = keras.profile(model, np.ones((64, 8)), np.ones((64, 1)), steps=2)
        >>> sorted({row.direction for row in p.layers})
        ['backward', 'forward', 'update']
        >>> with keras.profile() as counts:
        ...     _ = model.predict(np.ones((64, 8)))
        >>> "multiply" in counts.calls
        True
    """
    if model is None and x is None and y is None:
        return program.profile()
    if not isinstance(model, Model | Jitted):
        raise TypeError(
            f"profile needs a model or a jitted function first: profile(model, x, y). Received {briefly(model)}"
        )
    if x is None:
        raise TypeError("profile needs inputs: profile(model, x) for a prediction, profile(model, x, y) for training")
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if not (value is None and name == "batch_size") and (not isinstance(value, int) or value < 1):
            raise ValueError(f"profile: {name} must be a positive integer, received {briefly(value)}")
    if isinstance(model, Jitted):
        return _of_function(model, x if isinstance(x, tuple) else (x,), steps)
    if y is not None and not model.compiled:
        raise ValueError("profile got targets, but the model is not compiled: call model.compile(...), or leave y out")
    if is_stream(x):
        raise ValueError(
            "profile needs arrays, but x is a generator or a Sequence: pass one of its batches, profile(model, x, y)"
        )
    return _measured(model, x, y, batch_size, steps)


def _measured(model: Model, x: Any, y: Any, batch_size: int | None, steps: int) -> StepProfile:
    kind = "predict" if y is None else "train"
    with tensor.on_gpu(model._gpu):
        whole, step = batch_of(model._data_spec, x, y), model._step_for(kind)
        rows = whole.size if batch_size is None else min(batch_size, whole.size)
        batch = Batch([None if leaf is None else leaf[:rows] for leaf in whole.leaves], ALL, rows, whole.layout)
        if not batch.size:
            raise ValueError("the data has no samples")
        if kind == "train":
            model._check_compiled("training").prepare_to_train(model)
        kept = [(variable, variable.numpy()) for variable in _state(model)]
        try:
            step(batch)  # compiles and records
            seconds = _median_time(lambda: step(batch), steps)
            replays = step.replays(batch)
            if replays is None:
                launches = launch_costs.measure_eagerly(lambda: step(batch), steps)
            else:
                launches = launch_costs.measure(replays.bound(), steps)
        finally:
            assign_all(kept)
            if kind == "train":
                model.reset_metrics()
    buffers, prepared = ([], 0) if replays is None else (replays.program.buffers, replays.program.prepared_nbytes)
    return StepProfile(model.name, kind, batch.size, launches, seconds, buffers, prepared)


def _of_function(function: Jitted, args: tuple, steps: int) -> StepProfile:
    for _ in range(2):  # a first call that builds layers leaves no program
        if (replays := function.replays_of(*args)) is None:
            function(*args)
    if (replays := function.replays_of(*args)) is None:
        raise ValueError(
            f"the function {function.__name__!r} runs eagerly, so it has no program to profile: count its kernels by "
            "`with nbkeras.profile() as p:`"
        )
    bound = replays.bound()
    with launch_costs.restoring(bound):
        seconds = _median_time(lambda: function(*args), steps)
        launches = launch_costs.measure(bound, steps)
    return StepProfile(function.__name__, "call", 0, launches, seconds, replays.program.buffers)


def _median_time(call: Callable[[], Any], steps: int) -> float:
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _state(model: Model) -> list[Any]:
    """All that a step changes, except metrics."""
    own = [] if model.optimizer is None else model.optimizer.variables
    return list(dict.fromkeys([*model.weights, *model._states_variables, *own]))
