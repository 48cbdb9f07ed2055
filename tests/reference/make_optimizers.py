"""Writes optimizer_steps.npz: what Keras's optimizers make of given weights and gradients, and its schedules' values.

Run: JAX_ENABLE_X64=1 KERAS_BACKEND=jax python tests/reference/make_optimizers.py  (made with Keras 3.15.1, JAX 0.10.2)
"""

import json

import keras
import numpy as np
from arrays import store

SHAPES = [(5, 3), (3,), ()]
STEPS = 6

OPTIMIZERS = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "sgd_momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.05}),
    "rmsprop_momentum": ("RMSprop", {"learning_rate": 0.05, "rho": 0.8, "momentum": 0.7, "epsilon": 1e-4}),
    "rmsprop_centered": ("RMSprop", {"learning_rate": 0.05, "centered": True}),
    "rmsprop_centered_momentum": ("RMSprop", {"learning_rate": 0.05, "centered": True, "momentum": 0.6}),
    "adagrad": ("Adagrad", {"learning_rate": 0.3, "initial_accumulator_value": 0.2}),
    "adadelta": ("Adadelta", {"learning_rate": 1.0, "epsilon": 1e-3}),
    "adam": ("Adam", {"learning_rate": 0.05}),
    "adam_amsgrad": ("Adam", {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.5, "amsgrad": True}),
    "adamw": ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "adamax": ("Adamax", {"learning_rate": 0.05}),
    "nadam": ("Nadam", {"learning_rate": 0.05}),
    "weight_decay": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "clipnorm": ("SGD", {"learning_rate": 0.1, "clipnorm": 1.5}),
    "clipvalue": ("SGD", {"learning_rate": 0.1, "clipvalue": 0.4}),
    "global_clipnorm": ("SGD", {"learning_rate": 0.1, "global_clipnorm": 2.0}),
    "average": ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2}),
    "lion": ("Lion", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "ftrl": ("Ftrl", {"learning_rate": 0.3, "initial_accumulator_value": 0.2}),
    "ftrl_general": ("Ftrl", {"learning_rate": 0.3, "learning_rate_power": -0.4, "l1_regularization_strength": 0.2,
        "l2_regularization_strength": 0.1, "l2_shrinkage_regularization_strength": 0.05, "beta": 0.3}),
    "schedule_free": ("ScheduleFreeAdamW", {"learning_rate": 0.05, "warmup_steps": 3, "weight_decay": 0.1}),
    "lamb": ("Lamb", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "adafactor": ("Adafactor", {"learning_rate": 0.9}),
    "adafactor_general": ("Adafactor", {"learning_rate": 0.05, "beta_2_decay": -0.5, "clip_threshold": 0.5}),
    "muon": ("Muon", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "muon_general": ("Muon", {"learning_rate": 0.05, "nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5}),
    "accumulation": ("Adam", {"learning_rate": 0.05, "gradient_accumulation_steps": 2, "clipnorm": 1.0,
        "weight_decay": 0.1}),
    "accumulation_average": ("SGD", {"learning_rate": 0.1, "gradient_accumulation_steps": 3, "use_ema": True,
        "ema_momentum": 0.7, "ema_overwrite_frequency": 2}),
    "accumulation_rows": ("Lamb", {"learning_rate": 0.05, "gradient_accumulation_steps": 2}),
    "accumulation_nadam": ("Nadam", {"learning_rate": 0.05, "gradient_accumulation_steps": 2}),
    "loss_scale": ("Adagrad", {"learning_rate": 0.3, "loss_scale_factor": 8.0}),
    "schedule": ("Adam", {"learning_rate": {"class_name": "ExponentialDecay", "config": {
        "initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}}}),
}  # fmt: skip

SCHEDULES = {
    "exponential": ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}),
    "staircase": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": True},
    ),
    "piecewise": ("PiecewiseConstantDecay", {"boundaries": [5, 10], "values": [0.1, 0.05, 0.01]}),
    "polynomial": ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 10}),
    "polynomial_cycle": (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0, "cycle": True},
    ),
    "inverse_time": ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}),
    "inverse_time_staircase": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": True},
    ),
    "cosine": ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "alpha": 0.1}),
    "cosine_warmup": (
        "CosineDecay",
        {"initial_learning_rate": 0.01, "decay_steps": 20, "warmup_target": 0.1, "warmup_steps": 5},
    ),
    "restarts": ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 8, "m_mul": 0.5}),
    "restarts_equal": ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 8, "t_mul": 1.0}),
}
AT = [0, 1, 2, 5, 6, 9, 10, 11, 15, 20, 33, 100]


def split(flat):
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def trajectory(name, config, weights, gradients, dtype):
    """The weights after each step, flat."""
    keras.config.set_floatx(dtype)
    config = dict(config)
    if isinstance(config["learning_rate"], dict):
        spec = config["learning_rate"]
        config["learning_rate"] = getattr(keras.optimizers.schedules, spec["class_name"])(**spec["config"])
    optimizer = getattr(keras.optimizers, name)(**config)
    variables = [keras.Variable(part.astype(dtype), dtype=dtype) for part in split(weights)]
    after = []
    for step in gradients:
        optimizer.apply([part.astype(dtype) for part in split(step)], variables)
        after.append(np.concatenate([np.asarray(v).reshape(-1) for v in variables]))
    return np.array(after)


def main():
    rng = np.random.default_rng(0)
    size = sum(int(np.prod(shape)) for shape in SHAPES)
    weights, gradients = rng.standard_normal(size), rng.standard_normal((STEPS, size))
    gradients[:, 4] = 0
    gradients[1] *= 0.1  # the norms of some steps are below the clipping limits
    out = {"weights": weights, "gradients": gradients}
    for case, (name, config) in OPTIMIZERS.items():
        for dtype in ("float32", "float64"):
            if dtype == "float64" and name in ("Adafactor", "Muon"):
                continue  # Keras takes means and norms in float32 on JAX
            out[f"{case}.{dtype}"] = trajectory(name, config, weights, gradients, dtype)
    keras.config.set_floatx("float64")
    for case, (name, config) in SCHEDULES.items():
        schedule = getattr(keras.optimizers.schedules, name)(**config)
        out[f"schedule.{case}"] = np.array([float(schedule(step)) for step in AT])
    out["cases"] = json.dumps({"optimizers": OPTIMIZERS, "schedules": SCHEDULES, "shapes": SHAPES, "at": AT})
    store("optimizer_steps.npz", out)


if __name__ == "__main__":
    main()
