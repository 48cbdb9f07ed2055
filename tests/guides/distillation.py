"""Knowledge distillation with keras.distillation."""

import keras
import numpy as np
from keras import layers
from keras.distillation import Distiller, FeatureDistillation, LogitsDistillation

rng = np.random.default_rng(0)
x, y = rng.random((64, 8)).astype("float32"), rng.integers(0, 3, 64)
teacher = keras.Sequential(
    [keras.Input((8,)), layers.Dense(32, activation="relu", name="t1"), layers.Dense(3, name="t2")]
)
teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
teacher.fit(x, y, verbose=0)
student = keras.Sequential(
    [keras.Input((8,)), layers.Dense(32, activation="relu", name="s1"), layers.Dense(3, name="s2")]
)
distiller = Distiller(
    teacher=teacher,
    student=student,
    distillation_losses=[
        LogitsDistillation(temperature=3.0),
        FeatureDistillation(loss="mse", teacher_layer_name="t1", student_layer_name="s1"),
    ],
    distillation_loss_weights=[1.0, 0.5],
    student_loss_weight=0.5,
)
before = [w.copy() for w in teacher.get_weights()]
distiller.compile(
    optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
history = distiller.fit(x, y, epochs=2, verbose=0)
assert "loss" in history.history and np.isfinite(history.history["loss"]).all()
assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
assert distiller.student.predict(x, verbose=0).shape == (64, 3)
