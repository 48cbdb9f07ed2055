"""Optimizers against real Keras (tests/reference/optimizer_steps.npz, made by make_optimizers.py there), and their buffers."""

import json
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from arrays import assert_close
from made_models import compiled
from mistakes import mistakes
from optimizer_steps import REFERENCE, SPEC, STEPS, launch, make, runs_python, split

from nbkeras import constraints, layers, models, ops, optimizers
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.commands import warmup
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels import optimizers as optimizers_kernels
from nbkeras.kernels.runtime import cache, device
from nbkeras.kernels.runtime.threads import get_threads, set_threads
from nbkeras.optimizers import SGD, Adam, LossScaleOptimizer, MultiOptimizer, OptimizerMap, schedules
from nbkeras.tensor import step_formula


def joined(variables):
    return np.concatenate([v.numpy().reshape(-1) for v in variables])


def make_variables(dtype=np.float32):
    return [Variable(part, name=f"w{i}") for i, part in enumerate(split(REFERENCE["weights"], dtype))]


def write(optimizer, gradients):
    for view, gradient in zip(optimizer.gradient_views, gradients, strict=True):
        device.write(view, gradient)


def recorded(optimizer):
    """The program of an update, which has run."""
    recorder = Recorder()
    with device.record(recorder):
        optimizer.update()
    return recorder.sealed([]).bind()


@pytest.mark.parametrize("case, dtype", [key.split(".") for key in REFERENCE if key.endswith((".float32", ".float64"))])
def test_steps_equal_keras(case, dtype):
    optimizer, variables = make(case), make_variables(dtype)
    rtol, atol = {"float32": (1e-5, 1e-6), "float64": (1e-12, 1e-12)}[dtype]
    for gradients, expected in zip(REFERENCE["gradients"], REFERENCE[f"{case}.{dtype}"], strict=True):
        optimizer.apply(split(gradients, dtype), variables)
        np.testing.assert_allclose(joined(variables), expected, rtol=rtol, atol=atol)
    assert int(optimizer.iterations) == len(REFERENCE["gradients"]) // (optimizer.gradient_accumulation_steps or 1)


REPLAYED = (
    "sgd_nesterov rmsprop_centered_momentum adam_amsgrad nadam average schedule lion ftrl_general schedule_free lamb "
    "adafactor muon accumulation accumulation_average accumulation_rows accumulation_nadam loss_scale"
).split()


@pytest.mark.parametrize("case", REPLAYED)
def test_replay_equals_eager(case):
    eager, replayed = make(case), make(case)
    eager_variables, variables = make_variables(), make_variables()
    replayed.build(variables)
    for step, gradients in enumerate(REFERENCE["gradients"]):
        parts = split(gradients)
        eager.apply(parts, eager_variables)
        write(replayed, parts)
        if step == 0:
            program = recorded(replayed)
        else:
            program.run()
        np.testing.assert_array_equal(joined(variables), joined(eager_variables))


@pytest.mark.cpu("about native code")
@pytest.mark.parametrize("case", [*REPLAYED, None])
def test_a_replayed_step_runs_no_python(case):
    optimizer = LossScaleOptimizer(Adam()) if case is None else make(case)
    optimizer.build(make_variables())
    assert not runs_python(recorded(optimizer).program)


@pytest.mark.parametrize("limits", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.1}])
def test_clipping_and_learning_rate_follow_on_replay(limits):
    def run(replay):
        optimizer, variables = SGD(0.1, **limits), make_variables()
        optimizer.build(variables)
        for step, gradients in enumerate(REFERENCE["gradients"]):
            optimizer.learning_rate = 0.1 / (step + 1)
            write(optimizer, split(gradients))
            if step == 0 or not replay:
                program = recorded(optimizer)
            else:
                program.run()
        return joined(variables)

    np.testing.assert_array_equal(run(True), run(False))


@pytest.mark.cpu("about threads, and hands NumPy arrays to kernels")
@pytest.mark.parametrize("name", STEPS)
def test_large_arrays_are_split_without_changing_results(name):
    kernel = STEPS[name]
    rng = np.random.default_rng(1)
    size = 5 * optimizers_kernels.CHUNK + 100
    w, g = rng.standard_normal((2, size)).astype(np.float32)
    state = [np.full(size, 0.1, np.float32) for _ in kernel.inputs[2:]]
    known = {"rate": np.array([0.01]), "step": np.array([3]), "product": np.array([0.5], np.float32), "decay": 0.1}

    def run(first, last):
        w_, g_, *own = arrays = [a.copy()[first:last] for a in (w, g, *state)]
        launch(kernel, w_, g_, own, known, nesterov=True)
        return arrays

    whole = run(0, size)
    for first, last in ((0, 1000), (optimizers_kernels.CHUNK - 5, optimizers_kernels.CHUNK + 5), (size - 7, size)):
        for array, part in zip(whole, run(first, last), strict=True):
            np.testing.assert_allclose(array[first:last], part, rtol=2e-6, atol=1e-7)
    before = get_threads()
    set_threads(1)
    try:
        np.testing.assert_equal(whole, run(0, size))
    finally:
        set_threads(before)


def test_other_processes_find_the_kernels_of_steps_by_their_names():
    assert all(cache.named(each.__module__, each.__qualname__) is each for each in (*STEPS.values(), leaky_descent))


def test_warmup_trains_all_optimizers_of_formulas(monkeypatch):
    trained: list = []
    monkeypatch.setattr(warmup, "_train", lambda layers, x, optimizer: trained.append(type(optimizer).__name__))
    warmup.FAMILIES["optimizers"]()
    assert {"SGD", "Adam", "AdamW", "Ftrl", "ScheduleFreeAdamW"} < {*trained} and len({*trained}) == len(trained)


@step_formula
def leaky_descent(w, g, speed, /, rate, step, *, decay, leak):
    speed = leak * speed + ops.where(g > 0, g, 0.5 * g)
    return w - rate * (speed + decay * w) * (step + 1), speed


class LeakyDescent(optimizers.Optimizer):
    formula = leaky_descent

    def __init__(self, learning_rate=0.5, leak=0.25, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.leak = leak


def test_an_optimizer_of_ones_own_is_a_formula_and_a_class():
    optimizer, w = LeakyDescent(weight_decay=0.5), Variable(np.array([1.0, 2.0], np.float32), name="w")
    optimizer.apply([np.array([1.0, -2.0])], [w])
    np.testing.assert_allclose(w.numpy(), [1 - 0.5 * (1 + 0.5), 2 - 0.5 * (-1 + 1)])
    assert [v.name for v in optimizer.variables[2:]] == ["w_speed"]
    before = w.numpy()
    optimizer.apply([np.array([0.0, 0.0])], [w])
    np.testing.assert_allclose(w.numpy(), before - 0.5 * (0.25 * np.array([1, -1]) + 0.5 * before) * 2)
    optimizer.leak = None
    with pytest.raises(TypeError, match="its formula has the parameter leak, so self.leak must be a number"):
        optimizer.apply([np.zeros(2)])


def without_decay(w, g, /, rate):
    return w - rate * g


def without_its_state(w, g, m, /, rate, *, decay):
    return w - rate * g


@pytest.mark.parametrize(
    "formula, message",
    [(without_decay, "a step has the parameters"), (without_its_state, "new values of w, m, received 1 results")],
)
def test_formulas_that_are_no_steps(formula, message):
    with pytest.raises(TypeError, match=message):
        step_formula(formula)


def test_large_norms_and_averages():
    rng = np.random.default_rng(2)
    size = 5 * optimizers_kernels.CHUNK + 100
    variable, small = Variable(np.zeros(size, np.float32)), Variable(np.zeros(3, np.float32))
    optimizer = SGD(1.0, global_clipnorm=2.0, use_ema=True, ema_momentum=0.5)
    gradients = rng.standard_normal(size).astype(np.float32), np.array([1, 2, 3], np.float32)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    optimizer.apply(gradients, [variable, small])
    np.testing.assert_allclose(variable.numpy(), -gradients[0] * 2 / norm, rtol=1e-6)
    np.testing.assert_allclose(small.numpy(), -gradients[1] * 2 / norm, rtol=1e-6)
    optimizer.apply([np.zeros(size, np.float32), np.ones(3, np.float32)], [variable, small])
    optimizer.finalize_variable_values()
    np.testing.assert_allclose(small.numpy(), -gradients[1] * 2 / norm - 0.5, rtol=1e-6)


@pytest.mark.parametrize("case", SPEC["optimizers"])
def test_state_never_becomes_subnormal(case):
    optimizer, variables = make(case), make_variables()
    tiny = np.finfo(np.float32).tiny
    optimizer.build(variables)
    for variable in optimizer.variables[2:]:
        if variable.shape and "accum" not in variable.name:
            variable.assign(np.full(variable.shape, 2 * tiny, np.float32))
    write(optimizer, [np.full(v.shape, 1e-30, np.float32) for v in variables])
    for _ in range(60):
        optimizer.update()
    for variable in optimizer.variables:
        value = np.abs(variable.numpy())
        assert not np.any((value > 0) & (value < tiny)), variable.name


@pytest.mark.parametrize("case", ["sgd_momentum", "rmsprop", "adam_amsgrad", "adamax", "nadam", "adadelta"])
def test_nan_gradients_are_not_hidden(case):
    optimizer, variables = make(case), make_variables()
    optimizer.apply([np.full(v.shape, np.nan, np.float32) for v in variables], variables)
    assert np.isnan(joined(variables)).all()
    optimizer.apply([np.zeros(v.shape, np.float32) for v in variables], variables)
    assert np.isnan(joined(variables)).all()


def test_infinite_gradients_make_clipped_steps_nan():
    for limits in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        variable = Variable(np.zeros(2, np.float32))
        SGD(0.1, **limits).apply([np.array([np.inf, 1], np.float32)], [variable])
        assert np.isnan(variable.numpy()).all()


@pytest.mark.parametrize("compiled_before", [False, True])
def test_one_launch_updates_all_variables(compiled_before):
    optimizer, variables = Adam(), make_variables()
    if compiled_before:
        SGD().build(variables)
    optimizer.build(variables)
    with device.profile() as profile:
        optimizer.update()
    assert sum(profile.calls.values()) == 2  # the step, and the step count


def test_mixed_dtypes_and_empty_variables():
    variables = [Variable(np.ones(3, np.float32)), Variable(np.ones((2, 2))), Variable(np.ones((0, 3), np.float32))]
    optimizer = SGD(0.5, global_clipnorm=100.0)
    optimizer.apply([np.ones(v.shape) for v in variables], variables)
    np.testing.assert_array_equal(variables[0].numpy(), np.full(3, 0.5, np.float32))
    np.testing.assert_array_equal(variables[1].numpy(), np.full((2, 2), 0.5))
    assert variables[0].dtype == np.float32 and variables[1].dtype == np.float64


def test_variables_shared_by_two_optimizers_stay_in_place():
    a, b, c, d = (Variable(np.full(shape, 1.0, np.float32)) for shape in ((3,), (20,), (2, 2), (5,)))
    first, second = SGD(0.1), SGD(1.0, momentum=0.5)
    first.build([a, b, c])
    places = [device.address(v.data) for v in (a, b, c)]
    second.build([d, c, a])
    assert [device.address(v.data) for v in (a, b, c)] == places
    write(first, [np.ones(v.shape) for v in (a, b, c)])
    write(second, [np.ones(v.shape) for v in (d, c, a)])
    for optimizer in (first, second, first, second):
        optimizer.update()
    # a and c: 1 - 0.1, - 1, - 0.1, - (0.5 + 1)
    for variable, value in ((a, -1.7), (b, 0.8), (c, -1.7), (d, -1.5)):
        np.testing.assert_allclose(variable.numpy(), np.full(variable.shape, value), rtol=1e-6)


def test_a_later_build_chooses_among_the_variables():
    a, b, c = (Variable(np.ones(2, np.float32)) for _ in range(3))
    optimizer = SGD(1.0, momentum=0.5)
    optimizer.build([a, b, c])
    optimizer.build([a, c])
    write(optimizer, [np.ones(2), np.full(2, 2.0)])
    optimizer.update()
    assert [v.numpy()[0] for v in (a, b, c)] == [0, 1, -1]
    assert [id(v) for v in optimizer.trainable_variables] == [id(a), id(c)]
    optimizer.build([a, b, c])
    assert len(optimizer.gradient_views) == 3


def test_constraints_are_applied_in_place_on_replay():
    variable = Variable(np.array([1.0, 1.0], np.float32))
    variable.constraint = constraints.NonNeg()
    optimizer = SGD(1.0)
    optimizer.build([variable])
    write(optimizer, [np.array([2.0, -1.0])])
    program = recorded(optimizer)
    np.testing.assert_array_equal(variable.numpy(), [0, 2])
    write(optimizer, [np.array([-1.0, 3.0])])
    program.run()
    np.testing.assert_array_equal(variable.numpy(), [1, 0])


def test_weight_decay_can_leave_variables_out():
    kernel, bias, other = (Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "bias", "other"))
    optimizer = SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[other], var_names=["^b.*s$"])
    optimizer.apply([np.zeros(2)] * 3, [kernel, bias, other])
    assert [v.numpy()[0] for v in (kernel, bias, other)] == [0.75, 1, 1]
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_custom_loop_with_a_tape():
    w = Variable(np.array([1.0, 2.0], np.float32))
    optimizer = SGD(0.1)
    for _ in range(2):
        with GradientTape() as tape:
            loss = w * w
        gradients = tape.gradient(loss, [w])
        assert int(optimizer.apply_gradients(zip(gradients, [w], strict=True))) > 0
    np.testing.assert_allclose(w.numpy(), [0.64, 1.28], rtol=1e-6)


def test_missing_gradients():
    a, b = Variable(np.ones(2, np.float32), name="a"), Variable(np.ones(2, np.float32), name="b")
    optimizer = SGD(1.0)
    with pytest.warns(UserWarning, match=r"missing for variables \['b'\]"):
        optimizer.apply([np.ones(2), None], [a, b])
    assert (a.numpy()[0], b.numpy()[0]) == (0, 1)
    with pytest.raises(ValueError, match="no gradients were given"):
        optimizer.apply([None, None], [a, b])


def test_state_in_keras_order_and_resuming():
    gradients = [split(g) for g in REFERENCE["gradients"]]
    optimizer, variables = make("adam_amsgrad"), make_variables()
    optimizer.apply(gradients[0], variables)
    names = [v.name for v in optimizer.variables]
    pairs = [f"w{i}_{slot}" for i in range(3) for slot in ("momentum", "velocity")]
    assert names == ["iteration", "learning_rate", *pairs, *[f"w{i}_velocity_hat" for i in range(3)]]

    resumed, copies = optimizers.deserialize(optimizers.serialize(optimizer)), make_variables()
    resumed.build(copies)
    for copy, variable in zip(copies, variables, strict=True):
        copy.assign(variable)
    resumed.set_weights(optimizer.get_weights())
    optimizer.apply(gradients[1], variables)
    resumed.apply(gradients[1], copies)
    np.testing.assert_array_equal(joined(copies), joined(variables))
    store: dict = {}
    optimizer.save_own_variables(store)
    resumed.load_own_variables(store)
    np.testing.assert_array_equal(resumed.get_weights()[3], optimizer.get_weights()[3])
    with pytest.raises(ValueError, match="received arrays of shapes"):
        resumed.set_weights(optimizer.get_weights()[:-1])
    assert [v.name for v in make("nadam").variables] == ["iteration", "learning_rate"]
    nadam = make("nadam")
    nadam.build(make_variables())
    assert nadam.variables[-1].name == "u_product"


@pytest.mark.parametrize("case", SPEC["optimizers"])
def test_configuration_round_trip(case):
    optimizer = make(case)
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


def test_learning_rate():
    optimizer = Adam(lr=0.5)
    assert float(optimizer.learning_rate) == float(optimizer.lr) == 0.5
    optimizer.lr = 0.25
    optimizer.learning_rate.assign(0.125)
    assert float(optimizer.lr) == 0.125
    follows = SGD(schedules.PiecewiseConstantDecay([0], [1.0, 0.5]))
    assert float(follows.learning_rate) == 1.0
    follows.apply([np.zeros(1)], [Variable(np.zeros(1, np.float32))])
    assert float(follows.learning_rate) == 0.5
    with pytest.raises(TypeError, match="cannot be set to a number"):
        follows.learning_rate = 0.1
    rates = iter([1.0, 2.0])
    variable = Variable(np.zeros(1, np.float32))
    by_function = SGD(lambda: next(rates))
    by_function.apply([np.ones(1)], [variable])
    by_function.apply([np.ones(1)], [variable])
    assert variable.numpy() == [-3]


def test_keras_2_decay():
    optimizer, variable = SGD(lr=1.0, decay=0.5), Variable(np.zeros(1, np.float32))
    for _ in range(3):
        optimizer.apply([np.ones(1)], [variable])
    np.testing.assert_allclose(variable.numpy(), [-(1 + 1 / 1.5 + 1 / 2)], rtol=1e-6)
    assert float(optimizer.lr) == 1.0
    assert SGD.from_config(optimizer.get_config()).decay == 0.5


class Momentum(optimizers.Optimizer):
    """Written as Keras's guide does."""

    def build(self, variables):
        super().build(variables)
        self.momenta = {v: self.add_variable_from_reference(v, "momentum") for v in variables}

    def update_step(self, gradient, variable, learning_rate):
        m = self.momenta[variable]
        m.assign(m * 0.9 - gradient * learning_rate)
        variable.assign_add(m)


def test_an_optimizer_written_with_update_step():
    expected = REFERENCE["sgd_momentum.float32"]
    optimizer, variables = Momentum(0.1), make_variables()
    for gradients, after in zip(REFERENCE["gradients"], expected, strict=True):
        optimizer.apply(split(gradients), variables)
        np.testing.assert_allclose(joined(variables), after, rtol=1e-5, atol=1e-6)
    assert len(optimizer.variables) == 2 + len(variables)


class Everything(optimizers.Optimizer):
    """An optimizer with the parts of the base class that Keras's guides use."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._counts = self.add_optimizer_variables(
            variables, ["momentum", "count"], ["zeros", "ones"]
        )
        self._total = self.add_variable((), dtype="float32", name="total")

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        self.assign(self._momentums[i], 0.5 * self._momentums[i] + gradient)
        self.assign_add(self._counts[i], 1)
        self.assign_add(self._total, ops.sum(gradient))
        self.assign_sub(variable, learning_rate * self._momentums[i])


def test_an_optimizer_with_all_that_keras_s_base_class_offers():
    a, b = Variable(np.zeros(2, np.float32), name="a"), Variable(np.zeros((), np.float32), name="b")
    optimizer = Everything(1.0, gradient_accumulation_steps=2)
    for value in (1.0, 3.0, 5.0, 7.0):
        optimizer.apply([np.full(2, value), value], [a, b])
    np.testing.assert_allclose([*a.numpy(), b.numpy()], [-2 - 7] * 3)
    names = [variable.name for variable in optimizer.variables]
    pairs = [f"{v}_{slot}" for v in "ab" for slot in ("momentum", "count")]
    assert names == ["iteration", "learning_rate", "a_gradient_accumulator", "b_gradient_accumulator", *pairs, "total"]
    assert optimizer.variables[-2].numpy() == 3 and optimizer.variables[-1].numpy() == (2 + 6) * 3
    assert (int(optimizer.iterations), int(optimizer.variables[0])) == (2, 4)


def test_minimize_takes_one_step():
    w = Variable(np.array([1.0, 2.0], np.float32))
    optimizer = SGD(0.1, loss_scale_factor=4.0)
    optimizer.minimize(lambda: w * w, [w])
    np.testing.assert_allclose(w.numpy(), [0.8, 1.6], rtol=1e-6)
    with GradientTape() as tape:
        loss = w * w
    SGD(0.5).minimize(loss, lambda: [w], tape=tape)
    np.testing.assert_allclose(w.numpy(), [0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="a function that computes the loss, or the tape"):
        optimizer.minimize(loss, [w])


def test_stateless_apply():
    w = Variable(np.ones(2, np.float32))
    optimizer = SGD(0.5, momentum=0.5)
    optimizer.build([w])
    state = optimizer.get_weights()
    (after,), new_state = optimizer.stateless_apply(state, [np.ones(2)], [np.zeros(2)])
    np.testing.assert_array_equal(after.numpy(), [-0.5, -0.5])
    np.testing.assert_array_equal(w.numpy(), [1, 1])
    (after,), _ = optimizer.stateless_apply(new_state, [np.ones(2)], [after])
    np.testing.assert_array_equal(after.numpy(), [-1.25, -1.25])
    with pytest.raises(ValueError, match="1 trainable and 3 optimizer variables, received 2 and 3"):
        optimizer.stateless_apply(state, [np.ones(2)], [after, after])


class Stateless(models.Sequential):
    """A step as in Keras's guides on JAX: the state goes in and comes out as values."""

    def train_step(self, data):
        x, y = data
        own = [self.trainable_variables, self.optimizer.variables]
        with GradientTape() as tape:
            y_pred, _ = self.stateless_call(own[0], self.non_trainable_variables, x, training=True)
            loss, _ = self.stateless_compute_loss(
                own[0], self.non_trainable_variables, self.metrics_variables, x, y, y_pred
            )
        values = self.optimizer.stateless_apply(own[1], tape.gradient(loss, own[0]), own[0])
        for variables, new in zip(own, values, strict=True):
            for variable, value in zip(variables, new, strict=True):
                variable.assign(value)
        return {"loss": loss}


RATES = {"a number": 0.1, "a schedule": schedules.ExponentialDecay(0.1, 2, 0.5), "a function": lambda: 0.1}


@pytest.mark.parametrize("name", RATES)
def test_a_step_of_stateless_calls_trains_as_fit_does(name):
    x, weights = np.random.default_rng(0).standard_normal((8, 3)), []
    for kind in (models.Sequential, Stateless):
        dense = [layers.Dense(units, "tanh", kernel_initializer="ones") for units in (4, 1)]
        model = compiled(kind([layers.Input((3,)), *dense]), Adam(RATES[name]))
        in_python = name == "a function" or (name == "a schedule" and device.gpu() is not None)
        recorded = kind is not Stateless or not in_python
        with nullcontext() if recorded else pytest.warns(UserWarning, match="cannot be recorded"):
            model.fit(x, x[:, :1], batch_size=4, epochs=3, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        assert bool(model._steps["train"]._programs.programs()) == recorded
    assert_close(*weights, rtol=1e-5, atol=1e-6)


def fitted(optimizer, batch_size):
    """A model's weights after fit on the same 16 samples, in order."""
    rng = np.random.default_rng(0)
    model = models.Sequential([layers.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    model.set_weights([rng.standard_normal(w.shape) for w in model.weights])
    model.compile(optimizer, "mse")
    x = rng.standard_normal((16, 3))
    model.fit(x, x.sum(axis=1, keepdims=True), batch_size, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([w.reshape(-1) for w in model.get_weights()])


def test_fit_with_added_gradients_and_scaled_losses():
    plain = fitted(Adam(0.1), 8)
    adam = Adam(0.1)
    for optimizer, batch_size in (
        (Adam(0.1, gradient_accumulation_steps=2), 4),
        (Adam(0.1, loss_scale_factor=16.0), 8),
        (LossScaleOptimizer(Adam(0.1), initial_scale=16.0), 8),
        (MultiOptimizer(lambda variable: adam, loss_scale_factor=4.0), 8),
    ):
        np.testing.assert_allclose(fitted(optimizer, batch_size), plain, rtol=1e-4, atol=1e-5)


def test_loss_scale_optimizer():
    """A step whose gradients are not finite is left out, replayed too; the scale follows."""
    w = Variable(np.zeros(2, np.float32), name="w")
    optimizer = LossScaleOptimizer(SGD(1.0), initial_scale=8.0, dynamic_growth_steps=2)
    assert float(optimizer.scale_loss(Tensor(device.persistent(np.float32(3))))) == 24
    optimizer.build([w])
    seen = []
    for step, gradient in enumerate(([8.0, 16.0], [8.0, np.inf], [4.0, np.nan], [2.0, 2.0], [2.0, 4.0], [4.0, 4.0])):
        write(optimizer, [np.array(gradient)])
        if step == 0:
            program = recorded(optimizer)
        else:
            program.run()
        seen.append((*w.numpy(), float(optimizer.dynamic_scale)))
    assert seen == [(-1, -2, 8), (-1, -2, 4), (-1, -2, 2), (-2, -3, 2), (-3, -5, 4), (-4, -6, 4)]
    assert int(optimizer.iterations) == 4
    names = [variable.name for variable in optimizer.variables]
    assert names == ["iteration", "learning_rate", "step_counter", "dynamic_scale", "iteration", "learning_rate"]
    optimizer.learning_rate = 0.25
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert again.get_config() == optimizer.get_config() and float(again.learning_rate) == 0.25
    optimizer.apply([np.array([4.0, 8.0])], [w])
    np.testing.assert_array_equal(w.numpy(), [-4.25, -6.5])


def test_multi_optimizer():
    kernel, bias, other = (Variable(np.ones(2, np.float32), name=name) for name in ("d/kernel", "d/bias", "e/bias"))
    by_path = OptimizerMap(SGD(0.5), {"d/.*": SGD(1.0, momentum=0.5)})
    optimizer = MultiOptimizer(by_path, loss_scale_factor=2.0)
    for _ in range(2):
        optimizer.apply([np.full(2, 2.0)] * 3, [bias, other, kernel])
    assert [v.numpy()[0] for v in (kernel, bias, other)] == [-1.5, -1.5, 0]
    assert len(optimizer.variables) == 2 + 4 + 2 and int(optimizer.iterations) == 2
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert again.get_config() == optimizer.get_config()
    with pytest.raises(AttributeError, match="no learning rate of its own"):
        optimizer.learning_rate = 0.1
    by_function = MultiOptimizer(lambda variable: LossScaleOptimizer(SGD()))
    with pytest.raises(ValueError, match="needs a plain optimizer"):
        by_function.build([kernel])
    with pytest.raises(ValueError, match="keys are paths or patterns, each once"):
        by_path["d/.*"] = SGD()
    by_path["d/bia."] = SGD()
    with pytest.raises(ValueError, match="fits several keys"):
        by_path["d/bias"]


def test_names_and_instances_give_optimizers():
    assert isinstance(optimizers.get("rmsprop"), optimizers.RMSprop)
    assert isinstance(optimizers.get("ADAM"), Adam)
    own = SGD()
    assert optimizers.get(own) is own
    assert float(optimizers.get("rmsprop").lr) == 0.001 and float(optimizers.get("sgd").lr) == 0.01


def built(optimizer):
    optimizer.build([Variable(np.ones(1))])
    return optimizer


def by_function():
    return built(MultiOptimizer(lambda variable: SGD()))


test_mistakes_are_explained = mistakes(
    [
        (lambda: built(SGD()).apply([1.0], [Variable(1.0, name="b")]), ValueError, r"does not know \['b'\]"),
        (lambda: optimizers.get("adm"), ValueError, "unknown optimizer: 'adm'. Did you mean 'adam'"),
        (lambda: optimizers.get(3), ValueError, "optimizer must be"),
        (lambda: optimizers.get(np.mean), TypeError, "optimizer must be"),
        (lambda: Adam(beta1=0.9), TypeError, "Did you mean 'beta_1'"),
        (lambda: Adam(beta_1=1.5), ValueError, "beta_1 must be a number from 0 to 1"),
        (lambda: SGD(momentum=-1), ValueError, "momentum must be a number from 0 to 1"),
        (lambda: SGD("fast"), TypeError, "learning_rate must be a number"),
        (lambda: SGD(-1.0), ValueError, "learning_rate must be >= 0"),
        (lambda: SGD(clipnorm=1.0, clipvalue=1.0), ValueError, "at most one of clipnorm"),
        (lambda: SGD(clipnorm=-1.0), ValueError, "clipnorm must be >= 0"),
        (lambda: optimizers.AdamW(weight_decay=None), ValueError, "weight_decay must be a number"),
        (
            lambda: optimizers.Adagrad(initial_accumulator_value=-1),
            ValueError,
            "initial_accumulator_value must be .*received -1",
        ),
        (
            lambda: SGD(use_ema=True, ema_overwrite_frequency=0),
            ValueError,
            "ema_overwrite_frequency must be an integer >= 1 or None, received 0",
        ),
        (lambda: SGD(schedules.ExponentialDecay(0.1, 1, 0.5), decay=0.1), ValueError, "cannot be combined"),
        (lambda: SGD(gradient_accumulation_steps=1), ValueError, "gradient_accumulation_steps must be"),
        (
            lambda: LossScaleOptimizer(SGD(), clipnorm=1.0),
            TypeError,
            "give it to the inner_optimizer",
        ),
        (lambda: optimizers.Lion(beta_1=0), ValueError, "beta_1 must be above 0"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.5), ValueError, "learning_rate_power must be <= 0"),
        (lambda: optimizers.ScheduleFreeAdamW(beta_1=0), ValueError, "beta_1 must be above 0"),
        (lambda: SGD().update(), ValueError, r"SGD is not built yet: call build\(variables\) first"),
        (lambda: SGD().apply([np.ones(1)]), ValueError, r"SGD is not built yet: call build\(variables\) first"),
        (lambda: SGD().build([np.ones(1)]), TypeError, "SGD updates Variables of a float dtype"),
        (
            lambda: SGD().apply([ops.ones(1)], [ops.ones(1)]),
            TypeError,
            r"Tensor of shape \(1,\).*nbkeras.Variable",
        ),
        (lambda: SGD().apply_gradients([ops.ones(1)]), TypeError, r"pairs \(gradient, variable\), received"),
        (
            lambda: SGD().minimize(lambda: 0.0, [Variable(1.0)]),
            TypeError,
            "the loss is a tensor .* received 0.0",
        ),
        (lambda: SGD().minimize(lambda: ops.sum(1.0), [ops.ones(1)]), TypeError, r"Tensor of shape \(1,\)"),
        (lambda: SGD().learn(ops.sum(1.0), [Variable(1.0)]), ValueError, "in the block of a GradientTape"),
        (lambda: SGD().apply([np.ones(1)] * 2, [Variable(np.ones(1))]), ValueError, "2 gradients for 1"),
        (lambda: SGD().apply([np.ones(2)], [Variable(np.ones(1))]), ValueError, "must have its shape"),
        (
            lambda: SGD().add_optimizer_variables([Variable(np.ones(1))], ["a", "b"], ["zeros"]),
            ValueError,
            r"an initializer for each name, received \['zeros'\] for \['a', 'b'\]",
        ),
        (
            lambda: optimizers.Optimizer(0.1).apply([np.ones(1)], [Variable(np.ones(1))]),
            NotImplementedError,
            "must define step",
        ),
        (
            lambda: SGD(loss_scale_factor=2.0).minimize(lambda: 1.0, [], tape=GradientTape()),
            ValueError,
            r"minimize\(tape=...\) cannot scale the loss: pass a function",
        ),
        (lambda: OptimizerMap(3), TypeError, "default_optimizer must be an Optimizer, received 3"),
        (
            lambda: OptimizerMap(SGD(), 3),
            TypeError,
            "must be a dict of optimizers by path, received 3",
        ),
        (
            lambda: OptimizerMap(SGD()).__setitem__(3, SGD()),
            ValueError,
            "keys are paths or patterns, each once, received 3",
        ),
        (lambda: MultiOptimizer(3), TypeError, "must be an OptimizerMap or a function, received 3"),
        (lambda: by_function().get_config(), NotImplementedError, "cannot be saved: give it an OptimizerMap"),
        (lambda: by_function().learning_rate, AttributeError, "read the rates of its `optimizers`"),
        (
            lambda: by_function().build([Variable(np.ones(1), name="other")]),
            ValueError,
            r"was built for other variables and does not know \['other'\]",
        ),
    ]
)


def test_a_gradient_in_its_view_is_not_copied():
    variable = Variable(np.zeros(2, np.float32))
    optimizer = SGD(1.0)
    optimizer.build([variable])
    device.write(optimizer.gradient_views[0], 1)
    with warnings.catch_warnings(), device.profile() as profile:
        optimizer.apply([Tensor(optimizer.gradient_views[0])])
    assert "copy" not in profile.calls
    np.testing.assert_array_equal(variable.numpy(), [-1, -1])


def test_no_gradients_make_no_step():
    optimizer = SGD()
    optimizer.apply_gradients([])
    assert not optimizer.built and int(optimizer.iterations) == 0


def test_an_entry_of_an_optimizer_map_can_be_deleted():
    optimizer = OptimizerMap(SGD(), {"a": Adam()})
    del optimizer["a"]
    assert list(optimizer) == []
