"""Data sets: `digits` is part of the package, the others are downloaded."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.datasets import boston_housing as boston_housing
    from nbkeras.datasets import california_housing as california_housing
    from nbkeras.datasets import cifar10 as cifar10
    from nbkeras.datasets import cifar100 as cifar100
    from nbkeras.datasets import digits as digits
    from nbkeras.datasets import fashion_mnist as fashion_mnist
    from nbkeras.datasets import imdb as imdb
    from nbkeras.datasets import mnist as mnist
    from nbkeras.datasets import reuters as reuters

_lazy_names.attach(globals())
