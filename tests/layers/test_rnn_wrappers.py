"""Bidirectional and TimeDistributed."""

import numpy as np
import pytest
from made_models import built, compiled
from mistakes import mistakes
from sequences import STEPS, floats, make_mask, value

from nbkeras import backend as K
from nbkeras import layers as L
from nbkeras import models, ops

# -------------------- Bidirectional --------------------


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [True, False])
def test_bidirectional_merges(merge_mode, sequences):
    both = L.Bidirectional(L.GRU(4, return_sequences=sequences), merge_mode=merge_mode)
    x, mask = floats(3, STEPS, 2), make_mask()
    for arguments in ({}, {"mask": mask}):
        y = value(both(x, **arguments))
        one = both.forward_layer(x, **arguments).numpy()
        other = both.backward_layer(x, **arguments).numpy()
        if sequences:
            other = other[:, ::-1]
            if arguments:
                assert not one[~mask].any() and not other[~mask].any()
        right = {
            "concat": np.concatenate([one, other], -1),
            "sum": one + other,
            "mul": one * other,
            "ave": (one + other) / 2,
            None: [one, other],
        }[merge_mode]
        for a, b in zip(y, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


class OfCell(L.RNN):
    """Its configuration holds the cell as it is, and `from_config` reads it, as Keras's guides have it."""

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        self.given = cell

    def get_config(self):
        return {**super().get_config(), "cell": self.given}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": L.deserialize(config["cell"])})


def test_bidirectional_copies_objects_in_a_configuration():
    cell = L.GRUCell(4)
    both = L.Bidirectional(OfCell(cell))
    assert both(floats(3, STEPS, 2)).shape == (3, 8) and len(both.weights) == 6
    assert len({id(cell), id(both.forward_layer.given), id(both.backward_layer.given)}) == 3 and not cell.built


class TwoShapes(L.LSTM):
    def build(self, sequences_shape, initial_state_shape=None):
        self.given = sequences_shape, initial_state_shape
        super().build(sequences_shape)


def test_bidirectional_of_a_layer_that_is_built_for_two_shapes():
    both = L.Bidirectional(TwoShapes(4))
    assert both(floats(3, STEPS, 2)).shape == (3, 8) and both.forward_layer.given == ((3, STEPS, 2), None)


@pytest.mark.parametrize("merge_mode", ["concat", None])
def test_bidirectional_states(merge_mode):
    both = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True), merge_mode=merge_mode)
    x = L.Masking()(floats(3, STEPS, 2))
    outputs = both(x)
    count = 2 if merge_mode is None else 1
    assert [o.shape for o in outputs[count:]] == [(3, 4)] * 4
    assert all(o.mask is not None for o in outputs[:count]) and all(o.mask is None for o in outputs[count:])
    assert [tuple(s) for s in both.compute_output_shape((3, STEPS, 2))] == [o.shape for o in outputs]
    states = [floats(3, 4, seed=i) for i in range(4)]
    moved = both(x, initial_state=states)
    one = both.forward_layer(x, initial_state=states[:2])
    other = both.backward_layer(x, initial_state=states[2:])
    for got, right in zip(moved[count:], [*one[1:], *other[1:]], strict=True):
        np.testing.assert_array_equal(got.numpy(), right.numpy())
    with pytest.raises(ValueError, match="forward layer's states, then the backward layer's, received 3"):
        both(x, initial_state=states[:3])
    symbols = L.Input((STEPS, 2))
    assert len(both(symbols)) == count + 4


def test_bidirectional_stateful():
    both = L.Bidirectional(L.GRU(4, stateful=True))
    assert both.stateful and both.states is None
    x = floats(3, STEPS, 2)
    first = both(x).numpy()
    kept = [state.numpy() for state in both.states]
    np.testing.assert_array_equal(np.concatenate(kept, -1), first)
    second = both(x).numpy()
    assert not np.allclose(first, second)
    both.reset_states()
    np.testing.assert_array_equal(both(x).numpy(), first)
    both.states = kept
    np.testing.assert_array_equal(both(x).numpy(), second)
    both.reset_states(samples=[0])
    assert not both.states[1].numpy()[0].any()


def test_bidirectional_from_its_configuration():
    custom = L.Bidirectional(L.LSTM(4), backward_layer=L.GRU(3, go_backwards=True), merge_mode=None)
    for both in (L.Bidirectional(L.LSTM(4, return_sequences=True, name="mine"), merge_mode="sum"), custom):
        x = floats(3, STEPS, 2)
        y = value(both(x))
        again = built(L.Bidirectional.from_config(both.get_config()), (None, STEPS, 2))
        again.set_weights(both.get_weights())
        np.testing.assert_equal(value(again(x)), y)
        assert again.forward_layer.name == both.forward_layer.name
    assert [w.shape[-1] for w in custom.get_weights()] == [16, 16, 16, 9, 9, 9]


test_wrong_wrappers = mistakes(
    [
        (lambda: L.Bidirectional(L.Dense(3)), "wraps a recurrent layer"),
        (lambda: L.Bidirectional(L.LSTM(3), merge_mode="max"), "merge_mode must be one of"),
        (lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3)), "must run in opposite directions"),
        (
            lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3, go_backwards=True, return_sequences=True)),
            "must have the same return_sequences, received False and True",
        ),
        (lambda: L.TimeDistributed(3), r"wraps a layer such as Dense\(8\), received 3"),
        (
            lambda: L.TimeDistributed(L.Dense(2))(floats(2, 3, 4), mask=np.ones((2, 4), bool)),
            r"needs a mask \(batch, steps, ...\) for its input",
        ),
        (lambda: L.TimeDistributed(L.Dense(3))(floats(3, 2)), r"needs an input \(batch, steps, features"),
    ],
    ValueError,
)


# -------------------- TimeDistributed --------------------


def test_time_distributed_is_the_layer_at_each_step():
    layer = L.TimeDistributed(L.Dense(4, activation="tanh"))
    x = floats(3, STEPS, 2)
    y = layer(x).numpy()
    for t in range(STEPS):
        np.testing.assert_allclose(y[:, t], layer.layer(x[:, t]).numpy(), rtol=1e-6, atol=1e-6)
    assert layer.compute_output_shape((None, None, 2)) == (None, None, 4)


def test_time_distributed_model():
    inner_inputs = L.Input((4, 2))
    inner = models.Model(inner_inputs, L.Dense(3)(L.LSTM(3)(inner_inputs)))
    inputs = L.Input((None, 4, 2))
    outputs = L.TimeDistributed(inner)(inputs)
    assert outputs.shape == (None, None, 3)
    model = models.Model(inputs, outputs)
    x = floats(2, STEPS, 4, 2)
    y = model.predict(x, verbose=0)
    for t in range(STEPS):
        np.testing.assert_allclose(y[:, t], inner(x[:, t]).numpy(), rtol=1e-5, atol=1e-6)
    assert len(model.trainable_weights) == 5
    again = models.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), y)


def test_time_distributed_with_an_unbuilt_sequential():
    inner = models.Sequential([L.Dense(3), L.Dense(2)])
    layer = L.TimeDistributed(inner)
    y = layer(floats(2, STEPS, 4))
    assert y.shape == (2, STEPS, 2) and len(layer.weights) == 4


def test_time_distributed_passes_masks_on():
    x = floats(3, STEPS, 2)
    x[0, 3:] = 0
    masked = L.Masking()(x)
    y = L.TimeDistributed(L.Dense(4))(masked)
    assert np.array_equal(y.mask.numpy(), masked.mask.numpy())
    words = np.array([[[1, 2, 0], [0, 0, 0]], [[3, 0, 0], [1, 2, 3]]])
    embedded = L.Embedding(5, 4, mask_zero=True)(words)
    inner = L.LSTM(3)
    layer = L.TimeDistributed(inner)
    found = layer(embedded)
    for i in range(2):
        right = inner(embedded.numpy()[i], mask=words[i] != 0)
        np.testing.assert_allclose(found.numpy()[i], right.numpy(), rtol=1e-6, atol=1e-6)
    assert found.mask.numpy().tolist() == [[True, False], [True, True]]  # sentences that have a word
    for x in (floats(3, STEPS, 2, 2), L.Input((STEPS, 2, 2), batch_size=3)):
        with pytest.raises(ValueError, match=r"needs a mask \(batch, steps, .*received shape \(3,\)"):
            L.TimeDistributed(L.LSTM(2))(x, mask=np.ones(3, bool))


def test_time_distributed_gives_each_step_its_mask():
    class Kept(L.Layer):
        def call(self, inputs, mask=None):
            return inputs if mask is None else inputs * ops.cast(ops.expand_dims(mask, -1), inputs.dtype)

    x, mask = floats(3, STEPS, 2), np.random.default_rng(0).random((3, STEPS)) < 0.5
    np.testing.assert_array_equal(L.TimeDistributed(Kept())(x, mask=mask).numpy(), x * mask[..., None])
    norm = L.TimeDistributed(L.BatchNormalization(momentum=0.0))
    norm(x, mask=mask, training=True)
    np.testing.assert_allclose(norm.layer.moving_mean.numpy(), x[mask].mean(0), rtol=1e-5)


def test_time_distributed_mask_in_a_functional_model():
    inputs = L.Input((None, 3), dtype="int32")
    words = L.Embedding(5, 4, mask_zero=True)(inputs)
    sentences = L.TimeDistributed(L.LSTM(3))(words)
    assert sentences.mask is not None
    model = models.Model(inputs, L.GRU(2)(sentences))
    x = np.array([[[1, 2, 0], [0, 0, 0]], [[3, 0, 0], [1, 2, 3]]])
    longer = np.concatenate([x, np.zeros((2, 2, 3), int)], axis=1)
    np.testing.assert_allclose(model.predict(longer, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-6)


def test_masks_of_symbolic_inputs_can_be_computed_with():
    """A mask that compute_mask gives for symbolic tensors is a part of the graph."""
    inputs = L.Input((3, 4))
    masking, wrapped = L.Masking(), L.TimeDistributed(L.Dense(2))
    wrapped(masking(inputs))
    mask = wrapped.compute_mask(masking(inputs), masking.compute_mask(inputs))
    x = np.ones((2, 3, 4))
    x[0, 1:] = 0
    (found,) = K.function([inputs], [mask])([x])
    np.testing.assert_array_equal(found, [[True, False, False], [True, True, True]])
    assert wrapped.compute_mask(inputs, None) is None


def test_nothing_in_a_frozen_wrapper_is_trained():
    """As in Keras 3: `trainable=False` of the outer layer freezes the layers in it, until one of them is unfrozen."""
    model = compiled(models.Sequential([L.Bidirectional(L.LSTM(2), trainable=False, input_shape=(4, 3)), L.Dense(1)]))
    before = model.get_weights()
    model.train_on_batch(np.ones((2, 4, 3)), np.ones((2, 1)))
    assert [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)] == [True] * 6 + [False] * 2
    assert len(model.trainable_weights) == 2 and len(model.non_trainable_weights) == 6
    model.layers[0].forward_layer.trainable = True
    assert len(model.trainable_weights) == 5 and model.layers[0].trainable_weights == []
    model.layers[0].trainable = True
    assert len(model.trainable_weights) == 8
