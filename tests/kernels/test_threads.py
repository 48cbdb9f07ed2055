"""Shares of a kernel on several threads: every share once, from any thread, after a sleep, a fork, and beside a busy pool."""

import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import stress
from in_threads import at_once
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

import nbkeras
from nbkeras.kernels.runtime import variables
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.pool import Pool
from nbkeras.kernels.runtime.threads import get_threads, launch_shares, set_threads, share_count

pytestmark = pytest.mark.cpu("the CPU's threads")


@compiled
def spin(x, rounds, share, shares):
    for i in range(share, x.size, shares):
        for _ in range(rounds):
            x[i] = x[i] * 0.5 + 1.0


@intrinsic
def counted(typing, array):
    """Whether views of an array add to the number of its references."""

    def generate(context, builder, signature, args):
        return cgutils.is_not_null(builder, make_array(signature.args[0])(context, builder, args[0]).meminfo)

    return types.boolean(array), generate


@compiled
def look(x, found, share, shares):
    found[share] = counted(x)


def test_views_inside_of_shares_are_not_counted():
    """Threads that view rows of one array would wait for each other at every row."""
    found = np.ones(4, np.bool_)
    launch_shares(look, 4, np.zeros((3, 2)), found)
    assert not found.any()


@pytest.mark.parametrize("threads", range(1, get_threads() + 1))
@pytest.mark.parametrize("shares", [2, 3, 7, 32, 1000])
def test_every_share_runs_once(shares, threads):
    before = get_threads()
    set_threads(threads)
    try:
        for _ in range(199):
            stress.launch_counted(shares)
    finally:
        set_threads(before)


def test_threads_that_fell_asleep_wake_up():
    for _ in range(5):
        time.sleep(0.01)
        stress.launch_counted(64)


def test_python_threads_launch_at_the_same_time():
    at_once(*(lambda seed=seed: [stress.launch_counted(16 + seed) for _ in range(300)] for seed in range(4)))


def test_one_share_is_an_ordinary_launch():
    times = np.zeros(1, np.int64)
    with nbkeras.profile() as profile:
        launch_shares(stress.count, 1, times, times.copy())
        stress.launch_counted(2)
    assert times[0] == 1 and profile.calls == {"count": 2}


def test_share_count():
    assert [share_count(size, 100) for size in (0, 50, 199, 200, 10**9)] == [1, 1, 1, 2, 32]


def test_a_system_without_threads_to_give_is_served_by_one(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    before = get_threads()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        patch.setattr(Pool, "current", None)
        patch.setattr(Pool, "chosen", None)
        stress.launch_counted(8)
        assert get_threads() == 1
        with pytest.raises(ValueError, match="must be 1 to 1"):
            set_threads(2)
    set_threads(before)


@pytest.mark.parametrize(
    "text", ["99999999999", "1025", "0", "-1", "abc", "1.5", "1e5", "²", "9" * 5000], ids=lambda text: repr(text[:12])
)
def test_an_absurd_number_in_the_environment_is_ignored_with_a_warning_that_names_it(monkeypatch, text):
    monkeypatch.setenv("NUMBA_NUM_THREADS", text)
    variables._number.cache_clear()
    message = (
        f"NUMBA_NUM_THREADS must be an integer from 1 to 1024, received '{re.escape(text[:60])}': nbkeras ignores it"
    )
    with pytest.warns(RuntimeWarning, match=message):
        assert variables.threads() is None
    assert variables.threads() is None, "there is one warning"


@pytest.mark.parametrize(("text", "threads"), [("", None), ("1", 1), (" 2 ", 2), ("1024", 1024), ("٣", 3)])
def test_the_number_of_threads_in_the_environment(monkeypatch, text, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", text)
    assert variables.threads() == threads


def test_number_of_threads_is_checked():
    for wrong in (0, -1, get_threads() + 1000, 99999999999, 1.5, 1e5, True, "2", "abc", "", " 2 "):
        with pytest.raises(ValueError, match="number of threads must be 1 to"):
            set_threads(wrong)


def started_threads(setting, cores, quota):
    """(number of threads, of which so many were started) of a process on many cores in a container with a quota."""
    code = (
        "import os, threading\n"
        f"os.sched_getaffinity = lambda _: set(range({cores}))\n"
        "from nbkeras.kernels.runtime import cgroups, threads\n"
        f"cgroups.processors = lambda root='/': {quota}\n"
        f"{setting}\n"
        "print(threads.get_threads(), sum(t.name.startswith('nbkeras-') for t in threading.enumerate()))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, check=True, text=True
    )
    return tuple(map(int, done.stdout.split()))


@pytest.mark.process
def test_a_container_has_as_many_threads_as_its_quota_keeps_busy_and_more_if_they_are_wanted():
    assert started_threads("", 6, 2.5) == (2, 1)
    assert started_threads("threads.set_threads(5)", 6, 2.5) == (5, 4)


@pytest.mark.process
def test_a_process_starts_no_more_threads_than_it_uses():
    assert started_threads("threads.set_threads(1)", 64, None) == (1, 0)
    assert started_threads("threads.set_threads(1)\nthreads.set_threads(3)", 64, None) == (3, 2)


FORK = """
import os, numpy as np, nbkeras

def train():
    nbkeras.utils.set_random_seed(1)
    model = nbkeras.Sequential([nbkeras.Input((256,)), nbkeras.layers.Dense(512), nbkeras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).standard_normal((128, 256)).astype("float32")
    return model.fit(x, x[:, :1], epochs=2, verbose=0).history["loss"][-1]

expected = train()
pid = os.fork()
if pid == 0:
    os._exit(0 if train() == expected else 1)
assert os.waitpid(pid, 0)[1] == 0 and train() == expected
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_goes_on(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORK], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


FORK_WITH_LOCKS = """
import os, threading, numpy as np, nbkeras
from nbkeras.kernels.runtime import fork_safety, threads

model = nbkeras.Sequential([nbkeras.Input((4,)), nbkeras.layers.Dense(2)])
x = np.ones((3, 4), "float32")
expected = model.predict(x, verbose=0)
nbkeras.set_threads(2)
held, forked = threading.Event(), threading.Event()

def hold():  # as threads that predict, load kernels or make layers hold them for a moment
    for lock in list(fork_safety._locks):
        lock.acquire()
    held.set()
    forked.wait()
    for lock in list(fork_safety._locks):
        lock.release()

def work():
    assert threads.get_threads() == 2 and (model.predict(x, verbose=0) == expected).all()
    nbkeras.Sequential([nbkeras.Input((5,)), nbkeras.layers.Dense(2)]).predict(np.ones((3, 5)), verbose=0)

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    work()
    os._exit(0)
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
work()
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forks_while_its_threads_hold_locks(tmp_path):
    environment = os.environ | {"NUMBA_NUM_THREADS": "3"}
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORK_WITH_LOCKS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_everything_at_once(tmp_path):
    command = [sys.executable, stress.__file__, "--seconds", "15"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
def test_a_process_ends_while_its_threads_work_or_sleep(tmp_path):
    code = (
        "import numpy as np, time, sys\n"
        "import nbkeras\n"
        "m = nbkeras.Sequential([nbkeras.Input((512,)), nbkeras.layers.Dense(512)])\n"
        "m.predict(np.ones((32, 512), 'float32'))\n"
        "time.sleep(float(sys.argv[1]))\n"
    )
    # the first process compiles all that it needs
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for seconds in ("0", "0.05"):
        command = [sys.executable, "-c", code, seconds]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.process
def test_a_busy_neighbour_does_not_stop_a_launch():
    """A sleeping share costs nothing: with every processor taken, launches are as fast as one thread at least."""
    x = np.zeros(4096)
    launch_shares(spin, 32, x, 1)
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * get_threads())]
    try:
        for _ in range(2000):
            launch_shares(spin, 32, x, 1)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert np.allclose(x, 2.0)
