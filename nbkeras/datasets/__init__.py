"""Data sets: `digits` ships with the package, the others are downloaded."""

from nbkeras import later as _later

__getattr__, __dir__, __all__ = _later.names(__name__, (), {"": "digits mnist"})
