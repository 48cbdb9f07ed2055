"""Dense and matrix products: values against NumPy, gradients, serial against tiled, thread counts, dtypes, messages."""

import numpy as np
import pytest
from in_threads import by_threads
from mistakes import mistakes

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.kernels import dense
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

RNG = np.random.default_rng(3)


def normal(*shape):
    return RNG.standard_normal(shape)


# -------------------- dense --------------------


@pytest.mark.parametrize("activation", [None, ops.relu, ops.linear, ops.tanh, ops.sigmoid])
@pytest.mark.parametrize("bias", [True, False])
def test_dense_gradients(activation, bias):
    inputs = [normal(3, 4, 5), normal(5, 6), *([normal(6)] if bias else [])]
    check_op(lambda x, w, b=None: ops.dense(x, w, b, activation), *inputs)


def reference(x, w, b, rectify):
    y = x.astype(np.float64) @ w.astype(np.float64) + b
    return np.maximum(y, 0) if rectify else y


# From one row to more than a tile, odd sizes, tall (B is transposed for dx), a long sum (dw is summed in parts), wide.
SHAPES = [(1, 7, 3), (1, 300, 400), (70, 130, 90), (1500, 20, 30), (2500, 40, 60), (5, 9, 700), (300, 300, 200)]


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_dense.py has the GPU's")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rectify", [True, False])
def test_dense_of_all_sizes(shape, dtype, rectify):
    m, k, n = shape
    x, w, b, dy = (normal(*s).astype(dtype) for s in ((m, k), (k, n), (n,), (m, n)))
    expected = reference(x, w, b, rectify)
    y, saved = dense.dense(x, w, b, rectify)
    assert y.dtype == dtype
    tolerance = {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * k**0.5 * 8)
    dz = dy * (y > 0) if rectify else dy
    dx, dw, db = dense.dense_vjp(saved, dy, (True, True, True))
    for got, want, terms in ((dx, dz @ w.T, n), (dw, x.T @ dz, m), (db, dz.sum(0, dtype=np.float64), m)):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * terms**0.5 * 16)


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_dense.py has the GPU's")
def test_dense_writes_gradients_where_it_is_told_and_only_those_needed():
    x, w, b, dy = (normal(*s) for s in ((6, 4), (4, 3), (3,), (6, 3)))
    y, saved = dense.dense(x, w, b, True)
    dw, db = np.full((4, 3), np.nan), np.full(3, np.nan)
    gradients = dense.dense_vjp(saved, dy, (False, dw, db))
    assert gradients[0] is None and gradients[1] is dw and gradients[2] is db
    np.testing.assert_allclose(dw, x.T @ (dy * (y > 0)))
    assert dense.dense_vjp(saved, dy, (True, False, False))[1:] == (None, None)


@pytest.mark.cpu("about threads")
def test_dense_does_not_depend_on_the_number_of_threads():
    x, w, b, dy = (normal(*s).astype(np.float32) for s in ((3000, 50), (50, 70), (70,), (3000, 70)))

    def run():
        y, saved = dense.dense(x, w, b, True)
        return [y, *dense.dense_vjp(saved, dy, (True, True, True))]

    found = by_threads(run)
    for a, b in zip(found[0], found[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_dense_keeps_nan():
    x = np.array([[np.nan, 1.0]], np.float32)
    assert np.isnan(ops.dense(x, np.ones((2, 3), np.float32), None, ops.relu).numpy()).all()


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
def test_dense_of_no_rows(shape):
    assert ops.dense(np.ones(shape), np.ones((4, 3)), np.ones(3)).shape == (*shape[:-1], 3)


def test_dense_remembers_the_logits_of_its_activation():
    y = ops.dense(normal(2, 4), normal(4, 3), None, ops.softmax)
    name, logits = y.logits
    assert name == "softmax"
    np.testing.assert_allclose(ops.softmax(logits).numpy(), y.numpy())


# -------------------- matmul --------------------

MATMUL = [
    *(((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,))),
    *(((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 6)), ((1, 2, 3), (4, 3, 2))),
    *(((7, 2, 3), (1, 3, 2)), ((2, 3), (4, 3, 2))),
]


@pytest.mark.parametrize(("left", "right"), MATMUL)
def test_matmul_equals_numpys(left, right):
    x, y = normal(*left), normal(*right)
    np.testing.assert_allclose(ops.matmul(x, y).numpy(), np.matmul(x, y))
    check_op(ops.matmul, x, y)


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_dense.py has the GPU's")
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batches", [((), ()), ((4,), ()), ((4,), (4,)), ((3, 1), (4,)), ((200,), (200,))])
def test_transposed_products(batches, transpose_a, transpose_b):
    left, right = batches
    x, y = normal(*left, 20, 30), normal(*right, 30, 25)
    a = np.ascontiguousarray(np.swapaxes(x, -1, -2)) if transpose_a else x
    b = np.ascontiguousarray(np.swapaxes(y, -1, -2)) if transpose_b else y
    z, saved = dense.matmul(a, b, transpose_a, transpose_b)
    np.testing.assert_allclose(z, x @ y)
    dz = normal(*z.shape)
    da, db = dense.matmul_vjp(saved, dz, (True, True))
    dx, dy = dz @ np.swapaxes(y, -1, -2), np.swapaxes(x, -1, -2) @ dz
    da, db = (np.swapaxes(da, -1, -2) if transpose_a else da), (np.swapaxes(db, -1, -2) if transpose_b else db)

    def summed(gradient, shape):
        extra = gradient.ndim - len(shape)
        axes = tuple(i for i in range(gradient.ndim) if i < extra or (shape[i - extra] == 1 != gradient.shape[i]))
        return gradient.sum(axes).reshape(shape)

    np.testing.assert_allclose(summed(da, x.shape), summed(dx, x.shape))
    np.testing.assert_allclose(summed(db, y.shape), summed(dy, y.shape))


def test_matmul_of_nothing():
    assert ops.matmul(np.ones((0, 3)), np.ones((3, 2))).shape == (0, 2)
    np.testing.assert_array_equal(ops.matmul(np.ones((2, 0)), np.ones((0, 3))).numpy(), np.zeros((2, 3)))


def test_matmul_of_integers_and_mixed_dtypes():
    a, b = np.array([[2**30, 3], [1, -4]]), np.array([[5, 2**20], [7, 1]])
    for name, received in {
        "matmul": ops.matmul(a, b),
        "dot": ops.dot(a, b),
        "tensordot": ops.tensordot(a, b, axes=np.int64(1)),
        "einsum": ops.einsum("ij,jk->ik", a, b),
    }.items():
        np.testing.assert_array_equal(received, a @ b, err_msg=name)
        assert received.dtype == np.int64
    assert ops.matmul(np.full((1, 2), 100, "int8"), np.full((2, 1), 100, "int8")).numpy().tolist() == [[20000]]
    np.testing.assert_array_equal(ops.matmul(a > 2, b > 2), (a > 2) @ (b > 2))
    single, double = as_tensor(np.ones((2, 2), np.float32)), as_tensor(np.ones((2, 2)))
    assert ops.matmul(single, double).dtype == np.float64
    assert ops.matmul(single, np.ones((2, 2))).dtype == np.float32  # an array is weak


def test_matmul_operator():
    x, y = normal(2, 3), normal(3, 4)
    for result in (Tensor(device.persistent(x)) @ y, x @ Tensor(device.persistent(y))):
        np.testing.assert_allclose(result.numpy(), x @ y)


# -------------------- dot, tensordot, batch_dot, einsum --------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 4, 3), (5, 3, 2)), ((), (2, 3)), ((2, 3), ())],
)
def test_dot_equals_numpys(left, right):
    x, y = normal(*left), normal(*right)
    np.testing.assert_allclose(ops.dot(x, y).numpy(), np.dot(x, y))
    check_op(ops.dot, x, y)


@pytest.mark.parametrize("axes", [0, 1, 2, ([0], [1]), ((1, 0), (0, 1)), (2, 0)])
def test_tensordot_equals_numpys(axes):
    shapes = {"0": ((2, 3), (4, 2)), "1": ((2, 3), (3, 4)), "(2, 0)": ((2, 3, 4), (4, 5))}
    first, second = shapes.get(str(axes), ((2, 3), (2, 3)) if axes == 2 else ((2, 3), (3, 2)))
    x, y = normal(*first), normal(*second)
    np.testing.assert_allclose(ops.tensordot(x, y, axes).numpy(), np.tensordot(x, y, axes))
    check_op(lambda x, y: ops.tensordot(x, y, axes), x, y)


# Shapes as tf_keras 2.21's K.batch_dot gives them; values are checked sample by sample.
BATCH_DOT = [
    *(((4, 3), (4, 3), None, (4, 1)), ((4, 3), (4, 3), 1, (4, 1)), ((4, 3, 2), (4, 2, 5), None, (4, 3, 5))),
    *(((4, 3, 2), (4, 2), None, (4, 3)), ((4, 3), (4, 5, 3), (1, 2), (4, 5)), ((4, 3), (4, 3, 5), None, (4, 5))),
    *(((4, 3, 2), (4, 5, 2), 2, (4, 3, 5)), ((4, 3, 2), (4, 3, 5), 1, (4, 2, 5))),
    *(((4, 3, 2), (4, 5, 3), (1, 2), (4, 2, 5)), ((4, 3, 2), (4, 2, 5), (-1, -2), (4, 3, 5))),
    *(((4, 6, 3, 2), (4, 5, 3), (2, 2), (4, 6, 2, 5)), ((4, 3, 2), (4, 6, 2, 5), (2, 2), (4, 3, 6, 5))),
]


@pytest.mark.parametrize(("left", "right", "axes", "shape"), BATCH_DOT)
def test_batch_dot(left, right, axes, shape):
    x, y = normal(*left), normal(*right)
    got = ops.batch_dot(x, y, axes).numpy()
    assert got.shape == shape
    if axes is None:
        axes = (x.ndim - 1, y.ndim - 1 if y.ndim == 2 else y.ndim - 2)
    a, b = (axes, axes) if isinstance(axes, int) else axes
    for sample in range(4):
        expected = np.tensordot(x[sample], y[sample], (a % x.ndim - 1, b % y.ndim - 1))
        np.testing.assert_allclose(got[sample], expected.reshape(shape[1:]))
    check_op(lambda x, y: ops.batch_dot(x, y, (a, b)), x, y)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        *(("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)])),
        *(("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]), ("bhqk,bkhd->bqhd", [(2, 2, 3, 5), (2, 5, 2, 4)])),
        *(("abc,cd->abd", [(2, 3, 4), (4, 5)]), ("ij,kj->", [(2, 3), (4, 3)]), ("i,j->ij", [(2,), (3,)])),
        *(("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("ij,jk->ki", [(2, 3), (3, 4)])),
        *(("aecd,abcd->acbe", [(2, 5, 3, 4), (2, 6, 3, 4)]), ("bij,bij->b", [(2, 3, 2), (2, 3, 2)])),
        *(("ij,ij->ij", [(2, 3), (2, 3)]), (",ij->ij", [(), (2, 3)]), ("...ij,...jk", [(2, 1, 2, 3), (5, 3, 4)])),
        *(("a...b,b...->...a", [(2, 4, 3), (3, 4)]), ("i...,i...->...", [(3, 2), (3, 1)]), ("ii", [(3, 3)])),
        *(("iij->ji", [(3, 3, 2)]), ("ijij->ij", [(2, 3, 2, 3)]), ("iij,jk->ik", [(3, 3, 2), (2, 4)])),
        *(("ba", [(2, 3)]), ("i,j,k->kji", [(2,), (3,), (4,)])),
        *(("ab,bc,cd,de->ae", [(2, 3), (3, 4), (4, 5), (5, 2)]), ("ijk,ilm,jl->km", [(2, 3, 4), (2, 5, 3), (3, 5)])),
    ],
)
def test_einsum_equals_numpys(subscripts, shapes):
    operands = [normal(*shape) for shape in shapes]
    np.testing.assert_allclose(ops.einsum(subscripts, *operands).numpy(), np.einsum(subscripts, *operands))
    check_op(lambda *operands: ops.einsum(subscripts, *operands), *operands)


def test_a_variable_used_by_two_products_gets_the_sum():
    w = Variable(normal(3, 3))
    x = as_tensor(normal(2, 3))
    with GradientTape() as tape:
        loss = ops.sum(ops.matmul(ops.matmul(x, w), w))
    value, direction = w.numpy(), normal(3, 3)
    step = 1e-6
    up, down = ((x.numpy() @ (value + s * direction) @ (value + s * direction)).sum() for s in (step, -step))
    np.testing.assert_allclose((tape.gradient(loss, w).numpy() * direction).sum(), (up - down) / (2 * step), rtol=1e-6)


def of_ones(op, *shapes, **options):
    return lambda: op(*(np.ones(shape) for shape in shapes), **options)


def einsum(subscripts, *shapes):
    return lambda: ops.einsum(subscripts, *(np.ones(shape) for shape in shapes))


test_mistakes_are_explained = mistakes(
    [
        (of_ones(ops.dense, (2, 4), (5, 3)), ValueError, r"x must have shape.*received \(2, 4\) and \(5, 3\)"),
        (of_ones(ops.dense, (4,), (4, 3)), ValueError, "at least two axes"),
        (of_ones(ops.dense, (2, 4), (4, 3), (4,)), ValueError, r"bias must have shape \(3,\), received \(4,\)"),
        (of_ones(ops.matmul, (2, 3), (2, 3)), ValueError, "second to last of x2 must match"),
        (of_ones(ops.matmul, (2, 3), (2,)), ValueError, "last of x2 must match"),
        (of_ones(ops.matmul, (), (2,)), ValueError, "at least one axis"),
        (of_ones(ops.matmul, (4, 2, 3), (5, 3, 2)), ValueError, "the leading axes of shapes .* do not match"),
        (
            of_ones(ops.batch_dot, (4,), (4, 3)),
            ValueError,
            r"needs a second axis and the same batch size on both sides, received \(4,\)",
        ),
        (of_ones(ops.batch_dot, (4, 3), (5, 3)), ValueError, "the same batch size on both sides"),
        (of_ones(ops.batch_dot, (4, 3), (4, 3), axes=0), ValueError, "over the batch axis"),
        (of_ones(ops.batch_dot, (4, 3), (4, 2)), ValueError, "must have the same size"),
        (of_ones(ops.batch_dot, (4, 3), (4, 2), axes=2), ValueError, "axis 2 is out of range for a tensor of 2 axes"),
        (of_ones(ops.dot, (2, 3), (2, 3)), ValueError, "dot sums over axes"),
        (of_ones(ops.tensordot, (2, 3), (2, 3), axes=3), ValueError, "tensordot: axes 3 does not fit shapes"),
        (
            of_ones(ops.tensordot, (2, 2), (2, 2), axes="a"),
            TypeError,
            "axes must be an integer, or two lists of axes, received 'a'",
        ),
        (einsum("i1->i", (2, 2)), ValueError, "takes letters for axes"),
        (einsum("...i->i", (2, 2)), ValueError, "'...' where they have it"),
        (einsum("ij,jk->ik", (2, 3)), ValueError, "received 'ij,jk->ik' and 1 operands"),
        (einsum("ij,jk->ik", (2, 3), (4, 5)), ValueError, "the sizes of 'j'"),
        (einsum("ijk->i", (2, 3)), ValueError, "does not fit a tensor of shape"),
        (einsum("ij->ik", (2, 3)), ValueError, "letters of the operands"),
        (einsum("ij->ii", (2, 3)), ValueError, "letters of the operands, each once"),
    ]
)
