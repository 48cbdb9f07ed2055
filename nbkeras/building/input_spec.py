"""Floor 2: InputSpec, the dtype, rank and sizes that a layer expects of an input; DataFormat, the option for its channel axis."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from nbkeras.engine import option
from nbkeras.ops.window import data_format_of


class InputSpec(NamedTuple):
    """The dtype, rank and sizes that a layer expects of an input. A field that is None accepts anything.

    A layer checks its inputs against its attribute `input_spec`, an InputSpec or a list of them.

    Args:
        dtype: The dtype.
        shape: The shape with the batch axis; None for any size.
        ndim: The number of axes.
        max_ndim: The largest number of axes.
        min_ndim: The smallest number of axes.
        axes: Sizes of single axes: axis -> size.
        allow_last_axis_squeeze: Whether a last axis of size 1 may be missing or added.
        name: The key of the input in a dict of inputs.
        optional: Whether None may be passed.

    Example:
        >>> layer = layers.Dense(2, name="last")
        >>> layer.build((None, 3))
        >>> layer.input_spec = layers.InputSpec(ndim=2, axes={-1: 3})
        >>> layer(np.ones((1, 4)))
        Traceback (most recent call last):
        ValueError: input 0 of layer 'last' (Dense) is incompatible with it: expected axis -1 ... size 3, received ...
    """

    dtype: Any = None
    shape: tuple | None = None
    ndim: int | None = None
    max_ndim: int | None = None
    min_ndim: int | None = None
    axes: dict[int, int | None] | None = None
    allow_last_axis_squeeze: bool = False
    name: str | None = None
    optional: bool = False


def mismatch(spec: InputSpec | None, each: Any) -> str:
    """The first requirement of a spec that an input does not meet, as text; '' if it meets all."""
    if spec is None or (each is None and spec.optional):
        return ""
    shape = getattr(each, "shape", None)
    if shape is None:
        return "a tensor"
    shape = tuple(shape)
    if spec.ndim is not None and len(shape) != spec.ndim and not spec.allow_last_axis_squeeze:
        return f"ndim={spec.ndim}"
    if spec.max_ndim is not None and len(shape) > spec.max_ndim:
        return f"max_ndim={spec.max_ndim}"
    if spec.min_ndim is not None and len(shape) < spec.min_ndim:
        return f"min_ndim={spec.min_ndim}"
    if spec.dtype is not None and each.dtype != spec.dtype:
        return f"dtype {spec.dtype}"
    for axis, size in (spec.axes or {}).items():
        if size is not None and (axis >= len(shape) or shape[axis] not in (size, None)):
            return f"axis {axis} of the input to have size {size}"
    return "" if spec.shape is None or _fits(spec, shape) else f"shape {tuple(spec.shape)}"


def _fits(spec: InputSpec, shape: tuple) -> bool:
    wanted = tuple(spec.shape or ())
    if spec.allow_last_axis_squeeze:
        shape, wanted = (s[:-1] if s and s[-1] == 1 else s for s in (shape, wanted))
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _data_format(name: str, what: str, value: Any) -> str:
    return data_format_of(name, value)


_FORMATS = "'channels_last', 'channels_first', or None for config.image_data_format()"
DataFormat = Annotated[Any, option.kind(_data_format, _FORMATS)]
