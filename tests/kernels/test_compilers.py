"""Processes that compile beside a first run, and the launches of a recorded step that wait for them."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.loops import gemm as gemm  # its functions are registered when it is imported
from nbkeras.kernels.runtime import cgroups, code, compilers, device
from nbkeras.kernels.runtime.cache import compiled

pytestmark = pytest.mark.cpu("processes compile the CPU's kernels, and only launches of these wait for them")

F = "float32"

# It has no `if __name__ == "__main__"`, and the second model finds some kernels in the cache.
FIT = """
import hashlib, sys, threading
import numpy as np
import nbkeras as keras
from nbkeras.kernels.runtime import compilers

print("begins")
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(48, 12)).astype("float32")
y = np.arange(48) % 3
made = []
finish = compilers._Compilers._finish
def counting(self, task, content):
    made.append((threading.current_thread().name, content is not None))
    finish(self, task, content)
compilers._Compilers._finish = counting
for units in (8, 16):
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(3, "softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=2, batch_size=16, verbose=0, validation_split=0.25)
    print(history.history)
    print(hashlib.sha256(b"".join(each.tobytes() for each in model.get_weights())).hexdigest())
print(sum(is_made for name, is_made in made if name == "nbkeras-compiler"), file=sys.stderr)
"""


def fitted(cache, processes, program=FIT):
    """The output of FIT, the number of kernels that processes compiled, and its warnings."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NBKERAS_COMPILERS": str(processes)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=600
    )
    *warnings, number = done.stderr.strip().splitlines()
    return done.stdout, int(number), "\n".join(warnings)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The cache and the output of FIT without processes."""
    cache = tmp_path_factory.mktemp("alone")
    return cache, fitted(cache, 0)


@pytest.fixture
def processes(monkeypatch):
    """Lets this process use two others."""
    monkeypatch.setenv(compilers.VARIABLE, "2")
    monkeypatch.setattr(compilers, "_made", [])
    yield compilers._compilers()
    compilers._stop()


def task(symbol="nbkeras_sgemm_at", **changes):
    found = code._task(symbol)
    return found._replace(job=found.job._replace(**changes))


def requested(*tasks):
    for each in tasks:
        compilers.request(each)
    return list(tasks)


def answer(wanted):
    return compilers.code_of(wanted, lambda: None)


def wait_until(is_done):
    for _ in range(3000):
        if is_done():
            return
        time.sleep(0.02)
    raise TimeoutError("nothing happened for a minute")


# -------------------- a first run --------------------


@pytest.mark.process
def test_a_first_run_gives_the_same_bits(tmp_path, alone):
    cache, (output, none, _) = alone
    together, some, warnings = fitted(tmp_path, 2)
    assert together == output and none == 0 and some > 0 and warnings == ""
    assert together.count("begins") == 1  # the user's program was not imported again
    names = [{path.name for path in (each / "nbkeras").iterdir()} for each in (cache, tmp_path)]
    assert names[1] < names[0]  # the code that starts single launches was not needed


@pytest.mark.process
def test_a_cache_that_cannot_be_written_gives_a_warning_and_the_same_bits(tmp_path, alone):
    (tmp_path / "file").touch()
    output, number, warnings = fitted(tmp_path / "file", 2)
    assert output == alone[1][0] and number > 0 and warnings.count("could not save a compiled kernel") == 1


# -------------------- processes --------------------


@pytest.mark.process
def test_a_process_makes_the_code_of_a_task(processes):
    wanted = [task("nbkeras_play"), task("nbkeras_play_loop"), task("nbkeras_wake_all")]
    requested(*wanted, *wanted)  # each is queued once
    wait_until(lambda: all(isinstance(processes._states.get(each.job), bytes) for each in wanted))
    assert all(code.load(answer(each)) for each in wanted)
    assert answer(wanted[0]) is None  # the caller has its code and keeps it
    (process,) = processes._processes
    compilers._stop()
    assert process.returncode is not None and processes._threads == []


@pytest.mark.process
def test_a_process_that_would_make_other_code_makes_none(processes):
    """It compiles what the same files, versions and settings give; otherwise the caller compiles."""
    unknown = task("nbkeras_play", name="nbkeras_unknown"), task(module="nbkeras.kernels.unknown")
    others = requested(task(file="another.nbc"), *unknown)
    wait_until(lambda: all(each is None for each in processes._states.values()))
    assert [answer(each) for each in others] == [None] * 3 and processes.works


@pytest.mark.process
def test_a_killed_process_is_replaced_by_the_caller(processes):
    wanted = requested(task(), task("nbkeras_play"), task("nbkeras_play_loop"))
    wait_until(lambda: compilers._BEGUN in processes._states.values())
    begun = next(each for each in wanted if processes._states[each.job] is compilers._BEGUN)
    processes._processes[0].send_signal(signal.SIGKILL)
    assert answer(begun) is None and not compilers.are_available()
    wait_until(lambda: not processes._threads)
    assert processes._processes == []


@pytest.mark.process
def test_nobody_waits_long_for_a_stopped_process(processes, monkeypatch):
    monkeypatch.setattr(compilers, "_PATIENCE_SECONDS", 0.1)
    requested(task("nbkeras_play"), task("nbkeras_play_loop"))
    wait_until(lambda: processes._states[task("nbkeras_play").job] is compilers._BEGUN)
    processes._processes[0].send_signal(signal.SIGSTOP)
    assert answer(task("nbkeras_play")) is None


@pytest.mark.process
def test_a_python_that_cannot_be_started_is_not_needed(processes, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    requested(task("nbkeras_play"), task("nbkeras_play_loop"))
    wait_until(lambda: not processes.works)
    assert answer(task("nbkeras_play")) is None


@pytest.mark.process
def test_a_forked_child_has_processes_of_its_own(processes):
    requested(task("nbkeras_play"), task("nbkeras_play_loop"))
    wait_until(lambda: processes._processes)
    pipe = processes._processes[0].stdin.fileno()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(pipe)
        except OSError:
            os._exit(0 if not compilers._made else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_caller_compiles_what_no_process_has_begun(processes, monkeypatch):
    monkeypatch.setattr(processes, "maximum", 0)
    made = []
    tasks = [
        task(file=str(i))._replace(make=lambda i=i: made.append(i) or b"", following=lambda content: ())
        for i in range(4)
    ]
    for each in tasks:
        processes.request(each)
    assert answer(tasks[1]) is None and made == []  # its own task
    processes._states[tasks[0].job] = compilers._BEGUN
    processes._waiting.popleft()
    finisher = threading.Timer(0.3, processes._finish, (tasks[0], b"code"))
    finisher.start()
    calls = []
    assert compilers.code_of(tasks[0], lambda: calls.append(1)) == b"code"
    assert made == [3, 2] and calls == [1]  # from the end, until its own was done
    finisher.join()
    assert compilers.code_of(tasks[2], lambda: calls.append(2)) == b"" and calls == [1]  # its compilation was reported


@pytest.mark.parametrize(
    ("variables", "processors", "memory", "maximum"),
    [
        *(({}, 4, None, 3), ({}, 64, 2 * 2**30, 2)),
        *(({"NUMBA_NUM_THREADS": "2"}, 4, None, 1), ({"NUMBA_NUM_THREADS": "1"}, 4, None, 0)),
        *(({"NBKERAS_COMPILERS": "0"}, 4, None, 0), ({"NBKERAS_COMPILERS": "6"}, 4, None, 6)),
    ],
)
def test_number_of_processes(monkeypatch, variables, processors, memory, maximum):
    for name in ("NUMBA_NUM_THREADS", "NBKERAS_COMPILERS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compilers, "_threads", [])  # another test may have set them
    monkeypatch.setattr(cgroups, "usable_processors", lambda: processors)
    monkeypatch.setattr(cgroups, "memory", lambda: memory)
    assert compilers._maximum() == maximum


def test_as_many_processes_as_threads_compile(processes, monkeypatch):
    monkeypatch.delenv("NBKERAS_COMPILERS")
    monkeypatch.setattr(cgroups, "usable_processors", lambda: 4)
    monkeypatch.setattr(compilers, "_threads", [])
    compilers.use_processors(2)
    assert processes.maximum == 1
    compilers.use_processors(1)
    assert not compilers.are_available()


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/opt/application"])
def test_only_a_python_starts_processes(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert compilers._maximum() == 0


# -------------------- launches that wait --------------------


def kernels():
    """Two kernels that have no code yet, and one that raises an error. The file name is new, so none is on disk."""
    text = """
def add(x, y):
    for i in range(x.size):
        y[i] = x[i] + 1

def double(x):
    for i in range(x.size):
        x[i] = 2 * x[i]

def fail(x):
    if x[0] == x[0]:
        raise ValueError("the kernel's own message")
"""
    names = {}
    exec(compile(text, "<kernels that are not kept>", "exec"), {"__name__": "kernels_of_a_test"}, names)
    for each in names.values():
        each.__module__ = "kernels_of_a_test"
    return [compiled(each) for each in names.values()]


@pytest.fixture
def arrays():
    return device.persistent(np.ones(3, F)), device.persistent(np.zeros(3, F))


def test_launches_wait_and_run_in_order(processes, arrays):
    (add, double, _), (x, y), recorder = kernels(), arrays, Recorder()
    with device.record(recorder):
        device.launch(add, x, y)
        device.launch(device.copy, y, x)
        device.launch(double, y)
        device.launch(add, y, x)
        assert x.tolist() == [1, 1, 1] and y.tolist() == [0, 0, 0]
    assert y.tolist() == [4, 4, 4] and x.tolist() == [5, 5, 5]
    program = recorder.sealed([]).bind()
    program.run()
    assert y.tolist() == [12, 12, 12] and x.tolist() == [13, 13, 13]


@pytest.mark.parametrize("read", [device.read, lambda y: device.ordinary() and y], ids=["read", "ordinary"])
def test_launches_run_before_a_value_is_read(processes, arrays, read):
    (add, double, _), (x, y) = kernels(), arrays
    with device.record(Recorder()):
        device.launch(add, x, y)
        device.launch(double, y)
        assert read(y).tolist() == [4, 4, 4]


def test_launches_wait_while_new_arrays_are_made(processes, arrays):
    (add, *_), (x, y) = kernels(), arrays
    with device.record(Recorder()):
        device.launch(add, x, y)
        with device.ordinary(makes_new=True):
            z = device.persistent_empty((3,), F)
            device.launch(device.fill, z, 7)
        assert z.tolist() == [7, 7, 7] and y.tolist() == [0, 0, 0]
    assert y.tolist() == [2, 2, 2]


def test_launches_run_before_a_value_is_written(processes, arrays):
    (add, *_), (x, y) = kernels(), arrays
    with device.record(Recorder()):
        device.launch(add, x, y)
        device.write(x, np.zeros(3, F))
    assert x.tolist() == [0, 0, 0] and y.tolist() == [2, 2, 2]


def test_the_error_of_a_waiting_kernel_names_it(processes, arrays):
    (add, double, fail), (x, y) = kernels(), arrays
    with pytest.raises(ValueError, match="the kernel's own message") as found, device.record(Recorder()):
        device.launch(add, x, y)
        device.launch(fail, x)
        device.launch(double, y)
    assert "raised by the kernel 'fail'" in found.value.__notes__[0]
    assert y.tolist() == [2, 2, 2]  # as without waiting, later launches did not run


def test_wrong_arguments_are_refused_at_the_launch(processes, arrays):
    (add, *_), (x, y) = kernels(), arrays
    with device.record(Recorder()):
        device.launch(add, x, y)
        with pytest.raises(TypeError, match="takes 2 arguments"):
            device.launch(add, x)


@pytest.mark.parametrize(("kind", "result"), [(ZeroDivisionError, 2), (KeyboardInterrupt, 0)])
def test_launches_before_an_error_run_but_not_after_an_interrupt(processes, arrays, kind, result):
    (add, *_), (x, y) = kernels(), arrays
    with pytest.raises(kind, match="stopped after a launch"), device.record(Recorder()):
        device.launch(add, x, y)
        raise kind("stopped after a launch")
    assert y.tolist() == [result] * 3
    device.run_waiting()
    assert y.tolist() == [result] * 3


def test_nothing_waits_without_processes(processes, arrays, monkeypatch):
    (add, *_), (x, y) = kernels(), arrays
    monkeypatch.setattr(processes, "maximum", 0)
    with device.record(Recorder()):
        device.launch(add, x, y)
        assert y.tolist() == [2, 2, 2]
