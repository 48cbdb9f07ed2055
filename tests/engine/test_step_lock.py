"""Weights are replaced between steps: a prediction of another thread uses all the old ones or all the new ones."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from made_models import compiled

from nbkeras.engine import step_lock
from nbkeras.layers import Dense, Input
from nbkeras.models import Sequential

LIMIT = 20  # seconds after which a waiting thread counts as hanging


def chain():
    """A model that gives its input times the product of three weights."""
    return Sequential([Input((64,)), *(Dense(64, use_bias=False) for _ in range(3))])


def weights(factor):
    return [np.full((64, 64), factor / 64, "float32") for _ in range(3)]


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def short_turns():
    """Threads' turns take at most 0.1 ms instead of 5: each access to a file waits for the turns of the others."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.big
@pytest.mark.usefixtures("short_turns")
@pytest.mark.parametrize("ask", ["predict", "call"])
@pytest.mark.parametrize("write", ["set_weights", "load_weights"])
def test_predictions_use_old_or_new_weights_while_others_write(write, ask, tmp_path):
    model, x, stop, seen = chain(), np.ones((8, 64), "float32"), threading.Event(), set()
    values = [weights(1.0), weights(2.0)]
    for number, value in enumerate(values):
        model.set_weights(value)
        model.save_weights(tmp_path / f"{number}.weights.h5")
    model.predict(x)

    def predict():
        while not stop.is_set():
            y = model.predict(x, batch_size=3) if ask == "predict" else model(x)  # several steps, or one eager call
            seen.add(tuple(np.unique(y)))

    threads = [in_thread(predict) for _ in range(2)]
    for number in range(400 if write == "set_weights" else 40):
        if write == "set_weights":
            model.set_weights(values[number % 2])
        else:
            model.load_weights(tmp_path / f"{number % 2}.weights.h5")
    stop.set()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert seen <= {(1.0,), (8.0,)}


def test_a_step_waits_for_the_writer_and_the_writer_for_steps():
    order, began = [], threading.Event()

    def step():
        began.set()
        turn = step_lock.enter()
        order.append("step")
        step_lock.leave(turn)

    with step_lock.alone():
        thread = in_thread(step)
        began.wait(LIMIT)
        thread.join(0.05)
        order.append("written")
    thread.join(LIMIT)
    assert order == ["written", "step"]

    turn = step_lock.enter()

    def write():
        with step_lock.alone():
            order.append("written")

    thread = in_thread(write)
    thread.join(0.05)
    order.append("left")
    step_lock.leave(turn)
    thread.join(LIMIT)
    assert order[2:] == ["left", "written"]


def test_steps_pass_a_writer_who_waits_for_a_series_and_new_series_do_not():
    order, inside, end = [], threading.Event(), threading.Event()

    def first():
        with step_lock.series():
            inside.set()
            end.wait(LIMIT)
            step_lock.leave(step_lock.enter())  # its own steps continue
            order.append("first")

    def write():
        with step_lock.alone():
            order.append("written")

    def second():
        with step_lock.series():
            order.append("second")

    threads = [in_thread(first)]
    inside.wait(LIMIT)
    threads.append(in_thread(write))
    while step_lock._next is None:  # until the writer waits, which the public interface does not show
        threads[-1].join(0.001)
    threads.append(in_thread(second))
    step = in_thread(lambda: step_lock.leave(step_lock.enter()))
    step.join(LIMIT)
    assert not step.is_alive() and order == []
    end.set()
    for thread in threads:
        thread.join(LIMIT)
    assert order == ["first", "written", "second"]


def test_a_series_may_write_and_hold_another_one():
    with step_lock.series(), step_lock.series(), step_lock.alone():
        step_lock.leave(step_lock.enter())

    def write():
        with step_lock.alone():
            pass

    thread = in_thread(write)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_step_within_a_step_does_not_wait_for_a_writer_who_waits_for_it():
    outer = step_lock.enter()

    def write():
        with step_lock.alone():
            pass

    thread = in_thread(write)
    thread.join(0.05)  # now it waits
    step_lock.leave(step_lock.enter())
    with step_lock.alone():  # a step that writes
        pass
    step_lock.leave(outer)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_writer_runs_steps_and_writes_within():
    with step_lock.alone(), step_lock.alone():
        step_lock.leave(step_lock.enter())
    thread = in_thread(lambda: step_lock.leave(step_lock.enter()))
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_an_error_in_a_step_ends_it():
    model = compiled(chain(), run_eagerly=True)
    model.predict(np.ones((1, 64)))

    def fail(*_):
        raise KeyError("of the user's")

    model.layers[0].call = fail
    with pytest.raises(KeyError, match="of the user's"):
        model.predict(np.ones((2, 64)))
    model.layers[0].__dict__.pop("call")
    thread = in_thread(lambda: model.set_weights(weights(1.0)))
    thread.join(LIMIT)
    assert not thread.is_alive()


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_writes_although_a_thread_of_its_parent_was_in_a_step():
    program = """
import os, threading
from nbkeras.engine import step_lock as turns
inside, done = threading.Event(), threading.Event()
def step():
    turn = turns.enter()
    inside.set()
    done.wait()
    turns.leave(turn)
threading.Thread(target=step, daemon=True).start()
inside.wait()
child = os.fork()
if child == 0:
    with turns.alone():
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""
    run = [sys.executable, "-P", "-W", "ignore", "-c", program]
    assert subprocess.run(run, timeout=60, capture_output=True, text=True, check=True).stdout == "7\n"
