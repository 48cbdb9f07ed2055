"""Keras's `mixed_precision`: the names of dtype policies in Keras 2. Defined in engine/dtype_policy.py."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.dtype_policy import DTypePolicy as DTypePolicy
from nbkeras.engine.dtype_policy import Policy as Policy
from nbkeras.engine.dtype_policy import dtype_policy as dtype_policy
from nbkeras.engine.dtype_policy import global_policy as global_policy
from nbkeras.engine.dtype_policy import set_dtype_policy as set_dtype_policy
from nbkeras.engine.dtype_policy import set_global_policy as set_global_policy

if TYPE_CHECKING:  # imported at first use
    from nbkeras.optimizers.wrappers import LossScaleOptimizer as LossScaleOptimizer

_lazy_names.attach(globals())
