"""Kernels made of formulas: all operations against NumPy, at sizes around those of vectors; what they refuse."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras.kernels import device, elementwise, gradients, optimizers, softmax
from nbkeras.kernels.interpreter import chains, launches
from nbkeras.kernels.loops import expressions as e
from nbkeras.kernels.loops import vmath
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.loops.row_passes import Rows
from nbkeras.kernels.runtime.cache import compiled

SIZES = (0, 1, 7, 8, 15, 16, 31, 33, 64, 100, 131)
pytestmark = pytest.mark.cpu("hands NumPy arrays to kernels")


def arithmetic(x, y, /, cell, *, number):
    sums = x + y - 2 * x * (1 - y) / 4 + number
    return e.where((x < y) | (x > 1.5), sums, -abs(x)) * e.real(cell) + e.clip(y, -0.5, number), x - e.tiny()


def of_numpy(x, y, cell, number):
    real = x.dtype.type
    sums = x + y - real(2) * x * (real(1) - y) / real(4) + real(number)
    chosen = np.where((x < y) | (x > real(1.5)), sums, -abs(x))
    return chosen * real(cell) + np.clip(y, real(-0.5), real(number)), x - np.finfo(x.dtype).tiny


made = Map("made", __name__, arithmetic, "x z")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_a_map_computes_what_numpy_does(dtype, size):
    x, y = np.random.default_rng(0).standard_normal((2, size)).astype(dtype)
    want, second = of_numpy(x, y, 1.25, 0.75)
    z = np.empty_like(x)
    made(x, y, z, np.array([1.25]), 0.75, 0, 1)  # x is written in place
    np.testing.assert_allclose(x, want, rtol=20 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(z, second)


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_shares_cover_all_elements_once(shares):
    x = np.arange(1000, dtype="f4")
    for share in range(shares):
        optimizers.shrink(x, np.array([1.0]), 0.5, share, shares)
    np.testing.assert_array_equal(x, np.arange(1000, dtype="f4") / 2)


def test_weight_decay_equals_numpy_but_for_one_rounding_and_clipping_does_exactly():
    w = np.random.default_rng(0).standard_normal(3001).astype("f4")
    shrunk, clipped = w.copy(), w.copy()
    optimizers.launch(optimizers.shrink, shrunk, np.array([0.01]), 0.3)
    optimizers.launch(gradients.clip, clipped, 0.7)
    np.testing.assert_array_max_ulp(shrunk, w - w * np.float32(0.3 * 0.01), 1)  # a product and a sum are rounded once
    np.testing.assert_array_equal(clipped, np.clip(w, np.float32(-0.7), np.float32(0.7)))


# -------------------- one function in all places --------------------

CURVES = {
    name: Map(f"{name}_curve", __name__, getattr(e, name), "y", elements=1)
    for name in "exp expm1 log log1p tanh sigmoid bounded_exp bounded_expm1 bounded_log1p".split()
}


def computed(name, x):
    y = np.empty_like(x)
    CURVES[name](x, y, 0, 1)
    return y


def numbers_of(name, dtype):
    """Numbers of all sizes, and those around which a function becomes 0, infinite, subnormal or NaN."""
    info = np.finfo(dtype)
    ends = [0.0, -0.0, 1, -1, -0.5, -0.75, np.inf, -np.inf, np.nan, info.tiny / 8, -info.tiny / 8, info.max, -info.max]
    far = math.log(info.max)
    ends += [*np.linspace(far - 0.01, far + 1, 50), *np.linspace(-1.3 * far, -0.9 * far, 500), -1e4, 1e4]
    near = np.random.default_rng(0).standard_normal(3001)
    return np.concatenate([near, near * 10, near * 1e-5, ends, -np.array(ends), near * far]).astype(dtype)


def same_bits(got, want):
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want) | (np.isnan(want) & np.signbit(got)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_formulas_launches_and_chains_have_one_exp_and_one_log(name, dtype):
    x = numbers_of(name, dtype)
    of_formula, launched, negated = computed(name, x), np.empty_like(x), np.empty_like(x)
    assert launches.run(getattr(np, name), (x, launched))
    chain = chains.Chain.parsed(f"{x.dtype}:a|{name} 0;negative 1|2")
    launches.Joined(chain)(x, negated)
    same_bits(of_formula, launched)
    same_bits(-negated, launched)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(np.longdouble)).astype(dtype)
    np.testing.assert_allclose(
        launched, exact, rtol=4 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).smallest_subnormal
    )
    vanishes = exact == 0
    np.testing.assert_array_equal(np.signbit(launched[vanishes]), np.signbit(exact[vanishes]))


@compiled
def of_numba(x, powers, bounded, tangents, sigmoids):
    for i in range(x.size):
        powers[i], bounded[i] = vmath.exp(x[i]), vmath.bounded_exp(x[i])
        tangents[i], sigmoids[i] = vmath.tanh(x[i]), vmath.sigmoid(x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loops_of_numba_have_the_functions_of_formulas(dtype):
    x = numbers_of("exp", dtype)
    results = np.empty((4, x.size), dtype)
    of_numba(x, *results)
    possible = ~(x > 80)
    for name, got in zip(("exp", "bounded_exp", "tanh", "sigmoid"), results, strict=True):
        where = possible if name == "bounded_exp" else slice(None)
        same_bits(got[where], computed(name, x)[where])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounded_functions_are_the_general_ones_in_their_range(dtype):
    x, info = numbers_of("exp", dtype), np.finfo(dtype)
    x = x[~(x > 80)]
    power = computed("exp", x)
    same_bits(computed("bounded_exp", x), np.where(power < info.tiny, dtype(0), power))
    np.testing.assert_array_equal(computed("bounded_expm1", x), computed("expm1", x))
    x = x[(x >= -0.5) & (x <= 1)]
    np.testing.assert_allclose(computed("bounded_log1p", x), computed("log1p", x), rtol=4 * info.eps)


def statistics(x, scale, /, of_row, label, *, number):
    middle = e.total(x) / e.columns()
    powers = e.exp((x - e.largest(x)) * scale)
    picked = e.where(e.is_inside(label), e.pick(x, label), math.nan)
    return powers / e.total(powers) - e.where(e.is_at(label), of_row, number), middle, picked


rows = Rows("rows", __name__, statistics, "y middle picked")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [each for each in SIZES if each])
def test_passes_over_rows_compute_what_numpy_does(dtype, n):
    x, labels = (
        np.random.default_rng(0).standard_normal((5, n)).astype(dtype),
        np.array([0, n - 1, n // 2, -1, n], "i4"),
    )
    scale, of_row = np.linspace(0.5, 1, n).astype(dtype), np.arange(5).astype(dtype)
    y, middle, share = np.empty_like(x), np.empty(5, dtype), np.empty(5, dtype)
    rows(x, scale, y, middle, share, of_row, labels, 0.25, 0, 1)
    powers = np.exp((x - x.max(1, keepdims=True)) * scale)
    here = np.arange(n) == labels[:, None]
    want = powers / powers.sum(1, keepdims=True) - np.where(here, of_row[:, None], dtype(0.25))
    close = {"rtol": 1e-5 if dtype == np.float32 else 1e-12, "atol": 1e-6 if dtype == np.float32 else 1e-13}
    np.testing.assert_allclose(y, want, **close)
    np.testing.assert_allclose(middle, x.mean(1), **close)
    np.testing.assert_array_equal(share, [x[0, 0], x[1, n - 1], x[2, n // 2], np.nan, np.nan])


def test_nothing_beyond_the_arrays_is_written():
    memory = np.full(64, 7, "f4")
    softmax.softmax_forward(np.zeros((3, 10), "f4"), memory[8:38].reshape(3, 10), 0, 1)
    assert (memory[:8] == 7).all() and (memory[38:] == 7).all() and (memory[8:38] != 7).all()


def doubled(*args):
    Map("doubled", __name__, lambda x, /: 2 * x, "y")(*args, 0, 1)


def flipped(x):
    Rows("flipped", __name__, lambda x, /: -x / e.total(x), "y")(x, np.empty(x.shape, x.dtype), 0, 1)


test_mistakes_are_explained = mistakes(
    [
        (lambda: doubled(np.zeros((2, 2), "f4"), np.zeros(4, "f4")), TypeError, "contiguous arrays with one axis"),
        (lambda: doubled(np.zeros(8, "f4")[::2], np.zeros(4, "f4")), TypeError, "contiguous arrays with one axis"),
        (lambda: doubled(np.zeros(4, "f4"), np.zeros(4, "f8")), TypeError, "one float dtype for x, y"),
        (lambda: doubled(np.zeros(4, "i4"), np.zeros(4, "i4")), TypeError, "one float dtype for x, y"),
        (lambda: doubled(np.zeros(4, "f4")), TypeError, "takes 4 arguments"),
        (lambda: flipped(np.zeros((4, 3), "f4").T), TypeError, "takes contiguous arrays"),
        (lambda: flipped(np.zeros((3, 4), "i4")), TypeError, "takes contiguous arrays"),
        (lambda: flipped(np.zeros(3, "f4")), TypeError, "takes contiguous arrays"),
        (lambda: gradients.clip(np.ones(3), np.ones(3), 0, 1), TypeError, "contiguous arrays with one axis"),
        (
            lambda: elementwise._gradient(lambda x, dy: (x + 1) * (x + 2) * dy, np.ones(3), np.ones(3), True),
            ValueError,
            "needs a result that is overwritten: write it as a chain",
        ),
        (
            lambda: Map("branching", __name__, lambda x, /: x if x > 0 else -x, "y")(np.ones(3), np.ones(3), 0, 1),
            TypeError,
            r"write where\(condition, a, b\)",
        ),
    ]
)


def test_the_code_of_a_kernel_is_the_same_each_time():
    """So that its object file is, whichever process writes it."""
    x = np.zeros((2, 3), "f8")
    signature = rows.signature((x, x[0], x, x[:, 0].copy(), x[:, 0].copy(), x[:, 0].copy(), np.zeros(2, "i4"), 0.25))
    kept = [rows.emitter(rows, signature) for _ in range(20)]  # kept: new objects have other addresses
    assert len({str(each.module) for each in kept}) == 1


def test_equal_operations_are_one():
    expression = e.trace(lambda x: e.sigmoid(x) * (1 - e.sigmoid(x)), [e.ELEMENT])
    assert [value.op for value in expression.values] == ["element", "sigmoid", "subtract", "multiply"]


@pytest.mark.process
def test_kernels_are_found_again_by_another_process_and_made_without_wide_vectors(tmp_path):
    """By the oldest level too, where no vector is masked."""
    script = """
import numpy as np
from nbkeras.kernels import optimizers, softmax
softmax.softmax_forward(np.ones((3, 10), "f4"), y := np.empty((3, 10), "f4"), 0, 1)
optimizers.sgd(w := np.ones(9), w, np.array([1.0]), 0.0, 0, 1)
print(round(float(y.sum()), 5), w[0], softmax.softmax_forward.compiled, softmax.softmax_forward.found)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "x86-64-v2"}
    done = [
        subprocess.run([sys.executable, "-Pc", script], env=environment, capture_output=True, text=True) for _ in "12"
    ]
    assert [each.stdout.split() for each in done] == [["3.0", "0.0", "1", "0"], ["3.0", "0.0", "0", "1"]], done[
        0
    ].stderr


def test_a_kernel_of_a_formula_is_launched_and_recorded_as_others_are():
    x = np.random.default_rng(0).standard_normal(100).astype("f4")
    y = device.empty(x.shape, x.dtype)
    device.launch(made.shared, 3, x.copy(), x, y, np.array([1.0]), 0.5)
    np.testing.assert_array_equal(y, x - np.finfo("f4").tiny)
