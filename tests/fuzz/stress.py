"""The pool of threads under everything at once: `python tests/fuzz/stress.py --seconds 600`. Ends with 1 after a wrong result.

Some Python threads launch kernels, replay programs, predict with shared models and train their own; meanwhile others change the
weights and the number of the pool's threads, raise exceptions in shares, record new programs, compile, fork, start and end
threads. Each result is compared with the one that a single thread computed before, bit for bit. Each line of the report is what
was done, and how often.
"""

import argparse
import collections
import faulthandler
import os
import random
import signal
import sys
import threading
import time

if __name__ == "__main__":
    os.environ["NUMBA_NUM_THREADS"] = "8"  # more than this machine may have

import numpy as np

import nbkeras
from nbkeras import layers, ops
from nbkeras.engine.recorder import Recorder
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import get_threads, launch_shares, set_threads

HANG = 60  # seconds without an end after which something hangs
SIZES = (1, 2, 3, 5, 8, 13, 16, 21, 32, 48, 64)  # of batches; more than the programs that a model keeps


@compiled
def count(times, total, share, shares):
    times[share] += 1
    total[share] = shares


@compiled
def fill(x, factor, share, shares):
    for i in range(x.size * share // shares, x.size * (share + 1) // shares):
        x[i] = i * factor


@compiled
def fail(at, times, share, shares):
    times[share] += 1
    if share == at:
        raise OverflowError("this share")


@device.host
def launch_within(times, total):
    """A launch that launches."""
    launch_shares(count, times.size, times, total)


def new_kernel(number):
    """A kernel that no process has compiled."""

    @compiled
    def added(x, share, shares):
        x[share] += number

    return added


class Wrong(AssertionError):
    """A result that is not the expected one."""


def check(holds, *about):
    if not holds:
        raise Wrong(*about)


def launch_counted(shares):
    """Run a kernel with shares, each of which must run once."""
    times, total = np.zeros(shares, np.int64), np.zeros(shares, np.int64)
    launch_shares(count, shares, times, total)
    check((times == 1).all() and (total == shares).all(), "shares", times, total)


class Stress:
    """The models and arrays that all actors use, with what one thread alone computed from them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        nbkeras.utils.set_random_seed(0)
        self.a, self.b = (rng.standard_normal(shape, np.float32) for shape in ((200, 300), (300, 400)))
        self.product = np.array(ops.matmul(self.a, self.b))
        self.model = nbkeras.Sequential(
            [layers.Input((96,)), layers.Dense(512, activation="relu"), layers.BatchNormalization(), layers.Dense(8)]
        )
        self.x = rng.standard_normal((64, 96), np.float32)
        self.weights = [[rng.uniform(0.1, 1, w.shape).astype("f4") for w in self.model.get_weights()] for _ in range(2)]
        self.expected = {}
        for weights in self.weights:
            self.model.set_weights(weights)
            for size in SIZES:
                found = self.model.predict(self.x[:size], verbose=0)
                self.expected.setdefault(size, []).append(found)
        self.start = self._trained().get_weights()
        self.losses = self.train(self._trained())
        for index in (0, 1):
            self.fail(index)
        self.program()()

    def _trained(self):
        model = nbkeras.Sequential([layers.Input((96,)), layers.Dense(256, activation="tanh"), layers.Dense(8)])
        model.compile("sgd", "mse")
        if hasattr(self, "start"):
            model.set_weights(self.start)
        return model

    def train(self, model):
        model.set_weights(self.start)
        return [float(model.train_on_batch(self.x, self.x[:, i : i + 8])) for i in range(5)]

    # What an actor does once

    def launch(self, shares):
        launch_counted(shares)
        x = np.zeros(int(1000 * shares))
        launch_shares(fill, shares, x, 0.5)
        check(np.array_equal(x, np.arange(x.size) * 0.5), "elements")

    def multiply(self):
        check(np.array_equal(np.array(ops.matmul(self.a, self.b)), self.product), "product")

    def predict(self, size):
        found = self.model.predict(self.x[:size], verbose=0)
        check(any(np.array_equal(found, each) for each in self.expected[size]), "prediction", size)

    def predict_on_batch(self, size):
        found = self.model.predict_on_batch(self.x[:size])
        check(any(np.array_equal(found, each) for each in self.expected[size]), "prediction", size)

    def fail(self, at):
        for index in (at, 99):
            times = np.zeros(16, np.int64)
            try:
                launch_shares(fail, 16, index, times)
            except OverflowError:
                check(index == at and times[at] == 1 and times.max() == 1, "an exception", times)
            else:
                check(index == 99 and (times == 1).all(), "no exception", times)

    def program(self):
        """A replay of a program of this thread's own, in which a launch launches."""
        arrays = [device.persistent(np.zeros(16, np.int64)) for _ in range(4)]
        x = device.persistent(np.zeros(5000))
        recorder = Recorder()
        with device.record(recorder):
            launch_shares(count, 16, *arrays[:2])
            device.launch(launch_within, *arrays[2:])
            launch_shares(fill, 7, x, 2.0)
        recorded = recorder.sealed([]).bind()

        def replay():
            for array in (*arrays, x):
                array[...] = 0
            recorded.run()
            check(all((array == 1).all() for array in arrays[::2]), "program", arrays)
            check(all((array == 16).all() for array in arrays[1::2]) and x[-1] == 9998, "program", arrays)

        return replay

    def compile(self, number):
        x = np.zeros(4)
        launch_shares(new_kernel(number), 4, x)
        check((x == number).all(), "a new kernel", x)

    def fork(self, rng):
        """A child that uses kernels and models, and ends; this process goes on."""
        child = os.fork()
        if child == 0:
            try:
                self.model.set_weights(self.weights[0])  # a thread of the parent may have been writing them
                for _ in range(3):
                    size = rng.choice(SIZES)
                    self.launch(rng.randint(2, 40))
                    self.multiply()
                    found = self.model.predict(self.x[:size], verbose=0)
                    check(np.array_equal(found, self.expected[size][0]), "a prediction of a child", size)
                    self.fail(rng.randrange(16))
                self.program()()
                os._exit(0)
            except BaseException as error:
                print("in a child:", repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(1)
        end = time.monotonic() + HANG
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGUSR1)  # prints where it is
                time.sleep(1)
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
        check(found[1] == 0, f"a child ended with {found[1]}")


def actors(stress, number):
    """(name, how many threads do it, a function of a generator of random numbers that does it once), for `number` threads."""

    def beside(do):
        def start(rng):
            worker = threading.Thread(target=do, args=(rng,))
            worker.start()
            worker.join()

        return start

    def short(rng):
        stress.launch(rng.randint(2, 40))
        stress.predict_on_batch(rng.choice(SIZES))

    def slowly(seconds, do):
        def act(rng):
            do(rng)
            time.sleep(rng.random() * seconds)

        return act

    def trainer():
        model = stress._trained()
        return lambda rng: check(stress.train(model) == stress.losses, "losses")

    def replayer():
        replay = stress.program()
        return lambda rng: replay()

    new = iter(range(10**9))
    yield "launches with shares", number, lambda rng: stress.launch(rng.randint(2, 40))
    yield "products", 2, lambda rng: stress.multiply()
    yield "predictions", number, lambda rng: stress.predict(rng.choice(SIZES))
    yield "predictions of one batch", number, lambda rng: stress.predict_on_batch(rng.choice(SIZES))
    yield "exceptions in shares", 2, lambda rng: stress.fail(rng.randrange(16))
    for _ in range(2):
        yield "trainings of 5 steps", 1, trainer()
        yield "replays with nested launches", 1, replayer()
    yield "threads that end", 1, beside(short)
    yield "changes of weights", 1, slowly(0.02, lambda rng: stress.model.set_weights(rng.choice(stress.weights)))
    yield "changes of the number of threads", 1, slowly(0.005, lambda rng: set_threads(rng.randint(1, 8)))
    yield "kernels compiled", 1, slowly(1, lambda rng: stress.compile(next(new)))
    yield "forks", 1, slowly(0.2, stress.fork)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=8, help="that launch, and that predict")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faulthandler.enable()
    sys.setswitchinterval(1e-4)  # seconds, so that threads meet in more places
    faulthandler.register(signal.SIGUSR1)
    stress = Stress()
    check(get_threads() == 8, get_threads())
    done: collections.Counter = collections.Counter()
    failures: list[BaseException] = []
    end = time.monotonic() + given.seconds

    def act(name, do, seed):
        rng = random.Random(seed)
        try:
            while time.monotonic() < end and not failures:
                do(rng)
                done[name] += 1
        except BaseException as error:
            failures.append(error)

    threads = []
    for name, copies, do in actors(stress, given.threads):
        for copy in range(copies):
            threads.append(threading.Thread(target=act, args=(name, do, f"{given.seed} {name} {copy}"), daemon=True))
    faulthandler.dump_traceback_later(given.seconds + HANG, exit=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, times in sorted(done.items()):
        print(f"{times:9,} {name}")
    for failure in failures:
        print("FAILED:", repr(failure))
    silent = {name for name, _, _ in actors(stress, 1)} - set(done)
    if silent:
        print("not once:", ", ".join(sorted(silent)))
    return bool(failures or silent)


if __name__ == "__main__":
    sys.exit(main())
