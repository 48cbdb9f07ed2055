"""Tables updated row by row: bit for bit what the update of the whole table gives, at any time and for every reader."""

import numba
import numpy as np
import pytest
from counting import counted

from nbkeras import config, constraints, initializers, layers, models, ops, optimizers
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable, gradient
from nbkeras.kernels import optimizers as optimizers_kernels
from nbkeras.kernels import row_updates
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.threads import get_threads, set_threads

ROWS = 200


class WholeSGD(optimizers.SGD):
    """A subclass without `step_rows`: it updates whole tables."""


class WholeAdagrad(optimizers.Adagrad):
    pass


class WholeRMSprop(optimizers.RMSprop):
    pass


WHOLE = {optimizers.SGD: WholeSGD, optimizers.Adagrad: WholeAdagrad, optimizers.RMSprop: WholeRMSprop}
RULES = {
    "sgd": (optimizers.SGD, {"learning_rate": 0.1}),
    "adagrad": (optimizers.Adagrad, {"learning_rate": 0.1}),
    "rmsprop": (optimizers.RMSprop, {"learning_rate": 0.01}),
    "rmsprop_short": (optimizers.RMSprop, {"learning_rate": 0.01, "rho": 0.01}),  # dies out within 20 steps
    "rmsprop_for_ever": (optimizers.RMSprop, {"learning_rate": 0.01, "rho": 1.0}),
}
every_rule = pytest.mark.parametrize("rule", RULES)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    before = config.floatx()
    config.set_floatx(request.param)
    yield request.param
    config.set_floatx(before)


def make_model(optimizer, width=5, cls=models.Model, **embedding):
    """Two inputs that share a table."""
    first, second = layers.Input((6,)), layers.Input((4,))
    table = layers.Embedding(ROWS, width, **embedding)
    merged = layers.Concatenate()([layers.GlobalAveragePooling1D()(table(first)), layers.Flatten()(table(second))])
    model = cls([first, second], layers.Dense(1)(merged))
    model.compile(optimizer, "mse")
    return model


def make_pair(rule, **options):
    """A model that updates rows, and its twin that updates the whole table."""
    cls, arguments = RULES[rule]
    pair = make_model(cls(**arguments), **options), make_model(WHOLE[cls](**arguments), **options)
    pair[1].set_weights(pair[0].get_weights())
    return pair


def batches(count, seed=0):
    """15 words, sometimes all words, and 40 others in every fourth, smaller batch; some indices count from the end."""
    rng = np.random.default_rng(seed)
    for step in range(count):
        size = 5 if step % 4 == 3 else 8
        words = (0, 40) if size == 5 else (0, ROWS) if step % 20 == 0 else (ROWS - 15, ROWS)
        first = rng.integers(*words, (size, 6)) - ROWS * rng.integers(0, 2, (size, 6))
        yield [first, rng.integers(*words, (size, 4))], rng.standard_normal((size, 1))


def assert_equal(model, twin):
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


def train(pair, data):
    for x, y in data:
        for model in pair:
            model.train_on_batch(x, y)


def updated_by_rows(model):
    """Whether a step of a model that was trained before leaves the table's gradient alone."""
    table = model.layers[[type(each) for each in model.layers].index(layers.Embedding)].embeddings
    optimizer = model.optimizer
    view = optimizer.gradient_views[[v is table for v in optimizer.trainable_variables].index(True)]
    device.write(view, np.nan)
    x, y = next(batches(1))
    model.train_on_batch(x, y)
    return bool(np.isnan(view.copy()).all())


# -------------------- the same numbers --------------------


@every_rule
def test_equals_the_update_of_the_whole_table(rule, dtype):
    pair = make_pair(rule)
    train(pair, batches(130 if device.gpu() is None else 25))
    assert_equal(*pair)
    assert updated_by_rows(pair[0]) and not updated_by_rows(pair[1])


@every_rule
def test_replay_equals_eager(rule):
    model, twin = make_pair(rule)
    eager = make_model(type(model.optimizer)(**RULES[rule][1]))
    eager.run_eagerly = True
    eager.set_weights(model.get_weights())
    train((model, twin, eager), batches(30))
    assert_equal(model, eager)
    assert_equal(model, twin)


@pytest.mark.cpu("about threads")
@every_rule
def test_large_tables_are_shared_by_threads(rule):
    """Tables and gradients that make several shares, and rows of several tasks; on one thread and on two."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal((ROWS, 170)).astype("float32")
    before, found = get_threads(), []
    cls, arguments = RULES[rule]
    try:
        for make, threads in ((cls, 1), (cls, numba.config.NUMBA_NUM_THREADS), (WHOLE[cls], 1)):
            set_threads(threads)
            random, table, optimizer = np.random.default_rng(1), Variable(start), make(**arguments)
            optimizer.build([table])
            for step in range(12):
                indices = random.integers(0, ROWS if step % 5 == 0 else 9, 700)
                dy = random.standard_normal((700, 170)).astype("float32")
                rows = RowGradient(table.shape, ((device.persistent(indices), device.persistent(dy)),))
                if optimizer.takes_rows == [True]:
                    optimizer.update([rows])
                else:
                    rows.dense(optimizer.gradient_views[0])
                    optimizer.update()
            found.append([table.numpy(), *optimizer.get_weights()])
    finally:
        set_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.cpu("hands NumPy arrays to a kernel; cuda/test_embedding.py has the GPU's")
def test_rows_are_listed_in_order_whatever_was_in_memory():
    rng = np.random.default_rng(0)
    for garbage in (0, 3, -1, 2**62):
        indices = rng.integers(-13, 13, 60)  # for 10 rows: some lie outside
        slots, count, lists = np.full(10, garbage), np.zeros(1, np.int64), np.full((3, 60), garbage)
        row_updates.group(indices, slots, count, lists)
        found = {}
        for u in range(count[0]):
            at = lists[1, u]
            positions = found.setdefault(int(lists[0, u]), [])
            while at >= 0:
                positions.append(int(at))
                at = lists[2, at]
        rows = np.where(indices < 0, indices + 10, indices)
        assert len(found) == count[0]
        assert found == {row: np.flatnonzero(rows == row).tolist() for row in set(rows) if 0 <= row < 10}


@pytest.mark.cpu("hands NumPy arrays to kernels; cuda/test_embedding.py has the GPU's")
@pytest.mark.parametrize("rho", [0.0, 0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_catching_up_equals_steps_without_gradient(rho, dtype):
    """Also near the smallest normal number, and with NaN and infinity."""
    tiny = np.finfo(dtype).tiny
    start = np.array([[0, tiny, 3 * tiny, 1e3 * tiny, 1e6 * tiny, tiny / 8, 1.7, -2.0, np.inf, np.nan]], dtype)
    zeros, rate, whole = np.zeros(start.shape[1], dtype), np.zeros(1), start.copy()
    for updates in range(40):
        v, clock, seen = start.copy(), np.array([7 + updates, 0]), np.array([7])
        row_updates.settle(v, seen, clock, rho)
        np.testing.assert_array_equal(v, whole)
        assert seen[0] == clock[0] == clock[1]
        optimizers_kernels.launch(optimizers_kernels.rmsprop, zeros.copy(), zeros, whole[0], rate, 0.0, rho, 1e-7)


def test_words_outside_the_table_have_no_gradient():
    table, whole = Variable(np.ones((4, 3), "float32")), Variable(np.ones((4, 3), "float32"))
    for variable, cls in ((table, optimizers.RMSprop), (whole, WholeRMSprop)):
        optimizer = cls(0.1)
        optimizer.build([variable])
        with GradientTape():
            y = ops.embedding(np.array([0, 4, -4, -5, 2**40]), variable)
        views = optimizer.gradient_views
        optimizer.update(gradient([y], [variable], [np.ones((5, 3))], into=views, as_is=optimizer.takes_rows))
    np.testing.assert_array_equal(table.numpy(), whole.numpy())
    assert (table.numpy()[0] < 1).all() and (table.numpy()[1:] == 1).all()


def test_no_words_at_all():
    """A step without words is a step: RMSprop's state fades."""
    table, optimizer = Variable(np.ones((4, 3), "float32")), optimizers.RMSprop()
    optimizer.build([table])
    optimizer.variables[2].assign(np.ones((4, 3)))
    none = device.persistent(np.zeros(0, np.int64)), device.persistent(np.zeros((0, 3), np.float32))
    optimizer.update([RowGradient((4, 3), (none,))])
    assert (table.numpy() == 1).all() and (optimizer.variables[2].numpy() == np.float32(0.9)).all()


# -------------------- little work --------------------


def test_a_step_touches_the_rows_it_uses():
    model, _ = make_pair("rmsprop")
    call = model.layers[-1].call = counted(model.layers[-1].call)
    x, y = next(batches(1))
    model.train_on_batch(x, y)
    with device.profile() as profile:
        model.train_on_batch(x, y)
    calls = profile.calls
    assert calls["group"] == calls["_rmsprop_rows"] == calls["_tick"] == calls["rmsprop"] == 1  # the last for Dense
    assert not {"add_rows", "clear", "_settle_rows"} & calls.keys()
    assert call.calls == 1  # the second batch was a replay
    slot = model.optimizer.variables[2]
    behind = slot.clock.copy()[0] - slot.seen.copy()
    train([model], batches(3, seed=1))
    assert slot.clock.copy()[0] == 5
    assert (slot.clock.copy()[0] - slot.seen.copy()).max() > behind.max()


def test_what_is_read_again_is_not_caught_up_again():
    model, _ = make_pair("rmsprop")
    train([model], batches(3))
    slot = model.optimizer.variables[2]
    with device.profile() as profile:
        slot.numpy()
        slot.numpy()
    assert profile.calls == {"_settle_rows": 1, "copy": 1}


# -------------------- every reader --------------------


def test_slots_handed_out_before():
    model, twin = make_pair("rmsprop")
    for each in (model, twin):
        each.optimizer.build(each.trainable_weights)
    slots = [each.optimizer.variables[2] for each in (model, twin)]
    for start in range(3):
        train((model, twin), batches(7, seed=start))
        np.testing.assert_array_equal(slots[0].data, slots[1].data)
        np.testing.assert_array_equal(ops.square(slots[0]).numpy(), ops.square(slots[1]).numpy())


@pytest.mark.parametrize("rule", ["adagrad", "rmsprop"])
def test_saving_and_going_on(rule, tmp_path):
    pair = make_pair(rule)
    train(pair, batches(30))
    pair[0].save(tmp_path / "model.keras")
    loaded = models.load_model(tmp_path / "model.keras")
    assert_equal(loaded, pair[1])
    train((*pair, loaded), batches(10, seed=1))
    assert_equal(*pair)
    assert_equal(loaded, pair[1])
    assert updated_by_rows(loaded)


@pytest.mark.parametrize("rule", ["adagrad", "rmsprop"])
def test_set_weights(rule):
    pair = make_pair(rule)
    train(pair, batches(10))
    rng = np.random.default_rng(5)
    for model in pair:
        state = model.optimizer.get_weights()
        state[2] = np.abs(rng.standard_normal(state[2].shape))
        rng = np.random.default_rng(5)
        model.optimizer.set_weights(state)
    train(pair, batches(10, seed=1))
    assert_equal(*pair)


@every_rule
def test_steps_by_hand_between(rule):
    """A GradientTape gives whole gradients, and apply_gradients takes them."""
    pair = make_pair(rule)
    for round_number in range(3):
        train(pair, batches(6, seed=round_number))
        for model in pair:
            x, y = next(batches(1, seed=9))
            with GradientTape() as tape:
                loss = model.compute_loss(x, y, model(x))
            gradients = tape.gradient(loss, model.trainable_weights)
            assert gradients[0].shape == (ROWS, 5)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    assert_equal(*pair)


class ByHandWhereSmall(models.Model):
    """A recorded step by hand for batches of 5."""

    def train_step(self, data):
        x, y = data
        if y.shape[0] != 5:
            return super().train_step(data)
        with GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("first", [0, 3], ids=["rows first", "whole first"])
def test_recorded_steps_of_both_kinds(first):
    """Also if no row was behind when a step was recorded, or none has been behind so far."""
    pair, data = make_pair("rmsprop", cls=ByHandWhereSmall), list(batches(40))
    for model in pair:  # now, since it makes recorded steps be recorded again
        model.optimizer.build(model.trainable_weights)
    train(pair, data[first:3])
    for model in pair:
        model.optimizer.get_weights()
    train(pair, data[3:])
    assert_equal(*pair)
    assert updated_by_rows(pair[0])


class LogsSlots(models.Model):
    def train_step(self, data):
        super().train_step(data)
        return {"velocity": ops.sum(self.optimizer.variables[2])}


def test_a_recorded_step_that_reads_slots():
    pair = make_pair("rmsprop", cls=LogsSlots)
    for x, y in batches(12):
        assert pair[0].train_on_batch(x, y, return_dict=True) == pair[1].train_on_batch(x, y, return_dict=True)
    assert updated_by_rows(pair[0])


def test_another_rho_from_now_on():
    """It holds for steps recorded from then on, here those of smaller batches; others keep theirs."""
    pair, data = make_pair("rmsprop"), list(batches(24))
    train(pair, data[:3])
    for model in pair:
        model.optimizer.rho = 0.5
    train(pair, data[3:])
    assert_equal(*pair)


def test_frozen_for_a_while():
    pair = make_pair("rmsprop")
    for trainable in (True, False, True):
        table = pair[0].layers[2].embeddings
        before = table.numpy()
        for model in pair:
            model.layers[2].trainable = trainable
            model.compile(model.optimizer, model.loss)
        train(pair, batches(6))
        assert (table.numpy() != before).any() == trainable
    assert_equal(*pair)


# -------------------- where rows are not enough --------------------


class TiedModel(models.Model):
    """The table is the last layer's kernel too."""

    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(ROWS, 5, initializers.RandomUniform(seed=3))

    def call(self, inputs):
        return ops.matmul(ops.mean(self.table(inputs), axis=1), ops.transpose(self.table.embeddings))


@every_rule
def test_tied_weights(rule):
    cls, arguments = RULES[rule]
    pair, rng = (TiedModel(), TiedModel()), np.random.default_rng(0)
    for model, optimizer in zip(pair, (cls, WHOLE[cls]), strict=True):
        model.compile(optimizer(**arguments), "mse")
        model.build((None, 3))
    pair[1].set_weights(pair[0].get_weights())
    start = pair[0].get_weights()[0]
    for _ in range(5):
        train(pair, [(rng.integers(0, 9, (4, 3)), rng.standard_normal((4, ROWS)))])
    assert_equal(*pair)
    assert (pair[0].get_weights()[0] != start).all()


@pytest.mark.parametrize(
    "embedding",
    [{"embeddings_regularizer": "l2"}, {"embeddings_constraint": "non_neg"}],
    ids=lambda options: next(iter(options)),
)
def test_regularizers_and_constraints(embedding):
    pair = make_pair("rmsprop", **embedding)
    train(pair, batches(10))
    assert_equal(*pair)
    assert not updated_by_rows(pair[0])


def test_masked_rows_are_updated_as_whole_tables_are():
    pair = [
        models.Sequential([layers.Embedding(9, 4, mask_zero=True), layers.SimpleRNN(3), layers.Dense(1)])
        for _ in range(2)
    ]
    for model, optimizer in zip(pair, (optimizers.RMSprop, WholeRMSprop), strict=True):
        model.compile(optimizer(), "mse")
        model.build((None, 5))
    pair[1].set_weights(pair[0].get_weights())
    rng = np.random.default_rng(0)
    train(pair, [(rng.integers(0, 9 if step % 5 == 0 else 3, (4, 5)), np.ones((4, 1))) for step in range(12)])
    assert_equal(*pair)
    assert pair[0].optimizer.variables[2].clock.copy()[0] == 12


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(momentum=0.9),
        lambda: optimizers.SGD(weight_decay=0.1),
        lambda: optimizers.SGD(clipnorm=1.0),
        lambda: optimizers.SGD(global_clipnorm=1.0),
        lambda: optimizers.SGD(clipvalue=1.0),
        lambda: optimizers.SGD(use_ema=True),
        lambda: optimizers.Adagrad(epsilon=0),
        lambda: optimizers.Adagrad(epsilon=1e-60),  # 0 in float32
        lambda: optimizers.RMSprop(epsilon=0),
        lambda: optimizers.RMSprop(momentum=0.5),
        lambda: optimizers.RMSprop(centered=True),
        optimizers.Adadelta,
        optimizers.Adam,
        optimizers.AdamW,
        optimizers.Adamax,
        optimizers.Nadam,
    ],
)
def test_optimizers_that_need_whole_gradients(optimizer):
    variable, made = Variable(np.ones((4, 3), "float32")), optimizer()
    made.build([variable])
    assert made.takes_rows == [False]


def test_some_variables_by_rows():
    """Weight decay and constraints are decided for each variable."""
    a, b, c = (Variable(np.ones((4, 3), "float32"), name=name) for name in "abc")
    c.constraint = constraints.NonNeg()
    optimizer = optimizers.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["a", "c"])
    optimizer.build([a, b, c])
    assert optimizer.takes_rows == [True, False, False]
    rows = RowGradient((4, 3), ((device.persistent(np.array([2])), device.persistent(np.ones((1, 3), "float32"))),))
    for view in optimizer.gradient_views[1:]:
        rows.dense(view)
    recorder = Recorder()
    with device.record(recorder):
        optimizer.update([rows, *optimizer.gradient_views[1:]])
    program = recorder.sealed([]).bind()
    program.run()
    assert [a.numpy()[2, 0], b.numpy()[2, 0], c.numpy()[2, 0]] == [-1, -1.25, 0]
    assert [a.numpy()[0, 0], b.numpy()[0, 0], c.numpy()[0, 0]] == [1, 0.25, 1]


# -------------------- the tape --------------------


def lookups(table, count):
    rng = np.random.default_rng(0)
    return [ops.embedding(rng.integers(0, 7, 4), table) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_gradients_stay_rows_only_where_asked(count):
    table = Variable(np.random.default_rng(0).standard_normal((7, 2)))
    with GradientTape():
        targets = lookups(table, count)
    seeds = [np.random.default_rng(i).standard_normal((4, 2)) for i in range(count)]
    into = [device.persistent(np.full((7, 2), 5.0))]
    (rows,) = gradient(targets, [table], seeds, into=into, retain=True, as_is=[True])
    assert isinstance(rows, RowGradient) and (into[0].copy() == 5).all()
    (array,) = gradient(targets, [table], seeds, into=into, retain=True)
    assert array is into[0]
    np.testing.assert_array_equal(rows.dense(), array)
    (array,) = gradient(targets, [table], seeds)
    np.testing.assert_array_equal(rows.dense(), array)


@pytest.mark.parametrize("rows_last", [False, True])
def test_rows_and_arrays_are_added(rows_last):
    table = Variable(np.random.default_rng(0).standard_normal((7, 2)))
    with GradientTape():
        targets = [ops.square(table), *lookups(table, 2)]
    targets = targets if rows_last else targets[::-1]
    into = [device.persistent(np.full((7, 2), np.nan))]
    (array,) = gradient(targets, [table], into=into, as_is=[True])
    assert array is into[0]
    counts = np.bincount(np.concatenate([np.random.default_rng(0).integers(0, 7, (2, 4)).reshape(-1)]), minlength=7)
    np.testing.assert_allclose(array, 2 * table.numpy() + counts[:, None], rtol=1e-12)


def test_a_table_that_was_computed():
    table = Variable(np.random.default_rng(0).standard_normal((7, 2)))
    with GradientTape() as tape:
        doubled = table * 2.0
        y = ops.embedding([1, 1, 3], doubled)
    found = tape.gradient(y, [table, doubled])
    np.testing.assert_array_equal(found[0].numpy()[:, 0], [0, 4, 0, 2, 0, 0, 0])
    np.testing.assert_array_equal(found[1].numpy()[:, 0], [0, 2, 0, 1, 0, 0, 0])
