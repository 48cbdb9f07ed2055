"""Recurrent layers and cells: one op against the step-by-step loop, masks, initial and kept states, configurations."""

from pathlib import Path

import make_recurrent
import numpy as np
import pytest
from made_models import built, compiled, reloaded
from mistakes import mistakes
from sequences import STEPS, floats, make_mask, value

import nbkeras
from nbkeras import layers as L
from nbkeras import models, ops, utils
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.tensor import Tensor, as_tensor

KINDS = {
    "SimpleRNN": (L.SimpleRNN, L.SimpleRNNCell, {}),
    "GRU": (L.GRU, L.GRUCell, {}),
    "GRU before": (L.GRU, L.GRUCell, {"reset_after": False}),
    "LSTM": (L.LSTM, L.LSTMCell, {}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def flat(outputs):
    return [outputs] if isinstance(outputs, Tensor) else [leaf for each in outputs for leaf in flat(each)]


def randomize(layer, seed=3):
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.standard_normal(w.shape).astype(w.dtype.name) * 0.5 for w in layer.weights])
    return layer


def pair(kind, cell_options=(), **options):
    """The layer that runs as one op, and RNN around the same cell, with the same weights."""
    layer_class, cell_class, more = KINDS[kind]
    more = {**more, **dict(cell_options)}
    one, stepwise = layer_class(4, **more, **options), L.RNN(cell_class(4, **more), **options)
    for layer in (one, stepwise):
        layer.build((None, None, 2))
        randomize(layer)
    return one, stepwise


def run(layer, x, **arguments):
    """Outputs and gradients of a sum over all of them, in the input and the weights."""
    x = as_tensor(x)
    with GradientTape() as tape:
        tape.watch(x)
        outputs = flat(layer(x, **arguments))
        total = sum(ops.sum(ops.multiply(o, ops.sin(ops.add(o, float(i))))) for i, o in enumerate(outputs))
    return [o.numpy() for o in outputs], [g.numpy() for g in tape.gradient(total, [x, *layer.trainable_weights])]


def assert_same(a, b, tolerance=2e-6):
    for group_a, group_b in zip(a, b, strict=True):
        for one, other in zip(group_a, group_b, strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(1, np.abs(other).max()))


# -------------------- one op and the loop --------------------


@kinds
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("masked", [None, "repeat", "zero"])
def test_one_op_equals_the_loop(kind, sequences, masked):
    for backwards in (False, True):
        options = {"return_sequences": sequences, "return_state": True, "go_backwards": backwards}
        one, stepwise = pair(kind, zero_output_for_mask=masked == "zero", **options)
        arguments = {"mask": make_mask()} if masked else {}
        states = [floats(3, 4, seed=i) for i in range(2 if kind == "LSTM" else 1)]
        assert_same(run(one, floats(3, STEPS, 2), **arguments), run(stepwise, floats(3, STEPS, 2), **arguments))
        arguments["initial_state"] = states
        assert_same(run(one, floats(3, STEPS, 2), **arguments), run(stepwise, floats(3, STEPS, 2), **arguments))


@kinds
def test_one_op_equals_the_loop_with_dropout(kind):
    cell = {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": 7}
    one, stepwise = pair(kind, cell, return_sequences=True)
    x = floats(3, STEPS, 2)
    plain, first, second = run(one, x)[0][0], run(one, x, training=True), run(one, x, training=True)
    assert not np.allclose(plain, first[0][0]) and not np.allclose(first[0][0], second[0][0])
    assert_same(first, run(stepwise, x, training=True))
    assert_same(second, run(stepwise, x, training=True))


@kinds
def test_other_activations_run_by_the_loop(kind):
    for activation in ("softsign", lambda x: ops.multiply(ops.tanh(x), 0.5)):
        one, stepwise = pair(kind, {"activation": activation}, return_sequences=True)
        assert_same(run(one, floats(3, STEPS, 2)), run(stepwise, floats(3, STEPS, 2)))
    for activation in ("relu", "hard_sigmoid", None):
        one, stepwise = pair(kind, {"activation": activation, "use_bias": False})
        assert_same(run(one, floats(3, STEPS, 2)), run(stepwise, floats(3, STEPS, 2)))


@pytest.mark.parametrize("kind", ["GRU", "GRU before", "LSTM"])
@pytest.mark.parametrize("recurrent_activation", ["hard_sigmoid", "legacy_hard_sigmoid"])
def test_both_hard_sigmoids(kind, recurrent_activation):
    one, stepwise = pair(kind, {"recurrent_activation": recurrent_activation})
    assert_same(run(one, floats(3, STEPS, 2) * 3), run(stepwise, floats(3, STEPS, 2) * 3))


def test_dropout_is_the_same_at_all_steps():
    layer = L.SimpleRNN(8, dropout=0.5, activation="linear", recurrent_initializer="zeros", return_sequences=True)
    with training_phase(True):
        y = layer(np.ones((4, STEPS, 60), "float32")).numpy()
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1], y.shape), rtol=1e-6)
    assert not np.allclose(y[0], y[1])


def test_dropout_draws_new_masks_when_replayed():
    utils.set_random_seed(1)
    model = compiled(models.Sequential([L.Input((STEPS, 2)), L.LSTM(4, dropout=0.5, recurrent_dropout=0.5)]))
    model.optimizer.learning_rate = 0.0
    x, y = floats(6, STEPS, 2), floats(6, 4)
    losses = {float(model.train_on_batch(x, y)) for _ in range(5)}
    assert len(losses) == 5


# -------------------- weights and arguments --------------------


def test_weights_are_keras_s():
    layer = built(L.LSTM(4), (None, STEPS, 3))
    kernel, recurrent_kernel, bias = layer.get_weights()
    assert [w.name for w in layer.weights] == ["kernel", "recurrent_kernel", "bias"]
    assert (kernel.shape, recurrent_kernel.shape) == ((3, 16), (4, 16))
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(4), atol=1e-5)
    assert bias.tolist() == [0] * 4 + [1] * 4 + [0] * 8
    plain = built(L.LSTM(4, unit_forget_bias=False, bias_initializer="ones"), (None, STEPS, 3))
    assert plain.get_weights()[2].tolist() == [1] * 16
    for reset_after, shape in ((True, (2, 12)), (False, (12,))):
        gru = built(L.GRU(4, reset_after=reset_after), (None, STEPS, 3))
        assert [w.shape for w in gru.get_weights()] == [(3, 12), (4, 12), shape]


def test_arguments_of_the_cell_are_the_layer_s_too():
    layer = L.GRU(
        3, dropout=0.1, recurrent_dropout=0.2, kernel_regularizer="l2", bias_constraint="non_neg", implementation=1
    )
    assert (layer.units, layer.dropout, layer.recurrent_dropout, layer.reset_after) == (3, 0.1, 0.2, True)
    assert layer.kernel_regularizer is not None and layer.bias_constraint is not None and layer.seed is None
    assert L.LSTM(3, unit_forget_bias=False).unit_forget_bias is False
    layer(floats(2, STEPS, 2))
    assert len(layer.losses) == 1


def test_integers_and_float64():
    layer = L.GRU(3, dtype="float64")
    assert layer(floats(2, STEPS, 2)).dtype == np.float64
    assert L.LSTM(3)(np.ones((2, STEPS, 2), int)).dtype == np.float32


class Counting:
    """A cell that is no layer: its state is the sum of its inputs."""

    def __init__(self, size, returns_states=True):
        self.state_size, self.returns_states = size, returns_states

    def build(self, shape):
        self.shape = shape

    def call(self, inputs, states):
        total = states[0] + ops.sum(inputs, axis=1, keepdims=True)
        return (total, [total]) if self.returns_states else total


def keeps_states():
    layer = L.SimpleRNN(2, stateful=True)
    layer(np.ones((3, 1, 2), np.float32))
    return layer


def test_a_cell_that_is_no_layer_is_built():
    cell = Counting(1)
    np.testing.assert_array_equal(L.RNN(cell)(np.ones((2, 3, 2), np.float32)).numpy(), [[6.0], [6.0]])
    assert cell.shape == (2, 2)


def test_a_mask_chooses_the_samples_whose_states_are_reset():
    layer = keeps_states()
    before = layer.states[0].numpy()
    layer.reset_states(samples=as_tensor(np.array([True, False, True])))
    np.testing.assert_array_equal(layer.states[0].numpy(), before * [[0], [1], [0]])


test_mistakes_are_explained = mistakes(
    [
        (lambda: L.LSTM(0), ValueError, "LSTM: units must be a positive integer, received 0"),
        (lambda: L.GRU("4"), ValueError, "GRU: units must be a positive integer"),
        (lambda: L.SimpleRNN(4, dropout=1.5), ValueError, "SimpleRNN: dropout must be a number from 0 to 1"),
        (lambda: L.LSTM(4, recurent_dropout=0.1), TypeError, "Did you mean 'recurrent_dropout'"),
        (lambda: L.LSTM(4, return_sequence=True), TypeError, "Did you mean 'return_sequences'"),
        (lambda: L.LSTMCell(4, unit_forget_bais=True), TypeError, "Did you mean 'unit_forget_bias'"),
        (lambda: L.RNN(3), TypeError, "must be an object with call"),
        (lambda: L.RNN(L.LSTMCell), TypeError, "must be an object with call"),
        (lambda: L.RNN(L.Dense(3)), TypeError, r"must be an object with call\(inputs, states\) and state_size"),
        (lambda: L.StackedRNNCells([]), ValueError, "needs a list of cells"),
        (lambda: L.LSTM(4)(floats(3, 2)), ValueError, r"expected ndim=3, received shape \(3, 2\)"),
        (lambda: L.LSTM(4)(floats(3, STEPS, 2), mask=np.ones((3, 4), bool)), ValueError, r"mask of layer.*\(3, 5\)"),
        (
            lambda: L.LSTM(4)(floats(3, STEPS, 2), initial_state=[floats(3, 4)]),
            ValueError,
            r"has 2 states \(state_size \[4, 4\]\), received 1 in",
        ),
        (
            lambda: L.GRU(4)(floats(3, STEPS, 2), initial_state=floats(2, 4)),
            ValueError,
            r"must have shapes \[\(3, 4\)\]",
        ),
        (lambda: L.GRU(4).reset_states(), AttributeError, "create it with stateful=True"),
        (lambda: L.LSTM(4).build((None, None, None)), ValueError, "needs the size of the last axis"),
        (
            lambda: L.RNN(L.LSTMCell(2)).build((2, 3)),
            ValueError,
            r"an input \(batch, steps, features\), received shape \(2, 3\)",
        ),
        (
            lambda: L.RNN(Counting(1, returns_states=False))(floats(3, STEPS, 2)),
            TypeError,
            r"must return \(output, new states\) from its call, received Tensor",
        ),
        (
            lambda: keeps_states().reset_states(samples=as_tensor(np.ones(2, bool))),
            ValueError,
            r"bool mask of shape \(3,\) or indices, received a tensor of shape \(2,\) and dtype bool",
        ),
    ]
)


# -------------------- cells and RNN --------------------


class MinimalCell(L.Layer):
    """The cell of Keras's documentation."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, self.units), name="recurrent_kernel")
        self.built = True

    def call(self, inputs, states):
        output = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel)
        return output, [output]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Counter:
    """A cell that is no layer: counts steps, and starts from ten."""

    state_size = 1
    output_size = 2

    def get_initial_state(self, batch_size=None):
        return ops.full((batch_size, 1), 10.0)

    def call(self, inputs, states):
        count = ops.add(states[0], 1.0)
        return ops.concatenate([count, ops.multiply(count, 2.0)], axis=-1), count


def test_a_cell_of_one_s_own():
    layer = L.RNN(MinimalCell(4), return_sequences=True)
    x = floats(3, STEPS, 2)
    y = layer(x).numpy()
    kernel, recurrent_kernel = layer.get_weights()
    h = np.zeros((3, 4), "float32")
    for t in range(STEPS):
        h = x[:, t] @ kernel + h @ recurrent_kernel
        np.testing.assert_allclose(y[:, t], h, rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, 7, 2)) == (None, 7, 4)
    with utils.custom_object_scope({"MinimalCell": MinimalCell}):
        again = L.RNN.from_config(layer.get_config())
    again.build((None, STEPS, 2))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x).numpy(), y)


class BuiltForStates(L.Layer):
    """A cell whose `build` takes the shapes of the step and of the states, under the names of its `call` or others."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size = units, [units, 2]

    def build(self, input_shape, state_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units))
        self.recurrent_kernel = self.add_weight((state_shape[0][-1], self.units))
        self.sizes = [shape[-1] for shape in state_shape]

    def call(self, inputs, states):
        y = ops.tanh(inputs @ self.kernel + states[0] @ self.recurrent_kernel)
        return y, [y, states[1] + 1]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_cell_that_is_built_for_the_states_too(tmp_path):
    x = floats(2, STEPS, 3)
    for cells in (BuiltForStates(4), [BuiltForStates(4), L.GRUCell(4)]):
        layer = L.RNN(cells)
        model = models.Sequential([L.Input((STEPS, 3)), layer])
        assert model(x).shape == (2, 4)
        first = layer.cell if isinstance(cells, BuiltForStates) else layer.cell.cells[0]
        assert first.sizes == [4, 2]
        model.save(tmp_path / "m.keras")
        again = models.load_model(tmp_path / "m.keras", custom_objects={"BuiltForStates": BuiltForStates})
        np.testing.assert_array_equal(again(x), model(x))


def test_a_cell_that_is_no_layer():
    y, count = L.RNN(Counter(), return_sequences=True, return_state=True)(floats(2, 3, 1))
    assert y.numpy()[0].tolist() == [[11, 22], [12, 24], [13, 26]]
    assert count.numpy().tolist() == [[13], [13]]
    masked = L.RNN(Counter(), return_sequences=True)(floats(1, 3, 1), mask=np.array([[False, True, False]]))
    assert masked.numpy()[0].tolist() == [[0, 0], [11, 22], [11, 22]]  # no output yet, and no state of its size


def test_a_cell_with_wrong_states():
    class Wrong(Counter):
        def call(self, inputs, states):
            return inputs, []

    with pytest.raises(ValueError, match="returned 0 states"):
        L.RNN(Wrong())(floats(2, 3, 1))


@pytest.mark.parametrize("cell, number", [(L.SimpleRNNCell, 1), (L.GRUCell, 1), (L.LSTMCell, 2)])
def test_a_cell_is_called_with_its_states(cell, number):
    cell, x, h = cell(4), floats(2, 3), floats(2, 4)
    with pytest.raises(ValueError, match=f"needs {number} states? of shape"):
        cell(x, [h] * (3 - number))
    with pytest.raises(ValueError, match=f"needs {number} states? of shape"):
        cell(x, [np.float32(1)] * number)
    if number == 1:  # a state without a list is the state, not a list of its rows
        np.testing.assert_array_equal(cell(x, h)[0].numpy(), cell(x, [h])[0].numpy())


def test_stacked_cells_equal_stacked_layers():
    cells = [L.LSTMCell(4), L.GRUCell(3), L.SimpleRNNCell(2)]
    stacked = L.RNN(cells, return_sequences=True, return_state=True)
    x = floats(3, STEPS, 2)
    y, lstm_states, gru_state, simple_state = stacked(x)
    layers = [L.LSTM(4, return_sequences=True, return_state=True), L.GRU(3, return_sequences=True, return_state=True)]
    layers += [L.SimpleRNN(2, return_sequences=True, return_state=True)]
    found, states = x, []
    for layer, cell in zip(layers, cells, strict=True):
        layer.build((None, None, found.shape[-1]))
        layer.set_weights(cell.get_weights())
        found, *own = layer(found)
        states.append(own)
    np.testing.assert_allclose(y.numpy(), found.numpy(), atol=1e-6)
    for got, right in zip((lstm_states, gru_state, simple_state), states, strict=True):
        np.testing.assert_allclose(value(got), value(right), atol=1e-6)
    assert stacked.compute_output_shape((None, 5, 2)) == [
        (None, 5, 2),
        [(None, 4), (None, 4)],
        [(None, 3)],
        [(None, 2)],
    ]
    again = built(L.RNN.from_config(stacked.get_config()), (None, STEPS, 2))
    again.set_weights(stacked.get_weights())
    np.testing.assert_array_equal(value(again(x)[0]), y.numpy())
    resumed = stacked(x, initial_state=[lstm_states, gru_state, simple_state])[0]
    longer = stacked(np.concatenate([x, x], axis=1))[0]
    np.testing.assert_allclose(resumed.numpy(), longer.numpy()[:, STEPS:], atol=1e-6)


def test_a_loop_of_one_s_own_over_a_cell():
    cell = L.LSTMCell(4)
    x = floats(3, STEPS, 2)
    states = cell.get_initial_state(3)
    for t in range(STEPS):
        output, states = cell(x[:, t], states)
    layer = built(L.LSTM(4), (None, STEPS, 2))
    layer.set_weights(cell.get_weights())
    np.testing.assert_allclose(output.numpy(), layer(x).numpy(), atol=1e-6)


def test_frames_of_higher_rank():
    class Mean(Counter):
        def call(self, inputs, states):
            count = ops.add(states[0], ops.mean(inputs, axis=(1, 2))[:, None])
            return count, [count]

        output_size = 1

    x = floats(2, 3, 4, 5)
    np.testing.assert_allclose(L.RNN(Mean())(x).numpy()[:, 0], 10 + x.mean((2, 3)).sum(1), rtol=1e-5)


# -------------------- masks --------------------


@kinds
def test_masks_from_masking_pass_with_sequences_only(kind):
    layer_class = KINDS[kind][0]
    x = floats(3, STEPS, 2)
    x[0, 3:] = 0
    masked = L.Masking()(x)
    sequence = layer_class(4, return_sequences=True)
    y = sequence(masked)
    assert np.array_equal(y.mask.numpy(), masked.mask.numpy())
    assert layer_class(4)(masked).mask is None
    y, *states = layer_class(4, return_sequences=True, return_state=True)(masked)
    assert y.mask is not None and all(state.mask is None for state in states)
    np.testing.assert_allclose(sequence(masked).numpy()[0, 4], sequence(x[:, :3]).numpy()[0, 2], rtol=1e-5, atol=1e-6)


def test_the_values_of_masked_steps_do_not_matter():
    layer = L.LSTM(4)
    x, mask = floats(3, STEPS, 2), make_mask()
    other = np.where(mask[:, :, None], x, 7).astype("float32")
    np.testing.assert_array_equal(layer(x, mask=mask).numpy(), layer(other, mask=mask).numpy())
    np.testing.assert_array_equal(layer(x, mask=mask[:, :, None]).numpy(), layer(x, mask=mask).numpy())


def test_masks_and_states_equal_keras():
    with np.load(Path(__file__).parents[1] / "reference" / "recurrent.npz") as file:
        expected = dict(file)
    found = make_recurrent.outputs(nbkeras)
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        np.testing.assert_allclose(found[name], right, atol=2e-6, err_msg=name)


# -------------------- initial states --------------------


def test_initial_states_of_all_kinds():
    layer = L.LSTM(4)
    x, h, c = floats(3, STEPS, 2), floats(3, 4, seed=1), floats(3, 4, seed=2)
    right = layer(x, initial_state=[h, c]).numpy()
    assert not np.allclose(right, layer(x).numpy())
    np.testing.assert_array_equal(layer(x, initial_state=(as_tensor(h), as_tensor(c))).numpy(), right)
    np.testing.assert_array_equal(layer([x, h, c]).numpy(), right)
    symbols = [L.Input((STEPS, 2)), L.Input((4,)), L.Input((4,))]
    for output in (layer(symbols[0], initial_state=symbols[1:]), layer(symbols)):
        model = models.Model(symbols, output)
        np.testing.assert_array_equal(model.predict([x, h, c], verbose=0), right)
        again = models.Model.from_config(model.get_config())
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again.predict([x, h, c], verbose=0), right)


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Bidirectional])
def test_a_mask_beside_initial_states_is_handed_on_and_not_used_as_in_keras_3(wrap):
    layer, states = wrap(L.SimpleRNN(4, return_sequences=True)), [floats(3, 4), floats(3, 4, seed=1)]
    states = states if isinstance(layer, L.Bidirectional) else states[:1]
    x, mask = as_tensor(floats(3, STEPS, 2)), as_tensor(np.arange(STEPS) < [[1], [2], [3]])
    plain = layer(x, initial_state=states).numpy()
    given = layer(x, initial_state=states, mask=mask).numpy()
    x.mask = mask
    output = layer(x, initial_state=states)
    np.testing.assert_array_equal(output.numpy(), plain)
    assert output.mask is mask
    assert not np.allclose(given, plain)
    assert not np.allclose(layer(x).numpy(), layer(floats(3, STEPS, 2)).numpy())


@pytest.mark.parametrize("cls", [L.SimpleRNN, L.GRU, L.LSTM])
def test_no_samples(cls):
    assert cls(4)(floats(0, STEPS, 2)).shape == (0, 4)
    assert cls(4, return_sequences=True)(floats(0, STEPS, 2)).shape == (0, STEPS, 4)


def test_gradients_reach_initial_states():
    layer = L.GRU(4)
    h = as_tensor(floats(3, 4))
    with GradientTape() as tape:
        tape.watch(h)
        y = layer(floats(3, STEPS, 2), initial_state=h)
    assert np.abs(tape.gradient(y, h).numpy()).max() > 1e-3


def test_unknown_number_of_steps():
    inputs = L.Input((None, 2))
    outputs = L.Bidirectional(L.LSTM(3, return_sequences=True))(L.GRU(4, return_sequences=True)(inputs))
    assert outputs.shape == (None, None, 6)
    model = models.Model(inputs, outputs)
    assert model.predict(floats(2, 3, 2), verbose=0).shape == (2, 3, 6)
    assert model.predict(floats(2, 9, 2), verbose=0).shape == (2, 9, 6)


# -------------------- stateful --------------------


def stateful_layers():
    yield from (
        (name, lambda c=c, m=m: c(4, **m, stateful=True, return_sequences=True)) for name, (c, _, m) in KINDS.items()
    )
    yield "RNN", lambda: L.RNN(L.LSTMCell(4), stateful=True, return_sequences=True)
    yield "stacked", lambda: L.RNN([L.GRUCell(3), L.LSTMCell(4)], stateful=True, return_sequences=True)


stateful = pytest.mark.parametrize(
    "make", [make for _, make in stateful_layers()], ids=[n for n, _ in stateful_layers()]
)


@stateful
@pytest.mark.parametrize("masked", [False, True])
def test_a_sequence_in_pieces_equals_the_whole(make, masked):
    x, mask = floats(3, 3 * STEPS, 2), make_mask(9).reshape(3, 3 * STEPS)
    layer = make()
    whole = layer(x, mask=mask if masked else None).numpy()
    layer.reset_states()
    for start in range(0, 3 * STEPS, STEPS):
        piece = slice(start, start + STEPS)
        y = layer(x[:, piece], mask=mask[:, piece] if masked else None)
        np.testing.assert_allclose(y.numpy(), whole[:, piece], rtol=1e-5, atol=1e-5)


@stateful
def test_replayed_steps_carry_the_states(make):
    model = models.Sequential([L.Input(batch_shape=(3, STEPS, 2)), make()])
    x = floats(3, 4 * STEPS, 2)
    pieces = np.split(x, 4, axis=1)
    eager = [model(piece).numpy() for piece in pieces]
    for _ in range(2):
        model.reset_states()
        found = [model.predict_on_batch(piece) for piece in pieces]
        np.testing.assert_allclose(found, eager, rtol=1e-5, atol=1e-6)
    model.reset_states()
    samples = np.concatenate(pieces)  # sample i of a batch continues as sample i of the next
    np.testing.assert_allclose(
        model.predict(samples, batch_size=3, verbose=0), np.concatenate(eager), rtol=1e-5, atol=1e-6
    )


@kinds
def test_training_a_stateful_layer_equals_training_its_loop(kind):
    one, stepwise = pair(kind, stateful=True)
    results = []
    for layer in (one, stepwise):
        model = compiled(models.Sequential([L.Input(batch_shape=(3, STEPS, 2)), layer]))
        losses = [float(model.train_on_batch(floats(3, STEPS, 2, seed=i), floats(3, 4, seed=i))) for i in range(4)]
        results.append((losses, model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_states_are_read_and_set():
    layer = L.LSTM(4, stateful=True)
    assert layer.states is None
    x = floats(3, STEPS, 2)
    first = layer(x).numpy()
    h, c = (state.numpy() for state in layer.states)
    np.testing.assert_array_equal(h, first)
    second = layer(x).numpy()
    layer.reset_states(states=[h, c])
    np.testing.assert_array_equal(layer(x).numpy(), second)
    layer.states = [h, c]
    np.testing.assert_array_equal(layer(x).numpy(), second)
    layer.reset_states()
    assert all(not state.numpy().any() for state in layer.states)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    layer.reset_state()
    gru = L.GRU(4, stateful=True)
    gru.reset_states(h)  # before the first batch, and one array for one state
    assert np.array_equal(gru.states[0].numpy(), h)
    with pytest.raises(ValueError, match=r"has 2 states \(state_size \[4, 4\]\), received 1 in"):
        layer.reset_states([h])
    with pytest.raises(ValueError, match="must have shapes"):
        layer.reset_states([h, c[:, :2]])


def test_states_are_no_weights_but_are_saved(tmp_path):
    model = models.Sequential([L.Input(batch_shape=(3, STEPS, 2)), L.LSTM(4, stateful=True)])
    assert len(model.weights) == 3 and len(model.get_weights()) == 3
    x = floats(3, STEPS, 2)
    model.predict_on_batch(x)
    again = reloaded(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize("samples", [np.array([False, True, False]), [1], 1, np.array([1])])
def test_single_samples_are_reset(samples):
    layer = L.LSTM(4, stateful=True)
    x = floats(3, STEPS, 2)
    first = layer(x).numpy()
    kept = [state.numpy() for state in layer.states]
    layer.reset_states(samples=samples)
    for state, before in zip(layer.states, kept, strict=True):
        assert not state.numpy()[1].any() and np.array_equal(state.numpy()[[0, 2]], before[[0, 2]])
    y = layer(x).numpy()
    np.testing.assert_array_equal(y[1], first[1])
    assert not np.allclose(y[0], first[0])
    layer.reset_states(states=kept, samples=samples)
    assert np.array_equal(layer.states[0].numpy()[1], kept[0][1])


@pytest.mark.parametrize("samples", [[3], np.array([True, False]), [-4]])
def test_wrong_samples(samples):
    layer = L.LSTM(4, stateful=True)
    layer(floats(3, STEPS, 2))
    with pytest.raises(ValueError, match="samples must be"):
        layer.reset_states(samples=samples)


def test_the_batch_size_may_change_after_a_reset():
    model = models.Sequential([L.LSTM(4, stateful=True, batch_input_shape=(3, STEPS, 2)), L.Dense(2)])
    x = floats(3, STEPS, 2)
    layer = model.layers[0]
    first = layer(x).numpy()
    message = "holds the states of a batch of 3 samples, but received a batch of 2.*reset_states"
    with pytest.raises(ValueError, match=message):
        layer(x[:2])
    layer.reset_states()
    np.testing.assert_array_equal(layer(x[:2]).numpy(), first[:2])
    assert layer.states[0].shape == (2, 4)
    layer.reset_states()
    np.testing.assert_array_equal(layer(x).numpy(), first)


def test_programs_follow_a_change_of_the_batch_size():
    model = models.Sequential([L.Input(batch_shape=(None, STEPS, 2)), L.GRU(4, stateful=True)])
    x = floats(4, STEPS, 2)
    results = {}
    for batch in (4, 2, 4, 2, 4):
        found = [model.predict_on_batch(x[:batch]) for _ in range(3)]
        if batch in results:
            np.testing.assert_array_equal(found, results[batch])
        results[batch] = found
        assert not np.allclose(found[0], found[1])
        assert model.layers[-1].states[0].shape == (batch, 4)
        model.reset_states()


def test_a_stateful_model_without_a_batch_size_takes_it_from_the_data():
    model = compiled(models.Sequential([L.LSTM(4, stateful=True), L.Dense(2)]))
    model.fit(floats(8, STEPS, 2), floats(8, 2), batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert model.layers[0].states[0].shape == (4, 4)


def test_a_bias_without_an_initializer_is_made_as_other_weights_are():
    layer = built(L.LSTM(2, bias_initializer=None), (None, None, 3))
    assert (layer.cell.bias.numpy()[2:4] == 1).all() and np.isfinite(layer.cell.bias.numpy()).all()
