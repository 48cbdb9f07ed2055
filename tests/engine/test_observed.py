"""An attribute that a recorded step has read and that is assigned anew has the step recorded again."""

import numpy as np
import pytest
from counting import counted

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
    last = Dense(3, kernel_initializer="zeros")
    last.call = counted(last.call)
    model = Sequential([Input((4,)), *layers, last])
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


def recorded_again_after(model, change):
    """Whether the training step was recorded again after a change: only then does its Python run."""
    fit(model)
    change()
    call = model.layers[-1].call
    before = call.calls
    fit(model)
    return call.calls != before


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
    assert recorded_again_after(model, lambda: setattr(layer, name, 0.5 if value is None else value)) is again


def test_what_call_itself_assigns_does_not_count():
    layer = Penalty()
    model = compiled(layer)
    fit(model, epochs=3)
    assert model.layers[-1].call.calls == 1


def test_training_twice_records_once():
    model = compiled(Dropout(0.5), Dense(4, kernel_regularizer="l2"), metrics=["accuracy"], optimizer="adam")
    assert not recorded_again_after(model, lambda: (model.evaluate(X, Y, verbose=0), model.predict(X)))
    model = Sequential([Input((5, 4), batch_size=8), LSTM(3, stateful=True)])
    loss = counted(losses.mean_squared_error)
    model.compile("rmsprop", loss)
    sequences = np.ones((8, 5, 4), "float32")
    model.fit(sequences, Y, verbose=0, shuffle=False)
    model.reset_states()
    model.fit(sequences, Y, verbose=0, shuffle=False)
    assert loss.calls == 1


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
        assert recorded_again_after(model, lambda thing=thing, name=name, value=value: setattr(thing, name, value)), (
            name
        )
    assert fit(model) == [3]  # neither dropout nor the regularizer adds to it
    assert not recorded_again_after(model, lambda: setattr(optimizer, "learning_rate", 0.01)), "is kept in an array"


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
    assert not recorded_again_after(model, lambda: layer(X))
    assert model.layers[-1].call.calls == 1
