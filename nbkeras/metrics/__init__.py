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
from nbkeras.metrics import errors as _errors  # it registers names that are not its own, such as 'mae'
from nbkeras.metrics.accuracy import accuracy as accuracy  # the name of the module hides it otherwise
from nbkeras.metrics.metric import Mean as Mean
from nbkeras.metrics.metric import MeanMetricWrapper as MeanMetricWrapper
from nbkeras.metrics.metric import Metric as Metric
from nbkeras.metrics.metric import Sum as Sum
from nbkeras.metrics.metric import functions as _functions
from nbkeras.metrics.metric import registry

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
    from nbkeras.metrics.accuracy import *
    from nbkeras.metrics.auc import *
    from nbkeras.metrics.confusion import *
    from nbkeras.metrics.errors import *
    from nbkeras.metrics.fscore import *
    from nbkeras.metrics.iou import *
    from nbkeras.metrics.regression import *

_lazy_names.attach(globals(), registry, _functions)
