"""Imbalanced classification: class weights, precision, recall, counts."""

import keras
import numpy as np

rng = np.random.default_rng(0)
features, targets = rng.normal(size=(400, 10)).astype("float32"), (rng.random((400, 1)) < 0.1).astype("uint8")
features[targets[:, 0] == 1] += 1
counts = np.bincount(targets[:, 0])
model = keras.Sequential(
    [
        keras.Input((10,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
metrics = [
    keras.metrics.FalseNegatives(name="fn"),
    keras.metrics.FalsePositives(name="fp"),
    keras.metrics.TrueNegatives(name="tn"),
    keras.metrics.TruePositives(name="tp"),
    keras.metrics.Precision(name="precision"),
    keras.metrics.Recall(name="recall"),
]
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy", metrics=metrics)
history = model.fit(
    features,
    targets,
    batch_size=64,
    epochs=10,
    verbose=0,
    validation_data=(features, targets),
    class_weight={0: 1.0 / counts[0], 1: 1.0 / counts[1]},
)
logs = {name: values[-1] for name, values in history.history.items()}
assert logs["val_tp"] + logs["val_fn"] == counts[1] and logs["val_recall"] > 0.5
