"""Callbacks with Keras's names and semantics."""
# ruff: noqa: F401

from nbkeras.callbacks.callback_list import Callback as Callback
from nbkeras.callbacks.callback_list import CallbackList as CallbackList
from nbkeras.callbacks.callback_list import History as History
from nbkeras.callbacks.callback_list import ProgbarLogger as ProgbarLogger
from nbkeras.engine import lazy_names as _lazy_names

_LATER = {
    "monitors": "EarlyStopping MonitorCallback ReduceLROnPlateau",
    "checkpoints": "BackupAndRestore ModelCheckpoint",
    "loggers": "CSVLogger RemoteMonitor",
    "rates": "LearningRateScheduler",
    "plain": "LambdaCallback SwapEMAWeights TerminateOnNaN",
    "tensorboard": "TensorBoard",
}

__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER)
