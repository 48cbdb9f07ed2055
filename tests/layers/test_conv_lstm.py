"""ConvLSTM layers and cells, in addition to the stored numbers of Keras: states, masks, formats, dropout, errors."""

import functools

import arrays
import numpy as np
import pytest
from made_models import built, reloaded

from nbkeras import layers as L
from nbkeras import models, ops, optimizers, utils

normal = functools.partial(arrays.normal, dtype="float32")
KINDS = {1: L.ConvLSTM1D, 2: L.ConvLSTM2D, 3: L.ConvLSTM3D}


def images(rank, first=False):
    sizes = (5, 4, 3)[:rank]
    return normal(2, 4, *((2, *sizes) if first else (*sizes, 2)))


@pytest.mark.parametrize("rank", KINDS)
def test_channels_first_is_channels_last_transposed(rank):
    settings = {"strides": 2, "return_sequences": True, "return_state": True}
    last, first = (KINDS[rank](3, 2, data_format=f, **settings) for f in ("channels_last", "channels_first"))
    x = images(rank)
    expected = last(x)
    first.build(np.moveaxis(x, -1, 2).shape)
    first.set_weights(last.get_weights())
    for found, want, axis in zip(first(np.moveaxis(x, -1, 2)), expected, (2, 1, 1), strict=True):
        np.testing.assert_allclose(np.moveaxis(found.numpy(), axis, -1), want, rtol=1e-5, atol=1e-6)
    shapes = first.compute_output_shape((None, 4, 2, *x.shape[2:-1]))
    assert shapes[0][:3] == (None, 4, 3) and shapes[1] == shapes[2] == (None, *first.cell.state_shape)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_cell_step_by_step_gives_what_the_layer_gives(data_format):
    x = images(2, data_format == "channels_first")
    layer = L.ConvLSTM2D(3, (2, 3), padding="same", data_format=data_format, return_sequences=True)
    expected = layer(x)
    states = layer.get_initial_state(2)
    for step in range(4):
        output, states = layer.cell(x[:, step], states)
        np.testing.assert_allclose(output, expected[:, step], rtol=1e-5, atol=1e-6)


def test_states_go_on():
    x = images(2)
    layer = L.ConvLSTM2D(2, 3, return_sequences=True, return_state=True)
    whole, *_ = layer(x)
    first, *states = layer(x[:, :3])
    last, *_ = layer(x[:, 3:], initial_state=states)
    np.testing.assert_allclose(ops.concatenate([first, last], 1), whole, rtol=1e-5, atol=1e-6)
    zeros = layer.get_initial_state(ops.convert_to_tensor(x))  # Keras 2 passes the inputs
    np.testing.assert_allclose(layer(x, initial_state=zeros)[0], whole, rtol=1e-6)
    with pytest.raises(ValueError, match="must have shapes"):
        layer(x, initial_state=[normal(2, 3, 3, 2), normal(2, 3, 2, 2)])


def test_stateful_rows_are_reset_by_samples():
    x = images(1)
    layer = L.ConvLSTM1D(2, 3, stateful=True)
    start = layer(x).numpy()
    layer.reset_states(samples=[1])
    again = layer(x).numpy()
    assert np.abs(again[0] - start[0]).max() > 1e-3
    np.testing.assert_allclose(again[1], start[1], rtol=1e-6)
    layer.reset_states()
    np.testing.assert_allclose(layer(x[:1]), start[:1], rtol=1e-5, atol=1e-7)  # another batch size


def test_masked_steps_leave_states_as_they_are():
    x, mask = images(2), np.array([[True, False, True, False], [False, True, True, True]])
    layer = L.ConvLSTM2D(2, 2, return_sequences=True, return_state=True)
    y, h, c = layer(x, mask=mask)
    for row, steps in enumerate(([0, 2], [1, 2, 3])):
        alone, *states = layer(x[row : row + 1, steps])
        np.testing.assert_allclose(y[row, steps], alone[0], rtol=1e-5, atol=1e-6)
        for found, expected in zip((h, c), states, strict=True):
            np.testing.assert_allclose(found[row], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y[0, 1], y[0, 0])
    zeroed = L.ConvLSTM2D(2, 2, return_sequences=True, zero_output_for_mask=True)
    assert not zeroed(x, mask=mask)[0, 1].numpy().any()


@pytest.mark.parametrize("where", ["dropout", "recurrent_dropout"])
def test_dropout_is_the_same_at_all_steps(where):
    utils.set_random_seed(3)
    x = np.ones((2, 5, 4, 4, 2), "float32")
    layer = L.ConvLSTM2D(2, 3, **{where: 0.5}, padding="same", return_sequences=True)
    plain = layer(x)
    dropped = layer(x, training=True)
    assert np.abs(dropped - plain).max() > 1e-3
    assert layer.cell._masks is None  # no batch is kept: nothing public shows that
    np.testing.assert_array_equal(layer(x), plain)
    if where == "dropout":  # the mask holds for all steps: steps in another order give the same
        layer.cell.start_sequence()
        steps = [layer.cell(x[:, 0], layer.get_initial_state(2), training=True)[0].numpy() for _ in range(2)]
        layer.cell.end_sequence()
        np.testing.assert_array_equal(*steps)


def test_trains_and_is_saved(tmp_path):
    x = images(2)
    model = models.Sequential([L.Input((4, 5, 4, 2)), L.ConvLSTM2D(3, 2, dropout=0.1), L.Flatten(), L.Dense(1)])
    model.compile(optimizers.Adam(0.02), "mse")
    losses = model.fit(x, np.ones((2, 1)), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    loaded = reloaded(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    bias = built(L.ConvLSTM2D(2, 3, name="fresh"), (None, 4, 5, 4, 2))
    np.testing.assert_array_equal(bias.get_weights()[2], [0, 0, 1, 1, 0, 0, 0, 0])


MISTAKES = {
    "filters": (lambda: L.ConvLSTM2D(0, 3), "ConvLSTM2D: filters must be a positive integer"),
    "kernel size": (lambda: L.ConvLSTM2D(2, (3, 3, 3)), "ConvLSTM2D: kernel_size must be a positive integer or 2"),
    "padding": (lambda: L.ConvLSTM1D(2, 3, padding="causal"), "padding must be 'valid' or 'same'"),
    "open size": (lambda: L.ConvLSTM2D(2, 3)(L.Input((None, None, 5, 2))), "needs 4 axes of known size in a step"),
    "axes": (lambda: L.ConvLSTM2D(2, 3)(normal(2, 3, 4, 2)), "ndim=5"),
    "too small": (lambda: L.ConvLSTM1D(2, 5)(normal(2, 3, 4, 2)), "leaves nothing of an input"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        make()
