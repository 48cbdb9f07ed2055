"""Keras 2's recurrent layers under the alias: constants for cells, states of stacked cells, identities for gates."""

import pytest

CELL = """
        import numpy as np
        import keras
        from keras import backend as K
        from keras.layers import GRUCell, Bidirectional, Input, LSTM, Layer, LSTMCell, RNN, StackedRNNCells
        from keras.models import Model, load_model
        from pytest import raises

        class Fed(Layer):
            def __init__(self, units, **kwargs):
                self.units = self.state_size = units
                super(Fed, self).__init__(**kwargs)
            def build(self, input_shape):
                step, constant = input_shape
                self.kernel = self.add_weight(shape=(step[-1], self.units), initializer="uniform", name="kernel")
                self.constant = self.add_weight(shape=(constant[-1], self.units), initializer="uniform", name="constant")
                self.built = True
            def call(self, inputs, states, constants):
                output = K.dot(inputs, self.kernel) + states[0] + K.dot(constants[0], self.constant)
                return output, [output]
            def get_config(self):
                return dict(super(Fed, self).get_config(), units=self.units)

        own = {"Fed": Fed}
        x, c, s = Input((4, 5)), Input((3,)), Input((7,))
        given = np.random.rand(2, 4, 5), np.random.rand(2, 3), np.random.rand(2, 7)
        """


@pytest.fixture
def run_cells(run):
    return lambda source: run(CELL + source)


def test_constants_of_a_cell(run_cells):
    run_cells("""
        layer = RNN(Fed(7), return_sequences=True)
        model = Model([x, c, s], layer(x, initial_state=s, constants=c))
        kernel, constant = layer.get_weights()
        xs, cs, ss = given
        wanted = ss[:, None] + np.cumsum(xs @ kernel + (cs @ constant)[:, None], axis=1)
        np.testing.assert_allclose(model.predict(list(given)), wanted, rtol=1e-4)
        np.testing.assert_allclose(K.eval(layer(xs, initial_state=ss, constants=cs)), wanted, rtol=1e-4)
        flat = RNN.from_config(layer.get_config(), own)
        again = Model([x, c, s], flat([x, s, c]))
        again.set_weights(model.get_weights())
        np.testing.assert_allclose(again.predict(list(given)), wanted, rtol=1e-4)
        for name in ("model.h5", "model.keras"):
            model.save(name)
            np.testing.assert_allclose(load_model(name, own).predict(list(given)), wanted, rtol=1e-4)
        for other, more, message in ((RNN(GRUCell(3)), {"constants": c}, "does not take"), (layer, {}, "takes 1 constants")):
            with raises(ValueError, match=message):
                other(x, **more)
        """)


def test_constants_of_stacked_cells_both_ways(run_cells):
    run_cells("""
        with keras.utils.CustomObjectScope(own):
            both = Bidirectional(RNN([GRUCell(6), Fed(7)], return_sequences=True))
            outputs = both(x, constants=[c])
            model = Model([x, c], outputs)
            model.compile("sgd", "mse")
            model.fit(list(given[:2]), np.ones((2, 4, 14)), verbose=0)
            again = Model.from_config(model.get_config())
        again.set_weights(model.get_weights())
        first, before = again.predict(list(given[:2])), model.predict(list(given[:2]))
        assert first.shape == (2, 4, 14)
        np.testing.assert_array_equal(first, before)
        other = model.predict([given[0], given[1] + 1])
        assert abs(other - before).min() > 0
        """)


def test_states_of_stacked_cells_are_one_list(run_cells):
    run_cells("""
        cells = StackedRNNCells([LSTMCell(2), GRUCell(3)])
        assert cells.state_size == (2, 2, 3)
        layer = RNN(cells, return_state=True)
        output, *states = layer(x)
        assert [K.int_shape(each) for each in states] == [(None, 2), (None, 2), (None, 3)]
        assert layer.compute_output_shape((None, 4, 5)) == [(None, 3), (None, 2), (None, 2), (None, 3)]
        after = RNN([LSTMCell(2), GRUCell(3)])(x, initial_state=states)
        found = Model(x, [output, after, *states]).predict(given[0])
        np.testing.assert_array_equal(found[0], found[-1])
        assert [K.int_shape(each) for each in layer.get_initial_state(x)] == [(None, 2), (None, 2), (None, 3)]
        assert K.eval(layer.get_initial_state(K.ones((6, 4, 5)))[2]).shape == (6, 3)
        eye = LSTM(2, recurrent_initializer="identity", input_shape=(4, 5))
        eye(x)
        np.testing.assert_array_equal(eye.get_weights()[1], np.tile(np.eye(2), 4))
        """)


def test_masks_beside_initial_states_are_used(run_cells):
    run_cells("""
        open_x = Input((None, 5))
        model = Model([open_x, s], LSTM(7)(keras.layers.Masking()(open_x), initial_state=[s, s]))
        shorter = given[0][:, :2]
        padded = np.concatenate([shorter, np.zeros((2, 2, 5))], axis=1)
        found, wanted = (model.predict([each, given[2]]) for each in (padded, shorter))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        """)
