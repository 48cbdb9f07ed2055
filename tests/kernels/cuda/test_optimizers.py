"""Optimizer steps on the GPU against those on the CPU, and optimizers as they are used."""

import numpy as np
import pytest
import twins
from optimizer_steps import REFERENCE, SPEC, STEPS, launch, make, split

from nbkeras import optimizers
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import gradients
from nbkeras.kernels import optimizers as optimizers_kernels
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

NAMES = [*STEPS, "nesterov"]


def run(where, name, dtype, size, first_step=0, decay=0.1, special=()):
    """Weights and slots after 5 steps."""
    kernel = STEPS["sgd_momentum" if name == "nesterov" else name]
    rng = np.random.default_rng(0)
    w = rng.standard_normal(size).astype(dtype)
    state = list((0.1 * rng.random((len(kernel.inputs) - 2, size))).astype(dtype))
    if "centered" in name:
        state[0] += 1  # more than the square of the mean
    with device.on(where):
        w, rate, step, product = twins.to(where, (w, np.zeros(1), np.array([first_step]), np.ones(1, dtype)))
        state = [twins.to(where, array) for array in state]
        for i in range(5):
            g = rng.standard_normal(size).astype(dtype)
            g[: len(special)] = special[:size]
            device.write(rate, [0.01 / (i + 1)])
            if name == "nadam":
                optimizers_kernels.launch(optimizers_kernels.nadam_product, product, step, 0.9)
            known = {"rate": rate, "step": step, "product": product, "decay": decay}
            launch(kernel, w, twins.to(where, g), state, known, nesterov=name == "nesterov")
            device.write(step, [first_step + i + 1])
        return twins.host((w, *state, product))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_five_steps(name, dtype):
    for how in ((1, 0, 0.0), (37, 0, 0.1), (301, 1000, 0.1)):
        got, want = (run(where, name, dtype, *how) for where in (twins.gpu(), None))
        twins._same(got, want, name, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_infinity_nan_and_numbers_near_zero(name):
    special = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 1e-38, 1e-42, 3e19)
    got, want = (run(where, name, np.float32, 20, special=special) for where in (twins.gpu(), None))
    twins._same(got, want, name, 1e-6)


def test_none_of_no_elements():
    for name in NAMES:
        assert run(twins.gpu(), name, np.float32, 0)[0].size == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slots_become_zero_before_they_are_subnormal(dtype):
    tiny = np.finfo(dtype).tiny

    def faded(where):
        start = np.array([tiny, 1.05 * tiny, 3 * tiny, -tiny, tiny / 4], dtype)
        w, g, m, v = twins.to(where, (np.zeros(5, dtype), np.zeros(5, dtype), start, np.abs(start)))
        with device.on(where):
            rate, step = twins.to(where, (np.ones(1), np.ones(1, np.int64)))
            optimizers_kernels.launch(optimizers_kernels.adam, w, g, m, v, rate, step, 0.0, 0.9, 0.9, 1e-7)
        return twins.host((m, v))

    for got, want in zip(faded(twins.gpu()), faded(None), strict=True):
        np.testing.assert_array_equal(got, want)
        assert (got != 0).sum() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [0, 2, 3])
@pytest.mark.parametrize("every", [0, 3])
def test_moving_average(dtype, step, every):
    rng = np.random.default_rng(0)
    w, average = rng.standard_normal((2, 91)).astype(dtype)

    def run(where):
        arrays = twins.to(where, (w, average, np.array([step])))
        with device.on(where):
            optimizers_kernels.launch(optimizers_kernels.moving_average, *arrays, 0.75, every)
        return twins.host(arrays)

    twins._same(run(twins.gpu()), run(None), "moving average", 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batches", [1, 2])
def test_gradients_scaled_back_and_added_up(dtype, batches):
    rng = np.random.default_rng(0)
    g, total = rng.standard_normal((2, 91)).astype(dtype)

    def run(where):
        arrays = twins.to(where, (g, total, np.array([batches]), np.zeros(1, np.int64), np.zeros(1, np.int64)))
        g_, total_, count, due, steps = arrays
        with device.on(where):
            optimizers_kernels.launch(gradients.unscale, g_, twins.to(where, np.array([8.0])))
            device.launch(gradients.count_batches, count, 3, due, steps)
            optimizers_kernels.launch(gradients.accumulate, g_, total_, due, 3)
        return twins.host(arrays)

    twins._same(run(twins.gpu()), run(None), "gradients", 1e-6)


@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
@pytest.mark.parametrize("size", [1, 9, 1000])
def test_sums_of_which_one_is_not_finite(size, bad):
    for place in {0, size // 2, size - 1}:
        sums = np.full(size, 1e308)
        if bad is not None:
            sums[place] = bad
        for where in (twins.gpu(), None):
            arrays = twins.to(where, (sums, np.full(1, 7)))
            with device.on(where):
                device.launch(gradients.all_finite, *arrays)
            assert twins.host(arrays)[1] == [bad is None]


@pytest.mark.parametrize("finite, count, expected", [(0, 1, (4, 0)), (1, 1, (8, 2)), (1, 2, (16, 0))])
def test_scales_that_follow_the_gradients(finite, count, expected):
    for where in (twins.gpu(), None):
        arrays = twins.to(where, (np.full(1, finite), np.full(1, 8, np.float32), np.full(1, count)))
        with device.on(where):
            device.launch(gradients.adjust_scale, *arrays, 3)
        _, scale, steps = twins.host(arrays)
        assert (*scale, *steps) == expected


def limited(where, parts, limit):
    """Gradients after their common norm was limited, as optimizers do it."""
    arrays = twins.to(where, tuple(parts))
    with device.on(where):
        optimizers.Optimizer._limit_norm(list(arrays), limit)
    return twins.host(arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1,), (5, 70), (gradients.CHUNK + 3, 2, 2 * gradients.CHUNK)])
def test_norms(dtype, sizes):
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(n).astype(dtype) for n in sizes]
    norm = np.sqrt(sum((p.astype(np.float64) ** 2).sum() for p in parts))
    for limit in (0.5 * norm, 2 * norm):
        got = limited(twins.gpu(), parts, limit)
        twins._same(got, limited(None, parts, limit), "limited", 1e-6)
        for part, whole in zip(got, parts, strict=True):
            np.testing.assert_allclose(part, whole * min(1, limit / norm), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0.0])
def test_norms_of_numbers_out_of_the_ordinary(value):
    parts = [np.array([1, value, 2], np.float32), np.ones(70, np.float32)]
    np.testing.assert_array_equal(
        np.concatenate(limited(twins.gpu(), parts, 1.0)), np.concatenate(limited(None, parts, 1.0))
    )


def test_clipping_and_weight_decay():
    values = np.array([[np.nan, np.inf, -np.inf], [0.5, -0.5, 2], [-2, 0, 0.25]], np.float32)

    def run(where):
        g, w, rate = twins.to(where, (values, values, np.array([0.5])))
        with device.on(where):
            optimizers_kernels.launch(gradients.clip, g.reshape(-1), 0.5)
            optimizers_kernels.launch(optimizers_kernels.shrink, w.reshape(-1), rate, 0.1)
        return twins.host((g, w))

    for got, want in zip(run(twins.gpu()), run(None), strict=True):
        np.testing.assert_array_equal(got, want)


# -------------------- optimizers --------------------


@pytest.mark.parametrize("case", SPEC["optimizers"])
def test_optimizers_equal_keras_eager_and_replayed(case):
    """Clipping, averages and schedules too, with the state read back."""
    with device.on(twins.gpu()):
        optimizer, recorder = make(case), Recorder()
        variables = [Variable(part, name=f"w{i}") for i, part in enumerate(split(REFERENCE["weights"]))]
        optimizer.build(variables)
        for step, gradients in enumerate(REFERENCE["gradients"]):
            for view, gradient in zip(optimizer.gradient_views, split(gradients), strict=True):
                device.write(view, gradient)
            if step == 0:
                with device.record(recorder):
                    optimizer.update()
                program = recorder.sealed([]).bind()
            else:
                program.run()
            found = np.concatenate([v.numpy().reshape(-1) for v in variables])
            np.testing.assert_allclose(found, REFERENCE[f"{case}.float32"][step], rtol=1e-5, atol=1e-6)
        assert int(optimizer.iterations) == len(REFERENCE["gradients"]) // (optimizer.gradient_accumulation_steps or 1)
        state = optimizer.get_weights()
        optimizer.set_weights(state)
    for again, before in zip(optimizer.get_weights(), state, strict=True):
        np.testing.assert_array_equal(again, before)
