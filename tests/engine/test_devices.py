"""Choosing a device: names, what is missing, and where models, optimizers, ops and metrics compute."""

import os
import subprocess
import sys

import numpy as np
import pytest
import twins
from arrays import assert_close
from in_threads import at_once
from made_models import compiled
from own_models import OwnStepAround

import nbkeras
from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import Variable, as_tensor
from nbkeras.layers import LSTM, Dense, Dropout
from nbkeras.models import Sequential
from nbkeras.optimizers import SGD, Adam

DEFAULT = nbkeras.config.get_device()


@pytest.mark.parametrize("name", ["gpu0", "cuda:", "cuda:-1", "tpu", "", None, 3])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="a device is 'cpu', 'cuda' or 'cuda:<number>'"):
        nbkeras.config.set_device(name)
    assert nbkeras.config.get_device() == DEFAULT


def test_the_cpu_is_always_there():
    with nbkeras.device("cpu"):
        assert nbkeras.config.get_device() == "cpu"
        assert ops.add(as_tensor(np.ones(3)), 1).numpy().tolist() == [2, 2, 2]
    assert nbkeras.config.get_device() == DEFAULT


def run(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_ENABLE_CUDASIM", "NBKERAS_DEVICE")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env={**kept, **environment}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.process
@pytest.mark.skipif(twins.has_gpu(), reason="there is a GPU")
def test_without_a_gpu_a_sentence_says_what_to_do_and_the_cpu_goes_on():
    code = """
import numpy as np, nbkeras
try:
    nbkeras.config.set_device("cuda")
except nbkeras.DeviceError as error:
    print(error)
print(nbkeras.config.get_device(), nbkeras.ops.add(np.ones(2), 1).numpy())
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
    message, rest = result.stdout.splitlines()
    assert message.startswith("device 'cuda' cannot be used: ") and "Everything runs on the CPU" in message
    assert ("pip install" in message) == ("not installed" in message)
    assert rest == "cpu [2. 2.]"


@pytest.mark.process
def test_importing_nbkeras_imports_nothing_for_gpus():
    code = "import sys; there = set(sys.modules); import nbkeras; print([m for m in set(sys.modules) - there if 'cuda' in m])"
    assert run(code).stdout.strip() == "[]"


@pytest.mark.process
@pytest.mark.skipif(twins.has_gpu(), reason="there is a GPU")
def test_the_environment_chooses_the_device():
    result = run("import nbkeras", NBKERAS_DEVICE="cuda")
    assert result.returncode == 1 and "device 'cuda' cannot be used" in result.stderr


# On a GPU, or in the simulator

x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
y = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]


def small_model():
    nbkeras.utils.set_random_seed(3)
    return Sequential([Dense(5, "tanh", input_shape=(4,)), Dropout(0.5), Dense(3, "softmax")])


@twins.needs_cuda
def test_a_model_computes_where_it_was_made():
    expected = compiled(small_model(), SGD(0.1), "categorical_crossentropy", metrics=["accuracy"])
    with nbkeras.device("cuda"):
        model = small_model()
    assert nbkeras.config.get_device() == DEFAULT
    model.compile(SGD(0.1), "categorical_crossentropy", metrics=["accuracy"])
    assert_close(model.get_weights(), expected.get_weights(), rtol=1e-6)
    history = [
        m.fit(x, y, batch_size=4, epochs=2, shuffle=False, validation_data=(x, y), verbose=0).history
        for m in (model, expected)
    ]
    for name in history[1]:
        np.testing.assert_allclose(history[0][name], history[1][name], rtol=1e-5)
    np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=1e-5)
    assert "cuda:0" in str(model.weights[0].data) and "cuda:0" in str(model.optimizer.iterations.data)


@twins.needs_cuda
def test_a_layer_built_later_is_built_where_it_was_made():
    with nbkeras.device("cuda"):
        layer = LSTM(3)
    output = layer(x.reshape(2, 3, 4))
    assert "cuda:0" in str(layer.weights[0].data) and "cuda:0" in str(output.data)


@twins.needs_cuda
def test_an_op_runs_where_its_tensors_are_and_brings_arrays_along():
    with nbkeras.device("cuda"):
        v = Variable(x)
    with nbkeras.device("cpu"):
        total = v * 2 + x
        assert "cuda:0" in str(total.data)
        np.testing.assert_allclose(total.numpy(), 3 * x, rtol=1e-6)
        v.assign(x + 1)
        v.assign_add(x)
        np.testing.assert_allclose(v.numpy(), 2 * x + 1, rtol=1e-6)
        with GradientTape() as tape:
            loss = ops.sum(v * v)
        np.testing.assert_allclose(tape.gradient(loss, v).numpy(), 2 * v.numpy(), rtol=1e-6)
        optimizer = Adam(0.1)
        optimizer.apply_gradients([(as_tensor(x), v)])
    assert "cuda:0" in str(optimizer.iterations.data)


@twins.needs_cuda
def test_a_gradient_does_not_cross_devices():
    with nbkeras.device("cuda"):
        v = Variable(x)
    with nbkeras.device("cpu"):
        w = Variable(x)
        with GradientTape(), pytest.raises(ValueError, match="cuda:0 .*while a gradient is recorded"):
            v * w  # noqa: B018


@twins.needs_cuda
def test_threads_have_devices_of_their_own():
    with nbkeras.device("cuda"):
        assert at_once(nbkeras.config.get_device) == [DEFAULT]


@twins.needs_cuda
def test_a_model_saved_on_one_device_loads_on_the_other(tmp_path):
    with nbkeras.device("cuda"):
        model = compiled(small_model(), "adam")
        model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    with nbkeras.device("cpu"):
        again = nbkeras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.predict(x), model.predict(x), rtol=1e-5)
    np.testing.assert_equal(again.optimizer.get_weights(), model.optimizer.get_weights())


@twins.needs_cuda
def test_weights_and_metrics_are_read_and_set_from_outside():
    with nbkeras.device("cuda"):
        model = small_model()
        metric = nbkeras.metrics.Mean()
        auc = nbkeras.metrics.AUC(num_thresholds=5)
    weights = [w + 1 for w in model.get_weights()]
    model.set_weights(weights)
    np.testing.assert_equal(model.get_weights(), weights)
    metric.update_state([1.0, 2.0, 6.0])
    assert float(metric.result()) == 3
    auc.update_state([0, 1], [0.2, 0.9])
    assert float(auc.result()) == 1
    metric.reset_state()
    assert float(metric.result()) == 0


@twins.needs_cuda
def test_a_recorded_program_plays_from_several_threads():
    with nbkeras.device("cuda"):
        model = small_model()
    want = model.predict(x)
    got = at_once(*[lambda i=i: [model.predict(x[:i]) for _ in range(3)] for i in (1, 2, 3)])
    for i, results in enumerate(got, 1):
        assert_close(results, [want[:i]] * 3, rtol=1e-5)


@twins.needs_cuda
def test_a_subclass_with_a_loop_of_its_own():
    losses = {}
    for name in ("cpu", "cuda"):
        nbkeras.utils.set_random_seed(0)
        with nbkeras.device(name):
            model = OwnStepAround(Dense(1))
        model.compile(SGD(0.05))
        losses[name] = model.fit(x, x[:, :1], batch_size=3, epochs=3, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-5)
