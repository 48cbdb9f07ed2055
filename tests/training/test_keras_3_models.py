"""Keras 3's models, except for training: free names, structures, configurations, errors, small options.

Numbers are real Keras 3.15.1's, or follow from the weights.
"""

import gc
import weakref

import numpy as np
import pytest
from made_models import built, compiled, reloaded

import nbkeras as keras
from nbkeras import callbacks, layers, losses, metrics, models, ops, optimizers, saving, utils

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 12


class TestNames:
    """Attributes of a user's own layers and models may have any name that Keras 3 does not use."""

    FREE = (
        "input_shape output_shape input_mask output_mask sublayers all_layers own_weights states_variables nodes "
        "optimizers_in_use inputs outputs loss compiled stateful input_names"
    ).split()

    @staticmethod
    def make(base, name):
        """A layer or model with an attribute of that name, and a dense layer."""

        class Own(base):
            def __init__(self):
                super().__init__()
                setattr(self, name, [1])
                self.dense = layers.Dense(2)

            def call(self, x):
                return self.dense(x)

        return Own()

    @pytest.mark.parametrize("name", FREE)
    def test_of_a_layer(self, name):
        own, inputs = self.make(layers.Layer, name), keras.Input((3,))
        model = compiled(keras.Model(inputs, own(inputs)))
        model.fit(X, X[:, :2], verbose=0)
        model.summary(print_fn=lambda *args: None)
        assert getattr(own, name) == [1] and len(model.weights) == 2

    @pytest.mark.parametrize("name", FREE)
    def test_of_a_model(self, name):
        model = compiled(self.make(keras.Model, name))
        model.fit(X, X[:, :2], verbose=0)
        assert getattr(model, name) == [1] and model.predict(X).shape == (4, 2) and model.count_params() == 8

    def test_a_loss_kept_by_a_compile_of_ones_own(self):
        class Own(keras.Sequential):
            def compile(self, optimizer, loss):
                super().compile(optimizer, "mse")
                self.loss = loss

        model = Own([layers.Dense(1)])
        assert model.loss is None and not model.compiled
        model.compile("sgd", "anything")
        assert model.loss == "anything" and model.compiled


class TestOneOutputInAList:
    @pytest.mark.parametrize("kind", [list, tuple])
    def test_it_is_given_alone_and_stays_in_the_graph(self, kind):
        inputs = keras.Input((3,))
        model = keras.Model(kind([inputs]), kind([layers.Dense(2)(inputs)]))
        assert isinstance(model.output, kind) and isinstance(model.input, kind)
        assert model.output_shape == (None, 2) and model.input_shape == (None, 3)
        assert model(X).shape == model.predict(X).shape == model.predict_on_batch(X).shape == (4, 2)
        symbolic = model(keras.Input((3,)))
        assert isinstance(symbolic, kind) and len(symbolic) == 1

    def test_inside_another_model(self):
        inner_in, outer_in = keras.Input((3,)), keras.Input((3,))
        inner = keras.Model([inner_in], [layers.Dense(2)(inner_in)])
        outer = keras.Model(outer_in, ops.multiply(inner(outer_in)[0], 2))
        np.testing.assert_allclose(outer.predict(X), inner.predict(X) * 2, rtol=1e-6)

    def test_a_dict_stays_one(self):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, {"a": layers.Dense(2)(inputs)})
        assert model.predict(X)["a"].shape == (4, 2) and model.output_shape == (None, 2)

    def test_several_shapes_are_a_list(self):
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        model = keras.Model({"a": a, "b": b}, {"p": layers.Dense(4)(a), "q": layers.Dense(5)(b)})
        assert model.input_shape == [(None, 3), (None, 2)] and model.output_shape == [(None, 4), (None, 5)]

    def test_scikit_learns_wrappers(self):
        pytest.importorskip("sklearn")

        def make(X, y):
            inputs = keras.Input((3,))
            model = keras.Model(inputs, [layers.Dense(y.shape[1], activation="softmax")(inputs)])
            model.compile("sgd", "categorical_crossentropy")
            return model

        estimator = keras.wrappers.SKLearnClassifier(make, fit_kwargs={"verbose": 0})
        assert set(estimator.fit(X, [0, 1, 0, 1]).predict(X)) <= {0, 1}


class TestInputsByName:
    def model(self):
        a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
        return keras.Model({"b": b, "a": a}, ops.subtract(a, ops.multiply(b, 2)))

    def test_keys_and_not_their_order(self):
        expected = X - 2 * (X + 1)
        np.testing.assert_allclose(self.model()({"b": X + 1, "a": X}), expected, rtol=1e-6)
        np.testing.assert_allclose(self.model().predict({"a": X, "b": X + 1}), expected, rtol=1e-6)

    def test_a_list_for_a_dict_in_no_known_order_is_refused(self):
        with pytest.raises(ValueError, match=r"dict with the keys \['b', 'a'\].*pass a dict"):
            self.model()([X, X])
        with pytest.raises(ValueError, match="so the order of a list is not defined: pass a dict"):
            self.model().predict([X, X])

    def test_missing_keys(self):
        with pytest.raises(ValueError, match=r"inputs \['b'\] are missing"):
            self.model()({"a": X})

    def test_a_train_step_gets_the_dict(self):
        seen = []

        class Own(keras.Model):
            def train_step(self, data):
                seen.append(sorted(data[0]))
                return super().train_step(data)

        a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
        model = compiled(Own({"a": a, "b": b}, layers.Dense(1)(ops.add(a, b))))
        model.fit({"a": X, "b": X}, X[:, :1], verbose=0)
        assert seen == [["a", "b"]]

    def test_a_tuple_of_inputs_of_a_subclass(self):
        class Own(keras.Model):
            def call(self, inputs):
                a, b = inputs
                return ops.add(a, b)

        np.testing.assert_allclose(Own().predict((X, X + 1)), 2 * X + 1, rtol=1e-6)


class TestConfigurations:
    def test_a_functional_subclass_keeps_its_own_entries(self):
        class Own(keras.Model):
            def __init__(self, *args, param=1, **kwargs):
                super().__init__(*args, **kwargs)
                self.param = param

            def get_config(self):
                return {**super().get_config(), "param": self.param}

        inputs = keras.Input((3,))
        model = Own(inputs=inputs, outputs=layers.Dense(5)(inputs), param=3)
        assert Own.from_config(model.get_config()).param == 3

    def test_the_clone_of_a_compiled_model_is_compiled(self):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        model.compile(optimizers.Adam(0.02), losses.MeanSquaredError(), metrics=[metrics.MeanAbsoluteError()])
        clone = models.clone_model(model)
        clone.fit(X, X[:, :2], verbose=0)
        assert clone.optimizer is not model.optimizer and float(clone.optimizer.learning_rate) == np.float32(0.02)
        assert int(model.optimizer.iterations) == 0 and model.predict(X).shape == (4, 2)

    @pytest.mark.parametrize("activation", [layers.LeakyReLU(0.3), layers.ReLU(max_value=1.0), layers.PReLU()])
    def test_a_layer_as_activation_in_a_file(self, activation, tmp_path):
        pytest.importorskip("h5py")
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation=activation)])
        again = reloaded(model, tmp_path / "model.keras")
        assert model.layers[0].get_config()["activation"]["module"] == "keras.layers"
        assert saving.serialize_keras_object(activation)["module"] == "keras.layers"
        assert type(again.layers[0].activation) is type(activation)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))

    def test_a_sequential_is_not_built_for_other_inputs(self):
        model = built(keras.Sequential([keras.Input((2,), batch_size=3), layers.Dense(2)]), (3, 2))
        with pytest.raises(ValueError, match=r"inputs of shape \(3, 2\) and cannot be built for \(3, 4\)"):
            model.build((3, 4))

    def test_add_variable(self):
        layer = layers.Layer()
        count = layer.add_variable((2,), "ones", "int32", False, name="count")
        assert (count.name, count.dtype, count.trainable) == ("count", "int32", False)
        assert layer.add_variable((), "zeros", constraint="non_neg").constraint is not None and len(layer.weights) == 2

    def test_a_list_that_holds_itself(self):
        dense = layers.Dense(2)
        dense.notes = [dense]
        dense.notes.append(dense.notes)
        dense.build((None, 3))
        assert len(dense.weights) == 2


class TestMetrics:
    def test_variables_in_lists_and_dicts(self):
        metric = metrics.Mean()
        metric.more = [keras.Variable(0.0), {"a": keras.Variable(1.0)}]
        assert len(metric.variables) == 4

    def test_top_k_is_an_attribute(self):
        assert metrics.TopKCategoricalAccuracy(k=2).k == 2
        metric = metrics.SparseTopKCategoricalAccuracy(k=1, from_sorted_ids=True)
        assert metric.k == 1 and metric.from_sorted_ids

    @pytest.mark.parametrize(
        ("method", "weights", "expected"),
        [
            ("interpolation", None, 0.5833333134651184),
            ("minoring", None, 0.5),
            ("majoring", None, 0.6666666269302368),
            ("interpolation", [1, 2, 3, 4, 1, 2], 0.8244599103927612),
        ],
    )
    def test_area_under_the_gains(self, method, weights, expected):
        metric = metrics.AUC(num_thresholds=20, curve="PRGAIN", summation_method=method)
        metric.update_state([0, 1, 0, 1, 1, 0], [0.1, 0.9, 0.6, 0.7, 0.3, 0.4], sample_weight=weights)
        assert metric.get_config()["curve"] == "PRGAIN"
        np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)

    def test_losses_of_named_outputs_in_lists_of_one(self):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, {"a": layers.Dense(2)(inputs), "b": layers.Dense(2)(inputs)})
        model.compile("sgd", loss={"a": ["mse"], "b": ["mae"]})
        history = model.fit(X, {"a": X[:, :2], "b": X[:, :2]}, verbose=0).history
        assert set(history) == {"loss", "a_loss", "b_loss"}


class TestOptimizers:
    def test_an_optimizer_of_no_variable_among_several(self):
        unused = optimizers.SGD(0.1)
        chosen = optimizers.OptimizerMap(
            unused, {".*/first/.*": optimizers.SGD(1e-3), ".*/second/.*": optimizers.SGD(1e-2)}
        )
        model = keras.Sequential(
            [
                layers.Dense(2, kernel_initializer="ones", use_bias=False, name="first"),
                layers.Dense(1, kernel_initializer="ones", use_bias=False, name="second"),
            ]
        )
        optimizer = optimizers.MultiOptimizer(chosen)
        model.compile(optimizer, "mse")
        model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
        np.testing.assert_allclose(model.layers[0].kernel, [[0.996, 0.996]], rtol=1e-6)
        np.testing.assert_allclose(model.layers[1].kernel, [[0.96], [0.96]], rtol=1e-6)
        assert [int(each.iterations) for each in (optimizer, *optimizer.optimizers)] == [1, 1, 1, 0]

    def test_several_optimizers_under_one_loss_scale(self):
        several = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1)), loss_scale_factor=5.0)
        outer = optimizers.LossScaleOptimizer(several, initial_scale=10.0, dynamic=True)
        weight = keras.Variable([2.0, 2.0])
        outer.build([weight])
        outer.apply([np.array([10.0, 10.0])])
        np.testing.assert_allclose(weight, [1.9, 1.9], rtol=1e-6)
        assert several.optimizers[0].loss_scale_factor is None

    def test_a_loss_scale_that_does_not_move_is_refused(self):
        with pytest.raises(ValueError, match="loss_scale_factor to the inner_optimizer"):
            optimizers.LossScaleOptimizer(optimizers.SGD(), dynamic=False)


class TestSmallSwitches:
    def test_clear_session_frees_memory(self):
        class Knot:
            pass

        gc.disable()
        try:
            knot = Knot()
            knot.itself = knot
            known = weakref.ref(knot)
            del knot
            utils.clear_session(free_memory=False)
            assert known() is not None
            keras.backend.clear_session(free_memory=True)
            assert known() is None
        finally:
            gc.enable()

    def test_attributes_of_a_lambda_callback(self):
        callback = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None, note=lambda: "kept")
        assert callback.note() == "kept"
        with pytest.raises(TypeError, match="Did you mean 'on_epoch_end'"):
            callbacks.LambdaCallback(on_epoch_ends=lambda epoch, logs: None)

    def test_histograms_of_weights_that_diverged(self, tmp_path):
        pytest.importorskip("tensorboardX")
        model = compiled(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
        model.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
        model.fit(X, X[:, :2], verbose=0, callbacks=[callbacks.TensorBoard(tmp_path, histogram_freq=1)])
        assert list(tmp_path.rglob("events*"))

    def test_formats_of_data_sets(self):
        windows = utils.timeseries_dataset_from_array(np.arange(6), None, 2, format="grain")
        assert len(list(windows)) == 1
        left, right = utils.split_dataset(X, 0.5, preferred_backend="torch")
        assert len(left) + len(right) == len(X)


class Either(layers.Layer):
    """x, and y if there is one."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x, y=None):
        return self.dense(x if y is None else ops.add(x, y))


class TestOptionalInputs:
    def model(self):
        x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y", optional=True)
        model = compiled(keras.Model({"x": x, "y": y}, Either()(x, y)))
        return model

    def test_calls(self):
        model = self.model()
        without = model({"x": X, "y": None})
        np.testing.assert_allclose(without, model([X, np.zeros_like(X)]), rtol=1e-6)
        np.testing.assert_allclose(without, model.predict([X, None]), rtol=1e-6)
        np.testing.assert_allclose(model.predict({"x": X, "y": X}), model.predict({"x": 2 * X, "y": None}), rtol=1e-5)

    def test_training_and_generators(self):
        model = self.model()
        model.fit({"x": X, "y": None}, X[:, :1], batch_size=2, validation_split=0.5, verbose=0)
        model.fit((({"x": X, "y": None}, X[:, :1]) for _ in range(2)), verbose=0)
        assert int(model.optimizer.iterations) == 3
        assert np.isfinite(model.evaluate([X, None], X[:, :1], verbose=0))

    def test_configuration(self):
        x, y = keras.Input((3,)), keras.Input((3,), optional=True)
        config = keras.Model([x, y], layers.Add()([x, y])).get_config()
        again = keras.Model.from_config(config)
        assert [each.node.layer.optional for each in again.inputs] == [False, True]

    def test_others_are_needed(self):
        with pytest.raises(ValueError, match="input 'x' is not optional"):
            self.model()({"x": None, "y": X})
        with pytest.raises(ValueError, match="input 'x' is not optional"):
            self.model().fit([None, X], X[:, :1], verbose=0)


@keras.saving.register_keras_serializable("test_keras_3_models")
class Around(layers.Layer):
    """A layer whose configuration holds objects as they are."""

    def __init__(self, inner, weights_from, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.weights_from = inner, weights_from

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {**super().get_config(), "inner": self.inner, "weights_from": [self.weights_from]}

    @classmethod
    def from_config(cls, config):
        (found,) = config.pop("weights_from")
        return cls(
            saving.deserialize_keras_object(config.pop("inner")), saving.deserialize_keras_object(found), **config
        )


class TestObjectsInConfigurations:
    def test_in_files(self, tmp_path):
        pytest.importorskip("h5py")
        model = keras.Sequential(
            [keras.Input((3,)), Around(layers.Dense(2), keras.initializers.RandomNormal(stddev=3))]
        )
        again = reloaded(model, tmp_path / "model.keras")
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.layers[0].weights_from.stddev == 3

    def test_in_json(self):
        model = keras.Sequential([keras.Input((3,)), Around(layers.Dense(2), keras.initializers.Zeros())])
        again = models.model_from_json(model.to_json())
        assert again.layers[0].inner.units == 2 and again.count_params() == 8

    def test_what_has_no_configuration(self):
        layer = Around(layers.Dense(2), object())
        with pytest.raises(TypeError, match="cannot write <object object .* into a configuration"):
            keras.Sequential([keras.Input((3,)), layer]).to_json()


class TestDataSets:
    def test_each_loop_has_another_order(self):
        numbers = utils.timeseries_dataset_from_array(np.arange(64), None, 1, batch_size=None, shuffle=True, seed=1)
        first, second = ([int(each[0]) for each in numbers] for _ in range(2))
        assert first != second and sorted(first) == sorted(second) == list(range(64))
