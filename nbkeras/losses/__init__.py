"""Losses: functions of (y_true, y_pred), and classes that reduce them to a number."""
# ruff: noqa: F401

from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.losses.classes import (
    CTC,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    Circle,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
)
from nbkeras.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    circle,
    cosine_similarity,
    ctc,
    dice,
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
    tversky,
)
from nbkeras.losses.loss import Loss, LossFunctionWrapper, registry, squeeze_or_expand_to_same_rank

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
bce = BCE = binary_crossentropy
kld = KLD = kullback_leibler_divergence = kl_divergence
cosine = cosine_proximity = cosine_similarity
huber_loss = huber
logcosh = log_cosh


def get(identifier) -> Any:
    """A loss from None, a name ('mse'), a configuration, a class, or a function or Loss (returned as it is)."""
    return registry.get(identifier)


def serialize(loss) -> Any:
    """A name for a function, {'class_name', 'config'} for an object."""
    return registry.serialize(loss)


def deserialize(config, custom_objects=None) -> Any:
    """A loss from what `serialize` returned."""
    return registry.deserialize(config, custom_objects)


__getattr__, __dir__, __all__ = _lazy_names.names(globals())
