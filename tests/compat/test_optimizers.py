"""Optimizers in Keras 2's form: classes that set `iterations` and define `get_updates`, and those around other optimizers."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("as_keras_2")


def adam_class():
    """Adam, as a script for Keras 2.3.1 writes it."""
    import keras
    from keras import backend as K

    class OldAdam(keras.optimizers.Optimizer):
        calls = 0

        def __init__(self, lr=0.01, decay=0.0, **kwargs):
            super().__init__(**kwargs)
            with K.name_scope(self.__class__.__name__):
                self.iterations = K.variable(0, dtype="int64", name="iterations")
                self.learning_rate = K.variable(lr, name="lr")
                self.decay = K.variable(decay, name="decay")
            self.initial_decay = decay

        def get_updates(self, loss, params):
            OldAdam.calls += 1
            grads = self.get_gradients(loss, params)
            self.updates = [K.update_add(self.iterations, 1)]
            lr, t = self.learning_rate, K.cast(self.iterations, K.floatx()) + 1
            if self.initial_decay > 0:
                lr = lr * (1.0 / (1.0 + self.decay * K.cast(self.iterations, K.dtype(self.decay))))
            rate = lr * (K.sqrt(1.0 - K.pow(0.999, t)) / (1.0 - K.pow(0.9, t)))
            ms = [K.zeros(K.int_shape(p), dtype=K.dtype(p)) for p in params]
            vs = [K.zeros(K.int_shape(p), dtype=K.dtype(p)) for p in params]
            self.weights = [self.iterations, *ms, *vs]
            for p, g, m, v in zip(params, grads, ms, vs, strict=True):
                m_t = 0.9 * m + (1.0 - 0.9) * g
                v_t = 0.999 * v + (1.0 - 0.999) * K.square(g)
                self.updates.append(K.update(m, m_t))
                self.updates.append(K.update(v, v_t))
                new_p = p - rate * m_t / (K.sqrt(v_t) + K.epsilon())
                self.updates.append(K.update(p, p.constraint(new_p) if p.constraint is not None else new_p))
            return self.updates

        def get_config(self):
            own = {"lr": float(K.get_value(self.learning_rate)), "decay": float(K.get_value(self.decay))}
            return {**super().get_config(), **own}

    return OldAdam


def slow_class():
    """A wrapper that moves slow copies of the weights after every second step, as keras-lookahead does."""
    import keras
    from keras import backend as K

    class Slow(keras.optimizers.Optimizer):
        def __init__(self, optimizer, **kwargs):
            super().__init__(**kwargs)
            self.optimizer = keras.optimizers.get(optimizer)

        @property
        def iterations(self):
            return self.optimizer.iterations

        def get_updates(self, loss, params):
            slow = {p.name: K.variable(K.get_value(p), name=f"slow_{i}") for i, p in enumerate(params)}
            due = K.equal((self.iterations + 1) % 2, 0)
            update = K.update
            K.update = lambda x, new_x: (x, new_x, "not yet")
            try:
                inner = self.optimizer.get_updates(loss, params)
            finally:
                K.update = update
            self.updates = []
            for x, new_x, *_ in inner:
                if x.name in slow:
                    moved = slow[x.name] + 0.5 * (new_x - slow[x.name])
                    self.updates.append(K.update(slow[x.name], K.switch(due, moved, slow[x.name])))
                    new_x = K.switch(due, moved, new_x)
                self.updates.append(K.update(x, new_x))
            self.weights = [*self.optimizer.weights, *slow.values()]
            return self.updates

        def get_config(self):
            return {**super().get_config(), "optimizer": keras.optimizers.serialize(self.optimizer)}

    return Slow


def network(optimizer, limit=0.9):
    import keras
    from keras.layers import Dense

    keras.utils.set_random_seed(2)
    constraint = limit and keras.constraints.max_norm(limit)
    first = Dense(4, input_dim=3, activation="tanh", kernel_constraint=constraint)
    model = keras.models.Sequential([first, Dense(4, activation="tanh"), Dense(1)])
    model.compile(optimizer, "mse")
    return model


X = np.random.default_rng(3).normal(size=(42, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def fit(model, **options):
    return model.fit(X, Y, batch_size=8, verbose=0, shuffle=False, **options).history["loss"]


@pytest.mark.parametrize("options", [{}, {"decay": 0.1}, {"clipvalue": 0.05}], ids=["plain", "decay", "clipvalue"])
def test_a_class_with_get_updates_trains_as_the_same_rule_of_keras_and_is_recorded(options):
    import keras

    cls = adam_class()
    old, new = network(cls(**options)), network(keras.optimizers.Adam(lr=0.01, **options))
    np.testing.assert_allclose(fit(old, epochs=6), fit(new, epochs=6), rtol=1e-4)
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert int(old.optimizer.iterations) == 36 and len(old.optimizer.weights) == 13
    assert cls.calls <= 5  # to make the state, and to record the steps of 8 and of 2 rows; all others are replays


def test_clipnorm_limits_all_gradients_together():
    import keras
    from keras import backend as K

    seen = []

    class Seen(keras.optimizers.Optimizer):
        def get_updates(self, loss, params):
            seen.append(self.get_gradients(loss, params))
            return [K.update_sub(p, g) for p, g in zip(params, seen[-1], strict=True)]

    network(Seen(clipnorm=0.01)).train_on_batch(X, Y)
    assert sum(float(K.sum(K.square(g))) for g in seen[-1]) == pytest.approx(1e-4, rel=1e-4)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("kind", ["rule", "wrapper of a rule", "wrapper of Keras's"])
def test_the_state_is_saved_and_training_goes_on(tmp_path, kind, name):
    import keras

    old, slow = adam_class(), slow_class()
    kinds = {"rule": old, "wrapper of a rule": lambda: slow(old()), "wrapper of Keras's": lambda: slow("adam")}
    model = network(kinds[kind]())
    fit(model, epochs=3)
    model.save(str(tmp_path / name))
    again = keras.models.load_model(str(tmp_path / name), custom_objects={"OldAdam": old, "Slow": slow})
    found, expected = again.optimizer.get_weights(), model.optimizer.get_weights()
    assert len(found) == len(expected) > 12 and int(again.optimizer.iterations) == 18
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert fit(again, epochs=2) == fit(model, epochs=2)


def test_a_wrapper_around_an_optimizer_of_keras_changes_its_updates():
    import keras

    plain, wrapped = network(keras.optimizers.SGD(lr=0.1)), network(slow_class()(keras.optimizers.SGD(lr=0.1)))
    start = plain.get_weights()
    for step in range(4):
        plain.train_on_batch(X, Y)
        wrapped.train_on_batch(X, Y)
        if step % 2:
            start = [slow + 0.5 * (fast - slow) for slow, fast in zip(start, plain.get_weights(), strict=True)]
            plain.set_weights(start)
        for a, b in zip(wrapped.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_numbers_that_are_assigned_to_the_learning_rate_reach_recorded_steps():
    import keras
    from keras import backend as K

    model = network(adam_class()(), limit=None)
    variable = model.optimizer.learning_rate
    fit(model, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch < 2 else 0.0)], epochs=2)
    assert model.optimizer.lr is variable and float(K.get_value(variable)) == pytest.approx(0.1)
    before = model.get_weights()
    model.optimizer.lr = 0.0
    fit(model)
    model.optimizer.lr = K.variable(0.0)
    fit(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.optimizer.lr = K.variable(0.1)
    fit(model)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_gradients_of_ones_own_and_updates_for_a_function():
    from keras import backend as K
    from keras import losses

    mine, theirs = network(adam_class()()), network(adam_class()())
    target = K.placeholder((None, 1))
    loss = K.mean(losses.mean_squared_error(target, mine.output))
    step = K.function([mine.input, target], [loss], updates=mine.optimizer.get_updates(loss, mine.trainable_weights))
    assert step([X, Y])[0] == pytest.approx(theirs.train_on_batch(X, Y), rel=1e-5)
    step([X, Y]), theirs.train_on_batch(X, Y)
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    ones = [np.ones_like(w) for w in mine.get_weights()]
    assert int(mine.optimizer.apply_gradients(zip(ones, mine.trainable_weights, strict=True))) == 3


def test_a_subclass_of_an_optimizer_of_keras_may_define_get_updates():
    import keras
    from keras import backend as K

    class Halved(keras.optimizers.SGD):
        def get_updates(self, loss, params):
            gradients = self.get_gradients(loss, params)
            return [K.update_sub(p, 0.5 * self.lr * g) for p, g in zip(params, gradients, strict=True)]

    found, expected = network(Halved(lr=0.2), limit=None), network(keras.optimizers.SGD(lr=0.1), limit=None)
    np.testing.assert_allclose(fit(found, epochs=2), fit(expected, epochs=2), rtol=1e-5)
    assert found.optimizer.get_config()["learning_rate"] == pytest.approx(0.2)


def test_what_get_updates_must_return_and_depend_on():
    import keras
    from keras import backend as K

    class Wrong(keras.optimizers.Optimizer):
        def get_updates(self, loss, params):
            return [p.assign(p) for p in params]

    with pytest.raises(TypeError, match="Wrong.get_updates must return a list of the results of K.update"):
        network(Wrong()).train_on_batch(X, Y)
    w, unused = K.variable([1.0, 2.0]), K.variable([3.0])
    optimizer = adam_class()()
    with keras.GradientTape():
        loss = K.sum(w * w)
    with pytest.raises(ValueError, match="the loss does not depend on the variables"):
        optimizer.learn(loss, [w, unused])
