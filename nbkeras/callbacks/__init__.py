"""Callbacks with Keras's names and semantics."""
# ruff: noqa: F401

from nbkeras import later as _later
from nbkeras.callbacks.callback_list import Callback as Callback
from nbkeras.callbacks.callback_list import CallbackList as CallbackList
from nbkeras.callbacks.callback_list import History as History
from nbkeras.callbacks.callback_list import ProgbarLogger as ProgbarLogger

_LATER = {
    "monitors": "EarlyStopping MonitorCallback ReduceLROnPlateau",
    "checkpoints": "BackupAndRestore ModelCheckpoint",
    "loggers": "CSVLogger RemoteMonitor",
    "rates": "LearningRateScheduler",
    "plain": "LambdaCallback SwapEMAWeights TerminateOnNaN",
    "tensorboard": "TensorBoard",
}

__getattr__, __dir__, __all__ = _later.names(globals(), _LATER)
