"""Differentiable recurrences over whole sequences: LSTM, GRU and SimpleRNN, one op each."""

from typing import Any

import numpy as np

from nbkeras.engine import tape
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels.recurrent import gru as gru_kernels
from nbkeras.kernels.recurrent import lstm as lstm_kernels
from nbkeras.kernels.recurrent import recurrence
from nbkeras.kernels.recurrent import simple_rnn as simple_rnn_kernels

RECURRENT_ACTIVATIONS = tuple(recurrence.ACTIVATIONS)  # the activations that the ops of this module accept


def _code(name: str, activation: str) -> int:
    code = recurrence.ACTIVATIONS.get(activation)
    if code is None:
        known = recurrence.ACTIVATIONS
        raise ValueError(
            f"{name}: unknown activation {activation!r}.{nearest(str(activation), known)} Known: {', '.join(known)}"
        )
    return code


def _arguments(name: str, x, kernel, recurrent_kernel, bias, biases: tuple, states: dict, mask, dropout) -> list:
    """The arguments as tensors of one dtype with checked shapes; a ValueError names the argument whose shape does not fit.

    biases: the shape of the bias of one unit, (gates,) or (2, gates).
    """
    gates = biases[-1]
    kernel = as_tensor(kernel)
    if kernel.dtype.kind != "f":
        raise TypeError(f"{name}: the kernel must be of a float dtype, received {kernel.dtype}")
    x, recurrent_kernel = as_tensor(x, kernel.dtype), as_tensor(recurrent_kernel, kernel.dtype)
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"{name}: x must have shape (batch, steps, features), none of them 0, received {x.shape}")
    batch, steps, features = x.shape
    units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0

    def fit(what: str, value: Any, shape: tuple[int, ...], dtype=kernel.dtype) -> Tensor | None:
        if value is None:
            return None
        tensor = as_tensor(value, dtype)
        if tensor.shape != shape:
            raise ValueError(
                f"{name}: {what} must have shape {shape} for x of shape {x.shape} and {units} units, "
                f"received {tensor.shape}"
            )
        return tensor

    return [
        x,
        fit("kernel", kernel, (features, gates * units)),
        fit("recurrent_kernel", recurrent_kernel, (units, gates * units)),
        fit("bias", bias, (*biases[:-1], gates * units)),
        *[fit(what, value, (batch, units)) for what, value in states.items()],
        fit("mask", mask, (batch, steps), np.dtype(bool)),
        fit("recurrent_dropout_mask", dropout, (batch, units)),
    ]


@op
def lstm(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    initial_h=None,
    initial_c=None,
    mask=None,
    recurrent_dropout_mask=None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """(output, last h, last c) of a long short-term memory; see kernels/recurrent/lstm.py for the formula and its source.

    Shapes: x (batch, steps, features), kernel (features, 4 units) in gates i, f, c, o, recurrent_kernel (units, 4 units),
    bias (4 units,), initial_h and initial_c (batch, units) or None for 0. output: (batch, steps, units), in the order of
    computation, or (batch, units) without return_sequences. mask: bool (batch, steps); where it is False the state stays
    unchanged and the output is the old h, or 0 with zero_output_for_mask. recurrent_dropout_mask: (batch, units),
    multiplies h before its product with recurrent_kernel, at each step. Activations by name: tanh, sigmoid, relu,
    linear, hard_sigmoid (Keras 3: x / 6 + 0.5 within 0 and 1), legacy_hard_sigmoid (Keras 2: 0.2 x + 0.5). Differentiable in x,
    kernel, recurrent_kernel, bias and the states.
    """
    states = {"initial_h": initial_h, "initial_c": initial_c}
    tensors = _arguments("lstm", x, kernel, recurrent_kernel, bias, (4,), states, mask, recurrent_dropout_mask)
    return apply(
        lstm_kernels.lstm,
        lstm_kernels.lstm_vjp,
        tensors,
        activation=_code("lstm", activation),
        recurrent_activation=_code("lstm", recurrent_activation),
        sequences=bool(return_sequences),
        backwards=bool(go_backwards),
        zero_masked=bool(zero_output_for_mask),
        differentiable=tape.is_recording(),
    )


@op
def gru(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    initial_h=None,
    mask=None,
    recurrent_dropout_mask=None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    reset_after: bool = True,
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[Tensor, Tensor]:
    """(output, last h) of a gated recurrent unit; see kernels/recurrent/gru.py for the formula and its source.

    Shapes: kernel (features, 3 units) in gates z, r, h, recurrent_kernel (units, 3 units), bias (2, 3 units) with
    reset_after, (3 units,) without. The rest is as in `lstm`.
    """
    biases, states = (2, 3) if reset_after else (3,), {"initial_h": initial_h}
    tensors = _arguments("gru", x, kernel, recurrent_kernel, bias, biases, states, mask, recurrent_dropout_mask)
    return apply(
        gru_kernels.gru,
        gru_kernels.gru_vjp,
        tensors,
        activation=_code("gru", activation),
        recurrent_activation=_code("gru", recurrent_activation),
        reset_after=bool(reset_after),
        sequences=bool(return_sequences),
        backwards=bool(go_backwards),
        zero_masked=bool(zero_output_for_mask),
        differentiable=tape.is_recording(),
    )


@op
def simple_rnn(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    initial_h=None,
    mask=None,
    recurrent_dropout_mask=None,
    activation: str = "tanh",
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[Tensor, Tensor]:
    """(output, last h) of h' = activation(x_t kernel + h recurrent_kernel + bias).

    Shapes: kernel (features, units), recurrent_kernel (units, units), bias (units,). The rest is as in `lstm`.
    """
    states = {"initial_h": initial_h}
    tensors = _arguments("simple_rnn", x, kernel, recurrent_kernel, bias, (1,), states, mask, recurrent_dropout_mask)
    return apply(
        simple_rnn_kernels.simple_rnn,
        simple_rnn_kernels.simple_rnn_vjp,
        tensors,
        activation=_code("simple_rnn", activation),
        sequences=bool(return_sequences),
        backwards=bool(go_backwards),
        zero_masked=bool(zero_output_for_mask),
    )
