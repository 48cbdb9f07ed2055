"""Elementwise ops made of formulas: nbkeras's activations, and users' own (nbkeras/ops/formula.py)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import device

Array = np.ndarray
_PRODUCTS = 32768  # minimum elements of a share, for loops without exponentials


def _over(shape: tuple[int, ...], x: Array) -> Array:
    """The elements of an array, broadcast to a shape, with one axis."""
    if x.shape != shape:
        x, narrow = device.empty(shape, x.dtype), x
        device.launch(device.copy, narrow, x)
    return x.reshape(-1)


def op_of(
    name: str,
    module: str,
    formula: Callable,
    slopes: Sequence[Callable | None],
    keeps: str = "x",
    cheap: str = "",
    fuses_as: tuple[str, str] = ("", ""),
    elements: int | None = None,
    apart: bool = False,
) -> tuple[Callable, Callable]:
    """An op and its vjp. The kernels `name.forward` and `name.backward` are attributes of the op, which the module has.

    Args:
        name: The op's name.
        module: The `__name__` of the module.
        formula: A function of elements and, by name, of numbers. The op's arrays broadcast.
        slopes: The formulas of the partial derivatives; None for an array without a gradient.
        keeps: "x" if the slopes are functions of the formula's arguments, "y" if of its result.
        cheap: The passes without exponentials: "forward", "backward" or both.
        fuses_as: The kernels' names in chains.
        elements: As in Map.
        apart: Whether the slopes share no operations. Then each gradient has a kernel (`name.backward_0`, ...); else one kernel
            computes all of them, also those that are not needed, because their last bits depend on which operations are shared.
    """
    known = tuple(i for i, slope in enumerate(slopes) if slope is not None)
    minimum = [{"minimum": _PRODUCTS} if way in cheap else {} for way in ("forward", "backward")]
    forward = Map(f"{name}.forward", module, formula, "_y", fuses_as=fuses_as[0], elements=elements, **minimum[0])

    def backward(suffix: str, wanted: tuple[int, ...]) -> Map:
        """The kernel of some inputs' gradients."""

        @functools.wraps(formula if keeps == "x" else slopes[0])  # type: ignore[arg-type]
        def chosen(*values: Any, **constants: Any) -> tuple:
            return tuple(slopes[i](*values, **constants) for i in wanted)  # type: ignore[misc]

        return Map(
            f"{name}.backward{suffix}",
            module,
            chosen,
            " ".join(f"_d{i}" for i in wanted),
            times="_dy",
            fuses_as=fuses_as[1],
            elements=elements,
            **minimum[1],
        )

    groups = {f"_{i}": (i,) for i in known} if apart else {"": known} if known else {}
    backwards = {suffix: backward(suffix, wanted) for suffix, wanted in groups.items()}

    def op(*inputs: Array, **constants: float):
        shape = functools.reduce(broadcast_shape, (x.shape for x in inputs))  # type: ignore[arg-type]
        y = device.empty(shape, inputs[0].dtype)
        given = [_over(shape, x) for x in inputs]
        numbers = tuple(float(constants[each]) for each in forward.numbers)
        forward.launch(*given, y.reshape(-1), *numbers)
        return y, (given if keeps == "x" else [y.reshape(-1)], numbers)

    def vjp(saved, dy, needs):
        kept, numbers = saved
        found: dict[int, Array] = {}
        for suffix, wanted in groups.items():
            if any(needs[i] is not False for i in wanted):
                own = {i: device.output(needs[i], dy.shape, dy.dtype) for i in wanted}
                backwards[suffix].launch(*kept, dy.reshape(-1), *(dx.reshape(-1) for dx in own.values()), *numbers)
                found |= own
        return tuple(None if need is False else found.get(i) for i, need in enumerate(needs))

    made: Any = op
    made.__name__ = made.__qualname__ = name
    vjp.__name__ = vjp.__qualname__ = f"{name}_vjp"
    made.__module__ = vjp.__module__ = module
    made.__doc__ = formula.__doc__
    made.formula, made.slopes, made.keeps, made.broadcasts = formula, slopes, keeps, True
    made.forward = forward
    for suffix, kernel in backwards.items():
        setattr(made, f"backward{suffix}", kernel)
    return op, vjp
