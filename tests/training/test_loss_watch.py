"""A loss that is NaN or infinite, because the data are, gives one warning that says where they are."""

import warnings

import numpy as np
import pandas as pd
import pytest
from made_models import compiled
from own_models import Around
from scipy import sparse

import nbkeras as keras
from nbkeras import layers

X, Y = np.ones((10, 2), "float32"), np.ones((10, 1), "float32")
BAD, BAD_Y = X.copy(), Y.copy()
BAD[[3, 7], 1], BAD[8, 1], BAD_Y[2] = np.nan, np.inf, np.nan
HOLES = (
    "x has 2 NaN and 1 infinite numbers of 20 in column 1, in 3 of 10 rows (3, 7, 8, counted from 0). Drop these rows"
)


def made(*more):
    model = compiled(keras.Sequential([keras.Input((2,)), *more, layers.Dense(1)]))
    return model


def warned(function, *args, **kwargs):
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function(*args, **kwargs)
    assert all(each.filename == __file__ for each in found)
    return [str(each.message) for each in found]


def batches(*items):
    yield from items


class Set(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (BAD if index else X), Y


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (BAD, Y, {}, f"so are the data: {HOLES}"),
        (pd.DataFrame(BAD, columns=["age", "income"]), Y, {}, "of 20 in column 'income', in 3 of 10 rows (3, 7, 8, "),
        (sparse.csr_matrix(BAD), Y, {}, HOLES),
        (X, BAD_Y, {}, "so are the data: y has 1 NaN and 0 infinite numbers of 10 in 1 of 10 rows (2, "),
        (BAD, BAD_Y, {}, "; y has 1 NaN"),
        (X, Y, {"validation_data": (BAD, Y)}, f"so are the data: in the evaluated data {HOLES}"),
        (
            BAD[:5],
            Y[:5],
            {"validation_split": 0.4},
            "in the evaluated data x has 1 NaN and 0 infinite numbers of 4 in column 1, in 1 of 2 rows (0",
        ),
        (batches((X, Y), (BAD, Y), (X, Y)), None, {"steps_per_epoch": 1}, f"in batch 0 (counted from 0) {HOLES}"),
        (Set(), None, {"shuffle": False}, f"in batch 1 (counted from 0) {HOLES}"),
        (BAD, Y, {"callbacks": [keras.callbacks.TerminateOnNaN()]}, HOLES),
    ],
    ids=[*("x", "frame", "sparse", "y", "both", "validation", "split", "generator", "sequence", "TerminateOnNaN")],
)
def test_fit_says_once_where_the_data_are_not_finite(x, y, options, message):
    (found,) = warned(made().fit, x, y, epochs=3, verbose=0, **options)
    assert found.startswith("the loss is NaN or infinite") and message in found


def test_data_of_a_finite_loss_are_not_searched():
    fills = layers.Lambda(lambda x: keras.ops.nan_to_num(x, posinf=0.0))
    assert warned(made(fills).fit, BAD, Y, epochs=2, verbose=0) == []
    assert warned(made(fills).fit, batches((BAD, Y)), verbose=0) == []


def test_a_loss_that_diverges_is_no_fault_of_the_data():
    model = compiled(made(), keras.optimizers.SGD(1e30))
    assert warned(model.fit, X, 2 * Y, epochs=5, verbose=0) == []


def test_inputs_are_named():
    inputs = {name: keras.Input((1,), name=name) for name in ("age", "income")}
    model = compiled(keras.Model(inputs, layers.Dense(1)(layers.concatenate(list(inputs.values())))))
    columns = {"income": BAD[:, 1:], "age": X[:, :1]}
    (found,) = warned(model.fit, columns, Y, verbose=0)
    assert "so are the data: x['income'] has 2 NaN and 1 infinite numbers of 10 in 3 of 10 rows" in found
    (found,) = warned(model.evaluate, pd.DataFrame({n: c[:, 0] for n, c in columns.items()}), Y, verbose=0)
    assert "x['income'] has 2 NaN" in found


@pytest.mark.parametrize("times", [1, 2], ids=["first", "known"])
@pytest.mark.parametrize("reset", [True, False])
def test_one_batch(times, reset):
    model = made()
    for _ in range(times):
        assert warned(model.train_on_batch, X, Y, reset_metrics=reset) == []
        assert warned(model.test_on_batch, X, Y, reset_metrics=reset) == []
    assert [HOLES in line for line in warned(model.test_on_batch, BAD, Y, reset_metrics=reset)] == [True]
    assert [HOLES in line for line in warned(model.train_on_batch, BAD, Y, reset_metrics=reset)] == [True]
    assert warned(model.train_on_batch, X, Y) == []  # the weights are NaN, the data are not


def test_the_loss_that_an_own_step_returns():
    class Own(Around):
        def train_step(self, data):
            return {"loss": keras.ops.mean(self(data))}

    model = compiled(Own(layers.Dense(1)), "sgd", None)
    for x in (BAD, batches(BAD)):
        assert [HOLES in line for line in warned(model.fit, x, verbose=0)] == [True]
