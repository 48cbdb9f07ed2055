"""Losses: functions of (y_true, y_pred), and classes that reduce their values to one number."""

from typing import Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.losses.classes import CTC as CTC
from nbkeras.losses.classes import BinaryCrossentropy as BinaryCrossentropy
from nbkeras.losses.classes import BinaryFocalCrossentropy as BinaryFocalCrossentropy
from nbkeras.losses.classes import CategoricalCrossentropy as CategoricalCrossentropy
from nbkeras.losses.classes import CategoricalFocalCrossentropy as CategoricalFocalCrossentropy
from nbkeras.losses.classes import CategoricalGeneralizedCrossEntropy as CategoricalGeneralizedCrossEntropy
from nbkeras.losses.classes import CategoricalHinge as CategoricalHinge
from nbkeras.losses.classes import Circle as Circle
from nbkeras.losses.classes import CosineSimilarity as CosineSimilarity
from nbkeras.losses.classes import Dice as Dice
from nbkeras.losses.classes import Hinge as Hinge
from nbkeras.losses.classes import Huber as Huber
from nbkeras.losses.classes import KLDivergence as KLDivergence
from nbkeras.losses.classes import LogCosh as LogCosh
from nbkeras.losses.classes import MeanAbsoluteError as MeanAbsoluteError
from nbkeras.losses.classes import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from nbkeras.losses.classes import MeanSquaredError as MeanSquaredError
from nbkeras.losses.classes import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from nbkeras.losses.classes import Poisson as Poisson
from nbkeras.losses.classes import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from nbkeras.losses.classes import SquaredHinge as SquaredHinge
from nbkeras.losses.classes import Tversky as Tversky
from nbkeras.losses.functions import BCE as BCE
from nbkeras.losses.functions import KLD as KLD
from nbkeras.losses.functions import MAE as MAE
from nbkeras.losses.functions import MAPE as MAPE
from nbkeras.losses.functions import MSE as MSE
from nbkeras.losses.functions import MSLE as MSLE
from nbkeras.losses.functions import bce as bce
from nbkeras.losses.functions import binary_crossentropy as binary_crossentropy
from nbkeras.losses.functions import binary_focal_crossentropy as binary_focal_crossentropy
from nbkeras.losses.functions import categorical_crossentropy as categorical_crossentropy
from nbkeras.losses.functions import categorical_focal_crossentropy as categorical_focal_crossentropy
from nbkeras.losses.functions import categorical_generalized_cross_entropy as categorical_generalized_cross_entropy
from nbkeras.losses.functions import categorical_hinge as categorical_hinge
from nbkeras.losses.functions import circle as circle
from nbkeras.losses.functions import cosine as cosine
from nbkeras.losses.functions import cosine_proximity as cosine_proximity
from nbkeras.losses.functions import cosine_similarity as cosine_similarity
from nbkeras.losses.functions import ctc as ctc
from nbkeras.losses.functions import dice as dice
from nbkeras.losses.functions import hinge as hinge
from nbkeras.losses.functions import huber as huber
from nbkeras.losses.functions import huber_loss as huber_loss
from nbkeras.losses.functions import kl_divergence as kl_divergence
from nbkeras.losses.functions import kld as kld
from nbkeras.losses.functions import kullback_leibler_divergence as kullback_leibler_divergence
from nbkeras.losses.functions import log_cosh as log_cosh
from nbkeras.losses.functions import logcosh as logcosh
from nbkeras.losses.functions import mae as mae
from nbkeras.losses.functions import mape as mape
from nbkeras.losses.functions import mean_absolute_error as mean_absolute_error
from nbkeras.losses.functions import mean_absolute_percentage_error as mean_absolute_percentage_error
from nbkeras.losses.functions import mean_squared_error as mean_squared_error
from nbkeras.losses.functions import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from nbkeras.losses.functions import mse as mse
from nbkeras.losses.functions import msle as msle
from nbkeras.losses.functions import poisson as poisson
from nbkeras.losses.functions import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from nbkeras.losses.functions import squared_hinge as squared_hinge
from nbkeras.losses.functions import tversky as tversky
from nbkeras.losses.loss import Loss as Loss
from nbkeras.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from nbkeras.losses.loss import registry
from nbkeras.losses.loss import squeeze_or_expand_to_same_rank as squeeze_or_expand_to_same_rank

get, deserialize = registry.get, registry.deserialize


def serialize(loss) -> Any:
    """The configuration of a loss, as files hold it.

    Args:
        loss: A function, an object, or a name.

    Returns:
        {'module', 'class_name', 'config', 'registered_name'}, also for a function; `deserialize` reads it. A name stays.

    Example:
        >>> losses.serialize(losses.mean_squared_error)["config"]
        'mean_squared_error'
        >>> losses.serialize(losses.Huber(delta=0.5))["config"]["delta"]
        0.5
    """
    return registry.serialize(loss, short=False)


_lazy_names.attach(globals(), registry)
