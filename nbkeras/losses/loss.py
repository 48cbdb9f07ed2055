"""Loss, and the wrapper that turns a function into a Loss: masks, sample weights, the reduction to one number.

Source: keras/src/losses/loss.py (Keras 3.15).
"""

from collections.abc import Callable
from typing import Any

from nbkeras import config, ops
from nbkeras.engine import dtype_policy, naming, option, sharding, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registered, Registry
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.engine.user_errors import set_by_init

registry = Registry("loss", "keras.losses")

_MEANS = ("sum_over_batch_size", "mean")
_REDUCTIONS = (*_MEANS, "mean_with_sample_weight", "sum", "none")


def prediction(y_pred: Any, dtype: Any = None) -> Tensor:
    """Predictions as a float Tensor: a float Tensor itself, with its mask and logits; anything else in floatx."""
    if isinstance(y_pred, Tensor) and y_pred.dtype.kind == "f" and dtype is None and not y_pred.is_half:
        return y_pred
    return as_tensor(y_pred, dtype or config.floatx())


def _tensors(values: Any, convert: Callable[[Any], Tensor]) -> Any:
    """Values as tensors: a dict, and a list or tuple with a dict in it, keeps its structure; anything else is one tensor."""
    if isinstance(values, dict) or (
        isinstance(values, list | tuple) and any(isinstance(each, dict) for each in values)
    ):
        return structures.made_of(values, [_tensors(part, convert) for _, part in structures.parts(values)])
    return convert(values)


def squeeze_or_expand_to_same_rank(x1: Tensor, x2: Tensor, expand_rank_1: bool = True) -> tuple[Tensor, Tensor]:
    """Make the ranks of two tensors equal by adding or removing a last axis of size 1.

    Args:
        x1: A tensor.
        x2: A tensor with the same number of axes, or one more or less.
        expand_rank_1: Whether a vector beside a column becomes a column; otherwise the column becomes a vector.

    Returns:
        Both tensors. They are unchanged if a last axis of size 1 does not explain the difference.

    Example:
        >>> column, vector = ops.ones((3, 1)), ops.ones(3)
        >>> x1, x2 = losses.squeeze_or_expand_to_same_rank(column, vector)
        >>> x1.shape, x2.shape
        ((3, 1), (3, 1))
    """
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        if x2.ndim == 1 and expand_rank_1:
            return x1, ops.expand_dims(x2, -1)
        return ops.squeeze(x1, -1), x2
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        x2, x1 = squeeze_or_expand_to_same_rank(x2, x1, expand_rank_1)
    return x1, x2


def pair(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions as tensors of one dtype, and of one rank if a last axis of size 1 explains the difference."""
    y_pred = prediction(y_pred)
    return squeeze_or_expand_to_same_rank(as_tensor(y_true, y_pred.dtype), y_pred)


def check_reduction(reduction: str | None) -> str:
    """The reduction, 'none' for None, the mean for tf.keras's 'auto'; ValueError for an unknown one."""
    if reduction is None:
        return "none"
    if not isinstance(reduction, str) or reduction not in ("auto", *_REDUCTIONS):
        raise ValueError(f"reduction must be one of {list(_REDUCTIONS)} or None, received {briefly(reduction)}")
    return "sum_over_batch_size" if reduction == "auto" else reduction


def mask_weights(sample_weight: Tensor | None, mask: Tensor | None, dtype: Any, rescale: bool) -> Tensor | None:
    """Sample weights times a mask; rescale: times elements / unmasked elements, so that a mean covers the unmasked elements."""
    if mask is None:
        return sample_weight
    weight = as_tensor(mask, dtype)
    if rescale:
        valid = sharding.total(ops.sum(weight))
        weight = ops.multiply(weight, ops.where(valid > 0, sharding.size_of(weight) / ops.maximum(valid, 1), 0))
    if sample_weight is None:
        return weight
    return ops.multiply(*_aligned(weight, sample_weight))


def _aligned(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Values and weights that broadcast: weights with fewer axes belong to the leading axes."""
    values, weights = squeeze_or_expand_to_same_rank(values, weights)
    low, high = (weights, values) if weights.ndim < values.ndim else (values, weights)
    if 0 < low.ndim < high.ndim and low.shape == high.shape[: low.ndim]:
        widened = ops.reshape(low, (*low.shape, *[1] * (high.ndim - low.ndim)))
        values, weights = (values, widened) if low is weights else (widened, weights)
    return values, weights


def reduce_weighted(values: Tensor, sample_weight: Any, mask: Tensor | None, reduction: str) -> Tensor:
    """Losses of samples times their weights, where the mask is true, reduced to a scalar (not reduced for 'none').

    Each rank gets a scalar of its rows. The mean of these scalars, weighted by the number of rows, is the batch's result.
    """
    weights = None if sample_weight is None else as_tensor(sample_weight, values.dtype)
    weights = mask_weights(weights, mask, values.dtype, rescale=reduction in _MEANS)
    if weights is not None:
        values, weights = _aligned(values, weights)
        _check_weights(values, weights)
        values = ops.multiply(values, weights)
    if reduction == "none" or values.ndim == 0 or values.shape == (0,):
        return values
    if reduction == "sum":
        return _of_all(ops.sum(values))
    if reduction in _MEANS or weights is None:
        return ops.mean(values)
    total = ops.sum(weights)
    total = sharding.total(total) if weights.ndim else total
    return ops.where(total != 0, _of_all(ops.sum(values)) / ops.where(total != 0, total, 1), 0)


def _of_all(summed: Tensor) -> Tensor:
    """A sum over this rank's rows as its share of a sum over all rows: see `reduce_weighted`."""
    factor = sharding.of_sum()
    return summed if factor == 1.0 else ops.multiply(summed, factor)


def _check_weights(values: Tensor, weights: Tensor) -> None:
    fits = weights.ndim == values.ndim and all(w in (1, v) for w, v in zip(weights.shape, values.shape, strict=True))
    if weights.ndim and values.ndim and not fits:
        raise ValueError(
            f"sample_weight of shape {weights.shape} does not fit losses of shape {values.shape}: give one weight for each "
            "sample, (batch,), or for each timestep, (batch, timesteps)"
        )


class Loss(Observed, option.Configured, Registered, registry=registry):
    """Base class of losses: `loss(y_true, y_pred, sample_weight=None)` gives a scalar tensor.

    A subclass defines `call(y_true, y_pred)`, which returns one loss for each sample (and timestep). The
    call then multiplies them by sample weights, leaves out masked timesteps (if `y_pred` has a mask), and
    reduces them to one number.

    Args:
        name: A name; by default the name of the function or the class.
        reduction: 'sum_over_batch_size' or 'mean' (Keras 2: 'auto') for the mean; 'sum';
            'mean_with_sample_weight' for the sum divided by the sum of the weights; 'none' or None for one
            loss for each sample.
        dtype: The dtype to compute in; None for the dtype of `y_pred`.

    Example:
        >>> class Cubed(losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return ops.mean(ops.abs(y_true - y_pred) ** 3, axis=-1)
        >>> print(Cubed()([[0.0], [0.0]], [[1.0], [2.0]]).numpy())
        4.5
        >>> print(Cubed(reduction="sum")([[0.0], [0.0]], [[1.0], [2.0]], sample_weight=[1.0, 0.5]).numpy())
        5.0
    """

    float_targets = True  # y_true is given to `call` in the dtype of y_pred

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        self.name = naming.checked("loss", name) or type(self).__name__.lower()
        self.reduction = check_reduction(reduction)
        self.dtype = None if dtype is None else dtype_policy.of(dtype).compute_dtype

    @op
    def __call__(self, y_true, y_pred, sample_weight=None) -> Tensor:
        """The loss of a batch.

        Args:
            y_true: Targets, in the form that `call` accepts. `call` receives a dict of them as a dict of tensors.
            y_pred: Predictions; integers become floatx. May be a dict too.
            sample_weight: Weights that the losses are multiplied by: numbers (batch,), or (batch,
                timesteps); None for 1.

        Returns:
            A scalar tensor; the shape of the losses with reduction 'none'.

        Raises:
            ValueError: if the shapes do not fit.
        """
        y_pred = _tensors(y_pred, lambda leaf: prediction(leaf, self.dtype))
        dtype = structures.flatten(y_pred)[0].dtype if self.float_targets else None
        y_true = _tensors(y_true, lambda leaf: as_tensor(leaf, dtype))
        values = as_tensor(self.call(y_true, y_pred))
        mask = y_pred.mask if isinstance(y_pred, Tensor) else None
        if values.mask is not None:
            mask = values.mask if mask is None else ops.logical_and(mask, values.mask)
        return reduce_weighted(values, sample_weight, mask, self.reduction)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample; a subclass defines it.

        Args:
            y_true: Targets, a tensor of y_pred's dtype.
            y_pred: Predictions, a float tensor.

        Returns:
            A tensor with all axes of y_pred except the last.
        """
        raise NotImplementedError(f"{type(self).__name__} must define call(self, y_true, y_pred)")

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this loss."""
        return {"name": self.name, "reduction": self.reduction, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} reduction={self.reduction!r}>"


set_by_init(Loss, "name reduction dtype")
_OF_CLASS_NUMBERS = ("sparse_categorical_crossentropy", "categorical_generalized_cross_entropy", "circle", "ctc")


class LossFunctionWrapper(Loss, registered=False):
    """A loss made from a function; `compile` wraps loss functions in it.

    Args:
        fn: Function(y_true, y_pred, **constants) of tensors that returns one loss for each sample. Other
            keyword arguments of the constructor are its constants.

    Raises:
        TypeError: if fn is not callable.

    Example:
        >>> def quantile(y_true, y_pred, q):
        ...     error = y_true - y_pred
        ...     return ops.mean(ops.maximum(q * error, (q - 1) * error), axis=-1)
        >>> loss = losses.LossFunctionWrapper(quantile, q=0.9)
        >>> print(loss([[0.0], [0.0]], [[1.0], [-1.0]]).numpy().round(3))
        0.5
    """

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **constants,
    ):
        super().__init__(naming.checked("loss", name) or getattr(fn, "__name__", None), reduction, dtype)
        if not callable(fn):
            raise TypeError(f"a loss function must be callable as fn(y_true, y_pred), received {briefly(fn)}")
        self.fn = fn
        self.constants = constants
        self.float_targets = getattr(fn, "__name__", "") not in _OF_CLASS_NUMBERS

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The function's loss of each sample; the ranks of the tensors are made equal first.

        Args:
            y_true: Targets, a tensor.
            y_pred: Predictions, a float tensor.

        Returns:
            What the function returns.
        """
        if isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.constants)

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this loss: those of `Loss`, the function, and its constants."""
        return {**super().get_config(), "fn": registry.serialize(self.fn), **self.constants}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """A loss from its configuration.

        Args:
            config: The result of `get_config`.
        """
        named = isinstance(config.get("fn"), str | dict)
        return super().from_config({**config, "fn": registry.get(config["fn"])} if named else config)
