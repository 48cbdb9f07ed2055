"""Internal members of Keras 3's classes that packages override or call, while nbkeras is installed as Keras 3."""

import contextlib

import numpy as np
import pytest

from nbkeras import Input, Model, layers, ops
from nbkeras.compat.keras3 import install, serialization_lib
from nbkeras.layers import MultiHeadAttention


@pytest.fixture(autouse=True)
def keras_3():
    with contextlib.ExitStack() as stack:
        install.install(stack)
        yield


class Projected(MultiHeadAttention):
    """Attention with `build` and `call` of its own, as KerasHub has it for Whisper."""

    def build(self, query_shape, value_shape, key_shape=None):
        for name, equation, shape, bias in (
            ("query", "abc,cde->abde", (None, self._num_heads, self._key_dim), "de"),
            ("key", "abc,cde->abde", (None, self._num_heads, self._key_dim), None),
            ("value", "abc,cde->abde", (None, self._num_heads, self._value_dim), "de"),
        ):
            options = self._get_common_kwargs_for_sublayer()
            dense = layers.EinsumDense(equation, shape, bias_axes=bias, name=name, **options)
            dense.build(query_shape)
            setattr(self, f"_{name}_dense", dense)
        self._build_attention(4)
        self._output_dense = layers.EinsumDense("abcd,cde->abe", (None, query_shape[-1]), name="attention_output")
        self._output_dense.build((*query_shape[:-1], self._num_heads, self._value_dim))

    def call(self, query, value, attention_mask=None, scores=False):
        q, k, v = self._query_dense(query), self._key_dense(value), self._value_dense(value)
        heads, weights = self._compute_attention(q, k, v, attention_mask, return_attention_scores=scores)
        output = self._output_dense(heads)
        return (output, weights, q, k, v, heads) if scores else output


def test_a_subclass_projects_and_attends_itself():
    layer = Projected(2, 3)
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    mask = np.tril(np.ones((1, 5, 5), bool))
    output, weights, q, k, v, heads = layer(x, x, mask, scores=True)
    np.testing.assert_allclose(layer(x, x, mask), output, rtol=1e-5, atol=1e-6)
    scores = ops.einsum(layer._dot_product_equation, k, q * layer._inverse_sqrt_key_dim)
    np.testing.assert_allclose(layer._masked_softmax(scores, mask), weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ops.einsum(layer._combine_equation, weights, v), heads, rtol=1e-5, atol=1e-6)
    plain = MultiHeadAttention(2, 3)
    plain.build(x.shape, x.shape)
    values = {each.path.partition("/")[2]: each.numpy() for each in layer.weights}  # without the layer's own name
    plain.set_weights(
        [values.get(each.path.partition("/")[2], each.numpy()) for each in plain.weights]
    )  # no key's bias
    np.testing.assert_allclose(plain(x, x, use_causal_mask=True), output, rtol=1e-5, atol=1e-6)


def test_a_layer_takes_strings_and_returns_what_it_likes():
    class Words(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self._convert_input_args = False

        def build(self, input_shape):
            self.separator = ","

        def call(self, inputs, training=None):
            return [text.split(self.separator) for text in inputs]

    layer = Words()
    assert layer(["a,b", "c"]) == [["a", "b"], ["c"]] and layer._convert_input_args is False
    layer._convert_input_args = True
    with pytest.raises(TypeError, match="must return tensors, received str"):
        layer(["a,b", "c"])


def test_layers_are_flattened_in_keras_order():
    class Outer(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(1, name="first"), layers.Dense(1, name="second")

    class Whole(layers.Layer):
        def __init__(self):
            super().__init__(name="whole")
            self.a, self.b = Outer(name="a"), Outer(name="b")

    names = [layer.name for layer in Whole()._flatten_layers()]
    assert names == ["whole", "a", "second", "first", "b", "second", "first"]  # of Keras 3.15.1
    assert [layer.name for layer in Whole()._flatten_layers(include_self=False, recursive=False)] == ["a", "b"]


def test_the_table_of_an_embedding_and_the_ends_of_a_model():
    layer, inputs = layers.Embedding(3, 2), Input((4,), dtype="int32")
    model = Model({"ids": inputs}, layer(inputs))
    table = layer.embeddings
    layer.enable_lora(1)
    assert layer._embeddings is table and model._inputs_struct == {"ids": inputs}


def test_no_file_is_read():
    assert serialization_lib.in_safe_mode() is False
