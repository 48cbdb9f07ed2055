"""Signals during a `fit` with BackupAndRestore: the step ends, a state is saved, and the signal takes effect."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.cpu("signals come to the process that trains"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows sends no signals to a process"),
]

COMMON = """
import os, signal, sys, threading, time, warnings
import numpy as np
import nbkeras as keras
from nbkeras import callbacks as cb, layers

SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM
signal.signal(SIGINT, signal.default_int_handler)  # a process that a shell starts with & ignores it
X, Y = np.arange(48, dtype=np.float32).reshape(16, 3) / 48, np.ones((16, 1), np.float32)

def made():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((3,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("adam", "mse")
    return model

class At(cb.Callback):
    "Calls a function once, at a place: (hook, epoch, batch)."
    def __init__(self, hook, epoch, batch, function):
        self.place, self.function, self.epoch = (hook, epoch, batch), function, 0
        setattr(self, hook, self.called)
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def called(self, number=None, logs=None):
        hook, epoch, batch = self.place
        number = None if isinstance(number, dict) else number  # the logs
        if (epoch, batch) == (self.epoch, number):
            self.place = None, None, None
            self.function()

def send(*numbers):
    def function():
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # Python calls the handler
    return function

def fit(*more, folder="backup", backup=True, **options):
    "(model, what fit raised)"
    model, error = made(), None
    last = [cb.BackupAndRestore(folder, save_freq=100, delete_checkpoint=False)] if backup else []
    try:
        model.fit(X, Y, 4, 3, 0, [*more, *last], validation_data=(X, Y), **options)
    except BaseException as raised:
        error = raised
    return model, error

def resumed(folder):
    return fit(folder=folder)[0].get_weights()
"""


def run(code, tmp_path, wanted=0):
    """The text that a script prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", COMMON + code],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == wanted, done.stderr
    return done


PLACES = """
before = signal.getsignal(SIGINT), signal.getsignal(SIGTERM)
whole = fit(backup=False)[0].get_weights()
for number in SIGINT, SIGTERM:
    for place in [
        ("on_train_batch_begin", 0, 0), ("on_train_batch_end", 1, 1), ("on_test_batch_end", 1, 2),
        ("on_epoch_end", 1, 1), ("on_test_begin", 2, None), ("on_epoch_end", 2, 2),
    ]:
        folder = f"{number}{place}"
        model, error = fit(At(*place, send(number)), folder=folder)
        assert (signal.getsignal(SIGINT), signal.getsignal(SIGTERM)) == before, place
        assert len(os.listdir(folder)) == 1, os.listdir(folder)
        assert all((a == b).all() for a, b in zip(whole, resumed(folder), strict=True)), place
        print(number, *place, type(error).__name__, getattr(error, "code", ""))
"""


def test_the_step_ends_and_training_goes_on_later(tmp_path):
    lines = run(PLACES, tmp_path).stdout.splitlines()
    assert len(lines) == 12
    assert [line.split()[-1] for line in lines[:6]] == ["KeyboardInterrupt"] * 6
    assert [line.split()[-2:] for line in lines[6:]] == [["SystemExit", "143"]] * 6


WAYS = """
place, before = ("on_train_batch_begin", 1, 1), signal.getsignal(SIGTERM)

# a handler of the user's own: training goes on if it returns, and the next signal is noted too
seen = []
signal.signal(SIGTERM, lambda number, frame: seen.append((number, type(frame).__name__)))
other = At("on_train_batch_begin", 2, 1, send(SIGTERM))
assert fit(At(*place, send(SIGTERM)), other, folder="returns")[1] is None
assert seen == [(SIGTERM, "frame")] * 2, seen

def refuse(number, frame):
    raise LookupError("the user's")
signal.signal(SIGTERM, refuse)
assert "the user's" in str(fit(At(*place, send(SIGTERM)), folder="raises")[1])
assert signal.getsignal(SIGTERM) is refuse and len(os.listdir("raises")) == 1
signal.signal(SIGTERM, before)

# a second one: at once, and nothing is saved
model, error = fit(At(*place, send(SIGINT, SIGINT)), folder="second")
assert type(error) is KeyboardInterrupt and not os.path.exists("second"), error
assert int(model.optimizer.iterations) == 5

# the same callback again
reused = cb.BackupAndRestore("reused", delete_checkpoint=False)
assert type(fit(At(*place, send(SIGINT, SIGINT)), reused, backup=False)[1]) is KeyboardInterrupt
assert fit(reused, backup=False)[1] is None

# signals that are ignored stay so; a handler that is changed meanwhile stays
signal.signal(SIGINT, signal.SIG_IGN)
assert fit(At(*place, send(SIGINT)), folder="ignored")[1] is None
assert signal.getsignal(SIGINT) == signal.SIG_IGN
signal.signal(SIGINT, signal.default_int_handler)
assert fit(At(*place, lambda: signal.signal(SIGINT, signal.SIG_IGN)), folder="changed")[1] is None
assert signal.getsignal(SIGINT) == signal.SIG_IGN
signal.signal(SIGINT, signal.default_int_handler)

# an error in a callback, and no BackupAndRestore
handlers = []
assert "by zero" in str(fit(At(*place, lambda: 1 / 0), folder="error")[1])
look = lambda: handlers.append((signal.getsignal(SIGINT), signal.getsignal(SIGTERM)))
fit(At(*place, look), backup=False)
look()
assert handlers == [(signal.default_int_handler, before)] * 2, handlers

# in another thread there are no handlers
thread = threading.Thread(target=fit, args=[At(*place, look)])
thread.start()
thread.join()
assert handlers[2] == handlers[0]

# a forked process ends at a signal
children = []
def fork():
    process = os.fork()
    if process == 0:
        os.kill(os.getpid(), SIGTERM)
        time.sleep(20)
        os._exit(0)
    children.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
assert fit(At(*place, fork), folder="fork")[1] is None
assert children == [-SIGTERM]

# a state that cannot be saved is a warning, and the signal takes effect
def vanish():
    with open("taken", "w") as file:
        file.write("a file in its place")
    send(SIGINT)()
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    assert type(fit(At(*place, vanish), folder="taken")[1]) is KeyboardInterrupt
(warned,) = warned
assert "training was interrupted, and its state could not be saved: [Errno 17] cannot write 'taken'" in str(warned.message)
"""


def test_handlers_of_the_user_second_signals_threads_and_forks(tmp_path):
    said = run(WAYS, tmp_path).stderr
    assert said.count("Training stops after this step. Ctrl-C again stops it at once.") == 3


SLOW = """
def wait():
    print("begun", flush=True)
    time.sleep(SECONDS)
fit_and_raise = fit(At("on_train_batch_begin", 1, 1, wait))[1]
print(type(fit_and_raise).__name__, os.listdir("backup"), flush=True)
raise fit_and_raise
"""


@pytest.mark.parametrize(("times", "code"), [(1, 143), (2, -signal.SIGTERM)])
def test_pre_emption(times, code, tmp_path):
    text = COMMON + SLOW.replace("SECONDS", "0.5" if times == 1 else "50")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", text], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    if times == 2:
        time.sleep(0.3)  # the first one is noted
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ("SystemExit ['0.npz']\n" if times == 1 else "") and err == ""
    assert os.path.exists(tmp_path / "backup") == (times == 1)
