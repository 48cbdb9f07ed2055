"""Make tests/reference/names/: what Keras 3.15.1 computes with distillation and quantization.

pip install keras==3.15.1 jax ml_dtypes; KERAS_BACKEND=jax python scripts/make_names_references.py
"""

import pathlib
import sys

import keras
import numpy as np
from keras import distillation, layers, losses, quantizers
from keras.src.quantizers import awq, gptq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "reference"))
import rounding_cases  # noqa: E402
from four_bit_cases import language_model, random  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "reference" / "names"


# -------------------- distillation --------------------


def mlp(name: str, width: int) -> keras.Model:
    hidden, out = layers.Dense(width, activation="relu", name=f"{name}_hidden"), layers.Dense(3, name=f"{name}_out")
    model = keras.Sequential([keras.Input((4,)), hidden, out], name=name)
    model.set_weights([0.5 * random(number + len(name), *weight.shape) for number, weight in enumerate(model.weights)])
    return model


def distilled() -> None:
    """The logs of training, the student's outputs after it, single losses, and a file."""
    x, y, features = random(0, 32, 4), np.arange(32) % 3, distillation.FeatureDistillation
    kinds = [
        distillation.LogitsDistillation(2.0, losses.KLDivergence()),
        features("mse", "teacher_hidden", "student_hidden"),
    ]
    model = distillation.Distiller(mlp("teacher", 8), mlp("student", 8), kinds, [1.0, 0.5], student_loss_weight=0.3)
    model.compile(keras.optimizers.SGD(0.1), losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    logs = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(x[:8], y[:8])).history
    two = random(1, 8, 5), random(2, 8, 5)
    single = [
        distillation.LogitsDistillation().compute_loss(*two),
        distillation.LogitsDistillation(2.0, "mse").compute_loss(*two),
        distillation.LogitsDistillation(4.0, losses.KLDivergence()).compute_loss(*two),
        distillation.LogitsDistillation(1.5, ["mse", None]).compute_loss([two[0]] * 2, [two[1]] * 2),
        features("cosine_similarity").compute_loss(*two),
        features({"a": "mae", "b": "mse"}).compute_loss({"a": two[0], "b": two[1]}, {"a": two[1], "b": two[0]}),
    ]
    measured = model.evaluate(x, y, verbose=0, return_dict=True)
    values = {f"log {name}": value for name, value in logs.items()} | {
        f"test {name}": value for name, value in measured.items()
    }
    np.savez_compressed(FOLDER / "distillation.npz", output=model.predict(x, verbose=0), single=single, **values)
    model.save(FOLDER / "distiller.keras")


# -------------------- quantization --------------------


def rounded() -> None:
    """The results of tests/reference/rounding_cases.py."""
    results = {name: case(keras) for name, case in rounding_cases.CASES.items()}
    arrays = {f"{name} {number}": array for name, found in results.items() for number, array in enumerate(found)}
    np.savez_compressed(FOLDER / "rounding.npz", **arrays)


TOKENS = np.random.default_rng(3).integers(0, 11, (2, 6))
FOUR_BITS = {
    "columns": quantizers.Int4QuantizationConfig(block_size=None),
    "groups": quantizers.Int4QuantizationConfig(block_size=4),
    "usual": quantizers.Int4QuantizationConfig(),
    "inputs": quantizers.Int4QuantizationConfig(activation_quantizer=quantizers.AbsMaxQuantizer(), block_size=-1),
}


def four_bits() -> None:
    """A model with weights of 4 bits: its outputs, and its file, also with LoRA."""
    found = {}
    for name, config in FOUR_BITS.items():
        model = language_model(keras, tied=name in ("groups", "inputs"))
        model.quantize("int4", config=config)
        found[name] = model.predict(TOKENS, verbose=0)
        if name in ("columns", "groups"):
            model.save(FOLDER / f"int4_{name}.keras")
    for layer in ("dense", "embedding"):
        model.get_layer(layer).enable_lora(2)
        part = "kernel" if layer == "dense" else "embeddings"
        getattr(model.get_layer(layer), f"lora_{part}_b").assign(np.full((2, 9 if layer == "dense" else 7), 0.05))
    found["lora"] = model.predict(TOKENS, verbose=0)
    model.save(FOLDER / "int4_lora.keras")
    again = language_model(keras, tied=True)
    again.quantize("int4", config=FOUR_BITS["inputs"])
    again.load_weights(FOLDER / "int4_lora.keras")
    found["lora in a file"] = again.predict(TOKENS, verbose=0)
    np.savez_compressed(FOLDER / "int4.npz", **found)


def eight_bit_floats() -> None:
    """A model in mode float8 before and after three steps of training: outputs, weights by path, and its file."""
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", name="second")(x)
    x = layers.EinsumDense("abde,def->abf", (None, 4), activation="gelu", name="third")(x)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, name="last")(x))
    model.set_weights([random(number, *weight.shape) for number, weight in enumerate(model.weights)])
    model.quantize("float8")
    data = 3 * random(50, 12, 5, 6), random(51, 12, 5, 2)
    found = {"before": model.predict(data[0], verbose=0)}
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(*data, batch_size=4, shuffle=False, verbose=0)
    model.save(FOLDER / "float8.keras")
    weights = {weight.path: np.array(weight) for weight in model.weights}
    found |= weights | {"after": model.predict(data[0], verbose=0)}
    found["loss of more steps"] = model.fit(*data, batch_size=4, shuffle=False, verbose=0).history["loss"]
    np.savez_compressed(FOLDER / "float8.npz", **{name.replace("/", " "): value for name, value in found.items()})


CALIBRATED = {
    "gptq": quantizers.GPTQConfig(None, None, group_size=4),
    "gptq in order": quantizers.GPTQConfig(None, None, group_size=4, activation_order=True),
    "gptq of 3 bits": quantizers.GPTQConfig(None, None, weight_bits=3, group_size=-1, hessian_damping=0.1),
    "gptq, many inputs": quantizers.GPTQConfig(None, None),
    "awq": quantizers.AWQConfig(None, None, group_size=4),
    "awq without groups": quantizers.AWQConfig(None, None, group_size=-1, num_grid_points=7),
}


def calibrated() -> None:
    """A kernel after GPTQ and AWQ. Only a layer: in Keras 3.15.1, `Model.quantize` never gives samples to the algorithms."""
    found = {}
    for name, config in CALIBRATED.items():
        inputs = 150 if "many" in name else 10
        layer = layers.Dense(7, use_bias=False)
        layer.build((None, inputs))
        layer.kernel.assign(random(2, inputs, 7))
        layer.quantize(config.mode, config=config)
        algorithm = (gptq.GPTQ if config.mode == "gptq" else awq.AWQ)(layer, config)
        add = algorithm.update_hessian_with_batch if config.mode == "gptq" else algorithm.update_activation_magnitudes
        for seed in (0, 1):
            add(random(seed, 48, inputs) @ random(3, inputs, inputs))
        (algorithm.quantize_and_correct_layer if config.mode == "gptq" else algorithm.quantize_layer)()
        for part in ("quantized_kernel", "kernel_scale", "kernel_zero", "g_idx", "awq_scales"):
            if hasattr(layer, part):
                found[f"{name}: {part}"] = np.array(getattr(layer, part))
        found[f"{name}: output"] = np.array(layer(random(4, 2, inputs)))
    np.savez_compressed(FOLDER / "calibrated.npz", **found)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    rounded()
    four_bits()
    calibrated()
    eight_bit_floats()
    distilled()
