"""Layers that merge several inputs into one, and their functions in lower case."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import compatibility, option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor


def _broadcast(first: tuple, second: tuple, name: str) -> tuple:
    """The broadcast shape of two inputs without their batch axes."""
    if len(first) < len(second):
        first, second = second, first
    second = (1,) * (len(first) - len(second)) + tuple(second)
    result = []
    for a, b in zip(first, second, strict=True):
        if a is None or b is None:
            result.append(None if 1 in (a, b) or a == b else a if b is None else b)
        elif a == 1 or b == 1 or a == b:
            result.append(b if a == 1 else a)
        else:
            raise ValueError(
                f"inputs of merging layer {name!r} have shapes that do not broadcast: {first} and {second}"
            )
    return tuple(result)


def _check_inputs(layer: Layer, shapes, count: int | None = None) -> None:
    """Raise ValueError unless these are the shapes of a list of inputs, `count` of them if given."""
    one = not isinstance(shapes, list | tuple) or not shapes or not isinstance(shapes[0], list | tuple)
    nested = not one and any(structures.is_nested(each) and not structures.is_shape(each) for each in shapes)
    if one or nested or (count is not None and len(shapes) != count):
        expected = "a list of inputs" if count is None else f"a list of exactly {count} inputs"
        received = f"a single shape {shapes}" if one else f"{len(shapes)} inputs"
        received = f"lists in lists, of shapes {list(shapes)}" if nested else received
        raise ValueError(f"layer {layer.name!r} ({type(layer).__name__}) merges {expected}, received {received}")


class Merge(Layer, registered=False):
    """Merges a list of inputs elementwise, with broadcasting; a subclass defines how to merge two.

    Call arguments:
        inputs: A list of tensors whose shapes broadcast; an input with fewer axes gets axes of size 1 after its
            batch axis.

    Output shape:
        The inputs' broadcast shape.

    Raises:
        ValueError: if the inputs are not a list, have different batch sizes, or have shapes that do not broadcast.
    """

    supports_masking = True
    input_count: int | None = None

    def merge(self, inputs):
        """The merged tensor.

        Args:
            inputs: A list of tensors with the same number of axes.
        """
        raise NotImplementedError(f"{type(self).__name__} must define merge(self, inputs)")

    def _aligned(self, inputs) -> list:
        """Inputs of the highest rank: lower ones get axes of size 1 after the batch axis, as in Keras."""
        self.compute_output_shape(structures.shapes(inputs))
        rank = max(len(x.shape) for x in inputs)
        aligned = []
        for x in inputs:
            while len(x.shape) < rank:
                x = ops.expand_dims(x, 1)
            aligned.append(x)
        return aligned

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # called for its errors
        # a batch may be merged with one sample later, as in Keras
        if len({shape[0] for shape in input_shape} - {None}) > 1:
            raise ValueError(f"inputs of {self.name!r} have different batch sizes: {list(input_shape)}")

    def call(self, inputs):
        return self.merge(self._aligned(inputs))

    def compute_output_shape(self, input_shape):
        _check_inputs(self, input_shape, self.input_count)
        rest = reduce(lambda a, b: _broadcast(a, b, self.name), [tuple(shape[1:]) for shape in input_shape])
        batches = {shape[0] for shape in input_shape} - {None}
        return (batches.pop() if len(batches) == 1 else None, *rest)

    def compute_mask(self, inputs, mask=None):
        """The mask of the output: a step is valid if it is valid in any input. (Keras 2: in all inputs with a mask.)

        Args:
            inputs: The list of inputs.
            mask: A list of their masks, or None. The output has no mask if an input has none.
        """
        masks = _masks(self, inputs, mask)
        if compatibility.current.merged_steps_need_all_masks:
            given = [m for m in masks if m is not None]
            return reduce(ops.logical_and, given) if given else None
        return None if any(m is None for m in masks) else reduce(ops.logical_or, masks)


def _masks(layer: Layer, inputs, mask) -> list:
    """A mask or None for each input; ValueError for a wrong number of masks."""
    if mask is None:
        return [None] * len(inputs)
    if not isinstance(inputs, list | tuple) or not isinstance(mask, list | tuple) or len(mask) != len(inputs):
        raise ValueError(
            f"compute_mask of layer {layer.name!r} needs lists of inputs and masks of the same length, received "
            f"{_counted(inputs)} and {_counted(mask)}"
        )
    return list(mask)


def _counted(values) -> str:
    return f"{len(values)}" if isinstance(values, list | tuple) else f"one {type(values).__name__}"


def _mask_like(x):
    """The mask of a tensor with axes of size 1 up to the tensor's rank, or None."""
    mask = x.mask
    while mask is not None and len(mask.shape) < len(x.shape):
        mask = ops.expand_dims(mask, -1)
    return mask


class Add(Merge):
    """The sum of a list of inputs, element by element.

    Example:
        >>> layers.Add()([np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]])]).numpy()
        array([[11., 22.]], dtype=float32)
    """

    def merge(self, inputs):
        return reduce(ops.add, inputs)


class Subtract(Merge):
    """The first of two inputs minus the second, element by element.

    Call arguments:
        inputs: A list of two tensors whose shapes broadcast; an input with fewer axes gets axes of size 1 after
            its batch axis.

    Raises:
        ValueError: if the inputs are not a list of two, have different batch sizes, or have shapes that do
            not broadcast.

    Example:
        >>> layers.Subtract()([np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]])]).numpy()
        array([[ -9., -18.]], dtype=float32)
    """

    input_count = 2

    def merge(self, inputs):
        return ops.subtract(*inputs)


class Multiply(Merge):
    """The product of a list of inputs, element by element.

    A masked step of an input counts as 1. If all inputs have masks, a step that is masked in all of them is
    0.

    Example:
        >>> layers.Multiply()([np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]])]).numpy()
        array([[10., 40.]], dtype=float32)
    """

    def merge(self, inputs):
        masks = [_mask_like(x) for x in inputs]
        product = reduce(
            ops.multiply, [x if m is None else ops.where(m, x, 1) for x, m in zip(inputs, masks, strict=True)]
        )
        if any(m is None for m in masks):
            return product
        return ops.where(reduce(ops.logical_or, masks), product, 0)


class Average(Merge):
    """The mean of a list of inputs, element by element.

    Example:
        >>> layers.Average()([np.array([[1.0, 2.0]]), np.array([[3.0, 6.0]])]).numpy()
        array([[2., 4.]], dtype=float32)
    """

    def merge(self, inputs):
        return ops.divide(reduce(ops.add, inputs), float(len(inputs)))


def _select(choose, inputs):
    """reduce(choose, inputs), ignoring masked timesteps of each input."""
    result, known = inputs[0], _mask_like(inputs[0])
    for x in inputs[1:]:
        mask = _mask_like(x)
        if mask is not None:
            x = ops.where(mask, x, result)
        if known is not None:
            result = ops.where(known, result, x)
        known = None if mask is None or known is None else ops.logical_or(known, mask)
        result = choose(result, x)
    return result


class Maximum(Merge):
    """The largest number of a list of inputs, element by element. Masked steps of an input do not count.

    Example:
        >>> layers.Maximum()([np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])]).numpy()
        array([[3., 6.]], dtype=float32)
    """

    def merge(self, inputs):
        return _select(ops.maximum, inputs)


class Minimum(Merge):
    """The smallest number of a list of inputs, element by element. Masked steps of an input do not count.

    Example:
        >>> layers.Minimum()([np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])]).numpy()
        array([[1., 2.]], dtype=float32)
    """

    def merge(self, inputs):
        return _select(ops.minimum, inputs)


class Concatenate(Layer):
    """Concatenates a list of inputs along an axis.

    Args:
        axis: The axis to join along, counted from the end if negative.

    Call arguments:
        inputs: A list of tensors whose shapes are equal except for this axis.

    Output shape:
        The inputs' shape, with the sum of their sizes along the axis.

    Raises:
        ValueError: if the inputs are not a list, lack the axis, or differ on another axis.

    Example:
        >>> layers.Concatenate()([np.array([[1.0, 2.0]]), np.array([[3.0]])]).numpy()
        array([[1., 2., 3.]], dtype=float32)
        >>> layers.Concatenate(axis=1)([np.ones((2, 3, 4)), np.ones((2, 5, 4))]).shape
        (2, 8, 4)
    """

    supports_masking = True

    def __init__(self, axis: option.Integer = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        self.compute_output_shape(structures.shapes(inputs))
        return ops.concatenate(list(inputs), axis=self.axis)

    def compute_output_shape(self, input_shape):
        _check_inputs(self, input_shape)
        first = list(input_shape[0])
        rank = len(first)
        if not -rank <= self.axis < rank:
            raise ValueError(f"Concatenate {self.name!r} has axis {self.axis}, but its inputs have {rank} axes")
        axis = self.axis % rank
        for shape in input_shape[1:]:
            fits = len(shape) == rank and all(
                a == axis or x is None or y is None or x == y for a, (x, y) in enumerate(zip(first, shape, strict=True))
            )
            if not fits:
                raise ValueError(
                    f"inputs of Concatenate {self.name!r} must agree in all axes but axis {self.axis}, received "
                    f"{[tuple(s) for s in input_shape]}"
                )
        sizes = [shape[axis] for shape in input_shape]
        merged = [next((s[a] for s in input_shape if s[a] is not None), None) for a in range(rank)]
        merged[axis] = None if None in sizes else sum(sizes)
        return tuple(merged)

    def compute_mask(self, inputs, mask=None):
        """The concatenated masks: a step is valid if any of its elements is.

        Args:
            inputs: The list of inputs.
            mask: A list of their masks, or None. An input without a mask is valid everywhere.
        """
        masks = _masks(self, inputs, mask)
        if all(m is None for m in masks):
            return None
        rank = len(inputs[0].shape)
        parts = []
        for x, m in zip(inputs, masks, strict=True):
            if m is None:
                whole = ops.ones_like(x, dtype="bool")
            else:
                while len(m.shape) < rank:
                    m = ops.expand_dims(m, -1)
                whole = ops.logical_and(m, ops.ones_like(x, dtype="bool"))
            parts.append(whole)
        joined = ops.concatenate(parts, axis=self.axis)
        return ops.any(joined, axis=-1)


def _dot_axes(name: str, what: str, axes: Any) -> Any:
    pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
    if len(pair) != 2 or not all(isinstance(a, int) for a in pair):
        raise ValueError(f"{name}'s {what} must be an integer or two, received {briefly(axes)}")
    return axes


DotAxes = Annotated[Any, option.kind(_dot_axes, "an integer or two")]


class Dot(Layer):
    """Products of two inputs, summed over one axis of each, sample by sample. The output has no mask.

    Args:
        axes: The axis to sum over, or one for each input; not the batch axis.
        normalize: Whether to divide the inputs by their lengths along the axes: the result is then their
            cosine similarity.

    Call arguments:
        inputs: A list of two tensors whose summed axes have the same size.

    Output shape:
        The axes of the first input, then of the second, without the summed axes and the second batch
        axis; (batch, 1) for two matrices.

    Raises:
        ValueError: if the inputs are not a list of two, lack the axes, or their sizes differ.

    Example:
        >>> x, y = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
        >>> layers.Dot(axes=1)([x, y]).numpy()
        array([[11.]], dtype=float32)
        >>> layers.Dot(axes=(2, 1))([np.ones((8, 2, 5)), np.ones((8, 5, 3))]).shape
        (8, 2, 3)
    """

    supports_masking = True

    def __init__(self, axes: DotAxes, normalize: option.Flag = False, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self._pair = (axes, axes) if isinstance(axes, int) else tuple(axes)

    def _checked(self, first: tuple, second: tuple) -> tuple[int, int]:
        """The pair of axes, counted from the start."""
        axes = []
        for axis, shape in zip(self._pair, (first, second), strict=True):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise ValueError(
                    f"Dot {self.name!r} sums over axes {self._pair}, received shapes {first} and {second}: each must be "
                    "an axis of its input, and not the batch axis"
                )
            axes.append(axis % len(shape))
        a, b = axes
        if first[a] is not None and second[b] is not None and first[a] != second[b]:
            raise ValueError(
                f"Dot {self.name!r} sums over axes {self._pair}, which must have the same size, received shapes "
                f"{first} and {second}"
            )
        return a, b

    def call(self, inputs):
        self.compute_output_shape(structures.shapes(inputs))
        x, y = inputs
        a, b = self._checked(tuple(x.shape), tuple(y.shape))
        if self.normalize:
            x, y = ops.l2_normalize(x, a), ops.l2_normalize(y, b)
        return ops.batch_dot(x, y, axes=(a, b))

    def compute_output_shape(self, input_shape):
        _check_inputs(self, input_shape, 2)
        first, second = (tuple(shape) for shape in input_shape)
        a, b = self._checked(first, second)
        shape = first[:a] + first[a + 1 :] + second[1:b] + second[b + 1 :]
        return shape if len(shape) > 1 else (*shape, 1)

    def compute_mask(self, inputs, mask=None):
        """None: the output has no mask."""
        return None


_AS_FUNCTION = """{what}, element by element: the layer {layer} as a function.

Args:
    inputs: A list{of_two}, tensors whose shapes broadcast.
    **kwargs: Arguments of the layer, such as name.

Returns:
    A tensor of the inputs' broadcast shape; symbolic if the inputs are.

Raises:
    ValueError: if the inputs are not a list{of_two}, or their shapes do not broadcast.

Example:
    >>> layers.{function}([np.array([[1.0, 20.0]]), np.array([[10.0, 2.0]])]).numpy()
    array([{row}], dtype=float32)
"""


def _as_function(layer: type[Merge], what: str, row: str) -> Callable[..., Tensor]:
    """The function of a layer. what, row: for its docstring: what it computes, and its result for [1, 20] and [10, 2]."""

    def merge(inputs: list | tuple, **kwargs) -> Tensor:
        return layer(**kwargs)(inputs)

    merge.__name__ = merge.__qualname__ = layer.__name__.lower()
    merge.__doc__ = _AS_FUNCTION.format(
        what=what,
        layer=layer.__name__,
        function=merge.__name__,
        row=row,
        of_two=" of two" if layer.input_count == 2 else "",
    )
    return merge


add = _as_function(Add, "The sum of a list of tensors", "[11., 22.]")
subtract = _as_function(Subtract, "The first of two tensors minus the second", "[-9., 18.]")
multiply = _as_function(Multiply, "The product of a list of tensors", "[10., 40.]")
average = _as_function(Average, "The mean of a list of tensors", "[ 5.5, 11. ]")
maximum = _as_function(Maximum, "The largest number of a list of tensors", "[10., 20.]")
minimum = _as_function(Minimum, "The smallest number of a list of tensors", "[1., 2.]")


def concatenate(inputs: list | tuple, axis: int = -1, **kwargs) -> Tensor:
    """A list of tensors, concatenated along an axis: the layer Concatenate as a function.

    Args:
        inputs: A list of tensors whose shapes are equal except for this axis.
        axis: The axis to join along, counted from the end if negative.
        **kwargs: Arguments of the layer, such as name.

    Returns:
        A tensor with the sum of the inputs' sizes along the axis; symbolic if the inputs are.

    Raises:
        ValueError: if the inputs are not a list, do not have the axis, or differ in another one.

    Example:
        >>> layers.concatenate([np.array([[1.0, 2.0]]), np.array([[3.0]])]).numpy()
        array([[1., 2., 3.]], dtype=float32)
    """
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(
    inputs: list | tuple, axes: int | list[int] | tuple[int, int] = -1, normalize: bool = False, **kwargs
) -> Tensor:
    """Products of two tensors, summed over one axis of each, sample by sample: the layer Dot as a function.

    Args:
        inputs: A list of two tensors whose summed axes have the same size.
        axes: The axis to sum over, or one for each input; never the batch axis.
        normalize: Whether to divide the inputs by their lengths along the axes: the result is then their
            cosine similarity.
        **kwargs: Arguments of the layer, such as name.

    Returns:
        A tensor without the summed axes; (batch, 1) for two matrices. It is symbolic if the inputs are.

    Raises:
        ValueError: if the inputs are not a list of two, lack the axes, or their sizes differ.

    Example:
        >>> layers.dot([np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])], axes=1).numpy()
        array([[11.]], dtype=float32)
    """
    return Dot(axes=axes, normalize=normalize, **kwargs)(inputs)
