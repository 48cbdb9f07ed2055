"""Layers that Keras 2 had for one GPU library; here the plain ones compute the same."""

from nbkeras.layers import GRU, LSTM


class CuDNNGRU(GRU):
    """A GRU with tanh, sigmoid and reset_after; kwargs: the others of GRU."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **_FIXED, reset_after=True, **_without(kwargs, (*_FIXED, "reset_after")))


class CuDNNLSTM(LSTM):
    """An LSTM with tanh and sigmoid; kwargs: the others of LSTM."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **_FIXED, **_without(kwargs, _FIXED))


_FIXED = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def _without(kwargs: dict, names) -> dict:
    """A configuration names what is fixed too."""
    return {name: value for name, value in kwargs.items() if name not in names}
