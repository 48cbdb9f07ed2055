"""Each kernel separately, with a floor: `pytest benchmarks --benchmark-enable` (in an editable install).

A kernel's time is the time of its recorded launches, replayed over the same arrays as in a training step. The floor estimates the
machine's minimum time: numpy.matmul for the same products, or np.copyto of the bytes that must be read and written (on one
thread; a copy also reads the memory that it overwrites, so a kernel may be faster). The ratio of the two minimum times is in
`extra_info`, and in the table at the end. NBKERAS_BENCH=smallest makes all sizes tiny, to check that everything runs.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from nbkeras.engine.tensor import Variable
from nbkeras.kernels import (
    activations,
    dense,
    elementwise,
    embedding,
    indexing,
    losses,
    metrics,
    normalization,
    pool,
    random,
    reduce,
    shape,
    softmax,
)
from nbkeras.kernels.convolution import conv
from nbkeras.kernels.recurrent import gru, lstm, recurrence, simple_rnn
from nbkeras.kernels.runtime import device
from nbkeras.optimizers import SGD, Adagrad, Adam, RMSprop

SMALLEST = os.environ.get("NBKERAS_BENCH") == "smallest"
WAYS = ["forward", "backward"]
RANDOM = np.random.default_rng(0)
FLOOR_SECONDS, SETTLE_SECONDS = 0.05, 0.05  # NumPy's BLAS threads stay busy for a while after their work
pytestmark = pytest.mark.benchmark(max_time=0.2, min_rounds=5, warmup=True, warmup_iterations=3)


def some(size: int) -> int:
    """The size; with NBKERAS_BENCH=smallest at most 8."""
    return min(size, 8) if SMALLEST else size


def floats(*sizes: int) -> np.ndarray:
    return exactly(*map(some, sizes))


def exactly(*sizes: int) -> np.ndarray:
    """Random numbers of a shape that depends on other shapes."""
    return RANDOM.standard_normal(sizes, dtype="float32")


def integers(below: int, *sizes: int, dtype="int64") -> np.ndarray:
    return RANDOM.integers(0, some(below), [some(size) for size in sizes]).astype(dtype)


class Launches:
    """Records launches and replays them."""

    reason = "it is replayed over the same values, so they may be read"

    def __init__(self, function: Callable[[], object]):
        self.steps: list[tuple] = []
        with device.record(self):
            self.kept = function()

    def allocated(self, array: np.ndarray) -> np.ndarray:
        return array

    def launched(self, function: Callable, args: tuple) -> None:
        self.steps.append((function, args))

    def __call__(self) -> None:
        device.play(self.steps)


def job(module, name: str, way: str, *arguments, needs=(True,) * 6) -> Callable[[], object]:
    """A function that runs the op, or its vjp after the op has run."""
    op = getattr(module, name)
    if way == "forward":
        return lambda: op(*arguments)
    y, saved = op(*arguments)
    dy = tuple(floats_like(each) for each in y) if isinstance(y, tuple) else floats_like(y)
    return lambda: getattr(module, name + "_vjp")(saved, dy, needs)


def floats_like(array: np.ndarray) -> np.ndarray:
    return RANDOM.standard_normal(array.shape, dtype="float32")


def copy(*read: np.ndarray | int) -> Callable[[], None]:
    """A copy of the bytes of these arrays or numbers of floats: half of them read, half written."""
    moved = sum(each.nbytes if isinstance(each, np.ndarray) else 4 * each for each in read)
    source = np.ones(max(1, moved // 2), np.uint8)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def products(*shapes: tuple[int, int, int, int]) -> Callable[[], None]:
    """Products of (m, k) and (k, n); shapes (times, m, k, n), where times is the number of repetitions."""
    ready = [
        (times, np.ones((m, k), "float32"), np.ones((k, n), "float32"), np.empty((m, n), "float32"))
        for times, m, k, n in shapes
    ]

    def run() -> None:
        for times, a, b, c in ready:
            for _ in range(times):
                np.matmul(a, b, out=c)

    return run


def minimum(function: Callable[[], None]) -> float:
    """The minimum seconds of many runs; then it waits until NumPy's threads sleep."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < FLOOR_SECONDS:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    time.sleep(SETTLE_SECONDS)
    return min(times)


@pytest.fixture(scope="module")
def table(request):
    """Rows of (kernel, its microseconds, the floor's microseconds), printed at the end."""
    rows: list[tuple[str, float, float]] = []
    yield rows
    if rows:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{'kernel':<48}{'us':>12}{'floor, us':>12}{'ratio':>8}")
            for name, own, floor in rows:
                print(f"{name:<48}{own:>12.1f}{floor:>12.1f}{own / floor:>8.2f}")


@pytest.fixture
def measure(benchmark, table, request):
    """`measure(function, floor)`: replay the function's launches many times, and run the floor before and after."""

    def run(function: Callable[[], object], floor: Callable[[], None]) -> None:
        launches = Launches(function)
        assert launches.steps  # noqa: S101
        if benchmark.disabled:
            floor()
            benchmark(launches)
            return
        floors = [minimum(floor)]
        benchmark(launches)
        seconds = min(*floors, minimum(floor))
        own = benchmark.stats.stats.min
        benchmark.extra_info.update(floor_us=seconds * 1e6, ratio=own / seconds)
        table.append((request.node.name.removeprefix("test_"), own * 1e6, seconds * 1e6))

    return run


# -------------------- matrix products --------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", [(128, 784, 512), (32, 512, 512), (1, 784, 512), (512, 512, 512)], ids=str)
def test_dense(measure, sizes, way):
    m, k, n = map(some, sizes)
    floor = [(1, m, k, n)] if way == "forward" else [(1, k, m, n), (1, m, n, k)]
    measure(job(dense, "dense", way, floats(m, k), floats(k, n), floats(n)), products(*floor))


CONVOLUTIONS = {"cnn, first": (32, 28, 1, 32), "cnn, second": (32, 26, 32, 64), "wide": (8, 16, 128, 128)}


@pytest.mark.parametrize("way", ["forward", "dx", "dw"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(measure, name, way):
    images, side, channels, units = map(some, CONVOLUTIONS[name])
    x, kernel = floats(images, side, side, channels), floats(3, 3, channels, units)
    needs = (way == "dx", way == "dw", False)
    function = job(conv, "conv", way, x, kernel, None, (1, 1), (1, 1), "valid", 1, False, needs=needs)
    measure(function, products((1, images * (side - 2) ** 2, 9 * channels, units)))


RECURRENT = {"stack": (64, 8, 16, 32), "imdb": (32, 80, 128, 128), "long": (32, 280, 256, 64)}

GATED = {"recurrent_activation": recurrence.ACTIVATIONS["sigmoid"], "differentiable": True}
GATES = {"lstm": (4, 2, GATED), "gru": (3, 1, GATED | {"reset_after": True}), "simple_rnn": (1, 1, {})}


@pytest.mark.parametrize("sizes", RECURRENT)
@pytest.mark.parametrize("name", ["lstm", "gru", "simple_rnn"])
def test_recurrent_forward_and_backward(measure, name, sizes):
    batch, steps, features, units = map(some, RECURRENT[sizes])
    x = floats(batch, steps, features)
    gates, states, how = GATES[name]
    weights = 0.05 * exactly(features, gates * units), 0.05 * exactly(units, gates * units)
    bias = exactly(2, 3 * units) if name == "gru" else exactly(gates * units)
    module = {"lstm": lstm, "gru": gru, "simple_rnn": simple_rnn}[name]
    how = how | {
        "activation": recurrence.ACTIVATIONS["tanh"],
        "sequences": True,
        "backwards": False,
        "zero_masked": False,
    }

    def both() -> tuple:
        y, saved = getattr(module, name)(x, *weights, bias, *[None] * (states + 2), **how)
        slopes = (floats_like(y[0]), *[None] * (len(y) - 1))
        return saved, getattr(module, name + "_vjp")(saved, slopes, (True,) * 4 + (False,) * 4)

    width = gates * units
    inputs = [
        (1, batch * steps, features, width),
        (1, features, batch * steps, width),
        (1, batch * steps, width, features),
    ]
    states_of = [(steps, batch, units, width), (1, units, batch * steps, width), (steps, batch, width, units)]
    measure(both, products(*inputs, *states_of))


# -------------------- elementwise --------------------

ELEMENTS = 1 << 20


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu", "gelu", "softplus"])
def test_activation(measure, name, way):
    x = floats(ELEMENTS)
    measure(job(activations, name, way, x), copy(*[x] * (2 if way == "forward" else 3)))


@pytest.mark.parametrize("name", ["add", "multiply", "maximum"])
def test_elementwise(measure, name):
    x, y = floats(ELEMENTS), floats(ELEMENTS)
    measure(job(elementwise, name, "forward", x, y), copy(x, y, x))


@pytest.mark.parametrize("name", ["exp", "log1p", "sqrt", "square", "erf"])
def test_function_of_elements(measure, name):
    x = np.abs(floats(ELEMENTS))
    measure(job(elementwise, name, "forward", x), copy(x, x))


def test_add_a_row(measure):
    x = floats(2048, 512)
    measure(job(elementwise, "add", "forward", x, floats(512)), copy(x, x))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "logsumexp"])
def test_reduction(measure, name, axes):
    x = floats(2048, 512)
    measure(job(reduce, name, "forward", x, axes), copy(x))


def test_argmax(measure):
    x = floats(2048, 512)
    measure(job(reduce, "argmax", "forward", x, 1), copy(x))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("classes", [10, 1000])
def test_softmax(measure, classes, name, way):
    x = floats(ELEMENTS // 1000, classes)
    measure(job(softmax, name, way, x, 1), copy(*[x] * (2 if way == "forward" else 3)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("classes", [10, 1000])
def test_softmax_crossentropy(measure, classes, way):
    target, logits = floats(1024, classes), floats(1024, classes)
    function = job(losses, "softmax_crossentropy", way, target, logits, needs=(False, True))
    measure(function, copy(target, logits, logits))


@pytest.mark.parametrize("way", WAYS)
def test_sparse_softmax_crossentropy(measure, way):
    logits = floats(1024, 1000)
    target = integers(1000, 1024, dtype="int32")
    function = job(losses, "sparse_softmax_crossentropy", way, target, logits, needs=(False, True))
    measure(function, copy(logits, logits))


@pytest.mark.parametrize("way", WAYS)
def test_sigmoid_crossentropy(measure, way):
    target, logits = floats(ELEMENTS), floats(ELEMENTS)
    function = job(losses, "sigmoid_crossentropy", way, target, logits, needs=(False, True))
    measure(function, copy(*[logits] * (3 if way == "forward" else 4)))


def test_class_matches(measure):
    target, predicted = floats(16384, 10), floats(16384, 10)
    measure(lambda: metrics.one_hot_matches(target, predicted), copy(target, predicted))


# -------------------- kernels of layers --------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize("size", [2, 3])
def test_pool(measure, size, name, way):
    x = floats(32, 24, 24, 64)
    measure(job(pool, name, way, x, (size, size), (size, size), "valid"), copy(x, x.size // size**2))


@pytest.mark.parametrize("way", WAYS)
def test_batch_normalization(measure, way):
    x = floats(16384, 64)
    channels = x.shape[1]
    moments = floats(channels), np.ones(channels, "float32")
    scale = floats(channels), floats(channels)
    function = job(normalization, "batch_normalization_training", way, x, *scale, *moments, None, 0.99, 1e-3)
    measure(function, copy(*[x] * (3 if way == "forward" else 5)))


@pytest.mark.parametrize("way", WAYS)
def test_layer_normalization(measure, way):
    x = floats(2048, 512)
    columns = x.shape[1]
    function = job(
        normalization, "layer_normalization", way, x, floats(columns), floats(columns), 1e-3, needs=(True,) * 3
    )
    measure(function, copy(*[x] * (2 if way == "forward" else 3)))


@pytest.mark.parametrize("way", WAYS)
def test_embedding(measure, way):
    table, words = floats(10_000, 512), integers(10_000, 32, 100)
    rows = words.size * table.shape[1]
    if way == "forward":
        measure(job(embedding, "gather", way, table, words), copy(2 * rows))
        return
    gradient = job(embedding, "gather", way, table, words, needs=(True, False))
    # the table is cleared; rows are read, added to, and written
    measure(lambda: gradient()[0].dense(), copy(table, 3 * rows))


KEY = np.array([1, 2], "uint32")


@pytest.mark.parametrize("way", WAYS)
def test_dropout(measure, way):
    x = floats(ELEMENTS)
    measure(job(random, "dropout", way, x, KEY, 0.2), copy(x, x))


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal"])
def test_random_numbers(measure, name):
    count = some(ELEMENTS)
    measure(lambda: getattr(random, name)(KEY, (count,), np.dtype("float32")), copy(2 * count))


def test_transpose(measure):
    x = floats(64, 128, 128)
    measure(lambda: shape.transpose(x, (0, 2, 1)), copy(x, x))


def test_concatenate(measure):
    x, y = floats(2048, 256), floats(2048, 256)
    measure(lambda: shape.concatenate(x, y, axis=1), copy(x, y, x, y))


def test_take(measure):
    x, index = floats(4096, 256), integers(4096, 2048)
    measure(lambda: indexing.take(x, index, 0), copy(2 * index.size * x.shape[1]))


# -------------------- optimizers --------------------

OPTIMIZERS = {
    "sgd": (0, SGD),
    "sgd, momentum": (1, lambda: SGD(momentum=0.9)),
    "rmsprop": (1, RMSprop),
    "adagrad": (1, Adagrad),
    "adam": (2, Adam),
}


@pytest.mark.parametrize("weights", [20_000, 670_000, 5_000_000])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(measure, name, weights):
    slots, make = OPTIMIZERS[name]
    weight = Variable(floats(weights))
    optimizer = make()
    optimizer.build([weight])
    optimizer.gradient_views[0][:] = floats(weights)
    measure(optimizer.update, copy(3 * weight.size, 2 * slots * weight.size))  # w and slots read and written, g read
