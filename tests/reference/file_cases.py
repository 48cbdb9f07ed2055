"""Models for tests of files, in addition to those of cases.py: those that Keras writes in a special form."""

import importlib
import operator

import numpy as np
from protocol import Case, classes, normal, padded, uniform

FILE_CASES: dict[str, Case] = {}


def case(x, y, **settings):
    """The decorator of a builder; several inputs or outputs as tuples."""

    def add(build):
        several = [value if isinstance(value, tuple) else (value,) for value in (x, y)]
        FILE_CASES[build.__name__] = Case("files", build, *several, **settings)
        return build

    return add


def compiled(model, optimizer="adam", loss="mse", **settings):
    model.compile(optimizer=optimizer, loss=loss, **settings)
    return model


@case(normal(6, 4), normal(6, 4))
def ops_in_the_graph(k):
    x = k.Input((4,))
    y = k.layers.Dense(6, "tanh", name="first")(x)
    y = k.ops.concatenate([y[:, 1:4], k.ops.mean(y, axis=1, keepdims=True) * 2.0 - 1.0], axis=-1)
    y = k.ops.reshape(k.ops.expand_dims(y, 1), (-1, 4)) / (1.0 + k.ops.square(x))
    y = k.ops.where(y > 0.1, y, k.ops.exp(y)) + k.ops.transpose(k.ops.transpose(x))
    return compiled(k.Model(x, k.layers.Dense(4)(k.ops.softmax(y) + k.ops.maximum(y, 0.0))))


@case((padded(9, 6, 5), normal(6, 5, 3)), (normal(6, 2), normal(6, 3)))
def masks_shared_and_named_outputs(k):
    words, more = k.Input((5,), dtype="int32", name="words"), k.Input((5, 3), name="more")
    embedded = k.layers.Embedding(9, 3, mask_zero=True)(words)
    shared = k.layers.LSTM(4, return_sequences=True)
    first, second = shared(embedded), shared(more)
    joined = k.layers.Bidirectional(k.layers.GRU(2))(k.layers.add([first, second]))
    one, two = k.layers.Dense(2, name="one")(joined), k.layers.Dense(3, name="two")(k.layers.GRU(3)(first))
    return compiled(k.Model([words, more], [one, two]), metrics=[["mae"], ["mse"]])


@case(normal(6, 4), (normal(6, 4), normal(6, 2)))
def nested_and_called_twice(k):
    x = k.Input((4,))
    inner = k.Model(x, k.layers.add([x, k.layers.Dense(4, "relu")(x)]), name="inner")
    deep = k.Sequential([k.Input((4,)), inner, k.layers.BatchNormalization(), k.layers.Dense(4)], name="deep")
    y = k.Input((4,))
    twice = deep(inner(deep(y)))
    return compiled(k.Model(y, [twice, k.layers.Dense(2)(inner(twice))]), optimizer="rmsprop")


@case(normal(6, 4), normal(6, 3))
def frozen_parts(k):
    inner = k.Sequential([k.Input((4,)), k.layers.Dense(5), k.layers.BatchNormalization(), k.layers.Dense(3)])
    inner.layers[0].trainable = False
    x = k.Input((4,))
    frozen = k.layers.Dense(4, trainable=False, name="frozen")
    return compiled(k.Model(x, k.layers.Dense(3)(inner(frozen(x)))), optimizer="sgd")


@case(normal(6, 4), normal(6, 3))
def layer_shared_by_two_models(k):
    shared = k.layers.Dense(4, "tanh", name="shared")
    a = k.Sequential([k.Input((4,)), shared, k.layers.Dense(3)], name="a")
    b = k.Sequential([k.Input((4,)), shared, k.layers.Dense(3)], name="b")
    x = k.Input((4,))
    return compiled(k.Model(x, k.layers.average([a(x), b(x)])))


@case(normal(6, 5, 3), normal(6, 2), fit={"random": True})
def random_layers(k):
    layers = [
        k.layers.GaussianNoise(0.1),
        k.layers.SpatialDropout1D(0.1),
        k.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.1, return_sequences=True),
        k.layers.GaussianDropout(0.2),
        k.layers.AlphaDropout(0.1),
        k.layers.ActivityRegularization(0.01, 0.02),
        k.layers.Flatten(),
        k.layers.Dropout(0.4, noise_shape=(None, 1)),
        k.layers.Dense(2),
    ]
    return compiled(k.Sequential([k.Input((5, 3)), *layers]), metrics=["mae"])


@case(normal(6, 3), normal(6, 2))
def average_of_weights(k):
    model = k.Sequential([k.Input((3,)), k.layers.Dense(4, "selu"), k.layers.Dense(2)])
    return compiled(model, k.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2))


@case(normal(6, 3), normal(6, 2))
def schedule_and_losses_as_objects(k):
    rate = k.optimizers.schedules.PiecewiseConstantDecay([1, 3], [0.1, 0.05, 0.01])
    model = k.Sequential([k.Input((3,)), k.layers.Dense(4, "softplus"), k.layers.Dense(2)])
    return compiled(
        model, k.optimizers.SGD(rate, momentum=0.5), k.losses.Huber(), metrics=[k.metrics.MeanSquaredError()]
    )


@case(uniform(6, 3), classes(3, 6, 1))
def class_numbers(k):
    model = k.Sequential([k.Input((3,)), k.layers.Dense(5), k.layers.PReLU(), k.layers.Dense(3, "softmax")])
    return compiled(model, "nadam", "sparse_categorical_crossentropy", metrics=["accuracy"])


@case((normal(6, 3), classes(4, 6, 2)), normal(6, 2))
def numbers_prepared(k):
    values, kinds = k.Input((3,)), k.Input((2,), dtype="int32")
    scaled = k.layers.Normalization(mean=[0.1, 0.2, -0.3], variance=[1.0, 2.0, 0.5])(
        k.layers.Rescaling(0.5, 0.1)(values)
    )
    encoded = k.layers.CategoryEncoding(num_tokens=4, output_mode="multi_hot")(kinds)
    return compiled(k.Model([values, kinds], k.layers.Dense(2)(k.layers.concatenate([scaled, encoded]))))


@case(normal(6, 3), (normal(6, 2), normal(6, 1)))
def outputs_by_name(k):
    x = k.Input((3,))
    y = k.layers.Dense(4, "relu", kernel_regularizer="l2", bias_constraint=k.constraints.MaxNorm(0.5))(x)
    model = k.Model(x, {"a": k.layers.Dense(2, name="a")(y), "b": k.layers.Dense(1, name="b")(y)})
    return compiled(model, loss={"a": "mse", "b": "mae"}, loss_weights={"a": 0.5, "b": 2.0})


def op(k, name, in_tensorflow):
    """A function of keras.ops; for Keras 2, which has none, one of TensorFlow."""
    if hasattr(k, "ops"):
        return getattr(k.ops, name)
    return operator.attrgetter(in_tensorflow)(importlib.import_module("tensorflow"))


@case((normal(6, 4), normal(6, 5, 4)), normal(6, 3))
def functions_of_tensorflow(k):
    x, s = k.Input((4,)), k.Input((5, 4))
    join, mean, maximum = op(k, "concatenate", "concat"), op(k, "mean", "reduce_mean"), op(k, "max", "reduce_max")
    turn, relu, softmax = op(k, "transpose", "transpose"), op(k, "relu", "nn.relu"), op(k, "softmax", "nn.softmax")
    y = 1.0 - k.layers.Dense(4)((x * 2.0 - 1.0) / 3.0 + x[:, 1:2]) * x
    y = op(k, "abs", "abs")(y) ** 2.0 + (-y) + s[:, -1] + s[:, 0, ::-1]
    y = join([op(k, "sigmoid", "math.sigmoid")(y), relu(x), op(k, "tanh", "tanh")(x)], axis=-1)
    y = op(k, "reshape", "reshape")(turn(op(k, "stack", "stack")([y, y * 2.0], axis=1), [0, 2, 1]), [-1, 24])
    y = join(
        [y, mean(s, axis=1), maximum(s, axis=-1), op(k, "sum", "reduce_sum")(s, axis=[1], keepdims=True)[:, 0]], axis=-1
    )
    y = op(k, "clip", "clip_by_value")(y, -1.0, 1.0) + softmax(y) + op(k, "maximum", "maximum")(y, 0.5)
    y = y + op(k, "where", "where")(y > 0.0, y, 0.1 * y) + op(k, "cast", "cast")(y > 0.0, "float32")
    y = op(k, "squeeze", "squeeze")(op(k, "expand_dims", "expand_dims")(y, 1), 1) + op(k, "gelu", "nn.gelu")(
        y, approximate=False
    )
    w = op(k, "matmul", "matmul")(s[..., 1:3], turn(s[..., 1:3], [0, 2, 1]))
    return compiled(k.Model([x, s], k.layers.Dense(3)(k.layers.concatenate([y, k.layers.Flatten()(w)]))), "sgd")


@case(normal(6, 5, 3), normal(6, 3))
def frozen_recurrent_and_normalization(k):
    layers = k.layers
    both, norm = layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.BatchNormalization()
    both.trainable = norm.trainable = False
    x = k.Input((5, 3))
    y = layers.BatchNormalization()(layers.TimeDistributed(layers.Dense(4))(norm(both(x))))
    return compiled(k.Model(x, layers.GRU(3)(y)), "sgd")


@case(normal(6, 4), normal(6, 3))
def models_that_end_with_shared_models(k):
    x = k.Input((4,))
    a = k.Model(x, k.layers.Dense(4, "tanh")(x), name="a")
    x = k.Input((4,))
    b = k.Model(x, k.layers.add([a(x), a(a(x))]), name="b")
    x = k.Input((4,))
    c = k.Model(x, b(k.layers.Dense(4)(b(x))), name="c")
    x = k.Input((4,))
    return compiled(k.Model(x, k.layers.Dense(3)(k.layers.concatenate([c(x), b(x), a(x)]))))


@case((padded(9, 6, 5), padded(9, 6, 4)), (normal(6, 2), normal(6, 3)))
def masked_decoders(k):
    """Decoders with a mask and initial states; the mask has an effect only in files of Keras 2."""
    question, answer = k.Input((5,), dtype="int32", name="question"), k.Input((4,), dtype="int32", name="answer")
    embed = k.layers.Embedding(9, 3, mask_zero=True)
    _, h, c = k.layers.LSTM(2, return_state=True)(embed(question))
    states = k.layers.Bidirectional(k.layers.GRU(3, return_state=True))(embed(question))[1:]
    decoded = k.layers.LSTM(2, return_sequences=True)(embed(answer), initial_state=[h, c])
    both = k.layers.Bidirectional(k.layers.GRU(3, return_sequences=True), "ave")(embed(answer), initial_state=states)
    pool = k.layers.GlobalAveragePooling1D  # over unmasked steps: at masked ones Keras 2 and 3 differ
    return compiled(k.Model([question, answer], [pool()(decoded), pool()(both)]))


# -------------------- weights of int8 --------------------


def quantized(k, model):
    model.quantize("int8")
    model.compile("sgd", "mse")


def quantized_weights_only(k, model):
    model.quantize(config=k.quantizers.Int8QuantizationConfig(activation_quantizer=None))
    model.compile("sgd", "mse")


def quantized_in_part(k, model):
    limits = k.quantizers.AbsMaxQuantizer(value_range=(-100, 100), epsilon=1e-3)
    config = k.quantizers.Int8QuantizationConfig(k.quantizers.AbsMaxQuantizer(axis=0, value_range=(-63, 63)), limits)
    model.quantize("int8", config=config, filters=["^first$", "last"])
    model.compile("sgd", "mse")


def int8_mlp(k):
    dense = k.layers.Dense
    layers = [
        dense(9, "relu", name="first"),
        dense(8, "tanh", use_bias=False, name="middle"),
        dense(3, name="the_last"),
    ]
    return compiled(k.Sequential([k.Input((7,)), *layers]))


@case(normal(6, 7), normal(6, 3), after=quantized)
def int8_dense(k):
    return int8_mlp(k)


@case(normal(6, 7), normal(6, 3), after=quantized_weights_only)
def int8_weights_only(k):
    return int8_mlp(k)


@case(normal(6, 7), normal(6, 3), after=quantized_in_part)
def int8_in_part(k):
    return int8_mlp(k)


@case(padded(9, 6, 5), normal(6, 2), after=quantized)
def int8_words(k):
    x = k.Input((5,), dtype="int32")
    y = k.layers.Embedding(9, 6)(x)
    y = k.layers.Dense(4, "relu")(k.layers.Conv1D(5, 2, name="stays")(y))
    return compiled(k.Model(x, k.layers.Dense(2)(k.layers.GRU(3)(y))))


@case(normal(6, 3, 4), normal(6, 5, 8), after=quantized)
def int8_einsum(k):
    x, dense = k.Input((3, 4)), k.layers.EinsumDense
    y = dense("abc,cde->abde", (3, 2, 5), bias_axes="de", activation="tanh")(x)
    y = dense("abde,dfe->abf", (3, 6))(y)  # the kernel's axes in another order
    y = dense("abf,bfg->abg", (3, 4), bias_axes="bg")(y)  # a kernel for each step
    y = dense("abf,fgh->abhg", (3, 2, 4), bias_axes="h")(y)
    y = k.layers.Reshape((3, 8))(y)
    return compiled(k.Model(x, dense("abc,bd->adc", (5, 8))(y)))


@case((normal(6, 3, 4), normal(6, 5, 4)), normal(6, 3, 4), after=quantized)
def int8_attention(k):
    x, y = k.Input((3, 4), name="one"), k.Input((5, 4), name="two")
    z = k.layers.MultiHeadAttention(2, 3, name="heads")(x, y)
    return compiled(k.Model([x, y], k.layers.Dense(4, name="after")(z)))


def reversible(k, tied):  # without training: Keras has a gradient for it that leaves out the product
    x = k.Input((5,), dtype="int32")
    table = k.layers.ReversibleEmbedding(9, 6, tie_weights=tied)
    return compiled(k.Model(x, table(k.layers.Dense(6, "tanh")(table(x)), reverse=True)))


@case(padded(9, 6, 5), normal(6, 5, 9), after=quantized, fit={"random": True})
def int8_reversible(k):
    return reversible(k, True)


@case(padded(9, 6, 5), normal(6, 5, 9), after=quantized, fit={"random": True})
def int8_reversible_with_two_tables(k):
    return reversible(k, False)


# -------------------- LoRA: the files have the sums --------------------


@case((padded(9, 6, 5), normal(6, 5, 4)), normal(6, 3), fit={"lora": True})
def lora_layers(k):
    words, more = k.Input((5,), dtype="int32", name="words"), k.Input((5, 4), name="more")
    embedding, conv = k.layers.Embedding(9, 4), k.layers.Conv1D(4, 2, padding="same", groups=2)
    heads, einsum = k.layers.MultiHeadAttention(2, 3), k.layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d")
    y = einsum(heads(conv(embedding(words)), more))
    dense = k.layers.Dense(3, "tanh")
    model = k.Model([words, more], dense(k.layers.GlobalAveragePooling1D()(y)))
    for layer in (embedding, conv, heads.query_dense, heads.output_dense, einsum):
        layer.enable_lora(2)
    dense.enable_lora(3, lora_alpha=1.5)
    return compiled(model, optimizer="sgd")  # the state of others is not read: a loaded MultiHeadAttention has no LoRA


@case(normal(6, 6, 6, 2), normal(6, 3), fit={"lora": True})
def lora_by_arguments(k):
    layers = [
        k.layers.Conv2D(4, 3, strides=2, activation="relu", lora_rank=2, lora_alpha=3),
        k.layers.Flatten(),
        k.layers.Dense(8, "relu", lora_rank=2),
        k.layers.Dense(3, use_bias=False, lora_rank=1),
    ]
    return compiled(k.Sequential([k.Input((6, 6, 2)), *layers]), optimizer="sgd")


# -------------------- every way of giving a Sequential the shape of its input --------------------


def _added(k, *layers):
    model = k.Sequential()
    for layer in layers:
        model.add(layer)
    return model


def _called(k):
    model = k.Sequential([k.layers.Dense(2)])
    model(np.zeros((6, 3), "float32"))
    return model


def _built(k):
    model = k.Sequential([k.layers.Dense(2)])
    model.build((None, 3))
    return model


def _in_a_graph(k):
    x = k.Input((3,))
    return k.Model(x, k.Sequential([k.layers.Dense(2, input_shape=(3,)), k.layers.Dense(2)])(x))


SHAPES = {
    "input_shape": lambda k: k.Sequential([k.layers.Dense(2, input_shape=(3,))]),
    "input_dim": lambda k: k.Sequential([k.layers.Dense(2, input_dim=3)]),
    "batch_input_shape": lambda k: k.Sequential([k.layers.Dense(2, batch_input_shape=(6, 3))]),
    "batch_size": lambda k: k.Sequential([k.layers.Dense(2, input_shape=(3,), batch_size=6)]),
    "input": lambda k: k.Sequential([k.Input((3,)), k.layers.Dense(2)]),
    "batch_shape": lambda k: k.Sequential([k.Input(batch_shape=(6, 3)), k.layers.Dense(2)]),
    "input_layer": lambda k: k.Sequential([k.layers.InputLayer(input_shape=(3,)), k.layers.Dense(2)]),
    "twice": lambda k: k.Sequential([k.Input((3,)), k.layers.Dense(2, input_shape=(3,))]),
    "added": lambda k: _added(k, k.layers.Dense(2, input_shape=(3,)), k.layers.Dense(2)),
    "added_input": lambda k: _added(k, k.Input((3,)), k.layers.Dense(2)),
    "nested": lambda k: k.Sequential([k.Sequential([k.layers.Dense(2, input_shape=(3,))]), k.layers.Dense(2)]),
    "nested_later": lambda k: k.Sequential([k.Input((3,)), k.Sequential([k.layers.Dense(2)]), k.layers.Dense(2)]),
    "in_a_graph": _in_a_graph,
    "built": _built,
    "called": _called,
    "sequences": lambda k: k.Sequential(
        [k.layers.Embedding(5, 2, input_shape=(3,)), k.layers.Bidirectional(k.layers.LSTM(1, input_shape=(3, 2)))]
    ),
    "input_length": lambda k: k.Sequential([k.layers.Embedding(5, 2, input_length=3), k.layers.LSTM(2)]),
    "wrapped": lambda k: k.Sequential(
        [
            k.layers.Reshape((3, 1), input_shape=(3,)),
            k.layers.TimeDistributed(k.layers.Dense(2, input_shape=(1,))),
            k.layers.RNN([k.layers.SimpleRNNCell(2), k.layers.LSTMCell(2)]),
        ]
    ),
}


def shape_case(name):
    words = name in ("sequences", "input_length")

    def build(k):
        return compiled(SHAPES[name](k), "sgd")

    build.__name__ = f"shape_by_{name}"
    case(classes(5, 6, 3) if words else normal(6, 3), normal(6, 2), batch=6)(build)


for name in SHAPES:
    shape_case(name)
