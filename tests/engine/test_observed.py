"""A step is recorded again if an attribute that it has read is assigned a new value."""

import numpy as np
import pytest

from nbkeras import losses, metrics, ops, optimizers, regularizers
from nbkeras.callbacks import Callback
from nbkeras.layers import LSTM, Dense, Dropout, Input, Layer
from nbkeras.models import Model, Sequential

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


def compiled(*layers, loss="mse", optimizer="sgd", **options):
    model = Sequential([Input((4,)), *layers, Dense(3, kernel_initializer="zeros")])
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
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(3, kernel_initializer="zeros")
            self.beta = 0.0

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred)) + self.beta

    model = Own()
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


def test_predictions_use_the_new_value_too():
    class Times(Layer):
        def __init__(self):
            super().__init__()
            self.factor = 1.0

        def call(self, x):
            return x * self.factor

    layer = Times()
    model = Sequential([Input((4,)), layer])
    assert model.predict(X)[0, 0] == 1
    layer.factor = 3.0
    assert model.predict(X)[0, 0] == 3 and model.predict(X)[0, 0] == 3


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

    class Own(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(3, kernel_initializer="zeros")

        def call(self, x):
            return self.dense(called(x))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred)) + called.weight + len(asked.trainable_weights)

    model = Own()
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
