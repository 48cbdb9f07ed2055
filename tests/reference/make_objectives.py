"""Writes objectives.npz: values, gradients and reductions of Keras's losses, and its metrics over two batches.

Run: KERAS_BACKEND=jax python tests/reference/make_objectives.py  (made with Keras 3.15.1, JAX 0.10.2)
"""

import json

import jax
import keras
import numpy as np
from arrays import store
from keras import ops

LOSSES = {
    "mean_squared_error": ("mean_squared_error", {}, "real"),
    "mean_absolute_error": ("mean_absolute_error", {}, "real"),
    "mean_absolute_percentage_error": ("mean_absolute_percentage_error", {}, "real"),
    "mean_squared_logarithmic_error": ("mean_squared_logarithmic_error", {}, "positive"),
    "cosine_similarity": ("cosine_similarity", {}, "real"),
    "huber": ("huber", {}, "real"),
    "huber_delta": ("huber", {"delta": 0.3}, "real"),
    "log_cosh": ("log_cosh", {}, "real"),
    "hinge": ("hinge", {}, "signs"),
    "hinge_binary": ("hinge", {}, "binary"),
    "squared_hinge": ("squared_hinge", {}, "signs"),
    "categorical_hinge": ("categorical_hinge", {}, "classes"),
    "kl_divergence": ("kl_divergence", {}, "classes"),
    "poisson": ("poisson", {}, "positive"),
    "binary_crossentropy": ("binary_crossentropy", {}, "binary"),
    "binary_crossentropy_smooth": ("binary_crossentropy", {"label_smoothing": 0.2}, "binary"),
    "binary_crossentropy_logits": ("binary_crossentropy", {"from_logits": True}, "binary_logits"),
    "categorical_crossentropy": ("categorical_crossentropy", {}, "classes"),
    "categorical_crossentropy_smooth": ("categorical_crossentropy", {"label_smoothing": 0.1}, "classes"),
    "categorical_crossentropy_logits": ("categorical_crossentropy", {"from_logits": True}, "logits"),
    "categorical_crossentropy_steps": ("categorical_crossentropy", {}, "steps"),
    "sparse_categorical_crossentropy": ("sparse_categorical_crossentropy", {}, "sparse"),
    "sparse_categorical_crossentropy_logits": ("sparse_categorical_crossentropy", {"from_logits": True}, "sparse_logits"),
    "sparse_categorical_crossentropy_ignore": ("sparse_categorical_crossentropy", {"ignore_class": 2}, "sparse"),
    "sparse_categorical_crossentropy_steps": ("sparse_categorical_crossentropy", {}, "sparse_steps"),
    "cosine_similarity_axis": ("cosine_similarity", {"axis": 1}, "channels"),
    "binary_crossentropy_axis": ("binary_crossentropy", {"axis": 1}, "channels"),
    "binary_crossentropy_smooths": ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.2}, "binary_logits"),
    "categorical_crossentropy_axis": ("categorical_crossentropy", {"axis": 1}, "channels"),
    "categorical_crossentropy_smooths": ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, "logits"),
    "binary_focal": ("binary_focal_crossentropy", {}, "binary"),
    "binary_focal_balanced": ("binary_focal_crossentropy", {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, "binary"),
    "binary_focal_smooth_logits": ("binary_focal_crossentropy", {"from_logits": True, "label_smoothing": 0.2}, "binary_logits"),
    "binary_focal_axis": ("binary_focal_crossentropy", {"axis": 1, "gamma": 3.0}, "channels"),
    "categorical_focal": ("categorical_focal_crossentropy", {}, "classes"),
    "categorical_focal_steps": ("categorical_focal_crossentropy", {"alpha": [0.1, 0.4, 0.2, 0.9], "gamma": 1.5}, "steps"),
    "categorical_focal_logits": ("categorical_focal_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, "logits"),
    "categorical_focal_axis": ("categorical_focal_crossentropy", {"axis": 1}, "channels"),
    "generalized": ("categorical_generalized_cross_entropy", {"q": 0.7}, "sparse"),
    "dice": ("dice", {}, "binary"),
    "dice_axis": ("dice", {"axis": (1, 2)}, "channels"),
    "tversky": ("tversky", {"alpha": 0.3, "beta": 0.7}, "binary"),
    "tversky_axis": ("tversky", {"axis": [1, 2]}, "channels"),
    "circle": ("circle", {"gamma": 1, "margin": 0.3}, "vectors"),
    "circle_diagonal": ("circle", {"gamma": 1, "remove_diagonal": False}, "vectors"),
    "ctc": ("ctc", {}, "sequences"),
}  # fmt: skip
CLASSES = {
    "mean_squared_error": "MeanSquaredError",
    "huber_delta": "Huber",
    "binary_crossentropy_smooth": "BinaryCrossentropy",
    "categorical_crossentropy_steps": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy_steps": "SparseCategoricalCrossentropy",
    "sparse_categorical_crossentropy_ignore": "SparseCategoricalCrossentropy",
    "binary_focal_balanced": "BinaryFocalCrossentropy",
    "categorical_focal_steps": "CategoricalFocalCrossentropy",
    "generalized": "CategoricalGeneralizedCrossEntropy",
    "dice": "Dice",
    "dice_axis": "Dice",
    "tversky": "Tversky",
    "tversky_axis": "Tversky",
    "circle": "Circle",
    "ctc": "CTC",
}
DECODINGS = {
    "greedy": {},
    "greedy_unmerged": {"merge_repeated": False},
    "greedy_last": {"mask_index": None},
    "beam": {"strategy": "beam_search", "beam_width": 20, "top_paths": 3},
    "beam_last": {"strategy": "beam_search", "beam_width": 20, "top_paths": 2, "mask_index": 3},
}
REDUCTIONS = ["sum_over_batch_size", "sum", "none", "mean_with_sample_weight"]
METRICS = {
    "Accuracy": ("Accuracy", {}, "equal"),
    "BinaryAccuracy": ("BinaryAccuracy", {}, "binary"),
    "BinaryAccuracy_column": ("BinaryAccuracy", {"threshold": 0.4}, "column"),
    "CategoricalAccuracy": ("CategoricalAccuracy", {}, "classes"),
    "CategoricalAccuracy_steps": ("CategoricalAccuracy", {}, "steps"),
    "SparseCategoricalAccuracy": ("SparseCategoricalAccuracy", {}, "sparse"),
    "SparseCategoricalAccuracy_column": ("SparseCategoricalAccuracy", {}, "sparse_column"),
    "SparseCategoricalAccuracy_steps": ("SparseCategoricalAccuracy", {}, "sparse_steps"),
    "TopKCategoricalAccuracy": ("TopKCategoricalAccuracy", {"k": 2}, "classes"),
    "SparseTopKCategoricalAccuracy": ("SparseTopKCategoricalAccuracy", {"k": 2}, "sparse"),
    "SparseTopKCategoricalAccuracy_steps": ("SparseTopKCategoricalAccuracy", {"k": 3}, "sparse_steps"),
    "MeanSquaredError": ("MeanSquaredError", {}, "real"),
    "RootMeanSquaredError": ("RootMeanSquaredError", {}, "real"),
    "MeanAbsoluteError": ("MeanAbsoluteError", {}, "real"),
    "MeanAbsolutePercentageError": ("MeanAbsolutePercentageError", {}, "real"),
    "MeanSquaredLogarithmicError": ("MeanSquaredLogarithmicError", {}, "positive"),
    "CosineSimilarity": ("CosineSimilarity", {}, "real"),
    "LogCoshError": ("LogCoshError", {}, "real"),
    "Hinge": ("Hinge", {}, "signs"),
    "SquaredHinge": ("SquaredHinge", {}, "signs"),
    "CategoricalHinge": ("CategoricalHinge", {}, "classes"),
    "KLDivergence": ("KLDivergence", {}, "classes"),
    "Poisson": ("Poisson", {}, "positive"),
    "BinaryCrossentropy": ("BinaryCrossentropy", {"label_smoothing": 0.1}, "binary"),
    "CategoricalCrossentropy": ("CategoricalCrossentropy", {}, "classes"),
    "SparseCategoricalCrossentropy": ("SparseCategoricalCrossentropy", {}, "sparse"),
    "TruePositives": ("TruePositives", {}, "binary"),
    "FalsePositives": ("FalsePositives", {"thresholds": [0.7, 0.2]}, "binary"),
    "TrueNegatives": ("TrueNegatives", {"thresholds": [0, 0.25, 0.5, 0.75, 1]}, "binary"),
    "FalseNegatives": ("FalseNegatives", {}, "binary"),
    "Precision": ("Precision", {}, "binary"),
    "Precision_thresholds": ("Precision", {"thresholds": [0.2, 0.6]}, "column"),
    "Precision_top_k": ("Precision", {"top_k": 2}, "classes"),
    "Precision_class": ("Precision", {"class_id": 1, "thresholds": 0.3}, "classes"),
    "Recall": ("Recall", {}, "column"),
    "Recall_top_k": ("Recall", {"top_k": 1}, "classes"),
    "SensitivityAtSpecificity": ("SensitivityAtSpecificity", {"specificity": 0.5}, "binary"),
    "SpecificityAtSensitivity": ("SpecificityAtSensitivity", {"sensitivity": 0.5}, "binary"),
    "PrecisionAtRecall": ("PrecisionAtRecall", {"recall": 0.4}, "binary"),
    "RecallAtPrecision": ("RecallAtPrecision", {"precision": 0.4}, "binary"),
    "AUC": ("AUC", {}, "binary"),
    "AUC_minoring": ("AUC", {"summation_method": "minoring"}, "column"),
    "AUC_majoring": ("AUC", {"summation_method": "majoring", "num_thresholds": 50}, "binary"),
    "AUC_PR": ("AUC", {"curve": "PR"}, "binary"),
    "AUC_PR_majoring": ("AUC", {"curve": "PR", "summation_method": "majoring"}, "binary"),
    "AUC_thresholds": ("AUC", {"thresholds": [0.1, 0.35, 0.8]}, "binary"),
    "AUC_multi_label": ("AUC", {"multi_label": True, "label_weights": [0.5, 2.0, 1.0]}, "binary"),
    "AUC_multi_label_PR": ("AUC", {"multi_label": True, "num_labels": 3, "curve": "PR"}, "binary"),
    "AUC_label_weights": ("AUC", {"label_weights": [0.5, 2.0, 1.0]}, "binary"),
    "AUC_logits": ("AUC", {"from_logits": True}, "binary_logits"),
    "AUC_PR_minoring": ("AUC", {"curve": "PR", "summation_method": "minoring", "thresholds": [0.2, 0.5]}, "binary"),
    "AUC_multi_label_weighted": (
        "AUC",
        {"multi_label": True, "label_weights": [0.5, 2.0, 1.0], "curve": "PR"},
        "binary",
    ),
    "Accuracy_column": ("Accuracy", {}, "equal_column"),
    "TopKCategoricalAccuracy_steps": ("TopKCategoricalAccuracy", {"k": 1}, "steps"),
    "SparseTopKCategoricalAccuracy_ids": ("SparseTopKCategoricalAccuracy", {"k": 2, "from_sorted_ids": True}, "ids"),
    "CosineSimilarity_axis": ("CosineSimilarity", {"axis": 1}, "channels"),
    "CategoricalCrossentropy_steps": ("CategoricalCrossentropy", {}, "steps"),
    "KLDivergence_steps": ("KLDivergence", {}, "steps"),
    "RootMeanSquaredError_steps": ("RootMeanSquaredError", {}, "steps"),
    "PearsonCorrelation_steps": ("PearsonCorrelation", {}, "steps"),
    "SparseCategoricalCrossentropy_steps": ("SparseCategoricalCrossentropy", {"ignore_class": 1}, "sparse_steps"),
    "BinaryCrossentropy_logits": ("BinaryCrossentropy", {"from_logits": True}, "binary_logits"),
    "CategoricalCrossentropy_logits": (
        "CategoricalCrossentropy",
        {"from_logits": True, "label_smoothing": 0.1},
        "logits",
    ),
    "CategoricalCrossentropy_axis": ("CategoricalCrossentropy", {"axis": 1}, "channels"),
    "SparseCategoricalCrossentropy_ignore": ("SparseCategoricalCrossentropy", {"ignore_class": 2}, "sparse"),
    "Precision_top_k_class": ("Precision", {"top_k": 2, "class_id": 1}, "classes"),
    "Recall_thresholds": ("Recall", {"thresholds": [0, 0.5, 1]}, "binary"),
    "Recall_class": ("Recall", {"class_id": 2}, "binary"),
    "SensitivityAtSpecificity_class": (
        "SensitivityAtSpecificity",
        {"specificity": 0.3, "num_thresholds": 7, "class_id": 0},
        "binary",
    ),
    "SpecificityAtSensitivity_one": ("SpecificityAtSensitivity", {"sensitivity": 0.2, "num_thresholds": 1}, "binary"),
    "PrecisionAtRecall_column": ("PrecisionAtRecall", {"recall": 0.8, "num_thresholds": 20}, "column"),
    "RecallAtPrecision_class": ("RecallAtPrecision", {"precision": 0.2, "class_id": 1}, "binary"),
    "F1Score": ("F1Score", {}, "classes"),
    "F1Score_micro": ("F1Score", {"average": "micro", "threshold": 0.4}, "binary"),
    "F1Score_macro": ("F1Score", {"average": "macro", "threshold": 0.4}, "binary"),
    "FBetaScore": ("FBetaScore", {"beta": 2.0, "threshold": 0.3}, "binary"),
    "FBetaScore_weighted": ("FBetaScore", {"beta": 0.5, "average": "weighted"}, "classes"),
    "R2Score": ("R2Score", {}, "real"),
    "R2Score_columns": ("R2Score", {"class_aggregation": None}, "real"),
    "R2Score_variance": ("R2Score", {"class_aggregation": "variance_weighted_average"}, "real"),
    "R2Score_regressors": ("R2Score", {"num_regressors": 2}, "real"),
    "PearsonCorrelation": ("PearsonCorrelation", {}, "real"),
    "PearsonCorrelation_axis": ("PearsonCorrelation", {"axis": 1}, "channels"),
    "ConcordanceCorrelation": ("ConcordanceCorrelation", {}, "real"),
    "ConcordanceCorrelation_axis": ("ConcordanceCorrelation", {"axis": 1}, "channels"),
    "IoU": ("IoU", {"num_classes": 3, "target_class_ids": [0, 2], "dtype": "float32"}, "equal_column"),
    "IoU_one_hot": (
        "IoU",
        {"num_classes": 4, "target_class_ids": [1, 3], "sparse_y_pred": False, "dtype": "float32"},
        "sparse",
    ),
    "IoU_integers": ("IoU", {"num_classes": 3, "target_class_ids": [0, 1]}, "equal_column"),
    "BinaryIoU": ("BinaryIoU", {"dtype": "float32"}, "column"),
    "BinaryIoU_class": ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.3, "dtype": "float32"}, "column"),
    "MeanIoU": ("MeanIoU", {"num_classes": 3, "dtype": "float32"}, "equal_column"),
    "MeanIoU_outside": ("MeanIoU", {"num_classes": 2, "dtype": "float32"}, "equal_column"),
    "MeanIoU_ignore": ("MeanIoU", {"num_classes": 4, "ignore_class": 1, "dtype": "float32"}, "equal_column"),
    "OneHotIoU": ("OneHotIoU", {"num_classes": 4, "target_class_ids": [0, 2], "dtype": "float32"}, "classes"),
    "OneHotMeanIoU": ("OneHotMeanIoU", {"num_classes": 4, "dtype": "float32"}, "classes"),
}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def make_data(rng):
    """Pairs of targets and predictions by name, 12 samples: two batches of 6."""
    n, steps, classes = 12, 5, 4
    logits, step_logits = rng.standard_normal((n, classes)), rng.standard_normal((n, steps, classes))
    numbers, step_numbers = rng.integers(0, classes, n), rng.integers(0, classes, (n, steps))
    binary = rng.integers(0, 2, (n, 3))
    probabilities = rng.random((n, 3))
    probabilities[0] = [0.0, 1.0, 0.5]
    one_hot, step_one_hot = np.eye(classes)[numbers], np.eye(classes)[step_numbers]
    data = {
        "real": (rng.standard_normal((n, 3)), rng.standard_normal((n, 3))),
        "positive": (rng.random((n, 3)) + 0.1, rng.random((n, 3)) + 0.1),
        "signs": (2.0 * binary - 1, rng.standard_normal((n, 3))),
        "binary": (binary, probabilities),
        "column": (binary[:, 0], probabilities[:, :1]),
        "binary_logits": (binary, 2 * rng.standard_normal((n, 3))),
        "classes": (one_hot, softmax(logits)),
        "logits": (one_hot, logits),
        "steps": (step_one_hot, softmax(step_logits)),
        "sparse": (numbers, softmax(logits)),
        "sparse_column": (numbers[:, None], softmax(logits)),
        "sparse_logits": (numbers, logits),
        "sparse_steps": (step_numbers, softmax(step_logits)),
        "channels": (np.moveaxis(step_one_hot, -1, 1), np.moveaxis(softmax(step_logits), -1, 1)),
        "vectors": (numbers, logits / np.linalg.norm(logits, axis=-1, keepdims=True)),
        "sequences": (rng.integers(1, classes, (n, 2)) * (np.arange(2) < rng.integers(0, 3, (n, 1))), step_logits),
        "equal_column": (rng.integers(0, 3, (n, 1)), rng.integers(0, 3, (n, 1)).astype(float)),
        "ids": (numbers, np.argsort(-logits, axis=-1)[:, :3].astype(float)),
        "equal": (rng.integers(0, 3, (n, 2)), rng.integers(0, 3, (n, 2)).astype(float)),
    }
    return {
        name: (true.astype("int32" if true.dtype.kind == "i" else "float32"), predicted.astype("float32"))
        for name, (true, predicted) in data.items()
    }


def main():
    rng = np.random.default_rng(3)
    data = make_data(rng)
    weights, mask = rng.random(12).astype("float32") * 2, rng.random((12, 5)) > 0.4
    mask[:, 0] = True
    out = {"weights": weights, "mask": mask}
    for name, (true, predicted) in data.items():
        out[f"data/{name}/true"], out[f"data/{name}/pred"] = true, predicted
    for case, (function, constants, kind) in LOSSES.items():
        true, predicted = data[kind]
        fn = getattr(keras.losses, function)
        values = np.asarray(fn(true, ops.convert_to_tensor(predicted), **constants))
        seed = rng.standard_normal(values.shape).astype("float32")
        out[f"loss/{case}/values"], out[f"loss/{case}/seed"] = values, seed
        gradient = jax.grad(lambda p, t, f, c, s: ops.sum(f(t, p, **c) * s))(predicted, true, fn, constants, seed)
        out[f"loss/{case}/gradient"] = np.asarray(gradient)
    for case, class_name in CLASSES.items():
        _, constants, kind = LOSSES[case]
        true, predicted = data[kind]
        for reduction in REDUCTIONS:
            loss = getattr(keras.losses, class_name)(**constants, reduction=reduction)
            weight = weights[:, None] if kind.endswith("steps") else weights
            out[f"reduced/{case}/{reduction}/plain"] = np.asarray(loss(true, predicted))
            out[f"reduced/{case}/{reduction}/weighted"] = np.asarray(loss(true, predicted, weight))
            if kind.endswith("steps"):
                masked = ops.convert_to_tensor(predicted)
                masked._keras_mask = ops.convert_to_tensor(mask)
                out[f"reduced/{case}/{reduction}/masked"] = np.asarray(loss(true, masked))
                out[f"reduced/{case}/{reduction}/masked_weighted"] = np.asarray(loss(true, masked, weight))
    for case, (class_name, constants, kind) in METRICS.items():
        true, predicted = data[kind]
        for how in (
            ("plain", "weighted", "masked", "masked_weighted") if kind.endswith("steps") else ("plain", "weighted")
        ):
            metric = getattr(keras.metrics, class_name)(**constants)
            results = []
            for half in (slice(0, 6), slice(6, 12)):
                weight = (
                    (weights[half, None] if kind.endswith("steps") else weights[half]) if "weighted" in how else None
                )
                prediction = ops.convert_to_tensor(predicted[half])
                if "masked" in how:
                    prediction._keras_mask = ops.convert_to_tensor(mask[half])
                metric.update_state(true[half], prediction, sample_weight=weight)
                results.append(np.asarray(metric.result()))
            out[f"metric/{case}/{how}"] = np.array(results)
    logits = 2 * rng.standard_normal((3, 8, 4)).astype("float32")
    labels, label_lengths, lengths = (
        np.array([[1, 2, 2], [3, 1, 0], [1, 0, 0]]),
        np.array([3, 2, 0]),
        np.array([8, 5, 6]),
    )
    out["ctc/logits"], out["ctc/labels"], out["ctc/label_lengths"], out["ctc/lengths"] = (
        logits,
        labels,
        label_lengths,
        lengths,
    )
    out["ctc/loss"] = np.asarray(ops.ctc_loss(labels, logits, label_lengths, lengths))
    out["ctc/loss_of_last"] = np.asarray(ops.ctc_loss((labels + 3) % 4, logits, label_lengths, lengths, mask_index=3))
    for case, constants in DECODINGS.items():
        paths, scores = ops.ctc_decode(logits, lengths, **constants)
        out[f"ctc/{case}/paths"], out[f"ctc/{case}/scores"] = np.asarray(paths), np.asarray(scores)
    out["cases"] = json.dumps(
        {"losses": LOSSES, "classes": CLASSES, "reductions": REDUCTIONS, "metrics": METRICS, "ctc": DECODINGS}
    )
    store("objectives.npz", out)


if __name__ == "__main__":
    main()
