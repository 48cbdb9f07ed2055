"""Keras's callbacks."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.callbacks.backup import *
    from nbkeras.callbacks.callback_list import *
    from nbkeras.callbacks.checkpoints import ModelCheckpoint as ModelCheckpoint
    from nbkeras.callbacks.loggers import *
    from nbkeras.callbacks.monitors import *
    from nbkeras.callbacks.plain import *
    from nbkeras.callbacks.rates import LearningRateScheduler as LearningRateScheduler
    from nbkeras.callbacks.tensorboard import TensorBoard as TensorBoard

_lazy_names.attach(globals())
