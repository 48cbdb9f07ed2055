"""vmap against a loop over the members: all ops for which other tests have cases, gradients for each sample, nesting, axes."""

import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest
from op_cases import CASES as KERAS_CASES

import nbkeras as keras
from nbkeras import autodiff, layers, ops
from nbkeras.autodiff import grad, vmap
from nbkeras.ops import attention, normalization

RNG = np.random.default_rng(7)
MEMBERS = 3
OPS = Path(__file__).parents[1] / "ops"


def cases_of(module):
    """(name, function, arrays) of a test module of ops."""
    found = runpy.run_path(str(OPS / f"test_{module}.py"))
    for name, (function, *rest) in found["CASES"].items():
        arrays = [each for each in rest if isinstance(each, np.ndarray)]  # the other one is NumPy's function
        yield f"{module}-{name}", function, arrays or [found["X"]]


def elementwise_cases():
    for module in ("elementwise", "functions"):
        found = runpy.run_path(str(OPS / f"test_{module}.py"))
        for name, _, x in found["UNARY"]:
            yield name, getattr(ops, name), [x]
        for name, *_ in found["BINARY"] + found["PAIRS"]:
            yield name, getattr(ops, name), [found["POSITIVE"], found["OTHER"]]
        for name, *_ in found["STEPS"]:
            yield f"step_{name}", getattr(ops, name), [found["ANY"]]


def reduction_cases():
    x = RNG.standard_normal((2, 3, 4))
    for name in "sum mean max min prod var std logsumexp any all argmax argmin".split():
        for axis in (None, 1, -1) if "arg" in name else (None, 1, (0, 2)):
            for keepdims in (False, True):
                yield (
                    f"{name}_{axis}_{keepdims}",
                    lambda x, name=name, axis=axis, keepdims=keepdims: getattr(ops, name)(
                        x > 0 if name in ("any", "all") else x, axis=axis, keepdims=keepdims
                    ),
                    [x],
                )
    for name in ("cumsum", "cumprod"):
        for axis in (0, -1):
            yield f"{name}_{axis}", lambda x, name=name, axis=axis: getattr(ops, name)(x, axis=axis), [x]


def keras_cases():
    """Calls of op_cases.py, which make their arrays themselves: as functions of the arrays."""
    for name, call in KERAS_CASES.items():
        rng, made = np.random.default_rng(zlib.crc32(name.encode())), []

        def keep(shape, rng=rng, made=made):
            made.append(rng.standard_normal(shape).astype("float32"))
            return made[-1]

        call(ops, keep)
        if made and "astype" not in name and name != "resize_bytes":
            yield f"keras-{name}", lambda *arrays, call=call: call(ops, lambda shape, it=iter(arrays): next(it)), made


def a(*shape):
    return RNG.standard_normal(shape)


IDS = np.array([[2, 0, 1], [1, -1, 3]])
KEYS = np.array([5, 9], np.uint32)
OWN = [
    ("matmul", ops.matmul, [a(2, 3), a(3, 4)]),
    ("matmul_batch", ops.matmul, [a(2, 2, 3), a(3, 4)]),
    ("matmul_batches", ops.matmul, [a(2, 2, 3), a(2, 3, 4)]),
    ("matmul_vectors", ops.matmul, [a(3), a(3)]),
    ("einsum", lambda x, y: ops.einsum("abc,cd->bda", x, y), [a(2, 3, 4), a(4, 5)]),
    ("tensordot", lambda x, y: ops.tensordot(x, y, 1), [a(2, 3, 4), a(4, 5)]),
    ("dense", lambda x, w, b: ops.dense(x, w, b, activation=ops.relu), [a(2, 3), a(3, 4), a(4)]),
    ("dense_three_axes", lambda x, w, b: ops.dense(x, w, b), [a(2, 2, 3), a(3, 4), a(4)]),
    ("conv1d", lambda x, k, b: ops.conv1d(x, k, b, padding="same"), [a(2, 5, 3), a(3, 3, 4), a(4)]),
    ("conv2d", lambda x, k, b: ops.conv2d(x, k, b, activation=ops.relu), [a(2, 5, 6, 3), a(3, 2, 3, 4), a(4)]),
    ("conv2d_groups", lambda x, k: ops.conv2d(x, k, strides=2, padding="same"), [a(2, 5, 6, 4), a(3, 2, 2, 6)]),
    ("conv3d", lambda x, k: ops.conv3d(x, k, padding="same"), [a(1, 4, 4, 3, 2), a(2, 2, 2, 2, 3)]),
    ("depthwise", lambda x, k: ops.depthwise_conv(x, k), [a(2, 5, 5, 3), a(3, 3, 3, 2)]),
    ("conv_transpose", lambda x, k: ops.conv_transpose(x, k, 2), [a(2, 3, 3, 2), a(3, 3, 4, 2)]),
    ("max_pool", lambda x: ops.max_pool(x, 2), [a(2, 4, 6, 3)]),
    ("max_pool_3", lambda x: ops.max_pool(x, 3, 2, padding="same"), [a(2, 5, 6, 3)]),
    ("max_pool_3d", lambda x: ops.max_pool(x, 2), [a(2, 4, 4, 2, 3)]),
    ("average_pool", lambda x: ops.average_pool(x, 3, 2, padding="same"), [a(2, 5, 6, 3)]),
    ("average_pool_3d", lambda x: ops.average_pool(x, 2), [a(1, 4, 4, 2, 3)]),
    ("softmax", lambda x: ops.softmax(x, axis=1), [a(2, 3, 4)]),
    ("log_softmax", ops.log_softmax, [a(2, 3)]),
    ("categorical", lambda t, x: ops.categorical_crossentropy(t, x, from_logits=True), [abs(a(2, 3)), a(2, 3)]),
    ("sparse", lambda t, x: ops.sparse_categorical_crossentropy(t, x, from_logits=True), [IDS[0] % 3, a(3, 3)]),
    ("binary", lambda t, x: ops.binary_crossentropy(t, x, from_logits=True), [abs(np.sin(a(2, 3))), a(2, 3)]),
    ("batch_norm", lambda x, m, v, b, g: ops.batch_normalization(x, m, abs(v) + 1, -1, b, g), [a(4, 3), *a(4, 3)]),
    ("layer_norm", lambda x, g, b: ops.layer_normalization(x, g, b), [a(2, 4, 3), *a(2, 3)]),
    ("rms_norm", lambda x, g: ops.rms_normalization(x, g), [a(2, 4, 3), a(3)]),
    ("group_norm", lambda x, g, b: normalization.group_normalization(x, 2, g, b), [a(2, 3, 4), *a(2, 4)]),
    ("embedding", lambda t, i: ops.embedding(i, t), [a(5, 3), IDS]),
    ("take", lambda x, i: ops.take(x, i, axis=1), [a(2, 4, 3), IDS]),
    ("take_first", lambda x, i: ops.take(x, i, axis=0), [a(4, 3), IDS]),
    ("take_along_axis", lambda x, i: ops.take_along_axis(x, i, axis=1), [a(2, 4), IDS]),
    ("index", lambda x, i: x[:, i], [a(2, 4, 3), IDS]),
    ("indices", lambda x, i: x[i, i % 3], [a(4, 3), IDS]),
    ("one_hot", lambda i: ops.one_hot(i, 4), [IDS]),
    ("sort", lambda x: ops.sort(x, axis=0), [a(4, 3)]),
    ("top_k", lambda x: ops.top_k(x, 2)[0], [a(4, 3)]),
    ("where", lambda c, x, y: ops.where(c > 0, x, y), [a(2, 1), a(3), a(2, 3)]),
    ("cast", lambda x: ops.cast(x, "float32"), [a(2, 3)]),
    ("slices", lambda x: x[::-1, None, 1:] * x[0, 0], [a(2, 3)]),
    ("set_slice", lambda x, u: ops.slice_update(x, (1, 0), u), [a(3, 3), a(2, 2)]),
    ("scatter", lambda x, u: ops.scatter_update(x, [[0], [2]], u), [a(3, 3), a(2, 3)]),
    ("attention", ops.dot_product_attention, [a(2, 3, 4, 2), a(2, 5, 2, 2), a(2, 5, 2, 3)]),
    (
        "attention_mask",
        lambda q, k, v, m: ops.dot_product_attention(q, k, v, mask=m > 0, is_causal=True),
        [a(2, 3, 2, 2), a(2, 3, 2, 2), a(2, 3, 2, 3), a(2, 1, 3, 3)],
    ),
    ("masked_softmax", lambda s, m: attention.masked_softmax(s, m > 0), [a(2, 2, 3, 4), a(3, 4)]),
    ("lstm", lambda *w: ops.lstm(*w)[0], [a(2, 3, 2), a(2, 12), a(3, 12), a(12)]),
    (
        "lstm_states",
        lambda x, k, r, h, c, m: ops.lstm(x, k, r, initial_h=h, initial_c=c, mask=m > 0, return_sequences=False),
        [a(2, 3, 2), a(2, 12), a(3, 12), a(2, 3), a(2, 3), a(2, 3)],
    ),
    ("gru", lambda *w: ops.gru(*w)[0], [a(2, 3, 2), a(2, 9), a(3, 9), a(2, 9)]),
    ("simple_rnn", lambda *w: ops.simple_rnn(*w)[0], [a(2, 3, 2), a(2, 3), a(3, 3), a(3)]),
    ("ctc", lambda x: ops.ctc_loss(np.array([[1, 2], [2, 0]]), x, [2, 1], [4, 3]), [a(2, 4, 3)]),
    ("relu_6", lambda x: ops.relu6(x * 9), [a(2, 3)]),
    ("gelu", ops.gelu, [a(2, 3)]),
    ("dropout_off", lambda x: keras.random.dropout(x, 0.0, seed=1), [a(2, 3)]),
]
CASES = {
    name: (function, arrays)
    for name, function, arrays in [
        *elementwise_cases(),
        *reduction_cases(),
        *(case for m in ("arrangement", "statistics", "shape", "linalg", "signal", "image") for case in cases_of(m)),
        *keras_cases(),
        *OWN,
    ]
}


def members_of(array):
    """An argument for each member: near the first one, so that functions stay in their domains."""
    if array.dtype.kind == "f":
        return np.stack([array * factor for factor in (1.0, 0.97, 0.9)]).astype(array.dtype)
    return np.stack([np.roll(array, i) for i in range(MEMBERS)])


def looped(function, axes, *arrays):
    rows = [
        function(*(x if axis is None else ops.convert_to_tensor(x)[i] for x, axis in zip(arrays, axes, strict=True)))
        for i in range(MEMBERS)
    ]
    flat = [keras.tree.flatten(row) for row in rows]
    return [np.stack(each) for each in zip(*flat, strict=True)]


def assert_is_the_loop(function, axes, *arrays, rtol=1e-11, atol=1e-12):
    expected = looped(function, axes, *arrays)
    received = keras.tree.flatten(vmap(function, tuple(axes))(*arrays))
    for got, want in zip(received, expected, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        if want.dtype == np.float32:
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
        else:
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def axes_of(count):
    """Which arguments are mapped: all, or one of them."""
    alone = [[0 if i == j else None for i in range(count)] for j in range(count)] if count > 1 else []
    return [[0] * count, *alone]


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_a_loop(name):
    function, arrays = CASES[name]
    for axes in axes_of(len(arrays)):
        given = [ops.convert_to_tensor(x if axis is None else members_of(x)) for x, axis in zip(arrays, axes, strict=True)]
        assert_is_the_loop(function, axes, *given)
        floats = tuple(i for i, x in enumerate(arrays) if x.dtype.kind == "f")

        def scalar(*given):
            parts = [y for y in keras.tree.flatten(function(*given)) if y.dtype.kind == "f"]
            return sum((ops.sum(ops.cos(y * 0.7)) for y in parts), ops.sum(given[floats[0]]) * 0) if parts else None

        if floats and scalar(*map(ops.convert_to_tensor, arrays)) is not None:
            assert_is_the_loop(grad(scalar, floats), axes, *given)
