"""A step is recorded again if an attribute that it has read is assigned a new value."""

import collections
import copy
import pickle

import numpy as np
import pytest
from arrays import assert_close
from made_models import built
from own_models import Around

import nbkeras as keras
from nbkeras import constraints, losses, metrics, ops, optimizers, regularizers
from nbkeras.callbacks import Callback
from nbkeras.layers import (
    LSTM,
    RNN,
    Activation,
    Dense,
    Dropout,
    Input,
    Layer,
    SimpleRNNCell,
    StackedRNNCells,
    TimeDistributed,
)
from nbkeras.models import Sequential

X = np.ones((8, 4), "float32")
Y = np.zeros((8, 3), "float32")


class Penalty(Layer):
    """Adds `weight` to the loss."""

    def __init__(self, weight=0.0, **options):
        super().__init__(**options)
        self.weight = weight
        self.calls = 0
        self.note = "none"

    def call(self, x):
        self.calls += 1
        self.add_loss(self.penalty())
        return x

    def penalty(self):
        return ops.convert_to_tensor(getattr(self, "weight") * 1.0)  # noqa: B009


def dense_of_zeros():
    return Dense(3, kernel_initializer="zeros")


def compiled(*layers, loss="mse", optimizer="sgd", **options):
    model = Sequential([Input((4,)), *layers, dense_of_zeros()])
    model.compile(optimizer, loss, **options)
    return model


def fit(model, **options):
    return model.fit(X, Y, verbose=0, **options).history["loss"]


class Anneal(Callback):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def on_epoch_begin(self, epoch, logs=None):
        self.layer.weight = float(epoch)


def test_an_attribute_that_a_callback_sets_is_read_anew():
    layer = Penalty()
    assert fit(compiled(layer), epochs=4, callbacks=[Anneal(layer)]) == [0, 1, 2, 3]


def test_an_attribute_of_a_model_with_a_step_of_its_own():
    class Own(Around):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred)) + self.beta

    model = Own(dense_of_zeros())
    model.beta = 0.0
    model.compile("sgd")
    assert fit(model) == [0]
    model.beta = 2.0
    assert fit(model) == [2]


def steps_after(model, change):
    """Whether the training step was recorded again after a change."""
    fit(model)
    before = model._steps["train"].recordings
    change()
    fit(model)
    return model._steps["train"].recordings > before


@pytest.mark.parametrize(
    "name, value, again",
    [
        ("weight", 1.0, True),
        ("weight", None, False),  # the value that it has
        ("note", "other", False),  # read by no method
        ("fresh", 1, False),  # not there while the step was recorded
    ],
)
def test_only_what_a_step_can_have_read_has_it_recorded_again(name, value, again):
    layer = Penalty(0.5)
    model = compiled(layer)
    assert steps_after(model, lambda: setattr(layer, name, 0.5 if value is None else value)) is again


def test_what_call_itself_assigns_does_not_count():
    layer = Penalty()
    model = compiled(layer)
    fit(model, epochs=3)
    assert model._steps["train"].recordings == 1 and layer.calls >= 1


def test_training_twice_records_once():
    model = compiled(Dropout(0.5), Dense(4, kernel_regularizer="l2"), metrics=["accuracy"], optimizer="adam")
    assert not steps_after(model, lambda: (model.evaluate(X, Y, verbose=0), model.predict(X)))
    model = Sequential([Input((5, 4), batch_size=8), LSTM(3, stateful=True)])
    model.compile("rmsprop", "mse")
    sequences = np.ones((8, 5, 4), "float32")
    model.fit(sequences, Y, verbose=0, shuffle=False)
    model.reset_states()
    model.fit(sequences, Y, verbose=0, shuffle=False)
    assert model._steps["train"].recordings == 1


def test_settings_of_layers_losses_metrics_regularizers_and_optimizers():
    class Scaled(losses.Loss):
        scale = None

        def __init__(self):
            super().__init__()
            self.scale = 1.0

        def call(self, y_true, y_pred):
            return ops.mean(ops.square(y_true - y_pred), -1) + self.scale

    dropout, penalty, loss, metric = Dropout(0.5), regularizers.L2(0.1), Scaled(), metrics.BinaryAccuracy()
    optimizer = optimizers.SGD(0.1, momentum=0.5)
    model = compiled(dropout, Dense(4, kernel_regularizer=penalty), loss=loss, optimizer=optimizer, metrics=[metric])
    for thing, name, value in (
        (dropout, "rate", 0.25),
        (penalty, "l2", 0.0),
        (loss, "scale", 3.0),
        (optimizer, "momentum", 0.9),
        (metric, "constants", {"threshold": 0.75}),
    ):
        assert steps_after(model, lambda thing=thing, name=name, value=value: setattr(thing, name, value)), name
    assert fit(model) == [3]  # neither dropout nor the regularizer adds to it
    assert not steps_after(model, lambda: setattr(optimizer, "learning_rate", 0.01)), "is kept in an array"


def test_a_change_at_each_batch_names_the_cure_once():
    layer = Penalty()
    model = compiled(layer)
    with pytest.warns(UserWarning, match="Make it a Variable") as caught:
        for number in range(102):
            layer.weight = float(number + 1)
            model.train_on_batch(X, Y)
    assert len(caught) == 1


def test_what_an_eager_call_assigns_does_not_count():
    class Remembers(Layer):
        def call(self, x):
            self.last = x
            return self.last

    layer = Remembers()
    model = compiled(layer)
    assert not steps_after(model, lambda: layer(X))
    assert model._steps["train"].recordings == 1


# -------------------- only the programs that depend on what changed --------------------


def recordings(*models):
    """The number of recordings of the steps of models."""
    return [sum(steps.recordings for steps in model._steps.values()) for model in models]


def test_freezing_a_layer_leaves_the_programs_of_other_models():
    first, second = compiled(Dense(4)), compiled(Dense(4))
    for model in (first, second):
        fit(model)
        model.predict(X)
    assert recordings(first, second) == [2, 2]
    first.layers[0].trainable = False
    for model in (first, second):
        fit(model)
        model.predict(X)
    assert recordings(first, second) == [4, 2]
    first.layers[0].trainable = False  # it is already
    fit(first)
    assert recordings(first, second) == [4, 2]


def test_a_layer_that_two_models_share_outdates_both():
    shared = Dense(4)
    first, second, third = compiled(shared), compiled(Dense(4), shared), compiled(Dense(4))
    for model in (first, second, third):
        model.predict(X)
    shared.trainable = False
    for model in (first, second, third):
        model.predict(X)
    assert recordings(first, second, third) == [2, 2, 1]


def test_weights_that_move_outdate_the_programs_that_read_them():
    first, second = compiled(), compiled()
    for model in (first, second):
        model.predict(X)
    fit(first)  # which moves its weights into the optimizer's buffer
    np.testing.assert_array_equal(first.predict(X), first(X))
    second.predict(X)
    assert recordings(first, second) == [3, 1]


def test_an_attribute_of_a_layer_outdates_its_models_programs_alone():
    first, second = compiled(Penalty(1.0)), compiled(Penalty(1.0))
    for model in (first, second):
        fit(model)
    first.layers[0].weight = 2.0
    assert (fit(first), fit(second)) == ([2], [1])
    assert recordings(first, second) == [2, 1]


def test_new_states_of_a_stateful_layer_outdate_its_models_programs_alone():
    def stateful():
        model = Sequential([Input((5, 4), batch_size=8), LSTM(3, stateful=True)])
        model.predict(np.ones((8, 5, 4)))
        return model

    first, second = stateful(), stateful()
    first.reset_states()
    layer = first.layers[0]
    layer.reset_states([np.zeros((2, 3)), np.zeros((2, 3))])
    found = first(np.ones((2, 5, 4)))
    layer.reset_states([np.zeros((8, 3)), np.zeros((8, 3))])
    np.testing.assert_allclose(first.predict(np.ones((8, 5, 4)))[:2], found, rtol=1e-6)
    second.reset_states()
    second.predict(np.ones((8, 5, 4)))
    assert recordings(first, second) == [2, 1]


def test_a_layer_outside_the_model_is_noticed_where_it_is_called_or_asked_for_its_weights():
    """The layer is in a closure, in which layers are not searched."""
    called, asked = Penalty(1.0), Dense(3)
    asked.build((None, 4))

    class Own(Around):
        def call(self, x):
            return super().call(called(x))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred)) + called.weight + len(asked.trainable_weights)

    model = Own(dense_of_zeros())
    model.compile("sgd")
    assert fit(model) == [3]
    called.weight = 2.0
    assert fit(model) == [4]
    asked.trainable = False
    assert fit(model) == [2]


def test_a_step_that_read_values_is_recorded_once_what_it_read_has_changed():
    class Reads(Layer):
        def __init__(self):
            super().__init__()
            self.looks = False

        def call(self, x):
            return x * float(ops.max(x)) if self.looks else x

    layer = Reads()
    model = Sequential([Input((4,)), layer])
    layer.looks = True
    with pytest.warns(UserWarning, match="a tensor's value was read"):
        model.predict(X)
    layer.looks = False
    model.predict(X)
    model.predict(X)
    assert len(model._steps["predict"].programs()) == 1


# -------------------- changes of the structure --------------------


def dense(units, **options):
    return Dense(units, kernel_initializer="ones", **options)


def inner():
    return Sequential([dense(4), dense(4, activation="sigmoid")])


class Blocks(Layer):
    """Calls the layers that it holds."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = blocks

    def call(self, x):
        pending = [self.blocks]
        while pending:
            part = pending.pop(0)
            if isinstance(part, Layer):
                x = part(x)
            else:
                pending = list(part.values() if isinstance(part, dict) else part) + pending
        return x


class Scaled(Layer):
    """Has attributes that are not in its instance at first."""

    factor = 1.0

    def call(self, x):
        return x * self.factor * getattr(self, "other", 1.0)


def replace_cell(layer):
    cell = built(SimpleRNNCell(2, kernel_initializer="zeros", bias_initializer="ones"), (None, 2))
    layer.cell.cells[1] = cell


def set_and_delete(layer):
    layer.factor = 3.0
    layer(X)
    del layer.factor


CHANGES = {
    "add": (inner, lambda it: it.add(dense(3))),
    "pop": (inner, lambda it: it.pop()),
    "add to a part": (lambda: Blocks([inner()]), lambda it: it.blocks[0].add(dense(3))),
    "pop of a nested part": (lambda: Sequential([Sequential([inner()])]), lambda it: it.layers[0].layers[0].pop()),
    "append": (lambda: Blocks([dense(4)]), lambda it: it.blocks.append(dense(2))),
    "append to a nested list": (lambda: Blocks([[dense(4)]]), lambda it: it.blocks[0].append(dense(2))),
    "append to a list in a tuple": (lambda: Blocks(([dense(4)],)), lambda it: it.blocks[0].append(dense(2))),
    "set an item": (lambda: Blocks([dense(4), dense(4)]), lambda it: it.blocks.__setitem__(1, Activation("relu"))),
    "delete an item": (lambda: Blocks([dense(4), dense(4)]), lambda it: it.blocks.__delitem__(0)),
    "add a list": (lambda: Blocks([dense(4)]), lambda it: it.blocks.__iadd__([dense(2)])),
    "reverse": (lambda: Blocks([dense(4), Activation("sigmoid")]), lambda it: it.blocks.reverse()),
    "set a key": (lambda: Blocks({"a": dense(4)}), lambda it: it.blocks.__setitem__("b", dense(2))),
    "update": (lambda: Blocks({"a": dense(4)}), lambda it: it.blocks.update(b=dense(2))),
    "remove a key": (lambda: Blocks({"a": dense(4), "b": dense(4)}), lambda it: it.blocks.pop("a")),
    "an OrderedDict": (
        lambda: Blocks(collections.OrderedDict(a=dense(4), b=Activation("tanh"))),
        lambda it: it.blocks.move_to_end("a"),
    ),
    "cells": (
        lambda: RNN(StackedRNNCells([SimpleRNNCell(2, kernel_initializer="ones"), SimpleRNNCell(2)])),
        replace_cell,
    ),
    "a wrapped model": (lambda: TimeDistributed(inner()), lambda it: it.layer.pop()),
    "an attribute of the class": (Scaled, lambda it: setattr(it, "factor", 2.0)),
    "a new attribute": (Scaled, lambda it: setattr(it, "other", 2.0)),
    "`call`": (Scaled, lambda it: setattr(it, "call", lambda x: x - 1.0)),
}


@pytest.mark.parametrize("how", ["jit", "predict"])
@pytest.mark.parametrize("make, change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_structure_outdates_the_programs_that_depend_on_it(make, change, how):
    layer, other = make(), make()
    x = np.random.default_rng(0).standard_normal((4, 3, 4), dtype="float32")
    layer(x), other(x)
    run = [
        keras.jit(lambda x: layer(x)) if how == "jit" else Sequential([layer]).predict_on_batch,
        keras.jit(lambda x: other(x)) if how == "jit" else Sequential([other]).predict_on_batch,
    ]
    for _ in range(3):
        before = [np.asarray(call(x)) for call in run]
    change(layer)
    expected = np.asarray(layer(x))
    assert expected.shape != before[0].shape or np.abs(expected - before[0]).max() > 1e-3, "the change has an effect"
    for _ in range(2):
        np.testing.assert_allclose(run[0](x), expected, rtol=1e-5)
    if how == "jit":
        program = run[1].programs()
        np.testing.assert_array_equal(run[1](x), before[1])
        assert run[1].programs() == program


def test_an_attribute_that_is_deleted():
    layer = Scaled()
    layer.factor = 3.0
    double = keras.jit(lambda x: layer(x))
    assert double(X)[0, 0] == 3
    del layer.factor
    assert double(X)[0, 0] == 1


@pytest.mark.parametrize(
    "options, change",
    [
        ({}, lambda layer: setattr(layer.kernel, "regularizer", regularizers.L2(0.5))),
        ({"kernel_regularizer": "l2"}, lambda layer: setattr(layer.kernel.regularizer, "l2", 0.5)),
        ({}, lambda layer: setattr(layer.kernel, "constraint", constraints.NonNeg())),
        ({}, lambda layer: setattr(layer.bias, "trainable", False)),
        ({}, lambda layer: setattr(layer, "activity_regularizer", regularizers.L2(0.5))),
    ],
    ids=["regularizer", "l2", "constraint", "trainable", "activity"],
)
def test_what_belongs_to_a_variable(options, change):
    def trained(how):
        layer = Dense(3, kernel_initializer="ones", bias_initializer="ones", **options)
        model = Sequential([Input((4,)), layer])
        model.compile(optimizers.SGD(0.1), "mse", run_eagerly=how == "eagerly")
        for _ in range(2):
            model.train_on_batch(X, Y)
        change(layer)
        model.train_on_batch(X, Y)
        return model.get_weights()

    assert_close(trained("recorded"), trained("eagerly"), rtol=1e-5, atol=1e-6)


def test_a_part_of_an_optimizer():
    def trained(how):
        model = Sequential([Input((4,)), Dense(3, kernel_initializer="ones")])
        optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
        model.compile(optimizer, "mse", run_eagerly=how == "eagerly")
        model.train_on_batch(X, Y)
        optimizer.inner_optimizer.clipvalue = 0.001
        model.train_on_batch(X, Y)
        return model.get_weights()[0]

    np.testing.assert_allclose(trained("recorded"), trained("eagerly"), rtol=1e-6)


def test_a_jitted_step_trains_a_layer_that_was_added():
    model = Sequential([Input((4,)), Dense(3)])

    @keras.jit
    def step(x, y):
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
        for weight, gradient in zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True):
            weight.assign_sub(0.1 * gradient)

    step(X, Y + 1), step(X, Y + 1)
    model.add(Dense(3))
    before = model.layers[-1].get_weights()
    step(X, Y + 1)
    assert all(np.abs(new - old).max() > 0 for new, old in zip(model.layers[-1].get_weights(), before, strict=True))


def test_compiling_again_is_noticed_by_functions():
    model = compiled()
    loss = keras.jit(lambda x, y: model.compute_loss(x, y, model(x)))
    assert loss(X, Y + 2) == 4
    model.compile("sgd", "mae")
    assert loss(X, Y + 2) == 2


def test_lists_and_dicts_in_attributes_are_copies_with_the_same_items():
    layer, given = Layer(), [1, {"a": [2]}, ([3], 4)]
    given.append(given)
    layer.held = given
    assert layer.held is not given and isinstance(layer.held, list)
    assert layer.held[:3] == given[:3] and layer.held[3] is layer.held, "a list may contain itself"
    layer.counts = collections.defaultdict(list, a=[1])
    layer.counts["b"].append(2)
    assert layer.counts == {"a": [1], "b": [2]}
    layer.point = collections.namedtuple("Point", "x y")([1], 2)
    assert layer.point.x == [1] and layer.point.y == 2
    held = layer.held
    layer.held = held
    assert layer.held is held
    layer.held.pop()
    assert pickle.loads(pickle.dumps(layer.counts)) == copy.deepcopy(layer.counts) == layer.counts
    assert repr(layer.held) == repr(given[:3])


def test_the_weights_in_a_container_of_ones_own_class_are_found_after_each_change():
    class Own(list):
        pass

    layer = Layer()
    layer.parts = Own([Dense(1)])
    for count in range(1, 4):
        layer.parts[-1].build((None, 1))
        assert [len(layer.trainable_weights) for _ in range(3)] == [2 * count] * 3
        layer.parts.append(Dense(1))
