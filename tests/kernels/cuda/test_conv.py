"""Convolution on the GPU against the CPU: every tile, window, padding and grouping, loads of one and of four, sums in parts."""

import functools

import arrays
import numpy as np
import pytest
import twins

from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.convolution import conv, unfold, volumes
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda
normal = functools.partial(arrays.normal, dtype="float32")


def check(shape, size, units, strides=(1, 1), dilation=(1, 1), padding="valid", groups=1, **options):
    dtype, bias, relu = options.get("dtype", "float32"), options.get("bias", True), options.get("relu", False)
    x, kernel = normal(*shape, dtype=dtype), normal(*size, shape[3] // groups, units, dtype=dtype)
    constants = {"strides": strides, "dilation": dilation, "padding": padding, "groups": groups, "relu": relu}
    arrays = [x, kernel, normal(units, dtype=dtype) if bias else None]
    needs = options.get("needs", (True, True, bias))
    twins.check(conv.conv, conv.conv_vjp, arrays, constants, needs, options.get("rtol"))


WINDOWS = {
    "1x1": ((2, 5, 4, 3), (1, 1)),
    "1x1, strides": ((2, 5, 4, 4), (1, 1), (2, 3)),
    "same": ((2, 5, 4, 3), (3, 3), (1, 1), (1, 1), "same"),
    "same, even kernel": ((2, 6, 7, 4), (2, 4), (1, 1), (1, 1), "same"),
    "strides": ((3, 9, 8, 2), (3, 2), (2, 3), (1, 1), "same"),
    "stride of the kernel": ((1, 8, 9, 4), (2, 3), (2, 3)),
    "stride past the kernel": ((1, 9, 8, 2), (1, 2), (3, 4)),
    "stride past the image": ((2, 3, 2, 1), (2, 2), (5, 4), (1, 1), "same"),
    "dilation": ((2, 9, 10, 3), (3, 2), (1, 1), (3, 2)),
    "dilation and strides": ((2, 9, 10, 3), (3, 2), (2, 1), (1, 3), "same"),
    "dilation and strides with a common factor": ((1, 11, 13, 2), (3, 3), (4, 6), (2, 4), "same"),
    "causal": ((2, 1, 9, 3), (1, 3), (1, 1), (1, 2), "causal"),
    "causal, strides": ((2, 1, 9, 4), (1, 4), (1, 2), (1, 1), "causal"),
    "kernel as large as the image": ((2, 4, 3, 2), (4, 3)),
    "one channel": ((2, 6, 5, 1), (3, 3), (1, 1), (1, 1), "same"),
    "many channels": ((1, 4, 3, 20), (2, 2)),
}


@pytest.mark.parametrize("units", [5, 12])  # small tiles, medium ones
@pytest.mark.parametrize("case", WINDOWS)
def test_windows(case, units):
    check(WINDOWS[case][0], WINDOWS[case][1], units, *WINDOWS[case][2:])


@pytest.mark.parametrize("case", ["same", "strides", "dilation and strides", "same, even kernel"])
def test_float64(case):
    shape, size, *window = WINDOWS[case]
    check(shape, size, 6, *window, dtype="float64", relu=True)


@pytest.mark.parametrize("units", [6, 12, 24])
@pytest.mark.parametrize("channels", [6, 12])
def test_groups(channels, units):
    check((2, 4, 5, channels), (2, 3), units, (1, 2), padding="same", groups=3, relu=True)
    check((1, 4, 3, channels), (2, 2), units, groups=channels // 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_channel_a_group(dtype):
    check((2, 4, 5, 5), (3, 3), 5, (1, 1), (1, 1), "same", 5, dtype=dtype, relu=True)
    check((2, 5, 7, 3), (3, 2), 6, (2, 3), (1, 2), "valid", 3, dtype=dtype, bias=False)
    check((3, 9, 8, 2), (1, 2), 2, padding="same", groups=2, dtype=dtype)  # sums in parts


TRANSPOSED = {  # x, kernel (its size, units), strides, dilation, before, lengths
    "no stride": ((2, 3, 4, 3), (3, 2, 2), (1, 1), (1, 1), (1, 0), (3, 5)),
    "strides": ((2, 3, 4, 3), (3, 2, 5), (2, 3), (1, 1), (0, 0), (7, 12)),
    "longer than what windows reach": ((1, 2, 3, 4), (1, 2, 4), (3, 2), (1, 1), (0, 1), (7, 9)),
    "dilation": ((1, 3, 4, 5), (2, 3, 3), (1, 2), (3, 1), (1, 1), (5, 8)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case, dtype):
    shape, size, *window = TRANSPOSED[case]
    arrays = normal(*shape, dtype=dtype), normal(*size, shape[3], dtype=dtype)
    constants = dict(zip(("strides", "dilation", "before", "lengths"), window, strict=True))
    twins.check(conv.conv_transpose, conv.conv_transpose_vjp, arrays, constants)


LINES = {  # length, line: size, stride, dilation, before, windows
    "side by side": (6, (2, 2, 1, 0, 3)),
    "overlapping": (5, (3, 1, 1, 1, 5)),
    "dilation and strides": (7, (3, 2, 2, 3, 4)),
    "apart": (8, (2, 4, 1, 0, 2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("between", [(3, 1), (1, 2)])
@pytest.mark.parametrize("case", LINES)
def test_windows_along_an_axis(case, between, dtype):
    length, line = LINES[case][0], unfold.Line(*LINES[case][1])
    twins.check(unfold.unfold, unfold.unfold_vjp, [normal(2, length, *between, 3, dtype=dtype)], {"line": line})


VOLUMES = {  # strides, dilation, padding, groups; before, lengths
    "every slice": (((1, 1, 1), (1, 1, 1), "same", 1), ((1, 0, 1), (3, 4, 3))),
    "strides and groups": (((2, 1, 2), (1, 1, 1), "valid", 2), ((0, 0, 1), (6, 4, 5))),
    "dilation": (((1, 2, 1), (2, 1, 1), "same", 1), ((2, 0, 0), (3, 6, 4))),
}


@pytest.mark.parametrize("case", VOLUMES)
def test_volumes(case):
    (strides, dilation, padding, groups), (before, lengths) = VOLUMES[case]
    x, kernel = normal(2, 3, 3, 3, 4), normal(2, 2, 1, 4 // groups, 4)
    window = {"strides": strides, "dilation": dilation}
    constants = {**window, "padding": padding, "groups": groups, "relu": True}
    twins.check(volumes.conv, volumes.conv_vjp, [x, kernel, normal(4)], constants)
    constants = {**window, "before": before, "lengths": lengths}
    twins.check(volumes.conv_transpose, volumes.conv_transpose_vjp, [x, normal(2, 2, 1, 3, 4)], constants)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_epilogues(bias, relu):
    check((2, 5, 4, 3), (2, 2), 7, bias=bias, relu=relu)
    check((1, 3, 3, 40), (2, 2), 4, bias=bias, relu=relu)  # sums in parts


def test_large_tiles():
    check((4, 6, 8, 4), (2, 2), 36, relu=True, padding="same")
    check((4, 6, 8, 3), (1, 2), 33, (1, 2))


def test_winograd_on_the_cpu():
    check((2, 8, 8, 16), (3, 3), 16, padding="same", rtol=1e-4)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
@pytest.mark.parametrize("relu", [False, True])
def test_needs(needs, relu):
    check((2, 3, 4, 2), (2, 2), 3, needs=needs, relu=relu)


def test_arrays_that_start_anywhere():
    """Views of a flat buffer, as weights and their gradients are, lie at any multiple of four bytes."""
    arrays = normal(2, 4, 5, 4), normal(2, 2, 4, 8)

    def placed(where):
        with device.on(where):
            views = []
            for array in arrays:
                buffer = device.persistent(np.zeros(array.size + 3, "float32"))
                views.append(buffer[3:].reshape(array.shape))
                device.write(views[-1], array)
            y, saved = conv.conv(*views, None, (1, 1), (1, 1), "same", 1, False)
            target = device.persistent(np.zeros(arrays[1].size + 1, "float32"))[1:].reshape(arrays[1].shape)
            dy = device.persistent(normal(2, 4, 5, 8, seed=1))
            return twins.host((y, *conv.conv_vjp(saved, dy, [True, target, False])[:2]))

    for found, expected in zip(placed(twins.gpu()), placed(None), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_nan_is_not_hidden():
    x = np.zeros((1, 2, 2, 3), "float32")
    x[0, 1, 0, 1] = np.nan
    arrays = x, np.ones((1, 1, 3, 2), "float32"), None
    constants = {"strides": (1, 1), "dilation": (1, 1), "padding": "valid", "groups": 1, "relu": True}
    y, _, _ = twins.run(twins.gpu(), conv.conv, None, arrays, constants, None)
    assert np.isnan(y).sum() == 2


def test_empty_batch():
    check((0, 4, 4, 3), (3, 3), 5, padding="same", relu=True)
    check((0, 4, 4, 3), (3, 3), 3, groups=3)


def test_the_same_bits_each_time():
    arrays = normal(2, 5, 6, 8), normal(3, 3, 8, 9), normal(9)
    constants = {"strides": (2, 1), "dilation": (1, 1), "padding": "same", "groups": 1, "relu": True}
    runs = [twins.run(twins.gpu(), conv.conv, conv.conv_vjp, arrays, constants, None) for _ in range(2)]
    for a, b in zip((runs[0][0], *runs[0][1]), (runs[1][0], *runs[1][1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_too_large():
    from nbkeras.kernels.cuda.convolution import implicit_gemm as implicit_gemm_cuda
    from nbkeras.kernels.cuda.convolution import unfold as unfold_cuda

    with device.on(twins.gpu()), pytest.raises(ValueError, match="fewer than 2\\*\\*31 elements"):
        array = device.empty((8,), np.float32)
        huge = array.at(0, (1 << 16, 1 << 15), np.float32)
        implicit_gemm_cuda._flat(huge)
    with device.on(twins.gpu()), pytest.raises(ValueError, match="fewer than 2\\*\\*31 elements"):
        unfold_cuda.fold_rows(huge.reshape(1, 1 << 16, 1, 1, 1, 1 << 15), array.reshape(1, 8, 1, 1, 1), 1, 1, 0)


def test_replay():
    """A recorded convolution with its gradients, played again over planned memory with another x."""
    shapes = (2, 5, 6, 4), (3, 3, 4, 8), (8,)
    with device.on(twins.gpu()):
        x, kernel, bias = (device.persistent(normal(*shape)) for shape in shapes)
        recorder = Recorder()
        with device.record(recorder):
            y, saved = conv.conv(x, kernel, bias, (1, 1), (1, 1), "same", 1, True)
            program = recorder.sealed([y, *conv.conv_vjp(saved, y, (True, True, True))]).bind()
            found = program.outputs
        device.write(x, normal(*shapes[0], seed=1))
        program.run()
        y, saved = conv.conv(x, kernel, bias, (1, 1), (1, 1), "same", 1, True)
        for array, expected in zip(found, [y, *conv.conv_vjp(saved, y, (True, True, True))], strict=True):
            np.testing.assert_array_equal(array.copy(), expected.copy())
