"""nbkeras and Keras on its three backends, with the same code, and `fit` and `predict` as users call them.

'nbkeras-jit' trains in a plain loop instead of `fit`: networks with an `update` (derivatives_keras.py).
"""

import importlib
import os
import sys
import time

import derivatives_keras
import numpy as np
from chosen_keras import BACKEND, Clock, k
from protocol import Job, network_file, serve, thread_count
from workloads import ADAM, L2, MOBILENET, WAKE_WORD


def compiled(model, optimizer, loss):
    """The model, for training with the accuracy as its metric."""
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def mlp(batch):
    layers = [k.layers.Dense(512, activation="relu"), k.layers.Dropout(0.2)]
    layers += [k.layers.Dense(512, activation="relu"), k.layers.Dropout(0.2)]
    model = k.Sequential([k.Input(shape=(784,)), *layers, k.layers.Dense(10, activation="softmax")])
    return compiled(model, "rmsprop", "categorical_crossentropy")


def lstm_stack(batch, stateful=False):
    inputs = k.Input(batch_shape=(batch, 8, 16)) if stateful else k.Input(shape=(8, 16))
    layers = [k.layers.LSTM(32, return_sequences=more, stateful=stateful) for more in (True, True, False)]
    model = k.Sequential([inputs, *layers, k.layers.Dense(10, activation="softmax")])
    return compiled(model, "rmsprop", "categorical_crossentropy")


def lstm_stateful(batch):
    return lstm_stack(batch, stateful=True)


def headline(batch):
    words = k.Input(shape=(100,), dtype="int32", name="main_input")
    encoded = k.layers.LSTM(32)(k.layers.Embedding(10000, 512)(words))
    aux_output = k.layers.Dense(1, activation="sigmoid", name="aux_output")(encoded)
    more = k.Input(shape=(5,), name="aux_input")
    x = k.layers.concatenate([encoded, more])
    for _ in range(3):
        x = k.layers.Dense(64, activation="relu")(x)
    main_output = k.layers.Dense(1, activation="sigmoid", name="main_output")(x)
    model = k.Model([words, more], [main_output, aux_output])
    model.compile(optimizer="rmsprop", loss=["binary_crossentropy"] * 2, loss_weights=[1.0, 0.2])
    return model


def tweets(batch):
    a, b = k.Input(shape=(280, 256)), k.Input(shape=(280, 256))
    lstm = k.layers.LSTM(64)
    merged = k.layers.concatenate([lstm(a), lstm(b)])
    model = k.Model([a, b], k.layers.Dense(1, activation="sigmoid")(merged))
    return compiled(model, "rmsprop", "binary_crossentropy")


def cnn(batch):
    layers = [k.layers.Conv2D(32, 3, activation="relu"), k.layers.Conv2D(64, 3, activation="relu")]
    layers += [k.layers.MaxPooling2D(2), k.layers.Dropout(0.25), k.layers.Flatten()]
    layers += [k.layers.Dense(128, activation="relu"), k.layers.Dropout(0.5), k.layers.Dense(10, activation="softmax")]
    model = k.Sequential([k.Input(shape=(28, 28, 1)), *layers])
    return compiled(model, "adam", "categorical_crossentropy")


def lstm_imdb(batch):
    model = k.Sequential([k.Input(shape=(80, 128)), k.layers.LSTM(128), k.layers.Dense(1, activation="sigmoid")])
    return compiled(model, "adam", "binary_crossentropy")


def normalized(layer, x):
    """The layer, batch normalization and relu."""
    return k.layers.Activation("relu")(k.layers.BatchNormalization()(layer(x)))


def regularized(network, filters, size, strides=1, **settings):
    """The convolution of MLPerf Tiny's networks. Their depthwise kernels have no penalty: TensorFlow ignores that setting."""
    penalty = k.regularizers.L2(L2[network])
    return k.layers.Conv2D(filters, size, strides, padding="same", kernel_regularizer=penalty, **settings)


def resnet8(batch):
    def convolution(filters, size=3, strides=1):
        return regularized("resnet8", filters, size, strides, kernel_initializer="he_normal")

    inputs = k.Input(shape=(32, 32, 3))
    x = normalized(convolution(16), inputs)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = normalized(convolution(filters, strides=strides), x)
        y = k.layers.BatchNormalization()(convolution(filters)(y))
        if strides > 1:
            x = convolution(filters, 1, strides)(x)
        x = k.layers.Activation("relu")(k.layers.add([x, y]))
    x = k.layers.Flatten()(k.layers.AveragePooling2D(8)(x))
    model = k.Model(inputs, k.layers.Dense(10, activation="softmax", kernel_initializer="he_normal")(x))
    return compiled(model, "adam", "categorical_crossentropy")


def ds_cnn(batch):
    inputs = k.Input(shape=(49, 10, 1))
    x = normalized(regularized("ds_cnn", 64, (10, 4), 2), inputs)
    x = k.layers.Dropout(0.2)(x)
    for _ in range(4):
        x = normalized(k.layers.DepthwiseConv2D(3, padding="same"), x)
        x = normalized(regularized("ds_cnn", 64, 1), x)
    x = k.layers.Flatten()(k.layers.AveragePooling2D((24, 5))(k.layers.Dropout(0.4)(x)))
    model = k.Model(inputs, k.layers.Dense(12, activation="softmax")(x))
    loss, metrics = "sparse_categorical_crossentropy", ["sparse_categorical_accuracy"]
    model.compile(optimizer=k.optimizers.Adam(ADAM["ds_cnn"]), loss=loss, metrics=metrics)
    return model


def mobilenet(batch):
    def convolution(filters, size, strides=1):
        return regularized("mobilenet", filters, size, strides, kernel_initializer="he_normal")

    inputs = k.Input(shape=(96, 96, 3))
    x = normalized(convolution(8, 3, 2), inputs)
    for filters, strides in MOBILENET:
        x = normalized(k.layers.DepthwiseConv2D(3, strides, padding="same"), x)
        x = normalized(convolution(filters, 1), x)
    x = k.layers.Flatten()(k.layers.AveragePooling2D(3)(x))
    model = k.Model(inputs, k.layers.Dense(2, activation="softmax")(x))
    return compiled(model, "adam", "categorical_crossentropy")


def autoencoder(batch):
    x = inputs = k.Input(shape=(640,))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = normalized(k.layers.Dense(units), x)
    model = k.Model(inputs, k.layers.Dense(640)(x))
    model.compile(optimizer="adam", loss="mean_squared_error")
    return model


def wake_word(batch):
    x = inputs = k.Input(shape=(30, 1, 40))
    for filters, size in WAKE_WORD:
        x = k.layers.DepthwiseConv2D((size, 1), use_bias=False)(x)
        x = k.layers.Dropout(0.2)(normalized(k.layers.Conv2D(filters, 1, use_bias=False), x))
    model = k.Model(inputs, k.layers.Dense(3, activation="softmax")(k.layers.Flatten()(x)))
    return compiled(model, "adam", "categorical_crossentropy")


class WordsAndPositions(k.layers.Layer):
    """The sum of a word's vector and its position's."""

    def __init__(self, words, length, width):
        super().__init__()
        self.length = length
        self.words, self.positions = k.layers.Embedding(words, width), k.layers.Embedding(length, width)

    def call(self, x):
        return self.words(x) + self.positions(k.ops.arange(self.length))


def transformer(batch):
    inputs = k.Input(shape=(64,), dtype="int32")
    x = WordsAndPositions(8000, 64, 64)(inputs)
    for _ in range(2):
        y = k.layers.MultiHeadAttention(4, 16, dropout=0.1)(x, x)
        x = k.layers.LayerNormalization(epsilon=1e-5)(x + k.layers.Dropout(0.1)(y))
        y = k.layers.Dropout(0.1)(k.layers.Dense(256, activation="relu")(x))
        y = k.layers.Dropout(0.1)(k.layers.Dense(64)(y))
        x = k.layers.LayerNormalization(epsilon=1e-5)(x + y)
    x = k.layers.GlobalAveragePooling1D()(x)
    model = k.Model(inputs, k.layers.Dense(4, activation="softmax")(x))
    return compiled(model, "adam", "sparse_categorical_crossentropy")


def unet(batch):
    def two_convolutions(filters, x):
        for _ in range(2):
            x = k.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        return x

    inputs = k.Input(shape=(64, 64, 3))
    first = two_convolutions(16, inputs)
    second = two_convolutions(32, k.layers.MaxPooling2D(2)(first))
    x = two_convolutions(64, k.layers.MaxPooling2D(2)(second))
    for filters, skipped in ((32, second), (16, first)):
        x = k.layers.Conv2DTranspose(filters, 2, 2)(x)
        x = two_convolutions(filters, k.layers.concatenate([skipped, x]))
    model = k.Model(inputs, k.layers.Conv2D(1, 1, activation="sigmoid")(x))
    return compiled(model, "adam", "binary_crossentropy")


def toy(batch):
    model = k.Sequential([k.Input(shape=(2, 3)), k.layers.LSTM(2), k.layers.Dense(2, activation="softmax")])
    return compiled(model, "rmsprop", "categorical_crossentropy")


NETWORKS = {
    f.__name__: f
    for f in (
        mlp,
        lstm_stack,
        lstm_stateful,
        headline,
        tweets,
        cnn,
        lstm_imdb,
        resnet8,
        ds_cnn,
        mobilenet,
        autoencoder,
        wake_word,
        transformer,
        unet,
        derivatives_keras.wgan_gp,
        derivatives_keras.burgers,
        derivatives_keras.maml,
        derivatives_keras.lstm_slopes,
        toy,
    )
}


def one_or_list(arrays):
    """As `fit` takes them: one array, a list, or None for no targets."""
    return arrays[0] if len(arrays) == 1 else arrays or None


def plain_epochs(model, xs, ys, batch):
    """Epochs of a loop over shuffled batches, with the model's `update` recorded by `nbkeras.jit`."""
    update = k.jit(model.update)

    def epochs(count):
        seconds = []
        for _ in range(count):
            start, losses = time.perf_counter(), []
            order = np.random.permutation(len(xs[0]))
            shuffled = [[array[order] for array in arrays] for arrays in (xs, ys)]
            for first in range(0, len(order), batch):
                rows = slice(first, first + batch)
                losses.append(update(*(one_or_list([array[rows] for array in arrays]) for arrays in shuffled)))
            loss = float(np.mean(losses))
            seconds.append(time.perf_counter() - start)
        return seconds, loss

    return epochs


def on_gpu():
    """Make nbkeras compute on the GPU; return a function that gives the GPU memory of its pool, including free blocks."""
    k.config.set_device("cuda")
    gpu = importlib.import_module("nbkeras.kernels.runtime.device").gpu()
    return lambda: gpu.memory()[2]


def write(model, batch, path):
    """Write the model for others: nbkeras writes weights (.npz) or ONNX files, Keras on TensorFlow LiteRT's or keras2c's."""
    if path.endswith(".npz"):
        np.savez(path, *model.get_weights())
    elif path.endswith(".onnx"):
        model.export(path, verbose=False)
    else:
        with np.load(network_file()) as weights:
            model.set_weights(list(weights.values()))
        if path.endswith(".c"):
            write_c(model, path)
        else:
            write_tflite(model, batch, path)


def write_tflite(model, batch, path):
    """Convert the model for batches of one size, with unrolled LSTMs, because loops take LiteRT four times as long."""
    import tensorflow

    for layer in model.layers:
        if isinstance(layer, k.layers.LSTM):
            layer.unroll = True
    inputs = k.Input(batch_shape=(batch, *model.input_shape[1:]))
    converted = tensorflow.lite.TFLiteConverter.from_keras_model(k.Model(inputs, model(inputs))).convert()
    with open(path, "wb") as tflite:
        tflite.write(converted)


def write_c(model, path):
    """Write the C code of keras2c, found by PYTHONPATH; its function has the name of the file."""
    from keras2c import k2c

    os.chdir(os.path.dirname(path))
    k2c(model, os.path.basename(path).removesuffix(".c"), num_tests=0, verbose=False)


def prepare(framework, workload, xs, ys, device) -> Job:
    gpu_bytes = on_gpu() if device == "cuda" else None
    versions = {k.__name__: k.__version__}
    below = (BACKEND,) if BACKEND else ("numba", "numpy")
    versions |= {name: sys.modules[name].__version__ for name in below if name in sys.modules}
    if not BACKEND and (threads := thread_count(framework)):
        k.set_threads(threads)
    k.utils.set_random_seed(0)
    model = NETWORKS[workload.network](workload.batch)
    x, y = one_or_list(xs), one_or_list(ys)
    settings = {"batch_size": workload.batch, "shuffle": workload.network != "lstm_stateful", "verbose": 0}

    clock = Clock() if gpu_bytes is None else Clock(k.engine.devices.synchronize)

    def epochs(count):
        history = model.fit(x, y, epochs=count, callbacks=[clock], **settings)
        return clock.seconds, float(history.history["loss"][-1])

    def first_losses(count):
        k.utils.set_random_seed(0)
        fresh = NETWORKS[workload.network](workload.batch)
        losses = []
        for i in range(count):
            rows = slice(i * workload.batch, (i + 1) * workload.batch)
            batch = one_or_list([a[rows] for a in xs]), one_or_list([a[rows] for a in ys])
            losses.append(float(fresh.fit(*batch, epochs=1, **settings).history["loss"][-1]))
        return losses

    return Job(
        model.count_params(),
        versions,
        plain_epochs(model, xs, ys, workload.batch) if framework == "nbkeras-jit" else epochs,
        lambda arrays: model.predict(one_or_list(arrays)),
        gpu_bytes,
        first_losses,
        lambda path: write(model, workload.batch, path),
    )


if __name__ == "__main__":
    serve(prepare)
