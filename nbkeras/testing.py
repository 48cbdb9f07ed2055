"""Checks for ops, nbkeras's own and yours: `check_op` checks that a function of tensors meets the requirements of an op.

from nbkeras import ops
from nbkeras.testing import check_op

check_op(lambda x, y: ops.log(x) * y, np.array([0.5, 2.0]), np.array([[1.0], [3.0]]))
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras import autodiff, config
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building.inputs import Input
from nbkeras.building.layer import Layer
from nbkeras.engine import settings, structures
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.registry import custom_object_scope
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor, ValueReadError, gradient
from nbkeras.engine.user_errors import entry
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.checking import Checks
from nbkeras.kernels.runtime.repeated import Loop
from nbkeras.models import Model
from nbkeras.saving.serialization import plain

Array = np.ndarray
_DIRECTIONS = 2
_ROUNDING = 1e-12  # sums of float64 in another order
_STEP = 1e-5  # step of the central difference; error about step^2 from curvature and 1e-16 / step from rounding


__all__ = ["check_layer", "check_op"]


class _Run(NamedTuple):
    outputs: list[Array]
    gradients: list[Array | None]


@entry
def check_op(
    function: Callable,
    *arrays: Any,
    wrt: Sequence[int] | None = None,
    tolerance: float = 1e-6,
    single_tolerance: float | None = 1e-4,
    seed: int = 0,
    order: int = 1,
) -> None:
    """Check a function of tensors that returns a tensor or a structure of tensors. The AssertionError names the fault.

    1. In float64, the tape's gradients along random directions, for random weights of the outputs, equal central
       differences within a relative `tolerance`, for each float input (or the inputs in `wrt`).
    2. Gradients are the same if only one input is differentiated, and if they are written to given destinations.
    3. The function does not change its inputs, and a second call gives the same results.
    4. Each kernel writes only inside its arrays and does not change its op's inputs, and all elements of outputs and gradients
       are computed. Kernels that are not nbkeras's run once with a check of each index. This is not checked on a GPU.
    5. The function is recorded with its gradient as a Program, and replayed after its inputs were changed in place. The replay
       gives the same bits as a new call: for shuffled inputs, floats times 0.9, the opposite sign, all 0, and some NaN. Gradients
       of loops that become programs may differ by rounding, because they are summed in another order.
    6. In float32, outputs and gradients equal the float64 results within `single_tolerance` of the largest element, and have the
       dtype float32.
    7. With order 2, the same checks run on its gradient, as a function of the inputs and of the weights of the outputs. Gradients
       by rules, and forward derivatives (`autodiff.jvp`), must agree with the vjp. With order 3, the checks also run on the
       gradient's gradient.

    Args:
        function: The function to check.
        *arrays: Its inputs: float arrays away from points without a derivative, and integer or boolean arrays.
        wrt: The indices of the inputs to differentiate; None for all float inputs, [] for none.
        tolerance: The allowed relative error of gradients in float64.
        single_tolerance: The allowed error in float32; None skips check 6.
        seed: The seed of the random directions and weights.
        order: The highest order of derivatives to check.

    Raises:
        AssertionError: for the first fault.

    Example:
        >>> from nbkeras.testing import check_op
        >>> check_op(lambda x, y: ops.log(x) * y, np.array([0.5, 2.0]), np.array([[1.0], [3.0]]))
    """
    rng = np.random.default_rng(seed)
    inputs = [_converted(array, np.float64) for array in arrays]
    if wrt is None:
        wrt = [i for i, array in enumerate(inputs) if array.dtype.kind == "f"]
    before = [array.copy() for array in inputs]
    # before other checks, because a kernel that writes outside of its arrays may crash this process
    _check_kernels(function, inputs, [], [])
    first = _run(function, [device.persistent(array.copy()) for array in inputs], [], None)
    weights = [_weights(rng, output) for output in first.outputs]

    _check_kernels(function, inputs, wrt, weights)
    run = _run(function, inputs, wrt, weights)
    if not any(weight is not None and weight.size for weight in weights) and wrt:
        raise AssertionError("the function has no float output, so it has no gradients to check: pass wrt=[]")
    for position, (i, found) in enumerate(zip(wrt, run.gradients, strict=True)):
        _check_directions(function, inputs, i, found, weights, rng, tolerance)
        if len(wrt) > 1:
            alone = _run(function, inputs, [i], weights)
            _check_same("the gradient of input {} alone", [alone.gradients[0]], [run.gradients[position]], [i])
    _check_same("output {} of a second call", _run(function, inputs, wrt, weights).outputs, run.outputs)
    _check_destinations(function, inputs, wrt, weights, run)
    _check_same("input {} after the calls, which must not change it,", [array.copy() for array in inputs], before)
    _check_replay(function, inputs, wrt, weights, rng)
    if single_tolerance is not None:
        _check_single(function, arrays, wrt, weights, run, single_tolerance)
    connected = [i for i, found in zip(wrt, run.gradients, strict=True) if found is not None]
    if order > 1 and connected:
        seeds = [w for w in weights if w is not None]
        _check_rules(function, inputs, connected, seeds, [g for g in run.gradients if g is not None])
        _check_forwards(function, inputs, connected, weights, rng)
        try:
            check_op(
                _gradient_of(function, len(inputs), connected),
                *arrays,
                *[w.copy() for w in seeds],
                wrt=[*connected, *range(len(inputs), len(inputs) + len(seeds))],
                tolerance=tolerance,
                single_tolerance=single_tolerance,
                seed=seed + 1,
                order=order - 1,
            )
        except AssertionError as error:
            raise AssertionError(f"in the gradient: {error}") from error


def _gradient_of(function: Callable, count: int, wrt: Sequence[int]) -> Callable:
    """The gradients of a function, as a function of its inputs and of the weights of its float outputs."""

    def gradients(*tensors: Tensor) -> list[Tensor]:
        inputs, weights = tensors[:count], tensors[count:]
        sources = [inputs[i] for i in wrt]
        with GradientTape() as tape:
            tape.watch(sources)
            outputs = [leaf for leaf in structures.flatten(function(*inputs)) if isinstance(leaf, Tensor)]
            outputs = [y for y in outputs if y.dtype.kind == "f"]
        return tape.gradient(outputs, sources, weights, unconnected_gradients="zero")

    return gradients


def _check_rules(function, inputs, wrt, seeds, expected) -> None:
    """Compare gradients by rules, which an outer tape requires, with gradients by vjps."""
    with GradientTape():
        received = _gradient_of(function, len(inputs), wrt)(*map(Tensor, (*inputs, *seeds)))
    for i, got, want in zip(wrt, received, expected, strict=True):
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        if not np.allclose(np.asarray(got), want, rtol=0, atol=1e-9 * scale, equal_nan=True):
            raise AssertionError(
                f"the gradient of input {i} by rules differs from the vjp's: received\n{got.numpy()}\nexpected\n{want}"
            )


def _check_forwards(function, inputs, wrt, weights, rng) -> None:
    """Compare the directional derivative by `autodiff.jvp` with the one by gradients."""
    fixed = [Tensor(array) for array in inputs]
    directions = [rng.standard_normal(inputs[i].shape) for i in wrt]

    def of_sources(*sources: Tensor) -> list[Tensor]:
        given = list(fixed)
        for i, source in zip(wrt, sources, strict=True):
            given[i] = source
        return [each for each in structures.flatten(function(*given)) if isinstance(each, Tensor)]

    _, tangents = autodiff.jvp(of_sources, [fixed[i] for i in wrt], directions)
    terms = [float((w.copy() * np.asarray(t)).sum()) for w, t in zip(weights, tangents, strict=True) if w is not None]
    forwards, size = sum(terms), sum(abs(term) for term in terms)
    found = _run(function, inputs, wrt, weights).gradients
    terms = [float((g * d).sum()) for g, d in zip(found, directions, strict=True) if g is not None]
    backwards = sum(terms)
    if not abs(forwards - backwards) <= 1e-9 * max(size, sum(map(abs, terms)), 1e-3):
        raise AssertionError(
            f"the forward derivative along a random direction is {forwards:.15g}, by gradients it is {backwards:.15g}"
        )


def _converted(array: Any, dtype: Any) -> Array:
    array = np.asarray(array)
    return device.persistent(np.array(array, dtype if array.dtype.kind == "f" else array.dtype))


def _weights(rng: np.random.Generator, output: Array) -> Array | None:
    return device.persistent(rng.standard_normal(output.shape)) if output.dtype.kind == "f" else None


def _compute(function: Callable, inputs: list[Array], wrt: Sequence[int], weights: list | None, into: Any = None):
    """The output arrays and the gradient arrays, without copying them."""
    tensors = [Tensor(array) for array in inputs]
    sources = [tensors[i] for i in wrt]
    with GradientTape() as tape:
        tape.watch(sources)
        outputs = [leaf for leaf in structures.flatten(function(*tensors)) if isinstance(leaf, Tensor)]
    gradients: list[Array | None] = []
    if wrt and weights is not None:
        pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if w is not None]
        gradients = gradient([y for y, _ in pairs], sources, [w for _, w in pairs], into)
    return [y.data for y in outputs], gradients


def _run(function: Callable, inputs: list[Array], wrt: Sequence[int], weights: list | None, into: Any = None) -> _Run:
    outputs, gradients = _compute(function, inputs, wrt, weights, into)
    return _Run([y.copy() for y in outputs], [None if g is None else g.copy() for g in gradients])


def _check_kernels(function, inputs, wrt, weights) -> None:
    """Check that each kernel stays within its arrays, does not change its inputs, and computes all elements."""
    if device.gpu() is not None:
        return
    checks = Checks()
    held, seeds = (
        [None if a is None else device.persistent(checks.array(a)) for a in given] for given in (inputs, weights)
    )
    try:
        with device.record(checks), device.run_by(checks):
            _compute(function, held, wrt, seeds)  # type: ignore[arg-type]
    except ValueReadError as error:
        raise AssertionError(str(error)) from error


def _check_directions(function, inputs, i, found, weights, rng, tolerance) -> None:
    """Compare the gradient of input i with central differences along random directions."""
    for _ in range(_DIRECTIONS):
        direction, middle = rng.standard_normal(inputs[i].shape), inputs[i].copy()
        sums, size = [], 0.0
        for sign in (1, -1):
            moved = list(inputs)
            moved[i] = device.persistent(middle + sign * _STEP * direction)
            outputs = _run(function, moved, [], None).outputs
            terms = [w.copy() * y for w, y in zip(weights, outputs, strict=True) if w is not None]
            sums.append(sum(float(term.sum()) for term in terms))
            size = max(size, sum(float(np.abs(term).sum()) for term in terms))
        expected = (sums[0] - sums[1]) / (2 * _STEP)
        received = 0.0 if found is None else float((found * direction).sum())
        rounding = 4 * np.finfo(np.float64).eps * size / _STEP
        if not abs(received - expected) <= tolerance * max(abs(received), abs(expected)) + rounding:
            raise AssertionError(
                f"the gradient of input {i} is wrong: along a random direction it gives {received:.12g}, "
                f"finite differences give {expected:.12g}"
            )


def _check_same(
    what: str, received: Sequence, expected: Sequence, numbers: Sequence[int] | None = None, rounding: float = 0.0
) -> None:
    """Check that arrays are equal bit for bit, or up to a relative `rounding` of the largest element. NaN equals NaN."""
    for position, (got, want) in enumerate(zip(received, expected, strict=True)):
        name = what.format(position if numbers is None else numbers[position])
        if (got is None) != (want is None):
            raise AssertionError(f"{name} is {got}, expected {want}")
        if got is not None and not (
            got.shape == want.shape and got.dtype == want.dtype and _is_equal(got, want, rounding)
        ):
            difference = np.abs(got.astype(float) - want.astype(float)).max() if got.shape == want.shape else "shape"
            raise AssertionError(
                f"{name} differs (largest difference: {difference}): received\n{got}\nexpected\n{want}"
            )


def _is_equal(got: Array, want: Array, rounding: float) -> bool:
    is_float = got.dtype.kind == "f"
    if not rounding or not is_float:
        return np.array_equal(got, want, equal_nan=is_float)
    largest = float(np.nanmax(np.abs(want), initial=0.0))
    return np.allclose(got, want, rtol=0, atol=rounding * largest, equal_nan=True)


def _check_destinations(function, inputs, wrt, weights, run: _Run) -> None:
    """Check that gradients written to destinations equal gradients in new arrays. An unconnected input gets zeros."""
    if not wrt:
        return
    into = [device.persistent(np.full(inputs[i].shape, np.nan)) for i in wrt]
    _run(function, inputs, wrt, weights, into)
    expected = [np.zeros(inputs[i].shape) if g is None else g for i, g in zip(wrt, run.gradients, strict=True)]
    _check_same("the gradient of input {}, written to a destination,", [array.copy() for array in into], expected, wrt)


def _check_replay(function, inputs, wrt, weights, rng) -> None:
    """Record, change the inputs in place, replay, and compare with a new run, for several kinds of changes."""
    recorder = Recorder()
    held = [device.persistent(array.copy()) for array in inputs]
    with device.record(recorder):
        outputs, gradients = _compute(function, held, wrt, weights)
    if recorder.reason is not None:
        raise AssertionError(f"the function cannot be recorded: {recorder.reason}")
    present = [i for i, g in enumerate(gradients) if g is not None]
    program = recorder.sealed([*outputs, *[gradients[i] for i in present]])  # type: ignore[list-item]
    bound = program.bind()
    # A loop in a program adds the gradients of an iteration first, a loop in Python adds them one by one.
    rounding = _ROUNDING if any(isinstance(function, Loop) for function, _ in program.launches) else 0.0
    for kind, change in _OTHER.items():
        for array, before in zip(held, inputs, strict=True):
            device.write(array, change(rng, rng.permutation(before.copy().ravel())).reshape(array.shape))
        try:
            fresh = _run(function, held, wrt, weights)
        except ValueError:  # the function does not accept such numbers: -x has no Cholesky factor
            continue
        # NaN in every buffer: an element that no launch writes must not be correct by chance
        device.write(bound.arena, 0xFF)
        bound.run()
        results = [array.copy() for array in bound.outputs]
        _check_same(f"replayed output {{}} for {kind}", results[: len(outputs)], fresh.outputs)
        _check_same(
            f"the replayed gradient of input {{}} for {kind}",
            results[len(outputs) :],
            [fresh.gradients[i] for i in present],
            [wrt[i] for i in present],
            rounding,
        )


def _for_floats(change: Callable) -> Callable:
    return lambda rng, array: change(rng, array) if array.dtype.kind == "f" else array


# Changes of the shuffled inputs that a replay must follow.
_OTHER: dict[str, Callable] = {
    "other numbers": _for_floats(lambda rng, array: array * 0.9),
    "numbers of the other sign": _for_floats(lambda rng, array: -array),
    "inputs that are all the same": lambda rng, array: (
        np.zeros_like(array) if array.dtype.kind == "f" else array[:1].repeat(array.size)
    ),
    "NaN among the numbers": _for_floats(lambda rng, array: np.where(np.arange(array.size) % 3 == 0, np.nan, array)),
}


def _check_single(function, arrays, wrt, weights, run: _Run, tolerance: float) -> None:
    """Check that float32 inputs give float32 results close to the float64 results."""
    inputs = [_converted(array, np.float32) for array in arrays]
    single = [None if w is None else device.persistent(w.copy().astype(np.float32)) for w in weights]
    for number, output in enumerate(_run(function, inputs, [], None).outputs):
        if output.dtype.kind == "f" and output.dtype != np.float32:
            raise AssertionError(f"output {number} of float32 inputs has dtype {output.dtype}")
    _check_kernels(function, inputs, wrt, single)
    low = _run(function, inputs, wrt, single)
    for kind, received, expected in (("output", low.outputs, run.outputs), ("gradient", low.gradients, run.gradients)):
        for number, (got, want) in enumerate(zip(received, expected, strict=True)):
            if got is None or want is None:
                continue
            scale = max(1.0, float(np.abs(want).max(initial=0.0)))
            if not np.allclose(got, want, rtol=0, atol=tolerance * scale, equal_nan=True):
                raise AssertionError(
                    f"{kind} {number} in float32 is too far from float64: received\n{got}\nexpected\n{want}"
                )


@entry
def check_layer(
    make: Callable[[], Layer],
    *inputs: Any,
    training: bool = False,
    gradients: bool = True,
    tolerance: float = 1e-5,
    custom_objects: dict[str, Any] | None = None,
) -> None:
    """Check that a layer meets the requirements of every layer. The AssertionError names the fault.

    1. The symbolic output's shape and dtype match the real output and compute_output_shape.
    2. A layer made from get_config, with the same weights, gives the same output; its weights have the same shapes.
    3. In a model, recorded steps give the same results as eager steps, for changing inputs and a smaller batch.
    4. Gradients with respect to float inputs and weights equal finite differences in float64.

    Args:
        make: A function that returns a new layer, the same each time except for its weights' values.
        *inputs: Example arrays, batch first. Several arrays are passed as a list, or separately if the layer's
            build takes several shapes.
        training: The value of `training` in the checks.
        gradients: Whether to run check 4.
        tolerance: The allowed relative error of gradients.
        custom_objects: Your classes by name, for from_config.

    Raises:
        AssertionError: for the first fault.

    Example:
        >>> from nbkeras.testing import check_layer
        >>> check_layer(lambda: layers.Dense(2, activation="tanh"), np.ones((2, 3)))
    """
    arrays = [np.asarray(a, "float32" if np.asarray(a).dtype.kind == "f" else None) for a in inputs]
    with training_phase(training):
        layer = make()
        symbols = [Input(a.shape[1:], dtype=a.dtype, name=f"check_input_{i}") for i, a in enumerate(arrays)]
        outputs = layer(*arguments(layer, symbols))
        model = Model(symbols, outputs)
        _check_shapes(layer, model, arrays, outputs)
        _check_config(layer, model, arrays, custom_objects or {})
    _check_steps(model, arrays)
    if gradients:
        with training_phase(training):
            _check_layer_gradients(make, arrays, tolerance)


def arguments(layer: Any, values: list) -> list:
    """The arguments for a call of a layer on inputs.

    Args:
        layer: The layer.
        values: A list of inputs.

    Returns:
        A list of arguments: the inputs, if there is only one or the layer's build takes several shapes; else a
        single argument, the list of inputs.

    Example:
        >>> from nbkeras.testing import arguments
        >>> arguments(layers.Add(), ["a", "b"]), arguments(layers.Dense(2), ["a"])
        ([['a', 'b']], ['a'])
    """
    return values if layer._build_takes or len(values) == 1 else [values]


def _call(layer: Any, arrays: list[Array]) -> list[Tensor]:
    return structures.flatten(layer(*arguments(layer, arrays)))


def _check_shapes(layer: Layer, model: Model, arrays: list[Array], outputs: Any) -> None:
    symbols = structures.flatten(outputs)
    got = _call(model, arrays)
    for symbol, output in zip(symbols, got, strict=True):
        fits = len(symbol.shape) == len(output.shape) and all(
            s is None or s == n for s, n in zip(symbol.shape, output.shape, strict=True)
        )
        # as in Keras, the symbolic indicators of a lookup do not have the dtype of its results
        named = getattr(layer, "_symbolic_dtype", None)
        if not fits or symbol.dtype != (output.dtype if named is None else named):
            raise AssertionError(
                f"{layer.name}: the symbolic output is {symbol.shape} {symbol.dtype}, the real one {output.shape} {output.dtype}"
            )
    shapes = [(None, *a.shape[1:]) for a in arrays]
    computed = layer.compute_output_shape(*arguments(layer, shapes))
    listed = [computed] if structures.is_shape(computed) else list(computed)
    if [tuple(s) for s in listed] != [s.shape for s in symbols]:
        raise AssertionError(
            f"{layer.name}: compute_output_shape gives {computed}, calling it {[s.shape for s in symbols]}"
        )


def _check_config(layer: Layer, model: Model, arrays: list[Array], custom_objects: dict[str, Any]) -> None:
    with custom_object_scope(custom_objects):
        again = Model.from_config(json.loads(json.dumps(model.get_config(), default=plain)))
    expected = [v.shape for v in model.weights]
    if [v.shape for v in again.weights] != expected:
        raise AssertionError(
            f"{layer.name}: from_config gives weights {[v.shape for v in again.weights]}, not {expected}"
        )
    again.set_weights(model.get_weights())
    first, second = _call(model, arrays), _call(model, arrays)
    random = any(not np.array_equal(a.numpy(), b.numpy(), equal_nan=True) for a, b in zip(first, second, strict=True))
    for got, want in zip(_call(again, arrays), first, strict=True):
        if got.shape != want.shape:
            raise AssertionError(f"{layer.name}: from_config gives an output of shape {got.shape}, not {want.shape}")
        if not random:
            _check_same(f"{layer.name}: the output after from_config", [got.numpy()], [want.numpy()])


def _check_steps(model: Model, arrays: list[Array]) -> None:
    """Check that a replayed predict equals a call of the model."""
    rng = np.random.default_rng(0)
    for rows in (slice(None), slice(None), slice(0, max(1, len(arrays[0]) - 1)), slice(None)):
        batch = [rng.permutation(a)[rows] for a in arrays]
        expected = [t.numpy() for t in _call(model, batch)]
        received = structures.flatten(model.predict_on_batch(batch if len(batch) > 1 else batch[0]))
        _check_same("a replayed prediction", received, expected)


def _check_layer_gradients(make: Callable[[], Layer], arrays: list[Array], tolerance: float) -> None:
    before = config.floatx()
    config.set_floatx("float64")
    try:
        with temporarily(settings.values, dtype_policy=None):
            layer = make()
        _call(layer, arrays)
        weights = layer.trainable_weights
        values = [v.numpy() for v in weights]
        count = len(arrays)

        def function(*tensors: Tensor) -> Any:
            for variable, value in zip(weights, tensors[count:], strict=True):
                variable.data, variable.record, variable.index = value.data, value.record, value.index
            return layer(*arguments(layer, list(tensors[:count])))

        rng = np.random.default_rng(1)
        moved = [value + 0.1 * rng.standard_normal(value.shape) for value in values]
        check_op(function, *arrays, *moved, tolerance=tolerance, single_tolerance=None)
    finally:
        config.set_floatx(before)
