"""EinsumDense: a dense layer over any axes, said by an equation."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from nbkeras import activations, constraints, initializers, ops, regularizers
from nbkeras.layer import InputSpec, Layer
from nbkeras.options import config_from

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


class EinsumDense(Layer):
    """activation(einsum(equation, inputs, kernel) + bias).

    equation: 'ab,bc->ac', with '...' first or last in input and output for axes left as they are. output_shape: the sizes of the
    output's letters but the batch's, None for those of the input. bias_axes: the output's letters that the bias has.
    LoRA and quantization are not offered.
    """

    def __init__(
        self,
        equation,
        output_shape,
        activation=None,
        bias_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if lora_rank is not None:
            raise ValueError("EinsumDense does not offer lora_rank: leave it out")
        self.equation, self.bias_axes = equation, bias_axes
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        _parsed(equation)

    def build(self, input_shape):
        plan = self._plan(input_shape)
        initializer = self.kernel_initializer
        scaled = isinstance(initializer, initializers.VarianceScaling)
        if scaled and None in (initializer.input_axes, initializer.output_axes):  # by the units that the equation says
            values = {**initializer.get_config(), "seed": initializer.seed}
            values |= {"input_axes": plan.input_axes, "output_axes": plan.output_axes}
            initializer = type(initializer).from_config(values)
        self.kernel = self.add_weight(
            plan.kernel,
            initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if plan.bias is not None:
            self.bias = self.add_weight(
                plan.bias,
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.input_spec = InputSpec(ndim=len(input_shape))
        self._summed = plan.summed
        self.built = True

    def _plan(self, input_shape: Any) -> _Plan:
        try:
            return _plan(self.equation, self.bias_axes, tuple(input_shape), self.partial_output_shape)
        except ValueError as error:
            raise ValueError(f"EinsumDense {self.name!r}: {error}") from None

    def call(self, inputs):
        if self._summed is not None:  # one matrix product, with the bias in the same pass
            shape, k = inputs.shape, math.prod(self.kernel.shape[: self._summed])
            rows, columns = shape[: len(shape) - self._summed], self.kernel.shape[self._summed :]
            bias = None if self.bias is None else ops.reshape(self.bias, (-1,))
            flat = ops.reshape(inputs, (*rows, k)), ops.reshape(self.kernel, (k, -1))
            fused = self.activation is ops.relu  # another may look along an axis
            outputs = ops.reshape(ops.dense(*flat, bias, ops.relu if fused else None), (*rows, *columns))
            return outputs if fused else self.activation(outputs)
        outputs = ops.einsum(self.equation, inputs, self.kernel)
        return self.activation(outputs if self.bias is None else ops.add(outputs, self.bias))

    def compute_output_shape(self, input_shape):
        return self._plan(input_shape).output

    get_config = config_from(__init__, output_shape="partial_output_shape", leave_out="lora_rank lora_alpha")


class _Plan(NamedTuple):
    """What an equation and shapes say: of kernel, bias and output, and which of the kernel's axes are input or output units.

    summed: how many of the input's last axes are the kernel's first ones, where all is one product of matrices; else None.
    """

    kernel: tuple
    bias: tuple | None
    output: tuple
    input_axes: list[int]
    output_axes: list[int]
    summed: int | None


def _parsed(equation: Any) -> tuple[str, str, str, bool, bool]:
    """The letters of input, kernel and output, and whether an ellipsis comes first or last."""
    found = _EQUATION.fullmatch(equation.replace(" ", "")) if isinstance(equation, str) else None
    if found:
        first, inputs, last, kernel, first_out, outputs, last_out = found.groups()
        if first == first_out and last == last_out and not (first and last):
            return inputs, kernel, outputs, bool(first), bool(last)
    raise ValueError(
        f"EinsumDense's equation must be 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...', received {equation!r}"
    )


def _plan(equation: str, bias_axes: str | None, input_shape: tuple, output_shape: tuple) -> _Plan:
    inputs, kernel, outputs, first, last = _parsed(equation)
    extra = len(input_shape) - len(inputs)
    if extra < 0 or (extra and not (first or last)):
        raise ValueError(f"the equation {equation!r} does not fit an input of shape {input_shape}")
    spread = input_shape[:extra] if first else input_shape[len(inputs) :]
    sizes = dict(zip(inputs, input_shape[extra if first else 0 :], strict=False))
    given = list(output_shape) if first and extra else [input_shape[0], *output_shape]
    if len(given) != len(outputs):
        raise ValueError(f"output_shape {output_shape} must have a size for each of {outputs!r} but the batch axis")
    for letter, size in zip(outputs, given, strict=True):
        if letter not in inputs + kernel:
            raise ValueError(f"{letter!r} of the output {outputs!r} is in neither {inputs!r} nor {kernel!r}")
        if size is not None and sizes.get(letter) is not None and sizes[letter] != size:
            raise ValueError(f"{letter!r} has size {sizes[letter]} in the input {input_shape}, {size} in output_shape")
        sizes[letter] = sizes.get(letter) if size is None else size
    if not set(kernel) <= set(sizes):
        raise ValueError(f"the letters {kernel!r} of the kernel must all be in {inputs!r} or {outputs!r}")
    named = tuple(sizes[letter] for letter in outputs)
    bias = None
    if bias_axes is not None:
        if not bias_axes or not set(bias_axes) <= set(outputs):
            raise ValueError(f"bias_axes must be letters of the output {outputs!r}, received {bias_axes!r}")
        rest = outputs[min(outputs.index(letter) for letter in bias_axes) :]
        bias = tuple(sizes[c] if c in bias_axes else 1 for c in rest) + (1,) * (extra if last else 0)
    summed = next((n for n in range(1, len(inputs) + 1) if kernel[:n] == inputs[-n:]), None)
    if summed is not None:
        new = kernel[summed:]
        plain = outputs == inputs[:-summed] + new and set(inputs).isdisjoint(new) and not last and new
        summed = summed if plain and bias_axes in (None, new) and len(input_shape) > summed else None
    input_axes = [i for i, letter in enumerate(kernel) if letter not in outputs]
    output_axes = [i for i, letter in enumerate(kernel) if letter in outputs]
    full = spread + named if first else named + spread
    return _Plan(tuple(sizes[c] for c in kernel), bias, full, input_axes, output_axes, summed)
