"""Training as users see it in real Keras 3.15 (jax); the expectations were compared with it side by side."""

import numpy as np
import pytest
from made_models import compiled, reloaded
from own_models import Around

import nbkeras as keras
from nbkeras import layers, ops

X = np.random.default_rng(0).random((10, 3)).astype("float32")
Y = np.random.default_rng(1).random((10, 2)).astype("float32")


def test_layer_losses_are_those_of_the_last_outermost_call():
    model = keras.Sequential([layers.Dense(4, input_shape=(3,), activity_regularizer="l1"), layers.Dense(2)])
    for _ in range(3):
        model(X)
    assert len(model.losses) == 1
    model.layers[0](X)
    assert len(model.losses) == 1


def test_overridden_compute_loss_gets_what_was_passed_and_is_logged():
    seen = []

    class Shifted(Around):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            seen.append(type(y))
            return ops.add(ops.mean(ops.abs(ops.subtract(y, y_pred))), 1.0)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "extra": 1.5}

    model = compiled(Shifted(layers.Dense(2)), metrics=["mae"])
    history = model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y)).history
    assert sorted(history) == ["extra", "loss", "mae", "val_extra", "val_loss", "val_mae"]
    np.testing.assert_allclose(np.subtract(history["loss"], 1), history["mae"], rtol=1e-5)
    assert history["extra"] == [1.5, 1.5]
    assert list not in seen


def test_overridden_metrics_are_the_ones_reported():
    class Own(Around):
        mean = keras.metrics.Mean(name="foo")

        @property
        def metrics(self):
            return [self.mean]

    model = compiled(Own(layers.Dense(2)))
    assert model.metrics_names == ["foo"]
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["foo"]


def test_one_loss_of_several_outputs_and_the_name_of_a_lambda():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [layers.Dense(2, name="p")(inputs), layers.Dense(2, name="q")(inputs)])
    model.compile("sgd", ["mse", None], metrics=[[lambda a, b: ops.mean(ops.subtract(a, b))], None])
    with pytest.warns(UserWarning, match="gradients do not exist for variables .*q/kernel"):
        history = model.fit(X, [Y, Y], verbose=0).history
    assert sorted(history) == ["loss", "p_lambda"]


def test_a_step_gets_dict_targets_under_their_own_names():
    class Steps(keras.Model):
        def train_step(self, data):
            _, y = data
            return {"z": ops.mean(y["z"]), "a": ops.mean(y["a"])}

    inputs = keras.Input((3,))
    model = compiled(Steps(inputs, [layers.Dense(1, name="z")(inputs), layers.Dense(1, name="a")(inputs)]))
    history = model.fit(X, {"z": np.zeros((10, 1)), "a": np.ones((10, 1))}, verbose=0).history
    assert (history["z"], history["a"]) == ([0.0], [1.0])


def test_changing_a_list_of_symbolic_tensors_does_not_change_the_model():
    inputs = keras.Input((4,))
    layer = layers.Lambda(lambda x: [x[:, :2], x[:, 2:]])
    parts = layer(inputs)
    outputs = layers.Add()(parts)
    parts.append(inputs)
    assert len(layer.output) == 2
    model = keras.Model(inputs, outputs)
    np.testing.assert_array_equal(model.predict(np.ones((2, 4)), verbose=0), np.full((2, 2), 2.0))


def test_random_ops_in_a_graph_are_saved_by_name(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(keras.random.dropout(inputs, 0.5, seed=3)))
    again = reloaded(model, tmp_path / "m.keras")
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_layers_of_one_depth_are_in_the_order_in_which_the_outputs_need_them():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    shared = layers.Dense(4, name="sh")
    x = layers.Concatenate(name="c")([shared(a), shared(b), layers.Dense(2, name="z")(b)])
    y = layers.Dense(1, name="y")(layers.Dense(3, name="k")(a))
    model = keras.Model([b, a], [x, y])
    assert [layer.name for layer in model.layers] == ["a", "b", "sh", "z", "k", "c", "y"]


def test_saving_offers_the_registration_of_classes():
    assert keras.saving.register_keras_serializable is keras.utils.register_keras_serializable
    assert keras.saving.get_custom_objects() is keras.utils.get_custom_objects()


def test_an_overridden_compute_loss_is_told_the_phase():
    phases = []

    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            phases.append(training)
            return super().compute_loss(x, y, y_pred, sample_weight)

    inputs = keras.Input((4,))
    model = compiled(Own(inputs, layers.Dense(2)(inputs)))
    x, y = np.ones((2, 4)), np.zeros((2, 2))
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert phases == [True, False]
