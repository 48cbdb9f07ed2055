"""Keras's `preprocessing`: sequences, texts and images made ready for a model, in NumPy."""

from nbkeras import later as _later

__getattr__, __dir__, __all__ = _later.names(__name__, (), {"": "image sequence text"})
