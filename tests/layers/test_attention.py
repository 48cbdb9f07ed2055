"""Attention: the op's gradients, masks of layers, heads in groups, errors. Its numbers are in test_keras_equality.py."""

import json

import numpy as np
import pytest
from made_models import compiled

from nbkeras import layers as L
from nbkeras import models, ops, profile, utils
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import Variable
from nbkeras.ops import attention
from nbkeras.testing import check_op

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def keep(*shape):
    return rng.uniform(size=shape) > 0.3


def expected(q, k, v, allowed, scale):
    """Softmax attention in NumPy; a query without keys is spread over all of them."""
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("btnh,bsnh->bnts", q, k) * scale
    scores = np.where(allowed, scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnts,bsnh->btnh", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize(("heads", "causal"), [(4, False), (2, True), (1, False)])
def test_dot_product_attention(heads, causal):
    q, k, v, mask = normal(2, 5, 4, 3), normal(2, 6, heads, 3), normal(2, 6, heads, 2), keep(2, 1, 5, 6)
    mask[0, 0, 1] = False
    allowed = mask & np.tril(np.ones((5, 6), bool)) if causal else mask

    def op(q, k, v):
        return ops.dot_product_attention(q, k, v, mask=mask, is_causal=causal)

    np.testing.assert_allclose(op(q, k, v).numpy(), expected(q, k, v, allowed, 3**-0.5), rtol=1e-10, atol=1e-12)
    check_op(op, q, k, v)


def test_bias_and_scale():
    q, k, v, bias = normal(2, 3, 2, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 3), normal(2, 3, 5)
    check_op(lambda *a: ops.dot_product_attention(*a[:3], bias=a[3], scale=0.3), q, k, v, bias)
    far = ops.dot_product_attention(q, k, v, bias=np.where(np.arange(5) < 1, 0, -1e9), scale=0.3).numpy()
    np.testing.assert_allclose(far, np.broadcast_to(v[:, :1], far.shape))


def test_a_row_without_keys_has_no_gradient():
    mask = np.zeros((1, 1, 1, 3), bool)
    for spread, total in ((True, 1.0), (False, 0.0)):
        check_op(lambda x, spread=spread: attention.masked_softmax(x, mask, spread=spread), normal(2, 2, 2, 3))
        y = attention.masked_softmax(normal(2, 2, 2, 3), mask, spread=spread)
        np.testing.assert_allclose(y.numpy().sum(-1), total)


@pytest.mark.parametrize("axes", [1, 2, -2, (1, 2), (1, 3), None])
def test_attention_over_axes_is_attention_over_one(axes):
    x, layer = normal(2, 3, 4, 2, 5).astype("float32"), L.MultiHeadAttention(2, 3, attention_axes=axes)
    y, weights = (t.numpy() for t in layer(x, x, return_attention_scores=True))
    several = [axis % 5 for axis in ((1, 2, 3) if axes is None else np.atleast_1d(axes))]
    free = [axis for axis in (1, 2, 3) if axis not in several]
    order = [0, *free, *several, 4]
    n = int(np.prod([x.shape[axis] for axis in several]))
    plain = L.MultiHeadAttention(2, 3)
    flat = x.transpose(order).reshape(-1, n, 5)
    plain(flat, flat)
    plain.set_weights(layer.get_weights())
    z, inner = (t.numpy() for t in plain(flat, flat, return_attention_scores=True))
    moved = z.reshape([x.shape[axis] for axis in order]).transpose(np.argsort(order))
    np.testing.assert_allclose(y, moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights.reshape(inner.shape), inner, rtol=1e-5, atol=1e-6)
    mask = keep(2, n, n) | np.eye(n, dtype=bool)
    shape = (2, *[x.shape[axis] for axis in several] * 2)
    y = layer(x, x, attention_mask=mask.reshape(shape)).numpy()
    z = plain(flat, flat, attention_mask=np.repeat(mask, len(flat) // 2, axis=0)).numpy()
    moved = z.reshape([x.shape[axis] for axis in order]).transpose(np.argsort(order))
    np.testing.assert_allclose(y, moved, rtol=1e-5, atol=1e-6)


def test_masks_are_combined():
    x, layer = normal(2, 4, 3).astype("float32"), L.MultiHeadAttention(2, 3)
    query, value, given = keep(2, 4), keep(2, 4), keep(2, 4, 4)
    y, weights = layer(
        x,
        x,
        query_mask=query,
        value_mask=value,
        attention_mask=given,
        use_causal_mask=True,
        return_attention_scores=True,
    )
    allowed = query[:, :, None] & value[:, None] & given & np.tril(np.ones((4, 4), bool))
    np.testing.assert_array_equal(weights.numpy() > 0, np.repeat(allowed[:, None], 2, axis=1))
    by_head = np.stack([allowed, ~allowed], 1)
    weights = layer(x, x, attention_mask=by_head, return_attention_scores=True)[1].numpy()
    np.testing.assert_array_equal(weights > 0, by_head)
    shared = layer(x, x, attention_mask=given[0], return_attention_scores=True)[1].numpy()
    np.testing.assert_array_equal(shared > 0, np.broadcast_to(given[0], (2, 2, 4, 4)))


def test_masks_come_with_the_inputs_and_the_query_keeps_its_own():
    words = np.array([[1, 2, 0], [3, 0, 0]])
    a, b = L.Input((3,), dtype="int32"), L.Input((3,), dtype="int32")
    table = L.Embedding(5, 4, mask_zero=True)
    layer = L.MultiHeadAttention(1, 2)
    y, weights = layer(table(a), table(b), return_attention_scores=True)
    model = models.Model([a, b], [y, weights])
    found = model.predict([words, words[::-1]], verbose=0)[1]
    np.testing.assert_array_equal(found > 0, (words[:, None, :, None] > 0) & (words[::-1][:, None, None] > 0))
    assert y.mask is not None and weights.mask is None
    outputs = layer(table(words), table(words), return_attention_scores=True)
    np.testing.assert_array_equal(outputs[0].mask.numpy(), words > 0)
    assert outputs[1].mask is None


@pytest.mark.parametrize("make", [L.Attention, L.AdditiveAttention])
def test_attention_in_rows_of_images(make):
    query, value = normal(2, 3, 5, 4).astype("float32"), normal(2, 3, 6, 4).astype("float32")
    masks = [keep(2, 3, 5), keep(2, 3, 6)]
    layer = make()
    found, weights = layer([query, value], mask=masks, return_attention_scores=True)
    assert found.shape == (2, 3, 5, 4) and weights.shape == (2, 3, 5, 6)
    for row in range(3):
        alone = layer([query[:, row], value[:, row]], mask=[mask[:, row] for mask in masks])
        np.testing.assert_allclose(found.numpy()[:, row], alone.numpy(), rtol=1e-5, atol=1e-6)


def test_the_weights_that_attention_returns_are_those_it_used():
    query, value = normal(2, 5, 4).astype("float32"), normal(2, 6, 4).astype("float32")
    found, weights = L.Attention(dropout=0.5, seed=1)([query, value], training=True, return_attention_scores=True)
    np.testing.assert_allclose(found.numpy(), weights.numpy() @ value, rtol=1e-5, atol=1e-6)
    assert (weights.numpy() == 0).any()


def test_groups_of_heads_are_repeated_heads():
    x, y = normal(2, 5, 6).astype("float32"), normal(2, 4, 6).astype("float32")
    few, many = L.GroupQueryAttention(3, 4, 2), L.MultiHeadAttention(4, 3)
    few(x, y), many(x, y)
    weights = few.get_weights()
    for i in (2, 4):
        weights[i], weights[i + 1] = (np.repeat(w, 2, axis=w.ndim - 2) for w in weights[i : i + 2])
    many.set_weights(weights)
    np.testing.assert_allclose(few(x, y).numpy(), many(x, y).numpy(), rtol=1e-5, atol=1e-6)


def test_dropout_is_fresh_in_each_replayed_step():
    utils.set_random_seed(0)
    x = normal(4, 6, 5).astype("float32")
    inputs = L.Input((6, 5))
    model = compiled(models.Model(inputs, L.MultiHeadAttention(2, 3, dropout=0.5, seed=1)(inputs, inputs)))
    weights = model.get_weights()
    losses = []
    for _ in range(4):
        model.set_weights(weights)
        losses.append(model.train_on_batch(x, x))
    assert len(set(losses)) == 4
    assert model.predict(x, verbose=0).shape == x.shape


@pytest.mark.cpu("a GPU copies the heads in front first")
def test_a_call_is_few_launches():
    """Projections, two products where the heads lie and a softmax; nothing is copied."""
    x = normal(2, 6, 8).astype("float32")
    inputs = L.Input((6, 8))
    model = models.Model(inputs, L.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True))
    model.predict(x, verbose=0)
    with profile() as launches:
        model.predict_on_batch(x)
    assert launches.calls == {"multiply": 4, "multiply_heads": 2, "masked_forward": 1}


def test_files_for_keras_2_say_the_shapes(tmp_path):
    h5py = pytest.importorskip("h5py")
    query, value = L.Input((3, 4)), L.Input((5, 2))
    model = models.Model([query, value], L.MultiHeadAttention(2, 3)(query, value))
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        config = json.loads(file.attrs["model_config"])["config"]["layers"][-1]["config"]
    assert [config[f"{name}_shape"] for name in ("query", "key", "value")] == [[None, 3, 4], [None, 5, 2], [None, 5, 2]]
    assert "use_gate" not in config and "seed" not in config
    given = [normal(2, 3, 4), normal(2, 5, 2)]
    again = models.load_model(tmp_path / "m.h5")
    np.testing.assert_array_equal(again.predict(given, verbose=0), model.predict(given, verbose=0))


def test_weights_have_the_paths_of_keras(tmp_path):
    h5py = pytest.importorskip("h5py")
    inputs = L.Input((3, 4))
    heads = L.MultiHeadAttention(2, 3, use_gate=True, use_bias=False)(inputs, inputs)
    model = models.Model(inputs, L.GroupQueryAttention(3, 2, 1, use_bias=False)(heads, heads))
    model.save_weights(tmp_path / "m.weights.h5")
    found = []
    with h5py.File(tmp_path / "m.weights.h5") as file:
        file.visititems(lambda path, item: found.append(path) if isinstance(item, h5py.Dataset) else None)
    parts = "_gate_dense key_dense output_dense query_dense value_dense".split()
    expected = {f"layers/multi_head_attention/{part}/vars/0" for part in parts}
    expected |= {f"layers/grouped_query_attention/_{part}/vars/0" for part in parts[1:]}
    assert {path for path in found if "states" not in path} == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: L.MultiHeadAttention(2, 0), "key_dim must be a positive integer"),
        (lambda x: L.MultiHeadAttention(2, 3, flash_attention=True), "does not offer flash_attention"),
        (lambda x: L.MultiHeadAttention(2, 3, attention_axes=0)(x, x), "between the batch axis and the last"),
        (lambda x: L.MultiHeadAttention(2, 3)(x, x, x[:, :2]), "same shapes except for the last axis"),
        (lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=np.ones((2, 3, 9), bool)), "must broadcast to"),
        (
            lambda x: L.MultiHeadAttention(2, 3).compute_output_shape((2, 4, 8), (2, 2, 8), (2, 1, 8)),
            "must have the same shapes .*the last axis",
        ),
        (lambda x: L.GroupQueryAttention(3, 3, 2), "must be a multiple"),
        (lambda x: L.Attention(score_mode="cosine"), "'dot' or 'concat'"),
        (lambda x: L.Attention()(x), r"list \[query, value\]"),
        (lambda x: ops.dot_product_attention(x, x, x), "attention needs a query .* of the same batch and size"),
        (
            lambda x: ops.dot_product_attention(x[None], x[None], x[None], flash_attention=True),
            "neither flash_attention=True nor attn_logits_soft_cap",
        ),
        (lambda x: L.EinsumDense("ab,bc", 3), "equation must be"),
        (lambda x: L.EinsumDense("ab,bc->ac", 3)(x), "does not fit an input"),
        (lambda x: L.EinsumDense("abc,cd->abd", 3)(x), "must have a size for each"),
        (lambda x: L.EinsumDense("abc,cd->abd", (2, 3))(x), "'b' has size 4 in the input"),
        (lambda x: L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="x")(x), "bias_axes must be letters"),
        (lambda x: L.GroupNormalization(3)(x), r"divides axis -1 of an input of shape \(2, 4, 5\) into 3 groups"),
        (lambda x: L.SpectralNormalization(L.Flatten())(x), "a kernel or embeddings"),
        (lambda x: L.EinsumDense("abc,cd->abe", (None, 3))(x), "'e' of the output 'abe' is in neither 'abc' nor 'cd'"),
        (
            lambda x: L.EinsumDense("abc,de->abc", (None, 5))(x),
            "the letters 'de' of the kernel must all be in 'abc' or 'abc'",
        ),
        (
            lambda x: L.Attention()([x, x], mask=np.ones((2, 4), bool)),
            r"mask must be a list \[query mask, value mask\], received Tensor of shape",
        ),
        (
            lambda x: L.MultiHeadAttention(1, 2, attention_axes=(1, 2))(x[:, None], x[:, None], use_causal_mask=True),
            "attends over 2 axes: .* use_causal_mask and sliding_window are for one; pass attention_mask",
        ),
        (
            lambda x: attention.masked_softmax(x),
            r"scores \(batch, heads, t, s\), received shape \(2, 4, 5\)",
        ),
        (lambda x: attention.attend(x[None], x[None, :, :3]), r"values \(batch, s, heads, size\) for weights of shape"),
        (
            lambda x: ops.dot_product_attention(np.ones((1, 2, 3, 4)), np.ones((1, 2, 2, 4)), np.ones((1, 2, 2, 4))),
            "queries must have as many heads as keys and values, or a multiple; received 3 and 2",
        ),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(2, 4, 5).astype("float32"))


def test_spectral_normalization_replays_its_iteration():
    x, y = normal(8, 4).astype("float32"), normal(8, 3).astype("float32")
    found = []
    for eagerly in (False, True):
        utils.set_random_seed(3)
        model = compiled(models.Sequential([L.Input((4,)), L.SpectralNormalization(L.Dense(3))]), run_eagerly=eagerly)
        for _ in range(5):
            model.train_on_batch(x, y)
        found.append(model.get_weights())
    np.testing.assert_equal(*found)
    zero = L.SpectralNormalization(L.Dense(3, kernel_initializer="zeros"))
    np.testing.assert_array_equal(zero(x, training=True).numpy(), 0)


def test_initializers_may_be_functions():
    ones = L.MultiHeadAttention(1, 2, kernel_initializer=lambda shape, dtype=None: np.ones(shape, dtype))
    x = np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(ones(x, x).numpy(), np.full((1, 2, 3), 6.0))


def test_a_quantized_kernel_with_more_summed_axes_than_the_output_has_axes_of_its_own():
    layer = L.EinsumDense("abc,bcd->ad", 3)
    x = normal(2, 4, 5).astype("float32")
    expected = layer(x).numpy()
    layer.quantize("int8")
    assert layer.kernel_scale.shape == (1, 3)
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=0.05)


def test_a_scale_below_zero():
    q, k, v = (normal(1, 3, 2, 4) for _ in range(3))
    scores = -0.5 * np.einsum("btnh,bsnh->bnts", q, k)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnh->btnh", weights, v)
    np.testing.assert_allclose(ops.dot_product_attention(q, k, v, scale=-0.5), expected, rtol=1e-6)


def test_no_query_changes_no_gradient():
    q, k, v = (Variable(normal(1, n, 2, 4)) for n in (0, 3, 3))
    with GradientTape() as tape:
        y = ops.dot_product_attention(q, k, v)
    assert y.shape == (1, 0, 2, 4)
    for each in tape.gradient(y, [k, v]):
        np.testing.assert_array_equal(each, np.zeros((1, 3, 2, 4)))
