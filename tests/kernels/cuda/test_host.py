"""Kernels that run on the CPU though their arrays are on a GPU: `device.host`, and NumPy's ufuncs without a CUDA kernel."""

import numpy as np
import twins

from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

pytestmark = twins.needs_cuda


@device.host
def running_maximum(x, factor, out, positions):
    """Kernel: out = factor * the largest so far along the last axis; positions, also an input, counts up where it grew."""
    assert isinstance(x, np.ndarray)
    largest = np.maximum.accumulate(x, axis=-1)
    out[...] = factor * largest
    positions[..., 1:] += largest[..., 1:] > largest[..., :-1]


@device.host
@compiled
def doubled(x, out):
    for i in range(x.size):
        out[i] = x[i] + x[i]


def arrays():
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((3, 8)).astype(np.float32),
        np.full((3, 8), np.nan, np.float64),
        np.zeros((3, 8), np.int32),
    )


def test_a_kernel_on_the_host_gives_what_it_gives_on_the_cpu():
    want = arrays()
    running_maximum(want[0], 2.0, want[1], want[2])
    gpu = twins.gpu()
    x, out, positions = twins.to(gpu, arrays())
    with device.on(gpu):
        device.launch(running_maximum, x, 2.0, out, positions)
    for got, expected in zip((x, out, positions), want, strict=True):
        np.testing.assert_array_equal(got.copy(), expected)


def test_views_and_outputs_that_are_inputs():
    gpu, (x, _, _) = twins.gpu(), arrays()
    there = twins.to(gpu, x)
    with device.on(gpu):
        device.launch(np.nextafter, there[:, ::2], there[:, 1::2], there[:, ::2])
        device.launch(doubled, there[1], there[2])
    np.nextafter(x[:, ::2], x[:, 1::2], x[:, ::2])
    x[2] = x[1] + x[1]
    np.testing.assert_allclose(there.copy(), x, rtol=1e-6)


def test_a_program_with_one_is_played_kernel_by_kernel():
    gpu, (x, _, _) = twins.gpu(), arrays()
    recorder = Recorder()
    with device.on(gpu):
        there = twins.to(gpu, x)
        with device.record(recorder):
            y, z, w = (device.empty(x.shape, x.dtype) for _ in range(3))
            device.launch(np.exp, there, y)
            device.launch(np.cbrt, y, z)
            device.launch(np.negative, z, w)
        program = recorder.sealed([w]).bind()
        (result,) = program.outputs
        program.run()
        np.testing.assert_allclose(result.copy(), -np.cbrt(np.exp(x)), rtol=1e-5)
        device.write(there, x[::-1])
        program.run()
        np.testing.assert_allclose(result.copy(), -np.cbrt(np.exp(x[::-1])), rtol=1e-5)
        with device.profile() as profile:
            program.run()
    assert profile.calls["cbrt"] == 1
