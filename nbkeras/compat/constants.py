"""Names that Keras 2 had for strings: `keras.utils.losses_utils` and `keras.utils.metrics_utils`."""


class Reduction:
    """How a loss is reduced."""

    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"


class AUCCurve:
    """The curve of an AUC."""

    ROC = "ROC"
    PR = "PR"


class AUCSummationMethod:
    """How an AUC sums areas."""

    INTERPOLATION = "interpolation"
    MAJORING = "majoring"
    MINORING = "minoring"
