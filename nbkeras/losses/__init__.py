"""Losses: functions of (y_true, y_pred), and classes that reduce their values to one number."""

from typing import TYPE_CHECKING, Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.losses.loss import Loss as Loss
from nbkeras.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from nbkeras.losses.loss import registry
from nbkeras.losses.loss import squeeze_or_expand_to_same_rank as squeeze_or_expand_to_same_rank

get, deserialize = registry.get, registry.deserialize


def serialize(loss) -> Any:
    """The configuration of a loss, as files hold it.

    Args:
        loss: A function, an object, or a name.

    Returns:
        {'module', 'class_name', 'config', 'registered_name'}, also for a function; `deserialize` reads it. A name stays.

    Example:
        >>> losses.serialize(losses.mean_squared_error)["config"]
        'mean_squared_error'
        >>> losses.serialize(losses.Huber(delta=0.5))["config"]["delta"]
        0.5
    """
    return registry.serialize(loss, short=False)


if TYPE_CHECKING:  # imported at first use
    from nbkeras.losses.classes import *
    from nbkeras.losses.functions import *

_lazy_names.attach(globals(), registry)
