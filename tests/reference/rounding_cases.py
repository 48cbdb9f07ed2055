"""Calls of functions of keras.quantizers, for Keras and for nbkeras: name -> f(keras), which returns arrays."""

import numpy as np

W = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
INTEGERS = np.random.default_rng(1).integers(-8, 8, (3, 5, 4)).astype("int8")
POWERS = [10.0 ** np.arange(-9, 5), -(10.0 ** np.arange(-9, 5)), 2.0 ** np.arange(-12, 9)]
NUMBERS = np.concatenate([np.linspace(-500, 500, 41), *POWERS, [0, 448, 463, 465]]).astype("float32")


def each(keras, values):
    return [keras.ops.convert_to_numpy(value) for value in values]


def _grouped(size, values=W, **options):
    return lambda keras: each(keras, keras.quantizers.abs_max_quantize_grouped_with_zero_point(values, size, **options))


def _packed(axis):
    return lambda keras: each(keras, keras.quantizers.pack_int4(INTEGERS, axis)[:1])


def _float8(kind, scale):
    return lambda keras: each(
        keras, [keras.quantizers.quantize_and_dequantize(NUMBERS, np.float32(scale), kind, "float32")]
    )


def _scale(keras):
    tensor = keras.ops.convert_to_tensor
    cases = [(0, 0), (5, 0), (np.inf, 0), (7, 2), (np.nan, 0)]
    function = keras.quantizers.compute_float8_scale
    return each(keras, [function(tensor(np.float32(a)), tensor(np.float32(3)), np.float32(448), m) for a, m in cases])


def _history(keras):
    history = keras.ops.convert_to_tensor(np.arange(4, dtype="float32"))
    return each(keras, [keras.quantizers.compute_float8_amax_history(NUMBERS, history)])


def _fake(**options):
    limits = -0.7, 1.1
    if "axis" in options:
        limits = np.full(5, -0.7, "float32"), np.arange(5, dtype="float32") + 0.3
    return lambda keras: each(keras, [keras.quantizers.fake_quant_with_min_max_vars(W, *limits, **options)])


CASES = {
    "groups": _grouped(3),
    "groups by numpy": _grouped(3, to_numpy=True),
    "groups of equal numbers": _grouped(2, np.full((3, 2), 0.5, "float32")),
    "groups of equal numbers by numpy": _grouped(2, np.full((3, 2), 0.5, "float32"), to_numpy=True),
    **{f"packed along {axis}": _packed(axis) for axis in (0, 1, 2, -1)},
    **{f"{kind} {scale}": _float8(kind, scale) for kind in ("float8_e4m3fn", "float8_e5m2") for scale in (1, 0.37)},
    "scale": _scale,
    "history": _history,
    "fake": _fake(),
    "fake of 4 bits": _fake(num_bits=4),
    "fake, narrow": _fake(narrow_range=True),
    "fake, by columns": _fake(axis=1),
    "fake, by columns, narrow": _fake(axis=-1, num_bits=3, narrow_range=True),
}
