"""Short callbacks: LambdaCallback, TerminateOnNaN, SwapEMAWeights."""

from collections.abc import Callable

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine.option import given
from nbkeras.engine.progress import print_message
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Variable


class LambdaCallback(Callback):
    """A callback made of functions, each given by the name of a hook: `LambdaCallback(on_epoch_end=lambda epoch, logs: ...)`.

    Other keywords become attributes, as in Keras; a name like a hook that does not exist is a TypeError.
    """

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **kwargs: Callable | None,
    ):
        hooks = given(locals()) | kwargs
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in hooks.items():
            if name.startswith("on_") and name not in known:
                raise TypeError(f"{name!r} is not a hook of Callback.{nearest(name, known)} Hooks: {', '.join(known)}")
            if function is not None:
                setattr(self, name, function)


class TerminateOnNaN(Callback):
    """Stop training when the loss is NaN or infinite; raise_error: raise RuntimeError instead, without cleaning up."""

    def __init__(self, raise_error: bool = False):
        self.raise_error = raise_error

    def on_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None or np.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"NaN or Inf loss encountered at batch {batch}. Loss value: {loss}. Terminating training."
            )
        print_message(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True


class SwapEMAWeights(Callback):
    """Evaluate and predict with the weights' moving averages of an optimizer with use_ema=True.

    swap_on_epoch: also use the averages from each epoch's end to the start of the next one, for later callbacks in the list
    such as ModelCheckpoint.
    """

    def __init__(self, swap_on_epoch: bool = False):
        self.swap_on_epoch = swap_on_epoch
        self._swapped = False

    def _pairs(self) -> list[tuple[Variable, Variable]]:
        """Weights and their averages."""
        outer = self.model.optimizer
        inner = getattr(outer, "optimizers", [getattr(outer, "inner_optimizer", outer)])
        averaging = [optimizer for optimizer in inner if optimizer.use_ema]
        if not averaging:
            raise ValueError("SwapEMAWeights needs an optimizer that keeps averages: pass it use_ema=True")
        return [(v, optimizer.average(v)) for optimizer in averaging for v in optimizer.trainable_variables]

    def _swap(self, averages_in_model: bool) -> None:
        if self._swapped != averages_in_model:
            for variable, average in self._pairs():
                value = variable.numpy()
                variable.assign(average)
                average.assign(value)
            self._swapped = averages_in_model

    def on_epoch_begin(self, epoch, logs=None):
        self._swap(False)

    def on_epoch_end(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap(True)
            # at its end, `fit` writes the averages into the model
            if epoch == self.params["epochs"] - 1 or self.model.stop_training:
                for variable, average in self._pairs():
                    average.assign(variable)

    def on_test_begin(self, logs=None):
        self._swap(True)

    def on_test_end(self, logs=None):
        self._swap(False)

    def on_predict_begin(self, logs=None):
        self._swap(True)

    def on_predict_end(self, logs=None):
        self._swap(False)
