"""Model.quantize("float8") against Keras 3.15.1 on JAX (scripts/make_names_references.py)."""

import pathlib

import numpy as np
import pytest
from made_models import compiled, reloaded

import nbkeras as keras
from nbkeras import dtype_policies, layers, ops

FOLDER = pathlib.Path(__file__).parents[1] / "reference" / "names"
STORED = np.load(FOLDER / "float8.npz")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


DATA = 3 * random(50, 12, 5, 6), random(51, 12, 5, 2)


def whole():
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", name="second")(x)
    x = layers.EinsumDense("abde,def->abf", (None, 4), activation="gelu", name="third")(x)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, name="last")(x))
    model.set_weights([random(number, *weight.shape) for number, weight in enumerate(model.weights)])
    return model


def small(length=4):
    policy = dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32", length)
    model = compiled(keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype=policy), layers.Dense(2)]))
    return model


def close(found, stored):
    np.testing.assert_allclose(found, stored, rtol=1e-5, atol=1e-5)


def test_three_steps_of_training_are_those_of_keras():
    model = whole()
    model.quantize("float8")
    close(model.predict(DATA[0], verbose=0), STORED["before"])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(*DATA, batch_size=4, shuffle=False, verbose=0)
    names = [weight.path.replace("/", " ") for weight in model.weights]
    assert {*names, "before", "after", "loss of more steps"} == set(STORED)
    for name, weight in zip(names, model.weights, strict=True):
        close(weight.numpy(), STORED[name])
    close(model.predict(DATA[0], verbose=0), STORED["after"])


def test_a_file_of_keras_is_read_and_trained_further(tmp_path):
    model = keras.models.load_model(FOLDER / "float8.keras")
    model.save(tmp_path / "again.keras")
    for each in (model, keras.models.load_model(tmp_path / "again.keras")):
        close(each.predict(DATA[0], verbose=0), STORED["after"])
        logs = each.fit(*DATA, batch_size=4, shuffle=False, verbose=0).history
        assert logs["loss"] == pytest.approx(STORED["loss of more steps"], rel=1e-5)


def test_training_writes_histories_and_inference_does_not(tmp_path):
    model, x, y = small(), random(0, 8, 5), random(1, 8, 2)
    layer = model.layers[0]
    losses = [model.train_on_batch(k * x, y) for k in (1, 2, 3)]
    largest = np.abs(x).max()
    close(layer.inputs_amax_history.numpy(), largest * np.array([3, 0, 1, 2]))  # as Keras rolls them
    close(layer.inputs_scale.numpy(), 2 * largest / 448)
    assert np.isfinite(losses).all() and layer.outputs_grad_amax_history.numpy()[0] > 0
    before = layer.inputs_amax_history.numpy()
    with keras.GradientTape() as tape:
        loss = ops.sum(model(9 * x))
    assert all(gradient is not None for gradient in tape.gradient(loss, model.trainable_weights))
    model.evaluate(9 * x, y, verbose=0)
    layer.trainable = False
    model.compile("sgd", "mse")
    model.fit(9 * x, y, verbose=0)
    assert np.array_equal(layer.inputs_amax_history.numpy(), before)
    again = reloaded(model, tmp_path / "m.keras")
    assert again.layers[0].dtype_policy == layer.dtype_policy and again.layers[0].dtype_policy.amax_history_length == 4
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_attention_layers(tmp_path):
    x = keras.Input((4, 8))
    model = keras.Model(x, layers.Dense(3)(layers.MultiHeadAttention(2, 4)(x, x)))
    model.quantize("float8")
    model.compile("sgd", "mse")
    model.fit(random(0, 6, 4, 8), random(1, 6, 4, 3), verbose=0)
    model.save(tmp_path / "m.keras")
    data = random(2, 2, 4, 8)
    again = keras.models.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))


def test_other_layers_keep_their_floats():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 5), layers.Dense(2)])
    model.quantize("float8")
    assert [layer.quantization_mode for layer in model.layers] == [None, "float8"]
    for make in (
        lambda: model.layers[0].quantize("float8"),
        lambda: layers.Embedding(3, 2, dtype="float8_from_float32").build(),
        lambda: layers.Conv1D(3, 2, dtype="float8_from_float32").build((None, 4, 4)),
    ):
        with pytest.raises(NotImplementedError, match="'float8' is for Dense and EinsumDense, received the layer"):
            make()
    assert model.layers[0].quantization_mode is None
    model.layers[1].enable_lora(2)
    with pytest.raises(NotImplementedError, match="mode 'float8' does not support LoRA"):
        model(np.zeros((1, 4)))
