"""Cases of transposed, depthwise, separable, three-dimensional and locally connected convolution, and ConvLSTM."""

from protocol import branches, family, normal, padded, regression

spatial = family("spatial")


@spatial(normal(4, 6, 7, 2), normal(4, 3))
def transposed_and_by_channel(k):
    layers = [
        k.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        k.layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu"),
        k.layers.SeparableConv2D(4, (2, 3), depth_multiplier=2, activation="tanh"),
        k.layers.DepthwiseConv2D(3, strides=2),
        k.layers.UpSampling2D((2, 1), interpolation="bilinear"),
    ]
    return regression(k, k.Input(shape=(6, 7, 2)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@spatial(normal(4, 7, 3), normal(4, 5))
def sequences(k):
    layers = [
        k.layers.Conv1DTranspose(2, 4, strides=3),
        k.layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same"),
        k.layers.SeparableConv1D(2, 3, dilation_rate=2),
        k.layers.AdaptiveAveragePooling1D(3),
        k.layers.AdaptiveMaxPooling1D(4),
    ]
    return regression(k, branches(k, (7, 3), layers), k.layers.Dense(5))


# TensorFlow's oneDNN knows no such transposed convolution of volumes
@spatial(normal(3, 4, 6, 5, 2), normal(3, 2), backends=("jax",))
def volumes(k):
    layers = [
        k.layers.ZeroPadding3D((0, 1, 0)),
        k.layers.Conv3D(4, (2, 3, 3), padding="same", activation="relu"),
        k.layers.MaxPooling3D((2, 2, 1)),
        k.layers.Conv3DTranspose(3, (1, 2, 3), strides=(2, 1, 1), activation="tanh"),
        k.layers.AveragePooling3D(2, padding="same"),
        k.layers.Cropping3D(((0, 0), (1, 0), (0, 1))),
        k.layers.GlobalAveragePooling3D(),
    ]
    return regression(k, k.Input(shape=(4, 6, 5, 2)), *layers, k.layers.Dense(2))


@spatial(normal(4, 5, 4, 2), normal(4, 3), backends=("tf_keras",))
def locally_connected(k):
    layers = [k.layers.LocallyConnected2D(3, (3, 2), strides=(2, 1), activation="relu"), k.layers.Reshape((6, 3))]
    layers += [k.layers.LocallyConnected1D(2, 3, activation="tanh"), k.layers.LocallyConnected1D(2, 1, use_bias=False)]
    return regression(k, k.Input(shape=(5, 4, 2)), *layers, k.layers.Flatten(), k.layers.Dense(3))


@spatial(normal(3, 3, 5, 4, 2), normal(3, 2))
def conv_lstm2d(k):
    layers = [
        k.layers.ConvLSTM2D(3, (3, 2), padding="same", return_sequences=True),
        k.layers.ConvLSTM2D(2, 3, strides=(1, 2), recurrent_activation="hard_sigmoid", go_backwards=True),
    ]
    return regression(k, k.Input(shape=(3, 5, 4, 2)), *layers, k.layers.Flatten(), k.layers.Dense(2))


# JAX under Keras 3.15 does not broadcast the mask of a ConvLSTM
@spatial(padded(6, 5, 4), normal(5, 2), backends=("tensorflow",))
def conv_lstm1d_masked(k):
    layers = [
        k.layers.Embedding(6, 10, mask_zero=True),
        k.layers.TimeDistributed(k.layers.Reshape((5, 2))),
        k.layers.ConvLSTM1D(3, 3, padding="same", return_sequences=True),
        k.layers.ConvLSTM1D(2, 2, dilation_rate=2, use_bias=False),
    ]
    return regression(k, k.Input(shape=(4,), dtype="int32"), *layers, k.layers.Flatten(), k.layers.Dense(2))


# JAX under Keras 3.15 does not keep a ConvLSTM's states
@spatial(normal(6, 2, 3, 4, 2), normal(6, 2), stateful=True, backends=("tensorflow",))
def conv_lstm2d_stateful(k):
    layers = [k.layers.ConvLSTM2D(2, 2, stateful=True), k.layers.Flatten(), k.layers.Dense(2)]
    return regression(k, k.Input(batch_shape=(3, 2, 3, 4, 2)), *layers)


@spatial(normal(3, 2, 3, 3, 2, 2), (normal(3, 48), normal(3, 24)))
def conv_lstm3d_with_states(k):
    inputs = k.Input(shape=(2, 3, 3, 2, 2))
    layer = k.layers.ConvLSTM3D(2, (1, 2, 1), return_sequences=True, return_state=True)
    output, _, c = layer(inputs)
    model = k.Model(inputs, [k.layers.Flatten(name="all")(output), k.layers.Flatten(name="last")(c)])
    model.compile(optimizer="sgd", loss=["mse", "mse"])
    return model
