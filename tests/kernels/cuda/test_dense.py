"""Matrix products and the dense layer on a GPU, against NumPy and against the CPU's kernels."""

import itertools

import numpy as np
import pytest
import twins

from nbkeras.kernels import dense
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}
DTYPES = [np.float32, np.float64]
TRANSPOSES = list(itertools.product([False, True], repeat=2))


@pytest.fixture
def gemm_cuda():
    from nbkeras.kernels.cuda.loops import gemm as gemm_cuda

    gemm_cuda._plan.cache_clear()
    return gemm_cuda


def stored(rng, transposed, rows, columns, room, at, batches, dtype):
    """(flat memory, its matrices, stride of rows, stride of matrices): rows are `room` longer than needed and begin at `at`."""
    high, wide = (columns, rows) if transposed else (rows, columns)
    step = high * (wide + room) + room
    memory = rng.standard_normal(at + batches * step).astype(dtype)
    each = [
        memory[at + i * step :][: high * (wide + room)].reshape(high, wide + room)[:, :wide] for i in range(batches)
    ]
    return memory, np.swapaxes(np.stack(each), 1, 2) if transposed else np.stack(each), wide + room, step


def check_product(gemm_cuda, ta, tb, m, n, k, dtype, beta=0.0, bias=False, rectify=False, batches=1, room=0, at=0):
    """Assert that a product is right and that memory around C does not change; a single B serves all A."""
    rng = np.random.default_rng(m * 100 + n * 10 + k)
    a, left, lda, a_step = stored(rng, ta, m, k, room, at, batches, dtype)
    b, right, ldb, _ = stored(rng, tb, k, n, room, at, 1, dtype)
    c, before, ldc, c_step = stored(rng, False, m, n, room, at, batches, dtype)
    shift = rng.standard_normal(n).astype(dtype) if bias else None
    want = left.astype(np.float64) @ right + (shift if bias else 0)
    if beta:
        want += beta * before
    else:
        for i in range(batches):
            c[at + i * c_step :][: m * ldc].reshape(m, ldc)[:, :n] = np.nan  # must not be read
    whole = c.copy()
    for i in range(batches):
        whole[at + i * c_step :][: m * ldc].reshape(m, ldc)[:, :n] = np.maximum(want[i], 0) if rectify else want[i]
    arrays = [twins.to(twins.gpu(), each) for each in (a, b, c, shift)]
    operands = arrays[0], at, lda, arrays[1], at, ldb, beta, arrays[2], at, ldc
    with device.on(twins.gpu()):
        gemm_cuda.product(ta, tb, m, n, k, *operands, arrays[3], rectify, batches, a_step, 0, c_step)
    got = arrays[2].copy()
    np.testing.assert_allclose(got, whole, rtol=0, atol=TOLERANCE[dtype] * (k + 1) ** 0.5 * 8)
    return got


# Rows, columns and terms: some with whole quads and some without, smaller and larger than tiles and stages of any size.
SHAPES = [(2, 3, 1), (5, 70, 7), (68, 12, 8), (33, 31, 29), (150, 8, 20), (64, 160, 12)]


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize(
    ("dtype", "tile"), [(np.float32, 0), (np.float32, 1), (np.float32, 2), (np.float64, 0), (np.float64, 1)]
)
@pytest.mark.parametrize("parts", [1, 3])
def test_each_tile(gemm_cuda, monkeypatch, tile, dtype, ta, tb, parts):
    def plan(m, n, k, *_):
        few = -(-k // gemm_cuda._part(k, parts))
        return gemm_cuda._TILES[np.dtype(dtype).itemsize][tile], few

    monkeypatch.setattr(gemm_cuda, "_plan", plan)
    for m, n, k in SHAPES:
        check_product(gemm_cuda, ta, tb, m, n, k, dtype)
    m, n, k = 37, 20, 4 * gemm_cuda._DEPTH
    check_product(gemm_cuda, ta, tb, m, n, k, dtype, beta=0.5, bias=True, rectify=True, batches=3, room=4, at=4)
    check_product(gemm_cuda, ta, tb, m, n, k + 3, dtype, beta=-1, bias=True, batches=2, room=3, at=1)


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_as_planned(gemm_cuda, dtype, ta, tb):
    for m, n, k in [(7, 9, 5), (16, 16, 300), (40, 24, 64), (3, 2, 1000)]:
        check_product(gemm_cuda, ta, tb, m, n, k, dtype, bias=True, rectify=True)


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 9), (1, 64), (1, 100), (7, 1), (60, 1), (130, 1)])
def test_products_with_vectors(gemm_cuda, m, n, dtype, ta, tb):
    for k in (1, 12, 61, 200):
        check_product(gemm_cuda, ta, tb, m, n, k, dtype)
    check_product(gemm_cuda, ta, tb, m, n, 44, dtype, beta=2, bias=True, rectify=True, batches=2, room=4, at=8)
    check_product(gemm_cuda, ta, tb, m, n, 45, dtype, beta=2, bias=True, batches=2, room=1, at=3)


@pytest.mark.parametrize("shape", [(9, 5, 7), (9, 1, 7), (1, 9, 7)])
def test_more_products_than_a_launch_takes(gemm_cuda, monkeypatch, shape):
    monkeypatch.setattr(gemm_cuda, "_MAX_BATCHES", 2)
    check_product(gemm_cuda, False, True, *shape, np.float64, batches=5, room=1)


@pytest.mark.parametrize("shape", [(5, 6), (1, 6), (5, 1)])
def test_an_empty_sum(gemm_cuda, shape):
    m, n = shape
    check_product(gemm_cuda, False, False, m, n, 0, np.float32, beta=0.5, bias=True, rectify=True)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4)])
def test_nothing_to_compute(gemm_cuda, shape):
    check_product(gemm_cuda, False, False, *shape, np.float32)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4), (3, 1, 4)])
def test_nan_stays_nan(gemm_cuda, shape):
    m, n, k = shape
    a, b, c = (
        twins.to(twins.gpu(), np.full(size, value)) for size, value in ((m * k, np.nan), (k * n, 1.0), (m * n, 0.0))
    )
    with device.on(twins.gpu()):
        gemm_cuda.product(False, False, m, n, k, a, 0, k, b, 0, n, 0, c, 0, n, rectify=True)
    assert np.isnan(c.copy()).all()


@pytest.mark.parametrize("shape", [(40, 36, 100), (1, 40, 100), (40, 1, 100)])
def test_the_order_of_blocks_changes_no_bit(gemm_cuda, monkeypatch, shape):
    results = []
    for seed in "123":
        monkeypatch.setenv("NBKERAS_SIMULATOR_SEED", seed)
        results.append(check_product(gemm_cuda, False, False, *shape, np.float32))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize(("room", "at", "quads"), [(0, 0, 1), (4, 8, 1), (0, 2, 0), (2, 0, 0)])
def test_quads_are_used_where_they_can_be(gemm_cuda, monkeypatch, ta, tb, room, at, quads):
    starts = []
    start = gemm_cuda.start
    monkeypatch.setattr(gemm_cuda, "start", lambda *args: starts.append(args) or start(*args))
    check_product(gemm_cuda, ta, tb, 8, 12, 16, np.float32, room=room, at=at)
    _, _, _, _, _, left, _, right, _, form, *_ = starts[0]
    assert (left[4], right[4], form[-1]) == (quads, quads, quads)


def test_plans(gemm_cuda, monkeypatch):
    """Many tiles are large; tiles are small and sums in parts where processors would be idle. Sizes as on a GPU."""
    sides = {gemm_cuda._LARGE: 128, gemm_cuda._MEDIUM: 64, gemm_cuda._SMALL: 32}
    tiles = {itemsize: [t._replace(side=sides[t.side]) for t in tiles] for itemsize, tiles in gemm_cuda._TILES.items()}
    monkeypatch.setattr(gemm_cuda, "_TILES", tiles)
    monkeypatch.setattr(gemm_cuda, "_DEPTH", 8)

    def plan(m, n, k, batches=1, itemsize=4):
        tile, parts = gemm_cuda._plan(m, n, k, batches, itemsize, 132)
        return tile.side, parts

    assert plan(8192, 8192, 4096) == (128, 1)
    assert plan(8192, 8192, 4096, itemsize=8) == (64, 1)
    assert plan(16, 16, 100_000)[1] > 16
    assert plan(16, 16, 16) == (32, 1)
    assert plan(64, 64, 64, batches=10_000)[1] == 1
    gemm_cuda._plan.cache_clear()


# -------------------- the dense layer and matmul --------------------


def normal(*shapes, dtype):
    rng = np.random.default_rng(len(shapes))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 3), (5, 8, 12), (33, 17, 10), (700, 3, 2), (6, 9, 1)])
def test_dense(shape, bias, rectify, dtype):
    rows, k, n = shape
    arrays = normal((rows, k), (k, n), *([(n,)] if bias else []), dtype=dtype)

    def op(x, w, b=None, rectify=False):
        return dense.dense(x, w, b, rectify)

    twins.check(op, dense.dense_vjp, arrays, {"rectify": rectify}, needs=(True,) * 3)


def test_dense_of_several_axes_and_a_long_sum():
    """The gradient of the weights sums over 3000 rows; the CPU sums relu's backward pass by blocks."""
    arrays = normal((4, 750, 6), (6, 5), (5,), dtype=np.float32)
    twins.check(dense.dense, dense.dense_vjp, arrays, {"rectify": True})


def test_dense_of_no_rows():
    twins.check(dense.dense, None, normal((0, 4), (4, 3), (3,), dtype=np.float32))


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("batches", [((), ()), ((4,), ()), ((4,), (4,)), ((3, 1), (4,)), ((5,), (1,))])
def test_matmul(batches, ta, tb):
    left, right = batches
    arrays = normal((*left, *((7, 10) if ta else (10, 7))), (*right, *((9, 7) if tb else (7, 9))), dtype=np.float64)
    twins.check(dense.matmul, None, arrays, {"transpose_a": ta, "transpose_b": tb})
    if left == right:
        twins.check(dense.matmul, dense.matmul_vjp, arrays, {"transpose_a": ta, "transpose_b": tb})
