"""Optimizers and learning-rate schedules."""

from typing import TYPE_CHECKING, Any

from nbkeras import later as _later
from nbkeras.mistakes import entry as _entry
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


def _in_their_case(identifier: Any) -> Any:
    """A name, or a configuration's class_name, as the registry has it: 'rmsprop' -> 'RMSprop'."""
    if isinstance(identifier, dict) and isinstance(identifier.get("class_name"), str):
        return {**identifier, "class_name": _in_their_case(identifier["class_name"])}
    if not isinstance(identifier, str):
        return identifier
    return {name.lower(): name for name in _registry.names()}.get(identifier.lower(), identifier)


@_entry
def get(identifier) -> Optimizer | None:
    """An optimizer from None, a name ('rmsprop'), a configuration, a class, or an optimizer (returned as it is)."""
    if identifier is None:
        return None
    found = _registry.get(_in_their_case(identifier))
    if not isinstance(found, Optimizer):
        raise TypeError(f"optimizer must be a name, a configuration or an Optimizer, received {identifier!r}")
    return found


def serialize(optimizer: Optimizer) -> Any:
    """An optimizer's {'class_name', 'config'}."""
    return _registry.serialize(optimizer)


def deserialize(config, custom_objects=None) -> Optimizer:
    """An optimizer from what `serialize` returned."""
    proper = _in_their_case(config)
    if isinstance(config, dict) and proper.get("class_name") in _registry.names():
        config["class_name"] = proper["class_name"].lower()  # Keras does that to what it is given
    return _registry.deserialize(proper, custom_objects)


if TYPE_CHECKING:  # imported when first asked for
    from nbkeras.optimizers import schedules as schedules
    from nbkeras.optimizers.norm_rules import Adafactor as Adafactor
    from nbkeras.optimizers.norm_rules import Lamb as Lamb
    from nbkeras.optimizers.norm_rules import Muon as Muon
    from nbkeras.optimizers.wrappers import LossScaleOptimizer as LossScaleOptimizer
    from nbkeras.optimizers.wrappers import MultiOptimizer as MultiOptimizer
    from nbkeras.optimizers.wrappers import OptimizerMap as OptimizerMap

_later.attach(globals(), _registry)
