"""The arrays and functions that the expressions in tests/parity/calls use, for real Keras and for nbkeras alike.

`names(keras)` makes them anew for each module: expressions may change arrays, and the functions use that module's classes.
"""

import pathlib

import numpy as np
import programs


class Config(dict):
    """A configuration: nbkeras's may have more keys than Keras's, which leaves some options out, and lack those that are None."""


def arrays() -> dict:
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).round(3).astype("float32")

    def uniform(*shape):
        return rng.uniform(size=shape).round(3).astype("float32")

    square = normal(3, 3)
    a = normal(2, 3)
    nan, inf = a.copy(), a.copy()
    nan[0, 1] = np.nan
    inf[0], inf[1, 0] = (np.inf, -np.inf, np.nan), 1e30
    probs = uniform(2, 3) + 0.1
    return {
        "a": a,
        "b": normal(2, 3),
        "p": uniform(2, 3) + 0.5,
        "u": (uniform(2, 3) * 1.9 - 0.95).astype("float32"),
        "nan": nan,
        "inf": inf,
        "i": np.array([[1, 6, 3], [4, 2, 8]], "int32"),
        "j": np.array([[2, 4, 3], [6, 7, 5]], "int32"),
        "t": np.array([[True, False, True], [True, True, True]]),
        "z": (a + 1j * square[:2]).astype("complex64"),
        "v": normal(6),
        "v_int": np.array([3, 1, 3, 0, 5, 1], "int32"),
        "ids": np.array([0, 0, 1, 2, 2, 2], "int32"),
        "square": square,
        "spd": (square @ square.T + np.eye(3)).round(3).astype("float32"),
        "tall": normal(6, 3),
        "seq": normal(2, 4, 3),
        "steps": normal(2, 4, 3),
        "images": uniform(2, 6, 6, 3),
        "images4": normal(2, 4, 4, 4),
        "volume": normal(1, 4, 4, 4, 2),
        "kernel": normal(2, 2, 3, 2),
        "pointwise": normal(1, 1, 6, 2),
        "heads": normal(1, 3, 2, 4),
        "bias4": normal(1, 2, 3, 3),
        "signal": normal(1, 16),
        "ctc_labels": np.array([[1, 2, 3], [2, 1, 0]], "int32"),
        "ctc_logits": normal(2, 6, 4),
        "corners": np.array([[[0.0, 0.0], [0.0, 5.0], [5.0, 0.0], [5.0, 5.0]]], "float32"),
        "onehot": np.array([[1, 0, 0], [0, 0, 1]], "float32"),
        "probs": (probs / probs.sum(1, keepdims=True)).astype("float32"),
        "mask": np.array([[True, True, False, True], [True, False, False, False]]),
        "attention_mask": np.array([[[True, False, True, True]] * 4, [[False, True, True, False]] * 4]),
        "movie1": normal(2, 3, 4, 2),
        "boxes": np.array(
            [[[0, 0, 2, 3], [1, 2, 5, 4], [3, 1, 4, 6]], [[2, 2, 4, 5], [0, 1, 3, 3], [1, 1, 2, 2]]], "float32"
        ),
        "ones_of_boxes": np.ones((2, 3), "int32"),
        "ones_of_masks": (np.arange(36).reshape(1, 6, 6, 1) % 3 == 0).astype("int32"),
        "labels": np.array([0, 2], "int32"),
        "classes": np.array([0, 1, 0, 1], "int32"),
        "unit_rows": np.array([[0.6, 0.8], [1, 0], [0.8, 0.6], [0, 1]], "float32"),
        "binary": np.array([0, 1, 1, 0, 1, 0], "float32"),
        "scores": np.array([0.1, 0.9, 0.35, 0.4, 0.75, 0.55], "float32"),
        "rates": np.array([1.0, 0.5, 2.0, 1.0, 0.25, 3.0], "float32"),
        "weights": np.array([0.5, 2.0], "float32"),
        "tokens": np.array([[1, 2, 3, 0], [4, 1, 0, 0]], "int32"),
        "words": np.array([["the cat sat"], ["The dog, the cat!"]]),
    }


def names(keras, folder: pathlib.Path) -> dict:
    """The names that expressions may use, besides `f`: `keras`, `np`, arrays, and functions that need this Keras."""
    layers, ops = keras.layers, keras.ops
    given = arrays() | {"np": np, "keras": keras, "layers": layers, "ops": ops, "folder": folder}

    def named(function):
        given[function.__name__] = function
        return function

    def numpy(x):
        return np.asarray(ops.convert_to_numpy(x))

    @named
    def normal(*shape, seed=0):
        return np.random.default_rng([seed, *shape]).normal(size=shape).round(3).astype("float32")

    @named
    def raises(function):
        """The type of the error of a call."""
        try:
            return function()
        except Exception as error:
            return type(error).__name__

    @named
    def caught(function, kind):
        """Whether a call raises an error of this kind."""
        try:
            function()
        except kind:
            return True

    @named
    def moments(x, mean, std, tolerance=0.1):
        """Shape and dtype of random numbers, and whether their mean and standard deviation are near these."""
        array = numpy(x)
        return (
            list(array.shape),
            str(array.dtype),
            bool(abs(array.mean() - mean) < tolerance and abs(array.std() - std) < tolerance),
        )

    @named
    def bounds(x, minimum, greatest):
        """Shape and dtype of random numbers, whether they lie between these, and whether they are not all the same."""
        array = numpy(x)
        return list(array.shape), str(array.dtype), bool(minimum <= array.min() < array.max() <= greatest)

    @named
    def values_in(x, values):
        """Shape and dtype of random numbers, and which of these values occur; None if there are others."""
        array = numpy(x)
        found = sorted(set(array.ravel().tolist()))
        return list(array.shape), str(array.dtype), found if found == values else None

    @named
    def same(x, y):
        return bool((numpy(x) == numpy(y)).all())

    @named
    def gram(x):
        return (numpy(x).T @ numpy(x)).round(4)

    @named
    def subclass(base, kind):
        """A small class of one's own: its result for the arrays, or an object of it."""
        own = {
            "call_initializer": {"__call__": lambda self, shape, dtype=None: ops.ones(shape, dtype) * 2},
            "loss": {"call": lambda self, y_true, y_pred: ops.mean(ops.abs(y_true - y_pred), -1)},
            "schedule": {"__call__": lambda self, step: 0.5 / (ops.cast(step, "float32") + 1)},
        }
        if kind == "metric":

            class Largest(base):
                def __init__(self, **options):
                    super().__init__(**options)
                    self.largest = self.add_variable((), "zeros", name="largest")

                def update_state(self, x):
                    self.largest.assign(ops.maximum(self.largest, ops.max(x)))

                def result(self):
                    return self.largest

            return metric(Largest(name="largest"), given["a"])
        if kind == "optimizer":

            class Signs(base):
                def update_step(self, gradient, variable, learning_rate):
                    self.assign_sub(variable, ops.sign(gradient) * learning_rate)

            return Signs(0.1)
        made = type("Own", (base,), own[kind])()
        arguments = {"call_initializer": ((2,),), "loss": (given["a"], given["b"])}
        return made(*arguments[kind]) if kind in arguments else made

    @named
    def metric(one, *data):
        """The results after one and after two updates, after a reset, the shapes of the variables, the configuration."""
        one.update_state(*data)
        first = one.result()
        one.update_state(*data)
        found = first, one.result(), sorted(list(v.shape) for v in one.variables)
        one.reset_state()
        one.update_state(*data)
        return *found, one.result(), Config({key: value for key, value in one.get_config().items() if key != "fn"})

    @named
    def optimized(optimizer, scale=1.0):
        """Two variables after each of three steps with the same gradients, and the number of iterations."""
        variables = [keras.Variable(given["a"]), keras.Variable(given["v"])]
        optimizer.build(variables)
        found = []
        for _ in range(3):
            optimizer.apply_gradients([(given["b"] * scale, variables[0]), (given["v"] * scale + scale, variables[1])])
            found += [numpy(each) for each in variables]
        return *found, int(optimizer.iterations)

    def weighted(layer):
        """Set the float weights of a layer by a rule: positive where they are variances."""
        for number, weight in enumerate(layer.weights):
            if "float" in str(weight.dtype):
                values = 0.6 * np.sin(np.arange(np.prod(weight.shape)) * 0.7 + number).reshape(weight.shape)
                weight.assign(np.abs(values) if "variance" in weight.name else values)
        return layer

    @named
    def run(layer, *inputs, **options):
        """The output of a layer with weights set by a rule, the shapes of its weights, and its configuration."""
        layer(*inputs, **{name: value for name, value in options.items() if name != "training"})
        output = weighted(layer)(*inputs, **options)
        kept = {
            key: value
            for key, value in layer.get_config().items()
            if value is None or isinstance(value, bool | int | float | str)
        }
        return {"output": output, "weights": [list(w.shape) for w in layer.weights], "config": Config(kept)}

    @named
    def regularized(layer, x):
        layer(x)
        return [numpy(each) for each in layer.losses]

    @named
    def adapted(layer, data):
        """The output of a preprocessing layer for the data that it learned from."""
        layer.adapt(data)
        return layer(data)

    @named
    def texts(layer, data):
        """The vocabulary that a layer learned from texts, its output, and its configuration."""
        layer.adapt(data)
        settings = {key: value for key, value in layer.get_config().items() if key != "vocabulary_size"}
        return layer.get_vocabulary(), layer(data), Config(settings)

    @named
    def one_of(x, *possible):
        return any(same(x, each) for each in possible)

    @named
    def stateless(optimizer, scale=1.0):
        """The variables, and the optimizer's variables, after three calls of `stateless_apply`."""
        values = [ops.array(given["a"]), ops.array(given["v"])]
        optimizer.build([keras.Variable(each) for each in values])
        state = [each.value for each in optimizer.variables]
        for _ in range(3):
            gradients = [ops.array(given["b"] * scale), ops.array(given["v"] * scale + scale)]
            values, state = optimizer.stateless_apply(state, gradients, values)
        return [numpy(each) for each in values], sorted(numpy(each).shape for each in state)

    @named
    def config(one):
        """The configuration of an object."""
        return Config(one.get_config())

    @named
    def scheduled(schedule):
        return [float(schedule(step)) for step in (0, 1, 3, 5, 9, 20)]

    return given | programs.names(keras, given, folder, Config)
