"""Floor 1: switches of Keras's `config`: limits for a quick run of a script, flash attention, files of any size, the backend."""

import os
from typing import Any

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import integer
from nbkeras.engine.user_errors import warn


def _checked(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a positive integer or None, received {briefly(value)}")
    return value


def _limit(name: str) -> int | None:
    found = getattr(settings.values, name)
    if found is not ...:
        return found
    text = os.environ.get(f"KERAS_{name.upper()}") or None
    return _checked(f"KERAS_{name.upper()}", text and (integer(text) or text))


def limited(name: str, asked: int | None, length: int | None = None) -> int | None:
    """The number of epochs or steps that was asked for, or the limit, if that is smaller.

    name: 'max_epochs' or 'max_steps_per_epoch'. asked: None for all. length: the number of all, if it is known.
    """
    limit, count = _limit(name), length if asked is None else asked
    if limit is None or (count is not None and count <= limit):
        return asked
    warn(f"{name}={limit} limits this run; keras.config.set_{name}(None) ends the limit")
    return limit


def max_epochs() -> int | None:
    """The maximum number of epochs of `fit`, or None for no limit; at first that of the variable KERAS_MAX_EPOCHS.

    Example:
        >>> keras.config.max_epochs() is None
        True
    """
    return _limit("max_epochs")


def set_max_epochs(max_epochs: int | None) -> None:
    """Limit the epochs of each `fit`, for a quick run of a script.

    Args:
        max_epochs: The maximum number of epochs; None for no limit.

    Raises:
        ValueError: for anything but a positive integer or None.

    Example:
        >>> keras.config.set_max_epochs(2)
        >>> keras.config.max_epochs()  # `fit` warns if it stops earlier than it was asked to
        2
        >>> keras.config.set_max_epochs(None)
    """
    settings.values.max_epochs = _checked("max_epochs", max_epochs)


def max_steps_per_epoch() -> int | None:
    """The maximum number of batches of an epoch, or None; at first that of the variable KERAS_MAX_STEPS_PER_EPOCH.

    Example:
        >>> keras.config.max_steps_per_epoch() is None
        True
    """
    return _limit("max_steps_per_epoch")


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limit the batches of each epoch of `fit`, and of `evaluate` and `predict`, for a quick run of a script.

    Args:
        max_steps_per_epoch: The maximum number of batches; None for no limit.

    Raises:
        ValueError: for anything but a positive integer or None.

    Example:
        >>> keras.config.set_max_steps_per_epoch(1)
        >>> keras.config.max_steps_per_epoch()
        1
        >>> keras.config.set_max_steps_per_epoch(None)
    """
    settings.values.max_steps_per_epoch = _checked("max_steps_per_epoch", max_steps_per_epoch)


def is_flash_attention_enabled() -> bool | None:
    """Whether a second, fused implementation of attention may be used. nbkeras has only one, whatever the answer is.

    Returns:
        False after `disable_flash_attention`, else None: where it is possible.

    Example:
        >>> keras.config.is_flash_attention_enabled() is None
        True
    """
    return settings.values.flash_attention


def enable_flash_attention() -> None:
    """Undo `disable_flash_attention`. Results and speed stay the same, because nbkeras has one implementation of attention.

    Example:
        >>> keras.config.enable_flash_attention()
    """
    settings.values.flash_attention = None


def disable_flash_attention() -> None:
    """Forbid a fused implementation of attention.

    Example:
        >>> keras.config.disable_flash_attention()
        >>> keras.config.is_flash_attention_enabled()
        False
        >>> keras.config.enable_flash_attention()
    """
    settings.values.flash_attention = False


def is_unsafe_deserialization_enabled() -> bool:
    """Whether `enable_unsafe_deserialization` was called."""
    return settings.values.unsafe_deserialization


def enable_unsafe_deserialization() -> None:
    """Load every model as with `safe_mode=False`: also one that needs far more memory than its file has bytes.

    nbkeras never runs code from a file; this switch does not change that.

    Example:
        >>> keras.config.enable_unsafe_deserialization()  # doctest: +SKIP
    """
    settings.values.unsafe_deserialization = True


def is_nnx_enabled() -> bool:
    """Whether layers are modules of Flax NNX: never, since that is a part of JAX.

    Returns:
        False.

    Example:
        >>> keras.config.is_nnx_enabled()
        False
    """
    return False


def set_backend(backend: str) -> None:
    """Do nothing if the backend is named that `config.backend` returns; nbkeras computes with its own kernels only.

    Args:
        backend: 'nbkeras'.

    Raises:
        ValueError: for another backend.

    Example:
        >>> keras.config.set_backend("nbkeras")
    """
    if backend not in ("nbkeras", settings.backend()):
        raise ValueError(
            f"nbkeras computes with its own kernels and cannot switch to another backend, received {briefly(backend)}: leave "
            "this call out, or run the script with Keras itself"
        )
