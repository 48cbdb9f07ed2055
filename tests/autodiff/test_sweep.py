"""All differentiable ops at zeros, kinks, ties, ends of domains, at huge, tiny and not finite numbers: all modes agree.

Modes: the tape, a tape in a tape, `grad`, `jvp`, `hvp`, two and three tapes, and all of these under `nbkeras.jit`. The points of
elementwise ops and the choices at kinks are in reference/sweep_points.py, arrays for other ops in reference/sweep_cases.py and
order_cases.py. The derivatives are mpmath's (reference/make_sweep.py) or differences, or those that were chosen.
"""

from pathlib import Path

import numpy as np
import pytest
from order_cases import CASES
from sweep_cases import ROWS
from sweep_points import CHOSEN, CHOSEN_OF_TWO, KINKS, NOT_FINITE, PAIRS, POINTS, TWO, points_of

import nbkeras as keras
from nbkeras import autodiff, ops
from nbkeras.engine import structures, user_errors
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.ops import activations, elementwise, functions

KNOWN = np.load(Path(__file__).parents[1] / "reference" / "sweep.npz")
ONE = {
    "cast": lambda x: ops.cast(ops.cast(x, "float64"), x.dtype),
    "celu": lambda x: ops.celu(x, 2.0),
    "clip": lambda x: ops.clip(x, -1.0, 1.5),
    "gelu_exact": lambda x: ops.gelu(x, approximate=False),
    "power_2": lambda x: x**2,
    "power_3": lambda x: x**3,
    "relu_all": lambda x: ops.relu(x, negative_slope=0.1, max_value=2.0, threshold=0.3),
    "threshold": lambda x: ops.threshold(x, 1.0, 7.0),
}
OF_TWO = {
    "sigmoid_crossentropy": lambda t, x: ops.binary_crossentropy(t, x, from_logits=True),
    "where": lambda x, y: ops.where(True, x, y),
}
# Their slopes are computed from results that have rounded to a limit: the error is that of the limit, not relative.
ROUNDED = {
    *("sigmoid", "tanh", "tanh_shrink", "silu", "mish", "softplus", "log_sigmoid", "softsign", "squareplus"),
    *("sigmoid_crossentropy", "sinc"),
}
WITHOUT_LIMIT = {"sin", "cos", "tan", "sinc", "nan_to_num"}  # or with another derivative at infinity
WITHOUT = {  # names in the files of elementwise ops that have no derivative, or are other names of ops
    *("floor_divide", "sign", "floor", "ceil", "round", "equal", "not_equal", "greater", "greater_equal", "less"),
    *("less_equal", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite"),
    *("stop_gradient", "convert_to_tensor", "signbit", "heaviside", "nextafter", "trunc", "isposinf", "isneginf"),
    *("abs", "true_divide", "hard_swish", "swish", "isclose", "allclose", "iscomplexobj", "isreal", "linear"),
    *("imag", "angle"),
}


# -------------------- modes --------------------


def derivatives(function, directions, third):
    """A function of tensors that computes the value of `function`, and by each mode its derivatives: {order: {mode: tensors}}.

    Of order 1, the gradients of the sum of the results; of a higher order, the gradients of the sum of those times directions.
    """
    numbers = tuple(range(len(directions)))

    def scalar(*xs):
        return ops.sum(function(*xs))

    def tape(f):
        def gradients(*xs):
            with keras.GradientTape() as tape:
                tape.watch(xs)
                y = f(*xs)
            return tape.gradient(y, xs, unconnected_gradients="zero")

        return gradients

    def along(gradients):
        return lambda *xs: sum(ops.sum(g * d) for g, d in zip(gradients(*xs), directions, strict=True))

    def inside(*xs):
        with keras.GradientTape() as outer:
            outer.watch(xs)
            return tape(scalar)(*xs)

    def hvp(*xs):
        return autodiff.hvp(scalar, xs, directions)[1]

    def way(*xs):
        return autodiff.jvp(scalar, xs, directions)[1]

    gradient, grad = tape(scalar), autodiff.grad(scalar, numbers)

    def computed(*xs):
        y, tangent = autodiff.jvp(function, xs, directions)
        found = {
            0: {"plain": [function(*xs)], "jvp": [y]},
            1: {"tape": gradient(*xs), "tape in a tape": inside(*xs), "grad": grad(*xs)},
            2: {
                "tapes": tape(along(gradient))(*xs),
                "hvp": hvp(*xs),
                "grad of grad": autodiff.grad(along(grad), numbers)(*xs),
                "grad of jvp": autodiff.grad(way, numbers)(*xs),
            },
        }
        if third:
            thrice = autodiff.jvp(hvp, xs, directions)[1]
            found[3] = {"tapes": tape(along(tape(along(gradient))))(*xs), "jvp of hvp": thrice}
        return found, tangent

    return computed


def modes(function, inputs, third=False, directions=None):
    """The derivatives of a function as arrays: a list for each order and mode, and the tangent. Recorded ones are the same.

    The program is recorded for other numbers.
    """
    if directions is None:
        directions = tuple(np.ones(x.shape, x.dtype) for x in inputs)
    computed = derivatives(function, directions, third)
    found, tangent = computed(*map(as_tensor, inputs))
    return {
        order: {mode: [x.numpy() for x in tensors] for mode, tensors in of.items()} for order, of in found.items()
    }, tangent.numpy()


def check_jitted(function, inputs, third=False):
    directions = tuple(np.ones(x.shape, x.dtype) for x in inputs)
    computed = derivatives(function, directions, third)
    jitted = keras.jit(computed)
    rng = np.random.default_rng(3)
    for given in ([rng.uniform(0.2, 0.8, x.shape) for x in inputs], inputs):
        expected = computed(*map(as_tensor, given))
        for got, want in zip(structures.flatten(jitted(*given)), structures.flatten(expected), strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert len(jitted.programs()) == 1


def check(got, want, what, points, rtol=1e-9, atol=0.0, loose=None):
    """loose: where NaN may replace a number."""
    with np.errstate(all="ignore"):
        near = np.isfinite(want) & (np.abs(got - want) <= rtol * np.abs(want) + atol)
        right = (got == want) | (np.isnan(got) & np.isnan(want)) | near
        if loose is not None:
            right |= loose & (np.isnan(got) | np.isnan(want))
    assert np.shape(got) == np.shape(want), what
    wrong = np.argwhere(~right)
    lines = [
        f"at {points(*i)}: {np.asarray(got)[tuple(i)]!r}, expected {np.asarray(want)[tuple(i)]!r}" for i in wrong[:5]
    ]
    assert right.all(), f"{what}: {len(wrong)} wrong\n" + "\n".join(lines)


# -------------------- coverage --------------------


def test_each_elementwise_op_is_swept():
    swept = {*POINTS, *TWO, *WITHOUT, *(name.split()[0] for name in (*ROWS, *CASES))}
    public = {
        name
        for module in (elementwise, functions, activations)
        for name, each in vars(module).items()
        if user_errors.is_marked(each) and not name.startswith("_") and hasattr(ops, name)
    }
    assert len(public) > 100
    assert sorted(public - swept) == []


# -------------------- elementwise ops of one tensor --------------------


def function_of(name):
    return ONE.get(name) or getattr(ops, name)


@pytest.mark.parametrize("name", POINTS)
def test_ops_of_one_tensor(name):
    x, _ = points_of(name)
    found, tangent = modes(function_of(name), [x], third=True)
    check_one(name, x, KNOWN[name], found, tangent)


def check_one(name, x, known, found, tangent, rtol=1e-9):
    count = known.shape[1]
    finite, chosen = np.arange(x.size) < count, CHOSEN.get(name, {})
    single = x.dtype == np.float32
    near = np.abs(x[:count]) < 1e-10  # the results' errors are relative to those of nearby points
    atol = np.where(near | (name in ROUNDED), 1e-6 if single else 1e-14, 1e-36 if single else 0.0)
    ends = [int(np.argmin(x[:count])), int(np.argmax(x[:count]))]
    first = None
    for order, by_mode in found.items():
        want, unknown = known[order].copy(), np.zeros(count, bool)
        for i, point in enumerate(x[:count]):
            if float(point) in chosen and order > 0:
                choice = (*chosen[float(point)], None)[order - 1]
                want[i], unknown[i] = (np.nan, True) if choice is None else (choice, False)
        overflow = np.isinf(want) if order == 3 else np.zeros(count, bool)
        for mode, (got,) in by_mode.items():
            what = f"{name}, order {order}, {mode}"
            check(np.where(unknown, np.nan, got[:count]), want, what, lambda i: x[i], rtol, atol, overflow)
            first = got if mode in ("plain", "tape", "tapes") else first
            check(got[~finite], first[~finite], what, lambda i: x[count + i], loose=order > 1 or mode == "jvp")
        if name not in WITHOUT_LIMIT and abs(x[ends]).min() > 1e15 and order:  # the limit, or NaN
            limits = np.where(np.abs(want[ends[::-1]]) > 1e15, np.copysign(np.inf, want[ends[::-1]]), want[ends[::-1]])
            what, by = f"{name}, order {order}", 1e-10 if single else 1e-15
            check(first[count : count + 2], limits, what, lambda i: x[count + i], atol=by, loose=True)
    check(tangent, found[1]["tape"][0], f"{name}, jvp", lambda i: x[i], rtol, loose=~finite)
    numpys = getattr(np, name, None)
    if numpys is not None and name not in ("clip", "cast", "i0", "sinc", "real"):
        with np.errstate(all="ignore"):
            check(found[0]["plain"][0][count:], numpys(x[count:]), f"{name} beside NumPy", lambda i: x[count + i])


@pytest.mark.grid
@pytest.mark.parametrize("name", POINTS)
def test_ops_of_one_tensor_in_float32(name):
    """At the points that float32 can represent, or that are far from where the op changes."""
    x, count = points_of(name)
    known, finite = KNOWN[name], x[:count]
    far = (1e-30 < np.abs(finite)) & (np.abs(finite) < (1e10 if name in WITHOUT_LIMIT else 1e30))
    with np.errstate(over="ignore"):
        single, expected = x.astype("float32"), known.astype("float32")
    kept = np.flatnonzero((finite == single[:count]) | (far & ((np.abs(finite) < 1e-10) | (np.abs(finite) > 1e10))))
    x = np.concatenate([single[kept], single[count:]])
    found, tangent = modes(function_of(name), [x], third=True)
    check_one(name, x, expected[:, kept], found, tangent, 1e-4)


@pytest.mark.grid
@pytest.mark.parametrize("name", POINTS)
def test_recorded_ops_of_one_tensor(name):
    check_jitted(function_of(name), [points_of(name)[0]], third=True)


# -------------------- elementwise ops of two tensors --------------------


@pytest.mark.grid
@pytest.mark.parametrize("name", TWO)
def test_recorded_ops_of_two_tensors(name):
    pairs = np.array([*PAIRS, *NOT_FINITE]).T.copy()
    check_jitted(OF_TWO.get(name) or getattr(ops, name), list(pairs), third=True)


@pytest.mark.parametrize("name", TWO)
def test_ops_of_two_tensors(name):
    function = OF_TWO.get(name) or getattr(ops, name)
    a, b = np.array([*PAIRS, *NOT_FINITE]).T.copy()
    found, tangent = modes(function, [a, b], third=True)
    count, known = len(PAIRS), KNOWN[f"two.{name}"]

    def point(i):
        return a[i], b[i]

    with np.errstate(all="ignore"):
        kink = KINKS[name](a[:count], b[:count]) if name in KINKS else np.zeros(count, bool)
        size = np.fmin(np.where(a == 0, np.inf, np.abs(a)), np.where(b == 0, np.inf, np.abs(b)))[:count]
        size = np.clip(size, 1e-100, 1.0)
    chosen = CHOSEN_OF_TWO.get(name, {})
    assert all(kink[PAIRS.index(pair)] for pair in chosen)
    check(np.where(kink, known[0], found[0]["plain"][0][:count]), known[0], f"{name}, value", point, atol=1e-15)
    for order in (1, 2, 3):
        for which in (0, 1):
            want = known[1 + 3 * which + order - 1]
            with np.errstate(all="ignore"):
                largest = np.maximum(np.abs(known[1]), np.abs(known[4])) / size ** (order - 1)
            for mode, gradients in found[order].items():
                got, what = gradients[which], f"{name}, order {order} by input {which}, {mode}"
                first = next(iter(found[order].values()))[which]
                atol = 2e-15 * np.where(np.isfinite(largest), largest, 0)
                check(np.where(kink, want, got[:count]), want, what, point, 1e-9, atol, np.isinf(want))
                undefined = np.ones(a.size, bool)
                undefined[:count] = kink
                if order < 3:  # a third derivative may overflow on the way
                    agreed = np.where(undefined, first, 0)
                    loose = np.array(order > 1)
                    check(np.where(undefined, got, 0), agreed, what, point, atol=1e-15, loose=loose)
                if order == 1:
                    for pair, both in chosen.items():
                        check(got[PAIRS.index(pair)], np.float64(both[which]), what, lambda pair=pair: pair)
    with np.errstate(all="ignore"):
        total = found[1]["tape"][0] + found[1]["tape"][1]
    check(tangent, total, f"{name}, jvp", point, atol=1e-15, loose=np.isnan(tangent) & ~np.isfinite(total))
    numpys = getattr(np, name, None)
    if numpys is not None and name != "where":
        with np.errstate(all="ignore"):
            want = numpys(a, b)
        check(found[0]["plain"][0], want, f"{name} beside NumPy", point, rtol=1e-14)


# -------------------- ops on arrays --------------------


def floats(result):
    return [leaf for leaf in structures.flatten(result) if isinstance(leaf, Tensor) and leaf.dtype.kind == "f"]


def of_floats(function, arrays):
    """The sum of a function's results times 1, 2, 3, ... as a function of the float arrays; and these."""
    wanted = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]

    def total(*xs):
        inputs = [as_tensor(x) for x in arrays]
        for i, x in zip(wanted, xs, strict=True):
            inputs[i] = x
        results = floats(function(*inputs))
        return sum(ops.sum(y * np.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape)) for y in results)

    return total, [arrays[i] for i in wanted]


def difference(f, step):
    """The derivative of f at 0, of the fourth order."""
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


def joined(tensors):
    return np.concatenate([np.asarray(x).reshape(-1) for x in tensors]) if tensors else np.zeros(0)


def check_modes(what, found, tangent, directions, finite, rtol=1e-7):
    """All modes agree. Where a first derivative is not finite, higher ones and those forwards may be NaN."""
    first, second = joined(found[1]["tape"]), joined(found[2]["tapes"])
    for order, want in ((1, first), (2, second)):
        scale = np.abs(np.where(np.isfinite(want), want, 0)).max(initial=0) + np.abs(
            np.where(np.isfinite(first), first, 0)
        ).max(initial=0)
        for mode, gradients in found[order].items():
            loose = np.full(want.shape, order == 2 and not finite)
            check(joined(gradients), want, f"{what}, order {order}, {mode}", lambda i: i, rtol, 1e-9 * scale, loose)
    if finite:
        slope = sum((g * d).sum() for g, d in zip(found[1]["tape"], directions, strict=True))
        scale = sum(np.abs(g * d).sum() for g, d in zip(found[1]["tape"], directions, strict=True))
        rtol = 1e-6 if tangent.dtype == np.float32 else 1e-9
        check(tangent, np.asarray(slope), f"{what}, jvp", lambda: "", rtol, 1e-12 * scale)


@pytest.mark.parametrize("name", ROWS)
def test_ops_on_arrays(name):
    function, arrays, chosen = ROWS[name]
    total, inputs = of_floats(function, arrays)
    rng = np.random.default_rng(5)
    directions = tuple(rng.uniform(0.5, 1.5, x.shape) for x in inputs)
    found, tangent = modes(total, inputs, directions=directions)
    first = joined(found[1]["tape"])
    check_modes(name, found, tangent, directions, bool(np.isfinite(first).all()))
    if chosen is not None:
        assert [x.shape for x in found[1]["tape"]] == [x.shape for x in chosen]
        check(first, joined(chosen), name, lambda i: i, rtol=1e-12, atol=1e-12)
        return
    ends = np.cumsum([x.size for x in inputs])[:-1]

    def moved(by):
        parts = np.split(joined(inputs) + by, ends)
        return [as_tensor(part.reshape(x.shape)) for part, x in zip(parts, inputs, strict=True)]

    slopes = [difference(lambda t, unit=unit: total(*moved(t * unit)).item(), 1e-3) for unit in np.eye(first.size)]
    check(first, np.array(slopes), f"{name} beside differences", lambda i: i, rtol=1e-7, atol=1e-8)
    grad, way = autodiff.grad(total, tuple(range(len(inputs)))), joined(directions)
    changes = difference(lambda t: joined(grad(*moved(t * way))), 1e-3)
    check(joined(found[2]["tapes"]), changes, f"{name} beside differences, order 2", lambda i: i, rtol=1e-6, atol=1e-6)


@pytest.mark.grid
@pytest.mark.parametrize("name", ROWS)
def test_recorded_ops_on_arrays(name):
    function, arrays, _ = ROWS[name]
    check_jitted(*of_floats(function, arrays))


# -------------------- all cases of order_cases.py --------------------

CHANGES = {
    "nothing": lambda x: x,  # then forwards twice too
    "zeros": lambda x: x * 0,
    "minus zeros": lambda x: x * -0.0,
    "the same": lambda x: x * 0 + 1,
    "sorted": lambda x: np.sort(x, axis=None).reshape(x.shape),
    "repeated": np.round,
    "huge": lambda x: x * 1e20,
    "tiny": lambda x: x * 1e-20,
}
# Where modes may choose differently, or where the terms that cancel are larger than the derivatives
APART = {
    "pinv": {"the same"},  # of a singular matrix
    "pinv_tall": {"the same"},
    "qr_wide": {"the same"},  # singular: what LAPACK rounds decides if it is an error or derivatives of 1e17
    "svd_values": {"zeros", "minus zeros"},
    "hsv": {"tiny"},
    "attention_bias": {"huge"},
    "map_coordinates": {"huge"},
    "crossentropy_of_targets": {"huge"},
    "softsign": {"huge"},
    "ssim": {"the same"},
}


@pytest.mark.grid
@pytest.mark.parametrize("name", CASES)
def test_all_modes_agree(name):
    function, arrays = CASES[name]
    for change, made in CHANGES.items():
        if change in APART.get(name, ()):
            continue
        total, inputs = of_floats(function, [made(x) if x.dtype.kind == "f" else x for x in arrays])
        rng = np.random.default_rng(5)
        directions = tuple(rng.uniform(0.5, 1.5, x.shape) for x in inputs)
        try:
            found, tangent = modes(total, inputs, directions=directions)
        except ValueError:  # a singular matrix
            continue
        first = joined(found[1]["tape"])
        rtol = 1e-9 if change == "nothing" else 1e-7
        check_modes(f"{name}, {change}", found, tangent, directions, bool(np.isfinite(first).all()), rtol)
        if change == "nothing":
            twice = autodiff.jvp(lambda *xs, f=total, d=directions: autodiff.jvp(f, xs, d)[1], inputs, directions)[1]
            product = sum((h * d).sum() for h, d in zip(found[2]["hvp"], directions, strict=True))
            check(twice.numpy(), np.asarray(product), f"{name}, forwards twice", lambda: "", 1e-8, 1e-8)
