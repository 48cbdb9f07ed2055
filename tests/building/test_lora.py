"""LoRA: a weight plus the product of two small matrices, by the rules of Keras 3.15."""

import math

import numpy as np
import pytest
from made_models import built, reloaded

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building import lora
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.runtime.ref import Ref
from nbkeras.models import Model, Sequential, clone_model, load_model
from nbkeras.testing import check_layer

random = np.random.default_rng(0)
FLOATS = random.normal(size=(4, 6, 6, 6, 4)).astype("float32")
WORDS = random.integers(0, 9, (4, 3))


class Doubled(layers.Conv1D):
    def convolution_op(self, inputs, kernel):
        return 2.0 * super().convolution_op(inputs, kernel)


def einsum(equation, shape, bias_axes=None):
    return lambda **more: layers.EinsumDense(equation, shape, bias_axes=bias_axes, activation="relu", **more)


LAYERS = {
    "dense": (lambda **more: layers.Dense(5, "tanh", **more), FLOATS[:, 0, 0, 0]),
    "dense of sequences": (lambda **more: layers.Dense(5, use_bias=False, **more), FLOATS[:, 0, 0]),
    "einsum": (einsum("abc,cde->abde", (None, 5, 2), "de"), FLOATS[:, 0, 0]),
    "einsum over two axes": (einsum("abcd,cde->abe", (None, 7), "e"), FLOATS[:, 0]),
    "einsum with a transposed kernel": (einsum("ab,cb->ac", 5), FLOATS[:, 0, 0, 0]),
    "einsum of factors": (einsum("ab,b->ab", 4), FLOATS[:, 0, 0, 0]),
    "einsum with dots": (einsum("ab...,bc->ac...", (5,)), FLOATS[:, 0, 0]),
    "embedding": (lambda **more: layers.Embedding(9, 4, **more), WORDS),
    "conv1d": (lambda **more: layers.Conv1D(5, 3, padding="causal", activation="relu", **more), FLOATS[:, 0, 0]),
    "conv2d": (lambda **more: layers.Conv2D(5, 3, strides=2, padding="same", **more), FLOATS[:, 0]),
    "conv2d, channels first": (lambda **more: layers.Conv2D(5, 2, data_format="channels_first", **more), FLOATS[:, 0]),
    "conv2d in groups": (lambda **more: layers.Conv2D(6, 3, groups=2, **more), FLOATS[:, 0]),
    "conv3d": (lambda **more: layers.Conv3D(2, 2, dilation_rate=2, use_bias=False, **more), FLOATS),
    "conv1d with its own op": (lambda **more: Doubled(5, 2, **more), FLOATS[:, 0, 0]),
}


def adapted(make, x, rank=3, **more):
    """A layer with LoRA, and one without it that has the sum as its weight."""
    layer, plain = make(), make()
    layer(x), plain(x)
    layer.enable_lora(rank, b_initializer="normal", **more)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    weights = layer.get_weights()
    plain.set_weights([getattr(layer, layer.adapted).numpy(), *weights[1 : len(plain.weights)]])
    return layer, plain


def compiled(model, optimizer="adam"):
    model.compile(optimizer, "mse")
    return model


def mlp(**more):
    return Sequential([keras.Input((6,)), layers.Dense(8, "relu", name="one"), layers.Dense(3, name="two", **more)])


X, Y = FLOATS[0, 0, 0, :, :1] * np.ones((1, 6), "float32"), FLOATS[0, 0, 1, :, :3]


@pytest.fixture(params=["products", "sum"])
def way(request, monkeypatch):
    """Both ways to compute, of which a layer takes the one with less work."""
    products = request.param == "products"
    monkeypatch.setattr(lora.Adaptable, "_takes_products", lambda self, rows: products and self._is_apart())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_with_the_sum(name):
    make, x = LAYERS[name]
    layer, plain = adapted(make, x, lora_alpha=1.5)
    factor, (weight, *_) = 1.5 / 3, layer.get_weights()
    a, b = layer.get_weights()[-2:]
    np.testing.assert_allclose(getattr(layer, layer.adapted), weight + factor * (a @ b), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-5, atol=2e-5)
    model, other = Sequential([layer]), Sequential([plain])
    for _ in range(2):  # recorded, replayed
        np.testing.assert_allclose(model.predict(x, verbose=0), other.predict(x, verbose=0), rtol=1e-5, atol=2e-5)
    with lora.merged(model):
        assert np.array_equal(layer(x), plain(x))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", [name for name in LAYERS if "own op" not in name])
def test_a_layer_that_is_made_with_lora_fulfils_the_requirements_of_all(name):
    make, x = LAYERS[name]
    check_layer(lambda: make(lora_rank=2, lora_alpha=3), x)


def test_weights_paths_and_configuration_are_those_of_keras():
    layer = built(layers.Dense(4, kernel_regularizer="l2", name="d"), (None, 3))
    assert "lora_rank" not in layer.get_config() and "lora_alpha" not in layer.get_config()
    before = layer.kernel
    layer.enable_lora(2)
    assert [weight.path for weight in layer.weights] == ["d/kernel", "d/bias", "d/lora_kernel_a", "d/lora_kernel_b"]
    assert [weight.path for weight in layer.trainable_weights] == ["d/bias", "d/lora_kernel_a", "d/lora_kernel_b"]
    assert layer.non_trainable_weights == [before] and not before.trainable
    assert [weight.shape for weight in layer.weights[2:]] == [(3, 2), (2, 4)]
    assert layer.lora_enabled and layer.lora_rank == layer.lora_alpha == 2
    assert type(layer.kernel) is Tensor and np.array_equal(layer.kernel, before)  # b is zero
    assert layer.lora_kernel_a.numpy().all() and len(layer.losses) == 2
    config = layer.get_config()
    assert (config["lora_rank"], config["lora_alpha"]) == (2, 2)
    again = built(layers.Dense.from_config({**config, "lora_alpha": 6}), (None, 3))
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in layer.weights]
    assert (again.lora_rank, again.lora_alpha) == (2, 6)
    table = built(layers.Embedding(5, 4, lora_rank=2, name="t"))
    assert [weight.path for weight in table.weights] == ["t/embeddings", "t/lora_embeddings_a", "t/lora_embeddings_b"]
    assert not layers.Dense(4, lora_rank=0).lora_rank and layers.Conv2D(2, 1, lora_rank=3).lora_alpha == 3


def test_lora_needs_a_layer_that_is_built_without_constraint_and_without_lora():
    layer = layers.Dense(4)
    with pytest.raises(ValueError, match="isn't yet built"):
        layer.enable_lora(2)
    with pytest.raises(AttributeError, match="build it first"):
        layer.kernel  # noqa: B018
    layer.build((None, 3))
    for rank in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match="rank must be a positive integer"):
            layer.enable_lora(rank)
    with pytest.raises(TypeError, match="lora_alpha must be a number"):
        layer.enable_lora(2, lora_alpha="1")
    with pytest.raises(ValueError, match="unknown initializer: .nothing"):
        layer.enable_lora(2, b_initializer="nothing")
    assert len(layer.weights) == 2 and layer.kernel.trainable  # as before all of these
    layer.enable_lora(2)
    with pytest.raises(ValueError, match="already enabled"):
        layer.enable_lora(2)
    for constrained in (
        layers.Dense(4, kernel_constraint="max_norm"),
        layers.Embedding(4, 4, embeddings_constraint="max_norm"),
    ):
        constrained(np.ones((1, 3)))
        with pytest.raises(ValueError, match="incompatible with"):
            constrained.enable_lora(2)
    with pytest.raises(ValueError, match="incompatible with"):
        layers.Dense(4, kernel_constraint="max_norm", lora_rank=2).build((None, 3))

    class Own(layers.Dense):
        def build(self, input_shape):
            pass

    own = built(Own(4), (None, 3))
    with pytest.raises(ValueError, match="has no weight 'kernel' that LoRA could adapt"):
        own.enable_lora(2)
    with pytest.raises(ValueError, match="lora_rank must be a positive integer"):
        layers.Dense(4, lora_rank=-1)
    with pytest.raises(ValueError, match="which is a sum"):
        layers.SpectralNormalization(layers.Dense(4, lora_rank=2)).build((None, 3))


def test_freezing_goes_together_with_lora_as_in_keras():
    layer = built(layers.Dense(4), (None, 3))
    layer.trainable = False
    layer.enable_lora(2)
    assert not layer.trainable_weights
    layer.trainable = True
    assert len(layer.trainable_weights) == 4  # the kernel too


def test_a_step_that_was_recorded_before_is_recorded_anew():
    model = compiled(mlp())
    before = model.predict(X, verbose=0)
    weights = model.get_weights()
    model.layers[0].enable_lora(2, b_initializer="ones")
    assert np.abs(model.predict(X, verbose=0) - before).max() > 1e-3
    compiled(model).fit(X, Y, verbose=0)
    after = model.get_weights()
    assert np.array_equal(after[0], weights[0]) and not np.array_equal(after[2], model.layers[0].lora_kernel_a * 0)


@pytest.mark.cpu("it counts kernels of the CPU")
def test_a_step_computes_no_gradient_of_a_frozen_kernel():
    def products(*ranks, frozen=False):
        """The sizes of the results of matrix products in a recorded training step."""
        model = Sequential([keras.Input((6,)), layers.Dense(200, "relu"), layers.Dense(300)])
        model.layers[0].trainable = not frozen
        for layer, rank in zip(model.layers, ranks, strict=False):
            layer.enable_lora(rank)
        compiled(model, "sgd").fit(np.ones((n, 6)), np.zeros((n, 300)), verbose=0)
        (program,) = model._steps["train"]._programs.programs()
        steps = [args for kernel, args in program.launches if getattr(kernel, "__name__", "") == "multiply"]
        return sorted(math.prod([arg for arg in args if isinstance(arg, Ref)][-1].shape) for args in steps)

    n = 12
    forward, between, kernels = [n * 200, n * 300], n * 200, [6 * 200, 200 * 300]
    # the last one: the gradient of what is between the layers
    assert products() == sorted([*forward, *kernels, between])
    assert products(frozen=True) == sorted([*forward, kernels[1]])
    small = [n * 4, n * 300, n * 4, 4 * 300, 200 * 4, between, between]  # x @ a @ b, and the gradients of both products
    of_sum = [6 * 200, 6 * 200, 6 * 1, 1 * 200]  # of the first kernel, which is so small that this is less work
    assert products(1, 4) == sorted([*forward, *small, *of_sum])


@pytest.mark.usefixtures("way")
def test_gradients_are_those_of_the_sum():
    layer, plain = adapted(*LAYERS["conv2d"], lora_alpha=1.5)
    x = ops.convert_to_tensor(LAYERS["conv2d"][1])
    (*_, a, b), gradients = layer.get_weights(), []
    for each in (layer, plain):
        with GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(each(x) ** 2)
        gradients.append([gradient.numpy() for gradient in tape.gradient(loss, [x, *each.trainable_weights])])
    (dx, dbias, da, db), (plain_dx, dkernel, plain_dbias) = gradients
    np.testing.assert_allclose(dx, plain_dx, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(dbias, plain_dbias, rtol=1e-4)
    np.testing.assert_allclose(da, 0.5 * dkernel @ b.T, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(db, 0.5 * np.tensordot(a, dkernel, ((0, 1, 2), (0, 1, 2))), rtol=1e-4, atol=1e-2)


def test_attention_trains_the_parts_for_which_it_is_enabled(tmp_path):
    x = keras.Input((6, 4))
    heads = layers.MultiHeadAttention(2, 3)
    model = Model(x, heads(x, x))
    before = model.predict(FLOATS[:, 0, 0], verbose=0)
    for part in (heads.query_dense, heads.output_dense):
        part.enable_lora(2)
    heads.key_dense.trainable = heads.value_dense.trainable = False
    assert np.array_equal(model.predict(FLOATS[:, 0, 0], verbose=0), before)
    names = ["bias", "lora_kernel_a", "lora_kernel_b"]
    assert [weight.name for weight in model.trainable_weights] == [*names, *names]
    compiled(model).fit(FLOATS[:, 0, 0], FLOATS[:, 0, 1], epochs=2, verbose=0)
    after = model.predict(FLOATS[:, 0, 0], verbose=0)
    assert np.abs(after - before).max() > 1e-4
    model.save(tmp_path / "heads.keras")
    with pytest.warns(
        UserWarning, match="the optimizer's state has 14 arrays in the file and 18 in the model's optimizer"
    ):
        again = load_model(tmp_path / "heads.keras")
    np.testing.assert_allclose(again.predict(FLOATS[:, 0, 0], verbose=0), after, rtol=1e-5, atol=1e-6)
    assert not again.layers[1].query_dense.lora_enabled  # it is not in the configuration, as in Keras


@pytest.mark.parametrize("quantized", [False, True])
def test_scores_of_a_reversible_embedding_are_those_of_the_sum(quantized):
    table = layers.ReversibleEmbedding(9, 4, logit_soft_cap=5.0)
    table(WORDS)
    if quantized:
        table.quantize("int8", config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None))
    table.enable_lora(2, lora_alpha=5, b_initializer="normal")
    vectors = FLOATS[:, 0, 0]
    expected = 5 * np.tanh(vectors @ table.embeddings.numpy().T / 5)
    np.testing.assert_allclose(table(vectors, reverse=True), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table(WORDS), table.embeddings.numpy()[WORDS], rtol=1e-5, atol=1e-6)


# -------------------- files and exports --------------------


@pytest.fixture
def trained(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = mlp(lora_rank=1)
    model.layers[0].enable_lora(2, lora_alpha=3)
    compiled(model).fit(X, Y, epochs=3, verbose=0)
    return model


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.safetensors"])
def test_files_have_the_sum_and_training_goes_on(trained, name):
    expected = trained.predict(X, verbose=0)
    if name in ("m.keras", "m.h5"):
        model = reloaded(trained, name)
    else:
        trained.save_weights(name)
        model = compiled(clone_model(trained))
        model.load_weights(name)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    first = model.layers[0]
    assert (first.lora_rank, first.lora_alpha) == (2, 3) and first.lora_kernel_a.numpy().all()
    if name != "m.h5":  # Keras 2's format has all weights as they are
        assert not first.lora_kernel_b.numpy().any()
        np.testing.assert_allclose(first._kernel, trained.layers[0].kernel, rtol=1e-6)
    model.fit(X, Y, verbose=0)
    assert first.lora_kernel_b.numpy().any()  # in Keras both matrices are zero from then on


def test_a_file_of_the_sum_goes_to_a_model_without_lora(trained):
    trained.save_weights("m.weights.h5")
    plain = mlp()
    plain.load_weights("m.weights.h5")
    np.testing.assert_allclose(plain.predict(X, verbose=0), trained.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.cpu("models are exported on the CPU")
def test_an_onnx_file_has_the_sum(trained):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    trained.export("m.onnx", verbose=False)
    weights = onnx.load("m.onnx").graph.initializer
    assert sorted(tuple(weight.dims) for weight in weights) == [(3,), (6, 8), (8,), (8, 3)]
    (outputs,) = runtime.InferenceSession("m.onnx").run(None, {trained.input_names[0]: X})
    np.testing.assert_allclose(outputs, trained.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


# -------------------- weights of int8 --------------------


@pytest.mark.parametrize("last", ["lora", "int8"])
@pytest.mark.parametrize("name", ["dense", "einsum", "einsum over two axes", "embedding"])
def test_lora_of_a_quantized_weight(name, last):
    make, x = LAYERS[name]
    layer = make()
    layer(x)
    if last == "int8":
        layer.enable_lora(2, b_initializer="normal")
    layer.quantize("int8")
    if last == "lora":
        layer.enable_lora(2, b_initializer="normal")
    small = [f"lora_{layer.adapted}_a", f"lora_{layer.adapted}_b"]
    names = [weight.name for weight in layer.weights]
    bias = ["bias"] if "bias" in names else []
    assert names == [*bias, *small, layer.adapted, f"{layer.adapted}_scale"]
    expected = make()
    expected(x)
    expected.set_weights([getattr(layer, layer.adapted).numpy(), *([layer.bias.numpy()] if bias else [])])
    np.testing.assert_allclose(layer(x), expected(x), rtol=0.1, atol=0.05)
    model = Sequential([layer])
    compiled(model).fit(x, np.zeros(layer(x).shape), verbose=0)
    assert not np.array_equal(model.get_weights()[len(bias)], 0)

    # files have integers of the sum, by Keras's formula, in the order of files without LoRA
    expected.set_weights([getattr(layer, layer.adapted).numpy(), *([layer.bias.numpy()] if bias else [])])
    expected.quantize("int8")
    stores = {}, {}
    layer.save_own_variables(stores[0])
    expected.save_own_variables(stores[1])
    assert stores[0].keys() == stores[1].keys()
    for key, array in stores[1].items():
        np.testing.assert_allclose(stores[0][key], array, rtol=1e-5, atol=1e-6)
    layer.load_own_variables(stores[0])
    np.testing.assert_allclose(layer(x), expected(x), rtol=1e-5, atol=1e-6)


def test_the_class_shows_the_adapted_weight():
    assert isinstance(layers.Dense.kernel, lora.AdaptedWeight)
