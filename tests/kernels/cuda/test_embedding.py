"""Embedding and updates by rows on the GPU against those on the CPU."""

import numpy as np
import pytest
import twins

from nbkeras import optimizers
from nbkeras.engine.recorder import Recorder
from nbkeras.engine.tensor import Variable
from nbkeras.kernels import embedding, row_updates
from nbkeras.kernels import optimizers as optimizers_kernels
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda


def indices_of(kind, rows, size, seed=0):
    """Indices into a table: any, of few rows, all the same, or all different; some count from the end, some are outside."""
    rng = np.random.default_rng(seed)
    if kind == "any":
        return rng.integers(-rows - 2, rows + 2, size)
    if kind == "few":
        return np.minimum(rng.geometric(0.3, size) - 1, rows - 1)
    if kind == "one":
        return np.full(size, rows // 2)
    return rng.permutation(max(rows, size))[:size]


KINDS = ["any", "few", "one", "different"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [0, 1, 3, 4, 16, 17, 40])
def test_gather(width, dtype):
    table = np.random.default_rng(0).standard_normal((7, width)).astype(dtype)
    for shape in ((), (0,), (1,), (5, 9)):
        indices = indices_of("any", 7, shape)
        got, want = (twins.host(embedding.gather(*on(where, table, indices))[0]) for where in (twins.gpu(), None))
        np.testing.assert_array_equal(got, want)
    assert width == 0 or np.isnan(want).any()


def on(where, *arrays):
    """Arrays on a GPU or the CPU, where everything computes from then on."""
    device.set_gpu(where)
    return twins.to(where, arrays)


@pytest.fixture(autouse=True)
def where_it_was():
    before = device.gpu()
    yield
    device.set_gpu(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 5, 63, 64, 5000])
def test_places_are_sorted_by_row(kind, rows):
    from nbkeras.kernels.cuda.loops import rows as cuda_rows

    for size in (0, 1, 7, 64, 127, 500):
        indices = indices_of(kind, rows, size)
        with device.on(twins.gpu()):
            room = device.empty((4, size), np.int32)
            cuda_rows.by_row(twins.to(twins.gpu(), indices), rows, room)
        wanted = np.where(indices < 0, indices + rows, indices)
        wanted = np.where((wanted < 0) | (wanted >= rows), rows, wanted)
        order = np.argsort(wanted, kind="stable")
        np.testing.assert_array_equal(room.copy()[:2], [wanted[order], order])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, dtype):
    """Equal, because the order is the CPU's, except for rows of more than one piece of positions."""
    for rows, size, width in ((1, 1, 1), (5, 0, 3), (5, 3, 2), (11, 70, 5), (90, 130, 9), (30, 400, 3)):
        indices = indices_of(kind, rows, size)
        dy = np.random.default_rng(1).standard_normal((size, width)).astype(dtype)

        def dense(where, indices=indices, dy=dy, rows=rows):
            parts = ((indices, dy), (indices[::-1].copy(), 2 * dy))
            return RowGradient((rows, dy.shape[1]), tuple(on(where, *part) for part in parts)).dense().copy()

        got, want = dense(twins.gpu()), dense(None)
        twins._same(got, want, kind, 1e-6)
        if kind == "different":
            np.testing.assert_array_equal(got, want)


def test_gradients_in_any_order(monkeypatch):
    from nbkeras.kernels.cuda.loops import rows

    monkeypatch.setattr(rows, "_deterministic", False)
    indices, dy = indices_of("any", 11, 70), np.random.default_rng(1).standard_normal((70, 5)).astype(np.float32)
    got, want = (RowGradient((11, 5), (on(where, indices, dy),)).dense().copy() for where in (twins.gpu(), None))
    twins._same(got, want, "gradient", 1e-6)


# -------------------- updates by rows --------------------

RULES = {"SGD": {}, "Adagrad": {}, "RMSprop": {"rho": 0.8}}


def update(where, rule, kind, dtype, by_rows, steps=7, width=5):
    """A table and its optimizer's state after some steps."""
    rng = np.random.default_rng(2)
    (start,) = on(where, rng.standard_normal((13, width)).astype(dtype))
    table, optimizer = Variable(start), getattr(optimizers, rule)(0.1, **RULES[rule])
    optimizer.build([table])
    assert optimizer.takes_rows == [True]
    for step in range(steps):
        indices = indices_of(kind, 13, 40 if step % 3 else 3, seed=step)
        dy = rng.standard_normal((indices.size, width)).astype(dtype)
        rows = RowGradient(table.shape, (on(where, indices, dy),))
        if by_rows:
            optimizer.update([rows])
        else:
            rows.dense(optimizer.gradient_views[0])
            optimizer.update()
    return (table.numpy(), *optimizer.get_weights())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_updates(rule, kind, dtype):
    """Updates by rows equal those of the whole table bit by bit, on the GPU as on the CPU."""
    found = update(twins.gpu(), rule, kind, dtype, True)
    for one, other in zip(found, update(twins.gpu(), rule, kind, dtype, False), strict=True):
        np.testing.assert_array_equal(one, other)
    twins._same(found, update(None, rule, kind, dtype, True), rule, 1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_catching_up_equals_steps_without_gradient(rho, dtype):
    tiny = np.finfo(dtype).tiny
    start = np.array([[0, tiny, 3 * tiny, 1e3 * tiny, 1e6 * tiny, tiny / 8, 1.7, -2.0, np.inf, np.nan]], dtype)
    whole, zeros, rate = on(twins.gpu(), start, np.zeros(start.shape[1], dtype), np.zeros(1))
    for updates in range(12):
        v, clock, seen = on(twins.gpu(), start, np.array([7 + updates, 0]), np.array([7]))
        row_updates.settle(v, seen, clock, rho)
        np.testing.assert_array_equal(v.copy(), whole.copy())
        np.testing.assert_array_equal((*clock.copy(), *seen.copy()), 7 + updates)
        optimizers_kernels.launch(
            optimizers_kernels.rmsprop, twins.to(twins.gpu(), zeros.copy()), zeros, whole[0], rate, 0.0, rho, 1e-7
        )


def test_words_outside_the_table_have_no_gradient():
    indices = np.array([0, 4, -4, -5, 2**40])
    for rule in RULES:
        (start,) = on(twins.gpu(), np.ones((4, 3), np.float32))
        table, optimizer = Variable(start), getattr(optimizers, rule)(0.1)
        optimizer.build([table])
        optimizer.update([RowGradient((4, 3), (on(twins.gpu(), indices, np.ones((5, 3), np.float32)),))])
        assert (table.numpy()[0] < 1).all() and (table.numpy()[1:] == 1).all()


def test_replayed_updates_follow_what_changes():
    def run(where, replay):
        start, indices, dy = on(where, np.ones((9, 3), np.float32), np.zeros(4, np.int64), np.zeros((4, 3), np.float32))
        table, optimizer = Variable(start), optimizers.RMSprop(0.1)
        optimizer.build([table])
        program, recorder, rng = None, Recorder(), np.random.default_rng(0)
        for step in range(6):
            device.write(indices, rng.integers(0, 9, 4))
            device.write(dy, rng.standard_normal((4, 3)))
            optimizer.learning_rate = 0.1 / (step + 1)
            if replay and step:
                program.run()
                continue
            with device.record(recorder):
                optimizer.update([RowGradient((9, 3), ((indices, dy),))])
            program = recorder.sealed([]).bind()
        return (table.numpy(), *optimizer.get_weights())

    found = run(twins.gpu(), True)
    for one, other in zip(found, run(twins.gpu(), False), strict=True):
        np.testing.assert_array_equal(one, other)
    twins._same(found, run(None, True), "replayed", 1e-6)


def test_slots_are_up_to_date_wherever_they_are_read():
    (start,) = on(twins.gpu(), np.ones((4, 2), np.float32))
    table, optimizer = Variable(start), optimizers.RMSprop(0.1, rho=0.5)
    optimizer.build([table])
    slot = optimizer.variables[2]
    slot.assign(np.ones((4, 2)))
    for _ in range(3):
        optimizer.update([RowGradient((4, 2), (on(twins.gpu(), np.array([1]), np.zeros((1, 2), np.float32)),))])
    device.set_gpu(None)
    np.testing.assert_array_equal(slot.numpy(), np.full((4, 2), 0.125))
    with device.on(twins.gpu()), device.profile() as profile:
        slot.numpy()
    assert "_settle_rows" not in profile.calls
