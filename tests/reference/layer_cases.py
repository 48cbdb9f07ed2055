"""Cases of dense layers, activations, shapes, convolution, pooling, normalization, merging and graphs."""

from protocol import (
    binary,
    branches,
    classes,
    family,
    keras_2_hard_sigmoid,
    normal,
    one_hot,
    padded_floats,
    regression,
    uniform,
)

# -------------------- dense, activations, core --------------------

dense = family("dense")


@dense(normal(7, 5), one_hot(7, 3))
def mlp(k):
    model = k.Sequential([k.Input(shape=(5,)), k.layers.Dense(6, activation="relu"), k.layers.Dense(3)])
    model.add(k.layers.Activation("softmax"))
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


@dense(normal(7, 5), uniform(7, 18))
def piecewise_activations(k):
    names = ["relu", "leaky_relu", "elu", "selu", "linear", "hard_sigmoid"]
    return branches(k, (5,), [k.layers.Dense(3, activation=name) for name in names])


@dense(normal(7, 5), uniform(7, 24))
def smooth_activations(k):
    names = ["gelu", "silu", "softplus", "softsign", "sigmoid", "tanh", "exponential", "softmax"]
    return branches(k, (5,), [k.layers.Dense(3, activation=name) for name in names])


@dense(normal(5, 5), uniform(5, 3), backends=("tf_keras",))
def legacy_hard_sigmoid(k):
    return branches(k, (5,), [k.layers.Dense(3, activation=keras_2_hard_sigmoid(k))])


@dense(normal(7, 4, 3), uniform(7, 60))
def activation_layers(k):
    layers = [
        k.layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
        k.layers.LeakyReLU(),
        k.layers.ELU(alpha=0.7),
        k.layers.PReLU(shared_axes=[1]),
        k.layers.Softmax(axis=1),
    ]
    return branches(k, (4, 3), layers)


@dense(normal(7, 4, 3), normal(7, 4, 2))
def dense_on_sequences(k):
    return regression(k, k.Input(shape=(4, 3)), k.layers.Dense(5, "tanh", use_bias=False), k.layers.Dense(2))


@dense(normal(5, 6), normal(5, 36))
def shape_layers(k):
    layers = [k.layers.Reshape((3, -1)), k.layers.Permute((2, 1)), k.layers.Dense(6), k.layers.Flatten()]
    return regression(k, k.Input(shape=(6,)), *layers, k.layers.RepeatVector(3), k.layers.Reshape((36,)))


# -------------------- convolution and pooling --------------------

conv = family("convolution")


@conv(normal(4, 9, 3), normal(4, 46))
def conv1d(k):
    layers = [
        k.layers.Conv1D(2, 3, padding="same"),
        k.layers.Conv1D(2, 4, strides=2, activation="relu"),
        k.layers.Conv1D(1, 3, padding="causal", dilation_rate=2),
        k.layers.Conv1D(1, 2, padding="valid", dilation_rate=3, use_bias=False),
        k.layers.Conv1D(1, 4, strides=2, padding="same"),
        k.layers.Conv1D(1, 5, padding="causal", strides=3),
    ]
    flat = branches(k, (9, 3), layers)
    return regression(k, flat, k.layers.Dense(46, activation="tanh"))


@conv(normal(4, 7, 6, 2), normal(4, 3))
def conv2d_same(k):
    layers = [k.layers.Conv2D(4, 3, padding="same", activation="relu"), k.layers.Conv2D(3, (2, 4), padding="same")]
    return regression(k, k.Input(shape=(7, 6, 2)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@conv(normal(4, 8, 9, 3), normal(4, 3))
def conv2d_strides(k):
    layers = [k.layers.Conv2D(4, 3, strides=(2, 1), padding="same"), k.layers.Conv2D(3, 3, strides=2, use_bias=False)]
    return regression(k, k.Input(shape=(8, 9, 3)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@conv(normal(4, 9, 8, 2), normal(4, 3))
def conv2d_dilation(k):
    layers = [k.layers.Conv2D(3, 3, dilation_rate=2), k.layers.Conv2D(3, (3, 2), dilation_rate=(1, 2), padding="same")]
    return regression(k, k.Input(shape=(9, 8, 2)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@conv(normal(3, 10, 11, 16), normal(3, 2))
def conv2d_wide(k):
    layers = [k.layers.Conv2D(16, 3, padding="same", activation="relu"), k.layers.Conv2D(8, 1)]
    pool = k.layers.GlobalAveragePooling2D()
    return regression(k, k.Input(shape=(10, 11, 16)), *layers, pool, k.layers.Dense(2))


@conv(normal(3, 4, 5, 2), normal(3, 3))
def padding_and_upsampling(k):
    layers = [k.layers.ZeroPadding2D(((1, 2), (0, 3))), k.layers.UpSampling2D((2, 3)), k.layers.Conv2D(2, 5, strides=3)]
    return regression(k, k.Input(shape=(4, 5, 2)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@conv(uniform(5, 10, 10, 1), one_hot(5, 4))
def classic_cnn(k):
    layers = [k.layers.Conv2D(4, 3, activation="relu"), k.layers.Conv2D(6, 3, activation="relu")]
    layers += [k.layers.MaxPooling2D(2), k.layers.Flatten(), k.layers.Dense(8, "relu"), k.layers.Dense(4, "softmax")]
    model = k.Sequential([k.Input(shape=(10, 10, 1)), *layers])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


@conv(normal(4, 9, 3), normal(4, 5))
def pooling1d(k):
    layers = [
        k.layers.MaxPooling1D(2),
        k.layers.MaxPooling1D(3, strides=2, padding="same"),
        k.layers.AveragePooling1D(2),
        k.layers.AveragePooling1D(4, strides=3, padding="same"),
        k.layers.GlobalMaxPooling1D(),
        k.layers.GlobalAveragePooling1D(),
    ]
    return regression(k, branches(k, (9, 3), layers), k.layers.Dense(5))


@conv(normal(4, 7, 8, 2), normal(4, 5))
def pooling2d(k):
    layers = [
        k.layers.MaxPooling2D(2),
        k.layers.MaxPooling2D((3, 2), strides=(2, 1), padding="same"),
        k.layers.AveragePooling2D((2, 3)),
        k.layers.AveragePooling2D(3, strides=2, padding="same"),
        k.layers.GlobalMaxPooling2D(),
        k.layers.GlobalAveragePooling2D(),
    ]
    return regression(k, branches(k, (7, 8, 2), layers), k.layers.Dense(5))


# -------------------- normalization --------------------

normalization = family("normalization")


@normalization(normal(8, 5), normal(8, 3))
def batch_normalization(k):
    layers = [k.layers.Dense(6, use_bias=False), k.layers.BatchNormalization(momentum=0.8, epsilon=1e-2)]
    layers += [k.layers.Activation("tanh"), k.layers.Dense(3)]
    return regression(k, k.Input(shape=(5,)), *layers)


@normalization(normal(6, 5, 4, 2), normal(6, 2))
def batch_normalization_images(k):
    layers = [k.layers.Conv2D(3, 3, use_bias=False), k.layers.BatchNormalization(scale=False)]
    layers += [k.layers.Conv2D(2, 2, activation="tanh"), k.layers.BatchNormalization(center=False, axis=1)]
    return regression(k, k.Input(shape=(5, 4, 2)), *layers, k.layers.Flatten(), k.layers.Dense(2))


@normalization(normal(6, 5), normal(6, 3))
def batch_normalization_frozen(k):
    layers = [k.layers.Dense(6), k.layers.BatchNormalization(trainable=False), k.layers.Dense(3)]
    return regression(k, k.Input(shape=(5,)), *layers)


@normalization(normal(6, 4, 5), normal(6, 3))
def layer_normalization(k):
    layers = [k.layers.LayerNormalization(), k.layers.Dense(3, "tanh"), k.layers.LayerNormalization(axis=(1, 2))]
    layers += [k.layers.LayerNormalization(scale=False, epsilon=1e-2)]
    return regression(k, k.Input(shape=(4, 5)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@normalization(normal(6, 4, 2, 6), normal(6, 9))
def group_and_unit_normalization(k):
    layers = [
        k.layers.GroupNormalization(3),
        k.layers.GroupNormalization(2, axis=1, epsilon=1e-2, scale=False),
        k.layers.GroupNormalization(-1, center=False),
        k.layers.UnitNormalization(),
        k.layers.UnitNormalization(axis=(1, 2)),
        k.layers.RMSNormalization(axis=(2, 3)),
    ]
    joined = branches(k, (4, 2, 6), layers)
    return regression(k, joined, k.layers.Dense(9, activation="tanh"))


@normalization(padded_floats(6, 5, 3), normal(6, 2))
def masked_batch_normalization(k):
    layers = [k.layers.Masking(), k.layers.BatchNormalization(momentum=0.7), k.layers.GRU(3), k.layers.Dense(2)]
    return regression(k, k.Input(shape=(5, 3)), *layers)


# TensorFlow alone writes the divided kernel back; under JAX it is lost after the step
@normalization(normal(6, 5, 4), normal(6, 2), backends=("tensorflow",))
def spectral_normalization(k):
    layers = [k.layers.SpectralNormalization(k.layers.Conv1D(3, 2, activation="tanh"), power_iterations=2)]
    layers += [k.layers.Flatten(), k.layers.SpectralNormalization(k.layers.Dense(2))]
    return regression(k, k.Input(shape=(5, 4)), *layers)


# -------------------- graphs --------------------

graph = family("graph")


@graph((normal(6, 4), normal(6, 4)), normal(6, 5))
def merges(k):
    a, b = k.Input(shape=(4,)), k.Input(shape=(4,))
    p, q, r = k.layers.Dense(3)(a), k.layers.Dense(3)(b), k.layers.Dense(3, "tanh")(b)
    names = ["add", "multiply", "average", "maximum", "minimum", "concatenate"]
    merged = [getattr(k.layers, name)([p, q, r]) for name in names]
    merged += [k.layers.subtract([p, q]), k.layers.dot([p, r], axes=1), k.layers.dot([p, q], axes=-1, normalize=True)]
    model = k.Model([a, b], k.layers.Dense(5)(k.layers.concatenate(merged, axis=-1)))
    model.compile(optimizer="sgd", loss="mse")
    return model


@graph((normal(6, 4, 3), normal(6, 5, 3)), normal(6, 2))
def attention_by_dot(k):
    a, b = k.Input(shape=(4, 3)), k.Input(shape=(5, 3))
    scores = k.layers.Softmax()(k.layers.Dot(axes=(2, 2))([k.layers.Dense(3)(a), b]))
    context = k.layers.Dot(axes=(2, 1))([scores, b])
    joined = k.layers.Concatenate(axis=1)([context, b])
    model = k.Model([a, b], k.layers.Dense(2)(k.layers.Flatten()(joined)))
    model.compile(optimizer="sgd", loss="mse")
    return model


@graph((binary(7, 6, 4), binary(7, 6, 4)), binary(7, 1))
def shared_lstm(k):
    a, b = k.Input(shape=(6, 4)), k.Input(shape=(6, 4))
    lstm = k.layers.LSTM(4)
    merged = k.layers.concatenate([lstm(a), lstm(b)], axis=-1)
    model = k.Model(inputs=[a, b], outputs=k.layers.Dense(1, activation="sigmoid")(merged))
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def headline(k, **settings):
    main = k.Input(shape=(5,), dtype="int32", name="main_input")
    encoded = k.layers.LSTM(4)(k.layers.Embedding(9, 6)(main))
    first = k.layers.Dense(1, activation="sigmoid", name="aux_output")(encoded)
    more = k.Input(shape=(3,), name="aux_input")
    x = k.layers.Dense(6, activation="relu")(k.layers.concatenate([encoded, more]))
    last = k.layers.Dense(1, activation="sigmoid", name="main_output")(x)
    model = k.Model(inputs=[main, more], outputs=[last, first])
    model.compile(optimizer="rmsprop", **settings)
    return model


two_in, two_out = (classes(9, 7, 5), normal(7, 3)), (uniform(7, 1), binary(7, 1))


# one loss for both outputs: Keras 3 wants as many losses as loss weights; the targets are random, as in the document
@graph(two_in, (normal(7, 1), normal(7, 1)), backends=("tf_keras",))
def two_losses_by_list(k):
    return headline(k, loss="binary_crossentropy", loss_weights=[1.0, 0.2])


# TensorFlow under Keras 3 averages the losses of outputs over batches, not samples, and RMSprop squares an embedding's
# sparse gradient before it sums its rows
@graph(two_in, two_out, weights=(uniform(7), uniform(7)), backends=("jax", "tf_keras"))
def two_losses_by_name(k):
    return headline(
        k,
        loss={"main_output": "mse", "aux_output": "binary_crossentropy"},
        loss_weights={"main_output": 1.0, "aux_output": 0.2},
        metrics={"main_output": ["mae"], "aux_output": ["accuracy"]},
    )


@graph(normal(6, 5), (normal(6, 2), one_hot(6, 3)), backends=("jax", "tf_keras"))
def nested_models(k):
    x = k.Input(shape=(4,))
    residual = k.Model(x, k.layers.add([x, k.layers.Dense(4, activation="tanh")(x)]))
    inputs = k.Input(shape=(5,))
    hidden = residual(residual(k.layers.Dense(4)(inputs)))
    head = k.Sequential([k.Input(shape=(4,)), k.layers.Dense(3, activation="softmax")], name="head")
    model = k.Model(inputs, [k.layers.Dense(2, name="value")(hidden), head(hidden)])
    model.compile(optimizer="adam", loss=["mse", "categorical_crossentropy"], metrics=[["mae"], ["accuracy"]])
    return model
