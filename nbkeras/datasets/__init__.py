"""Data sets: `digits` is part of the package, the others are downloaded."""

from nbkeras.engine import lazy_names as _lazy_names

_NAMES = "boston_housing california_housing cifar10 cifar100 digits fashion_mnist imdb mnist reuters"
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), {"": _NAMES})
