"""Metrics: functions of (y_true, y_pred), and objects that compute their means over batches."""

from typing import TYPE_CHECKING, Any

from nbkeras.engine import lazy_names as _lazy_names
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
from nbkeras.losses.functions import categorical_hinge as categorical_hinge
from nbkeras.losses.functions import hinge as hinge
from nbkeras.losses.functions import huber as huber
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
from nbkeras.metrics.accuracy import Accuracy as Accuracy
from nbkeras.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from nbkeras.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from nbkeras.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from nbkeras.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from nbkeras.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from nbkeras.metrics.accuracy import accuracy as accuracy
from nbkeras.metrics.accuracy import binary_accuracy as binary_accuracy
from nbkeras.metrics.accuracy import categorical_accuracy as categorical_accuracy
from nbkeras.metrics.accuracy import resolve_accuracy as resolve_accuracy
from nbkeras.metrics.accuracy import sparse_categorical_accuracy as sparse_categorical_accuracy
from nbkeras.metrics.accuracy import sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy
from nbkeras.metrics.accuracy import top_k_categorical_accuracy as top_k_categorical_accuracy
from nbkeras.metrics.confusion import FalseNegatives as FalseNegatives
from nbkeras.metrics.confusion import FalsePositives as FalsePositives
from nbkeras.metrics.confusion import Precision as Precision
from nbkeras.metrics.confusion import PrecisionAtRecall as PrecisionAtRecall
from nbkeras.metrics.confusion import Recall as Recall
from nbkeras.metrics.confusion import RecallAtPrecision as RecallAtPrecision
from nbkeras.metrics.confusion import SensitivityAtSpecificity as SensitivityAtSpecificity
from nbkeras.metrics.confusion import SpecificityAtSensitivity as SpecificityAtSensitivity
from nbkeras.metrics.confusion import TrueNegatives as TrueNegatives
from nbkeras.metrics.confusion import TruePositives as TruePositives
from nbkeras.metrics.errors import BinaryCrossentropy as BinaryCrossentropy
from nbkeras.metrics.errors import CategoricalCrossentropy as CategoricalCrossentropy
from nbkeras.metrics.errors import CategoricalHinge as CategoricalHinge
from nbkeras.metrics.errors import CosineSimilarity as CosineSimilarity
from nbkeras.metrics.errors import Hinge as Hinge
from nbkeras.metrics.errors import KLDivergence as KLDivergence
from nbkeras.metrics.errors import LogCoshError as LogCoshError
from nbkeras.metrics.errors import MeanAbsoluteError as MeanAbsoluteError
from nbkeras.metrics.errors import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from nbkeras.metrics.errors import MeanSquaredError as MeanSquaredError
from nbkeras.metrics.errors import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from nbkeras.metrics.errors import Poisson as Poisson
from nbkeras.metrics.errors import RootMeanSquaredError as RootMeanSquaredError
from nbkeras.metrics.errors import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from nbkeras.metrics.errors import SquaredHinge as SquaredHinge
from nbkeras.metrics.errors import cosine_similarity as cosine_similarity
from nbkeras.metrics.metric import Mean as Mean
from nbkeras.metrics.metric import MeanMetricWrapper as MeanMetricWrapper
from nbkeras.metrics.metric import Metric as Metric
from nbkeras.metrics.metric import Sum as Sum
from nbkeras.metrics.metric import functions as _functions
from nbkeras.metrics.metric import registry

cosine = cosine_proximity = cosine_similarity


get, deserialize = registry.get, registry.deserialize


def serialize(metric) -> Any:
    """The configuration of a metric, as files hold it.

    Args:
        metric: A metric, or a function of (y_true, y_pred).

    Returns:
        A dict with 'class_name' and 'config', also for a function, from which `deserialize` recreates the metric.

    Example:
        >>> metrics.serialize(metrics.mean_squared_error)["config"]
        'mean_squared_error'
        >>> metrics.serialize(metrics.TopKCategoricalAccuracy(k=3))["config"]
        {'name': 'top_k_categorical_accuracy', 'dtype': 'float32', 'k': 3}
    """
    return registry.serialize(metric, short=False)


if TYPE_CHECKING:  # imported at first use
    from nbkeras.metrics.auc import AUC as AUC
    from nbkeras.metrics.fscore import F1Score as F1Score
    from nbkeras.metrics.fscore import FBetaScore as FBetaScore
    from nbkeras.metrics.iou import BinaryIoU as BinaryIoU
    from nbkeras.metrics.iou import IoU as IoU
    from nbkeras.metrics.iou import MeanIoU as MeanIoU
    from nbkeras.metrics.iou import OneHotIoU as OneHotIoU
    from nbkeras.metrics.iou import OneHotMeanIoU as OneHotMeanIoU
    from nbkeras.metrics.regression import ConcordanceCorrelation as ConcordanceCorrelation
    from nbkeras.metrics.regression import PearsonCorrelation as PearsonCorrelation
    from nbkeras.metrics.regression import R2Score as R2Score
    from nbkeras.metrics.regression import concordance_correlation as concordance_correlation
    from nbkeras.metrics.regression import pearson_correlation as pearson_correlation

_lazy_names.attach(globals(), registry, _functions)
