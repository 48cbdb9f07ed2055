"""Short callbacks: LambdaCallback, TerminateOnNaN, SwapEMAWeights."""

from collections.abc import Callable

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine import sharding
from nbkeras.engine.option import Flag, given, keep
from nbkeras.engine.progress import print_message
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Variable


class LambdaCallback(Callback):
    """A callback made from functions, passed by the names of hooks.

    Every hook of `Callback` is an argument; other keywords become attributes, as in Keras.

    Args:
        on_epoch_begin: A function of (epoch, logs).
        on_epoch_end: A function of (epoch, logs).
        on_train_begin: A function of (logs).
        on_train_end: A function of (logs).
        on_train_batch_begin: A function of (batch, logs).
        on_train_batch_end: A function of (batch, logs).

    Raises:
        TypeError: for a name 'on_...' that is not a hook.

    Example:
        >>> say = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[say])
        0 1.0
        1 0.0
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
    """Stop training when the loss, or a gradient, is NaN or infinite.

    That step is skipped: the model and the optimizer keep their state from before the batch. For this, the steps of a `fit` with
    this callback check all gradients. If your own `train_step` computes its loss itself, its steps are skipped only for a
    gradient, unless it calls `optimizer.learn(loss, variables)`. Steps of a LossScaleOptimizer are skipped only for a loss,
    because it reduces its scale when a gradient is infinite.

    Args:
        raise_error: True raises RuntimeError, so that `fit` ends at once, without `on_train_end`.

    Raises:
        RuntimeError: in `fit`, with raise_error.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones")])
        >>> model.compile("sgd", "mse")
        >>> y = np.array([[1.0], [1e30]])  # its square is infinite
        >>> stop = keras.callbacks.TerminateOnNaN()
        >>> model.fit(np.ones((2, 1)), y, epochs=5, verbose=0, callbacks=[stop]).epoch
        Batch 0: Invalid loss, terminating training
        [0]
        >>> model.get_weights()[0]
        array([[1.]], dtype=float32)
    """

    _stops = True

    def __init__(self, raise_error: Flag = False):
        super().__init__(**keep(self, locals()))

    def on_batch_end(self, batch, logs=None) -> None:
        loss, guard = (logs or {}).get("loss"), getattr(self.model, "_guard", None)
        left_out = guard is not None and guard.has_left_out()
        if loss is not None and not np.isfinite(loss):
            what, value = "loss", f" Loss value: {loss}."
        elif left_out:
            what, value = "gradient", ""
        else:
            return
        if self.raise_error:
            raise RuntimeError(f"NaN or Inf {what} encountered at batch {batch}.{value} Terminating training.")
        print_message(f"Batch {batch}: Invalid {what}, terminating training")
        self.model.stop_training = True


class SwapEMAWeights(Callback):
    """Evaluate and predict with the moving averages of the weights; needs an optimizer with use_ema=True.

    Args:
        swap_on_epoch: Whether to use the averages also between the end of an epoch and the start of the next one, for later
            callbacks in the list such as ModelCheckpoint.

    Raises:
        ValueError: if the optimizer keeps no averages.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros", use_bias=False)])
        >>> model.compile(keras.optimizers.SGD(0.25, use_ema=True, ema_momentum=0.5), "mse")
        >>> x, y, swap = np.ones((4, 1)), np.ones((4, 1)), keras.callbacks.SwapEMAWeights()
        >>> history = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0, callbacks=[swap])
        >>> history.history["val_loss"]  # the weight is 0.5, then 0.75; its average is 0.5, then 0.625
        [0.25, 0.140625]
    """

    _state_names = ("_swapped",)

    def __init__(self, swap_on_epoch: Flag = False):
        super().__init__(**keep(self, locals()))
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

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._swap(False)

    def on_epoch_end(self, epoch, logs=None) -> None:
        if self.swap_on_epoch:
            self._swap(True)
            # at its end, `fit` writes the averages into the model
            if epoch == self.params["epochs"] - 1 or sharding.anywhere(self.model.stop_training):  # type: ignore[index]
                for variable, average in self._pairs():
                    average.assign(variable)

    def on_test_begin(self, logs=None) -> None:
        self._swap(True)

    def on_test_end(self, logs=None) -> None:
        self._swap(False)

    def on_predict_begin(self, logs=None) -> None:
        self._swap(True)

    def on_predict_end(self, logs=None) -> None:
        self._swap(False)
