"""Kernels made of formulas: all operations against NumPy, at sizes around those of vectors; what they refuse."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from nbkeras.kernels import device, elementwise, gradients, optimizers, softmax
from nbkeras.kernels.loops import expressions as e
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.loops.row_passes import Rows

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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros((2, 2), "f4"), np.zeros(4, "f4")), "contiguous arrays with one axis"),
        ((np.zeros(8, "f4")[::2], np.zeros(4, "f4")), "contiguous arrays with one axis"),
        ((np.zeros(4, "f4"), np.zeros(4, "f8")), "one float dtype for x, y"),
        ((np.zeros(4, "i4"), np.zeros(4, "i4")), "one float dtype for x, y"),
        ((np.zeros(4, "f4"),), "takes 4 arguments"),
    ],
)
def test_arrays_that_a_map_does_not_take_are_refused(args, message):
    doubled = Map("doubled", __name__, lambda x, /: 2 * x, "y")
    with pytest.raises(TypeError, match=message):
        doubled(*args, 0, 1)


def test_matrices_that_rows_do_not_take_are_refused():
    flipped = Rows("flipped", __name__, lambda x, /: -x / e.total(x), "y")
    for x in (np.zeros((4, 3), "f4").T, np.zeros((3, 4), "i4"), np.zeros(3, "f4")):
        with pytest.raises(TypeError, match="takes contiguous arrays"):
            flipped(x, np.empty(x.shape, x.dtype), 0, 1)


def test_a_number_is_no_array():
    with pytest.raises(TypeError, match="contiguous arrays with one axis"):
        gradients.clip(np.ones(3), np.ones(3), 0, 1)


def test_a_gradient_by_launches_is_a_chain():
    with pytest.raises(ValueError, match="needs a result that is overwritten: write it as a chain"):
        elementwise._gradient(lambda x, dy: (x + 1) * (x + 2) * dy, np.ones(3), np.ones(3), True)


def test_a_formula_that_branches_on_a_value_is_refused():
    branching = Map("branching", __name__, lambda x, /: x if x > 0 else -x, "y")
    with pytest.raises(TypeError, match="write where\\(condition, a, b\\)"):
        branching(np.ones(3), np.ones(3), 0, 1)


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
    script = (
        "import numpy as np; from nbkeras.kernels import softmax as s, optimizers as o; y = np.empty((3, 10), 'f4');"
    )
    script += (
        "s.softmax_forward(np.ones((3, 10), 'f4'), y, 0, 1); o.sgd(w := np.ones(9), w, np.array([1.0]), 0.0, 0, 1);"
    )
    script += "print(round(float(y.sum()), 5), w[0], s.softmax_forward.compiled, s.softmax_forward.found)"
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
