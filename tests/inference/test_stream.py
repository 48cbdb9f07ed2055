"""Streams: step by step a model gives what predict gives for the whole sequences; what cannot go step by step says why."""

import itertools
import threading

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.inference import Form, Part, streaming_graph

STEPS = 5
# all ways into calls
CUTS = [cuts for count in range(STEPS) for cuts in itertools.combinations(range(1, STEPS), count)]
FEW = [(), (1, 2, 3, 4), (2,), (1, 4)]
random = np.random.default_rng(0)


def sequences(*shape, dtype="float32"):
    return random.normal(size=shape or (2, STEPS, 3)).astype(dtype)


def numbers(high, *shape):
    return random.integers(1, high, shape or (2, STEPS)).astype("int32")


def chain(*made, shape=(None, 3), dtype=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *made])


def functional(call, *shapes):
    inputs = [keras.Input(shape, name=name) for shape, name in zip(shapes or ((None, 3),), "xyz")]  # noqa: B905
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], call(*inputs))


def leaves(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def check(model, x=None, cuts=FEW, tolerance=1e-5, has_steps=True, **options):
    """Each call of a stream gives what predict gives for the steps up to its last one. x: a list for several inputs."""
    x = sequences() if x is None else x
    stream, wholes = model.stream(**options), {}
    first = x[0] if isinstance(x, list) else x
    rows, steps = first.shape[:2]

    def part(begin, end):
        return [x[0][:, begin:end], *x[1:]] if isinstance(x, list) else x[:, begin:end]

    for each in cuts:
        state = stream.initial(rows)
        for begin, end in zip((0, *each), (*each, steps), strict=True):
            y, state = stream(part(begin, end), state)
            if end not in wholes:
                wholes[end] = leaves(model.predict_on_batch(part(0, end)))
            for own, whole in zip(leaves(y), wholes[end], strict=True):
                whole = whole[:, begin:] if has_steps else whole
                assert own.dtype == whole.dtype
                np.testing.assert_allclose(own, whole, rtol=tolerance, atol=tolerance)
            assert state.shape == (rows, stream.state_size) and state.dtype == stream.dtype
    return stream


class Plain:
    """A cell whose output is not its state."""

    state_size, output_size = [2, 3], 2

    def call(self, inputs, states):
        a, b = states
        new = ops.tanh(ops.add(ops.multiply(a, 0.5), inputs[:, :2]))
        return ops.add(new, b[:, :2]), [new, ops.add(b, ops.tanh(inputs[:, :3]))]


class Begun(layers.SimpleRNNCell):
    """A cell whose sequences do not begin with zeros."""

    def get_initial_state(self, batch_size=None):
        return [ops.full((batch_size, self.units), 0.5)]


# -------------------- recurrent layers --------------------


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda last: layers.LSTM(4, return_sequences=not last),
        lambda last: layers.GRU(4, return_sequences=not last),
        lambda last: layers.GRU(4, reset_after=False, return_sequences=not last),
        lambda last: layers.SimpleRNN(4, return_sequences=not last),
        lambda last: layers.LSTM(4, activation=ops.softsign, return_sequences=not last),  # step by step
        lambda last: layers.RNN([layers.GRUCell(4), Plain()], return_sequences=not last),
        lambda last: layers.RNN(Begun(3), return_sequences=not last),
        lambda last: layers.RNN([layers.GRUCell(4), layers.LSTMCell(2)], return_sequences=not last),
    ],
)
def test_recurrent_layers(make, is_last):
    check(chain(make(False), make(is_last), layers.Dense(2)), sequences(), CUTS, has_steps=not is_last)


def test_a_stateful_layer_keeps_its_own_states():
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3)), layers.LSTM(4, return_sequences=True, stateful=True)]
    )
    x = sequences()
    whole = model.predict(x)
    model.reset_states()
    first = model.predict(x[:, :2])
    stream = model.stream()
    y, state = stream(x[:, :2], stream.initial(2))
    np.testing.assert_allclose(y, first, atol=1e-6)
    y, _ = stream(x[:, 2:], state)
    stream(x[:1], stream.initial(1))  # any number of rows
    np.testing.assert_allclose(y, whole[:, 2:], atol=1e-6)
    np.testing.assert_allclose(model.predict(x[:, 2:]), whole[:, 2:], atol=1e-6)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_conv_lstm(data_format, is_last):
    made = layers.ConvLSTM1D(2, 3, data_format=data_format, return_sequences=not is_last)
    check(chain(made, shape=(None, 6, 5)), sequences(2, STEPS, 6, 5), has_steps=not is_last)
    made = layers.ConvLSTM2D(2, 2, padding="same", data_format=data_format, return_sequences=not is_last)
    check(chain(made, shape=(None, 4, 5, 3)), sequences(2, STEPS, 4, 5, 3), has_steps=not is_last)


def test_states_as_outputs():
    model = functional(lambda x: layers.LSTM(4, return_state=True)(x))
    check(model, has_steps=False)
    model = functional(lambda x: layers.Dense(2)(layers.GRU(4, return_state=True, return_sequences=True)(x)[1]))
    check(model, has_steps=False)


def test_an_initial_state_that_is_given():
    def call(x, start):
        first = layers.Dense(4)(start)
        y = layers.LSTM(4, return_sequences=True)(x, initial_state=[first, start])
        return layers.GRU(4, return_sequences=True)(y, initial_state=first)

    stream = check(functional(call, (None, 3), (4,)), [sequences(), sequences(2, 4)], CUTS)
    assert stream.state_size == 1 + 4 + 4 + 4


def test_layers_after_the_last_step():
    def call(x):
        last = layers.LSTM(4)(x)
        steps = layers.RepeatVector(3)(layers.Dense(4)(last))  # an ordinary computation from the last output
        return layers.Flatten()(layers.Bidirectional(layers.GRU(2, return_sequences=True))(steps))

    check(functional(call), has_steps=False)


def test_shared_layers_have_states_for_each_call():
    shared = layers.LSTM(3, return_sequences=True)

    def call(x):
        return shared(shared(x))

    stream = check(functional(call), cuts=CUTS)
    assert stream.state_size == 12


def test_nested_models():
    inner = chain(layers.GRU(3, return_sequences=True), layers.Dense(3))
    fixed = functional(lambda x: [layers.Conv1D(3, 2, padding="causal")(x), layers.LSTM(2)(x)], (STEPS, 3))

    def call(x):
        steps, last = fixed(inner(inner(x)))
        return layers.Dense(2)(steps), last

    model = functional(call, (STEPS, 3))
    x, stream = sequences(), model.stream()
    state = stream.initial(2)
    for step in range(STEPS):
        (y, last), state = stream(x[:, step], state)
    whole = model.predict(x)
    np.testing.assert_allclose(y, whole[0][:, -1], atol=1e-5)
    np.testing.assert_allclose(last, whole[1], atol=1e-5)


# -------------------- masks --------------------

PADDED = np.array([[0, 0, 3, 0, 2], [1, 2, 0, 0, 0], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]], "int32")


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.LSTM(4, **options),
        lambda **options: layers.GRU(4, activation=ops.softsign, **options),
        lambda **options: layers.RNN(Plain(), **options),
        lambda **options: layers.RNN([layers.GRUCell(4), Plain()], **options),
        lambda **options: layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)], **options),
    ],
)
def test_masked_steps_leave_states(make, zero, is_last):
    model = chain(
        layers.Embedding(6, 3, mask_zero=True),
        make(return_sequences=not is_last, zero_output_for_mask=zero),
        shape=(None,),
        dtype="int32",
    )
    check(model, PADDED, CUTS, has_steps=not is_last)


def test_masking_and_layers_that_use_masks():
    x = sequences(4, STEPS, 3) * (PADDED > 0)[:, :, None]

    def call(x):
        masked = layers.Masking()(x)
        y = layers.GRU(3, return_sequences=True)(masked)
        y = layers.Multiply()([y, masked])
        y = layers.Concatenate()([y, layers.TimeDistributed(layers.Dense(2))(y)])
        return layers.LSTM(2, return_sequences=True)(layers.LayerNormalization()(y))

    check(functional(call), x, CUTS)


def test_a_mask_as_an_argument():
    def call(x, mask):
        return layers.GRU(3)(x, mask=mask)

    inputs = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    model = keras.Model(inputs, call(*inputs))
    x, mask = sequences(4, STEPS, 3), PADDED > 0
    stream = model.stream()
    state = stream.initial(4)
    for begin, end in ((0, 2), (2, 3), (3, 5)):
        y, state = stream([x[:, begin:end], mask[:, begin:end]], state)
        np.testing.assert_allclose(y, model.predict([x[:, :end], mask[:, :end]]), atol=1e-6)


# -------------------- convolutions --------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Conv1D(4, 3, padding="causal", activation="relu"),
        lambda: layers.Conv1D(4, 2, padding="causal", dilation_rate=3, use_bias=False),
        lambda: layers.Conv1D(6, 2, padding="causal", groups=3, activation="softmax"),
        lambda: layers.Conv1D(4, 3, padding="causal", lora_rank=2),
        lambda: layers.SeparableConv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh"),
        lambda: layers.DepthwiseConv1D(3, padding="causal", depth_multiplier=2),
        lambda: layers.Conv1D(4, 1, padding="same"),
        lambda: layers.Conv1D(4, 1),
    ],
)
def test_convolutions(make):
    check(chain(make(), make()), cuts=CUTS)


def test_convolutions_of_each_step():
    model = chain(
        layers.Conv2D(2, (1, 3), padding="same", strides=(1, 2)), layers.Conv2D(2, (1, 2)), shape=(None, 6, 2)
    )
    check(model, sequences(2, STEPS, 6, 2))


def test_pooling_of_all_steps_so_far():
    check(chain(layers.GlobalMaxPooling1D(), layers.Dense(2)), cuts=CUTS, has_steps=False)
    check(chain(layers.GlobalAveragePooling1D(keepdims=True), layers.Dense(2)), cuts=CUTS, has_steps=False)
    made = layers.Embedding(6, 4, mask_zero=True), layers.GlobalAveragePooling1D()
    check(chain(*made, shape=(None,), dtype="int32"), PADDED, CUTS, has_steps=False)


# -------------------- attention --------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: layers.MultiHeadAttention(2, 4, **options),
        lambda **options: layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=5, dropout=0.5, **options),
        lambda **options: layers.MultiHeadAttention(2, 4, use_gate=True, use_bias=False, attention_axes=1, **options),
        lambda **options: layers.GroupQueryAttention(4, 4, 2, **options),
    ],
)
def test_attention_with_heads(make):
    def call(x):
        return make()(x, layers.Dense(4)(x), key=layers.Dense(3)(x), use_causal_mask=True)

    check(functional(call), cuts=CUTS, window=STEPS)
    check(functional(call), cuts=CUTS, window=STEPS + 3)

    def sliding(x):
        return make(sliding_window=3)(x, x, use_causal_mask=True)

    stream = check(functional(sliding), cuts=CUTS)  # for sequences of any length
    state, x = stream.initial(1), sequences(1, 12, 3)
    for step in range(12):
        y, state = stream(x[:, step], state)
    np.testing.assert_allclose(y, stream.model.predict(x)[:, -1], atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Attention(),
        lambda: layers.Attention(use_scale=True, score_mode="concat", dropout=0.3),
        lambda: layers.AdditiveAttention(),
    ],
)
def test_attention_without_heads(make):
    check(functional(lambda x: make()([x, x], use_causal_mask=True)), cuts=CUTS, window=STEPS)

    def call(x):
        return make()([layers.Dense(4)(x), layers.Dense(3)(x), layers.Dense(4)(x)], use_causal_mask=True)

    check(functional(call), cuts=CUTS, window=STEPS)


def test_attention_to_something_given():
    def call(x, memory):
        y = layers.MultiHeadAttention(2, 4)(x, memory)
        y = layers.Add()([y, layers.GroupQueryAttention(4, 2, 1)(x, memory)])
        return layers.GRU(3)(
            layers.Add()([y, layers.Attention()([x, layers.Bidirectional(layers.GRU(2))(memory)[:, None, :3]])])
        )

    def memory(x, y):
        return call(x, layers.Bidirectional(layers.LSTM(2, return_sequences=True))(y))

    model = functional(lambda x, y: call(x, layers.Dense(3)(y)), (None, 3), (4, 3))
    check(model, [sequences(), sequences(2, 4, 3)], has_steps=False)
    model = functional(
        lambda x, y: layers.MultiHeadAttention(2, 4)(x, layers.Bidirectional(layers.LSTM(2, return_sequences=True))(y)),
        (None, 3),
        (4, 3),
    )
    check(model, [sequences(), sequences(2, 4, 3)], sequences=["x"])


def test_masked_keys():
    def call(x):
        y = layers.Embedding(6, 4, mask_zero=True)(x)
        return [
            layers.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True),
            layers.Attention()([y, y], use_causal_mask=True),
        ]

    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, call(inputs))
    stream, whole, live = model.stream(window=STEPS), model.predict(PADDED), PADDED > 0
    for cuts in CUTS:
        state, found = stream.initial(4), []
        for begin, end in zip((0, *cuts), (*cuts, STEPS), strict=True):
            y, state = stream(PADDED[:, begin:end], state)
            found.append(y)
        heads, plain = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        np.testing.assert_allclose(heads[live], whole[0][live], atol=1e-5)  # others are means of what comes too
        np.testing.assert_allclose(plain, whole[1], atol=1e-5)


def test_a_transformer_and_its_window():
    def block(x):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True)])
        return x + layers.Dense(6)(layers.Dense(8, activation="gelu")(layers.RMSNormalization()(x)))

    def call(x):
        y = block(block(layers.Dense(6)(x)))
        return layers.Softmax()(layers.Dense(3)(y))[:, -1]

    stream = check(functional(call), cuts=CUTS, window=STEPS, has_steps=False)
    state = stream.initial(2)
    _, state = stream(sequences(2, 4, 3), state)
    with pytest.raises(
        ValueError, match=r"has 4 steps and gets 2 more, but sequences of this stream have up to 5: make it with"
    ):
        stream(sequences(2, 2, 3), state)
    stream(sequences(2, 1, 3), state)


# -------------------- layers that work on each step alone --------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dense(4, activation="softmax"),
        lambda: layers.Activation("log_softmax"),
        lambda: layers.Activation(keras.activations.gelu),
        lambda: layers.Dense(4, activation=layers.LeakyReLU()),
        lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d", activation="relu"),
        lambda: layers.EinsumDense("...b,bc->...c", output_shape=(4,)),
        lambda: layers.ReLU(),
        lambda: layers.LeakyReLU(),
        lambda: layers.ELU(),
        lambda: layers.Softmax(),
        lambda: layers.PReLU(shared_axes=[1], alpha_initializer="ones"),
        lambda: layers.BatchNormalization(moving_mean_initializer="ones"),
        lambda: layers.LayerNormalization(),
        lambda: layers.RMSNormalization(),
        lambda: layers.UnitNormalization(),
        lambda: layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0]),
        lambda: layers.Rescaling([1.0, 2.0, 3.0], offset=1.0),
        lambda: layers.Dropout(0.5),
        lambda: layers.SpatialDropout1D(0.5),
        lambda: layers.GaussianNoise(0.5),
        lambda: layers.GaussianDropout(0.5),
        lambda: layers.AlphaDropout(0.5),
        lambda: layers.ActivityRegularization(0.1),
        lambda: layers.Identity(),
        lambda: layers.Masking(),
        lambda: layers.TimeDistributed(layers.Dense(4)),
        lambda: layers.TimeDistributed(chain(layers.Reshape((3, 1)), layers.Bidirectional(layers.GRU(2)), shape=(3,))),
        lambda: layers.SpectralNormalization(layers.Dense(4)),
        lambda: layers.SpectralNormalization(layers.Conv1D(4, 2, padding="causal")),
        lambda: layers.Reshape((-1, 1, 3)),
        lambda: layers.Dense(4, lora_rank=2),
    ],
)
def test_layers_that_work_on_each_step(make):
    check(chain(make()))


@pytest.mark.parametrize(
    "name", sorted({*dir(keras.activations)} - {"get", "serialize", "deserialize", "glu", "threshold"})
)
def test_activations(name):
    function = getattr(keras.activations, name)
    check(
        chain(layers.Activation(function), layers.Dense(4, activation=ops.expm1), shape=(None, 4)),
        sequences(2, STEPS, 4),
    )


def test_axes_after_the_steps():
    model = chain(layers.Permute((1, 3, 2)), layers.Reshape((-1, 6)), layers.Softmax(axis=2), shape=(None, 2, 3))
    check(model, sequences(2, STEPS, 2, 3))
    model = chain(layers.LayerNormalization(axis=(2, 3)), layers.Reshape((STEPS, 6)), shape=(STEPS, 2, 3))
    x, stream = sequences(2, STEPS, 2, 3), model.stream()
    y, _ = stream(x[:, 1], stream.initial(2))  # a model of five steps takes one
    np.testing.assert_allclose(y, model.predict(x)[:, 1], atol=1e-6)


@pytest.mark.parametrize("merge", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
def test_merges(merge):
    model = functional(lambda x: getattr(layers, merge)()([layers.GRU(3, return_sequences=True)(x), x]))
    check(model)
    model = functional(lambda x, y: getattr(layers, merge)()([x, layers.Dense(3)(y)]), (None, 3), (4,))
    check(model, [sequences(), sequences(2, 4)])
    model = functional(lambda x, y: getattr(layers, merge)()([y, x]), (None, 3), (1, 3))
    check(model, [sequences(), sequences(2, 1, 3)])


def test_concatenation():
    check(functional(lambda x: layers.Concatenate()([layers.GRU(2, return_sequences=True)(x), x])))


def test_embeddings():
    check(chain(layers.Embedding(9, 4), layers.LSTM(3), shape=(None,), dtype="int32"), numbers(9), has_steps=False)
    made = layers.ReversibleEmbedding(9, 4)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, made(layers.GRU(4, return_sequences=True)(made(inputs)), reverse=True))
    stream = check(model, numbers(9))
    with pytest.raises(ValueError, match="looks them up in a table of 9 rows"):
        stream(np.array([[9]]), stream.initial())
    y, state = stream(np.array([1, 2]), stream.initial(2))  # one step of two sequences
    assert y.shape == (2, 9)
    with pytest.raises(ValueError, match="looks them up in a table of 9 rows"):
        stream(np.array([1, 9]), state)


# -------------------- ops --------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.tanh(x) * 2.0 + x / np.arange(1.0, 4.0, dtype="float32"),
        lambda x: ops.where(x > 0, x, ops.exp(x)),
        lambda x: ops.clip(ops.maximum(x, 0.1), 0.0, 1.0),
        lambda x: ops.cast(ops.round(x), "float32"),
        lambda x: ops.cast(ops.round(x), np.float32),
        lambda x: ops.mean(x, axis=-1, keepdims=True) + ops.zeros_like(x),
        lambda x: ops.expand_dims(ops.sum(x, axis=2), -1),
        lambda x: ops.softmax(x) + ops.cumsum(x, axis=2) + ops.flip(x, axis=-1),
        lambda x: ops.concatenate([x, -x], axis=-1),
        lambda x: ops.stack([x, x + 1], axis=3),
        lambda x: ops.split(x, 3, axis=-1)[1],
        lambda x: ops.transpose(ops.expand_dims(x, 3), (0, 1, 3, 2)),
        lambda x: ops.swapaxes(ops.expand_dims(x, 2), -1, -2),
        lambda x: ops.matmul(x, np.ones((3, 2), "float32")),
        lambda x: ops.einsum("btf,fg->btg", x, np.ones((3, 2), "float32")),
        lambda x: ops.einsum("btf,btg->btfg", x, x),
        lambda x: ops.layer_normalization(x),
        lambda x: ops.one_hot(ops.argmax(x, axis=-1), 3),
        lambda x: ops.top_k(x, 2)[0],
        lambda x: ops.take(x, np.array([2, 0]), axis=2),
        lambda x: x[:, :, 1:],
        lambda x: x[..., ::-1],
        lambda x: x[:, :, 0, None],
        lambda x: ops.squeeze(x[:, :, None], 2),
        lambda x: ops.dense(x, np.ones((3, 2), "float32"), activation=ops.softmax),
        lambda x: ops.stop_gradient(ops.relu(x)),
        lambda x: ops.logaddexp(x, 0.0),
    ],
)
def test_ops(call):
    check(functional(call))


def test_the_last_step_by_an_index():
    for index in ((-1,), (np.int64(-1),), (slice(-1, None),), (-1, slice(1))):
        index = (slice(None), *index)
        check(functional(lambda x, index=index: layers.LSTM(3, return_sequences=True)(x)[index]), has_steps=False)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: ops.mean(x), "is ops.mean, over all axes"),
        (lambda x: ops.mean(x, axis=1, keepdims=True) + x, "is ops.mean, which goes along the step axis"),
        (lambda x: ops.cumsum(x, axis=1), "is ops.cumsum, which goes along the step axis"),
        (lambda x: ops.concatenate([x, x], axis=1), "is ops.concatenate, which joins its inputs along the step axis"),
        (lambda x: ops.transpose(x, (0, 2, 1)), "which moves the step axis"),
        (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), "which moves the step axis"),
        (lambda x: ops.matmul(np.ones((2, STEPS), "float32"), x), "which multiplies along the step axis"),
        (lambda x: ops.einsum("btf,bsf->bts", x, x), "does not keep the step axis"),
        (lambda x: ops.einsum("...f,fg->...g", x, np.ones((3, 2))), "does not keep the step axis"),
        (lambda x: x[:, 1:], "which takes some of the rows or steps"),
        (lambda x: x[:, 0], "which takes some of the rows or steps"),
        (lambda x: x[::2], "which takes some of the rows or steps"),
        (lambda x: x[:, np.array([0, 1])], "which takes some of the rows or steps"),
        (lambda x: x[:, :, np.array([0, 1])], "Take parts of later axes by slices"),
        (lambda x: ops.reshape(x, (-1, 3)), "is ops.reshape, which is not known to work"),
        (lambda x: ops.flip(x, axis=1), "which goes along the step axis"),
        (lambda x: x + np.ones((5, 1), "float32"), "joins a sequence with another tensor that has steps"),
        (lambda x: x[:, :, :1] + ops.sum(x, axis=2), "joins sequences of different ranks"),
        (
            lambda x: x + [[1.0], [2.0], [3.0], [4.0], [5.0]],
            "joins a sequence with another tensor that has steps",
        ),
        (lambda x: ops.where(x > 0, x, [[1.0], [2.0], [3.0], [4.0], [5.0]]), "that has steps"),
        (lambda x: ops.roll(x, 1, axis=1), "is ops.roll, which is not known to work"),
        (lambda x: ops.softmax(ops.sum(x, axis=2)), "is ops.softmax, which goes along the step axis"),
        (lambda x: ops.dense(x[:, :, 0], np.ones((5, 2), "float32")), "is ops.dense, which goes along the step axis"),
        (lambda x: ops.moveaxis(x, 1, 2), "is ops.moveaxis, which goes along the step axis"),
        (lambda x: ops.take(x, ops.cast(x, "int32"), axis=2), "is ops.take, which joins several sequences"),
    ],
)
def test_ops_that_are_refused(call, why):
    with pytest.raises(ValueError, match="cannot go step by step: layer .*" + why):
        functional(call, (STEPS, 3)).stream()


# -------------------- refusals --------------------


def test_rules_are_for_classes_of_nbkeras():
    assert all(hasattr(layers, name) for name in dir(layers)) and keras.inference.Stream  # imports all
    known, todo = set(), [layers.Layer]
    while todo:
        todo += (found := todo.pop().__subclasses__())
        known |= {each.__name__ for each in found if each.__module__.startswith("nbkeras.")}
    names = {key for key in streaming_graph.RULES if isinstance(key, str)}
    assert names and names <= known


def unknown(x):
    return x


class Doubled(layers.Dense):
    def call(self, inputs):
        return ops.multiply(super().call(inputs), 2.0)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            lambda: layers.Bidirectional(layers.LSTM(2)),
            "reads each sequence from its end: .* Train the model with the forward",
        ),
        (lambda: layers.LSTM(2, go_backwards=True), "goes backwards"),
        (lambda: layers.MaxPooling1D(2), "joins several steps, or changes their number"),
        (lambda: layers.AveragePooling1D(2), "joins several steps, or changes their number"),
        (lambda: layers.GlobalAveragePooling1D("channels_first"), "its axis 1 is not the steps"),
        (lambda: layers.UpSampling1D(2), "joins several steps, or changes their number"),
        (lambda: layers.ZeroPadding1D(2), "joins several steps, or changes their number"),
        (lambda: layers.Cropping1D(1), "joins several steps, or changes their number"),
        (lambda: layers.Flatten(), "puts all steps into one vector. Flatten each step"),
        (lambda: layers.Reshape((-1,)), "does not keep each step's numbers together"),
        (lambda: layers.Reshape((3, 5)), "does not keep each step's numbers together"),
        (lambda: layers.Permute((2, 1)), "moves the step axis"),
        (
            lambda: layers.Conv1D(2, 3),
            "has padding='valid', so its windows reach into the future. Train .* padding='causal'",
        ),
        (lambda: layers.Conv1D(2, 3, padding="same"), "has padding='same', so its windows reach into the future"),
        (lambda: layers.Conv1D(2, 3, strides=2, padding="causal"), "has strides=2 over the steps"),
        (lambda: layers.Conv1D(2, 3, padding="causal", data_format="channels_first"), "its axis 1 is not the steps"),
        (
            lambda: layers.Conv1D(2, 3, padding="causal", activation=unknown),
            "has the activation unknown, which",
        ),
        (lambda: layers.Conv1DTranspose(2, 3), "makes several steps of each"),
        (lambda: layers.LocallyConnected1D(2, 1), "has separate weights for each position"),
        (lambda: layers.BatchNormalization(axis=1), "has statistics for each index of the step axis"),
        (lambda: layers.LayerNormalization(axis=(1, 2)), "normalizes over the step axis"),
        (lambda: layers.GroupNormalization(1), "normalizes over all steps"),
        (lambda: layers.UnitNormalization(axis=1), "normalizes over the step axis"),
        (lambda: layers.Softmax(axis=1), "sums over the step axis"),
        (lambda: layers.PReLU(), "has weights for each step"),
        (lambda: layers.Normalization(axis=1), "has statistics for each index"),
        (lambda: layers.Rescaling(np.ones((STEPS, 3))), "has numbers for each step"),
        (lambda: layers.EinsumDense("abc,bd->adc", output_shape=(4, 3)), "multiplies or moves the step axis"),
        (lambda: layers.EinsumDense("abc,cd->adb", output_shape=(4, STEPS)), "multiplies or moves the step axis"),
        (
            lambda: layers.EinsumDense("abc,cd->abd", output_shape=(STEPS, 4), bias_axes="bd"),
            "has a bias for each step",
        ),
        (lambda: layers.Lambda(unknown), "is a function that is not known to work"),
        (lambda: layers.Activation(unknown), "has the activation unknown, which is not known to work"),
        (
            lambda: Doubled(2),
            "overrides 'call' of Dense, so its computation is unknown. If it works on each step alone, set",
        ),
        (lambda: layers.TimeDistributed(layers.LSTM(2, stateful=True)), "wraps a stateful layer"),
        (lambda: layers.TimeDistributed(layers.Lambda(unknown)), "not known to work on each sample alone"),
        (lambda: layers.TimeDistributed(layers.Softmax(axis=0)), "not known to work on each sample alone"),
        (lambda: layers.EinsumDense("a...,c->ac...", output_shape=4), "moves the axes that '...' stands for"),
        (lambda: layers.RandomFlip(), "is not known to work on each step alone"),
    ],
)
def test_layers_that_are_refused(make, why):
    shape = (STEPS, 3, 2) if "time" in make().name or "random" in make().name else (STEPS, 3)
    with pytest.raises(ValueError, match=f"cannot go step by step: layer {make().name[:3]!r}"[:-1] + ".*" + why):
        keras.Sequential([keras.Input(batch_shape=(2, *shape)), make()]).stream()


class OwnModel(keras.Model):
    def call(self, inputs):
        return super().call(inputs)


def nested(x):
    inside = keras.Input((None, 3))
    return OwnModel(inside, layers.Dense(3)(inside))(x)


def test_calls_that_are_refused():
    def refused(why, call, *shapes, **options):
        with pytest.raises(ValueError, match=why):
            functional(call, *shapes).stream(**options)

    heads = layers.MultiHeadAttention(2, 4)
    refused("attends to later steps too. Train .*use_causal_mask=True", lambda x: heads(x, x))
    refused("attends to later steps too", lambda x: layers.Attention()([x, x]))
    refused(r"attends to all earlier steps. Say .*stream\(window=n\)", lambda x: heads(x, x, use_causal_mask=True))
    refused(
        "attention_mask", lambda x: heads(x, x, attention_mask=np.ones((1, 5, 5), bool), use_causal_mask=True), (5, 3)
    )
    refused("returns its scores", lambda x: heads(x, x, use_causal_mask=True, return_attention_scores=True), window=4)
    refused("attends over other axes", lambda x: layers.MultiHeadAttention(2, 4)(x, x), (None, 4, 3))
    refused("attends from something given", lambda x, y: heads(y, x), (None, 3), (4, 3))
    refused("attends causally to something", lambda x, y: heads(x, y, use_causal_mask=True), (None, 3), (4, 3))
    refused(
        "joins steps with the output of 'last', which is known after the last step",
        lambda x: layers.Add()([x, layers.LSTM(3, name="last")(x)]),
    )
    refused(
        "joins steps with the output of 'last'",
        lambda x, y: layers.LSTM(3)(x, initial_state=layers.LSTM(3, return_state=True, name="last")(y)[1:]),
        (None, 3),
        (None, 3),
    )
    refused("takes its initial state from a sequence", lambda x: layers.GRU(5)(x, initial_state=ops.sum(x, 2)), (5, 3))
    refused("attends over other axes", lambda x: layers.Attention()([x, x], use_causal_mask=True), (None, 4, 3))
    refused("another tensor that has steps", lambda x, y: ops.concatenate([x, y]), (None, 3), (5, 3))
    own = layers.Dense(3)
    own.call = unknown
    refused("has another `call`, so its computation is unknown. If it works on each step alone, set", own)
    refused("overrides `call`, or is called with a mask", nested)
    refused("multiplies along axes of sequences", lambda x: layers.Dot(2)([x, x]))
    refused("gets a mask that is given", lambda x, m: layers.LSTM(2)(x, mask=m), (None, 3), (5,))
    refused("joins its inputs along the step axis", lambda x: layers.Concatenate(1)([x, x]))
    refused("that has steps", lambda x, y: layers.Concatenate()([x, y]), (None, 3), (5, 3))
    refused("that has steps", lambda x, y: layers.Add()([x, y]), (None, 3), (5, 3))
    refused("joins sequences of different ranks", lambda x: layers.Add()([x, x[:, :, 0]]), (3, 3))
    refused("is called with training=True", lambda x: layers.Dropout(0.5)(x, training=True))
    refused("multiplies along the step axis", lambda x: layers.Dense(3)(x), (5,), sequences=["x"])
    refused("has no input with steps", lambda x: layers.Dense(3)(x), (3,))
    refused(
        "stateful, and its input is not a sequence",
        lambda x, y: layers.Add()([x, layers.Dense(3)(layers.SimpleRNN(3, stateful=True)(y))]),
        (None, 3),
        (4, 3),
    )
    refused("must be a list of some of the inputs' names", lambda x: layers.LSTM(3)(x), sequences=["other"])
    refused("window must be a number of steps", lambda x: layers.LSTM(3)(x), window=0)


def test_models_that_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    class Classes(keras.Model):
        def predict_step(self, data):
            return ops.argmax(super().predict_step(data), axis=-1)

    with pytest.raises(ValueError, match="has no graph"):
        Own().stream()
    with pytest.raises(ValueError, match="has no graph"):
        keras.Sequential([layers.LSTM(3)]).stream()
    x = keras.Input((None, 3))
    with pytest.raises(ValueError, match="overrides predict_step"):
        Classes(x, layers.LSTM(3)(x)).stream()
    model = chain(layers.LSTM(3, return_sequences=True))
    stream = model.stream()
    stream(sequences(), stream.initial(2))
    model.add(layers.Dense(2))
    with pytest.raises(ValueError, match="has got other layers since this stream was made"):
        stream(sequences(), stream.initial(2))


# -------------------- layers of one's own --------------------


class Halved(layers.Layer):
    each_step_alone = True

    def call(self, inputs):
        return ops.multiply(inputs, 0.5)


class Wrong(layers.Layer):
    each_step_alone = True

    def call(self, inputs):
        return ops.subtract(inputs, ops.mean(inputs, axis=1, keepdims=True))


class Positions(layers.Layer):
    """Adds a vector for each position: it needs to know where a call is in its sequence."""

    def build(self, input_shape):
        self.table = self.add_weight((16, input_shape[-1]), "normal")

    def call(self, inputs):
        return ops.add(inputs, self.table[: inputs.shape[1]])

    def streamed(self, site):
        def run(now, states, args, kwargs):
            def call(inputs):
                places = ops.add(ops.expand_dims(now.before, 1), ops.arange(now.steps, dtype=inputs.dtype.name))
                return ops.add(inputs, ops.take(self.table, ops.cast(places, "int32"), axis=0))

            return self.call_by(call, args, kwargs), ()

        return Part(run, counts=True, limit=16)


class RunningSum(layers.Layer):
    def call(self, inputs):
        return ops.cumsum(inputs, axis=1)

    def streamed(self, site):
        def run(now, states, args, kwargs):
            y = ops.add(self(*args, **kwargs), ops.expand_dims(states[0], 1))
            return y, [y[:, -1]]

        return Part(run, [Form((3,))])


def test_layers_of_ones_own():
    check(chain(Halved(), RunningSum(), Positions(), layers.GRU(2, return_sequences=True)), cuts=CUTS)
    layer = layers.Lambda(lambda x: ops.multiply(x, 2.0))
    layer.each_step_alone = True
    check(chain(layer))

    def activation(x):
        return ops.multiply(x, 3.0)

    activation.each_step_alone = True
    check(chain(layers.Dense(3, activation=activation), layers.Lambda(activation)))
    doubled = Doubled(2)
    doubled.each_step_alone = True
    check(chain(doubled))
    stream = chain(Positions()).stream()
    with pytest.raises(ValueError, match="has 0 steps and gets 17 more"):
        stream(sequences(2, 17, 3), stream.initial(2))


@pytest.mark.parametrize("forms", [[], [Form((2,))], [Form((3,)), Form((3,))]])
def test_states_of_another_number_or_size_than_declared(forms):
    layer = layers.Dense(3)
    layer.streamed = lambda site: Part(lambda now, states, args, kwargs: (layer(*args), [args[0][:, -1]]), forms)
    stream = chain(layer).stream()
    with pytest.raises(
        ValueError, match=r"layer 'dense.*' must return a state .* for each Form of its Part, expected .* \[\(3,\)\]"
    ):
        stream(sequences(), stream.initial(2))


def test_check():
    chain(layers.GRU(3, return_sequences=True), layers.LSTM(2)).stream().check(sequences())
    functional(lambda x: [layers.LSTM(3)(x), layers.Dense(2)(x)]).stream().check(sequences())
    with pytest.raises(ValueError, match="does not give the result of predict: output 0 differs by"):
        chain(Wrong()).stream().check(sequences())


# -------------------- calls --------------------


def test_rows_are_independent():
    model = chain(layers.Conv1D(4, 3, padding="causal"), layers.LSTM(4, return_sequences=True))
    stream, x = model.stream(), sequences(3, 9, 3)
    whole = model.predict(x)
    _, a = stream(x[:1, :4], stream.initial(1))
    _, b = stream(x[1:, :7], stream.initial(2))
    rows = np.stack([b[1], a[0]])  # at different places of their sequences, in another order
    y, after = stream(np.stack([x[2, 7], x[0, 4]]), rows)
    np.testing.assert_allclose(y, np.stack([whole[2, 7], whole[0, 4]]), atol=1e-6)
    y, _ = stream(x[0, 5][None], after[1:])
    np.testing.assert_allclose(y[0], whole[0, 5], atol=1e-6)


def test_attention_of_rows_at_different_places():
    model = functional(lambda x: layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True))
    stream, x = model.stream(window=9), sequences(2, 9, 3)
    whole = model.predict(x)
    _, a = stream(x[:1, :2], stream.initial(1))
    _, b = stream(x[1:, :7], stream.initial(1))
    y, _ = stream(np.stack([x[0, 2:4], x[1, 7:9]]), np.concatenate([a, b]))
    np.testing.assert_allclose(y, np.stack([whole[0, 2:4], whole[1, 7:9]]), atol=1e-5)


def test_float64():
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-6)):  # of one layer
        made = (
            layers.Conv1D(4, 3, padding="causal", dtype=dtype),
            layers.LSTM(4, return_sequences=True, dtype="float64"),
        )
        model = keras.Sequential([keras.Input((None, 3), dtype="float64"), *made, layers.GRU(2, dtype="float64")])
        stream = check(model, sequences(dtype="float64"), CUTS, tolerance, has_steps=False)
        assert stream.dtype == np.float64


def test_a_state_is_not_changed_and_results_do_not_change():
    stream = chain(layers.LSTM(3, return_sequences=True)).stream()
    x, state = sequences(), stream.initial(2)
    kept = state.copy()
    y, after = stream(x, state)
    copies = y.copy(), after.copy()
    for _ in range(3):
        again, _ = stream(x, state)
        stream(-x, after)
        np.testing.assert_array_equal(again, copies[0])
    assert np.array_equal(state, kept) and np.array_equal(y, copies[0]) and np.array_equal(after, copies[1])
    y, _ = stream(x, state[:, ::-1][:, ::-1])  # not contiguous
    np.testing.assert_array_equal(y, copies[0])
    y, _ = stream(x.astype("float64"), state.tolist())
    np.testing.assert_array_equal(y, copies[0])


def test_weights_are_those_of_the_call():
    model = chain(layers.LSTM(3, return_sequences=True), layers.BatchNormalization())
    stream, x = model.stream(), sequences()
    model.compile("sgd", "mse")
    for _ in range(2):
        y, _ = stream(x, stream.initial(2))
        np.testing.assert_allclose(y, model.predict(x), atol=1e-6)
        model.fit(x, np.zeros((2, STEPS, 3)), verbose=0)
    model.set_weights([weight * 0.5 for weight in model.get_weights()])
    np.testing.assert_allclose(stream(x, stream.initial(2))[0], model.predict(x), atol=1e-6)


def test_calls_are_replayed():
    stream = chain(layers.LSTM(3)).stream()
    state = stream.initial(2)
    for _ in range(5):
        _, state = stream(sequences(2, 3), state)
        stream(sequences(2, 1, 3), state)
        stream(sequences(2, 4, 3), state)
    assert stream._programs.recordings == 2


def test_inputs_and_states_that_do_not_fit():
    stream = chain(layers.LSTM(3)).stream()
    for x, state, why in (
        (
            sequences(2, 4, 5),
            2,
            r"must have shape \(batch, steps, 3\), or \(batch, 3\) for one step, received \(2, 4, 5\)",
        ),
        (
            sequences(2, 5),
            2,
            r"must have shape \(batch, steps, 3\), or \(batch, 3\) for one step, received \(2, 1, 5\)",
        ),
        (sequences(2, 0, 3), 2, "a call needs one step or more"),
        (sequences(2, 4, 3), 3, r"the state of 2 sequences is an array \(2, 6\)"),
        (sequences(2, 3), None, r"the state of 2 sequences is an array \(2, 6\) .* received shape \(\)"),
    ):
        with pytest.raises(ValueError, match=why):
            stream(x, state if state is None else stream.initial(state))
    with pytest.raises(ValueError, match="batch must be a number of sequences"):
        stream.initial(-1)
    both = functional(lambda x, y: layers.LSTM(3)(layers.Add()([x, y])), (None, 3), (None, 3)).stream()
    with pytest.raises(ValueError, match="all sequences the same number of steps, received rows .* steps"):
        both([sequences(2, 3, 3), sequences(2, 4, 3)], both.initial(2))
    with pytest.raises(ValueError, match="must have shape"):
        both([sequences(2, 3), sequences(2, 1, 3)], both.initial(2))
    y, _ = both([sequences(2, 3), sequences(2, 3)], both.initial(2))
    assert y.shape == (2, 3)


def test_inputs_and_outputs_by_name():
    inputs = {"a": keras.Input((None, 3), name="a"), "b": keras.Input((4,), name="b")}
    outputs = {
        "steps": layers.Dense(2)(inputs["a"]),
        "last": layers.LSTM(2)(layers.Add()([inputs["a"], layers.Dense(3)(inputs["b"])])),
    }
    model = keras.Model(inputs, outputs)
    x = {"b": sequences(2, 4), "a": sequences()}
    stream, whole = model.stream(), model.predict(x)
    y, _ = stream(x, stream.initial(2))
    assert y.keys() == whole.keys()
    np.testing.assert_allclose(y["steps"], whole["steps"], atol=1e-6)
    np.testing.assert_allclose(y["last"], whole["last"], atol=1e-6)
    y, _ = stream({**x, "a": x["a"][:, 0]}, stream.initial(2))
    assert y["steps"].shape == (2, 2)


def test_a_model_without_states():
    stream = check(chain(layers.Dense(2)))
    assert stream.state_size == 0 and stream.initial(3).shape == (3, 0)


def test_no_rows():
    stream = chain(layers.LSTM(3, return_sequences=True)).stream()
    y, state = stream(np.zeros((0, 4, 3), "float32"), stream.initial(0))
    assert y.shape == (0, 4, 3) and state.shape == (0, 6)


def test_threads():
    model = chain(layers.LSTM(4, return_sequences=True), layers.Dense(2))
    stream, x, found = model.stream(), sequences(8, 20, 3), {}
    whole = model.predict(x)

    def work(row):
        state, steps = stream.initial(1), []
        for step in range(20):
            y, state = stream(x[row : row + 1, step], state)
            steps.append(y[0])
        found[row] = np.stack(steps)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack([found[row] for row in range(8)]), whole, atol=1e-6)


# -------------------- random compositions --------------------


def composed(draw):
    """A random model of streamable layers, over (batch, steps, 4)."""
    inputs = x = keras.Input((None, 4))
    known = [x]
    for _ in range(draw.integers(2, 7)):
        x = known[draw.integers(len(known))]
        choice = draw.integers(12)
        if choice == 0:
            x = layers.LSTM(4, return_sequences=True)(x)
        elif choice == 1:
            x = layers.GRU(4, return_sequences=True, reset_after=bool(draw.integers(2)))(x)
        elif choice == 2:
            x = layers.Conv1D(4, int(draw.integers(1, 4)), dilation_rate=int(draw.integers(1, 3)), padding="causal")(x)
        elif choice == 3:
            x = layers.DepthwiseConv1D(2, padding="causal")(x)
        elif choice == 4:
            x = layers.MultiHeadAttention(2, 2)(x, known[draw.integers(len(known))], use_causal_mask=True)
        elif choice == 5:
            x = layers.Attention()([x, x], use_causal_mask=True)
        elif choice == 6:
            x = layers.Dense(4, activation=str(draw.choice(["tanh", "softmax", "relu"])))(x)
        elif choice == 7:
            x = layers.LayerNormalization()(x)
        elif choice == 8:
            x = getattr(layers, str(draw.choice(["Add", "Maximum", "Multiply"])))()(
                [x, known[draw.integers(len(known))]]
            )
        elif choice == 9:
            x = layers.Dense(4)(layers.Concatenate()([x, known[draw.integers(len(known))]]))
        elif choice == 10:
            x = ops.tanh(x) * known[draw.integers(len(known))] + 0.5
        else:
            x = keras.Sequential([layers.SimpleRNN(4, return_sequences=True, input_shape=(None, 4)), layers.Dense(4)])(
                x
            )
        known.append(x)
    last = [layers.GRU(3)(x), x[:, -1], layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)][
        draw.integers(4)
    ]
    return keras.Model(inputs, [x, last])


@pytest.mark.parametrize("seed", range(8))
def test_random_compositions(seed):
    draw = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    composed(draw).stream(window=12).check(draw.normal(size=(3, 7, 4)))


def test_what_a_stream_shows_and_remembers():
    stream = chain(layers.LSTM(3, return_sequences=True)).stream()
    assert repr(stream) == f"<Stream {stream.model.name!r}, state_size 6>"
    state = stream.initial(2)
    stream._known.update((i, None) for i in range(64))  # calls with as many shapes
    for _ in range(3):
        stream(sequences(), state)
    assert 0 < len(stream._known) < 64


def test_axes_of_each_step_may_move():
    check(functional(lambda x: ops.moveaxis(x, 2, 3), (None, 3, 2)), sequences(2, STEPS, 3, 2))


def test_rows_of_a_table_for_each_step():
    words = keras.Input((None,), dtype="int32", name="x")
    check(keras.Model(words, ops.embedding(words, np.eye(9, 2, dtype="float32"))), numbers(9), sequences=["x"])
