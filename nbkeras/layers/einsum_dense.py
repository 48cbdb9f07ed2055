"""EinsumDense: a dense layer over the axes that an equation names."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NamedTuple, Unpack

from nbkeras import initializers, ops
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.building.lora import Adaptable, AdaptedWeight, full_shape
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


def _equation(name: str, what: str, equation: Any) -> str:
    _parsed(equation)  # called for its errors
    return equation


def _letters(name: str, what: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name}: {what} must be letters or None, received {briefly(value)}")
    return value


_EquationText = Annotated[str, option.kind(_equation, "'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'")]
_OutputShape = Annotated[option.Several, "partial_output_shape"]
_BiasAxes = Annotated[str | None, option.kind(_letters, "letters or None")]


class EinsumDense(Adaptable, Layer):
    """A dense layer over axes that an equation names: activation(einsum(equation, inputs, kernel) + bias).

    Args:
        equation: Letters for the axes of input, kernel and output: 'abc,cd->abd' is Dense for sequences.
            '...', first or last in input and output, stands for axes that do not change.
        output_shape: The sizes of the output's letters in their order, without the batch axis; None for a
            size of the input. With '...' first, the dots stand for the batch axis, and each letter has a size.
        bias_axes (letters or None): The letters of the output along which the bias varies;
            None for no bias.
        gptq_unpacked_column_size (an integer, or None): Accepted and ignored; Keras writes it into files.

    Input shape:
        As in the equation; sizes of the kernel's letters must be known.

    Output shape:
        As in the equation.

    Raises:
        ValueError: for an invalid equation, and when the layer is built, if equation, input,
            output_shape and bias_axes do not match.

    Example:
        >>> layer = layers.EinsumDense("abc,cd->abd", output_shape=(None, 64), bias_axes="d")
        >>> layer(np.ones((8, 10, 32))).shape
        (8, 10, 64)
        >>> layer.kernel.shape, layer.bias.shape
        ((32, 64), (64,))
        >>> layers.EinsumDense("...x,xy->...y", output_shape=4)(np.ones((8, 10, 32))).shape
        (8, 10, 4)
    """

    input_spec = InputSpec()
    is_quantized_by_keras = True
    quantized_channels = {"kernel": ()}  # `build` sets the axes from the equation
    kernel: Any = AdaptedWeight()

    def __init__(
        self,
        equation: _EquationText,
        output_shape: _OutputShape,
        activation: option.Activation = None,
        bias_axes: _BiasAxes = None,
        kernel_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        kernel_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: int | None = None,
        **kwargs: Unpack[LayerOptions],
    ):
        others = option.keep(self, locals())
        del others["gptq_unpacked_column_size"]  # Keras writes it into files
        super().__init__(**others)

    def build(self, input_shape):
        plan = self._plan(input_shape)
        initializer = self.kernel_initializer
        scaled = isinstance(initializer, initializers.VarianceScaling)
        # the equation says which axes are units
        if scaled and None in (initializer.input_axes, initializer.output_axes):
            values = {**initializer.get_config(), "seed": initializer.seed}
            values |= {"input_axes": plan.input_axes, "output_axes": plan.output_axes}
            initializer = type(initializer).from_config(values)
        self.input_spec = InputSpec(ndim=len(input_shape))
        self.kernel = self._option_weight(plan.kernel, "kernel", initializer=initializer)
        self.bias = None if plan.bias is None else self._option_weight(plan.bias, "bias")
        self._summed = plan.summed
        self._adapt_as_made()

    def channels_of_scale(self, name, shape):
        """The kernel's axes along which scales differ, in the output's order, and the shape of the scale in files.

        Args:
            name: 'kernel'.
            shape: The kernel's shape.
        """
        return _scale(_parsed(self.equation), tuple(shape), self.input_spec.ndim)

    def _plan(self, input_shape: Any) -> _Plan:
        try:
            return _plan(self.equation, self.bias_axes, tuple(input_shape), self.partial_output_shape)
        except ValueError as error:
            raise ValueError(f"EinsumDense {self.name!r}: {error}") from None

    def call(self, inputs):
        return self._computed(self._product, inputs, self.bias, self.activation)

    def _has_small_products(self, inputs) -> bool:
        terms, shape = _parsed(self.equation), full_shape(self._parts()[0])
        summed = math.prod(n for letter, n in zip(terms.kernel, shape, strict=True) if letter not in terms.outputs)
        return _ends_like_output(terms) and self._takes_products(inputs.size // summed)

    def _added(self, outputs, x, b):
        outputs = super()._added(outputs, x, b)
        return outputs if self.bias is None else ops.add(outputs, self.bias)

    def _product(self, inputs, kernel, bias=None, activation=ops.linear):
        """activation(einsum(equation, inputs, kernel) + bias)."""
        if self._summed is not None and not kernel.is_quantized:
            # one matrix product, with the bias in the same pass
            shape, k = inputs.shape, math.prod(kernel.shape[: self._summed])
            rows, columns = shape[: len(shape) - self._summed], kernel.shape[self._summed :]
            bias = None if bias is None else ops.reshape(bias, (-1,))
            flat = ops.reshape(inputs, (*rows, k)), ops.reshape(kernel, (k, math.prod(columns)))
            fused = activation is ops.relu  # other activations may need an axis
            outputs = ops.reshape(ops.dense(*flat, bias, ops.relu if fused else None), (*rows, *columns))
            return outputs if fused else activation(outputs)
        outputs = ops.einsum(self.equation, inputs, kernel)
        return activation(outputs if bias is None else ops.add(outputs, bias))

    def compute_output_shape(self, input_shape):
        return self._plan(input_shape).output


class _Equation(NamedTuple):
    """The letters of an equation's three terms; first, last: whether an ellipsis stands first or last in input and output."""

    inputs: str
    kernel: str
    outputs: str
    first: bool
    last: bool


class _Plan(NamedTuple):
    """The shapes of kernel, bias and output, and which of the kernel's axes are input or output units.

    summed: the number of the input's last axes that are the kernel's first axes, if the layer is one matrix product; else
    None.
    """

    kernel: tuple
    bias: tuple | None
    output: tuple
    input_axes: list[int]
    output_axes: list[int]
    summed: int | None


def _parsed(equation: Any) -> _Equation:
    found = _EQUATION.fullmatch(equation.replace(" ", "")) if isinstance(equation, str) else None
    if found:
        first, inputs, last, kernel, first_out, outputs, last_out = found.groups()
        if first == first_out and last == last_out and not (first and last):
            return _Equation(inputs, kernel, outputs, bool(first), bool(last))
    raise ValueError(
        f"EinsumDense's equation must be 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...', received {briefly(equation)}"
    )


def _ends_like_output(terms: _Equation) -> bool:
    """Whether the kernel's last axis is the output's last axis, and no axis of the input."""
    last = terms.kernel[-1]
    return last == terms.outputs[-1] and last not in terms.inputs and not terms.last


def _plan(equation: str, bias_axes: str | None, input_shape: tuple, output_shape: tuple) -> _Plan:
    terms = _parsed(equation)
    extra = len(input_shape) - len(terms.inputs)
    if extra < 0 or (extra and not (terms.first or terms.last)):
        raise ValueError(f"the equation {briefly(equation)} does not fit an input of shape {input_shape}")
    sizes = _sizes(terms, input_shape, output_shape, extra)
    named = tuple(sizes[letter] for letter in terms.outputs)
    return _Plan(
        kernel=tuple(sizes[letter] for letter in terms.kernel),
        bias=None if bias_axes is None else _bias_shape(terms, bias_axes, sizes, extra),
        output=input_shape[:extra] + named if terms.first else named + input_shape[len(terms.inputs) :],
        input_axes=[i for i, letter in enumerate(terms.kernel) if letter not in terms.outputs],
        output_axes=[i for i, letter in enumerate(terms.kernel) if letter in terms.outputs],
        summed=_summed_axes(terms, bias_axes, len(input_shape)),
    )


def _sizes(terms: _Equation, input_shape: tuple, output_shape: tuple, extra: int) -> dict[str, Any]:
    """The size of each letter; extra: the number of the input's axes that the ellipsis stands for."""
    inputs, kernel, outputs = terms[:3]
    sizes = dict(zip(inputs, input_shape[extra if terms.first else 0 :], strict=False))
    given = list(output_shape) if terms.first and extra else [input_shape[0], *output_shape]
    if len(given) != len(outputs):
        raise ValueError(f"output_shape {output_shape} must have a size for each of {outputs!r} except the batch axis")
    for letter, size in zip(outputs, given, strict=True):
        if letter not in inputs + kernel:
            raise ValueError(f"{letter!r} of the output {outputs!r} is in neither {inputs!r} nor {kernel!r}")
        if size is not None and sizes.get(letter) is not None and sizes[letter] != size:
            raise ValueError(f"{letter!r} has size {sizes[letter]} in the input {input_shape}, {size} in output_shape")
        sizes[letter] = sizes.get(letter) if size is None else size
    if not set(kernel) <= set(sizes):
        raise ValueError(f"the letters {kernel!r} of the kernel must all be in {inputs!r} or {outputs!r}")
    return sizes


def _bias_shape(terms: _Equation, bias_axes: str, sizes: dict[str, Any], extra: int) -> tuple:
    outputs = terms.outputs
    if not bias_axes or not set(bias_axes) <= set(outputs):
        raise ValueError(f"bias_axes must be letters of the output {outputs!r}, received {briefly(bias_axes)}")
    from_first = outputs[min(outputs.index(letter) for letter in bias_axes) :]
    shape = tuple(sizes[letter] if letter in bias_axes else 1 for letter in from_first)
    return shape + (1,) * (extra if terms.last else 0)


def _scale(terms: _Equation, shape: tuple, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The kernel's axes that are axes of the output, in the output's order, and Keras's shape of a scale for them.

    Keras lets the scale broadcast to the output: missing axes are 1, but summed axes take their positions first.
    """
    extra = [str(number) for number in range(rank - len(terms.inputs))]  # the axes of the ellipsis
    output = [*extra, *terms.outputs] if terms.first else [*terms.outputs, *extra]
    channels = tuple(terms.kernel.index(letter) for letter in output if letter in terms.kernel)
    missing = [place for place, letter in enumerate(output) if letter not in terms.kernel]
    order, squeezed, place = list(channels), [], 0
    for axis in (axis for axis, letter in enumerate(terms.kernel) if letter not in terms.outputs):
        if missing:
            place = missing.pop(0)
        else:
            squeezed.append(axis)
        order.insert(place, axis)
    stored = [shape[axis] if axis in channels else 1 for axis in order]
    for place in missing:
        stored.insert(place, 1)
    for place in sorted(squeezed, reverse=True):
        stored.pop(place)
    return channels, tuple(stored)


def _summed_axes(terms: _Equation, bias_axes: str | None, rank: int) -> int | None:
    inputs, kernel, outputs = terms[:3]
    count = next((n for n in range(1, len(inputs) + 1) if kernel[:n] == inputs[-n:]), None)
    if count is None or terms.last or rank <= count:
        return None
    new = kernel[count:]
    is_product = new and outputs == inputs[:-count] + new and set(inputs).isdisjoint(new) and bias_axes in (None, new)
    return count if is_product else None
