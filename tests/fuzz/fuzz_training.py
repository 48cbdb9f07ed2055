"""Family: fit, evaluate, predict and their relatives, with data and arguments of every kind.

Where the data are good, predictions and losses are compared with NumPy's.
"""

import functools

import numpy as np
import pandas
from fuzz_values import absurd, any_of, array, described, tensor_like
from fuzz_verdict import Fault

import nbkeras as keras
from nbkeras import callbacks, layers


def regression():
    return keras.Sequential([layers.Input((3,)), layers.Dense(2)]), "mse", [], [(3,)], [(2,)]


def classes():
    model = keras.Sequential([layers.Input((3,)), layers.Dense(4, activation="softmax")])
    return model, "sparse_categorical_crossentropy", ["accuracy"], [(3,)], [()]


def several():
    first, second = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    x = layers.Concatenate()([first, second])
    model = keras.Model(
        {"a": first, "b": second}, {"p": layers.Dense(1, name="p")(x), "q": layers.Dense(2, name="q")(x)}
    )
    return model, {"p": "mse", "q": "mae"}, [], [(3,), (2,)], [(1,), (2,)]


def words():
    model = keras.Sequential([layers.Input((4,), dtype="int32"), layers.Embedding(5, 2, mask_zero=True), layers.GRU(2)])
    model.add(layers.Dense(1, activation="sigmoid"))
    return model, "binary_crossentropy", ["auc"], [(4,)], [(1,)]


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x, training=False):
        return self.dense(x)


def subclass():
    model = Own()
    model(np.ones((1, 3), "float32"))
    return model, "mse", [], [(3,)], [(2,)]


MODELS = [regression, regression, classes, several, words, subclass]


@functools.cache
def made(make):
    model, loss, metrics, inputs, targets = make()
    model.compile(keras.optimizers.SGD(1e-3), loss, metrics=metrics)
    return model, inputs, targets


def good(chance, make, sizes, rows, target):
    integers = make is words and not target or make is classes and target
    rng = np.random.default_rng(chance.randrange(1 << 30))
    values = rng.integers(0, 4, (rows, *sizes)) if integers else rng.standard_normal((rows, *sizes))
    if make is words and target:
        values = (values > 0).astype("float32")
    return values.astype("int32" if integers else "float32")


def other_form(chance, values):
    """The same numbers in another form."""
    kind = chance.randrange(9)
    if kind == 0:
        return values.tolist()
    if kind == 1:
        return values.astype("float64" if values.dtype.kind == "f" else "int64")
    if kind == 2:
        return np.asfortranarray(values)
    if kind == 3:
        return np.repeat(values, 2, 0)[::2]
    if kind == 4 and values.ndim == 2:
        return pandas.DataFrame(values)
    if kind == 5:
        return keras.ops.convert_to_tensor(values)
    if kind == 6:
        values = values.copy()
        values.flags.writeable = False
    if kind == 7 and values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder(">"))
    return values


def bad_form(chance, values):
    """Data that are not the ones that are expected."""
    kind = chance.randrange(14)
    if kind == 0:
        return absurd(chance)
    if kind == 1:
        return values[:-1]
    if kind == 2:
        return values[:0]
    if kind == 3:
        return values[..., :1]
    if kind == 4:
        return values.astype(object)
    if kind == 5:
        return values.astype(str)
    if kind == 6:
        return values[None]
    if kind == 7:
        return [values, values]
    if kind == 8:
        return {"a": values, "nonsense": values}
    if kind == 9:
        return tensor_like(chance, values.shape)
    if kind == 10:
        return array(chance)
    if kind == 11:
        return values * 0 + chance.choice([7, -1, 2**31 - 1])
    if kind == 12:
        return values.ravel().tolist()
    return [row.tolist()[: chance.randrange(3)] if values.ndim > 1 else row for row in values]


def nonsense_batches(chance, batch):
    """A generator, or something like it, of batches that are wrong somewhere."""
    kind = chance.randrange(8)

    def generate():
        for number in range(3):
            if number == 1 and kind < 5:
                yield [absurd(chance), (), (batch[0],), [batch], {"x": batch[0]}][kind]
            elif number == 1 and kind == 5:
                raise RuntimeError("this generator fails, on purpose")
            else:
                yield batch

    if kind == 6:
        return iter(())
    return list(generate()) if kind == 7 else generate()


ARGUMENTS = {
    "batch_size": [1, 2, 3, 100, 0, -1, 2.5, "2", None, True, 2**31, 10**30],
    "epochs": [1, 2, 0, -1, 1.5, "1", None],
    "verbose": [0, 1, 2, "auto", 3, "x", None],
    "validation_split": [0.0, 0.3, 0.5, 1.0, -0.1, 0.99, "0.5", None, float("nan")],
    "shuffle": [True, False, "batch", "x", None, 2],
    "initial_epoch": [0, 1, 5, -1, "1", None, 0.5],
    "steps_per_epoch": [None, 1, 2, 100, 0, -1, 1.5, "x"],
    "validation_steps": [None, 1, 100, 0, -1, "x"],
    "validation_batch_size": [None, 1, 100, 0, -1, "x"],
    "validation_freq": [1, 2, [1], [1, 2], 0, -1, "x", None, []],
    "class_weight": [
        *(None, {0: 1.0, 1: 2.0}, {0: 1, 1: 1, 2: 1, 3: 3.0}, {}, {"a": 1}, {0: "x"}, [1, 2], {-1: 2.0}),
        *({0: float("nan")}, "x"),
    ],
    "callbacks": [None, [], [3], "x", [callbacks.Callback()], callbacks.Callback(), [callbacks.TerminateOnNaN()]],
    "steps": [None, 1, 2, 100, 0, -1, 1.5, "x"],
    "return_dict": [True, False, None],
    "nonsense": [1],
    "max_queue_size": [10, 0],
}
TAKEN = {
    "fit": "batch_size epochs verbose validation_split shuffle initial_epoch steps_per_epoch validation_steps "
    "validation_batch_size validation_freq class_weight callbacks nonsense",
    "evaluate": "batch_size verbose steps callbacks return_dict nonsense",
    "predict": "batch_size verbose steps callbacks nonsense",
    "train_on_batch": "class_weight return_dict nonsense",
    "test_on_batch": "return_dict nonsense",
    "predict_on_batch": "nonsense",
}


def check(model, make, method, result, xs, ys, rows, weights):
    """Compare what good data lead to with NumPy's results."""
    if make not in (regression, subclass):
        return
    kernel, bias = model.get_weights()
    expected = xs[0] @ kernel + bias
    if method == "predict":
        if not np.allclose(result, expected, atol=1e-4):
            raise Fault(f"predicts {result}, expected {expected}")
    elif method == "evaluate":
        each = ((expected - ys[0]) ** 2).mean(-1)
        wanted = (each * weights).sum() / rows if weights is not None else each.mean()
        if not np.allclose(
            np.ravel(list(result.values()) if isinstance(result, dict) else result)[0], wanted, rtol=1e-3
        ):
            raise Fault(f"evaluates to {result}, expected {wanted}")


def case(chance, say):
    make = MODELS[chance.randrange(len(MODELS))]
    model, inputs, targets = made(make)
    method = chance.choice(["fit", "fit", "fit", "evaluate", "evaluate", "predict", "predict", *list(TAKEN)[3:]])
    rows = chance.choice([1, 2, 3, 4, 4, 5])
    xs = [good(chance, make, each, rows, False) for each in inputs]
    ys = [good(chance, make, each, rows, True) for each in targets]
    weights, sound = None, True
    mine, wanted = [*xs], [*ys]
    if chance.random() < 0.5:
        group = mine if chance.random() < 0.6 else wanted
        at = chance.randrange(len(group))
        if chance.random() < 0.3:
            group[at] = other_form(chance, group[at])
            if make is several and isinstance(group[at], list):
                sound = False
        else:
            group[at] = bad_form(chance, group[at])
            sound = False
    named = make is several and chance.random() < 0.7
    x = dict(zip("ab", mine, strict=True)) if named else mine[0] if len(mine) == 1 else mine
    y = dict(zip("pq", wanted, strict=True)) if named else wanted[0] if len(wanted) == 1 else wanted
    options = {}
    for name in TAKEN[method].split():
        if chance.random() < 0.12:
            options[name] = any_of(chance, ARGUMENTS[name]) if chance.random() < 0.93 else absurd(chance)
    if "predict" not in method and chance.random() < 0.15:
        weights = np.random.default_rng(chance.randrange(99)).random(rows).astype("float32")
        options["sample_weight"] = weights
        if chance.random() < 0.6:
            options["sample_weight"], sound = bad_form(chance, weights), False
    if method == "fit" and chance.random() < 0.15:
        options["validation_data"] = any_of(
            chance,
            [(x, y), (x,), (x, y, weights), [x, y], x, (x, y[:-1] if isinstance(y, np.ndarray) and y.ndim else y)],
        )
        if chance.random() < 0.2:
            options["validation_data"] = absurd(chance)
    args = [x] if "predict" in method else [x, y]
    if chance.random() < 0.12 and "batch" not in method:
        args, sound = [nonsense_batches(chance, (x, y))], False
        if chance.random() < 0.2:
            args.append(y)
    if chance.random() < 0.04:
        args, sound = args[: chance.randrange(2)], False
    options.setdefault("verbose", 0)
    if "batch" in method:
        del options["verbose"]
    if any(options.get(name) is not None for name in ("steps", "callbacks", "nonsense")):
        sound = False
    say(f"{make.__name__}.{method}(*{described(args)}, **{described(options)})")
    many = {"epochs": 10, "steps_per_epoch": 10**4}  # more take long, as they should
    if any(isinstance(options.get(name), int) and options[name] > maximum for name, maximum in many.items()):
        return
    before = model.get_weights()
    try:
        result = getattr(model, method)(*args, **options)
        if sound:
            check(model, make, method, result, xs, ys, rows, weights)
        if make is classes and method == "fit" and not sound and isinstance(y, np.ndarray) and y.dtype.kind in "iu":
            loss = (result.history.get("loss") or [0.0])[0]
            if (
                y.shape == (rows,)
                and rows
                and ((y < 0) | (y > 3)).any()
                and np.isfinite(loss)
                and options.get("steps_per_epoch") is None
            ):
                if not (
                    options.get("validation_split")
                    or options.get("class_weight")
                    or "sample_weight" in options
                    or options.get("epochs") == 0
                ):
                    raise Fault(f"a loss of {loss} with the labels {y}")
    finally:
        model.set_weights(before)
