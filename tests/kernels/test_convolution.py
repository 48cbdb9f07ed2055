"""Convolution and pooling kernels: each algorithm against plain NumPy, the rule that picks one, gradients, threads."""

import numpy as np
import pytest
from arrays import normal
from in_threads import by_threads

from nbkeras import ops
from nbkeras.kernels import pool
from nbkeras.kernels.convolution import conv, direct, implicit_gemm, winograd
from nbkeras.kernels.loops.window import Window, output_length, padding_before, slide
from nbkeras.ops.resize import INTERPOLATIONS
from nbkeras.testing import check_op

NOTHING = np.empty(0)


def reference(x, kernel, bias, window, out_height, out_width, groups=1):
    """Convolution by its definition, tap by tap, in float64."""
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    height, width, channels, units = kernel.shape
    y = np.zeros((len(x), out_height, out_width, units)) + bias
    rows = np.arange(out_height) * window.row_stride - window.top
    columns = np.arange(out_width) * window.column_stride - window.left
    for ky in range(height):
        for kx in range(width):
            r, c = rows + ky * window.row_dilation, columns + kx * window.column_dilation
            inside = ((r >= 0) & (r < x.shape[1]))[:, None] & ((c >= 0) & (c < x.shape[2]))
            seen = x[:, np.clip(r, 0, x.shape[1] - 1)][:, :, np.clip(c, 0, x.shape[2] - 1)] * inside[..., None]
            for g in range(groups):
                of, to = slice(g * channels, (g + 1) * channels), slice(g * units // groups, (g + 1) * units // groups)
                y[..., to] += seen[..., of] @ kernel[ky, kx, :, to]
    return y


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def check_gradients(forward, x, kernel, dy, dx, dkernel, tolerance):
    """The gradients of a bilinear function, from its values: <dy, conv(v, kernel)> = <dx, v>, and so for the kernel."""
    for seed in range(2):
        v, u = normal(*x.shape, seed=seed), normal(*kernel.shape, seed=seed)
        scale = np.linalg.norm(dy) * np.linalg.norm(forward(v, kernel))
        assert abs((dy * forward(v, kernel)).sum() - (dx * v).sum()) <= tolerance * scale
        scale = np.linalg.norm(dy) * np.linalg.norm(forward(x, u))
        assert abs((dy * forward(x, u)).sum() - (dkernel * u).sum()) <= tolerance * scale


# -------------------- implicit GEMM --------------------

GEMM_CASES = {
    "1x1": ((2, 5, 4, 3), (1, 1), (1, 1), (1, 1), "valid", 1),
    "same, even kernel": ((2, 6, 7, 3), (2, 4), (1, 1), (1, 1), "same", 1),
    "strides": ((3, 9, 8, 2), (3, 2), (2, 3), (1, 1), "same", 1),
    "stride past the kernel": ((1, 9, 8, 2), (1, 2), (3, 4), (1, 1), "valid", 1),
    "dilation": ((2, 9, 10, 3), (3, 2), (1, 1), (3, 2), "valid", 1),
    "dilation and strides": ((2, 9, 10, 3), (3, 2), (2, 1), (1, 3), "same", 1),
    "causal": ((2, 1, 9, 3), (1, 3), (1, 1), (1, 2), "causal", 1),
    "groups": ((2, 6, 5, 6), (3, 3), (1, 2), (1, 1), "same", 3),
    "kernel as large as the image": ((2, 4, 3, 2), (4, 3), (1, 1), (1, 1), "valid", 1),
    "one image, in bands": ((1, 40, 30, 8), (3, 3), (2, 1), (1, 1), "same", 1),
    "a kernel in two parts": ((2, 9, 8, 40), (4, 5), (1, 2), (2, 1), "same", 1),
    "a kernel in three parts and two groups": ((3, 8, 7, 320), (3, 3), (2, 1), (1, 1), "valid", 2),
    "one unit": ((3, 9, 8, 5), (3, 2), (2, 1), (1, 1), "same", 1, 1),
    "many blocks": ((9, 24, 24, 12), (5, 3), (1, 1), (1, 1), "same", 1),
}


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_conv.py has the GPU's")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", GEMM_CASES)
def test_implicit_gemm(case, dtype):
    shape, size, strides, dilation, padding, groups, *given = GEMM_CASES[case]
    units, tolerance = given[0] if given else 6, 1e-12 if dtype == "float64" else 2e-6
    x, kernel = normal(*shape).astype(dtype), normal(*size, shape[3] // groups, units).astype(dtype)
    bias = normal(units).astype(dtype)
    window, height, width = slide(shape, size, strides, dilation, padding)

    def forward(x, kernel):
        return reference(x, kernel, 0, window, height, width, groups)

    y = np.empty((shape[0], height, width, units), dtype)
    implicit_gemm.forward(x, kernel, bias, y, window, groups, True)
    assert relative(y, np.maximum(forward(x, kernel) + bias, 0)) < tolerance
    dy, dx, dkernel = normal(*y.shape, seed=3).astype(dtype), np.empty_like(x), np.empty_like(kernel)
    implicit_gemm.input_gradient(dy, kernel, dx, window, groups)
    implicit_gemm.kernel_gradient(x, dy, dkernel, window, groups)
    check_gradients(forward, x, kernel, dy, dx, dkernel, tolerance)


@pytest.mark.cpu("hands NumPy arrays to kernels")
@pytest.mark.parametrize("bands", ["as they are", "small"])
def test_windows_of_any_form(bands, monkeypatch):
    """Sizes, strides, dilations and paddings that meet in any way, also windows outside of the image; in many small bands too."""
    if bands == "small":
        sizes = {"_BAND": 4, "_THIN": 1, "_BUFFER": 64, "_SHARE_WORK": 50, "_GRADIENT_WORK": 50, "_PART": 2, "_LINE": 1}
        for name, value in sizes.items():
            monkeypatch.setattr(implicit_gemm, name, value)
        implicit_gemm._gradient_plan.cache_clear()
    random = np.random.default_rng(0)

    def one_of(*values):
        return int(random.choice(values))

    for _ in range(150):
        groups, channels, units = one_of(1, 1, 2, 3), one_of(1, 2, 5), one_of(1, 1, 3, 17)
        size = one_of(1, 1, 2, 3, 4), one_of(1, 1, 2, 3, 5)
        window = Window(*size, *(one_of(1, 1, 2, 3) for _ in range(4)), one_of(0, 0, 1, 2), one_of(0, 0, 1, 2))
        images, height, width = one_of(1, 2), one_of(1, 1, 2, 5, 9), one_of(1, 1, 3, 7, 20)
        x, kernel = normal(images, height, width, channels * groups), normal(*size, channels, units * groups)
        y = np.full((images, one_of(1, 1, 2, 4, 7), one_of(1, 1, 2, 5, 9), units * groups), np.nan)
        bias, sizes = normal(units * groups), (window, y.shape[1], y.shape[2], groups)
        implicit_gemm.forward(x, kernel, bias, y, window, groups, True)
        np.testing.assert_allclose(y, np.maximum(reference(x, kernel, bias, *sizes), 0), atol=1e-10)
        dy, dx, dkernel = normal(*y.shape, seed=3), np.full_like(x, np.nan), np.full_like(kernel, np.nan)
        implicit_gemm.input_gradient(dy, kernel, dx, window, groups)
        implicit_gemm.kernel_gradient(x, dy, dkernel, window, groups)
        check_gradients(lambda x, k, sizes=sizes: reference(x, k, 0, *sizes), x, kernel, dy, dx, dkernel, 1e-10)
    implicit_gemm._gradient_plan.cache_clear()


# -------------------- Winograd --------------------

# Of the largest element, for up to 150 channels; seen here 7e-6, 1e-5 and 3e-6. With 512 channels 1.2e-5 were seen.
WINOGRAD_BOUNDS = {"forward": 1e-5, "input": 1.2e-5, "kernel": 5e-6}
WINOGRAD_CASES = {
    "whole tiles, valid": ((3, 14, 10, 32), 24, "valid"),
    "whole tiles, same": ((2, 12, 16, 16), 32, "same"),
    "cut tiles": ((2, 11, 9, 16), 20, "same"),
    "one image": ((1, 23, 5, 17), 16, "valid"),
    "image smaller than a tile": ((5, 3, 2, 16), 16, "same"),
    "wide": ((1, 8, 9, 150), 130, "same"),
}


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_conv.py has the GPU's")
@pytest.mark.parametrize("case", WINOGRAD_CASES)
def test_winograd_within_its_stated_error(case):
    shape, units, padding = WINOGRAD_CASES[case]
    x, kernel = normal(*shape).astype("float32"), normal(3, 3, shape[3], units).astype("float32")
    bias = normal(units).astype("float32")
    window, height, width = slide(shape, (3, 3), (1, 1), (1, 1), padding)
    y = np.empty((shape[0], height, width, units), "float32")
    winograd.convolve(x, kernel, bias, y, window.top, window.left, relu=True)
    expected = np.maximum(reference(x, kernel, bias.astype(np.float64), window, height, width), 0)
    assert relative(y, expected) < WINOGRAD_BOUNDS["forward"]

    dy, dx, dkernel = normal(*y.shape, seed=3).astype("float32"), np.empty_like(x), np.empty_like(kernel)
    winograd.convolve(dy, kernel, NOTHING.astype("float32"), dx, 2 - window.top, 2 - window.left, turn=True)
    winograd.kernel_gradient(x, dy, dkernel, window.top, window.left)
    exact_dx, exact_dkernel = np.empty(x.shape), np.empty(kernel.shape)
    implicit_gemm.input_gradient(dy.astype(np.float64), kernel.astype(np.float64), exact_dx, window, 1)
    implicit_gemm.kernel_gradient(x.astype(np.float64), dy.astype(np.float64), exact_dkernel, window, 1)
    assert relative(dx, exact_dx) < WINOGRAD_BOUNDS["input"]
    assert relative(dkernel, exact_dkernel) < WINOGRAD_BOUNDS["kernel"]


# -------------------- direct --------------------


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_conv.py has the GPU's")
@pytest.mark.parametrize(
    ("shape", "size", "strides", "dilation", "padding"),
    [
        ((2, 7, 8, 1), (3, 3), (1, 1), (1, 1), "valid"),
        ((2, 7, 8, 1), (3, 3), (2, 3), (1, 1), "same"),
        ((2, 9, 9, 1), (3, 3), (1, 1), (3, 2), "same"),
        ((1, 2, 2, 1), (3, 3), (1, 1), (1, 1), "same"),
        ((3, 1, 12, 3), (1, 3), (1, 1), (1, 2), "causal"),
        ((2, 5, 5, 9), (1, 1), (2, 1), (1, 1), "valid"),
        ((16, 30, 30, 1), (3, 3), (1, 1), (1, 1), "same"),
    ],
)
def test_direct_convolution_equals_the_definition(shape, size, strides, dilation, padding):
    x, kernel, bias = normal(*shape), normal(*size, shape[3], 21), normal(21)
    window, height, width = slide(shape, size, strides, dilation, padding)
    exact = reference(x, kernel, 0, window, height, width)
    x, kernel, bias = (a.astype("float32") for a in (x, kernel, bias))
    y = np.empty(exact.shape, "float32")
    direct.forward(x, kernel, bias, y, window, True)
    assert relative(y, np.maximum(exact + bias, 0)) < 1e-6
    direct.forward(x, kernel, NOTHING.astype("float32"), y, window, False)
    assert relative(y, exact) < 1e-6


# -------------------- depthwise --------------------


@pytest.mark.cpu("hands NumPy arrays to kernels; tests/kernels/cuda/test_conv.py has the GPU's")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("channels", [2, 16, 37, 150])  # less than a vector, one, some and a part, all and more
@pytest.mark.parametrize(
    ("size", "strides", "dilation", "padding"),
    [
        ((3, 3), (1, 1), (1, 1), "same"),
        ((3, 2), (2, 3), (1, 1), "valid"),
        ((2, 5), (3, 2), (2, 1), "same"),
        ((3, 9), (1, 1), (1, 2), "same"),
    ],
)
def test_depthwise_convolution_equals_the_definition(size, strides, dilation, padding, channels, dtype):
    shape, tolerance = (2, 8, 9, channels), 1e-12 if dtype == "float64" else 2e-6
    x, kernel, bias = (normal(*s).astype(dtype) for s in (shape, (*size, 1, channels), (channels,)))
    window, height, width = slide(shape, size, strides, dilation, padding)

    def forward(x, kernel):
        return reference(x, kernel, 0, window, height, width, channels)

    y = np.empty((2, height, width, channels), dtype)
    implicit_gemm.forward(x, kernel, bias, y, window, channels, True)
    assert relative(y, np.maximum(forward(x, kernel) + bias, 0)) < tolerance
    implicit_gemm.forward(x, kernel, NOTHING.astype(dtype), y, window, channels, False)
    assert relative(y, forward(x, kernel)) < tolerance
    dy, dx, dkernel = normal(*y.shape, seed=3).astype(dtype), np.empty_like(x), np.empty_like(kernel)
    implicit_gemm.input_gradient(dy, kernel, dx, window, channels)
    implicit_gemm.kernel_gradient(x, dy, dkernel, window, channels)
    check_gradients(forward, x, kernel, dy, dx, dkernel, tolerance)


# -------------------- the rule --------------------


def chosen(shape, kernel, padding="same", strides=(1, 1), dilation=(1, 1), dtype="float32"):
    window, height, width = slide(shape, kernel[:2], strides, dilation, padding)
    return conv.algorithm(shape, kernel, (shape[0], height, width, kernel[3]), window, np.dtype(dtype))


@pytest.mark.cpu("the CPU's algorithms")
def test_the_rule_picks_an_algorithm_by_size():
    large = (4, 16, 16, 32), (3, 3, 32, 64)
    assert chosen(*large) == "winograd"
    assert chosen(*large, padding="valid") == "winograd"
    assert chosen(*large, dtype="float64") == "implicit_gemm"
    assert chosen(*large, strides=(1, 2)) == "implicit_gemm"
    assert chosen(*large, dilation=(2, 1)) == "implicit_gemm"
    assert chosen((4, 16, 16, 32), (3, 3, 16, 64)) == "implicit_gemm"  # groups
    assert chosen((4, 16, 16, 32), (3, 1, 32, 64)) == "implicit_gemm"
    assert chosen((4, 16, 16, 15), (3, 3, 15, 64)) == "implicit_gemm"
    assert chosen((4, 16, 16, 16), (3, 3, 16, 16)) == "winograd"
    assert chosen((1, 16, 16, 32), (3, 3, 32, 256)) == "winograd"  # 16 tiles
    assert chosen((1, 16, 12, 32), (3, 3, 32, 256)) == "implicit_gemm"  # 12
    assert chosen((32, 3, 3, 32), (3, 3, 32, 64)) == "winograd"  # tiles filled by 9/16
    assert chosen((32, 5, 5, 32), (3, 3, 32, 64)) == "implicit_gemm"  # by 25/64
    assert chosen((8, 28, 28, 1), (3, 3, 1, 32)) == "direct"
    assert chosen((8, 28, 28, 1), (3, 3, 1, 32), dtype="float64") == "implicit_gemm"
    assert chosen((8, 28, 28, 3), (3, 3, 3, 32)) == "implicit_gemm"
    assert chosen((4, 16, 16, 32), (3, 3, 1, 32)) == "implicit_gemm"
    assert chosen((4, 16, 16, 32), (3, 3, 1, 64)) == chosen((4, 16, 16, 1), (5, 3, 1, 1)) == "implicit_gemm"


@pytest.mark.big
def test_op_agrees_on_both_sides_of_the_rule():
    """The same convolution by Winograd (float32) and by implicit GEMM (float64), through op and vjp."""
    x, kernel, bias = normal(2, 13, 12, 16), normal(3, 3, 16, 16), normal(16)
    check_op(lambda *a: ops.conv2d(*a, padding="same", activation=ops.relu), x, kernel, bias)
    check_op(lambda *a: ops.conv2d(*a), normal(3, 8, 9, 1), normal(3, 3, 1, 5), normal(5))


# -------------------- geometry --------------------


def test_padding_is_tensorflows():
    for length in range(1, 12):
        for size in range(1, 5):
            for stride in range(1, 4):
                for dilation in range(1, 3):
                    window = length, size, stride, dilation
                    out, before = output_length(*window, "same"), padding_before(*window, "same")
                    assert out == -(-length // stride)
                    total = max((out - 1) * stride + (size - 1) * dilation + 1 - length, 0)
                    assert before == total // 2
                    assert padding_before(*window, "causal") == (size - 1) * dilation
    assert output_length(None, 3, 1, 1, "valid") is None
    assert slide((1, 5, 5, 1), (2, 2), (1, 1), (1, 1), "valid")[0] == Window(2, 2, 1, 1, 1, 1, 0, 0)


# -------------------- gradients in float64, replay, destinations --------------------

OPS = {
    "conv2d relu": (lambda x, k, b: ops.conv2d(x, k, b, (2, 1), "same", activation=ops.relu), (2, 5, 6, 3), (3, 2, 3, 4), 4),
    "conv2d tanh": (lambda x, k, b: ops.conv2d(x, k, b, activation=ops.tanh), (2, 5, 6, 3), (3, 2, 3, 4), 4),
    "conv2d no bias": (lambda x, k: ops.conv2d(x, k, dilation_rate=2), (2, 5, 6, 3), (2, 3, 3, 4)),
    "conv2d relu, no bias": (lambda x, k: ops.conv2d(x, k, activation=ops.relu), (2, 5, 6, 3), (2, 3, 3, 4)),
    "conv2d groups": (lambda x, k, b: ops.conv2d(x, k, b), (2, 4, 5, 4), (2, 2, 2, 6), 6),
    "conv2d first": (lambda x, k: ops.conv2d(x, k, data_format="channels_first", padding="same"), (2, 3, 4, 5), (3, 2, 3, 2)),
    "conv1d causal": (lambda x, k, b: ops.conv1d(x, k, b, 1, "causal", 2), (2, 7, 3), (3, 3, 4), 4),
    "conv1d strides": (lambda x, k, b: ops.conv1d(x, k, b, 2, "same"), (2, 7, 3), (3, 3, 4), 4),
    "conv": (lambda x, k: ops.conv(x, k, 2, "same"), (2, 7, 5, 3), (3, 3, 3, 4)),
    "conv3d": (lambda x, k, b: ops.conv3d(x, k, b, (2, 1, 1), "same", (1, 2, 1)), (2, 5, 4, 3, 4), (3, 2, 3, 2, 4), 4),
    "conv3d, one slice": (lambda x, k: ops.conv(x, k, 1, "valid", "channels_first"), (2, 2, 3, 4, 5), (1, 2, 2, 2, 3)),
    "transposed 1d": (lambda x, k: ops.conv_transpose(x, k, 3, "valid", 1, dilation_rate=2), (2, 3, 4), (3, 2, 4)),
    "transposed 2d": (lambda x, k: ops.conv_transpose(x, k, (2, 1), "same"), (2, 5, 4, 3), (3, 2, 2, 3)),
    "transposed 3d": (lambda x, k: ops.conv_transpose(x, k, (1, 2, 3)), (2, 2, 3, 4, 3), (3, 2, 2, 2, 3)),
    "transposed first": (lambda x, k: ops.conv_transpose(x, k, 2, "same", (1, 0), "channels_first"), (2, 3, 4, 2), (3, 3, 2, 3)),
    "depthwise": (lambda x, k: ops.depthwise_conv(x, k, (2, 1), "same"), (2, 6, 5, 3), (3, 2, 3, 2)),
    "depthwise, wide": (lambda x, k: ops.depthwise_conv(x, k, 1, "same", None, (2, 1)), (1, 4, 5, 70), (3, 2, 70, 1)),
    "depthwise 1d": (lambda x, k: ops.depthwise_conv(x, k, 2, "causal", "channels_first"), (2, 3, 7), (3, 3, 1)),
    "separable": (ops.separable_conv, (2, 6, 5, 3), (3, 2, 3, 2), (1, 1, 6, 4)),
    "local 1d": (lambda x, k: ops.local_conv(x, k, 2), (2, 4, 3), (3, 6, 4)),
    "local 2d": (lambda x, k: ops.local_conv(x, k, (2, 3), (1, 2)), (2, 4, 5, 3), (6, 18, 4)),
    "local first": (lambda x, k: ops.local_conv(x, k, (2, 1), 2, "channels_first"), (2, 3, 4, 5), (6, 6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
def test_gradients_of_convolutions(name):
    function, *shapes = OPS[name]
    check_op(function, *[normal(*(shape if isinstance(shape, tuple) else (shape,)), seed=1) for shape in shapes])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("pooling", [ops.max_pool, ops.average_pool])
def test_gradients_of_pooling(pooling, padding):
    check_op(lambda x: pooling(x, 2, padding=padding), normal(2, 7, 6, 3))
    check_op(lambda x: pooling(x, (3, 2), (2, 1), padding), normal(2, 7, 6, 3))
    check_op(lambda x: pooling(x, 3, 2, padding), normal(2, 8, 3))
    check_op(lambda x: pooling(x, (2, 3, 1), (1, 2, 2), padding), normal(2, 3, 4, 5, 2))


@pytest.mark.parametrize("pooling", [ops.adaptive_max_pool, ops.adaptive_average_pool])
def test_gradients_of_adaptive_pooling(pooling):
    check_op(lambda x: pooling(x, 3), normal(2, 7, 3))
    check_op(lambda x: pooling(x, (5, 2), "channels_first"), normal(2, 3, 4, 4))
    check_op(lambda x: pooling(x, (2, 3, 1)), normal(2, 4, 4, 3, 2))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gradients_of_enlarging(interpolation):
    check_op(lambda x: ops.enlarge(x, (3, 2), interpolation), normal(1, 3, 4, 2))


# -------------------- pooling --------------------


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_conv.py and cuda/test_pool.py have the GPU's")
def test_maximum_takes_the_first_of_equals():
    for size in ((2, 2), (3, 3)):  # the kernel for 2x2 side by side, and the general one
        x = np.ones((1, *size, 2), "float32")
        x[0, :, :, 1] = np.arange(size[0] * size[1]).reshape(size) // size[1]
        y, saved = pool.max_pool(x, size, size, "valid")
        (dx,) = pool.max_pool_vjp(saved, np.full_like(y, 5), [True])
        assert dx[0, :, :, 0].ravel().argmax() == 0 and dx[..., 0].sum() == 5
        assert dx[0, size[0] - 1, 0, 1] == 5 and dx[..., 1].sum() == 5


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_conv.py and cuda/test_pool.py have the GPU's")
def test_nan_is_not_hidden():
    for at in range(4):
        x = np.zeros((1, 2, 2, 3), "float32")
        x[0, at // 2, at % 2, 1] = np.nan
        for size in ((2, 2), (1, 2)):
            y, _ = pool.max_pool(x, size, size, "valid")
            assert np.isnan(y).sum() == 1
    y, _ = conv.conv(x, np.ones((1, 1, 3, 2), "float32"), None, (1, 1), (1, 1), "valid", 1, True)
    assert np.isnan(y).sum() == 2  # relu keeps it


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_conv.py and cuda/test_pool.py have the GPU's")
def test_large_pooling_against_numpy():
    x = normal(6, 21, 24, 40).astype("float32")
    y, saved = pool.max_pool(x, (2, 2), (2, 2), "valid")
    parts = x[:, :20].reshape(6, 10, 2, 12, 2, 40)
    np.testing.assert_array_equal(y, parts.max((2, 4)))
    dy = normal(*y.shape).astype("float32")
    (dx,) = pool.max_pool_vjp(saved, dy, [True])
    expected = np.zeros_like(x)
    expected[:, :20] = np.where(parts == y[:, :, None, :, None], dy[:, :, None, :, None], 0).reshape(6, 20, 24, 40)
    np.testing.assert_array_equal(dx, expected)
    y, _ = pool.average_pool(x, (2, 2), (2, 2), "valid")
    np.testing.assert_allclose(y, parts.mean((2, 4)), atol=1e-6)


# -------------------- batches and threads --------------------


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_conv.py and cuda/test_pool.py have the GPU's")
def test_empty_batch():
    x, kernel, bias = (a.astype("float32") for a in (normal(0, 8, 8, 16), normal(3, 3, 16, 16), normal(16)))
    y, saved = conv.conv(x, kernel, bias, (1, 1), (1, 1), "same", 1, True)
    dx, dkernel, dbias = conv.conv_vjp(saved, y, [True, True, True])
    assert y.shape == dx.shape == (0, 8, 8, 16) and not dkernel.any() and not dbias.any()
    for op, vjp in ((pool.max_pool, pool.max_pool_vjp), (pool.average_pool, pool.average_pool_vjp)):
        y, saved = op(x, (2, 2), (2, 2), "valid")
        assert vjp(saved, y, [True])[0].shape == x.shape


def results():
    """The results of every kernel on work large enough to be shared."""
    found = []
    cases = (((8, 24, 24, 32), (3, 3), 1), ((8, 24, 24, 12), (3, 2), 1), ((16, 28, 28, 1), (3, 3), 1))
    for shape, size, groups in (*cases, ((8, 24, 24, 32), (3, 3), 32)):
        sizes = shape, (*size, shape[3] // groups, 32), (32,)
        x, kernel, bias = (normal(*each).astype("float32") for each in sizes)
        y, saved = conv.conv(x, kernel, bias, (1, 1), (1, 1), "same", groups, True)
        found += [y, *conv.conv_vjp(saved, normal(*y.shape).astype("float32"), [True, True, True])]
    for size in ((2, 2), (3, 3)):
        y, saved = pool.max_pool(x, size, (2, 2), "same")
        found += [y, *pool.max_pool_vjp(saved, y, [True])]
    return found


@pytest.mark.cpu("about threads")
def test_results_do_not_depend_on_threads():
    found = by_threads(results)
    for a, b in zip(found[0], found[-1], strict=True):
        np.testing.assert_array_equal(a, b)
