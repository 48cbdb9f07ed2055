"""Axes of size 0: results and gradients as Keras 3.15 on JAX gives them, or an error that names the layer."""

import math

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers, ops


def empty(*shape):
    return np.zeros(shape, "float32")


ADDITIVE = layers.AdditiveAttention()

# what is called, with which inputs, and the result of Keras 3.15 on JAX: its shape, and the number that all elements have
RESULTS = {
    "softmax": (ops.softmax, [(2, 0)], (2, 0), None),
    "softmax of a vector": (ops.softmax, [(0,)], (0,), None),
    "softmax of the first axis": (lambda x: ops.softmax(x, axis=0), [(0, 2)], (0, 2), None),
    "softmax over two axes": (lambda x: ops.softmax(x, axis=(0, 2)), [(2, 3, 0)], (2, 3, 0), None),
    "log_softmax": (ops.log_softmax, [(2, 0)], (2, 0), None),
    "log_softmax over two axes": (lambda x: ops.log_softmax(x, axis=(1, 2)), [(2, 0, 3)], (2, 0, 3), None),
    "logsumexp": (lambda x: ops.logsumexp(x, axis=-1), [(2, 0)], (2,), -math.inf),
    "logsumexp of all": (ops.logsumexp, [(2, 0)], (), -math.inf),
    "logsumexp that keeps axes": (lambda x: ops.logsumexp(x, axis=1, keepdims=True), [(2, 0)], (2, 1), -math.inf),
    "matmul": (ops.matmul, [(2, 0), (0, 3)], (2, 3), 0),
    "einsum": (lambda x, y: ops.einsum("ij,jk->ik", x, y), [(2, 0), (0, 3)], (2, 3), 0),
    "dot_product_attention": (ops.dot_product_attention, [(2, 3, 1, 4), (2, 0, 1, 4), (2, 0, 1, 4)], (2, 3, 1, 4), 0),
    "Softmax": (layers.Softmax(), [(2, 0)], (2, 0), None),
    "Softmax with a mask": (lambda x: layers.Softmax()(x, mask=np.ones(x.shape, bool)), [(2, 0)], (2, 0), None),
    "Softmax over two axes": (layers.Softmax(axis=(1, 2)), [(2, 0, 3)], (2, 0, 3), None),
    "Dense": (layers.Dense(3, bias_initializer="ones"), [(2, 0)], (2, 3), 1),
    "Dense with relu": (layers.Dense(3, "relu", bias_initializer="ones"), [(2, 4, 0)], (2, 4, 3), 1),
    "Dense without a bias": (layers.Dense(3, use_bias=False), [(2, 0)], (2, 3), 0),
    "Dense of no rows": (layers.Dense(3), [(0, 2)], (0, 3), None),
    "EinsumDense": (
        layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d", bias_initializer="ones"),
        [(2, 4, 0)],
        (2, 4, 3),
        1,
    ),
    "Conv2D of no images": (layers.Conv2D(3, 2), [(0, 4, 4, 2)], (0, 3, 3, 3), None),
    "Attention": (lambda q, v: layers.Attention()([q, v]), [(2, 3, 4), (2, 0, 4)], (2, 3, 4), 0),
    "AdditiveAttention": (
        lambda q, v: ADDITIVE([q, v]),
        [(2, 3, 4), (2, 0, 4)],
        (2, 3, 4),
        0,
    ),
    "MultiHeadAttention": (layers.MultiHeadAttention(2, 3), [(2, 3, 4), (2, 0, 4)], (2, 3, 4), 0),
    "GroupQueryAttention": (layers.GroupQueryAttention(2, 2, 1), [(2, 3, 4), (2, 0, 4)], (2, 3, 4), 0),
    "BatchNormalization": (layers.BatchNormalization(), [(2, 0)], (2, 0), None),
    "LayerNormalization": (layers.LayerNormalization(), [(2, 0)], (2, 0), None),
    "RMSNormalization": (layers.RMSNormalization(), [(2, 0)], (2, 0), None),
    "LSTM of no features": (layers.LSTM(3), [(2, 5, 0)], (2, 3), 0),
    "GRU of no features": (layers.GRU(3), [(2, 5, 0)], (2, 3), 0),
    "GRU of no sequences": (layers.GRU(3), [(0, 5, 4)], (0, 3), None),
}


@pytest.mark.parametrize("name", RESULTS)
def test_of_no_elements_keras_results_come(name):
    function, shapes, shape, value = RESULTS[name]
    inputs = [ops.convert_to_tensor(empty(*each)) for each in shapes]
    function(*inputs)  # builds a layer
    weights = getattr(function, "trainable_variables", [])

    def step(*inputs):
        with keras.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        return y, tape.gradient(y, [*inputs, *weights])

    for run in (step, keras.jit(step)):
        for _ in range(2):  # recorded, then replayed
            y, gradients = run(*inputs)
            np.testing.assert_array_equal(y, np.full(shape, 0 if value is None else value, "float32"), strict=True)
            for each, gradient in zip([*inputs, *weights], gradients, strict=True):
                assert gradient.shape == each.shape and np.isfinite(gradient).all()


def test_an_embedding_of_no_rows():
    layer = layers.Embedding(3, 2)
    with keras.GradientTape() as tape:
        y = layer(np.zeros((0, 4), "int32"))
    assert y.shape == (0, 4, 2)
    np.testing.assert_array_equal(tape.gradient(y, layer.embeddings), empty(3, 2))


ERRORS = {
    "Conv1D": (layers.Conv1D(3, 2, name="c"), (2, 4, 0)),
    "Conv2D": (layers.Conv2D(3, 2, name="c"), (2, 4, 4, 0)),
    "DepthwiseConv2D": (layers.DepthwiseConv2D(2, name="c"), (2, 4, 4, 0)),
    "SeparableConv2D": (layers.SeparableConv2D(3, 2, name="c"), (2, 4, 4, 0)),
    "Conv2DTranspose": (layers.Conv2DTranspose(3, 2, name="c"), (2, 4, 4, 0)),
    "Conv1D of no steps": (layers.Conv1D(3, 2, padding="same", name="c"), (2, 0, 2)),
    "SimpleRNN": (layers.SimpleRNN(3, name="c"), (2, 0, 4)),
    "LSTM": (layers.LSTM(3, name="c"), (2, 0, 4)),
    "GRU": (layers.GRU(3, name="c"), (2, 0, 4)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_of_no_elements_errors_name_the_layer(name):
    layer, shape = ERRORS[name]
    with pytest.raises(ValueError, match=rf"layer 'c' \({type(layer).__name__}\) .*\({shape[0]}, "):
        layer(empty(*shape))


def test_of_no_channels_an_error_names_the_cell():
    cell = layers.ConvLSTM2D(2, 2).cell
    with pytest.raises(ValueError, match=rf"layer '{cell.name}' needs steps of one channel or more, .*\(1, 4, 4, 0\)"):
        layers.RNN(cell)(empty(1, 2, 4, 4, 0))
