"""Messages for mistakes of users: what was wrong, what was expected, what was received."""

import decimal
import gc
import pickle
import weakref

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import autodiff, config, ops
from nbkeras import layers as L
from nbkeras.models import Model, Sequential, load_model, model_from_json

X, Y = np.ones((8, 4), "float32"), np.zeros((8, 2), "float32")


@pytest.fixture(autouse=True)
def tracebacks_as_users_see_them():
    config.enable_traceback_filtering()
    yield
    config.disable_traceback_filtering()


def deep():
    """Lists within lists, more of them than Python may call functions in each other."""
    found: list = []
    for _ in range(3000):
        found = [found]
    return found


class Sparse:
    """A sparse matrix of scipy, as nbkeras knows it."""

    shape, dtype = (8, 4), np.dtype("float64")

    def tocsr(self):
        return self

    def toarray(self):
        return np.zeros(self.shape)


SPARSE = Sparse()


def dense(**compiled):
    model = Sequential([L.Dense(2, input_shape=(4,))])
    if compiled:
        model.compile(**compiled)
    return model


def classifier(loss="sparse_categorical_crossentropy", units=3):
    model = Sequential([L.Dense(units, activation="softmax", input_shape=(4,))])
    model.compile("sgd", loss)
    return model


def two_outputs(**arguments):
    inputs = L.Input((4,), name="features")
    model = Model(inputs, [L.Dense(2, name="first")(inputs), L.Dense(1, name="second")(inputs)])
    model.compile("sgd", **({"loss": "mse"} | arguments))
    return model


def two_inputs():
    a, b = L.Input((4,), name="left"), L.Input((4,), name="right")
    model = Model([a, b], L.Dense(2)(L.add([a, b])))
    model.compile("sgd", "mse")
    return model


def words(rows=5):
    model = Sequential([L.Embedding(rows, 2, name="table"), L.Flatten(), L.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Doubling(Model):
    def call(self, x):
        return ops.multiply(x, 2.0)


class Halves(Model):
    def call(self, x):
        return ops.add(x[0], x[1])


def stateful():
    model = Sequential([L.LSTM(2, stateful=True, batch_input_shape=(4, 3, 5))])
    model.compile("sgd", "mse")
    return model


def fit(model, x=X, y=Y, **arguments):
    return model.fit(x, y, verbose=0, **arguments)


class Forgetful(L.Layer):
    def __init__(self):
        self.scale = self.add_weight(())
        super().__init__()


class NoName(L.Layer):
    def __init__(self, units):
        super().__init__()


class Empty(L.Layer):
    def __init__(self):
        pass


class EmptyModel(Model):
    def __init__(self):
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(x)


class ForgetfulMetric(keras.Metric):
    def __init__(self):
        self.total = self.add_weight()


class EmptyLoss(keras.Loss):
    def __init__(self):
        pass


MISTAKES = [
    # arguments of ops, which are checked against their annotations
    (
        lambda: ops.relu(X, negative_slope=(0, 1)),
        TypeError,
        r"relu: negative_slope must be a number, received \(0, 1\)",
    ),
    (lambda: ops.elu(X, alpha=X[0]), TypeError, r"elu: alpha must be a number, received ndarray of shape \(4,\)"),
    (lambda: L.ELU("a")(X), TypeError, "ELU: alpha must be a number, received 'a'"),
    (lambda: ops.rms_normalization(X, epsilon=(1, 2)), TypeError, "epsilon must be a number or None, received"),
    (lambda: ops.group_normalization(X, X > 0), TypeError, "groups must be an integer, received ndarray"),
    (lambda: ops.group_normalization(X, True), TypeError, "groups must be an integer, received True"),
    (lambda: ops.round(X, decimals=2.5), TypeError, "decimals must be an integer, received 2.5"),
    (lambda: ops.sum(X, keepdims=[1]), TypeError, r"keepdims must be True or False, received \[1\]"),
    (lambda: ops.pad(X, 1, mode=X), TypeError, "mode must be a string, received ndarray"),
    (lambda: ops.relu(keras.Input((2,)), threshold="a"), TypeError, "threshold must be a number, received 'a'"),
    # inputs
    (lambda: L.Flatten()([X, X]), ValueError, r"\(Flatten\) takes 1 input, received 2: call it on each of them"),
    (lambda: L.Dense(2)([X, X]), ValueError, r"\(Dense\) takes 1 input, received 2"),
    (lambda: L.Reshape((2, 2))([X, X]), ValueError, r"\(Reshape\) takes 1 input, received 2"),
    (lambda: L.LayerNormalization()([X, X]), ValueError, r"\(LayerNormalization\) takes 1 input, received 2"),
    (lambda: L.Dense(2)(5), ValueError, "expected a tensor, received 5"),
    (
        lambda: L.Dense(2)({"a": X}),
        ValueError,
        r"\(Dense\) takes a tensor, received a dict with the keys \['a'\]: pass the tensor",
    ),
    (lambda: L.GRU(2)({"a": X[None]}), ValueError, r"\(GRU\) takes a tensor, received a dict with the keys \['a'\]"),
    (lambda: L.Bidirectional(L.GRU(2))(None), ValueError, "expected a tensor, received None"),
    (lambda: L.EinsumDense("ab,bc->ac", 2)(None), ValueError, "expected a tensor, received None"),
    (lambda: L.StackedRNNCells([L.GRUCell(2)])(None, None), ValueError, "expected a tensor, received None"),
    (lambda: L.TimeDistributed(L.Dense(2))(None), ValueError, "expected a tensor, received None"),
    (lambda: L.Add()([[X]]), ValueError, r"\(Add\) merges a list of inputs, received lists in lists, of shapes"),
    (lambda: L.HashedCrossing(4)([[X]]), ValueError, r"needs two or more inputs of one shape, .* received \[None\]"),
    (lambda: L.HashedCrossing(4)(None), ValueError, r"needs two or more inputs of one shape, .* received \[\]"),
    (lambda: keras.KerasTensor((2,), name=X), TypeError, "a symbolic tensor's name must be a string, received ndarray"),
    (
        lambda: keras.callbacks.EarlyStopping(verbose="auto"),
        TypeError,
        "EarlyStopping: verbose must be a number, received 'auto'",
    ),
    (
        lambda: keras.callbacks.ReduceLROnPlateau(verbose="auto"),
        TypeError,
        "ReduceLROnPlateau: verbose must be a number, received 'auto'",
    ),
    (
        lambda: keras.callbacks.ModelCheckpoint("file", verbose="auto"),
        TypeError,
        "ModelCheckpoint: verbose must be a number, received 'auto'",
    ),
    (
        lambda: keras.callbacks.LearningRateScheduler(float, verbose="auto"),
        TypeError,
        "LearningRateScheduler: verbose must be a number, received 'auto'",
    ),
    (
        lambda: L.MultiHeadAttention(2, 2)(np.ones((1, 2, 3))),
        TypeError,
        r"a call of layer 'multi_head_attention.*' \(MultiHeadAttention\) lacks 'value': it takes \(query, value, key,",
    ),
    (
        lambda: Sequential([L.Dense(2)], outputs=X),
        TypeError,
        r"unexpected argument 'outputs': it takes layers; use Model\(inputs, outputs\)",
    ),
    (lambda: L.add(5), TypeError, "expected a tensor or an array, received 5"),
    (lambda: L.LayerNormalization()(X[0, 0]), ValueError, r"axis -1, which an input of shape \(\) lacks"),
    (lambda: L.Bidirectional(None), ValueError, r"wraps a recurrent layer such as LSTM\(32\), received None"),
    (
        lambda: L.LSTM(2)(X[:, None][:, :0]),
        ValueError,
        r"needs sequences of one step or more, received shape \(8, 0, 4\)",
    ),
    (lambda: L.RNN(L.GRUCell(2))(X[:, None][:, :0]), ValueError, "needs sequences of one step or more"),
    (
        lambda: L.Conv1DTranspose(2, 3)(X[:, None][:, :0]),
        ValueError,
        r"lengths of at least 1, received shape \(8, 0, 4\)",
    ),
    (lambda: ops.einsum(X, X), TypeError, "subscripts must be a string, received ndarray"),
    (lambda: ops.rearrange(7, 7), TypeError, "pattern must be a string, received 7"),
    (lambda: ops.dstack(()), ValueError, r"dstack: expected a list of at least one tensor, received tuple \(\)"),
    (lambda: ops.clip(X.astype("int8"), 300, 400), ValueError, "no int8 lies between 300 and 400"),
    (lambda: ops.add(X.astype("int32"), 2**70), TypeError, "expected numbers or booleans, received int"),
    (lambda: ops.full((2,), -1, "uint8"), ValueError, "-1 does not fit into uint8"),
    (
        lambda: keras.backend.update_add(X, 1),
        TypeError,
        r"expected a variable to write into, .* received ndarray of shape",
    ),
    (lambda: keras.backend.foldl(ops.add, X[:0]), ValueError, "no slice to start with, give an initializer"),
    (lambda: keras.backend.batch_flatten(1.0), ValueError, "samples along a first axis"),
    (lambda: keras.optimizers.LossScaleOptimizer(0.5), TypeError, r"wraps an optimizer such as Adam\(\), received 0.5"),
    (
        lambda: keras.losses.sparse_categorical_crossentropy(1, X[0, 0]),
        ValueError,
        "out of range for a tensor of 0 axes",
    ),
    (lambda: keras.losses.sparse_categorical_crossentropy(1, X, axis=9), ValueError, "axis 9 is out of range"),
    (lambda: keras.initializers.RandomNormal("a"), TypeError, "RandomNormal: mean must be a number, received 'a'"),
    (
        lambda: keras.GradientTape().gradient(5, X),
        TypeError,
        "targets and sources are tensors or variables, received 5",
    ),
    (lambda: keras.metrics.sparse_categorical_accuracy(1, X[0, 0]), ValueError, r"predictions of shape \(\)"),
    (lambda: ops.percentile(X, -1), ValueError, "percentile: q must lie between 0 and 100, received -1"),
    (lambda: ops.nanquantile(X, [0.5, np.nan]), ValueError, "nanquantile: q must lie between 0 and 1, received"),
    (lambda: ops.vectorize(abs, signature=5), ValueError, "a signature looks like"),
    (lambda: ops.image.resize(X[None, :, :0, None], (2, 2)), ValueError, "need a height and a width of 1 or more"),
    (lambda: ops.add([[1, 2], [3]], 1), ValueError, r"lists of numbers of one length, received \[\[1, 2\], \[3\]\]"),
    (lambda: ops.cast(X, X), ValueError, "dtype must be a dtype of numbers or booleans, received ndarray of shape"),
    (lambda: keras.metrics.Mean(dtype=X), ValueError, "dtype must be a dtype of numbers or booleans, received ndarray"),
    (lambda: keras.losses.Huber(reduction=X), ValueError, "reduction must be one of .* or None, received ndarray"),
    (
        lambda: keras.metrics.RecallAtPrecision([1]),
        ValueError,
        r"precision must be a number from 0 to 1, received \[1\]",
    ),
    (lambda: L.MaxPooling2D(data_format=X), ValueError, "'channels_first', received ndarray of shape"),
    (lambda: ops.switch(np.inf, [len]), TypeError, "switch: index must be an integer, received inf"),
    (lambda: L.GRUCell(2)(X[0, 0], X[:, :2]), ValueError, r"expected ndim=2, received shape \(\)"),
    (lambda: L.Reshape(())(X[0, 0]), ValueError, r"expected min_ndim=1, received shape \(\)"),
    (
        lambda: keras.initializers.Orthogonal(seed={0: 1}),
        ValueError,
        "seed must be an integer, a SeedGenerator or None",
    ),
    (lambda: ops.batch_normalization_training(X, 0, X[0], 1), TypeError, "statistics are Variables, received 0"),
    # building
    (lambda: L.Dense(0), ValueError, r"units must be a positive integer, received 0"),
    (
        lambda: L.Dense(2, inpuit_shape=(784,)),
        TypeError,
        r"unexpected argument 'inpuit_shape'. Did you mean 'input_shape'",
    ),
    (
        lambda: L.Dense(2)(keras.Input((3,)), trainig=True),
        TypeError,
        r"Dense.call.* unexpected keyword argument 'trainig'",
    ),
    (lambda: L.Dense(2, dtype="string"), ValueError, r"dtype of numbers or booleans, received 'string'"),
    (lambda: L.Dense(2, activation="rleu"), ValueError, r"unknown activation: 'rleu'. Did you mean 'relu'"),
    (lambda: L.Dense(2, kernel_initializer="glorot"), ValueError, r"unknown initializer: 'glorot'"),
    (lambda: L.Dense(2, kernel_regularizer="l3"), ValueError, r"unknown regularizer: 'l3'"),
    (lambda: L.Dense(2, kernel_constraint="maxnorm2"), ValueError, r"unknown constraint: 'maxnorm2'"),
    (lambda: L.Dense(2, dtype="flaot32"), ValueError, r"dtype of numbers or booleans, received 'flaot32'"),
    (lambda: L.Dense(2, dtype="mixed_float8"), ValueError, r"dtype must be .*'mixed_float8'"),
    (lambda: L.Input((3,), batch_shape=(2, 3)), ValueError, r"shape or batch_shape, received both"),
    (lambda: L.Dense(2)(L.Input((3, None))), ValueError, r"needs the size of the last axis"),
    (lambda: L.Normalization(axis=(None, None)), ValueError, r"axis must consist of integers, received \(None, None\)"),
    (lambda: ops.arange(10, dtype="bool"), ValueError, r"arange: booleans have two values"),
    (
        lambda: keras.Variable("glorot_uniform", shape=-1),
        ValueError,
        r"the shape of a weight must be a tuple of integers",
    ),
    (lambda: L.Dense(2).build(()), ValueError, r"needs the size of the last axis, received shape \(\)"),
    (lambda: L.LocallyConnected1D(2, 3).build(()), ValueError, r"needs inputs of 3 axes, received shape \(\)"),
    (lambda: L.Dense(2, input_shape=(4,), name="d")(L.Input(())), ValueError, r"expected min_ndim=2"),
    (lambda: L.Input(4), ValueError, r"shape must be a tuple of integers or None, received 4"),
    (lambda: L.Input(), ValueError, r"Input needs shape=.* or batch_shape="),
    (lambda: L.LSTM(3)(L.Input((4,))), ValueError, r"expected ndim=3, received shape \(None, 4\)"),
    (lambda: L.Conv2D(3, 3)(L.Input((8, 8))), ValueError, r"expected ndim=4, received shape \(None, 8, 8\)"),
    (
        lambda: L.Conv2D(3, 9)(L.Input((4, 4, 1))),
        ValueError,
        r"kernel_size=\(9, 9\) leaves nothing of an input of shape \(None, 4, 4, 1\)",
    ),
    (lambda: L.Conv2D(3, 3, padding="sane"), ValueError, r"padding must be 'valid' or 'same', received 'sane'"),
    (lambda: L.Dropout(1.5), ValueError, r"rate must be a number from 0 to 1, received 1.5"),
    (lambda: L.Embedding(0, 3), ValueError, r"input_dim must be a positive integer, received 0"),
    (lambda: L.Reshape((3, 3))(L.Input((4,))), ValueError, r"cannot reshape an input of shape \(None, 4\) to \(3, 3\)"),
    (lambda: L.Permute((0, 1)), ValueError, r"dims must be 1 to n in some order, received \(0, 1\)"),
    (lambda: L.concatenate([L.Input((2, 3)), L.Input((3, 3))]), ValueError, r"must agree in all axes but axis -1"),
    (lambda: L.add([L.Input((2,)), L.Input((3,))]), ValueError, r"do not broadcast"),
    (lambda: L.Add()(L.Input((3,))), ValueError, r"merges a list of inputs, received a single shape"),
    (lambda: Sequential([L.Dense(2), "relu"]), TypeError, r"made of layers, received 'relu'"),
    (lambda: Sequential([L.Dense(2, name="a"), L.Dense(2, name="a")]), ValueError, r"must be unique: 'a'"),
    (
        lambda: Sequential([L.Dense(4, input_shape=(3,)), L.LSTM(2)]),
        ValueError,
        r"expected ndim=3, received shape \(None, 4\)",
    ),
    (lambda: Model(inputs=L.Input((3,))), ValueError, r"both inputs and outputs"),
    (lambda: Model(X, Y), ValueError, r"must be symbolic tensors"),
    (lambda: dense().get_layer("dens"), ValueError, r"no layer 'dens'"),
    (lambda: Sequential([L.Dense(2)]).count_params(), ValueError, "is not built yet: call it"),
    (lambda: dense().set_weights([np.ones((4, 2))]), ValueError, r"has 2 weights, received 1"),
    (
        lambda: dense().set_weights([np.ones((3, 2)), np.ones(2)]),
        ValueError,
        r"has shape \(4, 2\), received .* \(3, 2\)",
    ),
    (lambda: L.Concatenate()(3), TypeError, r"expected a tensor or an array, received 3"),
    (lambda: L.Dense(2)("abc"), ValueError, r"expected a tensor, received 'abc'"),
    (lambda: dense()("abc"), TypeError, r"expected a tensor or an array, received 'abc'"),
    (lambda: np.exp(L.Input((3,))), TypeError, r"has no value: it describes a model"),
    (lambda: 1 if L.Input((3,)) else 0, TypeError, r"has no value: it describes a model"),
    # compiling
    (lambda: fit(dense()), RuntimeError, r"must compile the model before fit"),
    (lambda: dense().evaluate(X, Y), RuntimeError, r"must compile the model before evaluate"),
    (lambda: dense(optimizer="adm"), ValueError, r"unknown optimizer: 'adm'. Did you mean 'adam'"),
    (lambda: dense(optimizer="sgd", loss="msee"), ValueError, r"unknown loss: 'msee'. Did you mean"),
    (lambda: dense(optimizer="sgd", loss="mse", metrics=["acuracy"]), ValueError, r"unknown metric: 'acuracy'"),
    (lambda: dense(optimizer="sgd", loss="mse", metrics="accuracy"), TypeError, r"metrics must be a list"),
    (lambda: dense(optimizer="sgd", los="mse"), TypeError, r"unexpected argument 'los'. Did you mean 'loss'"),
    (lambda: fit(dense(optimizer="sgd", loss=None)), ValueError, r"nothing to minimise"),
    (lambda: two_outputs(loss={"frist": "mse"}), ValueError, r"'frist', which is not an output.*Did you mean 'first'"),
    (lambda: two_outputs(loss=["mse"] * 3), ValueError, r"loss has 3 entries but the model has 2 outputs"),
    (lambda: two_outputs(loss_weights=0.5), ValueError, r"loss_weights must be a list or a dict"),
    (lambda: keras.optimizers.SGD(learning_rate=-1), ValueError, r"learning_rate must be >= 0, received -1"),
    (lambda: keras.optimizers.SGD(momentum=2), ValueError, r"momentum must be a number from 0 to 1, received 2"),
    (
        lambda: keras.optimizers.Adam(clipnorm=1, clipvalue=1),
        ValueError,
        r"at most one of clipnorm, clipvalue and global_clipnorm, received clipnorm=1, clipvalue=1",
    ),
    (
        lambda: keras.optimizers.Adam(learning_rte=1),
        TypeError,
        r"unexpected argument 'learning_rte'. Did you mean 'learning_rate'",
    ),
    # data
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), np.ones((8, 5))),
        ValueError,
        r"expects shape \(None, 4\), received \(None, 5\)",
    ),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), np.ones((8, 4, 4))), ValueError, r"expects shape \(None, 4\)"),
    (
        lambda: dense().predict(np.ones(4)),
        ValueError,
        r"expects shape \(None, 4\), received \(4,\) for a single sample: pass x\[None\], a batch of one",
    ),
    (lambda: dense()(np.ones(4)), ValueError, r"received \(4,\) for a single sample: pass x\[None\]"),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), y=Y[:5]),
        ValueError,
        r"same number of samples, received \[5, 8\]",
    ),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), y=np.ones((8, 3))),
        ValueError,
        r"the targets' shape \(8, 3\) does not match the predictions' \(8, 2\)",
    ),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), x=None), ValueError, r"x is missing: pass an array"),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), y=None), ValueError, r"needs targets, received None"),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), x=X[:0], y=Y[:0]), ValueError, r"the data has no samples"),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), x=np.array([["a"] * 4] * 8)), TypeError, r"must hold numbers"),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), x=[[1, 2], [3]]), ValueError, r"differ in length"),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), batch_size=0),
        ValueError,
        r"batch_size must be a positive integer",
    ),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), epochs=-1), ValueError, r"epochs must be a non-negative integer"),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), validation_split=1.5),
        ValueError,
        r"validation_split must be between 0 and 1",
    ),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), validation_split=0.95),
        ValueError,
        r"leaves one of the two parts empty",
    ),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), validation_data=X),
        ValueError,
        r"needs targets, received None",
    ),
    (lambda: fit(dense(optimizer="sgd", loss="mse"), sample_weight=np.ones(3)), ValueError, r"same number of samples"),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), sample_weight=np.full(8, np.nan)),
        ValueError,
        r"sample_weight holds NaN or infinity in 8 of 8 rows",
    ),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), callbacks=[print]),
        TypeError,
        r"callbacks must be Callback objects",
    ),
    (
        lambda: fit(classifier(), y=np.full(8, 3)),
        ValueError,
        r"from 3 to 3, but the output has 3 units, so they must be 0 to 2",
    ),
    (lambda: fit(classifier(), y=np.full(8, -1)), ValueError, r"class numbers from -1 to -1, .* 0 to 2"),
    (
        lambda: fit(classifier("categorical_crossentropy"), y=np.zeros(8)),
        ValueError,
        r"shape \(8,\) does not match the predictions' \(8, 3\).* one-hot vectors",
    ),
    (
        lambda: fit(classifier("binary_crossentropy"), y=np.zeros(8)),
        ValueError,
        r"must be the same \(one unit for yes or no",
    ),
    (
        lambda: fit(classifier(units=1), y=np.arange(8) % 2),
        ValueError,
        r"from 0 to 1, but the output has one unit: for yes or no .* use sigmoid and binary_crossentropy",
    ),
    (
        lambda: L.deserialize(L.serialize(NoName(3)), {"NoName": NoName}),
        TypeError,
        r"NoName cannot be made .* 'name'\. Let its __init__",
    ),
    (lambda: fit(classifier(), y=np.zeros(8), class_weight=[1, 2]), TypeError, r"class_weight must be a dict"),
    (lambda: fit(two_outputs(), y=Y), ValueError, r"2 outputs \['first', 'second'\]"),
    (lambda: fit(two_outputs(), y={"frist": Y, "second": Y[:, :1]}), ValueError, r"Did you mean 'first'"),
    (
        lambda: fit(two_outputs(), y=[Y, Y[:, :1]], class_weight={0: 1.0}),
        ValueError,
        r"must be a dict by output name",
    ),
    (lambda: fit(two_inputs()), ValueError, r"2 inputs \['left', 'right'\]"),
    (
        lambda: fit(two_inputs(), x={"left": X, "rigth": X}),
        ValueError,
        r"\['right'\] are missing: .* Did you mean 'right'",
    ),
    (lambda: fit(two_inputs(), x={"left": X}), ValueError, r"\['right'\] are missing"),
    (lambda: dense().predict(iter([])), ValueError, r"yielded no batch"),
    (
        lambda: fit(stateful(), np.ones((6, 3, 5)), np.ones((6, 2))),
        ValueError,
        r"holds the states of a batch of 4 samples, .* received a batch of 2",
    ),
    (
        lambda: keras.utils.to_categorical([0, 3], num_classes=2),
        ValueError,
        r"classes from 0 to num_classes - 1 = 1, received 0 to 3",
    ),
    # files
    (lambda: load_model("nowhere.keras"), FileNotFoundError, r"no file 'nowhere.keras'"),
    (lambda: dense().save("m", save_format="tf"), ValueError, r"save_format must be 'keras' or 'h5'"),
    (lambda: dense().save("m.onnx"), ValueError, r"cannot save as 'm.onnx': ONNX files are written by model.export"),
    (
        lambda: dense().save_weights("m.weights.json"),
        ValueError,
        r"sharded weights .* by model.save_weights\(..., max_shard_size=2\)",
    ),
    (lambda: model_from_json("{"), ValueError, r"the text is not JSON: Expecting property name"),
    (lambda: model_from_json('{"class_name": "Evil", "config": {}}'), ValueError, r"unknown layer: 'Evil'"),
    # ops
    (
        lambda: ops.matmul(np.ones((2, 3)), np.ones((2, 3))),
        ValueError,
        r"matmul: the last axis of x1 .* must match, received shapes \(2, 3\) and \(2, 3\)",
    ),
    (
        lambda: ops.reshape(np.ones(6), (4, 2)),
        ValueError,
        r"reshape: cannot put 6 elements of shape \(6,\) into shape \(4, 2\)",
    ),
    (lambda: dense().predict(3), ValueError, r"a value for each sample, received a single number, 3"),
    (lambda: fit(dense(loss="mse"), X[:1], 2.0), ValueError, r"y must be an array .* a single number, 2"),
    (
        lambda: fit(dense(loss="mse"), X[:1], Y[:1], sample_weight=1.0),
        ValueError,
        r"sample_weight must be an array .* a single number",
    ),
    (lambda: dense().predict(np.ma.masked_array(X, X > 0)), ValueError, r"a masked array.* fill its missing values"),
    (lambda: dense().predict([np.ones(4), np.ones(3)]), ValueError, r"its rows differ in length"),
    (lambda: Sequential([L.Dense(2)]).predict([[1.0], [1.0, 2.0]]), ValueError, r"its rows differ in length"),
    (lambda: Doubling().predict([[1.0], [1.0, 2.0]]), ValueError, r"its rows differ in length"),
    (lambda: Doubling().predict([]), ValueError, r"x holds no array, received \[\]"),
    (
        lambda: Sequential([L.Dense(2)]).predict({"x": X}),
        ValueError,
        r"has no input name yet .* received \['x'\]",
    ),
    (lambda: Halves().predict(X[:0]), ValueError, r"the data has no samples"),
    (lambda: Halves().predict([X, X[:3]]), ValueError, r"same number of samples, received \[3, 8\]"),
    *(
        pytest.param(
            lambda weight=weight: fit(classifier(), y=np.zeros(8, int), class_weight={0: weight}),
            ValueError,
            r"class_weight's values must be finite numbers, received .* for class 0",
            id=f"class_weight of {weight!r}",
        )
        for weight in (None, "x", float("nan"), 1e300, np.ones(1), 1j)
    ),
    (
        lambda: fit(classifier(), y=np.zeros(8, int), class_weight={0: 2.0}, sample_weight=np.ones((8, 3, 2))[:, :0]),
        ValueError,
        r"sample_weight of shape \(8, 0, 2\) does not fit",
    ),
    (
        lambda: fit(dense(loss="mse"), class_weight={0: 2.0}, sample_weight=np.ones((3, 2))),
        ValueError,
        r"sample_weight of shape \(3, 2\) does not fit class_weight's weights of targets, of shape \(8,\)",
    ),
    (
        lambda: words().fit(np.array([[1, 2**32 + 1]]), np.ones(1), verbose=0),
        ValueError,
        r"holds numbers from 1 to 4294967297, but it has dtype int32",
    ),
    (
        lambda: words().fit(np.array([[1, 5]]), np.ones(1), verbose=0),
        ValueError,
        r"from 1 to 5, but layer 'table' looks them up in a table of 5 rows, so they must be 0 to 4",
    ),
    (lambda: words().predict(np.array([[1, 2**63]], np.uint64)), ValueError, r"9223372036854775808, .* dtype int32"),
    (lambda: words().predict(np.array([[1.0, 1e20]])), ValueError, r"from 1.0 to 1e\+20, .* dtype int32"),
    (lambda: fit(classifier(), y=np.full(8, 2**64 - 1, np.uint64)), ValueError, r"18446744073709551615, .* 0 to 2"),
    (
        lambda: ops.concatenate([np.ones((2, 2)), np.ones((3, 3))], axis=0),
        ValueError,
        r"concatenate: shapes must agree except along axis 0, received \[\(2, 2\), \(3, 3\)\]",
    ),
    (lambda: ops.sum(np.ones((2, 2)), axis=5), ValueError, r"sum: axis 5 is out of range for a tensor of 2 axes"),
    (lambda: ops.add("a", 1.0), TypeError, r"expected numbers or booleans, received str"),
    (
        lambda: keras.config.set_floatx("float8"),
        ValueError,
        r"floatx must be one of \('float32', 'float64', 'float16', 'bfloat16'\), received 'float8'",
    ),
    (lambda: keras.Variable(np.ones(3)) + np.ones(4), ValueError, r"add: shapes \(3,\), \(4,\) do not broadcast"),
    # values of another kind than an argument takes
    (
        lambda: keras.optimizers.Ftrl(beta=(1, 2)),
        TypeError,
        r"Ftrl: beta must be a number, 0 or more, received \(1, 2\)",
    ),
    (lambda: L.LeakyReLU("x"), TypeError, "LeakyReLU: negative_slope must be a number, not negative, received 'x'"),
    (
        lambda: keras.losses.Hinge(dtype="nan"),
        ValueError,
        "dtype must be a dtype of numbers or booleans, received 'nan'",
    ),
    (lambda: keras.losses.Hinge(name=X), TypeError, "a loss's name must be a string, received ndarray of shape"),
    (lambda: keras.metrics.AUC(thresholds=3), TypeError, "AUC: thresholds must be numbers, received 3"),
    (
        lambda: keras.metrics.AUC(num_thresholds=10**9),
        ValueError,
        "num_thresholds must be at most 1000000, received 10",
    ),
    (
        lambda: keras.optimizers.Muon(exclude_layers=(2, 2)),
        ValueError,
        "exclude_layers must be patterns of paths, received 2",
    ),
    (lambda: L.RandomHue(0.1, (2, 2)), ValueError, r"value_range must be two numbers that differ, received \(2, 2\)"),
    (lambda: L.Rescaling(deep()), ValueError, "lists of numbers of one length, received an object of type list"),
    (lambda: keras.callbacks.ReduceLROnPlateau(factor=(0,)), TypeError, r"factor must be a number, received \(0,\)"),
    (lambda: L.Normalization(mean=deep(), variance=1.0), ValueError, "received an object of type list"),
    (
        lambda: keras.metrics.MeanIoU(10**9),
        ValueError,
        "a confusion matrix of 1000000000 classes does not fit into memory",
    ),
    (lambda: keras.metrics.Recall(class_id="a"), TypeError, "Recall: class_id must be an integer, received 'a'"),
    (lambda: keras.metrics.OneHotIoU(3, 0), TypeError, "OneHotIoU: target_class_ids must be a tuple of integers"),
    (
        lambda: keras.initializers.Zeros()((2.5, 3)),
        ValueError,
        r"Zeros: the shape of a weight must be .*, received \(2.5, 3\)",
    ),
    (
        lambda: keras.initializers.HeNormal(input_axes=[7], output_axes=[0])((2, 3)),
        ValueError,
        r"shape \(2, 3\) does not",
    ),
    (
        lambda: L.Dense(np.float32),
        ValueError,
        "Dense: units must be a positive integer, received <class 'numpy.float32'>",
    ),
    (lambda: L.Dense(deep()), ValueError, "Dense: units must be a positive integer, received an object of type list"),
    (lambda: keras.metrics.get(deep()), ValueError, "metric must be a name, .* received an object of type list"),
    (lambda: ops.moments(X, deep()), TypeError, "axis must be an integer, received an object of type list"),
    (
        lambda: dense(loss="mse", optimizer="sgd").fit(X, Y, initial_epoch=deep()),
        ValueError,
        "initial_epoch must be a non-negative integer, received an object of type list",
    ),
    (lambda: L.Dense(10**30), ValueError, r"Dense: units must be a positive integer below 2\*\*63, received 10000"),
    (lambda: L.LSTM(2**62)(np.ones((2, 4, 3))), ValueError, "an array of shape .* more than any memory has"),
    (lambda: L.Resizing(3, 2**62)(np.ones((1, 2, 2, 1))), ValueError, "resizing an axis .* more than any memory has"),
    (lambda: L.Dense(2, use_bias=X), TypeError, "Dense: use_bias must be True or False, received ndarray of shape"),
    (
        lambda: keras.optimizers.SGD(gradient_accumulation_steps=10**30),
        ValueError,
        r"must be an integer >= 2 and below 2\*\*63 or None, received 1000",
    ),
    (
        lambda: L.IntegerLookup(mask_token=[3]),
        ValueError,
        r"mask_token must be an integer that int64 holds, received \[3",
    ),
    (
        lambda: L.IntegerLookup(oov_token=2**63),
        ValueError,
        "oov_token must be an integer that int64 holds, received 922",
    ),
    (lambda: L.IntegerLookup(vocabulary=[2**63]), ValueError, "needs integers as terms, received 922"),
    (
        lambda: ops.convert_to_tensor(X, sparse=X),
        TypeError,
        "convert_to_tensor: sparse must be True or False, received ndarray",
    ),
    (lambda: keras.losses.deserialize("mse", custom_objects=X), TypeError, "custom_objects must be a dict of classes"),
    (
        lambda: ops.while_loop(lambda x: x, lambda x: x, X),
        TypeError,
        "while_loop: the result of cond must be True or False, received ",
    ),
    (lambda: L.CategoryEncoding(2, sparse=X), TypeError, "CategoryEncoding: sparse must be True or False, received"),
    (lambda: L.InputLayer((2,), ragged=X), TypeError, "Input: ragged must be True or False, received ndarray"),
    (lambda: L.StringLookup(has_input_vocabulary=X), TypeError, "has_input_vocabulary must be True or False, received"),
    (lambda: L.Dense(2, lora_rank=X), TypeError, "Dense: lora_rank must be True or False, received ndarray"),
    (lambda: L.Bidirectional(L.LSTM(2), backward_layer=X), ValueError, "wraps a recurrent layer .*, received ndarray"),
    (lambda: L.TextVectorization(output_mode=X), ValueError, "output_mode must be one of .* received ndarray"),
    (lambda: L.StringLookup(vocabulary_dtype=X), ValueError, "vocabulary_dtype must be .* received ndarray"),
    (lambda: L.StringLookup(vocabulary=[[1, 2], [3]]), ValueError, "vocabulary must be a list of terms, received"),
    (lambda: L.Dense(2, dtype=deep()), ValueError, "dtype must be a dtype of numbers or booleans, received an object"),
    (lambda: L.Dense(2, weights=deep())(X), ValueError, "takes arrays as weights, received an object of type list"),
    (lambda: L.Dense(2, batch_shape=np.array(2)), ValueError, "batch_shape must be a tuple of integers or None"),
    (lambda: keras.Input(batch_shape=np.array(2)), TypeError, "a shape is a tuple of integers, .* received ndarray"),
    (lambda: keras.Input((2,), name=X), TypeError, "a layer.s name must be a string, received ndarray"),
    (lambda: keras.Variable(1.0, aggregation=X), ValueError, "Variable: aggregation must be one of 'sum', .* received"),
    (
        lambda: keras.quantizers.AbsMaxQuantizer(output_dtype=X),
        ValueError,
        "dtype must be a dtype of numbers or booleans",
    ),
    (
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), dynamic=X),
        TypeError,
        "LossScaleOptimizer: dynamic must be True or False, received ndarray",
    ),
    (
        lambda: keras.optimizers.Adagrad(initial_accumulator_value=X[0, :1]),
        TypeError,
        "must be a number, 0 or more, received ndarray",
    ),
    (lambda: keras.callbacks.CSVLogger("a", append=X), TypeError, "CSVLogger: append must be True or False, received"),
    (
        lambda: keras.callbacks.EarlyStopping(patience=X),
        TypeError,
        "EarlyStopping: patience must be a number, received",
    ),
    (
        lambda: keras.callbacks.ModelCheckpoint("a.keras", save_best_only=X),
        TypeError,
        "ModelCheckpoint: save_best_only must be True or False, received",
    ),
    (
        lambda: keras.callbacks.ModelCheckpoint("a.keras", save_freq=X),
        ValueError,
        "save_freq must be 'epoch' or a positive number of batches, received ndarray",
    ),
    (
        lambda: keras.callbacks.LearningRateScheduler(deep()),
        TypeError,
        "schedule must be a function of .* received an object",
    ),
    (
        lambda: keras.backend.in_train_phase(X, X, training=X),
        TypeError,
        "in_train_phase: training must be True or False, received ndarray",
    ),
    (
        lambda: L.Conv1D(2, 2, strides=2**63),
        ValueError,
        r"strides must be a positive integer below 2\*\*63, received 922",
    ),
    (
        lambda: keras.metrics.AUC(num_labels=X),
        ValueError,
        "AUC: num_labels must be a positive integer, received ndarray",
    ),
    (
        lambda: keras.metrics.Precision(thresholds=np.array(2.5)),
        ValueError,
        "thresholds must be numbers from 0 to 1, received ndarray",
    ),
    (
        lambda: keras.optimizers.schedules.ExponentialDecay(0.1, decimal.Decimal("0.1"), 0.9),
        TypeError,
        "ExponentialDecay: decay_steps must be a number above 0, received Decimal",
    ),
    (
        lambda: keras.optimizers.SGD(lambda: None).apply([np.ones(2)], [keras.Variable(np.ones(2))]),
        TypeError,
        "SGD: <function .* must return a learning rate, a number, received None",
    ),
    (
        lambda: L.EinsumDense("ab,bc->ac", 3, bias_axes=2),
        TypeError,
        "EinsumDense: bias_axes must be letters or None, received 2",
    ),
    (
        lambda: L.EinsumDense("ab,bc->ac", False),
        TypeError,
        "output_shape must be an integer, or several, received False",
    ),
    (
        lambda: L.AlphaDropout(0.5, noise_shape=(2, 1, 1))(X, training=True),
        ValueError,
        "must have a size for each axis of the input",
    ),
    (
        lambda: L.StringLookup(vocabulary="no such file"),
        ValueError,
        "StringLookup: no vocabulary can be read from the file 'no such file': No such file",
    ),
    (lambda: keras.constraints.MaxNorm(axis=deep()).get_config(), ValueError, "MaxNorm: axis cannot be written"),
    (lambda: L.Softmax()([X, X], mask=X), ValueError, "takes 1 input, received 2"),
    (lambda: L.ReversibleEmbedding(4, 2)([X]), ValueError, "takes a tensor, received a list of one"),
    (lambda: Sequential()([X, X]), ValueError, "Sequential '.*' takes one array or tensor, received"),
    (lambda: L.Multiply()([X, SPARSE]), TypeError, r"expected a dense array, received Sparse .*: pass its toarray\(\)"),
    (
        lambda: dense(loss="mse", optimizer="sgd").fit(X, Y, shuffle=X),
        TypeError,
        "shuffle must be True, False or 'batch', received ndarray",
    ),
    (lambda: L.Add(autocast=X), TypeError, "Add: autocast must be True or False, received ndarray"),
    (lambda: keras.losses.MeanSquaredError(dtype=deep()), ValueError, "dtype must be a dtype of numbers or booleans"),
    (
        lambda: L.AdaptiveMaxPooling1D(2**40)(np.ones((1, 4, 1))),
        ValueError,
        "pooling an axis of 4 to 1099511627776 takes more than any memory",
    ),
    (lambda: keras.callbacks.CallbackList(deep()), ValueError, "callbacks are lists that are nested too deeply"),
    (lambda: L.Dense(2, weights=3.0)(X), TypeError, "takes a list of arrays as weights, received 3.0"),
    (lambda: L.Activation(np.float32), ValueError, "activation must be a name, an object, a function"),
    (lambda: L.AveragePooling1D()([X[None]]), ValueError, "takes a tensor, received a list of one"),
    (
        lambda: L.Flatten().compute_output_shape(3),
        ValueError,
        "Flatten.compute_output_shape takes the shape .*, received 3",
    ),
    (
        lambda: L.Permute((1, 2)).compute_output_shape((0,)),
        ValueError,
        r"Permute.compute_output_shape .* received \(0,\)",
    ),
    (
        lambda: keras.constraints.NonNeg.from_config(1.5),
        ValueError,
        "NonNeg.from_config takes the dict .* received 1.5",
    ),
    (lambda: Sequential.from_config({"name": "a"}), ValueError, "Sequential.from_config takes .*KeyError: 'layers'"),
    (lambda: model_from_json([None]), TypeError, r"the text must be JSON in a string, received \[None\]"),
    (lambda: ops.relu(deep()), ValueError, "lists of numbers of one length, received an object of type list"),
    (lambda: keras.tree.flatten(deep()), ValueError, "a list is nested too deeply, or contains itself"),
    (lambda: ops.one_hot([0], -1), ValueError, "one_hot: num_classes must be an integer of at least 0"),
    (lambda: ops.eye(-1), ValueError, r"eye: sizes must not be negative, received shape \(-1, -1\)"),
    (lambda: ops.image.gaussian_blur(X[..., None], sigma=0.1), ValueError, "sigma must be two numbers, received 0.1"),
    (lambda: ops.tri("a"), TypeError, "tri: N must be an integer, received 'a'"),
    (lambda: ops.fori_loop(0, 3, 5, 1), TypeError, "fori_loop: body_fun must be a function, received 5"),
    (
        lambda: ops.while_loop(lambda x: True, lambda x: 3, (X,)),
        ValueError,
        "body must return 1 loop variables, received 3",
    ),
    (lambda: ops.full((2, 3), [1, 2]), ValueError, r"fill_value of shape \(2,\) does not broadcast to shape \(2, 3\)"),
    (lambda: keras.random.normal((2,), stddev="a"), TypeError, "normal: stddev must be a number, received 'a'"),
    (lambda: float(ops.ones(3)), ValueError, r"a tensor of shape \(3,\) is not a single number"),
    (
        lambda: dense(optimizer="sgd", loss="mse").fit(X, Y, verbose="x"),
        ValueError,
        "verbose must be 0, 1, 2 or 'auto'",
    ),
    (
        lambda: fit(dense(optimizer="sgd", loss="mse"), batch_size=2**64),
        ValueError,
        "batch_size must be a positive integer",
    ),
    # a missing super().__init__()
    (lambda: Forgetful(), AttributeError, r"Forgetful.__init__ must call super\(\).__init__\(\) before anything else"),
    (lambda: repr(Empty()), AttributeError, r"Empty.__init__ must call super"),
    (lambda: Empty()(X), AttributeError, r"Empty.__init__ must call super"),
    (lambda: Sequential([Empty()]), AttributeError, r"Empty.__init__ must call super"),
    # arguments that a base class takes for several layers
    (lambda: L.Conv2D(3), TypeError, r"^Conv2D.__init__\(\) missing 1 required positional argument: 'kernel_size'"),
    (lambda: L.RandomHue(), TypeError, r"^RandomHue.__init__\(\) missing 1 required positional argument: 'factor'"),
    (lambda: EmptyModel()(X), AttributeError, r"EmptyModel.__init__ must call super"),
    (lambda: EmptyModel().summary(), AttributeError, r"EmptyModel.__init__ must call super"),
    (lambda: EmptyModel().compile("sgd", "mse"), AttributeError, r"EmptyModel.__init__ must call super"),
    (lambda: ForgetfulMetric(), AttributeError, r"ForgetfulMetric.__init__ must call super"),
    (lambda: EmptyLoss()(X, X), AttributeError, r"EmptyLoss.__init__ must call super"),
]


def test_the_table_is_long_enough():
    assert len(MISTAKES) >= 40


@pytest.mark.parametrize("mistake, error, message", MISTAKES)
def test_mistakes_are_explained(mistake, error, message):
    with pytest.raises(error, match=message) as raised:
        mistake()
    assert len(frames_of_nbkeras(raised.value)) <= 2  # a check that is a function of one line adds one frame


def frames(traceback):
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return found


def frames_of_nbkeras(error):
    return [frame for frame in frames(error.__traceback__) if frame.f_globals["__name__"].startswith("nbkeras.")]


class Wrong(L.Layer):
    def call(self, x):
        return ops.matmul(x, np.ones((7, 2)))


def test_tracebacks_show_the_lines_of_the_user_only():
    model = Sequential([L.Input((4,)), L.Lambda(lambda x: x)])
    with pytest.raises(ValueError, match="matmul: the last axis of x1") as raised:
        model.add(Wrong())
    names = [frame.f_code.co_name for frame in frames(raised.value.__traceback__)]
    assert names == ["test_tracebacks_show_the_lines_of_the_user_only", "call"]
    whole = frames(raised.value.full_traceback.traceback)
    assert len(whole) > 8 and whole[-1].f_globals["__name__"] == "nbkeras.ops.contractions"
    text = str(raised.value.full_traceback)
    assert "in call\n    return ops.matmul" in text and text.count("File") == len(whole)
    again = pickle.loads(pickle.dumps(raised.value))  # as processes hand errors to each other
    assert str(again) == str(raised.value) and again.full_traceback == text


def test_tracebacks_end_at_the_user_when_a_context_manager_raises(tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    with pytest.raises(ValueError, match="is not a model or weights file") as raised:
        load_model(tmp_path / "model.keras")
    names = [frame.f_code.co_name for frame in frames(raised.value.__traceback__)]
    assert names == ["test_tracebacks_end_at_the_user_when_a_context_manager_raises"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autodiff.grad(lambda x: x * x)(np.ones(3)), "grad: the function must return a float tensor with one"),
        (lambda: autodiff.hvp(ops.sum, (np.ones(3),), (np.ones(2),)), "hvp: expected an array of the shape"),
        (lambda: autodiff.jacrev(lambda x: x)(np.array([1])), "jacrev: arguments to be differentiated must be floats"),
    ],
)
def test_tracebacks_of_transforms_end_at_the_user(call, message):
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        call()
    assert not frames_of_nbkeras(raised.value)


def test_tracebacks_in_full_on_demand():
    assert config.is_traceback_filtering_enabled()
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    with pytest.raises(ValueError, match="matmul: the last axis of x1") as raised:
        Wrong()(X)
    assert len(frames_of_nbkeras(raised.value)) > 4 and not hasattr(raised.value, "full_traceback")


def test_an_error_that_nobody_foresaw_keeps_its_frames(monkeypatch):
    monkeypatch.setattr(L.Dense, "call", lambda self, x: x.no_such_attribute)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_attribute'") as raised:
        L.Dense(2)(X)
    assert not frames_of_nbkeras(raised.value)  # it came up in this file
    monkeypatch.setattr(keras.building.layer, "_masks", None)
    with pytest.raises(TypeError, match="'NoneType' object is not callable") as raised:
        L.Dense(2)(X)
    assert frames_of_nbkeras(raised.value)


def test_causes_are_without_frames_too():
    with pytest.raises(ValueError, match="unknown layer: 'Evil'") as raised:
        model_from_json('{"class_name": "Evil", "config": {}}')
    assert not frames_of_nbkeras(raised.value)

    def call(x):
        try:
            return ops.matmul(x, np.ones((7, 2)))
        except ValueError as error:
            raise RuntimeError("the outer error") from error

    with pytest.raises(RuntimeError, match="the outer error") as raised:
        L.Lambda(call)(X)
    assert not frames_of_nbkeras(raised.value)
    assert raised.value.__cause__ is not None and not frames_of_nbkeras(raised.value.__cause__)
    error = ValueError("its own cause")

    def refuse(x):
        raise error from error

    with pytest.raises(ValueError, match="its own cause"):
        L.Lambda(refuse)(X)


def test_an_error_keeps_nothing_alive_once_it_is_gone():
    batch = np.ones((8, 5), "float32")
    gone = weakref.ref(batch)
    gc.disable()
    try:
        with pytest.raises(ValueError, match=r"expects shape \(None, 4\), received \(None, 5\)"):
            fit(dense(optimizer="sgd", loss="mse"), batch)
        del batch
        gc.collect()
    finally:
        gc.enable()
    assert gone() is None


def test_the_nearest_names_and_not_all_of_them():
    with pytest.raises(ValueError, match="unknown layer: 'RBF'") as raised:
        L.deserialize({"class_name": "RBF", "config": {}})
    assert len(str(raised.value)) < 200 and "dir(nbkeras.layers)" in str(raised.value)
    with pytest.raises(ValueError, match="Did you mean 'Dense'"):
        L.deserialize({"class_name": "Dnse", "config": {}})


def test_advice_is_for_the_loss_that_was_used():
    for name, advised in (("binary_crossentropy", False), ("mse", False), ("categorical_crossentropy", True)):
        with pytest.raises(ValueError, match="does not match") as raised:
            keras.losses.get(name)(np.ones((2, 3)), np.ones((2, 4)))
        assert ("sparse_categorical_crossentropy" in str(raised.value)) == advised


def test_warnings_are_about_the_line_of_the_user():
    model = Sequential([L.Input((4,)), L.Dropout(0.5)])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="no trainable weights") as warned:
        fit(model, X, X)
    with pytest.warns(UserWarning, match="softmax over axis") as more:
        ops.softmax(np.ones((3, 1)))
    assert {each.filename for each in (*warned, *more)} == {__file__}


HUGE = 10**5000  # Python writes no more than 4300 digits


@pytest.mark.parametrize(
    "call",
    [
        lambda: keras.utils.set_random_seed(HUGE),
        lambda: keras.set_threads(HUGE),
        lambda: L.StringLookup(num_oov_indices=HUGE),
        lambda: L.Permute([HUGE]),
        lambda: L.Reshape([-1, -1, HUGE]),
        lambda: L.Dense(HUGE),
        lambda: keras.metrics.AUC(num_thresholds=HUGE),
        lambda: keras.metrics.BinaryIoU([HUGE]),
        lambda: ops.all(X, axis=HUGE),
        lambda: ops.bartlett(HUGE),
        lambda: ops.broadcast_to(X, HUGE),
        lambda: ops.group_normalization(X, HUGE),
        lambda: ops.reshape(X, HUGE),
        lambda: ops.tensordot(X, X, HUGE),
        lambda: ops.top_k(X, HUGE),
        lambda: ops.unstack(X, HUGE),
        lambda: ops.categorical_crossentropy(X, X, axis=HUGE),
        lambda: keras.random.bernoulli((2,), HUGE),
        lambda: keras.random.randint((2,), HUGE, 3),
    ],
)
def test_numbers_of_thousands_of_digits_have_short_messages_of_their_own(call):
    with pytest.raises(ValueError, match="received an|takes an|axis an|with x=an|an object of type") as caught:
        call()
    assert "digits" not in str(caught.value) and len(str(caught.value)) < 400
