"""Floor 1: the learning phase: the value of `training` for the layers that a thread calls."""

import threading

from nbkeras.engine import compatibility, settings
from nbkeras.engine.temporary import temporarily


class _Phase(threading.local):
    training: bool | None = None


thread = _Phase()


def training_phase(value: bool | None) -> temporarily:
    """Set the value of `training` for the layers called in a `with` block, unless a call gives its own.

    Args:
        value: True for training, False for inference, None for the default of each layer.

    Returns:
        A context manager. It applies to this thread.

    Example:
        >>> from nbkeras.testing import training_phase
        >>> with training_phase(True):
        ...     y = layers.Dropout(0.5)(np.ones((1, 100)))
        >>> bool(np.any(y.numpy() == 0))
        True
    """
    return temporarily(thread, training=value)


def learning_phase() -> bool:
    """The value of `training` for layers called now in this thread, unless a call gives its own.

    Example:
        >>> with K.learning_phase_scope(True):
        ...     K.learning_phase()
        True
    """
    return bool(thread.training)


def set_learning_phase(value) -> None:
    """Set the learning phase of calls outside fit, evaluate and predict.

    For Keras 2 see `CompatibilityPolicy.keeps_learning_phase`.

    Args:
        value: 1 or True for training, 0 or False for inference.

    Example:
        >>> with K.learning_phase_scope(None):  # restores the phase afterwards
        ...     K.set_learning_phase(1)
        ...     K.learning_phase()
        True
    """
    thread.training = bool(value)
    if compatibility.current.keeps_learning_phase:
        settings.values.kept_learning_phase = bool(value)


def forget_learning_phase() -> None:
    """Undo `set_learning_phase`, for calls in this thread and for layers that are connected later."""
    thread.training = settings.values.kept_learning_phase = None
