"""Your own elementwise ops and optimizers from formulas: `nbkeras.tensor.formula` and `step_formula`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import apply, floats, op
from nbkeras.kernels import activations
from nbkeras.kernels.formula_ops import op_of
from nbkeras.kernels.loops.expressions import ELEMENT, FUNCTIONS, NUMBER, Value, derivative, trace, with_slope
from nbkeras.kernels.loops.map import Map
from nbkeras.ops.arguments import check_broadcast

optimizers = LazyModule("nbkeras.kernels.optimizers")  # ops without optimizers do not need it
F = TypeVar("F", bound=Callable)
_KERNELS = "forward", "backward", "slope_"  # beginnings of attributes: the path to a kernel, which its name contains


def formula(function: F) -> F:
    """Decorator that makes an elementwise op of a formula: one kernel forward, one backward, on the CPU and the GPU.

    nbkeras reads the formula once, at the decorator: it calls the function with symbols for the numbers. The gradient is
    derived from the formula. See docs/custom-ops.md.

    Args:
        function: A function of numbers that returns one number. It may use Python's operators and comparisons, other formulas,
            and ops such as `ops.exp`, `ops.where` and `ops.maximum`; an error names all of them. Parameters after `*` are
            numbers, which have no gradient; all others are tensors.

    Returns:
        The op. Its tensors broadcast; integers become floatx.

    Raises:
        TypeError: if the formula needs a value while it is read, calls another function, or returns something else than a number
            that depends on a tensor.

    Example:
        >>> from nbkeras.tensor import formula
        >>> @formula
        ... def snake(x, *, a=1.0):
        ...     return x + ops.sin(a * x) ** 2 / a
        >>> snake(ops.array([0.0, 1.0]), a=2.0).numpy().round(4)
        array([0.    , 1.4134], dtype=float32)
    """
    name, numbers = function.__name__, _numbers(function)
    signature = inspect.signature(function)
    count = len(signature.parameters) - len(numbers)
    _check_result(name, _read(function, count, numbers))
    forward, backward = _ops(name, function, count, numbers)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        bound.apply_defaults()
        constants = {each: _number(name, each, bound.arguments[each]) for each in numbers}
        tensors = floats(*list(bound.arguments.values())[:count])
        check_broadcast(name, *tensors)
        return apply(forward, backward, tensors, **constants)

    made: Any = op(call)
    made.each_step_alone = count == 1  # in a stream of steps
    made.as_formula = function
    vars(made).update({each: value for each, value in vars(forward).items() if each.startswith(_KERNELS)})
    return cast(F, made)


def step_formula(function: Callable) -> Map:
    """Decorator that makes the kernel of an optimizer's step of a formula, on the CPU and the GPU; see docs/subclassing.md.

    Args:
        function: A function of numbers, in which the same operations are allowed as in `formula`. Its parameters before `/` are
            the weight `w`, its gradient `g` and the optimizer's state; between `/` and `*` there may be `rate`, the learning
            rate, and `step`, the number of earlier steps; after `*` there are numbers, which are attributes of the optimizer,
            and `decay`, the weight decay. It returns the new weight and the new state.

    Returns:
        The kernel, for the attribute `formula` of a subclass of `Optimizer`.

    Raises:
        TypeError: for other parameters, for another number of results, and as `formula` does.

    Example:
        >>> from nbkeras.tensor import step_formula
        >>> @step_formula
        ... def descent(w, g, /, rate, *, decay):
        ...     return w - rate * (g + decay * w)
        >>> class Descent(keras.optimizers.Optimizer):
        ...     formula = descent
        >>> optimizer, w = Descent(learning_rate=0.5), keras.Variable([1.0, 2.0])
        >>> optimizer.apply([np.array([2.0, 4.0])], [w])
        >>> w.numpy()
        array([0., 0.], dtype=float32)
    """
    name, kernel = function.__name__, optimizers.step_formula(function)
    if kernel.inputs[:2] != ("w", "g") or not {*kernel.others} <= {"rate", "step"} or "decay" not in kernel.numbers:
        raise TypeError(
            f"formula {name}: a step has the parameters (w, g, state of the optimizer, /, rate, step, *, decay, numbers); state, "
            f"rate, step and numbers may be missing. Received {inspect.signature(function)}"
        )
    results = kernel.formula_read.results
    if len(results) != len(kernel.results):
        raise TypeError(
            f"formula {name}: expected the new values of {', '.join(kernel.results)}, received {len(results)} results"
        )
    return kernel


def _numbers(function: Callable) -> list[str]:
    """The names of a formula's parameters after `*`; TypeError for parameters that formulas cannot have."""
    name, parameters = function.__name__, inspect.signature(function).parameters
    for each, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"formula {name}: each argument needs a name, received {parameter}")
        if each.startswith("_") or each in ("share", "shares"):
            raise TypeError(
                f"formula {name}: rename the parameter {each}; kernels use this name for their own arguments"
            )
        if parameter.kind != parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            raise TypeError(
                f"formula {name}: the tensor {each} has a default. A number is a parameter after `*`, as in "
                f"`def {name}(x, *, {parameter})`"
            )
    found = [each for each, parameter in parameters.items() if parameter.kind == parameter.KEYWORD_ONLY]
    if len(found) == len(parameters):
        raise TypeError(f"formula {name}: expected a parameter for a tensor, received {inspect.signature(function)}")
    return found


def _ops(name: str, function: Callable, count: int, numbers: list[str]) -> tuple[Callable, Callable | None]:
    """The op of a formula on arrays, and its vjp, whose rule are the ops of the slopes."""
    slopes: list[Any] = [derivative(function, i) for i in range(count)]
    constants = [_read(slope, count, numbers)[0] for slope in slopes]
    # If this module is imported while another formula is read, `==` on a Value makes an instruction of that one, not a bool.
    is_zero = [not isinstance(constant, Value) and constant == 0.0 for constant in constants]
    slopes = [None if zero else slope for slope, zero in zip(slopes, is_zero, strict=True)]
    forward, backward = op_of(name, function.__module__, function, slopes, elements=count)

    @functools.cache
    def ops_of_slope(i: int) -> tuple[Callable, Callable | None]:
        return _ops(f"{name}.slope_{i}", slopes[i], count, numbers)

    def slope_of(i: int) -> Any:
        if not isinstance(constants[i], Value):
            return constants[i] or None
        return lambda *tensors, **given: apply(*ops_of_slope(i), tensors[:-1], **given)

    for i, slope in enumerate(slopes):
        if slope is not None:
            setattr(forward, f"slope_{i}", _Slope(functools.partial(ops_of_slope, i)))
    backward.derivative = lambda rules: rules.Elementwise(*map(slope_of, range(count)))  # type: ignore[attr-defined]
    return forward, backward if any(slopes) else None


class _Slope:
    """The op of a slope, made when one of its attributes is read."""

    def __init__(self, ops: Callable[[], tuple[Callable, Callable | None]]):
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._ops()[0], name)


def _read(formula: Callable, count: int, numbers: list[str]) -> tuple:
    """The results of a formula of `count` tensors, then of numbers."""

    def read(*given: Value) -> Any:
        return formula(*given[:count], **dict(zip(numbers, given[count:], strict=True)))

    try:
        return trace(read, [ELEMENT] * count + [NUMBER] * len(numbers)).results
    except RecursionError:
        raise TypeError(
            f"formula {formula.__name__}: it has hundreds of operations, one after the other, or calls itself: write loops "
            "of your own, as docs/custom-ops.md shows"
        ) from None


def _check_result(name: str, results: tuple) -> None:
    """Raise TypeError unless a formula returns one number for each element."""
    if len(results) != 1:
        raise TypeError(f"formula {name}: expected one result, received {len(results)}: write a formula for each")
    (y,) = results
    if isinstance(y, Value) and y.is_bits:
        raise TypeError(f"formula {name}: it returns a condition, expected a number: ops.where(condition, 1.0, 0.0)")
    if not isinstance(y, Value) or not y.varies:
        what = "a result that depends on no tensor" if isinstance(y, Value | int | float) else briefly(y)
        raise TypeError(f"formula {name}: expected a number that depends on a tensor, received {what}")


def _number(name: str, parameter: str, value: Any) -> float:
    if not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(
            f"{name}: {parameter} must be a number, received {briefly(value)}. A tensor is a parameter before `*`: "
            "it has a gradient"
        )
    return float(value)


def _known(kernel: Any) -> Callable:
    """An activation for formulas, with the slope of its kernel."""
    return with_slope(kernel.formula, kernel.slopes[0], kernel.keeps)


FUNCTIONS |= {
    name: _known(getattr(activations, name))
    for name in ("relu", "sigmoid", "tanh", "silu", "mish", "hard_silu", "softplus")
}
FUNCTIONS["gelu"] = _known(activations.gelu_tanh)
