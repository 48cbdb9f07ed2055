"""Steps without a model: recorded once for each shape, replayed, and an optimizer that learns in one call."""

import pickle

import numpy as np
import pytest

from nbkeras import ops, optimizers
from nbkeras.data.adapters import Layout
from nbkeras.engine import tape
from nbkeras.engine.batch import Batch
from nbkeras.engine.tensor import Variable
from nbkeras.metrics import Mean
from nbkeras.training import step as steps

X, Y = np.eye(4, dtype=np.float32), np.arange(4, dtype=np.float32)[:, None]
OF_X, OF_X_AND_Y = Layout(0, None, 1, 0), Layout(0, 0, 1, 1)


def batch(*arrays, rows=slice(None)):
    size = len(arrays[0][rows])
    return Batch([*arrays, None], rows, size, OF_X_AND_Y) if len(arrays) == 2 else Batch(list(arrays), rows, size, OF_X)


def test_a_predict_step_is_recorded_once_for_each_shape_and_returns_copies():
    calls = []
    step = steps.Step("predict", lambda x: calls.append(x) or {"double": x * 2, "pair": [x, x + 1]})
    first = step(batch(X))
    np.testing.assert_array_equal(step(batch(X + 1))["double"], 2 * X + 2)
    np.testing.assert_array_equal(first["double"], 2 * X)
    np.testing.assert_array_equal(first["pair"][1], X + 1)
    assert step.recordings == len(calls) == 1
    step(batch(X, rows=slice(2)))
    assert step.recordings == len(step.programs()) == 2


@pytest.mark.parametrize(
    "given",
    [
        X,
        np.asfortranarray(X),
        X.astype(">f4"),
        np.repeat(X, 2, axis=1)[:, ::2],
        np.frombuffer(b"\0" + X.tobytes(), "f4", offset=1).reshape(X.shape),
        X.view(type("Subclass", (np.ndarray,), {})),
    ],
    ids=["as it is", "in columns", "bytes turned", "with gaps", "unaligned", "subclass"],
)
def test_arrays_in_any_memory_give_the_same_as_those_that_a_replay_takes_as_they_are(given):
    step = steps.Step("predict", lambda x: [x * 2, ops.sum(x)])
    step(batch(X + 1))
    cached = steps.CachedPredict(step, OF_X, X, None)
    for run in (lambda: step(batch(given)), lambda: cached(given)):
        double, total = run()
        np.testing.assert_array_equal(double, 2 * X)
        assert total.shape == () and total == X.sum() and double.flags.owndata
    assert step.recordings == 1


@pytest.mark.cpu("a GPU's arrays are always copied first")
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "?"])
def test_an_unpickled_array_is_taken_as_it_is(dtype, monkeypatch):
    """Its dtype is another object than NumPy's own."""
    x = X.astype(dtype)
    step = steps.Step("predict", lambda x: ops.maximum(x, 0))
    step(batch(x))
    cached = steps.CachedPredict(step, OF_X, x, None)
    monkeypatch.setattr(Batch, "write", None)  # which copies arrays that the replay does not take
    for given in (pickle.loads(pickle.dumps(x)), x.astype(x.dtype.newbyteorder("="))):
        assert given.dtype is not x.dtype
        for run in (lambda x: step(batch(x)), cached):
            np.testing.assert_array_equal(run(given), x)
    assert step.recordings == 1


def test_a_cached_predict_goes_on_when_its_programs_were_dropped():
    step = steps.Step("predict", lambda x: x * 2)
    step(batch(X))
    cached = steps.CachedPredict(step, OF_X, X, None)
    for rows in range(1, 12):  # more signatures than a cache keeps
        step(batch(np.zeros((rows, 2), np.float32)))
    recordings = step.recordings
    for _ in range(3):
        np.testing.assert_array_equal(cached(X), 2 * X)
    step.forget()
    np.testing.assert_array_equal(cached(X), 2 * X)
    assert step.recordings == recordings + 2


def train_step(variable, optimizer, eagerly=False):
    mean = Mean("loss")

    def learn(data):
        x, y = data
        with tape.GradientRecording():
            loss = ops.mean(ops.square(ops.matmul(x, variable) - y))
        mean.update_state(loss)
        optimizer.learn(loss, [variable])
        return steps.MetricResults(lambda: {"loss": mean.result()})

    return steps.Step("train", learn, eagerly), mean


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)),
        lambda: optimizers.Adam(0.1, use_ema=True, gradient_accumulation_steps=2),
        lambda: optimizers.LossScaleOptimizer(optimizers.RMSprop(0.1)),
        lambda: optimizers.SGD(0.5, decay=0.5, clipnorm=0.1),
    ],
    ids=["schedule", "average of accumulated gradients", "scaled loss", "decay and clipping"],
)
def test_a_replayed_train_step_learns_as_an_eager_one(make):
    found = []
    for eagerly in (False, True):
        weight = Variable(np.zeros((4, 1)), name="w")
        step, mean = train_step(weight, make(), eagerly)
        for _ in range(5):
            assert step(batch(X, Y)) == {}  # the results were not read
        assert step.recordings == (0 if eagerly else 2)  # the first run builds the optimizer, which moves the weights
        found.append((weight.numpy(), float(mean.result())))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] and np.abs(found[0][0]).sum() > 0


def test_results_that_are_looked_at_leave_the_step():
    mean = Mean("loss")

    def measure(data):
        mean.update_state(ops.mean(data[0]))
        logs = steps.MetricResults(lambda: {"loss": mean.result()})
        return {**logs, "more": ops.sum(data[1])}

    logs = steps.Step("test", measure)(batch(X, Y))
    assert {name: value.item() for name, value in logs.items()} == {"loss": 0.25, "more": 6.0}


def test_metric_results_are_a_dict_computed_once():
    for look in (dict, list, repr, len, lambda r: r | {}, lambda r: {} | r, lambda r: r == {}, lambda r: r.update(b=2)):
        computed = []
        results = steps.MetricResults(lambda computed=computed: computed.append(1) or {"a": 1})
        assert not results.is_computed and isinstance(results, dict)
        look(results)
        assert results["a"] == 1 and computed == [1]


def test_logs_must_be_a_dict():
    with pytest.raises(TypeError, match="train_step must return a dict of logs by name, received Tensor"):
        steps.Step("train", lambda data: data[0])(batch(X, Y))
