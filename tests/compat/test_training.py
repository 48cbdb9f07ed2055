"""Users' training loops and callbacks, as in scripts for Keras 2."""

import pytest


def test_updates_of_an_optimizer(run):
    run("""
        import numpy as np
        from keras import backend as K, losses, optimizers
        from keras.layers import Dense, Dropout
        from keras.models import Sequential

        model = Sequential([Dense(3, input_dim=5), Dropout(0.5), Dense(2)])
        x, y = np.random.rand(8, 5), np.random.rand(8, 2)
        target = K.placeholder((None, 2))
        loss, params = K.mean(losses.mean_squared_error(target, model.output)), model.trainable_weights
        gradients = K.function([model.input, target], K.gradients(loss, params))([x, y])
        wanted = [w - 0.5 * g for w, g in zip(model.get_weights(), gradients)]
        for arguments in ((loss, params), (params, [], loss)):
            before = model.get_weights()
            updates = optimizers.SGD(lr=0.5).get_updates(*arguments)
            step = K.function([model.input, target, K.learning_phase()], [loss], updates=updates)
            error = np.mean((y - model.predict(x)) ** 2)
            np.testing.assert_allclose(step([x, y, 0]), [error], rtol=1e-5)
            for found, expected in zip(model.get_weights(), wanted):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            model.set_weights(before)
        assert step([x, y, 1])[0] != step([x, y, 1])[0]
        """)


def test_what_callbacks_and_constructors_take(run):
    pytest.importorskip("tensorboardX")
    run("""
        import numpy as np
        from keras import backend as K
        from keras.callbacks import Callback, TensorBoard
        from keras.layers import Dense, Input
        from keras.models import Model

        class Seen(Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.shapes = [each.shape for each in self.validation_data]

        x = Input((5,))
        model, seen = Model(input=x, output=Dense(3)(x)), Seen()
        model.compile("sgd", "mse")
        board = TensorBoard("logs", 0, 32, False, write_grads=False, embeddings_layer_names=None)
        model.fit(np.ones((8, 5)), np.ones((8, 3)), validation_split=0.25, callbacks=[seen, board], verbose=0)
        assert seen.shapes == [(2, 5), (2, 3), (2,)]
        K.set_image_dim_ordering("th")
        assert K.image_dim_ordering() == "th" and K.image_data_format() == "channels_first"
        """)


def test_metrics_of_a_model_that_computes_its_loss_itself(run_keras_2):
    """Keras 2.3.1 had no such models, so its rule that an output without a loss has no metrics is not for them."""
    run_keras_2("""
        import keras
        import numpy as np

        class ByStep(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

            def train_step(self, data):
                x, y = data
                with keras.GradientTape() as tape:
                    y_pred = self(x, training=True)
                    loss = keras.ops.mean(keras.ops.square(y_pred - y))
                weights = self.trainable_variables
                self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
                return {"step": loss, **self.compute_metrics(x, y, y_pred)}

        class ByLoss(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return keras.ops.mean(keras.ops.abs(y_pred - y))

        x, y = np.ones((8, 3)), np.ones((8, 2))
        for cls in (ByStep, ByLoss):
            model = cls()
            model.compile("sgd", metrics=["mae"])
            assert "mae" in model.fit(x, y, verbose=0).history, cls

        inputs = keras.layers.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
        model.add_loss(keras.backend.mean(model.output))
        model.compile("sgd", metrics=["mae"])
        assert "mae" not in model.fit(x, None, verbose=0).history
        """)
