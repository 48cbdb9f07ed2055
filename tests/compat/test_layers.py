"""Users' layers in the forms that Keras 2 accepts, and weights in groups of HDF5 files."""

import pytest


def test_layers_of_ones_own(run):
    run("""
        import numpy as np
        from keras import backend as K
        from keras.layers import Dense, Input, Lambda, Layer
        from keras.models import Model
        from pytest import raises

        class Twice(Layer):
            def call(self, inputs):
                return [inputs, 2 * inputs]
            def compute_output_shape(self, input_shape):
                shape = super(Twice, self).compute_output_shape(input_shape)
                return [shape, shape]

        class Regularized(Layer):
            def build(self, input_shape):
                self.w = self.add_weight("w", (2,), initializer="ones")
                self.add_loss(K.sum(self.w))
                self.built = True
            def call(self, inputs):
                return inputs * self.w

        class Held(Layer):
            def __init__(self):
                super(Held, self).__init__()
                self.dense = Dense(3, kernel_regularizer="l2", activity_regularizer="l2")
            def call(self, inputs):
                return self.dense(inputs)

        x = Input((2,))
        first, second = Twice()(x)
        assert K.int_shape(first) == K.int_shape(second) == (None, 2)
        assert K.int_shape(Lambda(lambda t: t[:, :1])(x)) == (None, 1)
        with raises(NotImplementedError, match="adds a loss in build"):
            Regularized()(x)
        assert len(Model(x, Held()(x)).losses) == 1  # that of the kernel: there are no outputs yet
        """)


def test_functions_of_lambda_layers(run_keras_2):
    pytest.importorskip("h5py")
    run_keras_2("""
        import numpy as np
        from keras.layers import Dense, Input, Lambda
        from keras.models import Model, clone_model, load_model
        from pytest import raises

        def double(t):
            return 2 * t

        x = Input((2,))
        y = Lambda(lambda t: t[:, ::-1], name="turned")(Lambda(double)(x))
        model, given = Model(x, y), np.array([[1.0, 2.0]])
        for clone in (clone_model(model), Model.from_config(model.get_config())):
            np.testing.assert_array_equal(clone.predict(given), [[4, 2]])
        for name in ("model.h5", "model.keras"):
            model.save(name)
            known = {"double": double, "turned": lambda t: t[:, ::-1]}
            np.testing.assert_array_equal(load_model(name, known).predict(given), [[4, 2]])
            with raises(ValueError, match="custom_objects={'turned': function}"):
                load_model(name, {"double": double})

        layer = Lambda.from_config(Lambda(double, output_shape=(2,)).get_config(), custom_objects={})
        assert layer.function is double and layer.compute_output_shape((3, 2)) == (3, 2)
        """)


def test_masks_of_lambda_layers(run_keras_2):
    pytest.importorskip("h5py")
    run_keras_2("""
        import numpy as np
        from keras.layers import LSTM, Embedding, Input, Lambda
        from keras.models import Model, clone_model, load_model
        from pytest import raises

        def double(t):
            return 2 * t

        x = Input((4,))
        layer = Lambda(double, mask=lambda inputs, mask: mask, name="d")
        model = Model(x, LSTM(2)(layer(Embedding(9, 3, mask_zero=True)(x))))
        assert callable(layer.mask)

        def check(other):
            other.set_weights(model.get_weights())
            short, long = ([[1, 2, 0, 0]], [[1, 2, 9 - 1, 8 - 1]])
            for given in (short, long):
                np.testing.assert_array_equal(other.predict(np.array(given)), model.predict(np.array(given)))

        check(clone_model(model))
        for name in ("model.h5", "model.keras"):
            model.save(name)
            check(load_model(name, {"double": double, "d_mask": layer.mask}))
            with raises(ValueError, match="custom_objects={'d_mask': function}"):
                load_model(name, {"double": double})
        """)


def test_set_learning_phase_decides_for_layers_connected_after_it(run):
    run("""
        import numpy as np
        from keras import backend as K
        from keras.layers import BatchNormalization, Dropout, Input, TimeDistributed
        from keras.models import Model, Sequential, load_model

        ones = np.ones((64, 2, 8))

        def zeros(model):
            return (model.predict(ones) == 0).mean()

        def dropout():
            return Sequential([TimeDistributed(Dropout(0.5), input_shape=(2, 8))])

        K.set_learning_phase(1)
        model, x = dropout(), Input((2, 8))
        asked = Model(x, Dropout(0.5)(x, training=False))
        assert 0.4 < zeros(model) < 0.6 and zeros(asked) == 0
        K.set_learning_phase(0)
        assert 0.4 < zeros(model) < 0.6 and zeros(dropout()) == zeros(Sequential.from_config(model.get_config())) == 0
        fixed = Sequential([BatchNormalization(input_shape=(2, 8))])
        K.clear_session()
        free = Sequential([BatchNormalization(input_shape=(2, 8))])
        for each in (fixed, free):
            each.compile("sgd", "mse")
            each.fit(ones, ones, verbose=0)
        assert not fixed.get_weights()[2].any() and free.get_weights()[2].all() and zeros(dropout()) == 0
        """)


def test_weights_in_a_group_of_a_file(run):
    pytest.importorskip("h5py")
    run("""
        import h5py
        import numpy as np
        from keras.engine import saving
        from keras.layers import Dense
        from keras.models import Sequential
        from pytest import raises

        def model(last=2):
            return Sequential([Dense(3, input_dim=2, name="a"), Dense(last, name="b")])

        one, two, other = model(), model(), model(4)
        one.save("whole.h5")
        with h5py.File("weights.h5", "w") as file:
            saving.save_weights_to_hdf5_group(file.create_group("here"), one.layers)
        x = np.random.rand(4, 2)
        for name, group in (("weights.h5", "here"), ("whole.h5", "model_weights")):
            two.set_weights([0 * w for w in two.get_weights()])
            with h5py.File(name, "r") as file:
                saving.load_weights_from_hdf5_group(file[group], two.layers)
                np.testing.assert_array_equal(two.predict(x), one.predict(x))
                saving.load_weights_from_hdf5_group_by_name(file[group], (l for l in other.layers if l.name != "b"))
                np.testing.assert_array_equal(other.layers[0].get_weights()[0], one.layers[0].get_weights()[0])
                with raises(ValueError, match="'b'"):
                    saving.load_weights_from_hdf5_group_by_name(file[group], other.layers)
        """)


def test_the_shape_of_the_input_is_in_a_layers_configuration_and_not_in_a_file(run_keras_2):
    run_keras_2("""
        import json, zipfile
        from keras.layers import Dense, Embedding
        from keras.models import Sequential

        model, again = Sequential([Dense(3, input_dim=2), Dense(1)]), Sequential()
        for layer in model.layers:
            again.add(type(layer).from_config(layer.get_config()))
        again.set_weights(model.get_weights())
        assert Embedding(4, 2, input_length=3).get_config()["batch_input_shape"] == (None, 3)
        again.save("model.keras")
        with zipfile.ZipFile("model.keras") as file:
            assert b"batch_input_shape" not in file.read("config.json")
        """)


def test_arguments_of_depthwise_convolutions_that_keras_2_did_not_use(run_keras_2):
    run_keras_2("""
        import warnings
        from keras.layers import DepthwiseConv2D, SeparableConv1D
        from keras.models import Sequential
        from keras.regularizers import l2

        given = {"kernel_initializer": "zeros", "kernel_regularizer": l2(1e-4)}
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model = Sequential([DepthwiseConv2D(3, input_shape=(4, 4, 2), **given)])
            SeparableConv1D(2, 3, kernel_constraint="non_neg")
        assert "DepthwiseConv2D takes kernel_initializer, kernel_regularizer and does not use" in str(seen[0].message)
        assert len(seen) == 2 and model.get_weights()[0].any() and model.layers[0].kernel.regularizer is None
        """)
