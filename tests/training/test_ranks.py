"""Training by several processes: sums over ranks, gradients in buckets, and faults. The jobs are in rank_jobs.py."""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rank_jobs
from made_models import compiled

import nbkeras as keras
from nbkeras.engine import ranks

mpi4py = pytest.importorskip("mpi4py")
LAUNCHER = shutil.which("mpiexec", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("mpiexec")
pytestmark = [
    pytest.mark.skipif(LAUNCHER is None, reason="there is no mpiexec"),
    pytest.mark.cpu("the jobs compute on the CPU"),
]


@pytest.fixture
def start(tmp_path):
    """Starts a job; a failed test leaves no job behind."""
    with contextlib.ExitStack() as jobs:

        def start(number, *arguments):
            command = [LAUNCHER, "-n", str(number), sys.executable, "-W", "error", rank_jobs.__file__, *arguments]
            job = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            jobs.enter_context(job)
            jobs.callback(job.terminate)
            return job

        yield start


@pytest.mark.process
@pytest.mark.parametrize(("number", "jobs"), [(4, ["sums", "buckets"]), (3, ["training"]), (2, ["stopping"])])
def test_a_job_of_several_ranks(number, jobs, start):
    process = start(number, *jobs)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


FAULTS = {
    "kill": r"because rank 1 \(host .*, process \d+\) has ended without a Python exception.*Last seen: in rank_jobs.py",
    "stop": r"because rank 1 \(host .*, process \d+\) has sent no message for \d+ s: it is stopped",
    "loop": r"because rank 1 \(host .*, process \d+\) has kept others waiting for \d+ s. "
    r"Last seen: in rank_jobs.py, line \d+, data",
    "raise": r"because rank 1 \(host .*, process \d+\) raised ValueError: row 17 is bad",
    "exit": r"because rank 1 \(host .*, process \d+\) left the job early, by os._exit\(0\) in rank_jobs.py, line \d+, data",
    "differ": r"because rank 1 \(host .*, process \d+\) runs another operation than rank 0 .*: "
    r"collective operation \d+ is an exch",
}


@pytest.mark.process
def test_a_fault_of_one_rank_ends_the_job_and_is_named(start):
    """Launchers kill all ranks when one was killed: then there are no exceptions, and the watcher alone gives the reason."""
    processes = {kind: start(2, f"fault_by_{kind}") for kind in FAULTS}
    for kind, process in processes.items():
        output, _ = process.communicate(timeout=120)
        assert process.returncode != 0, output
        assert re.search(FAULTS[kind], output), output
        if kind != "kill":
            assert "RankError: rank 1 (host" in output, output
            begin, end = (
                float(re.search(rf"{what} at (\d+\.\d+)", output)[1]) for what in ("fault", "0 knows of rank 1")
            )
            assert end - begin < 30


@pytest.mark.process
def test_a_job_that_was_killed_goes_on_with_another_number_of_ranks(start, tmp_path):
    whole, killed = start(1, "whole"), start(3, "killed")
    output, _ = killed.communicate(timeout=120)
    assert killed.returncode != 0 and re.search(FAULTS["kill"], output), output
    again = start(2, "again")
    made = {}
    for process in (whole, again):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        made[process] = int(re.search(r"(\d+) batches of 16", output)[1])
    # 10 batches were made before, of which the last ones may not have been written
    assert made[whole] == 16 and 6 <= made[again] < 12
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "again.npz") as found:
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-10)


class Pair(ranks.Group):
    """A group with a rank that does the same, and asks to stop when `wants` is set."""

    size, wants = 2, False

    def exchange(self, value):
        return [value, self.wants or value if isinstance(value, bool) else value]


@pytest.mark.parametrize(("hook", "batches"), [("train_step", 16), ("on_epoch_end", 20), ("on_train_batch_end", 1)])
def test_a_rank_stops_when_another_one_asks(hook, batches):
    """At once if a callback may ask after each batch, else after 16 batches or at the end of the epoch."""
    group = Pair()

    class Network(keras.Sequential):
        def train_step(self, data):
            group.wants |= hook == "train_step"
            return super().train_step(data)

    model = compiled(Network([keras.layers.Input((2,)), keras.layers.Dense(1)]))
    ask = keras.callbacks.LambdaCallback(**{hook: lambda *_: setattr(group, "wants", True)})
    ranks.set_current(group)
    try:
        model.fit(np.ones((40, 2)), np.ones((40, 1)), batch_size=2, epochs=3, verbose=0, callbacks=[ask])
    finally:
        ranks.set_current(None)
    assert int(model.optimizer.iterations) == batches and model.stop_training


def test_one_process_needs_no_launcher():
    distribution = keras.distribution.DataParallel()
    with distribution.scope():
        assert keras.distribution.distribution() is distribution
        assert (distribution.num_processes, distribution.process_id, ranks.current()) == (1, 0, None)
    assert keras.distribution.distribution() is None
    group = ranks.Group()
    assert (group.rank, group.size, group.exchange("x")) == (0, 1, ["x"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.initialize("10.0.0.1:1234"), ValueError, "starts no processes on other hosts"),
        (lambda d: d.initialize(timeout=0), ValueError, "timeout must be a positive number of seconds"),
        (lambda d: d.DataParallel(device_mesh=1), ValueError, "device_mesh must be a DeviceMesh, received 1"),
        (lambda d: d.DataParallel(devices=["gpu:0", "gpu:1"]), ValueError, "choose their number by `mpiexec -n`"),
        (lambda d: d.set_distribution("data"), TypeError, "takes a DataParallel or None"),
        (lambda d: d.list_devices("disk"), ValueError, "device_type must be 'cpu', 'gpu'"),
    ],
)
def test_arguments_that_do_not_apply(call, error, message):
    with pytest.raises(error, match=message):
        call(keras.distribution)


def test_a_script_that_forgets_initialize_is_told(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"initialize\(\) was not called"):
        keras.distribution.set_distribution(keras.distribution.DataParallel())


@pytest.mark.parametrize("missing", ["mpi4py", "mpi4py.MPI"])
def test_what_to_install(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delattr(mpi4py, "MPI", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[mpi\]'"):
        keras.distribution.initialize()
