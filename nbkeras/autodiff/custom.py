"""Floor 1: functions with custom gradients, and functions that run again in the backward pass instead of keeping values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbkeras.autodiff.nesting import Tape
from nbkeras.engine import structures, tape
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.ops.control import custom_gradient


class custom_vjp:  # noqa: N801 (a decorator with jax's name)
    """Decorator that gives a function a custom gradient. Set the gradient's functions by `defvjp`.

    Args:
        f: A function of tensors or structures of them, by position.
        nondiff_argnums: The indices of arguments that are not tensors; the backward function gets them first.

    Example:
        >>> from nbkeras import autodiff
        >>> @autodiff.custom_vjp
        ... def clipped(x):
        ...     return x * x
        >>> clipped.defvjp(lambda x: (x * x, x), lambda x, dy: (ops.clip(dy * 2 * x, -1.0, 1.0),))
        >>> autodiff.grad(lambda x: ops.sum(clipped(x)))(np.array([3.0, 0.25])).numpy()
        array([1. , 0.5])
    """

    def __init__(self, f: Callable, nondiff_argnums: Sequence[int] = ()):
        self._f, self._fixed = f, tuple(nondiff_argnums)
        self._forward: Callable | None = None
        self._backward: Callable | None = None
        functools.update_wrapper(self, f)

    def defvjp(self, fwd: Callable, bwd: Callable) -> None:
        """Set the functions that compute the gradient.

        Args:
            fwd: A function of the same arguments that returns (output, residuals).
            bwd: A function of the arguments of `nondiff_argnums`, the residuals and the output's gradient. It returns a tuple
                with the gradient of each other argument, or None for zeros.
        """
        self._forward, self._backward = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        forward, backward = self._forward, self._backward
        if forward is None or backward is None:
            raise AttributeError(f"no gradient was defined for {self._f.__name__!r}: call its defvjp(fwd, bwd)")
        fixed = [args[i] for i in self._fixed]
        given = [arg for i, arg in enumerate(args) if i not in self._fixed]
        made: list[Any] = []

        def flat(*tensors: Tensor) -> tuple:
            arguments = iter(structures.pack(given, tensors))
            output, residuals = forward(*(arg if i in self._fixed else next(arguments) for i, arg in enumerate(args)))
            made[:] = [output]

            def gradients(*dys: Tensor) -> list[Tensor | None]:
                grads = backward(*fixed, residuals, structures.pack(output, dys))
                if not isinstance(grads, list | tuple) or len(grads) != len(given):
                    raise TypeError(
                        f"{self._f.__name__}: bwd must return a tuple with the gradient of each of {len(given)} arguments, "
                        f"received {briefly(grads)}"
                    )
                found: list[Tensor | None] = []
                for argument, grad in zip(given, grads, strict=True):
                    count = len(structures.flatten(argument))
                    found += [None] * count if grad is None else structures.flatten(grad)
                return found

            return tuple(structures.flatten(output)), gradients

        flat.__name__ = self._f.__name__
        results = custom_gradient(flat)(*structures.flatten(given))
        return structures.pack(made[0], results)


class _Run:
    """A run of a function under `checkpoint`. The second run gets the random keys and the variables' values of the first run.

    keys, values: the first run stores its random keys and values here.
    """

    def __init__(self, keys: list[Tensor], values: dict[Variable, Tensor], is_second: bool):
        self.is_second, self.values, self._keys, self._next = is_second, values, keys, iter(list(keys))

    def key(self, draw: Callable[[], Tensor]) -> Tensor:
        if self.is_second:
            return next(self._next)
        self._keys.append(draw())
        return self._keys[-1]

    def add_loss(self, loss: Tensor) -> bool:
        return False  # the layer keeps it

    def changing(self, variable: Variable) -> None:
        raise ValueError(
            f"variable {variable.name!r} is assigned in a function of autodiff.checkpoint, which runs twice: assign it outside"
        )


def checkpoint(f: Callable) -> Callable:
    """Return a function that keeps only its arguments for the gradient, and runs again in the backward pass.

    It saves memory and costs another forward pass. It also saves memory in a recorded step: there, later values reuse the memory
    of the dropped values. Random numbers are the same in both runs. Under nested tapes, `f` runs once and keeps its values, since
    their derivatives need them.

    Args:
        f: A function of tensors or structures of them, such as a layer.

    Returns:
        A function of the same arguments.

    Raises:
        ValueError: when it is called, if `f` assigns a Variable. Moving statistics of a BatchNormalization are updated once.

    Example:
        >>> from nbkeras import autodiff
        >>> block = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(8)])
        >>> x = ops.ones((2, 8))
        >>> with keras.GradientTape() as tape:
        ...     loss = ops.sum(autodiff.checkpoint(block)(x))
        >>> len([g for g in tape.gradient(loss, block.trainable_weights) if g is not None])
        4
    """

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not tape.is_recording() or tape.keeps_calls() or tape.thread.rerun is not None:
            return f(*args, **kwargs)
        leaves = structures.flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and type(leaf) is Tensor]
        outside: list[Tensor] = [leaves[i] for i in places]
        keys: list[Tensor] = []
        values: dict[Variable, Tensor] = {}

        def run(values: dict[Variable, Tensor], is_second: bool) -> tuple[Any, list[Tensor], Tape]:
            given, inside = list(leaves), [Tensor(as_tensor(each).data) for each in outside]
            for i, each in zip(places, inside, strict=True):
                each.record = tape.leaf("argument") if each.dtype.kind == "f" else None
                each.mask, given[i] = leaves[i].mask, each
            within = Tape()
            with tape.thread.now(tapes=(), rerun=_Run(keys, values, is_second)), within:
                positional, named = structures.pack((args, kwargs), given)
                return f(*positional, **named), inside, within

        returned, inside, within = run(values, False)
        results = [leaf for leaf in structures.flatten(returned) if isinstance(leaf, Tensor)]
        own = {each.record for each in inside}
        # other sources that the function uses: variables, and tensors that were computed outside
        others = [(source, form) for source, form in tape.boundary(results, within) if source[0] not in own]
        parents = [None if each.record is None else (each.record, each.index) for each in outside]
        record = tape.Record(
            f"checkpoint of {getattr(f, '__name__', type(f).__name__)}",
            lambda saved, dy, needs: _gradients(run, saved, dy, [source for source, _ in others], needs),
            values,
            (*parents, *(source for source, _ in others)),
            (*((each.shape, each.dtype) for each in outside), *(form for _, form in others)),
            len(results),
        )
        numbered = iter(range(len(results)))
        return structures.map_leaves(
            lambda leaf: _result(leaf, record, next(numbered)) if isinstance(leaf, Tensor) else leaf, returned
        )

    return call


remat = checkpoint  # Keras's name


def _result(y: Tensor, record: tape.Record, index: int) -> Tensor:
    result = Tensor(y.data, record if y.dtype.kind == "f" and any(record.parents) else None, index)
    result.mask = y.mask
    return result


def _gradients(run: Callable, values: dict, dy: Any, others: list[tape.Source], needs: tuple) -> tuple:
    """Run the function again, and return the gradients of its arguments and other sources."""
    returned, inside, within = run(values, True)
    results = [leaf for leaf in structures.flatten(returned) if isinstance(leaf, Tensor)]
    dys = dy if isinstance(dy, tuple) else (dy,)
    starts = [
        ((y.record, y.index), d) for y, d in zip(results, dys, strict=True) if y.record is not None and d is not None
    ]
    sources = [(tape.leaf("integers") if each.record is None else each.record, each.index) for each in inside] + others
    wanted = [source for source, need in zip(sources, needs, strict=True) if need is not False]
    found = iter(tape.backward(starts, wanted, within=within))
    return tuple(None if need is False else next(found) for need in needs)
