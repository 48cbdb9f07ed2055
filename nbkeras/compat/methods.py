"""Methods and attributes that Keras 2's classes had and today's have not, written with today's.

`install_as_keras` attaches each class's to the class of that name; what it overrides is called as `super()` would.
"""

from typing import Any

import numpy as np

from nbkeras import initializers, layers, metrics, ops
from nbkeras.backend import control
from nbkeras.building import layer, module
from nbkeras.callbacks import monitors
from nbkeras.compat import backend, model_yaml
from nbkeras.engine import structures
from nbkeras.optimizers import optimizer
from nbkeras.training import compiled, model

_set_graph, _predict = model.Model._set_graph, model.Model.predict


class Model:
    """Of every model."""

    def _set_graph(self, inputs, outputs) -> None:
        """A list of one input or output means that one."""
        _set_graph(self, _alone(inputs), _alone(outputs))  # type: ignore[arg-type]

    def _show_validation(self, callbacks, given, source):
        """Callbacks of `fit` see the arrays to validate with: `validation_data`."""
        found = None
        if isinstance(given, list | tuple):
            x, y, weights = (*given, None)[:3]
            samples = x.shape[0] if hasattr(x, "shape") else len(x)
            found = [x, y, np.ones(samples) if weights is None else weights]
        elif given is None and source is not None:
            found = [np.ones(len(source.leaves[0])) if each is None else each for each in source.leaves]
        for each in callbacks:
            each.validation_data = found

    def predict(self, x, *args, **kwargs):
        """`predict` of as many samples as the first of several inputs has."""
        if isinstance(x, list) and len({each.shape[0] for each in x if hasattr(each, "shape")}) > 1:
            x = [each[: len(x[0])] for each in x]
        return _predict(self, x, *args, **kwargs)

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

    to_yaml = model_yaml.to_yaml

    def _make_predict_function(self) -> None:
        """Nothing to do: a step is recorded at its first batch, from any thread."""

    _make_train_function = _make_test_function = _make_predict_function


class GraphInputs:
    """Of the inputs of a graph."""

    def fit_call(self, leaf, symbol):
        """As it is: a model called in another takes tensors of more axes than its Input has, if its layers do."""
        return leaf


def _alone(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, list | tuple) and len(tensors) == 1 else tensors


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


_resolve = compiled.Compiled.resolve


class Compiled:
    """Of the losses and metrics of `compile`."""

    sorts = False

    def resolve(self, names):
        """`resolve`; an output without a loss has no metrics, one of several with a loss reports it, also if no other has."""
        if self.names == names:  # type: ignore[has-type]
            return
        _resolve(self, names)  # type: ignore[arg-type]
        have_loss = [name for name, loss in zip(names, self.losses, strict=True) if loss is not None]  # type: ignore
        if len(names) > 1 == len(have_loss):
            self.trackers = [(name, metrics.Mean(name=f"{name}_loss")) for name in have_loss]
        for lists in self._lists:  # type: ignore[attr-defined]
            lists[:] = [own if loss is not None else [] for own, loss in zip(lists, self.losses, strict=True)]  # type: ignore


_add_weight, _add_loss = module.Module.add_weight, module.Module.add_loss


def _assignable(found: Any, trainable: bool) -> property:
    """A list of weights that a layer may also set, to say which of its variables they are."""

    def assign(self, variables) -> None:
        for each in variables:
            each.trainable = each.declared_trainable = trainable
            if all(each is not known for known in self._weights):
                self._weights.append(each)

    return property(found.fget, assign)


class Module:
    """Of every layer."""

    trainable_weights = _assignable(module.Module.trainable_weights, True)
    non_trainable_weights = _assignable(module.Module.non_trainable_weights, False)
    updates = property(lambda self: [])

    def add_update(self, updates, inputs=None) -> None:
        """Nothing: what `K.update` and the like were asked to write is written."""

    def add_loss(self, losses, inputs=None) -> None:
        """`add_loss`; inputs: what the losses depend on, which makes no difference here."""
        _add_loss(self, losses)  # type: ignore[arg-type]

    def get_losses_for(self, inputs) -> list:
        """The losses that the last call added; for None, those of weights."""
        if inputs is None:
            own = self.trainable_weights  # type: ignore[attr-defined]
            return [v.regularizer(v) for v in own if v.regularizer is not None]
        return [loss for each in self._all_layers() for loss in each._losses]  # type: ignore[attr-defined]

    def add_weight(self, *args, **kwargs) -> Any:
        """`add_weight`, also in Keras 2's order: name, shape, dtype, initializer, regularizer, trainable, constraint."""
        if args and (args[0] is None or isinstance(args[0], str)):
            order = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")
            kwargs, args = {**dict(zip(order, args, strict=False)), **kwargs}, ()
        return _add_weight(self, *args, **kwargs)  # type: ignore[arg-type]


_compute_output_shape, _ensure_built = layer.Layer.compute_output_shape, layer.Layer._ensure_built
_symbolic_call, _named_call = layer.Layer._symbolic_call, layer.Layer._named_call
_get_config, _written = layer.Layer.get_config, layer._Layers._written


class Layer:
    """Of every layer."""

    masks_beside_others = True
    _phase: bool | None = None

    def get_config(self) -> dict[str, Any]:
        """`get_config`, with the shape of the input that the layer was given."""
        shape = self._batch_input_shape  # type: ignore[attr-defined]
        return {**_get_config(self), **({} if shape is None else {"batch_input_shape": shape})}  # type: ignore[arg-type]

    def _symbolic_call(self, args, kwargs):
        """Connect the layer, in the phase that `K.set_learning_phase` set, if it did and the call does not say another."""
        self._phase = backend.learning_phase().fixed if kwargs.get("training") is None else None
        return _symbolic_call(self, args, kwargs)  # type: ignore[arg-type]

    def _named_call(self, args, kwargs):
        """`call`, in the phase in which the layer was connected."""
        if self._phase is not None:
            kwargs = {**kwargs, "training": self._phase}
        return _named_call(self, args, kwargs)  # type: ignore[arg-type]

    def compute_output_shape(self, input_shape):
        """`compute_output_shape`; where a subclass's own asks for it, the shape of the input."""
        asking = next(cls for cls in type(self).__mro__ if "compute_output_shape" in vars(cls))
        if asking.__module__.startswith("nbkeras."):
            return _compute_output_shape(self, input_shape)  # type: ignore[arg-type]
        return input_shape

    def _ensure_built(self, inputs) -> None:
        """`build`; NotImplementedError for losses that it adds, which would keep the value of that moment."""
        if self.built:  # type: ignore[attr-defined]
            return
        before = _loss_count(self)
        _ensure_built(self, inputs)  # type: ignore[arg-type]
        if _loss_count(self) > before:
            raise NotImplementedError(
                f"{self!r} adds a loss in build, which would keep the value that the weights have then: add it in call"
            )


class Layers:
    """Of the registry of layers."""

    def _written(self, item) -> dict[str, Any]:
        """A layer in a file, whose model has an InputLayer for the shape: Keras 3 takes no `batch_input_shape`."""
        written = _written(self, item)  # type: ignore[arg-type]
        written["config"].pop("batch_input_shape", None)
        return written


def _loss_count(of: Any) -> int:
    return sum(len(each._losses) for each in of._all_layers())


class Connected:
    """Of every layer."""

    inbound_nodes = property(lambda self: self._inbound_nodes)


class SymbolicTensor:
    """Of a tensor of a model that is being described."""

    _keras_shape = property(lambda self: self.shape)
    _keras_history = property(lambda self: (self.node.layer, self.node.number, self.index))


class Node:
    """Of a call of a layer on symbolic tensors."""

    input_tensors = property(lambda self: self.inputs)
    output_tensors = property(lambda self: structures.flatten(self.outputs))
    outbound_layer = property(lambda self: self.layer)
    inbound_layers = property(lambda self: [each.node.layer for each in self.inputs if each.node is not None])


_generator = initializers.RandomInitializer.generator


class RandomInitializer:
    """Of every random initializer: each call draws other numbers, with a seed too."""

    def generator(self):
        """Where the numbers of a call come from."""
        calls = vars(self).get("_calls", 0)
        vars(self)["_calls"] = calls + 1
        if not calls or not isinstance(self.seed, int | np.integer):  # type: ignore[attr-defined]
            return _generator(self)  # type: ignore[arg-type]
        return np.random.default_rng([int(self.seed) % 2**32, calls])  # type: ignore[attr-defined]


class _Named(str):
    """The name of a function, which it brings along where no file is between: in `from_config(get_config())`."""

    function: Any = None


_from_config = layers.Lambda.from_config.__func__  # type: ignore[attr-defined]


class Lambda:
    """Of the layer: its functions may be lambdas, which a file knows by the layer's name, and clones as they are."""

    def _named(self, role, function) -> str:
        name, own = getattr(function, "__name__", "<lambda>"), self.name  # type: ignore[attr-defined]
        found = _Named(name if name != "<lambda>" else own if role == "function" else f"{own}_mask")
        found.function = function
        return found

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A layer from `get_config`."""
        brought = {key: value.function for key, value in config.items() if isinstance(value, _Named)}
        return _from_config(cls, {**config, **brought}, custom_objects)


_normalize = layers.BatchNormalization.call


class BatchNormalization:
    """Frozen, it goes on normalizing by the batch in training, and leaves its moving statistics as they are."""

    def call(self, inputs, training=None, mask=None):
        """`call`."""
        if not training or self.trainable:  # type: ignore[attr-defined]
            return _normalize(self, inputs, training, mask)  # type: ignore[arg-type]
        moving, scaled = (self.moving_mean, self.moving_variance), (self.axis, self.beta, self.gamma)  # type: ignore
        return ops.batch_normalization_training(inputs, *moving, *scaled, 1.0, self.epsilon, mask)  # type: ignore


_choose = optimizer.Optimizer._choose


class Metric:
    """Of every metric, which was a layer."""

    stateful = True


class Optimizer:
    """Of every optimizer."""

    def get_updates(self, loss=None, params=None, *given) -> list:
        """Updates for `K.function`: a step of the variables `params`. Also as params, constraints, loss, in this order."""
        if given:
            loss, params = given[0], loss
        return [backend.Step(self, control.gradients(loss, params), list(params))]

    def _choose(self, variables):
        """`choose`; given to another model, an optimizer starts anew for that one's weights."""
        if any(variable not in self._positions for variable in variables):
            self.built, self._own, self._added = False, [], {}
            self.build(variables)
        else:
            _choose(self, variables)


_EarlyStopping = monitors.EarlyStopping
_on_train_begin, _on_epoch_end = _EarlyStopping.on_train_begin, _EarlyStopping.on_epoch_end


class EarlyStopping:
    """The baseline counts as the best value before the first, and weights are put back when training is stopped."""

    def on_train_begin(self, logs=None):
        """At the start of `fit`."""
        _on_train_begin(self, logs)
        self.best = self.baseline

    def on_epoch_end(self, epoch, logs=None):
        """At the end of an epoch."""
        _on_epoch_end(self, epoch, logs)
        if self.stopped_epoch and self.best_weights is not None:
            self.model.set_weights(self.best_weights)
