"""nbkeras.jit: a function with and without it, over ops, states, optimizers, random numbers, shapes, threads and errors."""

import copy
import dataclasses
import functools
import gc
import os
import pickle
import threading
import warnings
import weakref
from fractions import Fraction

import numpy as np
import pytest
from arrays import assert_close
from in_threads import at_once
from made_models import built
from order_cases import CASES

import nbkeras as keras
from nbkeras import autodiff, layers, losses, metrics, ops, optimizers
from nbkeras.engine import settings, structures
from nbkeras.engine.tensor import Tensor, as_tensor

RNG = np.random.default_rng(7)
X = RNG.standard_normal((6, 3)).astype("float32")
Y = RNG.standard_normal((6, 2)).astype("float32")
SIMULATED = {*"multiply sum softmax matmul conv2d_relu lstm max_pool dropout embedding cumsum".split()}
MAKE_VARIABLES = {"dense_of_integers", "dense_of_packed_integers"}
MAKE_VARIABLES |= {"batch_normalization_training", "batch_normalization_masked"}


def numbers(result):
    """The leaves of a result as arrays; other values as they are."""
    return [leaf.numpy() if isinstance(leaf, Tensor) else leaf for leaf in structures.flatten(result)]


def check_same(received, expected):
    for got, want in zip(numbers(received), numbers(expected), strict=True):
        np.testing.assert_array_equal(got, want)
        assert getattr(got, "dtype", None) == getattr(want, "dtype", None)


def check_jitted(function, *calls, programs=1):
    """Each call gives the bits of the eager function."""
    jitted = keras.jit(function)
    for args in calls:
        check_same(jitted(*args), function(*args))
    assert len(jitted.programs()) == programs
    return jitted


# -------------------- the catalogue of ops --------------------


def floats(result):
    return [leaf for leaf in structures.flatten(result) if isinstance(leaf, Tensor) and leaf.dtype.kind == "f"]


def orders(function, arrays):
    """Functions that compute the values, the gradients, and gradients of gradients of a function of tensors."""
    wanted = [i for i, array in enumerate(arrays) if array.dtype.kind == "f"]

    def gradients(*xs):
        sources = [xs[i] for i in wanted]
        with keras.GradientTape() as tape:
            tape.watch(sources)
            loss = sum(ops.sum(ops.arcsinh(y)) for y in floats(function(*xs)))
        return tape.gradient(loss, sources, unconnected_gradients="zero")

    def second(*xs):
        sources = [xs[i] for i in wanted]
        with keras.GradientTape() as tape:
            tape.watch(sources)
            total = sum(ops.sum(each * each) for each in gradients(*xs))
        return tape.gradient(total, sources, unconnected_gradients="zero")

    return lambda *xs: function(*xs), gradients, second


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SIMULATED else pytest.mark.big) for n in CASES if n not in MAKE_VARIABLES],
)
def test_values_and_derivatives_of_each_op(name):
    function, given = CASES[name]
    arrays = [np.asarray(array) for array in given]
    for computed in orders(function, arrays):
        jitted = keras.jit(computed)
        for run in range(3):
            inputs = [array * (1 - 0.01 * run) if array.dtype.kind == "f" else array for array in arrays]
            check_same(jitted(*inputs), computed(*map(as_tensor, inputs)))
        assert len(jitted.programs()) == 1


def test_the_transforms_inside_and_around():
    def cube(x):
        return ops.sum(x**3)

    x = np.array([1.0, -2.0])
    for transform in (autodiff.grad, autodiff.hessian, lambda f: autodiff.vmap(f), autodiff.value_and_grad):
        expected = transform(cube)(as_tensor(x))
        check_same(keras.jit(transform(cube))(x), expected)
        check_same(transform(keras.jit(cube))(as_tensor(x)), expected)


def test_arrays_are_tensors_under_a_tape_too():
    @keras.jit
    def slope(x):
        with keras.GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(x**3)
        return tape.gradient(y, x)

    x = np.array([1.0, 2.0])
    with keras.GradientTape():
        received = slope(x)
    check_same([received, slope(x)], [as_tensor(3 * x**2)] * 2)


# -------------------- arguments and results --------------------


def test_numbers_are_values_with_the_dtypes_of_python_numbers():
    def computed(x, scale, count):
        return {"x": x * scale + count, "power": scale**2 / 3 - 1, "count": 2 * count, "both": (scale * x, -scale)}

    jitted = keras.jit(computed)
    for x in (X, X.astype("float64"), np.arange(3), np.arange(3, dtype="int32")):
        for scale, count in ((0.1, 3), (2.5, -1)):
            received, expected = jitted(x, scale, count), computed(as_tensor(x), scale, count)
            for got, want in zip(structures.flatten(received), structures.flatten(expected), strict=True):
                want = as_tensor(want)
                assert got.dtype == want.dtype
                np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6 if got.dtype == "float32" else 1e-15)
    assert len(jitted.programs()) == 4, "one for each kind of x, none for other numbers"


def test_small_integers_keep_the_meaning_of_numbers():
    jitted = keras.jit(lambda x, n: x + n)
    with pytest.warns(UserWarning, match="cannot be recorded and runs eagerly"):  # the value decides the dtype
        assert jitted(np.zeros(2, "int8"), 5).dtype == "int8"
    assert jitted(np.zeros(2, "int8"), 300).dtype == ops.add(ops.zeros(2, "int8"), 300).dtype
    assert jitted(2**40, 1).numpy() == 2**40 + 1 and jitted(2, 1).dtype == "int32"


def test_what_chooses_a_program():
    @keras.jit(static_argnames=("count", "sizes"))
    def repeated(x, count, mode="plus", *, sizes=(1, 1), flag=None):
        total = sum([x] * count) + len(sizes)
        return total if mode == "plus" and not flag else -total

    assert repeated(X, 2).numpy()[0, 0] == np.float32(2 * X[0, 0] + 2)
    assert repeated(X, count=2).numpy()[0, 0] == np.float32(2 * X[0, 0] + 2)
    repeated(X + 1, 2), repeated(as_tensor(X), 2)
    assert len(repeated.programs()) == 2, "by position and by name"
    for kwargs in ({"mode": "minus"}, {"flag": True}, {"flag": False}, {"sizes": (1,)}, {"sizes": (True, 1)}):
        repeated(X, 2, **kwargs)
    repeated(X, 2.0 if False else 3)
    assert len(repeated.programs()) == 8
    for other in (X[:2], X.astype("float64"), X[0]):
        repeated(other, 2)
    assert len(repeated.programs()) == 11


@dataclasses.dataclass(frozen=True)
class Held:
    value: object
    note: list = dataclasses.field(default_factory=list, hash=False)


ALIKE = (1, 1.0, True, 1 + 0j, np.int64(1), np.float32(1), Fraction(1))
ALIKE += (0.0, -0.0, complex(0.0, -0.0), complex(0.0, 0.0))
HOLDERS = {
    "value": lambda value: value,
    "tuple": lambda value: (0, (value,)),
    "frozenset": lambda value: frozenset([value, "a"]),
    "dataclass": Held,
    "slice": lambda value: slice(None, value),
    "all": lambda value: (frozenset([Held((value,))]),),
}


@pytest.mark.filterwarnings("ignore:the function 'noted' was recorded, and changed the list 'seen'")
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_static_values_of_other_types_or_signs_have_programs_of_their_own(hold):
    seen = []

    @keras.jit(static_argnames="n")
    def noted(x, n):
        seen.append(repr(n))
        return 1.0 * x

    for _ in range(2):
        for value in ALIKE:
            noted(1.0, hold(value))
    assert seen == [repr(hold(value)) for value in ALIKE] and len(noted.programs()) == len(ALIKE)
    noted(1.0, hold(float("nan"))), noted(1.0, hold(float("nan")))
    assert "nan" in seen[-1] and len(seen) <= len(ALIKE) + 2


def test_complex_numbers_and_keys_that_are_equal():
    sign = keras.jit(lambda x, z: x * np.copysign(1.0, z.imag))
    assert sign(1.0, complex(1.0, 0.0)) == 1 and sign(1.0, complex(1.0, -0.0)) == -1
    named = keras.jit(lambda table: [type(key).__name__ for key in table])
    assert [named({key: 1.0}) for key in (1, True, 1.0)] == [["int"], ["bool"], ["float"]]


def test_nested_arguments_and_results():
    def swapped(pair, table):
        return {"first": pair[1], "rest": [pair[0] * 2, None, "text", (table["b"], table["a"] + 1)]}

    jitted = check_jitted(swapped, *[((X + i, Y), {"b": X[0], "a": np.array(float(i))}) for i in range(3)])
    result = jitted((X, Y), {"b": X[0], "a": np.array(1.0)})
    assert list(result) == ["first", "rest"] and result["rest"][1:3] == [None, "text"]
    assert type(result["rest"][3]) is tuple


def test_objects_are_told_apart_by_identity():
    first, second = keras.Variable([1.0]), keras.Variable([2.0])

    @keras.jit
    def doubled(variable):
        variable.assign(variable * 2)
        return variable

    for _ in range(2):
        doubled(first)
        doubled(second)
    assert (first.numpy(), second.numpy()) == ([4.0], [8.0]) and len(doubled.programs()) == 2


def test_arrays_of_any_layout_and_kind():
    whole = RNG.standard_normal((4, 6))
    swapped = np.arange(3.0).astype(">f8")
    check_jitted(lambda x: ops.sum(x * 2), (whole,), programs=1)
    jitted = keras.jit(lambda x: x * 2)
    for array in (whole.T, whole[::2, 1::2], np.asfortranarray(whole), swapped, whole[0], np.int64(3), X):
        np.testing.assert_array_equal(jitted(array).numpy(), np.asarray(array) * 2)
    assert (jitted(np.float64(0.1)).dtype, jitted(np.float32(0.1)).item()) == ("float32", 2 * np.float32(0.1))
    assert jitted(np.ones(2, "float16")).dtype == "float16"
    with pytest.raises(TypeError, match="expected numbers or booleans"):
        jitted(np.array(["a"]))


def test_results_are_values_of_their_own():
    v = keras.Variable([1.0, 2.0])

    @keras.jit
    def step(x):
        before = v.value
        v.assign(x)
        return before, v, x

    kept = [step(np.full(2, float(i), "float32")) for i in range(4)]
    v.assign([9.0, 9.0])
    assert [[each.numpy()[0] for each in result] for result in kept] == [[1, 0, 0], [0, 1, 1], [1, 2, 2], [2, 3, 3]]
    x = X.copy()
    result = keras.jit(lambda x: x)(x)
    x[:] = 0
    assert result.numpy().any(), "an array that the caller fills again"


def test_masks_pass_in_and_out():
    embedding = layers.Embedding(5, 2, mask_zero=True)
    lstm = layers.LSTM(2, return_sequences=True)
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    expected = lstm(embedding(tokens))
    embed, recur = keras.jit(embedding), keras.jit(lambda x: lstm(x))
    for _ in range(2):
        received = recur(embed(tokens))
        check_same([received, received.mask], [expected, expected.mask])


def test_symbolic_arguments_make_a_graph():
    doubled = keras.jit(lambda x: ops.relu(x) * 2)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, doubled(inputs))
    np.testing.assert_array_equal(model.predict(X, verbose=0), np.maximum(X, 0) * 2)


# -------------------- functions, methods, names --------------------


class Counter:
    def __init__(self):
        self.count = keras.Variable(0.0)

    @keras.jit
    def add(self, x, *, times=1.0):
        """Add."""
        self.count.assign_add(ops.sum(x) * times)
        return self.count

    @keras.jit
    def scaled(self, x, factor=2.0):
        return x * factor

    def __call__(self, x):
        return self.count + x


def test_methods_have_programs_of_each_object():
    first, second = Counter(), Counter()
    for _ in range(3):
        first.add([1.0, 1.0])
    second.add([1.0, 1.0], times=2.0)
    assert (float(first.count), float(second.count)) == (6.0, 4.0)
    assert len(first.add.programs()) == len(second.add.programs()) == 1
    gone = weakref.ref(first)
    del first
    assert gone() is None and len(Counter.add._of_objects) == 1


class LazyCounter(Counter):
    def __init__(self):
        self.count = None

    @keras.jit
    def add(self, x):
        if self.count is None:
            self.count = keras.Variable(0.0)
        self.count.assign_add(x)
        return self.count


def test_each_object_may_build_at_its_first_call():
    for _ in range(2):
        counter = LazyCounter()
        assert [counter.add(1.0).item() for _ in range(3)] == [1, 2, 3] and len(counter.add.programs()) == 1


def test_fixed_arguments_are_freed():
    class Thing:
        pass

    def uses(function):
        things = [Thing() for _ in range(300)]
        for thing in things:
            function(thing, 1.0)
        function(Thing(), 1.0)
        return [weakref.ref(thing) for thing in things[:40]]

    def reads(thing, x):
        return float(x)

    read = keras.jit(reads)
    with pytest.warns(UserWarning, match="recorded 50 times"), pytest.warns(UserWarning, match="cannot be recorded"):
        references = uses(read)
    assert not any(each() is not None for each in references)


def test_other_callables():
    counter = Counter()
    for function in (counter, functools.partial(ops.multiply, 2.0), ops.exp, layers.Dense(2), lambda x, *rest, **kw: x):
        jitted = keras.jit(function)
        for _ in range(3):
            np.testing.assert_allclose(numbers(jitted(X)), numbers(function(X)), rtol=1e-6)


def test_it_looks_like_the_function():
    assert Counter.add.__name__ == "add" and Counter.add.__doc__ == "Add."
    assert repr(Counter.add) == "<nbkeras.jit of Counter.add>"
    assert str(Counter.add.__signature__) == "(self, x, *, times=1.0)"
    assert not hasattr(Counter.add, "__wrapped__")


@keras.jit
def doubled_at_the_top(x):
    return 2 * x


def test_copies():
    assert pickle.loads(pickle.dumps(doubled_at_the_top)) is doubled_at_the_top
    assert pickle.loads(pickle.dumps(keras.jit(ops.exp)))(0.0).item() == 1
    counter = Counter()
    counter.step = keras.jit(counter.__call__)
    counter.step(1.0)
    other = copy.deepcopy(counter)
    other.count.assign(5.0)
    assert (other.step(1.0).item(), counter.step(1.0).item()) == (6, 1)


def generator(x):
    yield x


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: keras.jit(3), TypeError, "jit takes a function, received 3"),
        (lambda: keras.jit(generator), TypeError, "is a generator or a coroutine: jit the function that it calls"),
        (lambda: keras.jit(lambda x: x, static_argnames="n"), ValueError, r"has no argument 'n'; it has \['x'\]"),
        (
            lambda: keras.jit(lambda x, n: x, static_argnames="n")(1.0, [2]),
            TypeError,
            "the static argument 'n' must be hashable.*pass a tuple",
        ),
        (lambda: keras.jit(lambda x: x)(1.0, 2.0), TypeError, "takes 1 positional argument but 2 were given"),
        (lambda: keras.jit(lambda x: ops.matmul(x, x))(X), ValueError, "matmul: the last axis of x1"),
    ],
    ids=["no function", "generator", "unknown name", "not hashable", "too many", "shapes"],
)
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


# -------------------- states --------------------


def network():
    keras.utils.set_random_seed(3)
    hidden = [layers.Dense(4, "tanh", kernel_regularizer="l2"), layers.BatchNormalization()]
    last = [layers.Dropout(0.3, seed=5), layers.Dense(2, kernel_constraint=keras.constraints.MaxNorm(1.0))]
    return keras.Sequential([keras.Input((3,)), *hidden, *last])


def training(optimizer):
    """A step of training, and what it changes."""
    model, loss_fn, mean = network(), losses.MeanSquaredError(), metrics.Mean()

    def step(x, y):
        with keras.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True)) + sum(model.losses)
        weights = model.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        mean.update_state(loss)
        return loss, mean.result()

    return step, lambda: [*model.weights, *optimizer.variables, *mean.variables]


SCHEDULE = optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
RULES = ("Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion Muon Nadam RMSprop SGD ScheduleFreeAdamW").split()
OPTIMIZERS = {
    **{name: lambda name=name: getattr(optimizers, name)(0.05) for name in RULES},
    "schedule": lambda: optimizers.SGD(SCHEDULE, momentum=0.9),
    "accumulation": lambda: optimizers.Adam(gradient_accumulation_steps=2),
    "clipping": lambda: optimizers.Adam(
        global_clipnorm=0.1, use_ema=True, ema_overwrite_frequency=2, weight_decay=0.01
    ),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.05)),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.SGD(0.1), {"dense/kernel": optimizers.Adam(0.05)})
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.big
def test_training_with_each_optimizer(name):
    eager, jitted = training(OPTIMIZERS[name]()), training(OPTIMIZERS[name]())
    step = keras.jit(jitted[0])
    for i in range(5):
        check_same(step(X + i, Y), eager[0](X + i, Y))
    check_same(jitted[1](), eager[1]())
    assert len(step.programs()) == 1


def test_a_model_and_an_optimizer_that_the_first_call_builds():
    model, optimizer = keras.Sequential([layers.Dense(2)]), optimizers.Adam(0.1)

    @keras.jit
    def step(x, y):
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        return loss

    received = [float(step(X, Y)) for _ in range(6)]
    assert received == sorted(received, reverse=True) and int(optimizer.iterations) == 6
    assert len(step.programs()) == 1


def test_changed_objects_are_recorded_again():
    dropout, scale, mse = layers.Dropout(0.5), keras.Sequential([layers.Rescaling(2.0)]), losses.MeanSquaredError()
    optimizer, v = optimizers.SGD(1.0), keras.Variable([0.0])

    class Settings:
        factor = layers.Rescaling(1.0)

    @keras.jit
    def step(x):
        optimizer.apply([ops.ones((1,))], [v])
        return dropout(x, training=True), scale(x), mse(x, 0 * x), Settings.factor(x)

    step(X), step(X)
    for owner, name, value in ((dropout, "rate", 0.0), (scale.layers[0], "scale", 5.0), (mse, "reduction", "sum")):
        setattr(owner, name, value)
        assert not step.programs()
        step(X), step(X)
    check_same(step(X), (X, X * np.float32(5), mse(X, 0 * X), X))
    before = v.numpy()
    optimizer.learning_rate = 0.5
    step(X)
    assert v.numpy() == before - 0.5


def test_frozen_layers_stop_learning():
    model, optimizer = network(), optimizers.SGD(0.1)

    @keras.jit
    def step(x):
        with keras.GradientTape() as tape:
            loss = ops.sum(model(x))
        weights = model.trainable_weights
        optimizer.apply(tape.gradient(loss, weights), weights)
        return len(weights)

    optimizer.build(model.trainable_weights)
    counts = [step(X)]
    model.layers[0].trainable = False
    kept = model.layers[0].kernel.numpy()
    counts.append(step(X))
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), kept)
    assert counts == [6, 4]


def test_jitted_functions_in_jitted_functions_and_in_steps():
    v = keras.Variable(0.0)
    inner = keras.jit(lambda x: v.assign_add(ops.sum(x)))

    @keras.jit
    def outer(x):
        inner(x)
        inner(x)
        return v

    assert [outer([1.0]).item() for _ in range(3)] == [2, 4, 6] and not inner.programs()

    class Model(keras.Model):
        def train_step(self, data):
            return {"v": outer(data[0])}

    model = Model()
    model.compile()
    history = model.fit(np.ones((2, 1)), np.ones((2, 1)), batch_size=1, verbose=0).history
    assert history["v"] == [10] and float(v) == 10


class Doubling(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    @keras.jit
    def call(self, x, training=False):
        return x * self.factor * (2 if training else 1)


def test_a_layer_with_a_jitted_call():
    layer = Doubling()
    check_same([layer(X), layer(X, training=True), layer(X)], [as_tensor(X), as_tensor(2 * X), as_tensor(X)])
    outputs, _ = layer.stateless_call([np.float32(3)], [], X)
    check_same([outputs, layer(X)], [as_tensor(3 * X), as_tensor(X)])
    inputs = keras.Input((3,))
    np.testing.assert_array_equal(keras.Model(inputs, layer(inputs)).predict(X, verbose=0), X)


def test_stateless_calls_in_jitted_functions():
    layer = built(layers.Dense(2), (None, 3))

    @keras.jit
    def call(values, x):
        return layer.stateless_call(values, [], x)[0]

    for factor in (1, 2):
        values = [factor * RNG.standard_normal(shape).astype("float32") for shape in ((3, 2), (2,))]
        np.testing.assert_allclose(call(values, X).numpy(), X @ values[0] + values[1], rtol=1e-5, atol=1e-6)
    assert len(call.programs()) == 1


# -------------------- what cannot be recorded, and errors --------------------


def test_a_function_that_reads_runs_eagerly_with_one_warning():
    @keras.jit
    def positive(x):
        return x if float(ops.sum(x)) > 0 else -x

    with pytest.warns(
        UserWarning, match=r"value was read at test_jit.py:\d+, so the function 'positive' cannot be rec"
    ):
        assert positive(-3.0).item() == 3
    assert positive(4.0).item() == 4 and positive(np.array([-1.0])).item() == 1 and not positive.programs()


def test_a_function_that_makes_variables_runs_eagerly():
    @keras.jit
    def fresh(x):
        v = keras.Variable(1.0)
        v.assign_add(x)
        return v

    assert fresh(1.0).item() == 2
    with pytest.warns(UserWarning, match="Variables were made at each call"):
        assert fresh(2.0).item() == 3
    assert fresh(5.0).item() == 6


def test_a_function_that_returns_objects_runs_eagerly():
    class Result:
        def __init__(self, value):
            self.value = value

    boxed = keras.jit(lambda x: {"result": Result(2 * x), "constant": np.ones(2), "name": "a"})
    with pytest.warns(UserWarning, match="a Result, which may hold tensors, was returned"):
        assert boxed(1.0)["result"].value.numpy() == 2
    assert boxed(2.0)["result"].value.numpy() == 4
    constant = keras.jit(lambda x: np.ones(2))
    first, second = constant(1), constant(2)
    assert isinstance(first, Tensor) and first.data is not second.data


def test_floatx_chooses_the_program(monkeypatch):
    half = keras.jit(lambda n: n / 2)
    assert half(3).dtype == "float32"
    monkeypatch.setattr(settings.values, "floatx", "float64")
    assert half(3).dtype == "float64"


@pytest.mark.parametrize("position", range(4))
def test_an_error_leaves_the_state_of_eager_code(position):
    def made(wrap):
        v = [keras.Variable(0.0) for _ in range(4)]

        def step(x, indices):
            for i, each in enumerate(v):
                each.assign_add(1.0)
                if i == position:
                    ops.matmul(x, indices)
            return v

        return wrap(step), v

    (eager, first), (jitted, second) = made(lambda function: function), made(keras.jit)
    for inputs, fails in ((np.eye(3), False), (np.eye(3), False), (np.eye(4), True), (np.eye(3), False)):
        for step in (eager, jitted):
            if fails:
                with pytest.raises(ValueError, match="matmul: the last axis of x1"):
                    step(np.eye(3), inputs)
            else:
                step(np.eye(3), inputs)
    assert [float(v) for v in second] == [float(v) for v in first]


@pytest.mark.cpu("kernels on a GPU do not check indices")
def test_an_error_of_a_kernel_in_a_replay():
    count = keras.Variable(0)

    @keras.jit
    def take(i):
        count.assign_add(1)
        return ops.take(as_tensor(X), i, axis=0)

    take(np.array([1]))
    for number in (7, -7):
        with pytest.raises(IndexError, match=r"indices must lie in \[-6, 6\) for an axis of size 6"):
            take(np.array([number]))
    check_same(take(np.array([2])), as_tensor(X[[2]]))
    assert int(count) == 4


def test_many_programs_of_one_function_are_told():
    jitted = keras.jit(lambda x, name: x)
    with pytest.warns(UserWarning, match="was recorded 50 times"):
        for number in range(52):
            jitted(1.0, str(number))
    assert len(jitted.programs()) == 16


# -------------------- memory, threads, processes --------------------


def test_programs_go_with_their_functions():
    def function(i):
        v = keras.Variable(np.full(1000, float(i)))

        @keras.jit
        def step(x):
            v.assign_add(x)
            return ops.sum(v)

        step(1.0)
        step(1.0)
        return weakref.ref(step.programs()[0]), weakref.ref(v)

    gc.collect()
    gc.disable()
    try:
        references = [each for i in range(100) for each in function(i)]
        assert not any(each() is not None for each in references)
    finally:
        gc.enable()


def test_clear_frees_the_memory():
    jitted = keras.jit(lambda x: ops.exp(x) + 1)
    jitted(X)
    program = weakref.ref(jitted.programs()[0])
    jitted.clear()
    assert program() is None and jitted(X).shape == X.shape


def test_threads():
    model = network()
    predict = keras.jit(lambda x: model(x, training=False))
    total, lock = keras.Variable(0.0), threading.Lock()

    @keras.jit
    def add(x):
        total.assign_add(x)
        return total

    inputs = [X + i for i in range(4)]
    expected = [model(x, training=False).numpy() for x in inputs]

    def work(i):
        for _ in range(50):
            np.testing.assert_allclose(predict(inputs[i]), expected[i], rtol=0, atol=1e-6)
            with lock:
                add(1.0)

    at_once(*[functools.partial(work, i) for i in range(4)])
    assert float(total) == 200


@pytest.mark.cpu("a GPU's driver does not work in a forked process")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_continues():
    v = keras.Variable(1.0)

    @keras.jit
    def add(x):
        v.assign_add(x)
        return v

    add(1.0)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns in processes with threads
        child = os.fork()
    if not child:
        try:
            os.write(writer, str([add(1.0).item(), add(np.ones(())).item()]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"[3.0, 4.0]" and add(1.0).item() == 3


# -------------------- inference, profiles --------------------


def with_processing():
    """A model with pre- and postprocessing, as a jitted function of two arrays."""
    model = network()

    @keras.jit
    def scored(pixels, shift):
        y = ops.softmax(model((pixels - 2.0) / 3.0)) + shift
        return {"scores": y, "best": ops.argmax(y, axis=-1)}

    return scored, (np.arange(15.0, dtype="float32").reshape(5, 3), np.ones((5, 1), "float32"))


@pytest.mark.cpu("frozen models are for the CPU")
def test_frozen_functions(tmp_path):
    scored, inputs = with_processing()
    frozen = scored.frozen((None, 3), inputs[1], batch_sizes=(1, 4))
    assert [spec.name for spec in frozen.inputs] == ["pixels", "shift"]
    frozen.save(tmp_path / "scored.frozen")
    received = keras.inference.Frozen.load(tmp_path / "scored.frozen")(list(inputs))
    expected = scored(*inputs)
    np.testing.assert_allclose(received["scores"], expected["scores"].numpy(), rtol=1e-5)
    np.testing.assert_array_equal(received["best"], expected["best"].numpy())
    holder = Counter()
    assert [spec.name for spec in holder.scaled.frozen((None, 3), batch_sizes=2).inputs] == ["x"]
    with pytest.raises(ValueError, match="'scored' needs the shape of each argument"):
        scored.frozen()
    with pytest.raises(ValueError, match="a tensor's value was read.* needs Python"):
        keras.jit(lambda x: x * float(ops.sum(x))).frozen((None, 3))


@pytest.mark.cpu("ONNX files are written on the CPU")
def test_exported_functions(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    scored, inputs = with_processing()
    scored.export(tmp_path / "scored.onnx", (None, 3), (None, 1), verbose=False)
    session = runtime.InferenceSession(tmp_path / "scored.onnx")
    received = session.run(None, dict(zip(["pixels", "shift"], inputs, strict=True)))
    expected = structures.flatten(scored(*inputs))
    assert_close(received, expected, rtol=1e-5)


def test_a_profile_changes_nothing():
    step, variables = training(optimizers.Adam(0.05))
    jitted = keras.jit(step)
    jitted(X, Y), jitted(X, Y)
    before = [variable.numpy() for variable in variables()]
    profile = keras.profile(jitted, (X, Y), steps=2)
    check_same([as_tensor(each) for each in before], [as_tensor(each.numpy()) for each in variables()])
    assert {row.direction for row in profile.layers} == {"forward", "backward", "update"}
    assert str(profile).startswith("step, one call: ")
    kernels = {row.kernel for row in profile.kernels}
    with keras.profile() as counts:
        jitted(X, Y)
    assert kernels == set(counts.calls)
    reads = keras.jit(lambda x: float(x))
    with (
        pytest.warns(UserWarning, match="cannot be recorded"),
        pytest.raises(ValueError, match="runs eagerly, so it has no"),
    ):
        keras.profile(reads, 1.0)
