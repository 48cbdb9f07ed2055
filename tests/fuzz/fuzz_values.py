"""Values that the fuzzers draw: sensible ones for a parameter's name, and absurd ones for any.

`chance` is a random.Random, or one whose numbers are chosen by hypothesis or by atheris. Nothing else decides a case.
"""

import decimal
import fractions

import numpy as np
import pandas
import scipy.sparse

import nbkeras as keras
from nbkeras import layers

SHAPES = [(3,), (2, 3), (2, 4, 3), (2, 4, 4, 3), (1, 3, 4, 4, 2), (1,), (5,), (1, 1), (4, 3)]
ODD_SHAPES = [(), (0,), (2, 0), (0, 3), (2, 0, 3), (2, 4, 0, 3), (1, 1, 1, 1, 1, 1), (40,), (3, 1)]
DTYPES = [*["float32"] * 12, *["int32"] * 4, "bool", "bool", "float64", "float64", "int64", "int64", "uint8", "uint8"]
ODD_DTYPES = "float16 int8 uint16 uint32 uint64 complex64 object <U3 S2 datetime64[s] >f4 >i4 longdouble V4".split()
LIMITS = [2**31 - 1, -(2**31), 2**31, 2**62, -(2**63), 255, 256, -1, 10**6, 2**24 + 1]


class Odd:
    """An object that is nothing, and says nothing about itself but its name."""

    def __repr__(self):
        return "Odd()"


class Failing:
    """An object that fails in every way that code may look at it."""

    def __array__(self, dtype=None, copy=None):
        raise ValueError("this object has no array, on purpose")

    def __repr__(self):
        return "Failing()"


def add(*numbers):
    return sum(numbers)


def negative(x):
    return -x


def first(*values):
    return values[0]


PLAIN = [
    *(None, True, False, 0, 1, 2, 3, -1, -2, 7, 0.5, 1.0, -1.0, 0.0, 1e-7, "same", "valid", "relu", "adam", "sum"),
    *((0, 1), (2, 2), (1, 2), [1], [2, 3], (3,), "channels_first", "float32", "int32", "glorot_uniform"),
]
ABSURD = [
    *(-(2**31), 2**31, 2**63, -(2**63) - 1, 10**30, 10**9, 65537, 1e38, 1e300, -0.0),
    *(float("nan"), float("inf"), -float("inf"), "", "é", "nan", "3", "x" * 300, "\ud800", "\0", b"bytes"),
    *([], (), {}, set(), [[]], [[1, 2], [3]], (0, 0), (-1, -1), (1, 2, 3, 4, 5, 6, 7), [None], (None, None), [True]),
    *([0.5], ["a"], {"a": 1}, {1: 2}, [{}], (2, "same"), range(3), slice(1, None), ..., NotImplemented, 1j, Odd()),
    *(Failing(), fractions.Fraction(1, 3), decimal.Decimal("0.1"), np.float32(2), np.int64(2), np.bool_(True), int),
    *(np.uint8(200), np.float64("nan"), np.array(2), np.array(2.5), np.array([2]), np.array(["a"]), np.array([None])),
    *(np.datetime64("2020-01-01"), np.dtype("float32"), np.float32, "datetime64", "float16", "bfloat16", "complex64"),
    *(add, print, len, layers.Dense, Exception("error"), {"class_name": "Dense", "config": {}}, {"class_name": 3}),
    *({"class_name": "L2", "config": {"l2": "x"}}, {"class_name": "Nothing"}, {"config": {}}, "Dense", "l2", "zeros"),
]
ENDLESS: list = []
ENDLESS.append(ENDLESS)
DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]

SIZES = [1, 2, 3, 4, 2, 3, 5, 0, -1]
FLOATS = [0.0, 0.1, 0.5, 1.0, 2.0, 1e-3, -0.5, 3]
RATES = [0.0, 0.1, 0.5, 0.9, 1.0, 1.5, -0.1]
FLAGS = [True, False]
AXES = [-1, 0, 1, 2, -2, None, (0, 1), (-1,), (1, 2), 3, -4, (0, 0)]
PAIRS = [1, 2, 3, (1, 2), (2, 2), (2,), (1, 1, 2), 0, -1, (0, 1)]
PAIRS_AND_SHAPES = [*PAIRS, (2, 3), (3, 4), (None, 3), (-1,), (-1, 3), (6,), (0,), ()]
PADS = [0, 1, 2, (1, 2), ((1, 0), (0, 1)), ((1, 0), (0, 1), (1, 1)), -1, 30]
NAMED = {
    "units filters n num output_dim input_dim key_dim value_dim head_dim num_heads num_query_heads num_key_value_heads": SIZES,
    "num_classes num_labels num_tokens num_segments num_bins bins groups depth_multiplier k size minlength length": SIZES,
    "block_size num_thresholds top_k power_iterations lora_rank ns_steps vocabulary_size embedding_dim num_samples": SIZES,
    "target_length output_length sequence_length sequence_stride fft_length maxlen num_oov_indices max_tokens": SIZES,
    "warmup_steps decay_steps first_decay_steps patience beam_width top_paths height width target_height N M": SIZES,
    "target_width top_padding left_padding repeats newaxis num_regressors mask_index filter_size max_rank": SIZES,
    "kernel_size strides pool_size dilation_rate cropping output_padding stride dilation output_size reps": PAIRS,
    "kernel_size_2d factor attention_axes target_shape dims shape batch_shape newshape sizes crop_size": PAIRS_AND_SHAPES,
    "pad_width padding_width": PADS,
    "padding": ["same", "valid", "causal", "SAME", 1, 2, (1, 1), "full", ((1, 0), (0, 1))],
    "axis axes axis1 axis2 shared_axes input_axes output_axes axisa axisb axisc dim bias_axes source destination": AXES,
    "rate dropout recurrent_dropout momentum alpha beta beta_1 beta_2 rho label_smoothing decay decay_rate gamma": RATES,
    "probability renorm_momentum negative_slope theta ema_momentum min_delta specificity sensitivity recall q": RATES,
    "precision threshold thresholds lr_multiplier weight_decay clipnorm clipvalue global_clipnorm scale": [
        *FLOATS,
        None,
    ],
    "learning_rate epsilon stddev mean gain l1 l2 delta minval maxval min_value max_value x_min x_max value": FLOATS,
    "initial_learning_rate end_learning_rate power t_mul m_mul scaling x_factor y_factor sigma rtol atol tol": FLOATS,
    "height_factor width_factor brightness_factor contrast_factor saturation_factor hue_factor": [0.1, (0.1, 0.2), 1.5],
    "data_format": ["channels_first", "channels_last", None],
    "dtype output_dtype vocabulary_dtype": [None, "float32", "float64", "int32", "bool", "uint8", "int64", "float16"],
    "activation recurrent_activation": ["relu", "tanh", "softmax", None, "linear", keras.activations.gelu, "sigmoid"],
    "kernel_initializer bias_initializer recurrent_initializer embeddings_initializer gamma_initializer": [
        *("zeros", "ones", "glorot_uniform", "orthogonal", None, keras.initializers.Constant(2.0), "identity")
    ],
    "kernel_regularizer bias_regularizer activity_regularizer embeddings_regularizer": [None, "l2", "l1", "orthogonal"],
    "kernel_constraint bias_constraint embeddings_constraint": [None, "non_neg", "unit_norm", "max_norm"],
    "mode": ["constant", "reflect", "edge", "symmetric", "auto", "min", "max", "same", "valid", "full", "fan_in"],
    "reduction": ["sum", "mean", "none", None, "sum_over_batch_size", "mean_with_sample_weight", "add", "max"],
    "seed": [None, 0, 3, -1],
    "name": [None, "a", "b"],
    "interpolation": ["nearest", "bilinear", "bicubic", "lanczos3", "area"],
    "fill_mode": ["constant", "nearest", "wrap", "mirror", "reflect"],
    "output_mode": ["int", "one_hot", "multi_hot", "count", "tf_idf"],
    "merge_mode": ["sum", "mul", "concat", "ave", None],
    "layer cell backward_layer": [
        *(lambda: layers.Dense(2), lambda: layers.LSTM(2), lambda: layers.GRUCell(2), lambda: layers.Conv1D(2, 2)),
        *(lambda: layers.LSTMCell(3), lambda: keras.Sequential([layers.Dense(2)]), lambda: layers.Flatten()),
    ],
    "layers cells": [lambda: [layers.LSTMCell(2), layers.GRUCell(3)], lambda: [layers.Dense(2)], lambda: []],
    "optimizer inner_optimizer default_optimizer": [
        lambda: keras.optimizers.SGD(),
        lambda: keras.optimizers.Adam(),
        "sgd",
    ],
    "fn function f body cond body_fun pyfunc true_fn false_fn": [add, negative, first, keras.ops.sum],
    "equation subscripts": ["ab,bc->ac", "abc,cd->abd", "...a,ab->...b", "ij->ji", "ii", "a,b->", "ab,ab", "->"],
    "pattern": ["a b -> b a", "a b c -> (a b) c", "a b c -> a", "a ... -> ... a", "(a b) -> a b"],
    "vocabulary": [[1, 2, 3], ["a", "b"], [1, 1], [], np.array([3, 4]), None],
    "boundaries bin_boundaries": [[0.0, 1.0], [1, 2, 3], [2, 1], []],
    "values": [[0.1, 0.2, 0.3], [1.0], [0.1, 0.2, 0.3, 0.4]],
    "norm order ord": [1, 2, None, "fro", "nuc", np.inf, -1],
    "curve": ["ROC", "PR"],
    "average class_aggregation": [None, "micro", "macro", "weighted"],
    "weights label_weights sample_weight idf_weights": [
        None,
        np.ones(3, "float32"),
        np.ones((2, 3), "float32"),
        [1, 2],
    ],
    "class_id ignore_class target_class_ids": [None, 0, 1, [0, 1], 9, -1],
    "distribution": ["uniform", "truncated_normal", "normal"],
    "indices_or_sections": [1, 2, 3, [1], [1, 2], [2, 1], 0],
    "shift offset start stop step": [0, 1, -1, 2, 0.5, 10, (1, 1)],
    "monitor": ["loss", "val_loss", "accuracy"],
    "window": ["hann", "hamming", None],
    "score_mode": ["dot", "concat"],
    "standardize": ["lower_and_strip_punctuation", None, "lower"],
    "split": ["whitespace", "character", None],
    "side": ["left", "right"],
}
POOLS = {name: pool for names, pool in NAMED.items() for name in names.split()}


def any_of(chance, pool):
    """One of a pool; lambdas without a name make an object anew."""
    value = pool[chance.randrange(len(pool))]
    return value() if getattr(value, "__name__", "") == "<lambda>" else value


def shape(chance, base=None):
    """A shape like the case's base shape, or another."""
    kind = chance.random()
    if base is not None and kind < 0.6:
        return base
    if base and kind < 0.7:  # one that may be broadcast to it
        return tuple(1 if chance.random() < 0.4 else size for size in base)[chance.randrange(len(base)) :]
    return SHAPES[chance.randrange(len(SHAPES))] if kind < 0.9 else ODD_SHAPES[chance.randrange(len(ODD_SHAPES))]


def array(chance, base=None, integers=False, odd=0.08):
    """A NumPy array: mostly of small floats or integers, contiguous; else anything that NumPy can hold."""
    sizes = shape(chance, base)
    dtype = DTYPES[chance.randrange(len(DTYPES))]
    if integers and dtype == "float32":
        dtype = "int32"
    if chance.random() < odd / 2:
        dtype = ODD_DTYPES[chance.randrange(len(ODD_DTYPES))]
    rng = np.random.default_rng(chance.randrange(1 << 30))
    values = rng.standard_normal(sizes) if np.dtype(dtype).kind in "fcb" else rng.integers(-1, 5, sizes)
    if chance.random() < 0.7 and np.dtype(dtype).kind in "iu":
        values = np.abs(values)
    if dtype in ("object", "V4"):
        values = np.full(sizes, None if chance.random() < 0.5 else "a", object)
        return values if dtype == "object" else np.zeros(sizes, "V4")
    with np.errstate(all="ignore"):
        values = np.asarray(values).astype(dtype)
    kind = chance.random()
    if kind < odd and values.size and values.dtype.kind in "fiu":
        values = values.copy()
        extreme = LIMITS[chance.randrange(len(LIMITS))]
        if values.dtype.kind == "f":
            extreme = [np.nan, np.inf, -np.inf, 1e30, 0.0, 1e-40][chance.randrange(6)]
        else:
            limits = np.iinfo(values.dtype)
            extreme = min(max(extreme, limits.min), limits.max)
        values.flat[chance.randrange(values.size)] = extreme
    elif kind < 2 * odd and values.ndim:
        way = chance.randrange(5)
        if way == 0:
            values = np.asfortranarray(values)
        elif way == 1:
            values = values[::-1]
        elif way == 2:
            values = np.repeat(values, 2, -1)[..., ::2]
        elif way == 3:
            values = values.copy()
            values.flags.writeable = False
        else:
            values = np.broadcast_to(values[:1], values.shape)
    return values


def tensor_like(chance, base=None, integers=False):
    """An array as users pass it: of NumPy, a Tensor, a list, a Variable, a symbolic tensor, of pandas or scipy."""
    values = array(chance, base, integers)
    kind = chance.random()
    if kind < 0.75:
        return values
    if kind < 0.80:
        return values.tolist()
    if kind < 0.85:
        return keras.KerasTensor(values.shape)
    if kind > 0.985 and values.ndim == 2:
        return pandas.DataFrame(values)
    if kind > 0.97 and values.ndim == 2 and values.dtype.kind in "fi" and values.dtype != np.float16:
        return scipy.sparse.csr_matrix(values.astype("float64"))
    if values.dtype.kind not in "fiub" or values.dtype in (np.float16, np.longdouble):
        return values
    values = np.asarray(values, values.dtype.newbyteorder("="))
    return keras.ops.convert_to_tensor(values) if kind < 0.94 else keras.Variable(values)


def absurd(chance):
    """A value that fits nowhere, or anywhere."""
    kind = chance.random()
    if kind < 0.1:
        return tensor_like(chance)
    if kind < 0.11:
        return ENDLESS if chance.random() < 0.5 else DEEP
    if kind < 0.13:
        return layers.Dense(2)
    return ABSURD[chance.randrange(len(ABSURD))]


def named(chance, name, odd=0.1):
    """A value for a parameter of this name: from its pool, or any, or an absurd one."""
    kind = chance.random()
    if kind < odd:
        return absurd(chance)
    pool = POOLS.get(name)
    if pool is None:
        for ending in ("_initializer", "_regularizer", "_constraint"):
            if name.endswith(ending):
                pool = POOLS["kernel" + ending]
    if pool is None or kind < odd * 1.5:
        pool = PLAIN
    return any_of(chance, pool)


def described(value, depth=0):
    """A value as Python text that a person can read."""
    if depth > 8:
        return "..."
    if value is ENDLESS:
        return "ENDLESS"
    if value is DEEP:
        return "DEEP"
    if isinstance(value, np.ndarray):
        text = np.array2string(value, threshold=24, precision=4) if value.size <= 24 else "..."
        return f"array({' '.join(text.split())}, shape={value.shape}, dtype={value.dtype}, strides={value.strides})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {described(each, depth + 1)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(described(each, depth + 1) for each in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    try:
        text = " ".join(repr(value).split())
    except TypeError:  # pandas cannot show each table that it can hold
        return f"a {type(value).__name__}"
    return text if len(text) < 200 else text[:200] + "..."
