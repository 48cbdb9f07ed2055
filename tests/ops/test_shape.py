"""Ops that move or choose elements beside test_calls.py: values against NumPy, gradients, replay, messages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from mistakes import mistakes
from op_cases import both

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building.inputs import Input
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.testing import check_op

RNG = np.random.default_rng(9)
X = RNG.standard_normal((2, 3, 4))
Y = RNG.standard_normal((2, 1, 4))
V = RNG.standard_normal(5)
PICK = np.array([[2, 0], [-1, 2]])
PICK3 = PICK[:, :, None]
AROUND = ((1, 1), (2, 1), (3, 0))

CASES = {
    "concatenate_self": both(lambda m, x: m.concatenate([x, x * 2, x[:, :1]], 1)),
    "split_all": (lambda x: ops.concatenate(ops.split(x, [1, 3], 2)[::-1], 2), lambda x: x[:, :, [3, 1, 2, 0]]),
    "split_negative": (lambda x: ops.split(x, [-1], axis=1)[0], lambda x: np.split(x, [-1], 1)[0]),
    "list_of_tensors": (lambda x: ops.sum([x, [x[0], x[1] * 2]], axis=0), lambda x: x + np.stack([x[0], x[1] * 2])),
    "list_and_tensor": (lambda x: ops.add(x[0, 0, :2], [x[0, 0, 0], 1.0]), lambda x: x[0, 0, :2] + [x[0, 0, 0], 1]),
    "full": (lambda x: ops.full((5, 2, 3, 4), x, x.dtype), lambda x: np.broadcast_to(x, (5, 2, 3, 4))),
    "full_like": (lambda x: ops.full_like(x, x[0]), lambda x: np.broadcast_to(x[0], x.shape)),
    "split_numpy": (lambda x: ops.split(x, np.int64(2), axis=-1)[1], lambda x: np.split(x, 2, axis=-1)[1]),
    "split_one": (lambda x: ops.split(x, 1)[0], lambda x: x),
    "unstack_all": (lambda x: ops.unstack(x, 3, axis=1)[2] * ops.unstack(x, axis=1)[0], lambda x: x[:, 2] * x[:, 0]),
    "unstack_vector": (lambda x: ops.unstack(ops.reshape(x, -1))[5], lambda x: x.reshape(-1)[5]),
    "broadcast_to": both(lambda m, x: m.broadcast_to(x[:, :1], (5, 2, 3, 4))),
    "repeat_each": both(lambda m, x: m.repeat(x, [2, 0, 3], axis=1)),
    "pad_reflect": both(lambda m, x: m.pad(x, AROUND, "reflect")),
    "take": both(lambda m, x: m.take(x, PICK, axis=1)),
    "take_first": both(lambda m, x: m.take(x, 1, axis=0)),
    "take_along_axis": both(lambda m, x: m.take_along_axis(x, PICK3, 1)),
    "take_along_flat": (lambda x: ops.take_along_axis(x, PICK), lambda x: np.take_along_axis(x.reshape(-1), PICK.reshape(-1), 0)),
    "getitem_int": both(lambda m, x: x[1]),
    "getitem_all_ints": both(lambda m, x: x[1, 2, -1]),
    "getitem_slices": both(lambda m, x: x[:, ::-2, 1:3]),
    "getitem_ellipsis": both(lambda m, x: x[..., -1]),
    "getitem_none": both(lambda m, x: x[:, None, 0]),
    "getitem_array": both(lambda m, x: x[:, PICK]),
    "getitem_list": both(lambda m, x: x[1:, ..., [0, -1]]),
    "getitem_ellipsis_array": both(lambda m, x: x[..., PICK, 1:2]),
    "getitem_arrays": both(lambda m, x: x[[[0], [-1]], [0, 2, -1]]),
    "getitem_last_arrays": both(lambda m, x: x[..., PICK, [0, 3]]),
    "getitem_all_arrays": both(lambda m, x: x[[0, 1], PICK, 2:]),
    "getitem_apart": both(lambda m, x: x[[0, 1, 0], :, [1, -1, 3]]),
    "getitem_int_apart": both(lambda m, x: x[1, :, PICK]),
    "getitem_int_beside": both(lambda m, x: x[:, 1, PICK, None]),
    "getitem_three": both(lambda m, x: x[[0, 1], [2, 0], [3, 1]]),
    "getitem_none_array": (lambda x: x[None, :, np.array(2)], lambda x: x[None, :, 2]),
}  # fmt: skip


def test_shapes_and_positions_may_be_tensors():
    sizes = ops.convert_to_tensor([-1, 2])
    np.testing.assert_array_equal(ops.reshape(X, sizes), X.reshape(-1, 2))
    np.testing.assert_array_equal(ops.split(X, ops.convert_to_tensor([1, 3]), 2)[1], X[:, :, 1:3])
    assert ops.zeros(sizes[1:]).shape == ops.zeros(sizes[1]).shape == (2,)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    function, reference = CASES[name]
    result = function(ops.convert_to_tensor(X))
    np.testing.assert_array_equal(result, reference(X))
    assert result.data.flags.c_contiguous
    check_op(function, X)


def check_index(key):
    """The elements are NumPy's, and the gradient goes to their places."""
    x = Variable(X)
    with GradientTape() as tape:
        y = x[key]
    np.testing.assert_array_equal(y, X[key])
    expected = np.zeros_like(X)
    expected[key] = 1
    np.testing.assert_array_equal(tape.gradient(y, x), expected)


@settings(max_examples=60)
@given(key=basic_indices((2, 3, 4), allow_newaxis=True))
def test_getitem_like_numpy(key):
    check_index(key)


@pytest.mark.parametrize(
    "key",
    [
        *(np.array([True, False]), X > 0, X[:, :, 0] > 0, (slice(None), X[1] > 0), (..., [True, False, True, True])),
        *((None, X[:, :, 0] > 0), (0, ..., X[0, 0] > 0), ([True, True], slice(None), np.array([3, 0]))),
    ],
)
def test_masks_as_indices(key):
    check_index(key)


@settings(max_examples=30)
@given(data=st.data())
def test_reshape_transpose_round_trip(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(sizes))))
    x = RNG.standard_normal(sizes)
    y = ops.transpose(x, order)
    np.testing.assert_array_equal(y, x.transpose(order))
    np.testing.assert_array_equal(ops.transpose(y, np.argsort(order)), x)
    np.testing.assert_array_equal(
        ops.reshape(y, (-1, sizes[order[-1]])), x.transpose(order).reshape(-1, sizes[order[-1]])
    )


def test_several_inputs():
    check_op(lambda x, y: ops.concatenate([x, y], axis=1), X, Y)
    check_op(lambda x, y: ops.stack([x[:, :1], y], axis=1), X, Y)
    check_op(lambda x: ops.split(x, [1, 2], axis=1), X)
    check_op(lambda x: ops.unstack(x, axis=2)[1:3], X)


def test_indices_as_inputs_replay():
    check_op(lambda x, i: ops.take(x, i, axis=1), X, PICK)
    check_op(lambda x, i: ops.take(x, i, axis=0), V, np.array([0, 4, 4, 2], np.int32))
    check_op(lambda x, i: ops.take_along_axis(x, i, axis=-1), X, RNG.integers(0, 4, (2, 3, 2)))
    check_op(lambda x, i: ops.take_along_axis(x, i, axis=1), X, RNG.integers(0, 3, (1, 2, 4)))
    check_op(lambda x, i: x[:, i], X, np.array([1, 1]))
    check_op(lambda i: ops.one_hot(i, 4), PICK, wrt=[])
    check_op(lambda x: [ops.argsort(x), *ops.top_k(x, 2)], X)
    check_op(lambda x, t: ops.in_top_k(t, x, 2), X[0], np.array([1, 0, 3]), wrt=[])


def test_tensor_as_index():
    x, i = ops.convert_to_tensor(V), ops.convert_to_tensor(np.array(3))
    assert x[i].item() == V[3]


def test_one_hot():
    i = np.array([[0, 2], [-1, 5]])
    expected = (i[..., None] == np.arange(3)).astype(np.float32)
    np.testing.assert_array_equal(ops.one_hot(i, 3), expected)
    np.testing.assert_array_equal(ops.one_hot(i, 3, axis=0), np.moveaxis(expected, -1, 0))
    np.testing.assert_array_equal(ops.one_hot(i.astype("float32"), 3), expected)  # for example labels of float losses
    assert ops.one_hot(i, 3).dtype == np.float32 and ops.one_hot(i, 3, dtype="bool").dtype == np.bool_


def test_sorting_and_the_largest_equal_numpys():
    x = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 5.0, 0.0]])
    np.testing.assert_array_equal(ops.argsort(x), np.argsort(x, kind="stable"))
    values, positions = ops.top_k(x, 3)
    np.testing.assert_array_equal(values, [[3, 3, 2], [5, 0, 0]])
    np.testing.assert_array_equal(positions, [[1, 2, 3], [2, 0, 1]])
    assert positions.dtype == np.int32


def test_in_top_k_counts_ties_and_rejects_nan():
    x = np.array([[0.1, 0.5, 0.5], [0.3, 0.2, 0.1], [np.nan, 0.2, 0.1]])
    np.testing.assert_array_equal(ops.in_top_k([2, 1, 0], x, 1), [True, False, False])
    np.testing.assert_array_equal(ops.in_top_k([0, 1, 1], x, 2), [False, True, True])
    np.testing.assert_array_equal(ops.in_top_k([-1, 3, 2**40], x, 3), [False] * 3)  # classes that do not exist


def test_integers_and_booleans_move_too():
    x = np.arange(6).reshape(2, 3)
    for each in (x, x > 2):
        np.testing.assert_array_equal(ops.take_along_axis(each, np.array([[0], [2]]), 1), [[each[0, 0]], [each[1, 2]]])
        assert ops.pad(each, 1).dtype == ops.tile(each, 2).dtype == ops.concatenate([each, each], 1).dtype == each.dtype


def test_arrays_are_made_as_by_numpy():
    for tensor, expected in (
        (ops.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (ops.ones(2, dtype="int32"), np.ones(2, np.int32)),
        (ops.full((1, 2), 7), np.full((1, 2), 7, np.float32)),
        (ops.zeros_like(X), np.zeros_like(X)),
        (ops.ones_like([1, 2]), np.ones(2, np.int32)),
        (ops.full_like(X, 2, "int32"), np.full(X.shape, 2, np.int32)),
        (ops.arange(4), np.arange(4, dtype=np.int32)),
        (ops.arange(1, 2, 0.25), np.arange(1, 2, 0.25, dtype=np.float32)),
        (ops.eye(2, 3, 1), np.eye(2, 3, 1, dtype=np.float32)),
    ):
        assert isinstance(tensor, Tensor) and tensor.dtype == expected.dtype
        np.testing.assert_array_equal(tensor, expected)


def test_empty_tensors():
    x = np.zeros((0, 3))
    assert ops.concatenate([x, np.ones((2, 3))], 0).shape == (2, 3)
    assert ops.take(np.ones((2, 3)), np.zeros(0, int), axis=0).shape == (0, 3)
    assert ops.reshape(x, (3, 0)).shape == (3, 0)
    assert ops.transpose(x).shape == (3, 0)
    assert [each.shape for each in ops.top_k(np.ones((2, 3)), 0)] == [(2, 0)] * 2


def test_a_number_has_no_axis_to_pad():
    assert ops.pad(2.0, 3).numpy() == 2


def test_the_position_of_a_slice_may_be_one_number():
    np.testing.assert_array_equal(ops.slice(V, np.array(1), 2), V[1:3])


MISTAKES = [
    (lambda: ops.reshape(X, (5, -1)), ValueError, r"reshape: cannot put 24 elements of shape \(2, 3, 4\) into"),
    (lambda: ops.reshape(X, (2, 2.5)), TypeError, "a shape must be made of integers"),
    (lambda: ops.reshape(X, (-1, -1)), ValueError, r"cannot put 24 elements of shape \(2, 3, 4\) into shape \(-1, -1\)"),
    (lambda: ops.squeeze(X, 1), ValueError, "squeeze: axis 1 .* is not of size 1"),
    (lambda: ops.transpose(X, (0, 1)), ValueError, "transpose: axes must name each of the 3 axes once"),
    (lambda: ops.concatenate([X, X[:, :, :2]], 1), ValueError, "concatenate: shapes must agree except along axis 1"),
    (lambda: ops.concatenate(X, 1), ValueError, "concatenate: expected a list"),
    (lambda: ops.stack([]), ValueError, "stack: expected a list of at least one tensor"),
    (lambda: ops.stack([X, Y]), ValueError, "stack: all shapes must be the same"),
    (lambda: ops.split(X, 2, axis=1), ValueError, "split: axis 1 of size 3 cannot be cut into 2 equal parts"),
    (lambda: ops.unstack(X, 4), ValueError, "unstack: axis 0 has size 2, not num=4"),
    (lambda: ops.broadcast_to(X, (2, 3)), ValueError, r"broadcast_to: a tensor of shape .* does not fit into shape \(2, 3\)"),
    (lambda: ops.repeat(X, [1, 2], axis=1), ValueError, "or one for each of 3 elements"),
    (lambda: ops.pad(X, ((1, 1), (2, 2))), ValueError, r"pad: pad_width must hold \(before, after\) for each of the 3 axes"),
    (lambda: ops.pad(X, -1), ValueError, "pad_width must not be negative"),
    (lambda: ops.pad(X, 1, mode="edge", constant_values=0), ValueError, "pad: constant_values are for mode 'constant'"),
    (lambda: ops.pad(X, 1, mode="mean"), ValueError, "pad: mode must be"),
    (lambda: ops.pad(X, 1.5), ValueError, r"pad: pad_width must hold \(before, after\)"),
    (lambda: ops.pad(X, 1, constant_values="valid"), ValueError, "expected a number"),
    (lambda: ops.pad(X, 2**63), ValueError, "pad of shape .* any memory has"),
    (lambda: ops.zeros(2**63), ValueError, "zeros of shape .* any memory has: pass smaller sizes"),
    (lambda: ops.tile(X, 2**62), ValueError, "tile of shape .* any memory has"),
    (lambda: ops.repeat(X, 2**63), ValueError, "repeat of shape .* any memory has"),
    (lambda: ops.one_hot([1], 2**63), ValueError, "one_hot with num_classes=9223372036854775808 .* any memory has"),
    (lambda: ops.one_hot([1], -1), ValueError, "one_hot: num_classes must be an integer of at least 0, received -1"),
    (lambda: ops.arange(1e38), ValueError, "arange of 0, 1e.38, 1 .* any memory has"),
    (lambda: ops.arange(np.nan), ValueError, "arange: start, stop and step must be finite, received 0, nan, 1"),
    (lambda: ops.broadcast_to(V, (-1, 5)), ValueError, "broadcast_to: sizes must not be negative"),
    (lambda: ops.segment_sum(V, [0] * 5, -1), ValueError, "segment_sum: num_segments must be an integer of at least 0"),
    (lambda: ops.all(X, axis=False), TypeError, "all: axis must be an integer, received False"),
    (lambda: ops.zeros((2, True)), TypeError, "zeros: a shape must be made of integers"),
    (lambda: ops.view(X, "same"), ValueError, "dtype must be a dtype of numbers"),
    (lambda: ops.slice(X, np.array(0), (1, 1, 1)), ValueError, "slice: a slice of shape .* does not fit"),
    (lambda: ops.slice(X, (0,), -1), ValueError, "slice: a slice of shape .* does not fit"),
    (lambda: ops.take(X, [0.5], axis=1), TypeError, "take: indices must be integers, received dtype float32"),
    (lambda: ops.take_along_axis(X, [9], 1), ValueError, "take_along_axis: indices must have x's number of axes"),
    (lambda: ops.convert_to_tensor(X)[[True] * 3], IndexError, r"a mask of shape \(3,\) does not fit axis 0"),
    (lambda: ops.take(X, X > 0), TypeError, "indices must be integers, received booleans"),
    (lambda: Input((3,))[Input((3,)) > 0], RuntimeError, "value was read"),
    (lambda: ops.convert_to_tensor(X)[PICK, PICK], IndexError, "must lie within axes of sizes"),
    (lambda: ops.convert_to_tensor(X)[[0, 1], [0, 1, 2]], ValueError, "shapes .*do not broadcast"),
    (lambda: ops.convert_to_tensor(X)["a"], TypeError, "indexed by integers"),
    (lambda: ops.convert_to_tensor(X)[5], IndexError, "index 5 is out of bounds for axis 0 with size 2"),
    (lambda: ops.top_k(X, 5), ValueError, "top_k: k must be"),
    (lambda: ops.in_top_k([1], X[0], 2), ValueError, "in_top_k: expected targets"),
    (lambda: ops.tril(V), ValueError, "tril: expected at least two axes"),
    (lambda: ops.roll(X, (1, 2, 3), axis=(0, 1)), ValueError, "roll: needs one shift, or one for each axis"),
    (lambda: ops.pad(X, 1, constant_values=[1, 2]), ValueError, r"constant_values must be one number, received \[1, 2\]"),
    (lambda: ops.pad(X[:0], 1, mode="reflect"), ValueError, "axis 0 .* has no element for mode 'reflect'"),
    (lambda: ops.arange(X), TypeError, "arange: start, stop and step are numbers, received 0, ndarray of shape"),
    (lambda: ops.arange(0, 3, 0), ZeroDivisionError, "arange: step must not be 0"),
    (lambda: ops.vander(X), ValueError, r"vander: expected a vector, received shape \(2, 3, 4\)"),
    (lambda: ops.transpose(X, 1), TypeError, "axes must name each of the 3 axes once, received 1"),
    (lambda: ops.moveaxis(X, (0, 0), (0, 1)), ValueError, "must name the same number of axes, each once"),
    (lambda: ops.split(V, [3, 1]), ValueError, r"positions must be in ascending order, received \[3, 1\]"),
    (lambda: ops.tile(V, -1), ValueError, "tile: repeats must not be negative, received -1"),
    (lambda: ops.convert_to_tensor(X)[True], TypeError, r"x\[True\] is not supported: use ops.where"),
]  # fmt: skip


@pytest.mark.cpu("a GPU reads NaN there: what computes on it cannot raise")
def test_indices_out_of_range():
    for call in (lambda: ops.take(X, [5], axis=1), lambda: ops.take_along_axis(X, [[[9]]], 1)):
        with pytest.raises(IndexError, match=r"indices must lie in \[-3, 3\)"):
            call()


test_mistakes_are_explained = mistakes(MISTAKES)


@pytest.mark.parametrize("function", [ops.shape, ops.ndim])
def test_the_shape_of_a_class_is_refused(function):
    """NumPy's types have an attribute `shape` too."""
    with pytest.raises(TypeError, match="expected numbers or booleans, received type"):
        function(np.float32)
