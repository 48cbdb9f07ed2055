"""Constants of Keras 2's `keras.utils.losses_utils` and `keras.utils.metrics_utils`."""


class Reduction:
    """The reductions of a loss."""

    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"


class AUCCurve:
    """The curves of an AUC."""

    ROC = "ROC"
    PR = "PR"


class AUCSummationMethod:
    """The summation methods of an AUC."""

    INTERPOLATION = "interpolation"
    MAJORING = "majoring"
    MINORING = "minoring"
