"""Small models, each built by one function that runs under real Keras and under nbkeras, and the measurements on them.

`k` is the keras-like module. `measure` is the whole protocol, used by make_models.py (real Keras) and by
test_keras_equality.py (nbkeras), so both sides run the same lines; only the call for gradients differs.
"""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A model, the data it gets, and how it is trained."""

    family: str
    build: Callable
    x: tuple
    y: tuple
    batch: int = 3
    weights: tuple = ()  # sample weights, one per output, or one for all
    fit: dict = field(default_factory=dict)  # class_weight
    stateful: bool = False
    after: Callable | None = None  # after(k, model) changes a trained model before it is saved
    backends: tuple = ("jax", "tensorflow")  # the first is what is stored; tf_keras is Keras 2


CASES: dict[str, Case] = {}


def family(name: str) -> Callable:
    """The decorator of one family's builders: `@dense(x, y, ...)`; several inputs or outputs as tuples."""

    def case(x, y, **settings):
        def add(build):
            several = [value if isinstance(value, tuple) else (value,) for value in (x, y)]
            CASES[build.__name__] = Case(name, build, *several, **settings)
            return build

        return add

    return case


# -------------------- data: each is a function of the case's random state --------------------


def normal(*shape):
    return lambda random: random.standard_normal(shape).astype("float32")


def uniform(*shape, low=0.0, high=1.0):
    return lambda random: random.uniform(low, high, shape).astype("float32")


def binary(*shape):
    return lambda random: random.randint(0, 2, shape).astype("float32")


def signs(*shape):
    return lambda random: (random.randint(0, 2, shape) * 2 - 1).astype("float32")


def classes(count, *shape):
    return lambda random: random.randint(0, count, shape).astype("int32")


def one_hot(*shape):
    return lambda random: np.eye(shape[-1], dtype="float32")[random.randint(0, shape[-1], shape[:-1])]


def padded(count, *shape):
    """Word numbers with zeros (padding) at the end of most rows, the start of one, and in the middle of one."""

    def draw(random):
        words = random.randint(1, count, shape).astype("int32")
        for row in range(shape[0]):
            words[row, shape[1] - row % (shape[1] - 1) :] = 0
        words[0, 0] = words[-1, 2] = 0
        return words

    return draw


def padded_floats(*shape):
    def draw(random):
        values = random.standard_normal(shape).astype("float32")
        values[padded(9, *shape[:2])(random) == 0] = 0
        return values

    return draw


def draw(case: Case) -> dict[str, np.ndarray]:
    """The case's arrays by name: x0, x1, ..., y0, ..., s0, ... (sample weights)."""
    random = np.random.RandomState(zlib.crc32(case.build.__name__.encode()))
    groups = {"x": case.x, "y": case.y, "s": case.weights}
    return {f"{letter}{i}": make(random) for letter, group in groups.items() for i, make in enumerate(group)}


# -------------------- the protocol --------------------


def grouped(data: dict, letter: str) -> list:
    """The arrays letter0, letter1, ... of a dict."""
    return [data[f"{letter}{i}"] for i in range(len(data)) if f"{letter}{i}" in data]


def one_or_list(arrays: list) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays


def initial_weights(k, case: Case) -> list[np.ndarray]:
    """The built model's weights moved a little, so that biases, scales and moving statistics matter."""
    random = np.random.RandomState(1 + zlib.crc32(case.build.__name__.encode()))
    values = []
    for weight in case.build(k).get_weights():
        matrix = weight.ndim > 1
        scale = np.sqrt(3 / np.prod(weight.shape[:-1])) if matrix else 0.2
        start = 0 if matrix else weight  # the ones of a scale or of a forget gate's bias stay near one
        values.append((start + scale * random.uniform(-1, 1, weight.shape)).astype("float32"))
    return values


def measure(k, case: Case, data: dict, gradients: Callable) -> dict[str, np.ndarray]:
    """Outputs, gradients, three training steps, evaluate and two epochs of fit, each from the weights w0, w1, ...

    gradients(model, xs, seeds) -> (of the trainable weights, of the float inputs) of the sum of output * seed over all
    outputs, in training mode. Returns arrays by 'kind/name'.
    """
    found: dict[str, np.ndarray] = {}
    xs, ys, sample = (grouped(data, letter) for letter in "xys")
    x, y = one_or_list(xs), one_or_list(ys)
    weight = {"sample_weight": one_or_list(sample)} if sample else {}

    def fresh():
        model = case.build(k)
        model.set_weights(grouped(data, "w"))
        return model

    def part(arrays, count):
        return one_or_list([a[:count] for a in arrays])

    def note(kind, values):
        for name, value in values.items() if isinstance(values, dict) else enumerate(values):
            found[f"{kind}/{name}"] = np.asarray(value)

    model = fresh()
    predict = functools.partial(model.predict, x, batch_size=case.batch, verbose=0)
    outputs = predict()
    outputs = outputs if isinstance(outputs, list) else [outputs]
    note("outputs", outputs)
    if case.stateful:
        note("outputs", {"continued": predict()})
        reset_states(model)
        note("outputs", {"after reset": predict()})
        reset_states(model)

    size = case.batch if case.stateful else len(xs[0])
    random = np.random.RandomState(7)
    seeds = [random.standard_normal((size, *np.shape(out)[1:])).astype("float32") for out in outputs]
    of_weights, of_inputs = gradients(fresh(), [a[:size] for a in xs], seeds)
    note("gradients", of_weights)
    note("input gradients", of_inputs)

    model = fresh()
    for step in range(3):
        model.reset_metrics()
        piece = {name: part(sample, size) for name in weight}
        logs = model.train_on_batch(part(xs, size), part(ys, size), return_dict=True, **piece, **case.fit)
        note("steps", {f"{name} {step}": value for name, value in logs.items()})
    note("steps", model.get_weights())

    note("evaluate", fresh().evaluate(x, y, batch_size=case.batch, verbose=0, return_dict=True, **weight))

    settings = {"epochs": 2, "batch_size": case.batch, "shuffle": False, "verbose": 0, **weight, **case.fit}
    count = case.batch if case.stateful else case.batch + 1
    model = fresh()
    history = model.fit(x, y, validation_data=(part(xs, count), part(ys, count)), **settings)
    note("fit", history.history)
    note("fit", model.get_weights())
    return found


def scales(arrays: dict) -> dict[str, float]:
    """The scale of differences: the largest number of each array, or of all arrays of its kind where it is 0 except for rounding.

    0 except for rounding, as the gradient of an attention's key bias: below 1e-6 of the kind's largest; a tenth of that counts.
    """
    own = {key: float(np.max(np.abs(value), initial=0)) for key, value in arrays.items()}
    whole: dict[str, float] = {}
    for key, value in own.items():
        kind = key.split("/")[0]
        whole[kind] = max(whole.get(kind, 0.0), value)
    largest = {key: whole[key.split("/")[0]] for key in own}
    return {key: max(largest[key] / 10 if value <= 1e-6 * largest[key] else value, 1e-6) for key, value in own.items()}


def difference(expected: dict, found: dict) -> dict[str, float]:
    """The largest relative difference by kind: of two arrays, max |a - b| / max |a|; see `scales`."""
    worst: dict[str, float] = {}
    scale = scales(expected)
    for key in expected.keys() | found.keys():
        kind = key.split("/")[0]
        if key not in expected or key not in found or np.shape(expected[key]) != np.shape(found[key]):
            raise ValueError(
                f"{key}: expected shape {np.shape(expected.get(key, 'missing'))}, "
                f"found {np.shape(found.get(key, 'missing'))}"
            )
        a, b = (np.asarray(value, "float64") for value in (expected[key], found[key]))
        if a.size:
            error = np.max(np.abs(a - b)) / scale[key]
            worst[kind] = max(worst.get(kind, 0.0), float(error))
    return worst


def reset_states(model) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states()


# -------------------- models that several families use --------------------


def regression(k, *layers, optimizer="sgd", **settings):
    """A Sequential model with a mean squared error: most layers need no more."""
    model = k.Sequential(list(layers))
    model.compile(optimizer=optimizer, loss="mse", **settings)
    return model


def branches(k, shape, layers):
    """The layers side by side on one input, their outputs flattened and joined."""
    inputs = k.Input(shape=shape)
    model = k.Model(inputs, k.layers.concatenate([k.layers.Flatten()(layer(inputs)) for layer in layers]))
    model.compile(optimizer="sgd", loss="mse")
    return model


def keras_2_hard_sigmoid(k):
    """Keras 2's hard_sigmoid, clip(0.2 x + 0.5, 0, 1), under its name of today; Keras 3 gave the old name to another."""
    return getattr(k.activations, "legacy_hard_sigmoid", k.activations.hard_sigmoid)
