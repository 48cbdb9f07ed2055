"""A whole server with two workers: clients that others wrote, over HTTP and gRPC, and sequences when a worker is killed.

The packages of others need other versions of shared packages than nbkeras's tests have. NBKERAS_CLIENTS names the Pythons that
have them, separated by colons; without it, tests run with this Python what it has.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from live_server import LiveServer

pytest.importorskip("grpc")
pytest.importorskip("uvloop")

from nbkeras import Input, Model, Sequential, layers, utils

SCRIPT = pathlib.Path(__file__).with_name("clients.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    utils.set_random_seed(0)
    x = Input((4,), name="x")
    hidden = layers.Dense(8, activation="relu")(x)
    mlp = Model(x, [layers.Dense(3, activation="softmax", name="a")(hidden), layers.Dense(2, name="b")(hidden)])
    t = Input((2,), dtype="int32", name="t")
    numbers = Model(t, layers.Flatten(name="e")(layers.Embedding(10, 4)(t)))
    lstm = Sequential([Input((None, 3), name="x"), layers.LSTM(8, return_sequences=True), layers.Dense(2, name="y")])
    for name, model in (("mlp", mlp), ("numbers", numbers), ("lstm", lstm)):
        model.save(folder / f"{name}.keras")
    rng = np.random.default_rng(0)
    given = {"x": rng.standard_normal((6, 4), "float32"), "s": rng.standard_normal((2, 5, 3), "float32")}
    given["t"] = rng.integers(0, 10, (3, 2)).astype("int32")
    a, b = mlp.predict(given["x"], verbose=0)
    e, y = numbers.predict(given["t"], verbose=0), lstm.predict(given["s"], verbose=0)
    np.savez(folder / "expected.npz", a=a, b=b, e=e, y=y, **given)
    tables = [{"path": "mlp.keras"}, {"path": "numbers.keras"}, {"path": "lstm.keras", "stream": True}]
    options = {
        "grpc_port": 0,
        "workers": 2,
        "threads": 1,
        "control": True,
        "batch_sizes": (1, 8),
        "sequence_idle_seconds": 30,
    }
    with LiveServer(folder, tables, **options) as server:
        yield server
        assert server.stop() == 0
        assert not server.tracebacks()


def interpreter(package):
    """A Python that has a package of others."""
    given = os.environ.get("NBKERAS_CLIENTS", sys.executable).split(":")
    for python in given:
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        if subprocess.run([python, "-c", code], check=False).returncode == 0:
            return python
    return pytest.skip(f"none of {', '.join(given)} has {package} (NBKERAS_CLIENTS)")


@pytest.mark.parametrize(
    ("name", "package"),
    [("triton", "tritonclient"), ("mlserver", "mlserver"), ("kserve", "kserve")],
    ids=lambda each: each,
)
def test_clients_that_others_wrote(server, name, package):
    python = interpreter(package)
    command = [python, str(SCRIPT), name, str(server.port), str(server.grpc_port), str(server.folder / "expected.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def step(server, x, identity, start=False, end=False):
    """A step of a sequence over a connection of its own, which any worker accepts."""
    parameters = {"sequence_id": identity, "sequence_start": start, "sequence_end": end}
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return server.ask("/v2/models/lstm/infer", {"inputs": [tensor], "parameters": parameters})


def test_sequences_of_a_killed_worker_are_lost_and_no_others(server):
    with np.load(server.folder / "expected.npz") as expected:
        x, y = expected["s"][:1], expected["y"][:1]
    ids = list(range(1, 21))
    for identity in ids:
        assert step(server, x[:, :1], identity, start=True)[0] == 200
    place = len(server.lines)
    os.kill(server.workers()[0], signal.SIGKILL)
    server.log("worker 0 started", first=place)
    lost = []
    for identity in ids:
        end = time.monotonic() + 20
        while True:
            try:
                status, content = step(server, x[:, 1:2], identity)
            except OSError:  # the killed worker had accepted it
                status = None
            if status in (200, 400) or time.monotonic() > end:
                break
        if status == 200:
            assert np.allclose(content["outputs"][0]["data"], y[0, 1], atol=1e-5)
        else:
            assert status == 400
            assert content["error"].startswith(f"sequence {identity} of model 'lstm' is not running")
            lost.append(identity)
    assert 0 < len(lost) < len(ids)
    for identity in lost:
        assert step(server, x[:, :1], identity, start=True)[0] == 200
        status, content = step(server, x[:, 1:2], identity, end=True)
        assert np.allclose(content["outputs"][0]["data"], y[0, 1], atol=1e-5)
