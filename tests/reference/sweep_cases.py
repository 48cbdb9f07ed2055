"""Arrays for the sweep (autodiff/test_sweep.py): where ops on whole arrays have ties, kinks, zeros, infinities and NaN.

A row has a function, its arrays, and the gradients that are chosen, for weights 1, 2, 3, ... of the outputs' elements. Without
a choice the function has derivatives there, and they equal differences.
"""

import functools

import numpy as np

from nbkeras import losses, ops
from nbkeras.ops import attention, image

inf, nan = np.inf, np.nan
ROWS: dict = {}  # name: (the function, its arrays, the chosen gradients of its float arrays or None)


def by_row(op):
    return functools.partial(op, axis=1)


def row(name, function, *arrays, chosen=None):
    if name in ROWS:
        raise ValueError(f"two rows named {name}")
    arrays = [np.asarray(x) if np.asarray(x).dtype.kind in "ib" else np.asarray(x, float) for x in arrays]
    chosen = None if chosen is None else [np.asarray(x, float) for x in chosen]
    ROWS[name] = function, arrays, chosen


NAN_ROW = [[1.0, nan, 2.0], [5.0, 3.0, 5.0]]  # a row with NaN above one without: the second must not notice

# -------------------- reductions --------------------

for name in ("max", "amax"):
    op = by_row(getattr(ops, name))
    row(f"{name} ties", op, [[3, 1, 3], [2, 2, 2], [1, 2, 3.0]], chosen=[[[0.5, 0, 0.5], [2 / 3] * 3, [0, 0, 3]]])
    row(
        f"{name} not finite",
        op,
        [*NAN_ROW, [1, inf, inf], [-inf] * 3],
        chosen=[[[nan] * 3, [1, 0, 1], [0, 1.5, 1.5], [4 / 3] * 3]],
    )
row("min ties", by_row(ops.min), [[3, 1, 1], [2, 2, 2], [1, 2, 3.0]], chosen=[[[0, 0.5, 0.5], [2 / 3] * 3, [3, 0, 0]]])
row("max of -0.0 and 0.0", ops.max, [-0.0, 0.0], chosen=[[0.5, 0.5]])
row("ptp ties", ops.ptp, [2.0, 2.0], chosen=[[0, 0]])
for name in ("sum", "mean"):
    row(
        f"{name} not finite",
        by_row(getattr(ops, name)),
        [*NAN_ROW, [inf, -inf, 0]],
        chosen=[np.repeat([[1], [2], [3]], 3, 1) / (3 if name == "mean" else 1)],
    )
    row(f"{name} single", functools.partial(getattr(ops, name), axis=0), [[1e200, -0.0]], chosen=[[[1, 2]]])
row("var constant", by_row(ops.var), [[2.0] * 3, [1, 2, 3]])
row("var single", by_row(ops.var), [[2.0], [3.0]], chosen=[[[0], [0]]])
row("var NaN", by_row(ops.var), NAN_ROW, chosen=[[[nan] * 3, [8 / 9, -16 / 9, 8 / 9]]])
row(
    "std constant",
    by_row(ops.std),
    [[2.0] * 3, [-1, 0, 1]],
    chosen=[[[nan] * 3, 2 * np.sqrt(1.5) / 3 * np.array([-1, 0, 1])]],
)
row("std single", ops.std, [2.0], chosen=[[nan]])
row("moments constant", lambda x: ops.moments(x, 1), [[2.0] * 3, [1, 2, 3]])
row("prod zeros", by_row(ops.prod), [[0, 2, 3.0], [0, 0, 3], [0, 0, 0], [1, -2, 3]])
row("prod single", by_row(ops.prod), [[0.0], [3.0]])
row("prod huge", by_row(ops.prod), [[1e200, 1e200, 1e-200]], chosen=[[[1, 1, inf]]])
row("cumprod zeros", by_row(ops.cumprod), [[0, 2, 3.0], [2, 0, 3], [2, 0, 0], [1, -2, 3]])
row("cumsum NaN", by_row(ops.cumsum), NAN_ROW, chosen=[[[6, 5, 3], [15, 11, 6]]])
row("cumsum single", functools.partial(ops.cumsum, axis=0), [[2.0]])
row(
    "logsumexp equal",
    by_row(ops.logsumexp),
    [[2.0, 2.0], [0, -0.0], [1000, 0], [1e20, 1e20], [-1e200, 1e200]],
    chosen=[[[0.5, 0.5], [1, 1], [3, 0], [2, 2], [0, 5]]],
)
row(
    "logsumexp not finite",
    by_row(ops.logsumexp),
    [[-inf, 0], [-inf, -inf], [inf, 0], [nan, 0], [1, 1]],
    chosen=[[[0, 1], [0, 0], [nan, 0], [nan] * 2, [2.5, 2.5]]],
)
row("logsumexp single", by_row(ops.logsumexp), [[3.0]])
for name in ("median", "nanmedian"):
    row(
        f"{name} ties",
        by_row(getattr(ops, name)),
        [[2, 2, 1.0], [2, 2, 2], [3, 1, 2]],
        chosen=[[[1, 0, 0], [0, 2, 0], [0, 0, 3]]],
    )
row("median of two ties", ops.median, [1.0, 3.0, 3.0, 4.0], chosen=[[0, 0.5, 0.5, 0]])
row("median NaN", by_row(ops.median), NAN_ROW, chosen=[[[0] * 3, [2, 0, 0]]])
row("nanmedian NaN", by_row(ops.nanmedian), NAN_ROW, chosen=[[[0.5, 0, 0.5], [2, 0, 0]]])
row("quantile at an element", lambda x: ops.quantile(x, [0.0, 0.5, 1.0]), [1.0, 3.0, 2.0], chosen=[[1, 3, 2]])
row("quantile ties", lambda x: ops.quantile(x, 0.25), [1.0, 1.0, 1.0], chosen=[[0.5, 0.5, 0]])
row("nanmax", by_row(ops.nanmax), NAN_ROW, chosen=[[[0, 0, 1], [1, 0, 1]]])
row("nanmin", by_row(ops.nanmin), NAN_ROW, chosen=[[[1, 0, 0], [0, 2, 0]]])
row("nansum", by_row(ops.nansum), NAN_ROW, chosen=[[[1, 0, 1], [2, 2, 2]]])
row("nanmean", by_row(ops.nanmean), NAN_ROW, chosen=[[[0.5, 0, 0.5], [2 / 3] * 3]])
row("nanvar", by_row(ops.nanvar), NAN_ROW, chosen=[[[-0.5, 0, 0.5], [8 / 9, -16 / 9, 8 / 9]]])
row("nanprod", by_row(ops.nanprod), NAN_ROW, chosen=[[[2, 0, 1], [30, 50, 30]]])
row("nancumsum", by_row(ops.nancumsum), NAN_ROW, chosen=[[[6, 0, 3], [15, 11, 6]]])
row("nancumprod", by_row(ops.nancumprod), NAN_ROW, chosen=[[[9, 0, 3], [4 + 15 + 90, 25 + 150, 90]]])
row("norm zero", by_row(ops.norm), [[0, 0.0], [3, 4]], chosen=[[[nan, nan], [1.2, 1.6]]])
row("norm of one zero", by_row(ops.norm), [[0, 2.0], [-0.0, -2]])
row("norm 1 zero", lambda x: ops.norm(x, 1, axis=1), [[0, 2.0], [0, -3]], chosen=[[[0, 1], [0, -2]]])
row("norm inf ties", lambda x: ops.norm(x, inf, axis=1), [[2, -2.0], [0, 0]], chosen=[[[0.5, -0.5], [0, 0]]])
row("l2_normalize zero", by_row(ops.l2_normalize), [[0, 0.0], [3, 4]], chosen=[[[1e6, 2e6], [0, 0]]])
row("normalize zero", ops.normalize, [[0, 0.0], [3, 4]], chosen=[[[1e7, 2e7], [0, 0]]])
row("normalize 1", lambda x: ops.normalize(x, order=1), [[1, 0.0], [3, 4]], chosen=[[[0, 2], [-4 / 49, 3 / 49]]])
row("corrcoef constant", ops.corrcoef, [[1, 1.0, 1], [1, 2, 3]], chosen=[np.full((2, 3), nan)])
row("average zero weights", lambda x, w: ops.average(x, weights=w), [1.0, 2.0], [0.0, 3.0])

# -------------------- order --------------------

row("ldexp zero", lambda x: ops.ldexp(x, [2, -1, 0]), [0.0, 1.0, inf], chosen=[[4, 1, 3]])
row("saturate_cast ends", lambda x: ops.saturate_cast(x, "float32"), [1e200, 1.0, -inf, nan], chosen=[[0, 2, 0, 0]])
row("sort ties", ops.sort, [2.0, 2.0, 1.0, 2.0], chosen=[[2, 3, 1, 4]])
row("sort sorted", ops.sort, [1.0, 2.0, 3.0])
row("sort zeros", ops.sort, [0.0, -0.0, 0.0], chosen=[[1, 2, 3]])
row("sort NaN", ops.sort, [[nan, 1.0, inf], [3, 1, 2]], chosen=[[[3, 1, 2], [6, 4, 5]]])
row("sort empty", ops.sort, np.zeros((0,)))
row("top_k ties", lambda x: ops.top_k(x, 2)[0], [2.0, 2.0, 2.0], chosen=[[1, 2, 0]])
row("top_k NaN", lambda x: ops.top_k(x, 2)[0], [[1.0, nan, 3.0], [1, 2, 3]], chosen=[[[0, 1, 2], [0, 4, 3]]])
row("sparsemax ties", ops.sparsemax, [[1.0, 1.0, 1.0], [2, 0, 0.5]])
row("sparsemax edge", ops.sparsemax, [[1.0, 0.0]], chosen=[[[0, 0]]])

# -------------------- selection --------------------

row(
    "where of NaN",
    lambda x, y: ops.where(np.array([True, False]), x, y),
    [1.0, nan],
    [nan, 2.0],
    chosen=[[1, 0], [0, 2]],
)
row(
    "where of log",
    lambda x: ops.where(x > 0, ops.log(ops.where(x > 0, x, 1)), 0),
    [-1.0, 0.0, 2.0],
    chosen=[[0, 0, 1.5]],
)
row("where of log, not taken", lambda x: ops.where(x > 0, ops.log(x), 0), [-1.0, 0.0, 2.0], chosen=[[-0.0, nan, 1.5]])
row("where of sqrt, not taken", lambda x: ops.where(x > 0, ops.sqrt(x), 0), [-1.0, 0.0, 4.0], chosen=[[nan, nan, 0.75]])
row("clip crossed", lambda x: ops.clip(x, 1.0, -1.0), [0.0, 2.0], chosen=[[0, 0]])
row(
    "clip tensors",
    ops.clip,
    [0.0, 1.0, 2.0, 0.5],
    [0.0] * 4,
    [1.0] * 4,
    chosen=[[0.5, 1, 0, 4], [0.5, 0, 0, 0], [0, 1, 3, 0]],
)
row("getitem repeated", lambda x: x[np.array([0, 0, 1])], [5.0, nan], chosen=[[3, 3]])
row("take repeated", lambda x: ops.take(x, [1, 1, -1], axis=0), [5.0, inf], chosen=[[0, 6]])
row("take_along_axis repeated", lambda x: ops.take_along_axis(x, np.array([0, 0, 1])), [5.0, nan], chosen=[[3, 3]])
row("embedding repeated", lambda x: ops.embedding(np.array([1, 1, 0]), x), [[5.0], [nan]], chosen=[[[3], [3]]])
row("scatter repeated", lambda x: ops.scatter(np.array([[1], [1]]), x, (2,)), [1.0, nan], chosen=[[2, 2]])
row("slice_update NaN", lambda x, u: ops.slice_update(x, (1,), u), [1.0, nan], [3.0], chosen=[[1, 0], [2]])
for how, old, new in (
    ("max", [0.5, 2], [0.5, 0]),
    ("min", [0.5, 0], [0.5, 2]),
    (None, [0, 0], [1, 2]),
    ("add", [1, 2], [1, 2]),
):
    row(
        f"scatter_update {how} ties",
        lambda x, u, how=how: ops.scatter_update(x, [[0], [1]], u, how),
        [2.0, 3.0],
        [2.0, 1.0],
        chosen=[old, new],
    )
row(
    "scatter_update mul zeros",
    lambda x, u: ops.scatter_update(x, [[0], [1], [1]], u, "mul"),
    [0.0, 3.0],
    [2.0, 0.0, 0.0],
)
for name, ties in (("max", [0, 0.5, 0.5, 2]), ("min", [0.5, 0, 0, 2])):
    op = getattr(ops, f"segment_{name}")
    row(
        f"segment_{name} ties",
        lambda x, op=op: op(x, [0, 0, 0, 1], 2),
        [1.0, 2.0, 2.0, 1.0],
        chosen=[[1, 0, 0, 2] if name == "min" else ties],
    )
    row(f"segment_{name} NaN", lambda x, op=op: op(x, [0, 0, 1, 1], 2), [1.0, nan, 2.0, 2.0], chosen=[[nan, nan, 1, 1]])
row("segment_max empty", lambda x: ops.segment_max(x, [0, 2], 3)[::2], [1.0, 2.0])
row("segment_sum NaN", lambda x: ops.segment_sum(x, [0, 0, 1], 2), [1.0, nan, 2.0], chosen=[[1, 1, 2]])
row("segment_prod zeros", lambda x: ops.segment_prod(x, [0, 0, 1, 1], 3), [0.0, 0.0, 0.0, 5.0])

# -------------------- softmax, normalization --------------------

row(
    "softmax huge",
    ops.softmax,
    [[1e200, 1e200], [0, -0.0], [1e20, -1e20], [1000, 0]],
    chosen=[[[-0.25, 0.25], [-0.25, 0.25], [0, 0], [0, 0]]],
)
row(
    "softmax not finite",
    ops.softmax,
    [[-inf, 0], [nan, 0], [-inf, -inf], [inf, 0], [1, 1]],
    chosen=[[[0, 0], [nan] * 2, [nan] * 2, [nan] * 2, [-0.25, 0.25]]],
)
row(
    "log_softmax huge",
    ops.log_softmax,
    [[1e200, 1e200], [0, 0.0], [1e20, -1e20]],
    chosen=[[[-0.5, 0.5], [-0.5, 0.5], [-6, 6]]],
)
row(
    "log_softmax not finite",
    lambda x: ops.log_softmax(x),
    [[nan, 0], [inf, 0], [1, 1]],
    chosen=[[[nan] * 2, [nan] * 2, [-0.5, 0.5]]],
)
row("log_softmax of -inf", lambda x: ops.log_softmax(x), [[-inf, 0, 0.0]], chosen=[[[1, -1, 0]]])
KEEP = np.array([[[[True, False], [False, False]]]])
row("masked_softmax", lambda x: attention.masked_softmax(x, KEEP), [[[[1.0, nan], [1, 2]]]])
row("layer_normalization constant", lambda x: ops.layer_normalization(x, epsilon=0.1), [[2.0, 2.0], [1, 3]])
row("rms_normalization zero", lambda x: ops.rms_normalization(x, epsilon=0.1), [[0.0, 0.0], [1, 3]])
row("group_normalization constant", lambda x: ops.group_normalization(x, 1, epsilon=0.1), [[[2.0, 2.0]], [[1, 3]]])
row(
    "batch_normalization zero variance",
    lambda x, m, v: ops.batch_normalization(x, m, v, -1, epsilon=0.1),
    [[2.0, 1]],
    [2.0, 0],
    [0.0, 1],
)
row("glu zero", ops.glu, [0.0, 0.0])
row(
    "cosine_similarity zero",
    lambda y: losses.cosine_similarity(np.array([[1.0, 0], [1, 1]]), y),
    [[0.0, 0.0], [1, 2]],
    chosen=[[[-1e7, 0], [-0.8 / 10**0.5, 0.4 / 10**0.5]]],
)

# -------------------- products, windows --------------------

row(
    "matmul NaN",
    ops.matmul,
    [[nan, 1.0], [1, 2]],
    [[1.0, 2], [3, 4]],
    chosen=[[[5, 11], [11, 25]], [[nan, nan], [7, 10]]],
)
row("matmul empty", ops.matmul, np.zeros((2, 0)), np.zeros((0, 3)))
row(
    "dense relu",
    lambda x, w: ops.dense(x, w, None, ops.relu),
    [[0.0], [1.0]],
    [[1.0, -1.0]],
    chosen=[[[0], [3]], [[3, 0]]],
)
row(
    "conv1d relu",
    lambda x, w: ops.conv1d(x, w, activation=ops.relu),
    [[[0.0], [1.0]]],
    [[[1.0]]],
    chosen=[[[[0], [2]]], [[[2]]]],
)
row(
    "cdist equal points",
    ops.cdist,
    [[1.0, 2.0], [0, 0]],
    [[1.0, 2.0]],
    chosen=[[[nan, nan], [-2 / 5**0.5, -4 / 5**0.5]], [[nan, nan]]],
)
row(
    "max_pool ties",
    lambda x: ops.max_pool(x, 2),
    [[[[1.0], [1.0]], [[1.0], [0.0]]]],
    chosen=[[[[[1], [0]], [[0], [0]]]]],
)
row("max_pool overlapping", lambda x: ops.max_pool(x, 2, 1), [[[1.0], [1.0], [1.0]]], chosen=[[[[1], [2], [0]]]])
row("max_pool NaN", lambda x: ops.max_pool(x, 2), [[[1.0], [nan], [2], [2]]], chosen=[[[[0], [1], [2], [0]]]])
row(
    "max_pool -inf",
    lambda x: ops.max_pool(x, 2, padding="same"),
    [[[-inf], [-inf], [-inf]]],
    chosen=[[[[1], [0], [2]]]],
)
row(
    "max_pool_3d ties",
    lambda x: ops.max_pool(x, 2),
    np.ones((1, 2, 2, 2, 1)),
    chosen=[np.eye(1, 8).reshape(1, 2, 2, 2, 1)],
)
row(
    "average_pool NaN",
    lambda x: ops.average_pool(x, 2),
    [[[1.0], [nan], [2], [2]]],
    chosen=[[[[0.5], [0.5], [1], [1]]]],
)
row(
    "adaptive_max_pool ties", lambda x: ops.adaptive_max_pool(x, 2), [[[1.0], [1.0], [1.0]]], chosen=[[[[1], [2], [0]]]]
)

# -------------------- losses --------------------

TRUE, LABELS = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
for name in ("categorical_crossentropy", "binary_crossentropy"):
    loss, chosen = functools.partial(getattr(ops, name), TRUE), [[[0, 0], [2, -2] if name[0] == "c" else [6, -8]]]
    row(f"{name} huge logits", functools.partial(loss, from_logits=True), [[1e200, -1e200], [0, 0.0]])
    row(f"{name} at 0 and 1", loss, [[1.0, 0.0], [0.5, 0.5]], chosen=chosen)
row(
    "binary_crossentropy not finite",
    lambda y: ops.binary_crossentropy(np.array([1.0, 0, 1, 1]), y, from_logits=True),
    [inf, -inf, nan, 0],
    chosen=[[0, 0, nan, -2]],
)
row(
    "sparse huge logits",
    lambda y: ops.sparse_categorical_crossentropy(LABELS, y, from_logits=True),
    [[1e200, -1e200], [0, 0.0]],
    chosen=[[[0, 0], [1, -1]]],
)
row(
    "sparse NaN",
    lambda y: ops.sparse_categorical_crossentropy(LABELS, y, from_logits=True),
    [[nan, 1.0], [0, 0.0]],
    chosen=[[[nan, nan], [1, -1]]],
)
row("ctc repeated", lambda x: ops.ctc_loss([[1, 1], [2, 2]], x, [2, 1], [3, 2]), np.zeros((2, 3, 3)))
row("ctc impossible", lambda x: ops.ctc_loss([[1, 1]], x, [2], [2]), np.zeros((1, 3, 3)), chosen=[np.zeros((1, 3, 3))])
row("ctc huge", lambda x: ops.ctc_loss([[1, 2]], x, [2], [3]), np.eye(3)[None] * 8)
ZERO = np.zeros((2, 2))
NONE = [0, 0, 0, 0.0]
# the gradients for predictions that equal TRUE, and for zeros, where there is no derivative
for name, of_equals, of_zeros in (
    ("mean_squared_error", None, None),
    ("mean_absolute_error", NONE, NONE),
    ("mean_absolute_percentage_error", NONE, NONE),
    ("mean_squared_logarithmic_error", NONE, NONE),
    ("huber", None, None),
    ("log_cosh", None, None),
    ("hinge", [-0.25, 0.5, 1, -0.5], None),
    ("squared_hinge", [0, 1, 2, 0], None),
    ("categorical_hinge", [-0.5, 0.25, 0.5, -1], [0.5, 0.5, 1, 1]),
    ("kl_divergence", [-1, 0, 0, -2], NONE),
    ("poisson", [0.5e-7 / (1 + 1e-7), 0.5, 1, 1e-7 / (1 + 1e-7)], [0.5, 0.5, 1, 1]),
    ("dice", None, None),
    ("tversky", None, None),
):
    loss = getattr(losses, name)
    for true, what, chosen in ((TRUE, "equals", of_equals), (ZERO, "zeros", of_zeros)):
        gradient = None if chosen is None else [np.reshape(chosen, (2, 2))]
        row(f"{name} of {what}", functools.partial(loss, true), true.copy(), chosen=gradient)

# -------------------- matrices, signals, images --------------------

row("cholesky identity", lambda x: ops.cholesky(x @ ops.transpose(x)), np.eye(3))
for name in ("inv", "det", "pinv"):
    row(f"{name} identity", getattr(ops, name), np.eye(3))
    row(f"{name} single", getattr(ops, name), [[2.0]])
row("det huge", ops.det, np.eye(2) * 1e20, chosen=[np.eye(2) * 1e20])
row("slogdet identity", lambda x: ops.slogdet(x)[1], np.eye(3))
row("solve identity", ops.solve, np.eye(2), [[1.0], [0.0]])
row("eigh of equal values", lambda x: ops.eigh(x)[0], np.eye(2), chosen=[np.diag([1.0, 2.0])])
row("svd values of equal", lambda x: ops.svd(x, compute_uv=False), np.diag([2.0, 1.0]))
row("qr triangular", lambda x: ops.qr(x)[1], [[-1.0, 2.0], [0.1, 3.0]])
row("fft NaN", lambda x: ops.fft((x, ops.zeros_like(x)))[0], [[1.0, nan], [0, 0.0]], chosen=[[[3, -1], [7, -1]]])
row("rfft single", lambda x: ops.rfft(x), [[2.0]])
row(
    "hsv grey",
    lambda x: image.rgb_to_hsv(x),
    [[[[0.5, 0.5, 0.5], [0, 0, 0.0]]]],
    chosen=[[[[[0.75, 0.75, 1.5], [1.5, 1.5, 3]]]]],
)
row("hsv back", lambda x: image.hsv_to_rgb(x), [[[[0.45, 0.5, 0.5], [0.1, 0.3, 0.7]]]])
row("map_coordinates at points", lambda x, at: image.map_coordinates(x, at, 1), [1.0, 5.0, 2.0], [[0.5, 1.5]])
row(
    "map_coordinates on a point",
    lambda x, at: image.map_coordinates(x, at, 1),
    [1.0, 5.0, 2.0],
    [[1.0, 2.0]],
    chosen=[[0, 1, 2], [[-3, -4]]],
)
row("resize", lambda x: image.resize(x, (2, 2)), np.arange(9.0).reshape(3, 3, 1))

# -------------------- recurrent --------------------

for op, gates in ((ops.simple_rnn, 1), (ops.lstm, 4), (ops.gru, 3)):
    arrays = np.zeros((1, 2, 1)), np.zeros((1, gates)), np.zeros((1, gates))
    row(f"{op.__name__} zeros", lambda x, k, r, op=op: op(x, k, r), *arrays)
