"""Differentiable recurrences over whole sequences: LSTM, GRU and SimpleRNN, one op each."""

from typing import Any

import numpy as np

from nbkeras.engine import tape
from nbkeras.engine.annotations import briefly
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
            f"{name}: unknown activation {briefly(activation)}.{nearest(str(activation), known)} Known: {', '.join(known)}"
        )
    return code


def _constants(name: str, sequences: Any, backwards: Any, zero_masked: Any, **activations: str) -> dict[str, Any]:
    """The arguments of a kernel besides tensors: three booleans, and the codes of its activations."""
    ways = {"sequences": bool(sequences), "backwards": bool(backwards), "zero_masked": bool(zero_masked)}
    return ways | {what: _code(name, activation) for what, activation in activations.items()}


def _arguments(name: str, x, kernel, recurrent_kernel, bias, biases: tuple, states: dict, mask, dropout) -> list:
    """The arguments as tensors of one dtype with checked shapes; a ValueError names the argument whose shape does not fit.

    biases: the shape of the bias of one unit, (gates,) or (2, gates).
    """
    gates = biases[-1]
    kernel = as_tensor(kernel)  # floats, if it is quantized
    if kernel.dtype.kind != "f":
        raise TypeError(f"{name}: the kernel must be of a float dtype, received {kernel.dtype}")
    x, recurrent_kernel = as_tensor(x, kernel.dtype), as_tensor(recurrent_kernel, kernel.dtype)
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"{name}: x must have shape (batch, steps, features), none of them 0, received {x.shape}")
    batch, steps, features = x.shape
    units = recurrent_kernel.shape[0] if recurrent_kernel.ndim else 0

    def fit(what: str, value: Any, shape: tuple[int, ...], dtype: Any = kernel.dtype) -> Tensor | None:
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
    """A long short-term memory over whole sequences.

        z = x_t kernel + h recurrent_kernel + bias, in gates i, f, g, o
        c' = r(z_f) c + r(z_i) a(z_g)
        h' = r(z_o) a(c')

    a is the activation, r the recurrent activation. Source: Hochreiter and Schmidhuber, 1997, with the
    forget gate of Gers et al., 2000.

    Args:
        x: Floats (batch, steps, features).
        kernel: Weights (features, 4 units), in the order i, f, g, o, as in Keras.
        recurrent_kernel: Weights (units, 4 units).
        bias: Numbers (4 units,), or None.
        initial_h: The first h (batch, units); None for 0.
        initial_c: The first c (batch, units); None for 0.
        mask: Booleans (batch, steps): where they are False, the state stays unchanged and the output is the
            old h; or None.
        recurrent_dropout_mask: Numbers (batch, units) that multiply h before its product with
            `recurrent_kernel`, at each step; or None.
        activation: Name of the activation: 'tanh', 'sigmoid', 'relu', 'linear', 'hard_sigmoid' (Keras 3: x /
            6 + 0.5, clipped to [0, 1]) or 'legacy_hard_sigmoid' (Keras 2: 0.2 x + 0.5).
        recurrent_activation: The activation of the gates, one of the same names.
        return_sequences: Whether the output has all steps, or the last one only.
        go_backwards: Whether to run from the last step to the first; the output has the order of
            computation.
        zero_output_for_mask: Whether the output of a masked step is 0.

    Returns:
        The output (batch, steps, units), or (batch, units) without return_sequences; the last h and the last
        c, both (batch, units). They have kernel's dtype, and are differentiable in x, kernel,
        recurrent_kernel, bias and the states.

    Raises:
        ValueError: if a shape does not fit, or for an unknown activation.
        TypeError: if the kernel is not of a float dtype.

    Example:
        >>> x, kernel, recurrent_kernel = np.ones((2, 5, 3)), np.zeros((3, 16)), np.zeros((4, 16))
        >>> output, h, c = ops.lstm(x, kernel, recurrent_kernel)
        >>> output.shape, h.shape, c.shape
        ((2, 5, 4), (2, 4), (2, 4))
    """
    states = {"initial_h": initial_h, "initial_c": initial_c}
    tensors = _arguments("lstm", x, kernel, recurrent_kernel, bias, (4,), states, mask, recurrent_dropout_mask)
    ways = return_sequences, go_backwards, zero_output_for_mask
    constants = _constants("lstm", *ways, activation=activation, recurrent_activation=recurrent_activation)
    return apply(lstm_kernels.lstm, lstm_kernels.lstm_vjp, tensors, **constants, differentiable=tape.is_recording())


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
    """A gated recurrent unit over whole sequences.

        z = s(x_t W_z + b_z + h U_z + b'_z)
        r = s(x_t W_r + b_r + h U_r + b'_r)
        g = a(x_t W_g + b_g + r (h U_g + b'_g))    with reset_after
        g = a(x_t W_g + b_g + (r h) U_g)           without; there is no b'
        h' = z h + (1 - z) g

    a is the activation, s the recurrent activation. Source: Cho et al., 2014, arXiv:1406.1078, version 3,
    and version 1 without reset_after.

    Args:
        x: Floats (batch, steps, features).
        kernel: Weights W (features, 3 units), in the order z, r, g, as in Keras.
        recurrent_kernel: Weights U (units, 3 units).
        bias: Numbers (2, 3 units) with reset_after, (3 units,) without; or None.
        initial_h: The first h (batch, units); None for 0.
        mask: Booleans (batch, steps): where they are False, the state stays unchanged and the output is the
            old h; or None.
        recurrent_dropout_mask: Numbers (batch, units) that multiply h before its product with
            `recurrent_kernel`, at each step; or None.
        activation: Name of the activation: 'tanh', 'sigmoid', 'relu', 'linear', 'hard_sigmoid' (Keras 3: x /
            6 + 0.5 within 0 and 1) or 'legacy_hard_sigmoid' (Keras 2: 0.2 x + 0.5).
        recurrent_activation: The activation of the gates, one of the same names.
        reset_after: Whether the gate r multiplies h after the product with `recurrent_kernel`, or before it.
        return_sequences: Whether the output has all steps, or the last one only.
        go_backwards: Whether to run from the last step to the first; the output is in the order of
            computation.
        zero_output_for_mask: Whether the output of a masked step is 0.

    Returns:
        The output (batch, steps, units), or (batch, units) without return_sequences; and the last h (batch,
        units). They have kernel's dtype, and are differentiable in x, kernel, recurrent_kernel, bias and the
        state.

    Raises:
        ValueError: if a shape does not fit, or for an unknown activation.
        TypeError: if the kernel is not of a float dtype.

    Example:
        >>> x, kernel, recurrent_kernel = np.ones((2, 5, 3)), np.zeros((3, 12)), np.zeros((4, 12))
        >>> output, h = ops.gru(x, kernel, recurrent_kernel, initial_h=np.ones((2, 4)))
        >>> output.numpy()[0, :, 0]  # without weights, each step keeps half of h
        array([0.5    , 0.25   , 0.125  , 0.0625 , 0.03125])
    """
    biases, states = (2, 3) if reset_after else (3,), {"initial_h": initial_h}
    tensors = _arguments("gru", x, kernel, recurrent_kernel, bias, biases, states, mask, recurrent_dropout_mask)
    ways = return_sequences, go_backwards, zero_output_for_mask
    constants = _constants("gru", *ways, activation=activation, recurrent_activation=recurrent_activation)
    return apply(
        gru_kernels.gru,
        gru_kernels.gru_vjp,
        tensors,
        **constants,
        reset_after=bool(reset_after),
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
    """A fully connected recurrence over whole sequences.

        h' = activation(x_t kernel + h recurrent_kernel + bias)

    Args:
        x: Floats (batch, steps, features).
        kernel: Weights (features, units).
        recurrent_kernel: Weights (units, units).
        bias: Numbers (units,), or None.
        initial_h: The first h (batch, units); None for 0.
        mask: Booleans (batch, steps): where they are False, the state stays unchanged and the output is the
            old h; or None.
        recurrent_dropout_mask: Numbers (batch, units) that multiply h before its product with
            `recurrent_kernel`, at each step; or None.
        activation: Name of the activation: 'tanh', 'sigmoid', 'relu', 'linear', 'hard_sigmoid' (Keras 3: x /
            6 + 0.5 within 0 and 1) or 'legacy_hard_sigmoid' (Keras 2: 0.2 x + 0.5).
        return_sequences: Whether the output has all steps, or the last one only.
        go_backwards: Whether to run from the last step to the first; the output is in the order of
            computation.
        zero_output_for_mask: Whether the output of a masked step is 0.

    Returns:
        The output (batch, steps, units), or (batch, units) without return_sequences; and the last h (batch,
        units). They have kernel's dtype, and are differentiable in x, kernel, recurrent_kernel, bias and the
        state.

    Raises:
        ValueError: if a shape does not fit, or for an unknown activation.
        TypeError: if the kernel is not of a float dtype.

    Example:
        >>> x, one = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), np.ones((1, 1))
        >>> output, h = ops.simple_rnn(x, one, one, activation="linear")  # running sums
        >>> output.numpy().ravel()
        array([1., 3., 6.])
    """
    states = {"initial_h": initial_h}
    tensors = _arguments("simple_rnn", x, kernel, recurrent_kernel, bias, (1,), states, mask, recurrent_dropout_mask)
    ways = return_sequences, go_backwards, zero_output_for_mask
    constants = _constants("simple_rnn", *ways, activation=activation)
    return apply(simple_rnn_kernels.simple_rnn, simple_rnn_kernels.simple_rnn_vjp, tensors, **constants)
