"""Cases of losses, metrics, weights, regularizers, constraints, masks in training, and optimizers."""

import functools

from protocol import binary, classes, family, normal, one_hot, regression, signs, uniform
from recurrent_cases import on_words, words

# -------------------- training: losses, metrics, weights, regularizers, constraints --------------------

training = family("training")


@training(normal(7, 5), normal(7, 2))
def regularizers(k):
    r = k.regularizers
    layers = [
        k.layers.Dense(4, "tanh", kernel_regularizer=r.L2(0.05), bias_regularizer=r.L1(0.03)),
        k.layers.Dense(3, kernel_regularizer=r.L1L2(l1=0.01, l2=0.02), activity_regularizer=r.L2(0.04)),
        k.layers.Dense(2, kernel_regularizer="l2"),
    ]
    return regression(k, k.Input(shape=(5,)), *layers)


@training(normal(7, 5), normal(7, 2))
def constraints(k):
    c = k.constraints
    layers = [
        k.layers.Dense(4, "tanh", kernel_constraint=c.MaxNorm(0.8), bias_constraint=c.NonNeg()),
        k.layers.Dense(3, kernel_constraint=c.UnitNorm(axis=0)),
        k.layers.Dense(2, kernel_constraint=c.MinMaxNorm(0.3, 0.6, rate=0.5)),
    ]
    return regression(k, k.Input(shape=(5,)), *layers)


def classifier(k, *head, **settings):
    model = k.Sequential([k.Input(shape=(5,)), k.layers.Dense(6, activation="tanh"), *head])
    model.compile(optimizer="sgd", **settings)
    return model


softmax = {"activation": "softmax"}


@training(normal(8, 5), classes(3, 8, 1), fit={"class_weight": {0: 0.5, 1: 2.0, 2: 1.0}})
def class_weight(k):
    return classifier(k, k.layers.Dense(3, **softmax), loss="sparse_categorical_crossentropy", metrics=["accuracy"])


@training(normal(8, 5), one_hot(8, 3), weights=(uniform(8),))
def sample_weight(k):
    settings = {"metrics": ["accuracy"], "weighted_metrics": ["mae", "accuracy"]}
    return classifier(k, k.layers.Dense(3, **softmax), loss="categorical_crossentropy", **settings)


# Keras's JAX backend loses the mask on its way to the metrics of a training step
masked = functools.partial(training, backends=("tensorflow", "tf_keras"))


@masked(words, normal(7, 5, 2))
def mask_reaches_loss(k):
    model = on_words(k, k.layers.GRU(4, return_sequences=True), k.layers.Dense(2))
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return model


@masked(words, normal(7, 5, 2), weights=(uniform(7, 5),))
def mask_and_weights_reach_metrics(k):
    model = on_words(k, k.layers.LSTM(4, return_sequences=True), k.layers.TimeDistributed(k.layers.Dense(2)))
    model.compile(optimizer="sgd", loss="mse", weighted_metrics=["mae"])
    return model


@training(normal(8, 5), normal(8, 2))
def frozen_layer(k):
    layers = [k.layers.Dense(4, trainable=False), k.layers.Activation("tanh"), k.layers.Dense(2)]
    return regression(k, k.Input(shape=(5,)), *layers)


def one_loss(identifier, y, activation, **settings):
    """A case of one loss, with an output in the loss's domain."""

    def build(k):
        loss = getattr(k.losses, identifier)(**settings) if settings else identifier
        return classifier(k, k.layers.Dense(3, activation=activation), loss=loss)

    build.__name__ = "_".join(["loss", identifier, *settings])
    training(normal(7, 5), y)(build)


for _name in ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "cosine_similarity"):
    one_loss(_name, normal(7, 3), None)
for _name in ("mean_absolute_percentage_error", "mean_squared_logarithmic_error", "poisson"):
    one_loss(_name, uniform(7, 3, low=0.5, high=2), "softplus")
for _name in ("hinge", "squared_hinge"):
    one_loss(_name, signs(7, 3), "tanh")
one_loss("Hinge", binary(7, 3), "tanh", name="zeros_and_ones")
one_loss("categorical_hinge", one_hot(7, 3), "softmax")
one_loss("kl_divergence", uniform(7, 3), "sigmoid")
one_loss("binary_crossentropy", binary(7, 3), "sigmoid")
one_loss("categorical_crossentropy", one_hot(7, 3), "softmax")
one_loss("sparse_categorical_crossentropy", classes(3, 7), "softmax")
one_loss("BinaryCrossentropy", normal(7, 3), "sigmoid", name="any_targets")
one_loss("BinaryCrossentropy", binary(7, 3), None, from_logits=True)
one_loss("CategoricalCrossentropy", one_hot(7, 3), None, from_logits=True, label_smoothing=0.1)
one_loss("SparseCategoricalCrossentropy", classes(3, 7), None, from_logits=True)


@training(normal(8, 5), one_hot(8, 3))
def metrics_of_classes(k):
    m = k.metrics
    several = ["accuracy", "categorical_crossentropy", m.TopKCategoricalAccuracy(k=2, name="top2"), "mae", "mse"]
    several += [m.Precision(name="precision"), m.Recall(name="recall"), m.AUC(num_thresholds=20, name="auc")]
    return classifier(k, k.layers.Dense(3, **softmax), loss="categorical_crossentropy", metrics=several)


@training(normal(8, 5), binary(8, 1))
def metrics_of_two_classes(k):
    m = k.metrics
    several = [
        "accuracy",
        m.BinaryAccuracy(threshold=0.4, name="binary"),
        m.AUC(num_thresholds=30, curve="PR", name="pr"),
    ]
    several += [m.Precision(thresholds=0.4, name="precision"), m.Recall(thresholds=[0.3, 0.6], name="recall")]
    return classifier(k, k.layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy", metrics=several)


@training(normal(8, 5), classes(4, 8))
def metrics_of_class_numbers(k):
    m = k.metrics
    several = ["accuracy", m.SparseTopKCategoricalAccuracy(k=2, name="top2"), "sparse_categorical_crossentropy"]
    head = k.layers.Dense(4, **softmax)
    return classifier(k, head, loss="sparse_categorical_crossentropy", metrics=several)


@training(normal(8, 5), uniform(8, 3))
def metrics_of_values(k):
    m = k.metrics
    several = ["mae", "mse", "mape", "msle", m.RootMeanSquaredError(name="rmse"), m.CosineSimilarity(name="cosine")]
    several += ["poisson", "kl_divergence", m.LogCoshError(name="log_cosh"), m.MeanAbsoluteError(name="mean_absolute")]
    return classifier(k, k.layers.Dense(3, activation="sigmoid"), loss="mse", metrics=several)


# -------------------- optimizers --------------------

optimizers = family("optimizers")


def one_optimizer(name, class_name, **settings):
    """A case of one optimizer; a callable setting is made from `k`."""

    def build(k):
        settings_now = {key: value(k) if callable(value) else value for key, value in settings.items()}
        optimizer = getattr(k.optimizers, class_name)(**settings_now)
        return regression(k, k.Input(shape=(4,)), k.layers.Dense(5, "tanh"), k.layers.Dense(2), optimizer=optimizer)

    build.__name__ = f"optimizer_{name}"
    optimizers(normal(7, 4), normal(7, 2))(build)


def decay(k):
    return k.optimizers.schedules.ExponentialDecay(0.1, decay_steps=2, decay_rate=0.5)


one_optimizer("sgd", "SGD", learning_rate=0.1)
one_optimizer("momentum", "SGD", learning_rate=0.1, momentum=0.9)
one_optimizer("nesterov", "SGD", learning_rate=0.1, momentum=0.9, nesterov=True)
one_optimizer("schedule", "SGD", learning_rate=decay, momentum=0.5)
one_optimizer("clipnorm", "SGD", learning_rate=0.1, clipnorm=0.05)
one_optimizer("clipvalue", "SGD", learning_rate=0.1, clipvalue=0.05)
one_optimizer("global_clipnorm", "SGD", learning_rate=0.1, global_clipnorm=0.1)
one_optimizer("rmsprop", "RMSprop", learning_rate=0.01)
one_optimizer("rmsprop_momentum", "RMSprop", learning_rate=0.01, rho=0.8, momentum=0.9)
one_optimizer("rmsprop_centered", "RMSprop", learning_rate=0.01, centered=True, epsilon=1e-5)
one_optimizer("adagrad", "Adagrad", learning_rate=0.1)
one_optimizer("adadelta", "Adadelta", learning_rate=1.0)
one_optimizer("adam", "Adam", learning_rate=0.01)
one_optimizer("amsgrad", "Adam", learning_rate=0.1, beta_1=0.5, beta_2=0.6, amsgrad=True)
one_optimizer("adam_clipnorm", "Adam", learning_rate=0.01, clipnorm=0.05)
one_optimizer("adamw", "AdamW", learning_rate=0.01, weight_decay=0.1)
one_optimizer("adamax", "Adamax", learning_rate=0.01)
one_optimizer("nadam", "Nadam", learning_rate=0.01)
