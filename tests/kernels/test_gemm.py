"""The matrix product on which all others are built, compared with NumPy in float64."""

import itertools

import numpy as np
import pytest

from nbkeras.kernels import panels as weights_in_panels
from nbkeras.kernels.loops.gemm import PANELS, gemm, gemm_at, gemm_ended, gemm_own, panel_width
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

pytestmark = pytest.mark.cpu("the CPU's products")
SIZES = (1, 2, 3, 7, 8, 13, 33, 300)  # rows: single ones, a half block, whole blocks and what is left over
COLUMNS = (1, 5, 16, 17, 40, 50, 129, 260)  # below, at and above one, three and eight vectors
DEPTHS = (1, 3, 16, 70, 300)  # 300: more than one panel


@compiled
def product(ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc):
    gemm(ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc)


@compiled
def product_ended(ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    gemm_ended(ta, tb, m, n, k, a, ao, lda, b, bo, ldb, beta, c, co, ldc, bias, at, ends)


@compiled
def product_at(m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    gemm_at(0, m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends)


@compiled
def product_own(m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends):
    gemm_own(m, n, k, a, ao, tables, ro, ko, b, bo, ldb, beta, c, co, ldc, bias, at, ends)


def inside(random, dtype, rows, columns):
    """A matrix inside a larger one: (flat memory, offset, leading dimension, view)."""
    whole = random.standard_normal((rows + 2, columns + 3)).astype(dtype)
    return whole.reshape(-1), columns + 3 + 1, columns + 3, whole[1 : rows + 1, 1 : columns + 1]


@pytest.mark.grid
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ta, tb", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_product_of_every_size(ta, tb, dtype):
    random = np.random.default_rng(0)
    for m, n, k, beta in itertools.product(SIZES, COLUMNS, DEPTHS, (0, 0.5)):
        a, ao, lda, a_view = inside(random, dtype, *((k, m) if ta else (m, k)))
        b, bo, ldb, b_view = inside(random, dtype, *((n, k) if tb else (k, n)))
        c, co, ldc, c_view = inside(random, dtype, m, n)
        before, border = c_view.astype(np.float64), c.copy()
        device.launch(product, ta, tb, m, n, k, a, ao, lda, b, bo, ldb, dtype(beta), c, co, ldc)
        left, right = (a_view.T if ta else a_view).astype(np.float64), b_view.T if tb else b_view
        size = np.abs(left) @ np.abs(right) + np.abs(before)  # of what was added up
        error = np.abs(c_view - left @ right - beta * before) / size
        assert error.max() < 8 * np.finfo(dtype).eps, (m, n, k, beta, error.max())
        c_view[...] = before  # nothing around C was written
        np.testing.assert_array_equal(c, border)


def in_panels(b, width):
    """The panels of b. No number of them is left as it is."""
    k, n = b.shape
    line = 64 // b.itemsize
    panels = np.full(k * -(-n // line) * line, np.nan, b.dtype)
    device.launch(weights_in_panels.fill_panels, 0, b.reshape(-1), 0, n, panels, k, n, width, 0, 1)
    return panels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [None, 16, 32, 48], ids=lambda width: f"width-{width or 'own'}")
def test_product_with_panels_of_any_width(width, dtype):
    """None: the width of this processor's products; the others are those of other processors."""
    random = np.random.default_rng(0)
    for m, n, k, beta in itertools.product((1, 2, 8, 33, 300), COLUMNS, (1, 16, 300), (0, 0.5)):
        a, ao, lda, a_view = inside(random, dtype, m, k)
        c, co, ldc, c_view = inside(random, dtype, m, n)
        b = random.standard_normal((k, n)).astype(dtype)
        size = width or panel_width(n, np.dtype(dtype).itemsize)
        panels = in_panels(b, size)
        turned = np.full_like(panels, np.nan)
        fill = weights_in_panels.fill_panels
        device.launch(fill, 1, np.ascontiguousarray(b.T).reshape(-1), 0, k, turned, k, n, size, 0, 1)
        np.testing.assert_array_equal(panels, turned)
        before, border = c_view.astype(np.float64), c.copy()
        device.launch(product, 0, PANELS, m, n, k, a, ao, lda, panels, 0, size, dtype(beta), c, co, ldc)
        left = a_view.astype(np.float64)
        error = np.abs(c_view - left @ b - beta * before) / (np.abs(left) @ np.abs(b) + np.abs(before))
        assert error.max() < 8 * np.finfo(dtype).eps, (m, n, k, beta, error.max())
        c_view[...] = before
        np.testing.assert_array_equal(c, border)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "m, n, k, ta", [(9, 530, 300, 0), (300, 1050, 300, 0), (8, 70, 257, 1), (300, 264, 600, 1)], ids=str
)
def test_large_products_with_panels(m, n, k, ta, dtype):
    """Of sizes for which A is copied, and with a last panel that is narrower than the others."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((m, k)).astype(dtype), random.standard_normal((k, n)).astype(dtype)
    stored, lda, c = np.ascontiguousarray(a.T if ta else a).reshape(-1), m if ta else k, np.empty((m, n), dtype)
    for width in (16, 32, 48):
        sizes = ta, PANELS, m, n, k, stored, 0, lda, in_panels(b, width), 0, width, dtype(0)
        device.launch(product, *sizes, c.reshape(-1), 0, n)
        error = np.abs(c - a.astype(np.float64) @ b) / (np.abs(a).astype(np.float64) @ np.abs(b))
        assert error.max() < 8 * np.finfo(dtype).eps, (width, error.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_a_product_do_not_depend_on_their_number(dtype):
    """So a prediction does not depend on the other samples of its batch; a single row is added up in another order."""
    random = np.random.default_rng(0)
    for n, k, form in itertools.product((5, 16, 40, 130), (7, 300), (0, 1, PANELS)):
        a, b = random.standard_normal((300, k)).astype(dtype), random.standard_normal((k, n)).astype(dtype)
        ldb = {0: n, 1: k, PANELS: panel_width(n, b.itemsize)}[form]
        stored = np.ascontiguousarray(b.T if form == 1 else b).reshape(-1)
        if form == PANELS:
            stored = in_panels(b, ldb)
        results = []
        for m in (300, 2, 5, 7, 8, 13, 64, 65):
            c = np.empty((m, n), dtype)
            device.launch(product, 0, form, m, n, k, a.reshape(-1), 0, k, stored, 0, ldb, dtype(0), c.reshape(-1), 0, n)
            results.append(c)
        for c in results[1:]:
            np.testing.assert_array_equal(c, results[0][: len(c)])


def test_product_does_not_read_c_where_beta_is_zero():
    a, b, c = np.ones((9, 4), np.float32), np.ones((4, 50), np.float32), np.full((9, 50), np.nan, np.float32)
    device.launch(
        product, 0, 0, 9, 50, 4, a.reshape(-1), 0, 4, b.reshape(-1), 0, 50, np.float32(0), c.reshape(-1), 0, 50
    )
    assert (c == 4).all()


def test_product_over_nothing_is_zero():
    a, c = np.empty(0, np.float32), np.full(6, np.nan, np.float32)
    device.launch(product, 0, 0, 2, 3, 0, a, 0, 1, a, 0, 3, np.float32(0), c, 0, 3)
    assert (c == 0).all()


def test_product_hands_on_nan_and_infinity():
    a, b = np.zeros((8, 3), np.float32), np.ones((3, 20), np.float32)
    a[2, 1], a[5, 0] = np.nan, np.inf
    c = np.empty((8, 20), np.float32)
    device.launch(
        product, 0, 0, 8, 20, 3, a.reshape(-1), 0, 3, b.reshape(-1), 0, 20, np.float32(0), c.reshape(-1), 0, 20
    )
    assert np.isnan(c[2]).all() and np.isposinf(c[5]).all() and (np.delete(c, [2, 5], 0) == 0).all()


def ended(product, bias, ends):
    """A product with its ends: 1 adds the bias, 2 takes the positive part."""
    product = product + bias if ends & 1 else product
    return np.maximum(product, 0) if ends & 2 else product


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ends", [0, 1, 2, 3])
def test_products_end_with_bias_and_positive_part(ends, dtype):
    random = np.random.default_rng(0)
    for m, n, k, beta in itertools.product((1, 5, 8, 300), COLUMNS, (3, 300, 600), (0, 0.5)):
        a, ao, lda, a_view = inside(random, dtype, m, k)
        b, bo, ldb, b_view = inside(random, dtype, k, n)
        c, co, ldc, c_view = inside(random, dtype, m, n)
        bias, before = random.standard_normal(n + 2).astype(dtype), c_view.astype(np.float64)
        sizes = 0, 0, m, n, k, a, ao, lda, b, bo, ldb, dtype(beta), c, co, ldc
        device.launch(product_ended, *sizes, bias, 2, ends)
        expected = ended(a_view.astype(np.float64) @ b_view + beta * before, bias[2:], ends)
        np.testing.assert_allclose(c_view, expected, rtol=0, atol=200 * k * np.finfo(dtype).eps)


def test_the_positive_part_of_nan_is_nan():
    a, b, c = np.full((9, 2), np.nan, np.float32), np.ones((2, 20), np.float32), np.empty((9, 20), np.float32)
    sizes = 0, 0, 9, 20, 2, a.reshape(-1), 0, 2, b.reshape(-1), 0, 20, np.float32(0), c.reshape(-1), 0, 20
    device.launch(product_ended, *sizes, c[0], 0, 2)
    assert np.isnan(c).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("own", [False, True], ids=["one A", "an A for each column"])
def test_products_whose_operand_lies_anywhere(own, dtype):
    """A[i, p] is found by the sum of two offsets from tables."""
    random = np.random.default_rng(0)
    for m, n, k, beta in itertools.product((1, 3, 8, 13, 300), COLUMNS, (1, 9, 300), (0, 0.5)):
        a = random.standard_normal(5000).astype(dtype)
        rows, columns = random.integers(0, 2000, m), random.integers(-100, 2000, k)
        tables = np.concatenate([np.zeros(3, int), columns, rows])
        b, bo, ldb, b_view = inside(random, dtype, k, n)
        c, co, ldc, c_view = inside(random, dtype, m, n)
        bias, before = random.standard_normal(n).astype(dtype), c_view.astype(np.float64)
        where = 100 + rows[:, None] + columns
        arguments = m, n, k, a, 100, tables, 3 + k, 3, b, bo, ldb, dtype(beta), c, co, ldc, bias, 0, 3
        device.launch(product_own if own else product_at, *arguments)
        if own:
            found = np.stack([(a[where + j].astype(np.float64) * b_view[:, j]).sum(1) for j in range(n)], axis=1)
        else:
            found = a[where].astype(np.float64) @ b_view
        expected = ended(found + beta * before, bias, 3)
        np.testing.assert_allclose(c_view, expected, rtol=0, atol=200 * k * np.finfo(dtype).eps)
