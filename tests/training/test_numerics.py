"""`debug.check_numerics`: the op, the layer and the batch where numbers stop being finite."""

import numpy as np
import pytest
from made_models import compiled

import nbkeras as keras
from nbkeras import autodiff, debug, layers, ops

X = np.abs(np.random.default_rng(0).normal(size=(32, 4))).astype("float32") + 0.1
Y = np.zeros((32, 1), "float32")


def model_of(*parts):
    model = compiled(keras.Sequential([keras.Input((4,)), *parts, layers.Dense(1, name="last")], name="net"))
    return model


def test_fit_stops_at_the_op_in_the_batch():
    x = X.copy()
    x[20] = -1.0
    model = model_of(layers.Lambda(ops.log, name="logarithm"))
    model.fit(x[:16], Y[:16], batch_size=8, verbose=0)  # recorded
    before = model.get_weights()
    with debug.check_numerics(), pytest.raises(debug.NumericsError, match="the result of op 'log' in layer") as caught:
        model.fit(x, Y, batch_size=8, shuffle=False, verbose=0)
    error = caught.value
    assert (error.op, error.batch, error.is_backward) == ("log", 2, False)
    assert error.layer.endswith("logarithm")
    assert "has 4 NaN and 0 infinite numbers of 32, the first one at [4, 0]" in str(error)
    assert "Its inputs are finite: input 0 from -1 to" in str(error)
    assert str(error).endswith("In batch 2, counted from 0.")
    # weights changed by the two good batches only
    good = model_of(layers.Lambda(ops.log, name="logarithm"))
    good.set_weights(before)
    good.fit(x[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_equal(model.get_weights(), good.get_weights())


def test_a_gradient_that_is_not_finite_is_named():
    model = model_of(layers.Lambda(lambda x: ops.sqrt(x - x), name="root"))
    with (
        debug.check_numerics(),
        pytest.raises(debug.NumericsError, match="the gradient of input 0 of op 'sqrt'") as caught,
    ):
        with keras.GradientTape() as tape:
            x = ops.convert_to_tensor(X)
            tape.watch(x)
            y = ops.sum(model(x))
        tape.gradient(y, x)
    assert caught.value.is_backward
    assert caught.value.layer.endswith("root")
    assert "The gradient of its result is finite." in str(caught.value)


def test_weights_that_are_not_finite_are_named():
    model = model_of()
    model.layers[-1].kernel.assign(np.full((4, 1), np.nan))
    with (
        debug.check_numerics(),
        pytest.raises(debug.NumericsError, match=r"\(variable 'net/last/kernel'\) had such numbers before"),
    ):
        model.predict(X, verbose=0)


def test_finite_numbers_pass_and_steps_are_recorded_again_afterwards():
    model = model_of(layers.Dense(3, "relu"))
    with debug.check_numerics():
        model.fit(X, Y, batch_size=8, verbose=0)
        checked = model.predict(X, verbose=0)
    np.testing.assert_allclose(model.predict(X, verbose=0), checked, rtol=1e-5, atol=1e-6)


def test_a_recorded_predict_is_checked_too():
    model = model_of(layers.Lambda(ops.log, name="logarithm"))
    model.predict_on_batch(X)
    model.predict_on_batch(X)
    with debug.check_numerics(), pytest.raises(debug.NumericsError, match="the result of op 'log' in layer"):
        model.predict_on_batch(-X)


def test_infinite_numbers_may_be_allowed():
    with debug.check_numerics(infinities=False):
        assert np.isinf(ops.log(ops.zeros(2)).numpy()).all()
        with pytest.raises(debug.NumericsError, match="'log' has 1 NaN and 0 infinite numbers"):
            ops.log(ops.array([0.0, -1.0]))
    with debug.check_numerics(), pytest.raises(debug.NumericsError, match="0 NaN and 2 infinite numbers"):
        ops.log(ops.zeros(2))


def test_gradients_of_gradients_are_checked():
    with debug.check_numerics(), pytest.raises(debug.NumericsError, match="infinite numbers"):
        keras.autodiff.grad(keras.autodiff.grad(lambda x: ops.sqrt(x) * 1e30))(np.float32(1e-30))


def test_ops_without_floats_pass():
    with debug.check_numerics():
        assert ops.sum(ops.array([1, 2])).item() == 3
        assert keras.layers.Input((3,)).shape == (None, 3)
        assert ops.any(ops.array([True, False])).item()


def test_the_members_of_a_vmap_are_checked_together():
    with (
        debug.check_numerics(),
        pytest.raises(debug.NumericsError, match="the result of op 'log'.*1 infinite numbers of 2"),
    ):
        autodiff.vmap(lambda x: ops.log(x))(np.array([[1.0], [0.0]]))


def test_inputs_without_numbers_are_not_told():
    with debug.check_numerics(), pytest.raises(debug.NumericsError, match="the result of op 'concatenate'") as caught:
        ops.concatenate([np.zeros(0), np.array([np.inf])])
    assert "input 1" in str(caught.value) and "input 0" not in str(caught.value)
