"""Keras 2's cuDNN layers; the plain layers compute the same."""

from nbkeras.layers import GRU, LSTM


class CuDNNGRU(GRU):
    """A GRU with tanh, sigmoid and reset_after; kwargs: further arguments of GRU."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **_FIXED, reset_after=True, **_without(kwargs, (*_FIXED, "reset_after")))


class CuDNNLSTM(LSTM):
    """An LSTM with tanh and sigmoid; kwargs: further arguments of LSTM."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **_FIXED, **_without(kwargs, _FIXED))


_FIXED = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def _without(kwargs: dict, names) -> dict:
    """The arguments without the fixed ones, which a configuration also has."""
    return {name: value for name, value in kwargs.items() if name not in names}
