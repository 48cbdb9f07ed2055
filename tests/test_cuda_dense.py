"""Matrix products and the dense layer on a GPU, against NumPy and against the CPU's kernels."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import device

pytestmark = twins.needs_cuda
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}


def stored(rng, transposed, rows, columns, room, batches, dtype):
    """(flat memory, its matrices): stored rows `room` longer than need be, 3 numbers before the first, 5 between matrices."""
    high, wide = (columns, rows) if transposed else (rows, columns)
    step = high * (wide + room) + 5
    memory = rng.standard_normal(3 + batches * step).astype(dtype)
    matrices = np.stack(
        [memory[3 + i * step :][: high * (wide + room)].reshape(high, -1)[:, :wide] for i in range(batches)]
    )
    return memory, np.swapaxes(matrices, 1, 2) if transposed else matrices, wide + room, step


def check_product(ta, tb, m, n, k, dtype, beta=0.0, bias=False, rectify=False, batches=1, room=0, shared_b=False):
    from nbkeras.kernels import gemm_cuda

    rng = np.random.default_rng(m * 100 + n * 10 + k)
    a, left, lda, a_step = stored(rng, ta, m, k, room, batches, dtype)
    b, right, ldb, b_step = stored(rng, tb, k, n, room, 1 if shared_b else batches, dtype)
    c, before, ldc, c_step = stored(rng, False, m, n, room, batches, dtype)
    shift = rng.standard_normal(n).astype(dtype) if bias else None
    want = left.astype(np.float64) @ right + (beta * before.astype(np.float64) if beta else 0) + (shift if bias else 0)
    want = np.maximum(want, 0) if rectify else want
    where = twins.place()
    c[:3] = np.nan if beta == 0 else 1
    memory = [twins.to(where, each) for each in (a, b, c, shift)]
    steps = {"batches": batches, "a_step": a_step, "b_step": 0 if shared_b else b_step, "c_step": c_step}
    with device.on(where):
        gemm_cuda.product(
            ta, tb, m, n, k, memory[0], 3, lda, memory[1], 3, ldb, beta, memory[2], 3, ldc, memory[3], rectify, **steps
        )
    got = memory[2].copy()
    whole = c.copy()
    for i in range(batches):
        whole[3 + i * c_step :][: m * ldc].reshape(m, ldc)[:, :n] = want[i]
    np.testing.assert_allclose(got, whole, rtol=0, atol=TOLERANCE[dtype] * (k + 1) ** 0.5 * 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (8, 4, 12), (13, 6, 17)])
def test_products(shape, ta, tb, dtype):
    check_product(ta, tb, *shape, dtype)
    check_product(ta, tb, *shape, dtype, beta=0.5, bias=True, rectify=True, batches=3, room=2)
