"""Keras's callbacks."""

from typing import TYPE_CHECKING

from nbkeras.callbacks.callback_list import Callback as Callback
from nbkeras.callbacks.callback_list import CallbackList as CallbackList
from nbkeras.callbacks.callback_list import History as History
from nbkeras.callbacks.callback_list import ProgbarLogger as ProgbarLogger
from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.callbacks.backup import BackupAndRestore as BackupAndRestore
    from nbkeras.callbacks.checkpoints import ModelCheckpoint as ModelCheckpoint
    from nbkeras.callbacks.loggers import CSVLogger as CSVLogger
    from nbkeras.callbacks.loggers import RemoteMonitor as RemoteMonitor
    from nbkeras.callbacks.monitors import EarlyStopping as EarlyStopping
    from nbkeras.callbacks.monitors import MonitorCallback as MonitorCallback
    from nbkeras.callbacks.monitors import ReduceLROnPlateau as ReduceLROnPlateau
    from nbkeras.callbacks.plain import LambdaCallback as LambdaCallback
    from nbkeras.callbacks.plain import SwapEMAWeights as SwapEMAWeights
    from nbkeras.callbacks.plain import TerminateOnNaN as TerminateOnNaN
    from nbkeras.callbacks.rates import LearningRateScheduler as LearningRateScheduler
    from nbkeras.callbacks.tensorboard import TensorBoard as TensorBoard

_lazy_names.attach(globals())
