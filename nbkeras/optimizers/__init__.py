"""Optimizers and learning-rate schedules."""

from typing import TYPE_CHECKING, Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.optimizers import schedules as schedules
from nbkeras.optimizers.optimizer import Optimizer as Optimizer
from nbkeras.optimizers.rules import SGD as SGD
from nbkeras.optimizers.rules import Adadelta as Adadelta
from nbkeras.optimizers.rules import Adagrad as Adagrad
from nbkeras.optimizers.rules import Adam as Adam
from nbkeras.optimizers.rules import Adamax as Adamax
from nbkeras.optimizers.rules import AdamW as AdamW
from nbkeras.optimizers.rules import Ftrl as Ftrl
from nbkeras.optimizers.rules import Lion as Lion
from nbkeras.optimizers.rules import Nadam as Nadam
from nbkeras.optimizers.rules import RMSprop as RMSprop
from nbkeras.optimizers.rules import ScheduleFreeAdamW as ScheduleFreeAdamW
from nbkeras.optimizers.rules import registry as _registry

get, deserialize = _registry.get, _registry.deserialize


def serialize(optimizer: Optimizer) -> Any:
    """The configuration of an optimizer for `deserialize`, without the state.

    Args:
        optimizer: An Optimizer.

    Returns:
        A dict with 'class_name' and 'config'.

    Example:
        >>> written = keras.optimizers.serialize(keras.optimizers.SGD(learning_rate=0.5, momentum=0.5))
        >>> written["class_name"], written["config"]["momentum"]
        ('SGD', 0.5)
        >>> keras.optimizers.deserialize(written)
        <SGD learning_rate=0.5 iterations=0>
    """
    return _registry.serialize(optimizer)


if TYPE_CHECKING:  # imported at first use
    from nbkeras.optimizers import schedules as schedules
    from nbkeras.optimizers.norm_rules import *
    from nbkeras.optimizers.wrappers import *

_lazy_names.attach(globals(), _registry)
