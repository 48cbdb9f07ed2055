"""Methods and attributes that Keras 2's classes had and today's have not, written with today's.

`install_as_keras` attaches each class's to the class of that name; what it overrides is called as `super()` would.
"""

from typing import Any

import numpy as np

from nbkeras import module


class Model:
    """Of every model."""

    def fit_generator(self, generator, steps_per_epoch=None, epochs=1, verbose=1, *args, **kwargs):
        """`fit` of a generator or Sequence."""
        for name, value in zip(_AFTER_VERBOSE, args, strict=False):
            kwargs[name] = value
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, verbose=verbose, **kwargs)  # type: ignore

    def evaluate_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """`evaluate` of a generator or Sequence."""
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    def predict_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """`predict` of a generator or Sequence."""
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    def _make_predict_function(self) -> None:
        """Nothing to do: a step is recorded at its first batch, from any thread."""

    _make_train_function = _make_test_function = _make_predict_function


_AFTER_VERBOSE = (
    "callbacks validation_data validation_steps validation_freq class_weight max_queue_size workers use_multiprocessing "
    "shuffle initial_epoch"
).split()


class Sequential:
    """Of a Sequential."""

    def predict_proba(self, x, batch_size=None, verbose=0):
        """`predict`."""
        return self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]

    def predict_classes(self, x, batch_size=None, verbose=0) -> np.ndarray:
        """The most probable class of each sample; of one output, whether it is over a half."""
        outputs = self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype("int32")


_add_weight = module.Module.add_weight


class Module:
    """Of every layer."""

    def add_weight(self, *args, **kwargs) -> Any:
        """`add_weight`, also in Keras 2's order: name, shape, dtype, initializer, regularizer, trainable, constraint."""
        if args and (args[0] is None or isinstance(args[0], str)):
            order = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")
            kwargs, args = {**dict(zip(order, args, strict=False)), **kwargs}, ()
        return _add_weight(self, *args, **kwargs)  # type: ignore[arg-type]


class Connected:
    """Of every layer."""

    _inbound_nodes = inbound_nodes = property(lambda self: self.nodes)


class SymbolicTensor:
    """Of a tensor of a model that is being described."""

    _keras_shape = property(lambda self: self.shape)
    _keras_history = property(lambda self: (self.node.layer, self.node.number, self.index))
