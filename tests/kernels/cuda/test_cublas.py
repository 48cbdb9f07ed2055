"""cuBLAS in place of our own products: a stand-in that multiplies by columns, as cuBLAS does, sees the arguments it gets."""

import enum
import itertools
import sys
import types

import numpy as np
import pytest
import twins

import nbkeras
from nbkeras import layers, ops
from nbkeras.engine.devices import DeviceError
from nbkeras.kernels.runtime import cublas, device

needs_simulator = pytest.mark.skipif(not twins.SIMULATED, reason="the stand-in reads the simulator's memory")


class Operation(enum.IntEnum):
    N, T = 0, 1


class ComputeType(enum.IntEnum):
    COMPUTE_32F_FAST_16F, COMPUTE_32F_FAST_16BF = 74, 75


class StandIn(types.ModuleType):
    """The functions of nvmath.bindings.cublas that nbkeras calls, on the CPU's memory."""

    Operation, ComputeType = Operation, ComputeType

    def __init__(self):
        super().__init__("nvmath.bindings.cublas")
        self.log = []

    def create(self):
        self.log.append("create")
        return 77

    def set_stream(self, handle, stream):
        self.log.append(("stream", handle, stream))

    def set_workspace(self, handle, address, nbytes):
        assert address % 256 == 0 and nbytes > 0
        self.log.append(("workspace", handle))

    def sgemm_strided_batched(self, *args):
        self._multiply(np.float32, *args)

    def dgemm_strided_batched(self, *args):
        self._multiply(np.float64, *args)

    def gemm_strided_batched_ex(self, *args):
        """Multiplies numbers of 16 bits, stored as float32; fails if the conversion would change one."""
        handle, turn_a, turn_b, m, n, k, one, a, of_a, lda, a_step, b, of_b, ldb, b_step, other, c, of_c, *rest = args
        ldc, c_step, count, compute, algorithm = rest
        assert (of_a, of_b, of_c, algorithm) == (0, 0, 0, -1)  # CUDA_R_32F, CUBLAS_GEMM_DEFAULT
        kind = {74: "float16", 75: "bfloat16"}[compute]
        operands = a, lda, a_step, b, ldb, b_step
        self._multiply(np.float32, handle, turn_a, turn_b, m, n, k, one, *operands, other, c, ldc, c_step, count, kind)
        self.log[-1] = kind

    def _multiply(self, dtype, handle, turn_a, turn_b, m, n, k, one, *operands):
        """cublas<t>gemmStridedBatched of NVIDIA's documentation: C = alpha op(A) op(B) + beta C, matrices by columns."""
        a, lda, a_step, b, ldb, b_step, other, c, ldc, c_step, count, *kind = operands
        from nbkeras.kernels.runtime.device_array import layout_at

        size = np.dtype(dtype).itemsize

        def matrix(address, rows, columns, ld):
            assert ld >= max(1, rows)
            return layout_at(address, (rows, columns), dtype, (size, ld * size))

        alpha, beta = (layout_at(address, (), dtype)[()] for address in (one, other))
        assert handle == 77
        for i in range(count):
            left = matrix(a + i * a_step * size, *((m, k) if turn_a == Operation.N else (k, m)), lda)
            right = matrix(b + i * b_step * size, *((k, n) if turn_b == Operation.N else (n, k)), ldb)
            for operand in (left, right) if kind else ():
                np.testing.assert_array_equal(operand, np.asarray(nbkeras.ops.cast(operand.copy(), *kind), np.float32))
            result = matrix(c + i * c_step * size, m, n, ldc)
            product = alpha * (
                (left if turn_a == Operation.N else left.T) @ (right if turn_b == Operation.N else right.T)
            )
            result[...] = product if beta == 0 else product + beta * result
        self.log.append("gemm")


@pytest.fixture
def library(monkeypatch):
    stand_in = StandIn()
    for name in ("nvmath", "nvmath.bindings"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(cublas, "_thread", cublas._Thread())
    nbkeras.config.set_matmul("cublas")
    yield stand_in
    nbkeras.config.set_matmul("own")


@twins.needs_cuda
@needs_simulator
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("ta", "tb"), list(itertools.product([False, True], repeat=2)))
def test_products_by_cublas(library, dtype, ta, tb):
    from nbkeras.kernels.cuda.loops import gemm as gemm_cuda

    rng, where = np.random.default_rng(1), twins.gpu()
    m, n, k, batches, room = 3, 5, 4, 2, 2
    shapes = [(k, m) if ta else (m, k), (n, k) if tb else (k, n), (m, n)]
    stored = [rng.standard_normal((batches, rows, columns + room)).astype(dtype) for rows, columns in shapes]
    a, b, c = (whole[:, :, :-room] for whole in stored)
    product = (np.swapaxes(a, 1, 2) if ta else a) @ (np.swapaxes(b, 1, 2) if tb else b)
    bias = rng.standard_normal(n).astype(dtype)
    steps = [whole[0].size for whole in stored]
    for beta, shift, rectify in [
        (0, None, False),
        (0.5, None, False),
        (0, bias, True),
        (-1, bias, False),
        (0, None, True),
    ]:
        want = product + beta * c + (0 if shift is None else shift)
        arrays = [twins.to(where, whole) for whole in stored]
        places = [x for whole, array in zip(stored, arrays, strict=True) for x in (array, 0, whole.shape[-1])]
        with device.on(where):
            gemm_cuda.product(
                ta, tb, m, n, k, *places[:6], beta, *places[6:], twins.to(where, shift), rectify, batches, *steps
            )
        got = arrays[2].copy()
        np.testing.assert_allclose(got[:, :, :-room], np.maximum(want, 0) if rectify else want, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(got[:, :, -room:], stored[2][:, :, -room:])
    assert library.log.count("create") == 1 and library.log.count("gemm") == 5
    assert library.log[1:4] == [("stream", 77, where.stream), ("workspace", 77), "gemm"]


@twins.needs_cuda
@needs_simulator
def test_the_dense_layer_by_cublas(library):
    from nbkeras.kernels import dense

    arrays = [np.random.default_rng(2).standard_normal(shape) for shape in ((6, 4), (4, 3), (3,))]
    twins.check(dense.dense, dense.dense_vjp, arrays, {"rectify": True})
    assert library.log.count("gemm") == 3


@twins.needs_cuda
@needs_simulator
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_numbers_of_16_bits_on_tensor_cores(library, kind):
    rng = np.random.default_rng(3)
    x, a, b = (rng.standard_normal(shape).astype("float32") for shape in ((6, 4), (2, 5, 4), (2, 3, 4)))
    with device.on(twins.gpu()):
        layer = layers.Dense(3, activation="relu", dtype=f"mixed_{kind}")
        layer.build((6, 4))
        x, a, b = (nbkeras.Variable(ops.cast(each, kind), dtype=kind) for each in (x, a, b))

        def results():
            with nbkeras.GradientTape() as tape:
                y = layer(x)
                z = ops.matmul(a, ops.transpose(b, (0, 2, 1)))
                total = ops.sum(ops.square(y)) + ops.sum(ops.square(z))
            found = [y, z, *tape.gradient(total, [x, a, b, layer.kernel, layer.bias])]
            return [np.asarray(each, np.float32) for each in found]

        got = results()
        assert library.log.count(kind) == 6 and "gemm" not in library.log  # two products, and two gradients of each
        nbkeras.config.set_matmul("own")
        for ours, theirs in zip(got, results(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2**-7, atol=1e-3)
    assert library.log.count(kind) == 6


def test_cublas_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvmath", None)
    with pytest.raises(
        DeviceError,
        match=r"nvmath.* is not installed. Install it: pip install 'nbkeras\[cublas\]', or pip install 'nvmath-python\[cu13\]'",
    ):
        nbkeras.config.set_matmul("cublas")
    assert not cublas.chosen()


def test_a_library_that_is_unknown():
    with pytest.raises(ValueError, match="'own' or 'cublas', received 'mkl'"):
        nbkeras.config.set_matmul("mkl")
