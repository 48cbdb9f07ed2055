"""vmap against a loop over the members: all ops, gradients for each sample, nesting, axes.

The cases are those of tests/reference/order_cases.py, the calls of keras.ops in tests/parity, the indices and shapes of
tests/ops/test_shape.py, and OWN.
"""

import gc
import runpy
from pathlib import Path

import numpy as np
import pytest
import table
from mistakes import mistakes
from order_cases import CASES as ORDERS

import nbkeras as keras
from nbkeras import autodiff, layers, ops
from nbkeras.autodiff import batching, grad, vmap
from nbkeras.ops import attention

RNG = np.random.default_rng(7)
MEMBERS = 3


def a(*shape):
    return RNG.standard_normal(shape)


ONCE = {  # cases of order_cases.py that vmap refuses, or that are no loop
    *("batch_normalization_training", "batch_normalization_masked"),  # they change a variable
    "dropout",  # each member draws numbers of its own
    "power_slope",  # the op's arrays must have the shape of its result
}
IDS = np.array([[2, 0, 1], [1, -1, 3]])
OWN = {
    **{f"order-{name}": (function, list(arrays)) for name, (function, arrays) in ORDERS.items() if name not in ONCE},
    "matmul_batch": (ops.matmul, [a(2, 2, 3), a(3, 4)]),
    "matmul_batches": (ops.matmul, [a(2, 2, 3), a(2, 3, 4)]),
    "matmul_vectors": (ops.matmul, [a(3), a(3)]),
    "einsum": (lambda x, y: ops.einsum("abc,cd->bda", x, y), [a(2, 3, 4), a(4, 5)]),
    "dense_three_axes": (ops.dense, [a(2, 2, 3), a(3, 4), a(4)]),
    "conv1d": (lambda x, k, b: ops.conv1d(x, k, b, padding="same"), [a(2, 5, 3), a(3, 3, 4), a(4)]),
    "depthwise": (ops.depthwise_conv, [a(2, 5, 5, 3), a(3, 3, 3, 2)]),
    "conv_transpose": (lambda x, k: ops.conv_transpose(x, k, 2), [a(2, 3, 3, 2), a(3, 3, 4, 2)]),
    "conv_transpose_1d": (lambda x, k: ops.conv_transpose(x, k, 1, "same"), [a(2, 4, 2), a(3, 4, 2)]),
    "conv_transpose_dilated": (
        lambda x, k: ops.conv_transpose(x, k, 1, "same", dilation_rate=2), [a(2, 4, 5, 2), a(2, 3, 1, 2)]
    ),
    "conv1d_causal": (lambda x, k: ops.conv1d(x, k, None, 1, "causal", 2), [a(2, 6, 2), a(3, 2, 3)]),
    "conv2d_strides": (lambda x, k: ops.conv2d(x, k, strides=(2, 1), padding="same"), [a(2, 5, 4, 2), a(3, 2, 2, 3)]),
    "max_pool_3d": (lambda x: ops.max_pool(x, 2), [a(2, 4, 4, 2, 3)]),
    "average_pool_3d": (lambda x: ops.average_pool(x, 2), [a(1, 4, 4, 2, 3)]),
    "sparse": (lambda t, x: ops.sparse_categorical_crossentropy(t, x, from_logits=True), [IDS[0] % 3, a(3, 3)]),
    "take_first": (lambda x, i: ops.take(x, i, axis=0), [a(4, 3), IDS]),
    "index": (lambda x, i: x[:, i], [a(2, 4, 3), IDS]),
    "indices": (lambda x, i: x[i, i % 3], [a(4, 3), IDS]),
    "one_hot": (lambda i: ops.one_hot(i, 4), [IDS]),
    "sort": (lambda x: ops.sort(x, axis=0), [a(4, 3)]),
    "where": (lambda c, x, y: ops.where(c > 0, x, y), [a(2, 1), a(3), a(2, 3)]),
    "cast": (lambda x: ops.cast(x, "float32"), [a(2, 3)]),
    "slices": (lambda x: x[::-1, None, 1:] * x[0, 0], [a(2, 3)]),
    "attention_mask": (
        lambda q, k, v, m: ops.dot_product_attention(q, k, v, mask=m > 0, is_causal=True),
        [a(2, 3, 2, 2), a(2, 3, 2, 2), a(2, 3, 2, 3), a(2, 1, 3, 3)],
    ),
    "masked_softmax": (lambda s, m: attention.masked_softmax(s, m > 0), [a(2, 2, 3, 4), a(3, 4)]),
    "lstm_states": (
        lambda x, k, r, h, c, m: ops.lstm(x, k, r, initial_h=h, initial_c=c, mask=m > 0, return_sequences=False),
        [a(2, 3, 2), a(2, 12), a(3, 12), a(2, 3), a(2, 3), a(2, 3)],
    ),
    "threshold": (lambda x: ops.threshold(x, 0.3, 0.1), [a(2, 6)]),
    "glu": (ops.glu, [a(2, 6)]),
    "exponential": (ops.exponential, [a(2, 6)]),
    "dropout_off": (lambda x: keras.random.dropout(x, 0.0, seed=1), [a(2, 3)]),
}  # fmt: skip
OPS_OF_KERAS = [  # not those that return no tensor, or NumPy's complex numbers
    name
    for name in dict.fromkeys(call.name for call in table.calls())
    if name.startswith("keras.ops") and hasattr(table.find("nbkeras", name), "__wrapped__")
]
OF_SHAPES = runpy.run_path(str(Path(__file__).parents[1] / "ops" / "test_shape.py"))
CASES = OWN | {f"shape-{name}": (case[0], [OF_SHAPES["X"]]) for name, case in OF_SHAPES["CASES"].items()}


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


def cosines(function, first):
    """A scalar of the float results of a function; None if it has none."""

    def scalar(*given):
        parts = [y for y in keras.tree.flatten(function(*given)) if y.dtype.kind == "f"]
        return sum((ops.sum(ops.cos(y * 0.7)) for y in parts), ops.sum(given[first]) * 0) if parts else None

    return scalar


def check_values_and_gradients(function, arrays):
    for axes in axes_of(len(arrays)):
        given = [
            ops.convert_to_tensor(x if axis is None else members_of(x)) for x, axis in zip(arrays, axes, strict=True)
        ]
        assert_is_the_loop(function, axes, *given)
        floats = tuple(i for i, x in enumerate(arrays) if x.dtype.kind == "f")
        scalar = cosines(function, floats[0]) if floats else None
        if scalar is not None and scalar(*map(ops.convert_to_tensor, arrays)) is not None:
            assert_is_the_loop(grad(scalar, floats), axes, *given)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_a_loop(name):
    check_values_and_gradients(*CASES[name])


WITHOUT = {  # calls without a gradient, or with a dtype that vmap does not keep
    ("keras.ops.qr", "[x.shape for x in f(tall, mode='complete')]"),
    ("keras.ops.cast", "f(a, 'float16')"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.grid] * (".image." in name)) for name in OPS_OF_KERAS]
)
def test_calls_of_keras_ops_are_those_of_a_loop(name):
    """The calls of tests/parity/calls/ops.txt."""
    for call in table.calls_of(name):
        if call.limit or (name, call.expression) in WITHOUT:
            continue
        for op, args, kwargs in table.given_to(keras, call):
            function, arrays = table.of_arrays(keras, op, args, kwargs, "f")
            if arrays:
                check_values_and_gradients(function, arrays)


SMOOTH = [name for name, (_, arrays) in OWN.items() if arrays[0].dtype.kind == "f"]


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_are_those_of_a_loop(name):
    function, arrays = CASES[name]
    floats = tuple(i for i, x in enumerate(arrays) if x.dtype.kind == "f")
    slopes = grad(cosines(function, 0), floats)

    def second(*given):
        return grad(lambda *given: sum(ops.sum(ops.sin(g)) for g in slopes(*given)), floats)(*given)

    for axes in axes_of(len(arrays))[:2]:
        given = [ops.convert_to_tensor(x if n is None else members_of(x)) for x, n in zip(arrays, axes, strict=True)]
        assert_is_the_loop(second, axes, *given, rtol=1e-9, atol=1e-10)


# -------------------- gradients for each sample, of models with Variables --------------------


def text_model():
    inputs = layers.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4)(inputs)
    x = layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def sequential(*parts):
    return keras.Sequential([*parts, layers.Dense(3)])


def convnet():
    first = layers.Conv2D(4, 3, activation="relu", padding="same"), layers.MaxPooling2D(), layers.SeparableConv2D(3, 2)
    return sequential(
        *first, layers.GroupNormalization(3), layers.AveragePooling2D(2, padding="same"), layers.Flatten()
    )


MODELS = {  # name: (model, shape of one sample, whether it takes integers)
    "mlp": (lambda: sequential(layers.Dense(5, "relu")), (4,), False),
    "convnet": (convnet, (8, 6, 2), False),
    "lstm": (lambda: sequential(layers.LSTM(4, return_sequences=True), layers.GRU(3)), (4, 2), False),
    "bidirectional": (lambda: sequential(layers.Bidirectional(layers.SimpleRNN(3))), (4, 2), False),
    "masked": (lambda: sequential(layers.Embedding(7, 3, mask_zero=True), layers.LSTM(4)), (5,), True),
    "text": (text_model, (5,), True),
    "normalized": (
        lambda: sequential(layers.Dense(4), layers.LayerNormalization(), layers.BatchNormalization()), (4,), False
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_a_model_for_each_sample(name, dtype):
    make, shape, of_integers = MODELS[name]
    keras.config.set_floatx(dtype)
    try:
        model = make()
        x = RNG.integers(0, 7, (MEMBERS, *shape)) if of_integers else a(MEMBERS, *shape).astype(dtype)
        labels = RNG.integers(0, 3, MEMBERS)
        model(x)
    finally:
        keras.config.set_floatx("float32")
    weights = model.trainable_weights

    def gradients(sample, label):
        with keras.GradientTape() as tape:
            logits = model(ops.expand_dims(sample, 0), training=False)
            loss = keras.losses.SparseCategoricalCrossentropy(True)(ops.expand_dims(label, 0), logits)
        return tape.gradient(loss, weights)

    received = vmap(gradients)(x, labels)
    expected = looped(gradients, (0, 0), x, labels)
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-5}
    for weight, got, want in zip(weights, received, expected, strict=True):
        assert got.shape == (MEMBERS, *weight.shape) and got.dtype == dtype
        np.testing.assert_allclose(got, want, **tolerance)


@pytest.mark.parametrize(
    "make, options, shape",
    [(layers.Dense, (5, "relu"), (4,)), (layers.Conv2D, (4, 3), (6, 5, 3)), (layers.Embedding, (7, 4), (3,))],
)
def test_a_quantized_model(make, options, shape):
    model = keras.Sequential([layers.Input(shape), make(*options), layers.Flatten(), layers.Dense(2)])
    model.quantize("int8", beyond_keras=True)
    of_integers = make is layers.Embedding
    x = RNG.integers(0, 7, (MEMBERS, *shape)) if of_integers else a(MEMBERS, *shape).astype("float32")

    def f(x):
        return model(ops.expand_dims(x, 0))

    assert_is_the_loop(f, (0,), ops.convert_to_tensor(x))
    if not of_integers:
        assert_is_the_loop(grad(lambda x: ops.sum(f(x) ** 2)), (0,), ops.convert_to_tensor(x))


def mlp_loss(weights, x):
    (w, b), (v, c) = weights
    return ops.mean(ops.square(ops.matmul(ops.tanh(ops.matmul(x, w) + b), v) + c))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_functional_weights(dtype):
    weights = [(a(*shape).astype(dtype), a(shape[1]).astype(dtype)) for shape in ((3, 4), (4, 2))]
    x = a(MEMBERS, 3).astype(dtype)
    received = vmap(grad(mlp_loss), (None, 0))(weights, x)
    assert isinstance(received, list) and isinstance(received[0], tuple)
    for got, want in zip(keras.tree.flatten(received), looped(grad(mlp_loss), (None, 0), weights, x), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_weights_of_each_member():
    weights = [(a(MEMBERS, 3, 4), a(MEMBERS, 4)), (a(MEMBERS, 4, 2), a(MEMBERS, 2))]
    x = a(5, 3)
    received = vmap(grad(mlp_loss), (0, None))(weights, x)
    for i in range(MEMBERS):
        one = keras.tree.map_structure(lambda w, i=i: w[i], weights)
        for got, want in zip(keras.tree.flatten(received), keras.tree.flatten(grad(mlp_loss)(one, x)), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-12)


# -------------------- composition with other transforms --------------------


def energy(w, x):
    return ops.sum(ops.tanh(ops.matmul(w, x)) ** 2)


W, X = a(4, 3), a(MEMBERS, 3)


ENERGIES = {
    "mapped": lambda w: vmap(lambda x: energy(w, x))(X),
    "looped": lambda w: ops.stack([energy(w, x) for x in X]),
}
SLOPES = {
    "mapped": lambda w: vmap(lambda x: grad(energy, 1)(w, x))(X),
    "looped": lambda w: ops.stack([grad(energy, 1)(w, ops.convert_to_tensor(x)) for x in X]),
}


@pytest.mark.parametrize(
    "derivative, of",
    [
        (lambda f: grad(lambda w: ops.sum(f(w) ** 2))(W), ENERGIES),
        (lambda f: grad(lambda w: ops.sum(ops.cos(f(w))))(W), SLOPES),
        (lambda f: autodiff.jvp(f, (W,), (W,))[1], ENERGIES),
        (lambda f: autodiff.hessian(lambda w: ops.sum(f(w) ** 2))(W), ENERGIES),
    ],
    ids=["gradient", "gradient of gradients", "jvp", "hessian"],
)
def test_derivatives_of_a_vmap(derivative, of):
    np.testing.assert_allclose(derivative(of["mapped"]), derivative(of["looped"]), rtol=1e-12)


TRANSFORMS = {
    "hessian": lambda w, x: autodiff.hessian(energy, 1)(w, x),
    "hessian_of_weights": lambda w, x: autodiff.hessian(energy)(w, x),
    "third": lambda w, x: grad(lambda x: ops.sum(grad(lambda x: ops.sum(grad(energy, 1)(w, x) ** 2))(x)))(x),
    "jvp": lambda w, x: autodiff.jvp(lambda x: energy(w, x), (x,), (x * 2,)),
    "jvp_of_gradient": lambda w, x: autodiff.jvp(lambda x: grad(energy, 1)(w, x), (x,), (x * 2,))[1],
    "jacrev": lambda w, x: autodiff.jacrev(lambda x: ops.matmul(w, ops.sin(x)))(x),
    "jacfwd": lambda w, x: autodiff.jacfwd(lambda x: ops.matmul(w, ops.sin(x)))(x),
    "hvp": lambda w, x: autodiff.hvp(lambda x: energy(w, x), (x,), (x,))[1],
    "vjp": lambda w, x: autodiff.vjp(lambda x: ops.matmul(w, ops.sin(x)), x)[1](ops.ones(4, "float64"))[0],
    "checkpoint": lambda w, x: grad(lambda x: autodiff.checkpoint(energy)(w, x))(x),
    "stop_gradient": lambda w, x: grad(lambda x: ops.sum(ops.stop_gradient(x) * x))(x),
    "custom_gradient": lambda w, x: grad(lambda x: ops.sum(doubled_slope(x) ** 2))(x),
    "has_aux": lambda w, x: autodiff.value_and_grad(lambda x: (energy(w, x), x * 2), has_aux=True)(x),
}


@ops.custom_gradient
def doubled_slope(x):
    return ops.sin(x), lambda dy: dy * 2 * ops.cos(x)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("axes", [(None, 0), (0, 0)])
def test_a_vmap_of_transforms(name, axes):
    w = W if axes[0] is None else members_of(W)
    assert_is_the_loop(TRANSFORMS[name], axes, ops.convert_to_tensor(w), ops.convert_to_tensor(X), rtol=1e-9)


def test_gradients_are_stopped_for_tapes_outside_too():
    def f(w):
        return ops.sum(vmap(lambda x: ops.stop_gradient(w * x) * w)(X[:, 0]))

    np.testing.assert_allclose(grad(f)(np.float64(2.0)), 2 * X[:, 0].sum())
    w = keras.Variable(2.0, dtype="float64")
    with keras.GradientTape() as tape:

        def scaled(x):
            with tape.stop_recording():
                factor = w * x
            return factor * w

        y = ops.sum(vmap(scaled)(X[:, 0]))
    np.testing.assert_allclose(tape.gradient(y, w), 2 * X[:, 0].sum())


def test_a_way_back_for_each_seed():
    y, pull = autodiff.vjp(lambda x: ops.tanh(ops.matmul(W, x)), X[0])
    rows = vmap(pull)(np.eye(4))[0]
    np.testing.assert_allclose(rows, autodiff.jacrev(lambda x: ops.tanh(ops.matmul(W, x)))(X[0]), rtol=1e-12)


@ops.custom_gradient
def of_two(x, w):
    return ops.sin(x) * w, lambda dy: (dy * 2 * ops.cos(x) * w, dy * 3 * ops.sin(x))


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_ones_own_go_through_a_vmap(order):
    x, w = ops.convert_to_tensor(a(4)), ops.convert_to_tensor(np.array(1.5))

    def mapped(x, w):
        return ops.sum(vmap(lambda x: of_two(x, w) ** 2)(x))

    def looped(x, w):
        return ops.sum(ops.stack([of_two(x[i], w) ** 2 for i in range(4)]))

    def derivative(f, argnums):
        slope = grad(f, argnums)
        return (slope if order == 1 else grad(lambda x, w: ops.sum(slope(x, w) ** 2), argnums))(x, w)

    for argnums in (0, 1):
        np.testing.assert_allclose(derivative(mapped, argnums), derivative(looped, argnums), rtol=1e-12)
    both = grad(lambda w: ops.sum(vmap(lambda w: vmap(lambda x: of_two(x, w) ** 2)(x))(w)))(np.arange(3.0))
    np.testing.assert_allclose(both, [6 * np.sum(np.sin(x) ** 2) * v for v in range(3)], rtol=1e-12)


def test_nothing_is_kept_alive():
    model = MODELS["convnet"][0]()
    model(np.ones((1, 8, 6, 2), "float32"))

    def f(x):
        return ops.sum(model(ops.expand_dims(x, 0)) ** 2) + ops.sum(doubled_slope(x))

    def alive():
        return sum(type(each) in (batching.Mapped, keras.engine.tensor.Tensor) for each in gc.get_objects())

    x = ops.convert_to_tensor(RNG.standard_normal((MEMBERS, 8, 6, 2)).astype("float32"))
    runs = (vmap(grad(f)), vmap(f), grad(lambda x: ops.sum(vmap(f)(x))), vmap(autodiff.jacrev(f)))
    for run in runs:
        run(x)  # the compiler keeps the arguments of a first call until the next collection
    gc.collect()
    gc.disable()
    try:
        for run in runs:
            before = alive()
            run(x)
            assert alive() == before
    finally:
        gc.enable()


# -------------------- nesting, axes, structures --------------------


def test_vmaps_in_vmaps():
    x, y, z = a(2, 3), a(4, 3), a(5)
    pairs = vmap(lambda x: vmap(lambda y: ops.sum(x * y))(y))(x)
    np.testing.assert_allclose(pairs, x @ y.T, rtol=1e-12)
    triples = vmap(lambda x: vmap(lambda y: vmap(lambda z: ops.sum(x * y) * z)(z))(y))(x)
    np.testing.assert_allclose(triples, np.einsum("ak,bk,c->abc", x, y, z), rtol=1e-12)
    slopes = vmap(lambda x: vmap(lambda y: grad(lambda x: ops.sum(x * y) ** 2)(x))(y))(x)
    np.testing.assert_allclose(slopes, 2 * np.einsum("ak,bk,bj->abj", x, y, y), rtol=1e-12)
    outer = grad(lambda x: ops.sum(vmap(lambda y: vmap(lambda x: ops.sum(x * y) ** 2)(x))(y)))(x)
    np.testing.assert_allclose(outer, 2 * np.einsum("ak,bk,bj->aj", x, y, y), rtol=1e-12)


CONVOLUTION = ops.convert_to_tensor(a(3, 3, 2, 2))


def test_a_product_and_a_convolution_in_two_vmaps():
    w, x = a(2, 3, 4), a(5, 3)
    np.testing.assert_allclose(vmap(lambda w: vmap(lambda x: ops.matmul(x, w))(x))(w), np.einsum("ij,ajk->aik", x, w))
    images, kernels = a(2, 3, 1, 5, 5, 2), a(3, 3, 3, 2, 2)

    def slopes(kernel, image):
        return grad(lambda k: ops.sum(ops.conv2d(image, k * CONVOLUTION) ** 2))(kernel)

    received = vmap(lambda images: vmap(slopes)(kernels, images))(images)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(received[i, j], slopes(kernels[j], images[i, j]), rtol=1e-11)


@pytest.mark.parametrize("in_axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
def test_axes(in_axis, out_axis):
    x = a(2, 3, 4)
    received = vmap(lambda x: ops.cumsum(x, axis=0), in_axis, out_axis)(x)
    rows = [np.cumsum(each, 0) for each in np.moveaxis(x, in_axis, 0)]
    np.testing.assert_allclose(received, np.stack(rows, out_axis), rtol=1e-12)


def test_structures_of_arguments_axes_and_results():
    x = {"a": a(2, 3), "b": [a(4), a(3, 4)]}

    def f(x, scale, *, shift):
        return {"y": x["a"] * scale + shift, "z": (ops.sum(x["b"][0]) * x["b"][1], scale, None)}

    received = vmap(f, in_axes=({"a": 1, "b": [None, 0]}, None), out_axes={"y": 1, "z": (0, None, None)})(
        x, 2.0, shift=np.arange(3.0)
    )
    np.testing.assert_allclose(received["y"], x["a"] * 2 + np.arange(3.0), rtol=1e-12)
    np.testing.assert_allclose(received["z"][0], x["b"][0].sum() * x["b"][1], rtol=1e-12)
    assert received["z"][1].shape == () and received["z"][2] is None


def test_results_that_do_not_depend_on_the_members():
    assert vmap(lambda x: 3.0)(np.ones(4)).numpy().tolist() == [3.0] * 4
    assert vmap(lambda x: np.ones(2), out_axes=1)(np.ones(4)).shape == (2, 4)


def test_no_members_and_one():
    assert vmap(lambda x: ops.matmul(x, W.T))(np.ones((0, 2, 3))).shape == (0, 2, 4)
    assert vmap(ops.trunc)(np.ones((0, 2))).shape == (0, 2)
    np.testing.assert_allclose(vmap(grad(energy, 1), (None, 0))(W, X[:1])[0], grad(energy, 1)(W, X[0]), rtol=1e-12)


def test_variables_are_mapped_and_shared():
    v, shared = keras.Variable(X), keras.Variable(W)
    with keras.GradientTape() as tape:
        y = ops.sum(vmap(lambda x: energy(shared, x))(v))
    first, second = tape.gradient(y, [v, shared])
    np.testing.assert_allclose(first, np.stack([grad(energy, 1)(W, x) for x in X]), rtol=1e-12)
    np.testing.assert_allclose(second, sum(grad(energy)(W, x).numpy() for x in X), rtol=1e-12)


def test_out_of_range_positions_are_those_of_a_member():
    x, i = a(3, 4), np.array([0, 3, -4])
    np.testing.assert_allclose(vmap(lambda x, i: ops.take(x, i))(x, i), [x[0, 0], x[1, 3], x[2, 0]])
    rows = vmap(lambda t, i: ops.embedding(i, t))(a(2, 3, 2), np.array([[0, -1], [3, 1]])).numpy()
    assert np.isnan(rows).tolist() == [[[False] * 2] * 2, [[True] * 2, [False] * 2]]


@pytest.mark.cpu("an index out of range gives NaN on a GPU")
def test_indices_out_of_range_are_refused():
    with pytest.raises(IndexError, match="indices must lie in"):
        vmap(lambda x, i: ops.take(x, i))(a(3, 4), np.array([0, 4, 0]))


# -------------------- random numbers --------------------


def test_dropout_differs_from_member_to_member_and_other_numbers_do_not():
    keras.utils.set_random_seed(1)
    dropped = vmap(lambda x: keras.random.dropout(x, 0.5))(np.ones((3, 64), "float32")).numpy()
    assert not (dropped[0] == dropped[1]).all() and set(dropped.ravel()) == {0.0, 2.0}
    together = vmap(lambda x: keras.random.dropout(x, 0.5, noise_shape=(1, 8)))(np.ones((3, 4, 8), "float32")).numpy()
    assert (together == together[:, :1]).all() and not (together[0] == together[1]).all()
    noise = vmap(lambda x: x + keras.random.normal((4,)))(np.zeros((3, 4), "float32")).numpy()
    assert (noise == noise[0]).all()
    seed = keras.random.SeedGenerator(3)
    slopes = vmap(grad(lambda x: ops.sum(keras.random.dropout(x, 0.5, seed=seed))))(np.ones((3, 64), "float32")).numpy()
    assert set(slopes.ravel()) == {0.0, 2.0} and not (slopes[0] == slopes[1]).all()


# -------------------- own ops --------------------


def test_an_op_of_ones_own_runs_for_each_member():
    from nbkeras.kernels.runtime import device
    from nbkeras.tensor import apply

    def cube_op(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(np.power, x, 3, y)
        return y, x

    def cube_vjp(x, dy, needs):
        dx = device.output(needs[0], x.shape, x.dtype)
        device.launch(np.square, x, dx)
        device.launch(np.multiply, dx, dy, dx)
        device.launch(np.multiply, dx, 3, dx)
        return (dx,)

    def cubed(x):
        return ops.sum(apply(cube_op, cube_vjp, [x]))

    np.testing.assert_allclose(vmap(cubed)(X), (X**3).sum(1), rtol=1e-12)
    np.testing.assert_allclose(vmap(grad(cubed))(X), 3 * X**2, rtol=1e-12)
    with pytest.raises(NotImplementedError, match="cube_op.* has only a first derivative"):
        vmap(grad(lambda x: ops.sum(grad(cubed)(x))))(X)
    autodiff.define(cube_op, autodiff.Elementwise(lambda x, y: 3 * x * x))
    np.testing.assert_allclose(vmap(grad(lambda x: ops.sum(grad(cubed)(x))))(X), 6 * X, rtol=1e-12)


# -------------------- messages --------------------


def batch_normalized(x):
    return layers.BatchNormalization()(x, training=True)


def kept_metric(x):
    metric = keras.metrics.Mean()
    metric.update_state(x)
    return metric.result()


VALUES = {
    "float": lambda x: float(x[0]),
    "branch": lambda x: x if ops.sum(x) > 0 else -x,
    "asarray": lambda x: np.asarray(x),
    "numpy": lambda x: x.numpy(),
    "slice": lambda x: ops.ones(3)[: int(x[0])],
    "assign": lambda x: keras.Variable(np.ones(2)).assign(x),
    "assign_add": lambda x: keras.Variable(np.ones(2)).assign_add(x),
    "mask": lambda x: x[x > 0],
    "metric": kept_metric,
}


@pytest.mark.parametrize("name", VALUES)
def test_values_of_members_are_refused(name):
    with pytest.raises(keras.engine.tensor.ValueReadError, match="it has a different value for each of 3 members"):
        vmap(VALUES[name])(np.ones((3, 2)))


def pull_back(*dys):
    return autodiff.vjp(lambda x: 2 * x, np.ones(2))[1](dys if len(dys) > 1 else dys[0])


def two_vmaps():
    kept = []
    vmap(lambda x: kept.append(x) or x)(np.ones(2))
    return vmap(lambda x: x + kept[0])(np.ones(2))


MISTAKES = [
    (lambda: vmap(lambda x, y: x)(np.ones(2), np.ones(3)), ValueError, r"must have the same size, received sizes \[2, 3\]"),
    (lambda: vmap(lambda x: x, None)(np.ones(2)), ValueError, "no argument is mapped"),
    (lambda: vmap(lambda: 1.0)(), ValueError, "no argument is mapped"),
    (lambda: vmap(lambda x: x, 1)(np.ones(2)), ValueError, r"axis 1 is out of range for an argument of shape \(2,\)"),
    (lambda: vmap(lambda x: x)(2.0), ValueError, r"axis 0 is out of range for an argument of shape \(\)"),
    (lambda: vmap(lambda x, y: x, (0,))(np.ones(2), 1.0), ValueError, "received 1 entries for 2 arguments"),
    (lambda: vmap(lambda x: x, ({"a": 0},))({"b": np.ones(2)}), ValueError, "in_axes must have the structure"),
    (lambda: vmap(lambda x: x, ([0, 0],))(np.ones(2)), ValueError, "in_axes must have the structure"),
    (lambda: vmap(lambda x: x, ("a",))(np.ones(2)), TypeError, "in_axes holds ints and None, received 'a'"),
    (lambda: vmap(lambda x: x, True)(np.ones(2)), TypeError, "in_axes holds ints and None"),
    (lambda: vmap(lambda x: x, 0, 2)(np.ones(2)), ValueError, "out_axes has axis 2 for a result with 1 axes"),
    (lambda: vmap(lambda x: x, 0, None)(np.ones(2)), ValueError, "out_axes is None for a result that is not the same"),
    (lambda: vmap(lambda x: x, 0, (0, 0))(np.ones(2)), ValueError, "out_axes must have the structure"),
    (lambda: vmap(batch_normalized)(np.ones((3, 2, 4))), ValueError, "batch_normalization_training.*changes a variable"),
    (lambda: grad(lambda x: x)(np.array(1)), TypeError, "must be floats, received dtype int64.*argnums"),
    (lambda: grad(lambda x: x, 3)(1.0), ValueError, "argnums 3 is out of range for the 1 positional arguments"),
    (lambda: grad(lambda x: x, has_aux=True)(1.0), TypeError, r"returns \(output, auxiliary\), received Tensor"),
    (lambda: grad(lambda x: x)(np.ones(2)), TypeError, "float tensor with one element, received .*Use vjp or jacrev"),
    (lambda: pull_back(np.ones(2), np.ones(2)), ValueError, "vjp: expected 1 arrays, .*, received 2"),
    (lambda: pull_back(np.ones(3)), ValueError, r"vjp: expected an array of the shape \(2,\), received \(3,\)"),
    (lambda: autodiff.jvp(ops.sin, 1.0, 1.0), TypeError, "jvp: primals must be a tuple .* received 1.0"),
    (lambda: autodiff.hvp(ops.sum, X, X), TypeError, "hvp: primals must be a tuple .* received ndarray"),
    (lambda: two_vmaps(), ValueError, "tensors of two vmaps: one of them was kept after its vmap had ended"),
]  # fmt: skip


test_mistakes_are_explained = mistakes(MISTAKES)


def test_a_tensor_that_was_kept_cannot_be_used_later():
    kept = []
    vmap(lambda x: kept.append(x) or x)(np.ones((3, 2)))
    with pytest.raises(keras.engine.tensor.ValueReadError, match="autodiff.vmap maps it"):
        kept[0].numpy()
    with pytest.raises(keras.engine.tensor.ValueReadError, match="autodiff.vmap maps it"):
        ops.exp(kept[0]).numpy()


def test_a_gradient_of_a_tensor_that_was_kept():
    w, kept = keras.Variable(np.array(2.0)), []

    def scaled(x):
        with keras.GradientTape():
            kept.append(w * x)
        return kept[-1]

    with keras.GradientTape() as tape:
        vmap(scaled)(np.ones(3))
    message = "for a tensor that was kept. Compute the gradient inside the function"
    with pytest.raises(NotImplementedError, match=message):
        tape.gradient(kept[0], w)


def test_the_inputs_and_the_bias_of_a_dense_op_are_mapped():
    x, w, b = a(2, 5, 3), a(3, 4), a(2, 4)
    y = vmap(lambda x, b: ops.dense(x, w, b, activation=ops.relu))(x, b)
    np.testing.assert_allclose(y, np.maximum(x @ w + b[:, None], 0))


def test_seeds_of_a_vmap_are_mapped_too():
    y, pull = autodiff.vjp(lambda x: vmap(lambda row: ops.tanh(ops.sum(row * x)))(W), X[0])
    np.testing.assert_allclose(vmap(pull)(np.eye(len(W)))[0], W / np.cosh(W @ X[0])[:, None] ** 2)


# -------------------- recorded --------------------


class Private(keras.Model):
    """Clips the gradient of each sample before they are averaged."""

    def __init__(self, inner, mapped=True):
        super().__init__()
        self.inner, self.mapped, self.steps = inner, mapped, 0

    def call(self, x, training=False):
        return self.inner(x, training=training)

    def train_step(self, data):
        x, y = data
        self.steps += 1

        def gradients(x, y):
            with keras.GradientTape() as tape:
                loss = self.compute_loss(y=ops.expand_dims(y, 0), y_pred=self(ops.expand_dims(x, 0), training=True))
            found = tape.gradient(loss, self.trainable_weights)
            norm = ops.sqrt(sum(ops.sum(g * g) for g in found))
            return [g / ops.maximum(1.0, norm) for g in found], loss

        if self.mapped:
            found, losses = vmap(gradients)(x, y)
        else:
            rows = [gradients(x[i], y[i]) for i in range(x.shape[0])]
            found = [ops.stack(parts) for parts in zip(*(row[0] for row in rows), strict=True)]
            losses = ops.stack([row[1] for row in rows])
        self.optimizer.apply([ops.mean(g, axis=0) for g in found], self.trainable_weights)
        return {"loss": ops.mean(losses)}


def test_a_recorded_step_with_gradients_for_each_sample():
    x, y = RNG.standard_normal((12, 4)).astype("float32"), RNG.integers(0, 3, 12)
    histories, weights = [], []
    for mapped in (True, False):
        keras.utils.set_random_seed(3)
        model = Private(keras.Sequential([layers.Dense(6, "relu"), layers.Dense(3)]), mapped)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
        histories.append(model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0).history["loss"])
        weights.append([w.numpy() for w in model.trainable_weights])
        assert model.steps == 1  # the one that was recorded
    np.testing.assert_allclose(*histories, rtol=1e-5)
    for got, want in zip(*weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


# -------------------- Jacobians, which go by vmap --------------------


def test_jacobians_in_parts(monkeypatch):
    from nbkeras.autodiff import transforms

    def f(x):
        h = ops.tanh(ops.matmul(W, x["a"]))
        return h * x["b"], ops.sum(h), ops.reshape(h, (2, 2))[:0]

    x = {"a": a(3), "b": a(4)}
    whole = [autodiff.jacrev(f)(x), autodiff.jacfwd(f)(x)]
    h = np.tanh(W @ x["a"])
    slope = (1 - h**2)[:, None] * W
    for first, second, third in whole:
        np.testing.assert_allclose(first["a"], slope * x["b"][:, None], rtol=1e-12)
        np.testing.assert_allclose(first["b"], np.diag(h), rtol=1e-12)
        np.testing.assert_allclose(second["a"], slope.sum(0), rtol=1e-12)
        assert second["b"].numpy().tolist() == [0] * 4
        assert third["a"].shape == (0, 2, 3) and third["b"].shape == (0, 2, 4)
    monkeypatch.setattr(transforms, "_MEMORY", 400)
    for transform, expected in zip((autodiff.jacrev, autodiff.jacfwd), whole, strict=True):
        parts = keras.tree.flatten(transform(f)(x))
        for got, want in zip(parts, keras.tree.flatten(expected), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("transform", [autodiff.jacrev, autodiff.jacfwd])
def test_rows_of_a_jacobian_share_random_numbers(transform):
    def f(x):
        return keras.random.dropout(keras.random.shuffle(x, seed=2), 0.5, seed=1)

    x = np.ones(8)
    rows = transform(f)(x).numpy()
    np.testing.assert_array_equal(rows.sum(1), f(ops.convert_to_tensor(x)))


@pytest.mark.parametrize("name", ["convnet", "lstm", "masked", "text"])
def test_a_jacobian_of_a_model(name):
    make, shape, of_integers = MODELS[name]
    model = make()
    x = RNG.integers(0, 7, (2, *shape)) if of_integers else RNG.standard_normal((2, *shape)).astype("float32")
    model(x)
    weights = model.trainable_weights

    def of_weights(seed):
        with keras.GradientTape() as tape:
            y = ops.sum(model(x) * seed)
        return tape.gradient(y, weights)

    with keras.GradientTape(persistent=True) as tape:
        y = model(x)
    expected = [of_weights(seed.reshape(y.shape)) for seed in np.eye(6, dtype="float32")]
    received = vmap(lambda seed: tape.gradient(y, weights, seed))(np.eye(6, dtype="float32").reshape(6, *y.shape))
    for i, got in enumerate(received):
        np.testing.assert_allclose(got, np.stack([row[i] for row in expected]), rtol=1e-3, atol=1e-5)
    if not of_integers:
        rows = autodiff.jacrev(model)(x)
        seeds = np.eye(6, dtype="float32").reshape(6, *y.shape)
        looped = [autodiff.grad(lambda x, seed=seed: ops.sum(model(x) * seed))(x) for seed in seeds]
        np.testing.assert_allclose(rows, np.stack(looped).reshape(rows.shape), rtol=1e-3, atol=1e-5)
