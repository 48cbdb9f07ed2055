"""Batch, layer and RMS normalization: formulas, gradients, accuracy, moving statistics, masks, and equality with Keras."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from in_threads import by_threads
from mistakes import mistakes
from normalization_cases import CASES

from nbkeras import initializers, layers, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable, as_tensor
from nbkeras.kernels import normalization
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

RNG = np.random.default_rng(0)
SHAPES = [((6, 5), -1), ((4, 3, 3, 4), -1), ((4, 3, 5), 1), ((64, 7), 1)]
SHAPES += [pytest.param(*large, marks=pytest.mark.big) for large in (((40, 41, 19), -1), ((512, 96), 1))]


def normal(*shape):
    return RNG.standard_normal(shape)


def training(axis, channels, mask=None):
    """Batch normalization in training, as a function of x, scale and offset."""

    def function(x, scale, offset):
        moving = [Variable(np.full(channels, n), trainable=False, dtype=x.dtype) for n in (0.0, 1.0)]
        return ops.batch_normalization_training(x, *moving, axis, offset, scale, mask=mask)

    return function


# -------------------- formulas and gradients --------------------


@pytest.mark.parametrize(("shape", "groups", "axis"), [((3, 4, 5, 6), 2, -1), ((2, 5, 6), 6, -1), ((3, 4, 2, 3), 2, 1)])
def test_group_normalization(shape, groups, axis):
    x, n = 2 * normal(*shape) + 3, shape[axis]
    check_op(lambda x, gamma, beta: ops.group_normalization(x, groups, gamma, beta, axis), x, normal(n), normal(n))
    check_op(lambda x: ops.group_normalization(x, groups, axis=axis), x)
    first = np.moveaxis(x, axis, 1).reshape(shape[0], groups, -1)
    expected = (first - first.mean(2, keepdims=True)) / np.sqrt(first.var(2, keepdims=True) + 1e-3)
    found = np.moveaxis(ops.group_normalization(x, groups, axis=axis).numpy(), axis, 1)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.cpu("a GPU composes it of ops, whose means are float32 numbers")
def test_group_normalization_in_blocks():
    """Each sample has enough positions for several blocks, with values far from 0."""
    x = (normal(2, 2500, 32) + 1000).astype("float32")
    y, exact = (ops.group_normalization(t, 4).numpy() for t in (x, x.astype("float64")))
    np.testing.assert_allclose(y, exact, rtol=1e-4, atol=1e-4)


def test_group_normalization_of_nothing():
    x = normal(2, 25, 32).astype("float32")
    assert ops.group_normalization(x[:0], 4).shape == (0, 25, 32)
    with pytest.raises(ValueError, match="cannot cut axis 2"):
        ops.group_normalization(x, 5)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_batch_normalization_gradients(shape, axis):
    n = shape[axis]
    check_op(training(axis, n), 3 * normal(*shape) + 2, normal(n), normal(n))

    def inference(x, mean, variance, offset, scale):
        return ops.batch_normalization(x, mean, variance, axis, offset, scale)

    check_op(inference, normal(*shape), normal(n), RNG.random(n) + 0.1, normal(n), normal(n))


def test_batch_normalization_without_scale_or_offset():
    check_op(lambda x: training(-1, 5)(x, None, None), normal(8, 5))
    check_op(lambda x, m, v: ops.batch_normalization(x, m, v, -1), normal(8, 5), normal(5), RNG.random(5) + 0.1)


@pytest.mark.parametrize("shape", [(4, 5, 3), pytest.param((40, 50, 19), marks=pytest.mark.big)])
def test_masked_batch_normalization(shape):
    mask = RNG.random(shape[:-1]) < 0.6
    n = shape[-1]
    check_op(training(-1, n, mask), normal(*shape), normal(n), normal(n))
    x = normal(*shape)
    moving_mean, moving_variance = Variable(np.zeros(n), trainable=False), Variable(np.zeros(n), trainable=False)
    y = ops.batch_normalization_training(x, moving_mean, moving_variance, -1, momentum=0.0, mask=mask)
    mean, variance = x[mask].mean(0), x[mask].var(0)
    assert np.allclose(y.numpy(), (x - mean) / np.sqrt(variance + 1e-3))
    assert np.allclose(moving_mean.numpy(), mean) and np.allclose(moving_variance.numpy(), variance)


@pytest.mark.parametrize(("shape", "axis"), [((5, 2, 3), 1), ((4, 3, 2, 3), 2), ((6, 4), 0)])
def test_masked_normalization_of_another_axis(shape, axis):
    """Each index of the axis is normalized by itself; masked values may be anything."""
    mask, n = RNG.random(shape[:-1]) < 0.7, shape[axis]
    check_op(training(axis, n, mask), normal(*shape), normal(n), normal(n))
    x = normal(*shape)
    kept = np.broadcast_to(mask[..., None], shape)
    moving = [Variable(np.zeros(n), trainable=False) for _ in range(2)]
    given = np.where(kept, x, np.nan)
    y = ops.batch_normalization_training(given, *moving, axis, momentum=0.5, mask=mask).numpy()
    for index in range(n):
        place = (slice(None),) * axis + (index,)
        values = x[place][kept[place]]
        mean, variance = (values.mean(), values.var()) if values.size else (0.0, 0.0)
        expected = (x[place] - mean) / np.sqrt(variance + 1e-3)
        np.testing.assert_allclose(y[place][kept[place]], expected[kept[place]], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose([m.numpy()[index] for m in moving], [mean / 2, variance / 2], rtol=1e-6)


def test_a_mask_is_broadcast():
    x, mask = normal(4, 5, 2, 3), RNG.random((4, 1, 1)) < 0.5
    layer, other = layers.BatchNormalization(), layers.BatchNormalization()
    y = layer(x, training=True, mask=mask).numpy()
    np.testing.assert_array_equal(y, other(x, training=True, mask=np.broadcast_to(mask, (4, 5, 2))).numpy())
    np.testing.assert_array_equal(layer.moving_mean.numpy(), other.moving_mean.numpy())


def test_mask_that_leaves_nothing():
    mean, variance = Variable(np.ones(3), trainable=False), Variable(np.ones(3), trainable=False)
    y = ops.batch_normalization_training(normal(4, 3), mean, variance, -1, momentum=0.5, mask=np.zeros(4, bool))
    assert np.isfinite(y.numpy()).all()
    assert np.allclose(mean.numpy(), 0.5) and np.allclose(variance.numpy(), 0.5)
    ops.batch_normalization_training(np.full((4, 3), np.nan), mean, variance, -1, momentum=0.5, mask=np.zeros(4, bool))
    assert np.allclose(mean.numpy(), 0.25) and np.allclose(variance.numpy(), 0.25)


def test_no_rows():
    mean, variance, ones = (Variable(np.ones(3), trainable=trainable) for trainable in (False, False, True))
    with GradientTape(persistent=True) as tape:
        outputs = [ops.batch_normalization_training(np.zeros((0, 3)), mean, variance, -1, ones, ones, momentum=0.5)]
        outputs.append(ops.layer_normalization(np.zeros((0, 3)), ones, ones))
    assert np.allclose(mean.numpy(), 0.5) and np.allclose(variance.numpy(), 0.5)
    for y in outputs:
        assert y.shape == (0, 3) and np.array_equal(tape.gradient(y, ones).numpy(), np.zeros(3))


@pytest.mark.parametrize(("shape", "axis"), [*SHAPES, ((3, 4, 5, 2), [1, 2]), ((3, 4, 5, 2), [3, 1])])
def test_layer_and_rms_normalization_gradients(shape, axis):
    sizes = tuple(shape[i] for i in ([axis] if isinstance(axis, int) else sorted(axis)))
    x = 2 * normal(*shape) + 1
    check_op(lambda x, g, b: ops.layer_normalization(x, g, b, axis, 1e-3), x, normal(*sizes), normal(*sizes))
    check_op(lambda x, g: ops.rms_normalization(x, g, axis, 1e-3), x, normal(*sizes))


def test_layer_normalization_formulas():
    x = 2 * normal(3, 4, 5) + 1
    y = ops.layer_normalization(x, axis=[0, 2], epsilon=0.1).numpy()
    mean, variance = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    assert np.allclose(y, (x - mean) / np.sqrt(variance + 0.1))
    y = ops.rms_normalization(x, epsilon=0.1).numpy()
    assert np.allclose(y, x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1))


# -------------------- accuracy --------------------


@pytest.mark.parametrize("rows", [1000, 100_003])
def test_float32_statistics_of_data_far_from_zero(rows):
    x = (np.random.default_rng(0).standard_normal((rows, 3)) * [0.5, 1, 2] + [1000, -300, 0]).astype("float32")
    mean, variance = (Variable(np.zeros(3, "float32"), trainable=False) for _ in range(2))
    ops.batch_normalization_training(x, mean, variance, -1, momentum=0.0)
    exact = x.astype("float64")
    assert np.allclose(mean.numpy(), exact.mean(0), rtol=1e-6, atol=1e-6)
    assert np.allclose(variance.numpy(), exact.var(0), rtol=1e-5)


def test_float32_layer_normalization_of_data_far_from_zero():
    x = (RNG.standard_normal((5, 1000)) + 100).astype("float32")
    exact = x.astype("float64")
    expected = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    assert np.allclose(ops.layer_normalization(x, epsilon=0.0).numpy(), expected, atol=1e-4)


def test_nan_stays_in_its_channel_and_its_sample():
    x = normal(6, 4)
    x[2, 1] = np.nan
    y = training(-1, 4)(as_tensor(x), None, None).numpy()
    assert np.isnan(y[:, 1]).all() and np.isfinite(np.delete(y, 1, axis=1)).all()
    y = ops.layer_normalization(x).numpy()
    assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, axis=0)).all()


@pytest.mark.cpu("about threads")
def test_results_do_not_depend_on_the_number_of_threads():
    x, seeds = normal(900, 128).astype("float32"), normal(900, 128).astype("float32")

    def results():
        variables = [Variable(a) for a in (x, np.ones(128, "float32"), np.zeros(128, "float32"))]
        with GradientTape(persistent=True) as tape:
            outputs = [training(-1, 128)(*variables), ops.layer_normalization(*variables)]
        gradients = [tape.gradient(y, variables, output_gradients=seeds) for y in outputs]
        return [array.numpy() for array in (*outputs, *gradients[0], *gradients[1])]

    first, *others = by_threads(results)
    for other in others:
        np.testing.assert_equal(other, first)


# -------------------- layers --------------------


@functools.cache
def stored() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "reference" / "normalization.npz", allow_pickle=False) as file:
        return dict(file)


def close(received, expected) -> bool:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return np.allclose(
        received.numpy() if hasattr(received, "numpy") else received, expected, rtol=0, atol=1e-5 * scale
    )


@pytest.mark.parametrize("name", CASES)
def test_equal_to_keras(name):
    case = CASES[name]
    keras = {key.removeprefix(f"{name}/"): value for key, value in stored().items() if key.startswith(f"{name}/")}
    layer, x = case.make(layers), as_tensor(keras["x"])
    arguments = {"training": True} if "training" in case.takes else {}
    arguments |= {"mask": keras["mask"]} if "mask" in keras else {}
    layer(x)
    layer.set_weights([keras[f"before{i}"] for i in range(len(layer.weights))])
    layer(x, **arguments)
    with GradientTape() as tape:
        if x.dtype.kind == "f":
            tape.watch(x)
        y = layer(x, **arguments)
    sources = ([x] if x.dtype.kind == "f" else []) + layer.trainable_weights
    gradients = tape.gradient(y, sources, output_gradients=keras["dy"])
    assert close(y, keras["y"])
    for i, gradient in enumerate(gradients):
        assert close(gradient, keras[f"gradient{i}"]), f"gradient {i}"
    for i, weight in enumerate(layer.get_weights()):
        assert close(weight, keras[f"after{i}"]), f"weight {i}"
    assert close(layer(x), keras["inference"])


def test_frozen_batch_normalization_runs_in_inference_mode():
    layer, x = layers.BatchNormalization(), normal(6, 3).astype("float32")
    layer(x)
    layer.trainable = False
    assert np.array_equal(layer(x, training=True).numpy(), layer(x).numpy())
    assert np.array_equal(layer.moving_mean.numpy(), np.zeros(3))
    layer.trainable = True
    assert not np.array_equal(layer(x, training=True).numpy(), layer(x).numpy())
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]


def renormalized(factor):
    """Renormalization with r = factor and d = 0, as a function of x, gamma and beta."""

    def function(x, gamma, beta):
        layer = layers.BatchNormalization(
            1, renorm=True, renorm_clipping={"rmax": factor, "rmin": factor, "dmax": 0}, dtype=x.dtype.name
        )
        layer.build(x.shape)
        layer.gamma, layer.beta = gamma, beta
        return layer(x, training=True)

    return function


def test_gradients_of_renormalization():
    x = 2 * normal(3, 4, 2) + 3
    check_op(renormalized(1.3), x, normal(4), normal(4))
    plain = training(1, 4)(as_tensor(x), None, None)
    np.testing.assert_allclose(renormalized(1.0)(as_tensor(x), np.ones(4), np.zeros(4)), plain, rtol=1e-12)


def test_weights_of_renormalization_are_keras_s():
    layer = layers.BatchNormalization(renorm=True, moving_variance_initializer=initializers.Constant(4.0))
    layer.build((None, 3))
    names = ["gamma", "beta", "moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"]
    assert [weight.name for weight in layer.weights] == names
    assert [float(weight.numpy()[0]) for weight in layer.weights] == [1, 0, 0, 4, 2, 0, 2]
    layer.trainable = False
    assert np.array_equal(layer(np.ones((2, 3)), training=True), layer(np.ones((2, 3))))


@pytest.mark.parametrize("renorm", [False, True])
def test_replay_moves_the_statistics(renorm):
    layer, eager = (layers.BatchNormalization(momentum=0.5, renorm=renorm) for _ in range(2))
    x, recorder = device.persistent(normal(6, 3).astype("float32")), Recorder()
    layer(x), eager(x)
    with device.record(recorder):
        y = layer(x, training=True)
    program = recorder.sealed([y.data]).bind()
    (played,) = program.outputs
    eager(x, training=True)
    for _ in range(2):
        device.write(x, normal(6, 3))
        program.run()
        assert np.array_equal(played.copy(), eager(x, training=True).numpy())
        for moving, expected in zip(layer.get_weights(), eager.get_weights(), strict=True):
            assert np.array_equal(moving, expected)


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(1, 0.9, 1e-4, False, True, gamma_regularizer="l2", gamma_constraint="non_neg"),
        layers.BatchNormalization(renorm=True, renorm_clipping={"dmax": 2.0}, renorm_momentum=0.5, name="renorm"),
        layers.LayerNormalization([1, 2], scale=False, beta_initializer="ones"),
        layers.RMSNormalization(epsilon=1e-4),
    ],
    ids=lambda layer: layer.name,
)
def test_configuration_survives_json(layer):
    config = json.loads(json.dumps(layer.get_config()))
    assert type(layer).from_config(config).get_config() == config
    layer(normal(3, 4, 5))
    assert json.loads(json.dumps(layer.get_config())) == config
    assert layer.compute_output_shape((None, 4, 5)) == (None, 4, 5)


def test_mask_passes_through():
    x = as_tensor(normal(2, 4, 3).astype("float32"))
    x.mask = as_tensor(np.array([[True, True, False, False], [True, False, False, False]]))
    for layer in (layers.BatchNormalization(), layers.LayerNormalization(), layers.GroupNormalization(1)):
        assert layer(x).mask is x.mask
    with pytest.warns(UserWarning, match="the mask ends here"):  # as in Keras
        assert layers.RMSNormalization()(x).mask is None


test_mistakes_are_explained = mistakes(
    [
        (lambda: layers.BatchNormalization(axis=[1, 2]), "axis must be one integer"),
        (lambda: layers.BatchNormalization(momentum=2), "momentum must be a number from 0 to 1"),
        (lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"min": 1}), "with the keys rmax, rmin, dmax"),
        (
            lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"rmax": 1, "rmin": 2}),
            "renorm_clipping needs rmax >= rmin and dmax >= 0, received {'rmax': 1, 'rmin': 2}",
        ),
        (lambda: layers.BatchNormalization(axis=3)(normal(2, 3)), r"axis 3, which an input of shape \(2, 3\) lacks"),
        (lambda: layers.BatchNormalization().build((4, None)), "its size must be known"),
        (lambda: layers.LayerNormalization(axis="last"), "axis must be an integer or a list of integers"),
        (lambda: ops.layer_normalization(normal(2, 3), np.ones(2)), r"shape of axes \(1,\), \(3,\); received \(2,\)"),
        (lambda: ops.batch_normalization(normal(2, 3), np.ones(2), np.ones(2), 1), "axis 1 of x has size 3"),
        (
            lambda: training(1, 3, np.ones((2, 3), bool))(as_tensor(normal(2, 3)), None, None),
            "a mask must broadcast to x's shape",
        ),
        (lambda: layers.GroupNormalization(0), "groups must be a positive integer or -1, received 0"),
        (lambda: layers.GroupNormalization(1.5), "groups must be a positive integer or -1, received 1.5"),
        (
            lambda: ops.group_normalization(normal(2, 4), 2, np.ones(3)),
            r"gamma and beta must have shape \(4,\), received \(3,\)",
        ),
        (
            lambda: ops.batch_normalization_training(normal(2, 3), np.ones(3), np.ones(3), 1),
            "the moving statistics are Variables, received ndarray",
        ),
        (
            lambda: ops.batch_normalization_training(
                np.ones((2, 3), "float32"), *[Variable(np.ones(3), dtype="float64")] * 2, 1
            ),
            "the moving statistics have dtype float64, x has float32",
        ),
    ],
    (ValueError, TypeError),
)


class Exchanged:
    """Sums over ranks of a process that plays all of them: it notes what a rank gives, and returns what it is told."""

    def __init__(self, rank, has_rows, told=()):
        self.rank, self.size, self.has_rows, self.told, self.given = rank, 3, has_rows, list(told), []

    def launch_sum(self, array):
        self.given.append(array.copy())
        if self.told:
            array[...] = self.told.pop(0)

    launch_gradient_sum = launch_sum


@pytest.mark.cpu("the ranks of this test exchange arrays in the memory of one process")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("channels", "cuts"), [(3, (4, 9)), (5, (8, 8)), (1, (1, 2))])
def test_batch_normalization_over_ranks(channels, cuts, masked):
    x, dy, gamma, beta = normal(24, channels) + 5, normal(24, channels), normal(channels), normal(channels)
    mask = RNG.uniform(size=24) < 0.7 if masked else None
    places = [slice(first, max(last, first + 1)) for first, last in zip((0, *cuts), (*cuts, 24), strict=True)]
    counts = [first != last for first, last in zip((0, *cuts), (*cuts, 24), strict=True)]

    def run(rows, ranks):
        moving = [np.zeros(channels), np.ones(channels)]
        given = [x[rows].copy(), gamma, beta, *moving, None if mask is None else mask[rows].copy(), 0.9, 1e-3]
        y, saved = normalization.batch_normalization_training(*given, ranks)
        part = dy[rows] * (ranks is None or ranks.has_rows)  # the loss of a rank without rows counts nothing
        dx, *others = normalization.batch_normalization_training_vjp(saved, part, (True,) * 3)[:3]
        return [y, dx, *others, *moving]

    whole, told = run(slice(None), None), []
    for _ in range(2):  # forward and backward
        ranks = [Exchanged(rank, count, told) for rank, count in enumerate(counts)]
        parts = [run(rows, each) for rows, each in zip(places, ranks, strict=True)]
        told.append(np.sum([each.given[len(told)] for each in ranks], axis=0))
    ranks = [Exchanged(rank, count, told) for rank, count in enumerate(counts)]
    parts = [run(rows, each) for rows, each in zip(places, ranks, strict=True)]
    for rows, part, count in zip(places, parts, counts, strict=True):
        np.testing.assert_allclose(part[0], whole[0][rows], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(part[1], whole[1][rows] * count, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(part[4:], whole[4:], rtol=1e-12)
    for number in (2, 3):
        np.testing.assert_allclose(sum(part[number] for part in parts), whole[number], rtol=1e-10, atol=1e-12)
