"""Names of Keras 3's internal module `keras.src.losses.losses` in addition to nbkeras.losses's."""

from collections.abc import Callable
from typing import Any

from nbkeras.losses import Loss


class LossFunctionWrapper(Loss):
    """A loss of a function fn(y_true, y_pred, **kwargs), the base class of Keras 3's own losses."""

    def __init__(self, fn: Callable, reduction="sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the loss and of its function."""
        return {**super().get_config(), **self._fn_kwargs}
