"""All ops with derivatives, on tiny inputs: for tests/autodiff/test_orders.py and scripts/make_orders.py."""

import functools

import numpy as np

from nbkeras import Variable, losses, ops, random
from nbkeras.engine.tensor import apply
from nbkeras.kernels import elementwise
from nbkeras.ops import attention, image
from nbkeras.ops.quantized import QuantizedVariable
from nbkeras.quantizers.packing import Layout, PackedVariable

RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.standard_normal(shape)


A = np.array([0.73, -1.31, 2.42])
B = np.array([[1.27], [-0.68]])
INSIDE = np.array([0.31, -0.72, 0.55])
POSITIVE = np.array([0.6, 1.4, 2.3])
M = normal(2, 3)
SQUARE = normal(3, 3) + 2 * np.eye(3)
IMAGE = normal(1, 4, 5, 2)
TABLE = normal(3, 2)
MASK = np.array([[True, False, True], [True, True, True]])

CASES: dict = {}  # name: (the function, its inputs)
THIRD = set(  # cases that are checked to the third derivative
    (
        "multiply power tanh gelu prod softmax matmul conv2d rms_normalization inv i0 segment_sum logsumexp "
        "masked_softmax_causal max_pool"
    ).split()
)


def case(name, function, *arrays):
    if name in CASES:
        raise ValueError(f"two cases named {name}")
    CASES[name] = function, arrays


# -------------------- elementwise --------------------

for name in (
    "negative absolute square exp expm1 sin cos tan arctan erf sinh cosh arcsinh exp2 cbrt deg2rad rad2deg fabs "
    "sinc erfc i0 real nan_to_num conj relu relu6 leaky_relu elu selu celu sigmoid tanh silu gelu mish softplus "
    "hard_sigmoid legacy_hard_sigmoid hard_silu hard_tanh log_sigmoid softsign tanh_shrink hard_shrink soft_shrink "
    "squareplus sparse_plus sparse_sigmoid"
).split():
    case(name, getattr(ops, name), A)
for name in ("arcsin", "arccos", "arctanh", "erfinv"):
    case(name, getattr(ops, name), INSIDE)
for name in ("sqrt", "reciprocal", "rsqrt", "log", "log1p", "log2", "log10"):
    case(name, getattr(ops, name), POSITIVE)
case("arccosh", ops.arccosh, POSITIVE + 1)
case("gelu_exact", lambda x: ops.gelu(x, approximate=False), A)
case("relu_all", lambda x: ops.relu(x, negative_slope=0.1, max_value=2.0, threshold=0.3), A)
case("clip", lambda x: ops.clip(x, -1.0, 1.5), A)
case("cast", lambda x: ops.cast(ops.cast(x, "float64"), x.dtype), A)
case("print_tensor", ops.print_tensor, A)
for name in (
    "add subtract multiply divide maximum minimum hypot arctan2 logaddexp logaddexp2 fmax fmin divide_no_nan mod fmod"
).split():
    case(name, getattr(ops, name), A, B)
case("power", ops.power, POSITIVE, B)
case("power_slope", lambda *x: apply(elementwise.scaled_power, elementwise.scaled_power_vjp, list(x)), POSITIVE, B, A)
case("power_number", lambda x: x**3 + x**2.0 + x**0, A)
case("where", lambda x, y: ops.where(A > 0, x, y), A, B)

# -------------------- reductions --------------------

for name in "sum mean var std max min prod logsumexp median norm".split():
    case(name, functools.partial(getattr(ops, name), axis=1), M)
case("reductions_of_all", lambda x: [ops.var(x), ops.max(x, keepdims=True), ops.prod(x), ops.logsumexp(x)], M)
case("cumsum", lambda x: ops.cumsum(x, axis=1), M)
case("cumprod", lambda x: ops.cumprod(x, axis=1), M)
case("products_with_zeros", lambda x: [ops.prod(x, axis=1), ops.cumprod(x, axis=0)], M * (np.arange(3) != 1))
case("quantile", lambda x: ops.quantile(x, 0.3, axis=1), M)
case("corrcoef", ops.corrcoef, normal(2, 4))
case("sort", lambda x: [ops.sort(x), ops.top_k(x, 2)[0]], M)
case("softmax", ops.softmax, M)
case("softmax_axes", lambda x: ops.softmax(x, axis=(0, 1)), M)
case("log_softmax", lambda x: ops.log_softmax(x, axis=0), M)
case("sparsemax", ops.sparsemax, M)

# -------------------- moving elements --------------------

case("reshape", lambda x: ops.reshape(x, (3, 2)), M)
case("transpose", lambda x: ops.transpose(x, (2, 0, 1)), normal(2, 3, 1))
case("concatenate", lambda x, y: ops.concatenate([x, y], axis=1), M, normal(2, 1))
case("stack", lambda x, y: ops.stack([x, y], axis=1), M, normal(2, 3))
case("unstack", lambda x: ops.unstack(x, axis=1)[::2], M)
case("split", lambda x: ops.split(x, [1], axis=1)[1], M)
case("repeat_tile", lambda x: [ops.repeat(x, 2, axis=1), ops.tile(x, (2, 1)), ops.broadcast_to(x, (2, 2, 3))], M)
case("pad", lambda x: ops.pad(x, ((1, 0), (0, 2)), constant_values=3.0), M)
case("pad_reflect", lambda x: ops.pad(x, ((0, 0), (1, 2)), "reflect"), M)
case("flip_roll", lambda x: [ops.flip(x, 1), ops.roll(x, 1, 1), ops.rot90(x)], M)
case("getitem", lambda x: [x[:, ::-2], x[1], x[:, None, 1:]], M)
case("getitem_array", lambda x: x[:, np.array([2, 0, 2])], M)
case("slice_update", lambda x, u: ops.slice_update(x, (0, 1), u), M, normal(2, 2))
case("take", lambda x, i: ops.take(x, i, axis=1), M, np.array([2, 0, 2]))
case("take_along_axis", lambda x, i: ops.take_along_axis(x, i, axis=1), M, np.array([[0, 0], [2, 1]]))
case("embedding", lambda table, i: ops.embedding(i, table), TABLE, np.array([[0, 2], [2, 2]]))
case("scatter", lambda v: ops.scatter(np.array([[1], [0], [1]]), v, (2,)), A)
for how in (None, "add", "max", "min", "mul"):
    case(
        f"scatter_update_{how}",
        lambda x, u, how=how: ops.scatter_update(x, [[0], [2], [0]], u, how),
        *(TABLE, normal(3, 2)),
    )
for name in ("sum", "prod", "max", "min"):
    op = getattr(ops, f"segment_{name}")
    case(f"segment_{name}", functools.partial(op, segment_ids=[0, 1, 0, 5, 0], num_segments=2), normal(5, 2))
case("segment_prod_with_zeros", lambda x: ops.segment_prod(x, [0, 1, 0, 0], 2), normal(4, 2) * [[0], [1], [0], [1]])
case("triangles", lambda x: [ops.tril(x), ops.diagonal(x), ops.trace(x)], SQUARE)
case("dropout", lambda x: random.dropout(x, 0.4, seed=7), M)
case("shuffle", lambda x: random.shuffle(x, axis=1, seed=1), M)

# -------------------- products and windows --------------------

case("dense", lambda x, w, b: ops.dense(x, w, b, ops.relu), M, normal(3, 2), normal(2))
case("dense_plain", lambda x, w: ops.dense(x, w), normal(2, 2, 3), normal(3, 2))
case("matmul", ops.matmul, M, normal(3, 2))
case("matmul_of_many", ops.matmul, normal(2, 1, 2, 3), normal(2, 3, 2))
case("matmul_transposed", lambda x, y: ops.matmul(ops.transpose(x), ops.transpose(y)), M, normal(2, 2))
case("einsum", lambda x, y: ops.einsum("ij,kj->ik", x, y), M, normal(2, 3))
case("tensordot", lambda x, y: ops.tensordot(x, y, 1), M, normal(3, 2))
case("batch_dot", lambda x, y: ops.batch_dot(x, y, (1, 1)), M, normal(2, 3))
case("cdist", ops.cdist, M, normal(2, 3))
case("conv1d", lambda x, k, b: ops.conv1d(x, k, b, 2), normal(1, 5, 2), normal(2, 2, 3), normal(3))
case("conv2d", lambda x, k: ops.conv2d(x, k, padding="same"), normal(1, 3, 4, 1), normal(2, 2, 1, 2))
case(
    "conv2d_relu",
    lambda x, k, b: ops.conv2d(x, k, b, 2, "same", activation=ops.relu),
    *(IMAGE, normal(3, 2, 2, 2), normal(2)),
)
case("conv2d_dilated", lambda x, k: ops.conv(x, k, dilation_rate=2), IMAGE, normal(2, 2, 2, 1))
case("conv2d_groups", lambda x, k: ops.conv(x, k, strides=(1, 2)), IMAGE, normal(2, 2, 1, 4))
case("depthwise_conv", lambda x, k: ops.depthwise_conv(x, k, padding="same"), IMAGE, normal(2, 2, 2, 1))
case("separable_conv", lambda x, d, p: ops.separable_conv(x, d, p), *(IMAGE, normal(2, 2, 2, 1), normal(1, 1, 2, 2)))
case(
    "conv3d",
    lambda x, k, b: ops.conv3d(x, k, b, padding="same", activation=ops.relu),
    *(normal(1, 2, 2, 3, 1), normal(2, 1, 2, 1, 2), normal(2)),
)
case("conv_transpose", lambda x, k: ops.conv_transpose(x, k, 2, "same"), normal(1, 2, 3, 2), normal(3, 2, 1, 2))
case("conv_transpose_1d", lambda x, k: ops.conv_transpose(x, k, 2), normal(1, 3, 2), normal(3, 1, 2))
case("conv_transpose_3d", lambda x, k: ops.conv_transpose(x, k, 2), normal(1, 1, 2, 2, 1), normal(2, 1, 2, 1, 1))
case("local_conv", lambda x, k: ops.local_conv(x, k, 2), normal(1, 4, 2), normal(3, 4, 2))
for padding in ("valid", "same"):
    case(f"max_pool_{padding}", lambda x, p=padding: ops.max_pool(x, (2, 3), 2, p), IMAGE)
    case(f"average_pool_{padding}", lambda x, p=padding: ops.average_pool(x, (2, 3), 2, p), IMAGE)
case("max_pool", lambda x: ops.max_pool(x, 2, 1), normal(1, 4, 1))
case("max_pool_3d", lambda x: ops.max_pool(x, 2, 1, "same"), normal(1, 2, 2, 3, 1))
case("average_pool_3d", lambda x: ops.average_pool(x, 2, 1, "same"), normal(1, 2, 2, 3, 1))
case("adaptive_pools", lambda x: [ops.adaptive_average_pool(x, 3), ops.adaptive_max_pool(x, (3, 2))], IMAGE)
case("enlarge", lambda x: [ops.enlarge(x, 2), ops.enlarge(x, (1, 2), "bilinear")], IMAGE)
case("unfold_fold", lambda x: ops.fold(ops.unfold(x, 2, stride=1), (3, 3), 2), normal(1, 1, 3, 3))
case("extract_sequences", lambda x: ops.extract_sequences(x, 3, 2), normal(1, 6))

INTEGERS, SCALE = np.array([[100, -50], [3, 127], [-90, 20]], np.int8), np.array([64.0, 32.0])


def product_with_integers(x, b):
    kernel = QuantizedVariable(INTEGERS, Variable(SCALE.astype(x.dtype)), (1,), None)
    return kernel.dense(x, b, True)


case("dense_of_integers", product_with_integers, M, normal(2))


def product_with_packed_integers(x, b):
    kernel = PackedVariable(
        np.array([[0x17], [-0x5E], [0x63]], "int8"), Layout((3, 2), 3, 2), Variable(SCALE.astype(x.dtype))
    )
    return kernel.dense(x, b, True)


case("dense_of_packed_integers", product_with_packed_integers, M, normal(2))
# Ops that round their inputs, and those with floats whose derivatives they have.
KERNEL, LIMITS = RNG.integers(-127, 128, (2, 2, 2, 3)).astype("int8"), (-127, 127, 1e-7)
FACTORS = np.array([0.01, 0.02, 0.005])


def rounding(op, values, factors):
    """The op with a kernel of integers that rounds its inputs too, and with the same kernel as floats."""

    def rounded(x):
        kernel = QuantizedVariable(values, Variable((1 / factors).astype(x.dtype)), (values.ndim - 1,), LIMITS)
        return op(x, kernel)

    return rounded, lambda x: op(x, ops.cast(values * factors, x.dtype))


ROUNDED = {  # name: (the function, that with floats, its input)
    "dense": (*rounding(ops.dense, INTEGERS, FACTORS[:2]), M),
    "conv2d": (*rounding(functools.partial(ops.conv2d, padding="same", strides=2), KERNEL, FACTORS), IMAGE),
    "conv1d": (*rounding(functools.partial(ops.conv1d, activation=ops.relu), KERNEL[0], FACTORS), IMAGE[0]),
}

# -------------------- attention, normalization, recurrent layers --------------------

QUERY, KEY, VALUE = normal(1, 2, 2, 3), normal(1, 3, 1, 3), normal(1, 3, 1, 2)
KEEP = np.array([[[[True, False, True], [False, False, False]]]])
case("attention", lambda *a: ops.dot_product_attention(*a), QUERY, KEY, VALUE)
case(
    "attention_bias",
    lambda *a: ops.dot_product_attention(*a[:3], bias=a[3], is_causal=True),
    *(QUERY, KEY, VALUE, normal(2, 3)),
)
for spread in (True, False):
    case(
        f"masked_softmax_{spread}", lambda x, s=spread: attention.masked_softmax(x, KEEP, spread=s), normal(1, 2, 2, 3)
    )
case(
    "masked_softmax_causal", lambda x: attention.masked_softmax(x, None, is_causal=True, scale=0.7), normal(1, 1, 3, 3)
)


def batch_normalization_training(x, gamma, beta, mask=None):
    moving = [Variable(np.zeros(2), dtype=x.dtype, trainable=False) for _ in range(2)]
    return ops.batch_normalization_training(x, *moving, -1, beta, gamma, mask=mask)


CHANNELS = normal(3, 2, 2) * 2 + 1
case("batch_normalization_training", batch_normalization_training, CHANNELS, normal(2), normal(2))
case(
    "batch_normalization_masked",
    functools.partial(batch_normalization_training, mask=MASK.T),
    *(CHANNELS, normal(2), normal(2)),
)
case(
    "batch_normalization",
    lambda x, m, v, b, g: ops.batch_normalization(x, m, v, -1, b, g),
    *(M, normal(3), POSITIVE, normal(3), normal(3)),
)
case("layer_normalization", lambda x, g, b: ops.layer_normalization(x, g, b), M, normal(3), normal(3))
case("rms_normalization", lambda x, g: ops.rms_normalization(x, g), M, normal(3))
case(
    "group_normalization", lambda x, g, b: ops.group_normalization(x, 2, g, b), *(normal(2, 2, 4), normal(4), normal(4))
)
case("l2_normalize", lambda x: ops.l2_normalize(x, axis=1), M)
case("moments", lambda x: ops.moments(x, 1), M)


def recurrent(name, op, gates, states, bias, **options):
    """A case of a recurrent op with weights of 2 features and 2 units."""

    def function(x, kernel, own, bias, *states):
        return op(x, kernel, own, bias, *states, **options)

    sequences = normal(2, 3, 2) if "mask" in options else normal(2, 2, 2)
    weights = normal(2, gates * 2), normal(2, gates * 2), normal(*bias, gates * 2)
    case(name, function, sequences, *weights, *[normal(2, 2) for _ in range(states)])


DROP = np.array([[2.0, 0.0], [2.0, 2.0]])
for name, op, *form in (
    ("lstm", ops.lstm, 4, 2, ()),
    ("gru", ops.gru, 3, 1, (2,)),
    ("simple_rnn", ops.simple_rnn, 1, 1, ()),
):
    inner = {} if name == "simple_rnn" else {"recurrent_activation": "hard_sigmoid"}
    recurrent(name, op, *form, return_sequences=False)
    recurrent(f"{name}_masked", op, *form, mask=MASK, zero_output_for_mask=True)
    recurrent(f"{name}_backwards", op, *form, mask=MASK, go_backwards=True, activation="relu", **inner)
recurrent("gru_reset_before", ops.gru, 3, 1, (), reset_after=False)
case(
    "lstm_dropout",
    lambda x, k, r: ops.lstm(x, k, r, recurrent_dropout_mask=ops.cast(DROP, x.dtype))[0],
    *(normal(2, 2, 2), normal(2, 8), normal(2, 8)),
)

# -------------------- matrices, signals, images --------------------

for name in ("inv", "det", "pinv"):
    case(name, getattr(ops, name), SQUARE[:2, :2])
case("slogdet", lambda x: ops.slogdet(x)[1], SQUARE)
case("solve", ops.solve, SQUARE, normal(3, 2))
case("solve_of_halves", lambda x: ops.solve(x[0], x[1]), np.stack([SQUARE, normal(3, 3)]))
case("solve_triangular", lambda a, b: ops.solve_triangular(a, b, lower=True), SQUARE, normal(3))
case("cholesky", lambda x: ops.cholesky(x @ ops.transpose(x) + np.eye(2)), SQUARE[:2, :2])
case("eigh", lambda x: [ops.eigh(x)[0], abs(ops.eigh(x)[1])], SQUARE)
case("qr", lambda x: ops.qr(x), normal(3, 2))
case("qr_wide", lambda x: ops.qr(x), normal(2, 3))
case("svd", lambda x: [abs(y) for y in ops.svd(x, full_matrices=False)], normal(3, 2))
case("svd_values", lambda x: ops.svd(x, compute_uv=False), normal(2, 3))
case("pinv_tall", ops.pinv, normal(3, 2))
case("fft", lambda x, y: ops.fft((x, y)), M, normal(2, 3))
case("ifft2", lambda x, y: ops.ifft2((x, y)), M, normal(2, 3))
case("rfft", lambda x: ops.rfft(x, 4), M)
case("irfft", lambda x, y: ops.irfft((x, y), 5), M, normal(2, 3))
case("stft", lambda x: ops.istft(ops.stft(x, 4, 2, 4), 4, 2, 4), normal(1, 8))
COLOURS = RNG.uniform(0.1, 0.9, (1, 1, 2, 3))
case("resize", lambda x: [image.resize(x, (3, 2)), image.resize(x, (3, 2), "nearest")], IMAGE)
case("hsv", lambda x: image.hsv_to_rgb(image.rgb_to_hsv(x) * 0.9), COLOURS)
case("ssim", lambda x, y: image.ssim(x, y, filter_size=2), normal(1, 3, 3, 1), normal(1, 3, 3, 1))
case("map_coordinates", lambda x, at: image.map_coordinates(x, at, 1, "mirror"), M, RNG.uniform(-1, 3, (2, 3)))
NUMBERS = np.array([0.9, 0.2, 0.51, -0.13, 1.1, -0.3, 0, 0])
case("affine_transform", image.affine_transform, normal(2, 3, 1), NUMBERS)

# -------------------- losses --------------------

ONE_HOT, LABELS = np.eye(3)[[2, 0]], np.array([2, 0])
SHARES = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
for logits in (True, False):
    y = M if logits else SHARES
    for name, true in (
        ("categorical_crossentropy", ONE_HOT),
        ("binary_crossentropy", ONE_HOT),
        ("sparse_categorical_crossentropy", LABELS),
    ):
        case(f"{name}_{logits}", functools.partial(getattr(ops, name), true, from_logits=logits), y)
case("crossentropy_of_targets", lambda t, y: ops.categorical_crossentropy(t, y, from_logits=True), SHARES, M)
case("binary_crossentropy_of_targets", lambda t, y: ops.binary_crossentropy(t, y, from_logits=True), SHARES, M)
case("ctc_loss", lambda x: ops.ctc_loss([[1, 1], [2, 0]], x, [2, 1], [3, 2]), normal(2, 3, 3))
for name in (
    "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error "
    "cosine_similarity huber log_cosh hinge squared_hinge categorical_hinge kl_divergence poisson "
    "binary_focal_crossentropy categorical_focal_crossentropy dice tversky"
).split():
    case(f"losses.{name}", functools.partial(getattr(losses, name), ONE_HOT), SHARES)
case("losses.generalized", lambda y: losses.categorical_generalized_cross_entropy(LABELS, y, 0.5), SHARES)
case("losses.circle", lambda y: losses.circle(LABELS, y), SHARES)

# -------------------- control --------------------


def square_until_large(x):
    return ops.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y * y), (0, x))[1]


case("while_loop", square_until_large, A)
case("fori_loop", lambda x: ops.fori_loop(1, 3, lambda i, y: y * x + i, x), A)
case("scan", lambda x: ops.scan(lambda carry, row: (carry * row, carry + row), x[0], x, reverse=True), M)
case("map", lambda x: ops.map(lambda row: ops.sum(row * row), x), M)
case("associative_scan", lambda x: ops.associative_scan(ops.multiply, x, axis=1), M)
case("cond", lambda x: ops.cond(True, lambda: x * x, lambda: x), A)
case("switch", lambda x: ops.switch(1, [lambda y: y, lambda y: y**3], x), A)
case("vectorized_map", lambda x: ops.vectorized_map(lambda row: row * ops.sum(row), x), M)
