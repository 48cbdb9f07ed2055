"""Cases of attention layers and EinsumDense."""

from protocol import branches, family, normal, padded, regression

attention = family("attention")


def compiled(k, inputs, outputs):
    model = k.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss="mse")
    return model


def pooled(k, tensor, units=2):
    return k.layers.Dense(units)(k.layers.Flatten()(tensor))


@attention(normal(6, 4, 5), normal(6, 40))
def einsum_dense(k):
    layers = [
        k.layers.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d", activation="tanh"),
        k.layers.EinsumDense("abc,cde->abde", (None, 1, 2), bias_axes="de"),
        k.layers.EinsumDense("...ab,bc->...ac", (4, 1), bias_axes="a", activation="relu"),
        k.layers.EinsumDense("ab...,bc->ac...", 2, bias_axes="c"),
        k.layers.EinsumDense("abc,bd->acd", (5, 2)),
    ]
    return branches(k, (4, 5), layers)


@attention(normal(6, 5, 4), normal(6, 2))
def multi_head_self_attention(k):
    x = k.Input(shape=(5, 4))
    y = k.layers.add([x, k.layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)])
    y = k.layers.MultiHeadAttention(2, 3, use_bias=False, sliding_window=2)(y, y)
    return compiled(k, x, pooled(k, y))


# JAX under Keras wants value_dim to be key_dim
@attention((normal(6, 5, 4), normal(6, 3, 6), normal(6, 3, 2)), normal(6, 2), backends=("tensorflow",))
def multi_head_cross_attention(k):
    q, v, key = k.Input(shape=(5, 4)), k.Input(shape=(3, 6)), k.Input(shape=(3, 2))
    y = k.layers.MultiHeadAttention(3, 2, value_dim=4, output_shape=(2, 3), use_gate=True)(q, v, key)
    return compiled(k, [q, v, key], pooled(k, y))


# TensorFlow under Keras 3 averages the losses of outputs over batches.
# A query at which all is masked takes the mean of the values in one and nothing in the other, which returns its scores.
@attention((padded(9, 7, 6), padded(9, 7, 6)), (normal(7, 6, 3), normal(7, 2)), backends=("jax",))
def masked_multi_head_attention(k):
    a, b = k.Input(shape=(6,), dtype="int32"), k.Input(shape=(6,), dtype="int32")
    embedding = k.layers.Embedding(9, 4, mask_zero=True)
    x, y = embedding(a), embedding(b)
    decoded = k.layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    heard, scores = k.layers.MultiHeadAttention(2, 3)(decoded, y, return_attention_scores=True)
    heard = k.layers.Dense(3, name="heard")(k.layers.LSTM(3, return_sequences=True)(heard))
    return compiled(k, [a, b], [heard, k.layers.Dense(2, name="scores")(k.layers.Flatten()(scores))])


# TensorFlow has no softmax of so many axes
@attention(normal(5, 3, 4, 2, 4), normal(5, 2), backends=("jax",))
def multi_head_attention_over_axes(k):
    x = k.Input(shape=(3, 4, 2, 4))
    parts = [k.layers.MultiHeadAttention(2, 3, attention_axes=axes)(x, x) for axes in (2, (1, 3), None)]
    return compiled(k, x, pooled(k, k.layers.add(parts)))


@attention((normal(6, 5, 4), normal(6, 3, 4)), normal(6, 2))
def group_query_attention(k):
    q, v = k.Input(shape=(5, 4)), k.Input(shape=(3, 4))
    y = k.layers.GroupQueryAttention(3, 4, 2)(q, v, use_causal_mask=True)
    y, scores = k.layers.GroupQueryAttention(2, 2, 1, use_gate=True)(y, v, return_attention_scores=True)
    return compiled(k, [q, v], k.layers.concatenate([pooled(k, y, 1), pooled(k, scores, 1)]))


@attention((normal(6, 5, 4), normal(6, 3, 4)), normal(6, 20))
def attention_scores(k):
    q, v = k.Input(shape=(5, 4)), k.Input(shape=(3, 4))
    layers = [
        k.layers.Attention(),
        k.layers.Attention(use_scale=True),
        k.layers.Attention(score_mode="concat", use_scale=True),
        k.layers.AdditiveAttention(),
        k.layers.AdditiveAttention(use_scale=False),
    ]
    outputs = [pooled(k, layer([q, v]), 4) for layer in layers]
    return compiled(k, [q, v], k.layers.concatenate(outputs))


@attention((padded(9, 7, 6), padded(9, 7, 5)), normal(7, 2))
def masked_attention(k):
    a, b = k.Input(shape=(6,), dtype="int32"), k.Input(shape=(5,), dtype="int32")
    embedding = k.layers.Embedding(9, 4, mask_zero=True)
    x, y = embedding(a), embedding(b)
    outputs = [
        k.layers.Attention()([x, y], use_causal_mask=True),
        k.layers.Attention(use_scale=True)([x, y, y]),
        k.layers.AdditiveAttention()([x, y]),
    ]
    return compiled(k, [a, b], k.layers.Dense(2)(k.layers.LSTM(3)(k.layers.add(outputs))))


@attention(normal(6, 4, 6), normal(6, 2))
def transformer_block(k):
    x = k.Input(shape=(4, 6))
    # Adam enlarges the rounding of a key bias's gradient, 0
    heads = k.layers.MultiHeadAttention(3, 2, use_bias=False)(x, x)
    y = k.layers.LayerNormalization()(k.layers.add([x, heads]))
    z = k.layers.Dense(6)(k.layers.Dense(9, activation="relu")(y))
    y = k.layers.LayerNormalization()(k.layers.add([y, z]))
    return regression(k, k.Model(x, y), k.layers.Flatten(), k.layers.Dense(2), optimizer="adam")


@attention(padded(9, 6, 5), normal(6, 5, 18), backends=("jax",))
def reversible_embedding(k):
    words = k.Input(shape=(5,), dtype="int32")
    tied = k.layers.ReversibleEmbedding(9, 4, mask_zero=True, logit_soft_cap=2.0)
    loose = k.layers.ReversibleEmbedding(9, 3, tie_weights=False)
    outputs = [tied(k.layers.LSTM(4, return_sequences=True)(tied(words)), reverse=True)]
    outputs.append(loose(k.layers.Dense(3, "tanh")(loose(words)), reverse=True))
    return compiled(k, words, k.layers.concatenate(outputs))
