"""Metrics: functions of (y_true, y_pred), and objects that keep their means over batches."""
# ruff: noqa: F401

from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.naming import snake_case as _snake_case
from nbkeras.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from nbkeras.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    resolve_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from nbkeras.metrics.auc import AUC
from nbkeras.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from nbkeras.metrics.errors import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    cosine_similarity,
)
from nbkeras.metrics.metric import Mean, MeanMetricWrapper, Metric, Sum, registry
from nbkeras.metrics.metric import functions as _functions

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
bce = BCE = binary_crossentropy
kld = KLD = kullback_leibler_divergence = kl_divergence
logcosh = log_cosh
cosine = cosine_proximity = cosine_similarity


def get(identifier, **kwargs) -> Any:
    """A metric from None, a name, a configuration or a class; functions and Metrics are returned as they are."""
    return registry.get(identifier, **kwargs)


def serialize(metric) -> Any:
    """A name for a function, {'class_name', 'config'} for an object."""
    return registry.serialize(metric)


def deserialize(config, custom_objects=None) -> Any:
    """A metric from what `serialize` returned."""
    return registry.deserialize(config, custom_objects)


_LATER = {
    "fscore": "F1Score FBetaScore",
    "iou": "BinaryIoU IoU MeanIoU OneHotIoU OneHotMeanIoU",
    "regression": "ConcordanceCorrelation PearsonCorrelation R2Score concordance_correlation pearson_correlation",
}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER, ["nbkeras.losses"], registry)
for _module, _names in _LATER.items():
    for _known in (registry, _functions):
        _known.later({_snake_case(_name): f"{__name__}.{_module}" for _name in _names.split()})
