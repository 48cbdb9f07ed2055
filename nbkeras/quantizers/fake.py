"""Numbers rounded as integers would be, for training."""

from __future__ import annotations

from collections.abc import Callable

from nbkeras import ops
from nbkeras.engine.tensor import Tensor
from nbkeras.quantizers.rounding import axis_of


def fake_quant_with_min_max_vars(
    inputs, min_vals, max_vals, num_bits: int = 8, narrow_range: bool = False, axis: int | None = None
) -> Tensor:
    """Numbers rounded as integers of a range would be, for training; the limits of the range get gradients too.

    Args:
        inputs: Floats.
        min_vals: The lower limit: a number, or one for each index of `axis`.
        max_vals: The upper limit, of the same shape.
        num_bits: The bits of an integer.
        narrow_range: Whether the smallest integer is 1, not 0.
        axis: The axis with separate limits; None for one range.

    Returns:
        A tensor of the inputs' shape. The gradient passes where the input is inside the range; outside, the limit gets it.

    Example:
        >>> keras.quantizers.fake_quant_with_min_max_vars(np.array([0.2, 5.0], "float32"), 0.0, 1.0, num_bits=2).numpy()
        array([0.33333334, 1.        ], dtype=float32)
    """
    x = ops.convert_to_tensor(inputs)
    limits = [ops.convert_to_tensor(each, x.dtype) for each in (min_vals, max_vals)]
    if axis is not None:
        axis = axis_of("fake_quant_with_min_max_vars", axis, x.ndim)
        sizes = [size if place == axis else 1 for place, size in enumerate(x.shape)]
        limits = [ops.reshape(each, sizes) for each in limits]
    least, most = int(bool(narrow_range)), 2 ** int(num_bits) - 1

    @ops.custom_gradient
    def rounded(x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Callable]:
        scale, inverse = (high - low) / (most - least), (most - least) / (high - low)
        zero = ops.round(ops.clip(least - low / scale, least, most))
        lower, upper = (least - zero) * scale, (most - zero) * scale
        start = ops.floor(-lower * inverse + 0.5)
        y = ops.floor((ops.clip(x, lower, upper) - lower) * inverse - start + 0.5) * scale

        def gradients(dy: Tensor) -> list[Tensor]:
            inside = ops.logical_and(x >= lower, x <= upper)
            places = [inside, x <= lower, x >= upper]
            dx, *of_limits = (ops.where(place, dy, 0.0) for place in places)
            rest = None if axis is None else [place for place in range(dx.ndim) if place != axis]
            return [dx, *(ops.reshape(ops.sum(each, axis=rest), low.shape) for each in of_limits)]

        return y, gradients

    return rounded(x, *limits)  # type: ignore[return-value]
