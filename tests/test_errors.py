"""Messages for mistakes of users: what was wrong, what was expected, what was received."""

import decimal
import gc
import pickle
import weakref

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import autodiff, backend, callbacks, config, constraints, initializers, losses, metrics, ops, optimizers
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


def regression():
    return dense(optimizer="sgd", loss="mse")


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


MISTAKES = {
    TypeError: {
        # arguments of ops, which are checked against their annotations
        r"relu: negative_slope must be a number, received \(0, 1\)": lambda: ops.relu(X, negative_slope=(0, 1)),
        r"elu: alpha must be a number, received ndarray of shape \(4,\)": lambda: ops.elu(X, alpha=X[0]),
        "ELU: alpha must be a number, received 'a'": lambda: L.ELU("a")(X),
        "epsilon must be a number or None, received": lambda: ops.rms_normalization(X, epsilon=(1, 2)),
        "groups must be an integer, received ndarray": lambda: ops.group_normalization(X, X > 0),
        "groups must be an integer, received True": lambda: ops.group_normalization(X, True),
        "decimals must be an integer, received 2.5": lambda: ops.round(X, decimals=2.5),
        r"keepdims must be True or False, received \[1\]": lambda: ops.sum(X, keepdims=[1]),
        "mode must be a string, received ndarray": lambda: ops.pad(X, 1, mode=X),
        "threshold must be a number, received 'a'": lambda: ops.relu(keras.Input((2,)), threshold="a"),
        # inputs
        "a symbolic tensor's name must be a string, received ndarray": lambda: keras.KerasTensor((2,), name=X),
        "EarlyStopping: verbose must be a number, received 'auto'": lambda: callbacks.EarlyStopping(verbose="auto"),
        "ReduceLROnPlateau: verbose must be a number, received 'auto'": lambda: callbacks.ReduceLROnPlateau(
            verbose="auto"
        ),
        "ModelCheckpoint: verbose must be a number, received 'auto'": lambda: callbacks.ModelCheckpoint(
            "file", verbose="auto"
        ),
        "LearningRateScheduler: verbose must be a number, received 'auto'": lambda: callbacks.LearningRateScheduler(
            float, verbose="auto"
        ),
        r"a call of layer 'multi_head_attention.*' \(MultiHeadAttention\) lacks 'value': it takes \(query, value, key,": lambda: (
            L.MultiHeadAttention(2, 2)(np.ones((1, 2, 3)))
        ),
        r"unexpected argument 'outputs': it takes layers; use Model\(inputs, outputs\)": lambda: Sequential(
            [L.Dense(2)], outputs=X
        ),
        "expected a tensor or an array, received 5": lambda: L.add(5),
        "subscripts must be a string, received ndarray": lambda: ops.einsum(X, X),
        "pattern must be a string, received 7": lambda: ops.rearrange(7, 7),
        "expected numbers or booleans, received int": lambda: ops.add(X.astype("int32"), 2**70),
        r"expected a variable to write into, .* received ndarray of shape": lambda: backend.update_add(X, 1),
        r"wraps an optimizer such as Adam\(\), received 0.5": lambda: optimizers.LossScaleOptimizer(0.5),
        "RandomNormal: mean must be a number, received 'a'": lambda: initializers.RandomNormal("a"),
        "targets and sources are tensors or variables, received 5": lambda: keras.GradientTape().gradient(5, X),
        "switch: index must be an integer, received inf": lambda: ops.switch(np.inf, [len]),
        "statistics are Variables, received 0": lambda: ops.batch_normalization_training(X, 0, X[0], 1),
        # building
        r"unexpected argument 'inpuit_shape'. Did you mean 'input_shape'": lambda: L.Dense(2, inpuit_shape=(784,)),
        r"Dense.call.* unexpected keyword argument 'trainig'": lambda: L.Dense(2)(keras.Input((3,)), trainig=True),
        r"made of layers, received 'relu'": lambda: Sequential([L.Dense(2), "relu"]),
        r"expected a tensor or an array, received 3": lambda: L.Concatenate()(3),
        r"expected a tensor or an array, received 'abc'": lambda: dense()("abc"),
        r"has no value: it describes a model": lambda: np.exp(L.Input((3,))),
        r"has no value: it describes a model that is being built": lambda: 1 if L.Input((3,)) else 0,
        # compiling
        r"metrics must be a list": lambda: dense(optimizer="sgd", loss="mse", metrics="accuracy"),
        r"unexpected argument 'los'. Did you mean 'loss'": lambda: dense(optimizer="sgd", los="mse"),
        r"unexpected argument 'learning_rte'. Did you mean 'learning_rate'": lambda: optimizers.Adam(learning_rte=1),
        # data
        r"must hold numbers": lambda: fit(regression(), x=np.array([["a"] * 4] * 8)),
        r"callbacks must be Callback objects": lambda: fit(regression(), callbacks=[print]),
        r"NoName cannot be made .* 'name'\. Let its __init__": lambda: L.deserialize(
            L.serialize(NoName(3)), {"NoName": NoName}
        ),
        r"class_weight must be a dict": lambda: fit(classifier(), y=np.zeros(8), class_weight=[1, 2]),
        # ops
        r"expected numbers or booleans, received str": lambda: ops.add("a", 1.0),
        # values of another kind than an argument takes
        r"Ftrl: beta must be a number, 0 or more, received \(1, 2\)": lambda: optimizers.Ftrl(beta=(1, 2)),
        "LeakyReLU: negative_slope must be a number, not negative, received 'x'": lambda: L.LeakyReLU("x"),
        "a loss's name must be a string, received ndarray of shape": lambda: losses.Hinge(name=X),
        "AUC: thresholds must be numbers, received 3": lambda: metrics.AUC(thresholds=3),
        r"factor must be a number, received \(0,\)": lambda: callbacks.ReduceLROnPlateau(factor=(0,)),
        "Recall: class_id must be an integer, received 'a'": lambda: metrics.Recall(class_id="a"),
        "OneHotIoU: target_class_ids must be a tuple of integers": lambda: metrics.OneHotIoU(3, 0),
        "axis must be an integer, received an object of type list": lambda: ops.moments(X, deep()),
        "Dense: use_bias must be True or False, received ndarray of shape": lambda: L.Dense(2, use_bias=X),
        "convert_to_tensor: sparse must be True or False, received ndarray": lambda: ops.convert_to_tensor(X, sparse=X),
        "custom_objects must be a dict of classes": lambda: losses.deserialize("mse", custom_objects=X),
        "while_loop: the result of cond must be True or False, received ": lambda: ops.while_loop(
            lambda x: x, lambda x: x, X
        ),
        "CategoryEncoding: sparse must be True or False, received": lambda: L.CategoryEncoding(2, sparse=X),
        "Input: ragged must be True or False, received ndarray": lambda: L.InputLayer((2,), ragged=X),
        "has_input_vocabulary must be True or False, received": lambda: L.StringLookup(has_input_vocabulary=X),
        "Dense: lora_rank must be True or False, received ndarray": lambda: L.Dense(2, lora_rank=X),
        "a shape is a tuple of integers, .* received ndarray": lambda: keras.Input(batch_shape=np.array(2)),
        "a layer.s name must be a string, received ndarray": lambda: keras.Input((2,), name=X),
        "LossScaleOptimizer: dynamic must be True or False, received ndarray": lambda: optimizers.LossScaleOptimizer(
            optimizers.SGD(), dynamic=X
        ),
        "must be a number, 0 or more, received ndarray": lambda: optimizers.Adagrad(initial_accumulator_value=X[0, :1]),
        "CSVLogger: append must be True or False, received": lambda: callbacks.CSVLogger("a", append=X),
        "EarlyStopping: patience must be a number, received": lambda: callbacks.EarlyStopping(patience=X),
        "ModelCheckpoint: save_best_only must be True or False, received": lambda: callbacks.ModelCheckpoint(
            "a.keras", save_best_only=X
        ),
        "schedule must be a function of .* received an object": lambda: callbacks.LearningRateScheduler(deep()),
        "in_train_phase: training must be True or False, received ndarray": lambda: backend.in_train_phase(
            X, X, training=X
        ),
        "ExponentialDecay: decay_steps must be a number above 0, received Decimal": lambda: (
            optimizers.schedules.ExponentialDecay(0.1, decimal.Decimal("0.1"), 0.9)
        ),
        "SGD: <function .* must return a learning rate, a number, received None": lambda: optimizers.SGD(
            lambda: None
        ).apply([np.ones(2)], [keras.Variable(np.ones(2))]),
        "EinsumDense: bias_axes must be letters or None, received 2": lambda: L.EinsumDense(
            "ab,bc->ac", 3, bias_axes=2
        ),
        "output_shape must be an integer, or several, received False": lambda: L.EinsumDense("ab,bc->ac", False),
        r"expected a dense array, received Sparse .*: pass its toarray\(\)": lambda: L.Multiply()([X, SPARSE]),
        "shuffle must be True, False or 'batch', received ndarray": lambda: regression().fit(X, Y, shuffle=X),
        "Add: autocast must be True or False, received ndarray": lambda: L.Add(autocast=X),
        "takes a list of arrays as weights, received 3.0": lambda: L.Dense(2, weights=3.0)(X),
        r"the text must be JSON in a string, received \[None\]": lambda: model_from_json([None]),
        "tri: N must be an integer, received 'a'": lambda: ops.tri("a"),
        "fori_loop: body_fun must be a function, received 5": lambda: ops.fori_loop(0, 3, 5, 1),
        "normal: stddev must be a number, received 'a'": lambda: keras.random.normal((2,), stddev="a"),
        # arguments that a base class takes for several layers
        r"^Conv2D.__init__\(\) missing 1 required positional argument: 'kernel_size'": lambda: L.Conv2D(3),
        r"^RandomHue.__init__\(\) missing 1 required positional argument: 'factor'": lambda: L.RandomHue(),
    },
    ValueError: {
        # inputs
        r"\(Flatten\) takes 1 input, received 2: call it on each of them": lambda: L.Flatten()([X, X]),
        r"\(Dense\) takes 1 input, received 2": lambda: L.Dense(2)([X, X]),
        r"\(Reshape\) takes 1 input, received 2": lambda: L.Reshape((2, 2))([X, X]),
        r"\(LayerNormalization\) takes 1 input, received 2": lambda: L.LayerNormalization()([X, X]),
        "expected a tensor, received 5": lambda: L.Dense(2)(5),
        r"\(Dense\) takes a tensor, received a dict with the keys \['a'\]: pass the tensor": lambda: L.Dense(2)(
            {"a": X}
        ),
        r"\(GRU\) takes a tensor, received a dict with the keys \['a'\]": lambda: L.GRU(2)({"a": X[None]}),
        r"\(Bidirectional\) .* expected a tensor, received None": lambda: L.Bidirectional(L.GRU(2))(None),
        r"\(EinsumDense\) .* expected a tensor, received None": lambda: L.EinsumDense("ab,bc->ac", 2)(None),
        r"\(StackedRNNCells\) .* expected a tensor, received None": lambda: L.StackedRNNCells([L.GRUCell(2)])(
            None, None
        ),
        r"\(TimeDistributed\) .* expected a tensor, received None": lambda: L.TimeDistributed(L.Dense(2))(None),
        r"\(Add\) merges a list of inputs, received lists in lists, of shapes": lambda: L.Add()([[X]]),
        r"needs two or more inputs of one shape, .* received \[None\]": lambda: L.HashedCrossing(4)([[X]]),
        r"needs two or more inputs of one shape, .* received \[\]": lambda: L.HashedCrossing(4)(None),
        r"axis -1, which an input of shape \(\) lacks": lambda: L.LayerNormalization()(X[0, 0]),
        r"wraps a recurrent layer such as LSTM\(32\), received None": lambda: L.Bidirectional(None),
        r"needs sequences of one step or more, received shape \(8, 0, 4\)": lambda: L.LSTM(2)(X[:, None][:, :0]),
        "needs sequences of one step or more": lambda: L.RNN(L.GRUCell(2))(X[:, None][:, :0]),
        r"lengths of at least 1, received shape \(8, 0, 4\)": lambda: L.Conv1DTranspose(2, 3)(X[:, None][:, :0]),
        r"dstack: expected a list of at least one tensor, received tuple \(\)": lambda: ops.dstack(()),
        "no int8 lies between 300 and 400": lambda: ops.clip(X.astype("int8"), 300, 400),
        "-1 does not fit into uint8": lambda: ops.full((2,), -1, "uint8"),
        "no slice to start with, give an initializer": lambda: backend.foldl(ops.add, X[:0]),
        "samples along a first axis": lambda: backend.batch_flatten(1.0),
        "out of range for a tensor of 0 axes": lambda: losses.sparse_categorical_crossentropy(1, X[0, 0]),
        "axis 9 is out of range": lambda: losses.sparse_categorical_crossentropy(1, X, axis=9),
        r"predictions of shape \(\)": lambda: metrics.sparse_categorical_accuracy(1, X[0, 0]),
        "percentile: q must lie between 0 and 100, received -1": lambda: ops.percentile(X, -1),
        "nanquantile: q must lie between 0 and 1, received": lambda: ops.nanquantile(X, [0.5, np.nan]),
        "a signature looks like": lambda: ops.vectorize(abs, signature=5),
        "need a height and a width of 1 or more": lambda: ops.image.resize(X[None, :, :0, None], (2, 2)),
        r"lists of numbers of one length, received \[\[1, 2\], \[3\]\]": lambda: ops.add([[1, 2], [3]], 1),
        "dtype must be a dtype of numbers or booleans, received ndarray of shape": lambda: ops.cast(X, X),
        "dtype must be a dtype of numbers or booleans, received ndarray": lambda: metrics.Mean(dtype=X),
        "reduction must be one of .* or None, received ndarray": lambda: losses.Huber(reduction=X),
        r"precision must be a number from 0 to 1, received \[1\]": lambda: metrics.RecallAtPrecision([1]),
        "'channels_first', received ndarray of shape": lambda: L.MaxPooling2D(data_format=X),
        r"expected ndim=2, received shape \(\)": lambda: L.GRUCell(2)(X[0, 0], X[:, :2]),
        r"expected min_ndim=1, received shape \(\)": lambda: L.Reshape(())(X[0, 0]),
        "seed must be an integer, a SeedGenerator or None": lambda: initializers.Orthogonal(seed={0: 1}),
        # building
        r"units must be a positive integer, received 0": lambda: L.Dense(0),
        r"dtype of numbers or booleans, received 'string'": lambda: L.Dense(2, dtype="string"),
        r"unknown activation: 'rleu'. Did you mean 'relu'": lambda: L.Dense(2, activation="rleu"),
        r"unknown initializer: 'glorot'": lambda: L.Dense(2, kernel_initializer="glorot"),
        r"unknown regularizer: 'l3'": lambda: L.Dense(2, kernel_regularizer="l3"),
        r"unknown constraint: 'maxnorm2'": lambda: L.Dense(2, kernel_constraint="maxnorm2"),
        r"dtype of numbers or booleans, received 'flaot32'": lambda: L.Dense(2, dtype="flaot32"),
        r"dtype must be .*'mixed_float8'": lambda: L.Dense(2, dtype="mixed_float8"),
        r"shape or batch_shape, received both": lambda: L.Input((3,), batch_shape=(2, 3)),
        r"needs the size of the last axis": lambda: L.Dense(2)(L.Input((3, None))),
        r"axis must consist of integers, received \(None, None\)": lambda: L.Normalization(axis=(None, None)),
        r"arange: booleans have two values": lambda: ops.arange(10, dtype="bool"),
        r"the shape of a weight must be a tuple of integers": lambda: keras.Variable("glorot_uniform", shape=-1),
        r"needs the size of the last axis, received shape \(\)": lambda: L.Dense(2).build(()),
        r"needs inputs of 3 axes, received shape \(\)": lambda: L.LocallyConnected1D(2, 3).build(()),
        r"expected min_ndim=2": lambda: L.Dense(2, input_shape=(4,), name="d")(L.Input(())),
        r"shape must be a tuple of integers or None, received 4": lambda: L.Input(4),
        r"Input needs shape=.* or batch_shape=": lambda: L.Input(),
        r"expected ndim=3, received shape \(None, 4\)": lambda: L.LSTM(3)(L.Input((4,))),
        r"expected ndim=4, received shape \(None, 8, 8\)": lambda: L.Conv2D(3, 3)(L.Input((8, 8))),
        r"kernel_size=\(9, 9\) leaves nothing of an input of shape \(None, 4, 4, 1\)": lambda: L.Conv2D(3, 9)(
            L.Input((4, 4, 1))
        ),
        r"padding must be 'valid' or 'same', received 'sane'": lambda: L.Conv2D(3, 3, padding="sane"),
        r"rate must be a number from 0 to 1, received 1.5": lambda: L.Dropout(1.5),
        r"input_dim must be a positive integer, received 0": lambda: L.Embedding(0, 3),
        r"cannot reshape an input of shape \(None, 4\) to \(3, 3\)": lambda: L.Reshape((3, 3))(L.Input((4,))),
        r"dims must be 1 to n in some order, received \(0, 1\)": lambda: L.Permute((0, 1)),
        r"must agree in all axes but axis -1": lambda: L.concatenate([L.Input((2, 3)), L.Input((3, 3))]),
        r"do not broadcast": lambda: L.add([L.Input((2,)), L.Input((3,))]),
        r"merges a list of inputs, received a single shape": lambda: L.Add()(L.Input((3,))),
        r"must be unique: 'a'": lambda: Sequential([L.Dense(2, name="a"), L.Dense(2, name="a")]),
        r"\(LSTM\) .* expected ndim=3, received shape \(None, 4\)": lambda: Sequential(
            [L.Dense(4, input_shape=(3,)), L.LSTM(2)]
        ),
        r"both inputs and outputs": lambda: Model(inputs=L.Input((3,))),
        r"must be symbolic tensors": lambda: Model(X, Y),
        r"no layer 'dens'": lambda: dense().get_layer("dens"),
        "is not built yet: call it": lambda: Sequential([L.Dense(2)]).count_params(),
        r"has 2 weights, received 1": lambda: dense().set_weights([np.ones((4, 2))]),
        r"has shape \(4, 2\), received .* \(3, 2\)": lambda: dense().set_weights([np.ones((3, 2)), np.ones(2)]),
        r"expected a tensor, received 'abc'": lambda: L.Dense(2)("abc"),
        # compiling
        r"unknown optimizer: 'adm'. Did you mean 'adam'": lambda: dense(optimizer="adm"),
        r"unknown loss: 'msee'. Did you mean": lambda: dense(optimizer="sgd", loss="msee"),
        r"unknown metric: 'acuracy'": lambda: dense(optimizer="sgd", loss="mse", metrics=["acuracy"]),
        r"nothing to minimise": lambda: fit(dense(optimizer="sgd", loss=None)),
        r"'frist', which is not an output.*Did you mean 'first'": lambda: two_outputs(loss={"frist": "mse"}),
        r"loss has 3 entries but the model has 2 outputs": lambda: two_outputs(loss=["mse"] * 3),
        r"loss_weights must be a list or a dict": lambda: two_outputs(loss_weights=0.5),
        r"learning_rate must be >= 0, received -1": lambda: optimizers.SGD(learning_rate=-1),
        r"momentum must be a number from 0 to 1, received 2": lambda: optimizers.SGD(momentum=2),
        r"at most one of clipnorm, clipvalue and global_clipnorm, received clipnorm=1, clipvalue=1": lambda: (
            optimizers.Adam(clipnorm=1, clipvalue=1)
        ),
        # data
        r"expects shape \(None, 4\), received \(None, 5\)": lambda: fit(regression(), np.ones((8, 5))),
        r"expects shape \(None, 4\)": lambda: fit(regression(), np.ones((8, 4, 4))),
        r"expects shape \(None, 4\), received \(4,\) for a single sample: pass x\[None\], a batch of one": lambda: (
            dense().predict(np.ones(4))
        ),
        r"received \(4,\) for a single sample: pass x\[None\]": lambda: dense()(np.ones(4)),
        r"same number of samples, received \[5, 8\]": lambda: fit(regression(), y=Y[:5]),
        r"the targets' shape \(8, 3\) does not match the predictions' \(8, 2\)": lambda: fit(
            regression(), y=np.ones((8, 3))
        ),
        r"x is missing: pass an array": lambda: fit(regression(), x=None),
        r"needs targets, received None": lambda: fit(regression(), y=None),
        r"the data has no samples": lambda: fit(regression(), x=X[:0], y=Y[:0]),
        r"differ in length": lambda: fit(regression(), x=[[1, 2], [3]]),
        r"batch_size must be a positive integer, received 0": lambda: fit(regression(), batch_size=0),
        r"epochs must be a non-negative integer": lambda: fit(regression(), epochs=-1),
        r"validation_split must be between 0 and 1": lambda: fit(regression(), validation_split=1.5),
        r"leaves one of the two parts empty": lambda: fit(regression(), validation_split=0.95),
        r"the loss of output .* needs targets, received None": lambda: fit(regression(), validation_data=X),
        r"same number of samples": lambda: fit(regression(), sample_weight=np.ones(3)),
        r"sample_weight holds NaN or infinity in 8 of 8 rows": lambda: fit(
            regression(), sample_weight=np.full(8, np.nan)
        ),
        r"from 3 to 3, but the output has 3 units, so they must be 0 to 2": lambda: fit(classifier(), y=np.full(8, 3)),
        r"class numbers from -1 to -1, .* 0 to 2": lambda: fit(classifier(), y=np.full(8, -1)),
        r"shape \(8,\) does not match the predictions' \(8, 3\).* one-hot vectors": lambda: fit(
            classifier("categorical_crossentropy"), y=np.zeros(8)
        ),
        r"must be the same \(one unit for yes or no": lambda: fit(classifier("binary_crossentropy"), y=np.zeros(8)),
        r"from 0 to 1, but the output has one unit: for yes or no .* use sigmoid and binary_crossentropy": lambda: fit(
            classifier(units=1), y=np.arange(8) % 2
        ),
        r"2 outputs \['first', 'second'\]": lambda: fit(two_outputs(), y=Y),
        r"Did you mean 'first'": lambda: fit(two_outputs(), y={"frist": Y, "second": Y[:, :1]}),
        r"must be a dict by output name": lambda: fit(two_outputs(), y=[Y, Y[:, :1]], class_weight={0: 1.0}),
        r"2 inputs \['left', 'right'\]": lambda: fit(two_inputs()),
        r"\['right'\] are missing: .* Did you mean 'right'": lambda: fit(two_inputs(), x={"left": X, "rigth": X}),
        r"\['right'\] are missing": lambda: fit(two_inputs(), x={"left": X}),
        r"yielded no batch": lambda: dense().predict(iter([])),
        r"holds the states of a batch of 4 samples, .* received a batch of 2": lambda: fit(
            stateful(), np.ones((6, 3, 5)), np.ones((6, 2))
        ),
        r"classes from 0 to num_classes - 1 = 1, received 0 to 3": lambda: keras.utils.to_categorical(
            [0, 3], num_classes=2
        ),
        # files
        r"save_format must be 'keras' or 'h5'": lambda: dense().save("m", save_format="tf"),
        r"cannot save as 'm.onnx': ONNX files are written by model.export": lambda: dense().save("m.onnx"),
        r"sharded weights .* by model.save_weights\(..., max_shard_size=2\)": lambda: dense().save_weights(
            "m.weights.json"
        ),
        r"the text is not JSON: Expecting property name": lambda: model_from_json("{"),
        r"unknown layer: 'Evil'": lambda: model_from_json('{"class_name": "Evil", "config": {}}'),
        # ops
        r"matmul: the last axis of x1 .* must match, received shapes \(2, 3\) and \(2, 3\)": lambda: ops.matmul(
            np.ones((2, 3)), np.ones((2, 3))
        ),
        r"reshape: cannot put 6 elements of shape \(6,\) into shape \(4, 2\)": lambda: ops.reshape(np.ones(6), (4, 2)),
        r"a value for each sample, received a single number, 3": lambda: dense().predict(3),
        r"y must be an array .* a single number, 2": lambda: fit(dense(loss="mse"), X[:1], 2.0),
        r"sample_weight must be an array .* a single number": lambda: fit(
            dense(loss="mse"), X[:1], Y[:1], sample_weight=1.0
        ),
        r"a masked array.* fill its missing values": lambda: dense().predict(np.ma.masked_array(X, X > 0)),
        r"input .* cannot be made one array: its rows differ in length": lambda: dense().predict(
            [np.ones(4), np.ones(3)]
        ),
        r"x cannot be made one array: its rows differ in length": lambda: Sequential([L.Dense(2)]).predict(
            [[1.0], [1.0, 2.0]]
        ),
        r"its rows differ in length": lambda: Doubling().predict([[1.0], [1.0, 2.0]]),
        r"x holds no array, received \[\]": lambda: Doubling().predict([]),
        r"has no input name yet .* received \['x'\]": lambda: Sequential([L.Dense(2)]).predict({"x": X}),
        r"^the data has no samples": lambda: Halves().predict(X[:0]),
        r"same number of samples, received \[3, 8\]": lambda: Halves().predict([X, X[:3]]),
        r"sample_weight of shape \(8, 0, 2\) does not fit": lambda: fit(
            classifier(), y=np.zeros(8, int), class_weight={0: 2.0}, sample_weight=np.ones((8, 3, 2))[:, :0]
        ),
        r"sample_weight of shape \(3, 2\) does not fit class_weight's weights of targets, of shape \(8,\)": lambda: fit(
            dense(loss="mse"), class_weight={0: 2.0}, sample_weight=np.ones((3, 2))
        ),
        r"holds numbers from 1 to 4294967297, but it has dtype int32": lambda: words().fit(
            np.array([[1, 2**32 + 1]]), np.ones(1), verbose=0
        ),
        r"from 1 to 5, but layer 'table' looks them up in a table of 5 rows, so they must be 0 to 4": lambda: (
            words().fit(np.array([[1, 5]]), np.ones(1), verbose=0)
        ),
        r"9223372036854775808, .* dtype int32": lambda: words().predict(np.array([[1, 2**63]], np.uint64)),
        r"from 1.0 to 1e\+20, .* dtype int32": lambda: words().predict(np.array([[1.0, 1e20]])),
        r"18446744073709551615, .* 0 to 2": lambda: fit(classifier(), y=np.full(8, 2**64 - 1, np.uint64)),
        r"concatenate: shapes must agree except along axis 0, received \[\(2, 2\), \(3, 3\)\]": lambda: ops.concatenate(
            [np.ones((2, 2)), np.ones((3, 3))], axis=0
        ),
        r"sum: axis 5 is out of range for a tensor of 2 axes": lambda: ops.sum(np.ones((2, 2)), axis=5),
        r"floatx must be one of \('float32', 'float64', 'float16', 'bfloat16'\), received 'float8'": lambda: (
            keras.config.set_floatx("float8")
        ),
        r"add: shapes \(3,\), \(4,\) do not broadcast": lambda: keras.Variable(np.ones(3)) + np.ones(4),
        # values of another kind than an argument takes
        "dtype must be a dtype of numbers or booleans, received 'nan'": lambda: losses.Hinge(dtype="nan"),
        "num_thresholds must be at most 1000000, received 10": lambda: metrics.AUC(num_thresholds=10**9),
        "exclude_layers must be patterns of paths, received 2": lambda: optimizers.Muon(exclude_layers=(2, 2)),
        r"value_range must be two numbers that differ, received \(2, 2\)": lambda: L.RandomHue(0.1, (2, 2)),
        "lists of numbers of one length, received an object of type list": lambda: L.Rescaling(deep()),
        "received an object of type list": lambda: L.Normalization(mean=deep(), variance=1.0),
        "a confusion matrix of 1000000000 classes does not fit into memory": lambda: metrics.MeanIoU(10**9),
        r"Zeros: the shape of a weight must be .*, received \(2.5, 3\)": lambda: initializers.Zeros()((2.5, 3)),
        r"shape \(2, 3\) does not": lambda: initializers.HeNormal(input_axes=[7], output_axes=[0])((2, 3)),
        "Dense: units must be a positive integer, received <class 'numpy.float32'>": lambda: L.Dense(np.float32),
        "Dense: units must be a positive integer, received an object of type list": lambda: L.Dense(deep()),
        "metric must be a name, .* received an object of type list": lambda: metrics.get(deep()),
        "initial_epoch must be a non-negative integer, received an object of type list": lambda: regression().fit(
            X, Y, initial_epoch=deep()
        ),
        r"Dense: units must be a positive integer below 2\*\*63, received 10000": lambda: L.Dense(10**30),
        "an array of shape .* more than any memory has": lambda: L.LSTM(2**62)(np.ones((2, 4, 3))),
        "resizing an axis .* more than any memory has": lambda: L.Resizing(3, 2**62)(np.ones((1, 2, 2, 1))),
        r"must be an integer >= 2 and below 2\*\*63 or None, received 1000": lambda: optimizers.SGD(
            gradient_accumulation_steps=10**30
        ),
        r"mask_token must be an integer that int64 holds, received \[3": lambda: L.IntegerLookup(mask_token=[3]),
        "oov_token must be an integer that int64 holds, received 922": lambda: L.IntegerLookup(oov_token=2**63),
        "needs integers as terms, received 922": lambda: L.IntegerLookup(vocabulary=[2**63]),
        "wraps a recurrent layer .*, received ndarray": lambda: L.Bidirectional(L.LSTM(2), backward_layer=X),
        "output_mode must be one of .* received ndarray": lambda: L.TextVectorization(output_mode=X),
        "vocabulary_dtype must be .* received ndarray": lambda: L.StringLookup(vocabulary_dtype=X),
        "vocabulary must be a list of terms, received": lambda: L.StringLookup(vocabulary=[[1, 2], [3]]),
        "dtype must be a dtype of numbers or booleans, received an object": lambda: L.Dense(2, dtype=deep()),
        "takes arrays as weights, received an object of type list": lambda: L.Dense(2, weights=deep())(X),
        "batch_shape must be a tuple of integers or None": lambda: L.Dense(2, batch_shape=np.array(2)),
        "Variable: aggregation must be one of 'sum', .* received": lambda: keras.Variable(1.0, aggregation=X),
        r"a dtype of numbers or booleans, received ndarray of shape \(8, 4\)": lambda: keras.quantizers.AbsMaxQuantizer(
            output_dtype=X
        ),
        "save_freq must be 'epoch' or a positive number of batches, received ndarray": lambda: (
            callbacks.ModelCheckpoint("a.keras", save_freq=X)
        ),
        r"strides must be a positive integer below 2\*\*63, received 922": lambda: L.Conv1D(2, 2, strides=2**63),
        "AUC: num_labels must be a positive integer, received ndarray": lambda: metrics.AUC(num_labels=X),
        "thresholds must be numbers from 0 to 1, received ndarray": lambda: metrics.Precision(thresholds=np.array(2.5)),
        "must have a size for each axis of the input": lambda: L.AlphaDropout(0.5, noise_shape=(2, 1, 1))(
            X, training=True
        ),
        "StringLookup: no vocabulary can be read from the file 'no such file': No such file": lambda: L.StringLookup(
            vocabulary="no such file"
        ),
        "MaxNorm: axis cannot be written": lambda: constraints.MaxNorm(axis=deep()).get_config(),
        "takes 1 input, received 2": lambda: L.Softmax()([X, X], mask=X),
        r"\(ReversibleEmbedding\) takes a tensor, received a list of one": lambda: L.ReversibleEmbedding(4, 2)([X]),
        "Sequential '.*' takes one array or tensor, received": lambda: Sequential()([X, X]),
        "dtype must be a dtype of numbers or booleans, received an object of type list": lambda: (
            losses.MeanSquaredError(dtype=deep())
        ),
        "pooling an axis of 4 to 1099511627776 takes more than any memory": lambda: L.AdaptiveMaxPooling1D(2**40)(
            np.ones((1, 4, 1))
        ),
        "callbacks are lists that are nested too deeply": lambda: callbacks.CallbackList(deep()),
        "activation must be a name, an object, a function": lambda: L.Activation(np.float32),
        r"\(AveragePooling1D\) takes a tensor, received a list of one": lambda: L.AveragePooling1D()([X[None]]),
        "Flatten.compute_output_shape takes the shape .*, received 3": lambda: L.Flatten().compute_output_shape(3),
        r"Permute.compute_output_shape .* received \(0,\)": lambda: L.Permute((1, 2)).compute_output_shape((0,)),
        "NonNeg.from_config takes the dict .* received 1.5": lambda: constraints.NonNeg.from_config(1.5),
        "Sequential.from_config takes .*KeyError: 'layers'": lambda: Sequential.from_config({"name": "a"}),
        "a number, or lists of numbers of one length, received an object of type list": lambda: ops.relu(deep()),
        "a list is nested too deeply, or contains itself": lambda: keras.tree.flatten(deep()),
        "one_hot: num_classes must be an integer of at least 0": lambda: ops.one_hot([0], -1),
        r"eye: sizes must not be negative, received shape \(-1, -1\)": lambda: ops.eye(-1),
        "sigma must be two numbers, received 0.1": lambda: ops.image.gaussian_blur(X[..., None], sigma=0.1),
        "body must return 1 loop variables, received 3": lambda: ops.while_loop(lambda x: True, lambda x: 3, (X,)),
        r"fill_value of shape \(2,\) does not broadcast to shape \(2, 3\)": lambda: ops.full((2, 3), [1, 2]),
        r"a tensor of shape \(3,\) is not a single number": lambda: float(ops.ones(3)),
        "verbose must be 0, 1, 2 or 'auto'": lambda: regression().fit(X, Y, verbose="x"),
        "batch_size must be a positive integer, received 18446": lambda: fit(regression(), batch_size=2**64),
    },
    RuntimeError: {
        # compiling
        r"must compile the model before fit": lambda: fit(dense()),
        r"must compile the model before evaluate": lambda: dense().evaluate(X, Y),
    },
    FileNotFoundError: {
        # files
        r"no file 'nowhere.keras'": lambda: load_model("nowhere.keras")
    },
    AttributeError: {
        # a missing super().__init__()
        r"Forgetful.__init__ must call super\(\).__init__\(\) before anything else": lambda: Forgetful(),
        r"Empty.__init__ must call super": lambda: repr(Empty()),
        r"Empty.__init__ must call super\(\)": lambda: Empty()(X),
        r"Empty.__init__ must call super\(\).__init__\(\)": lambda: Sequential([Empty()]),
        # arguments that a base class takes for several layers
        r"EmptyModel.__init__ must call super": lambda: EmptyModel()(X),
        r"EmptyModel.__init__ must call super\(\)": lambda: EmptyModel().summary(),
        r"EmptyModel.__init__ must call super\(\).__init__\(\)": lambda: EmptyModel().compile("sgd", "mse"),
        r"ForgetfulMetric.__init__ must call super": lambda: ForgetfulMetric(),
        r"EmptyLoss.__init__ must call super": lambda: EmptyLoss()(X, X),
    },
}


@pytest.mark.parametrize("weight", [None, "x", float("nan"), 1e300, np.ones(1), 1j])
def test_class_weights_are_finite_numbers(weight):
    message = "class_weight's values must be finite numbers, received .* for class 0"
    with pytest.raises(ValueError, match=message) as raised:
        fit(classifier(), y=np.zeros(8, int), class_weight={0: weight})
    assert len(frames_of_nbkeras(raised.value)) <= 2


@pytest.mark.parametrize(
    ("error", "message"), [(error, message) for error, mistakes in MISTAKES.items() for message in mistakes]
)
def test_mistakes_are_explained(error, message):
    mistake = MISTAKES[error][message]
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
            fit(regression(), batch)
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
            losses.get(name)(np.ones((2, 3)), np.ones((2, 4)))
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
        lambda: metrics.AUC(num_thresholds=HUGE),
        lambda: metrics.BinaryIoU([HUGE]),
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
