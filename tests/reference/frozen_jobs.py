"""Processes that answer with frozen models, for tests/inference/test_frozen.py: `python frozen_jobs.py START`.

START is fork, spawn or forkserver, as in multiprocessing, or preload, as in gunicorn. Each process prints 'right' if all its
answers have the bits of the first process, from several threads.
"""

import multiprocessing
import os
import sys
import threading

import numpy as np

FILE = "net.frozen"


def answer(ready, x, expected):
    """Predict from several threads, as a worker of a server does."""
    wrong = []

    def work():
        for _ in range(50):
            for rows, result in expected.items():
                if ready(x[:rows]).tobytes() != result:
                    wrong.append(rows)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # one write: processes write at the same time
    os.write(1, b"wrong\n" if wrong else b"right\n")


def pickled(ready, x, expected):
    answer(ready, x, expected)


def loaded(x, expected):
    from nbkeras.inference import Frozen

    ready = Frozen.load(FILE)
    answer(ready, x, expected)
    if multiprocessing.get_start_method() == "spawn" and "numba" in sys.modules:
        print("compiled")  # its kernels are in the cache


def forked_while_a_thread_predicts(ready, x, expected):
    """As gunicorn with --preload: the workers are forked from a process that has answered, and still answers."""
    stop = threading.Event()

    def predict():
        while not stop.is_set():
            ready(x)

    thread = threading.Thread(target=predict)
    thread.start()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                answer(ready, x, expected)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    stop.set()
    thread.join()


def main(start):
    import nbkeras as keras
    from nbkeras import layers

    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(64),  # long enough for several threads of the pool
            layers.Dense(5, "softmax"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    ready = model.frozen((1, 8))
    expected = {rows: ready(x[:rows]).tobytes() for rows in (1, 8)}
    ready.save(FILE)
    if start == "preload":
        forked_while_a_thread_predicts(ready, x, expected)
        return
    context = multiprocessing.get_context(start)
    jobs = [(pickled, (ready, x, expected)), *[(loaded, (x, expected))] * 2]
    processes = [context.Process(target=function, args=given) for function, given in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(sys.argv[1])
