"""Imports nbkeras or Keras, by the process's first argument, and defines a callback that measures epochs; for the runners of
both."""

import importlib
import os
import sys
import time
from collections.abc import Callable

BACKEND = sys.argv[1].removeprefix("keras-") if sys.argv[1].startswith("keras-") else ""  # '' for nbkeras
if BACKEND:
    os.environ["KERAS_BACKEND"] = BACKEND
k = importlib.import_module("keras" if BACKEND else "nbkeras")


class Clock(k.callbacks.Callback):
    """`seconds` of each epoch, until `wait` returns; without the work of fit before the first epoch."""

    def __init__(self, wait: Callable[[], None] = lambda: None):
        super().__init__()
        self.wait = wait

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.wait()
        self.seconds.append(time.perf_counter() - self.start)
