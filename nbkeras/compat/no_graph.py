"""Functions of `keras.backend` about graphs, sessions and sparse tensors: Keras 2's, which tf.keras of Keras 3 has too."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Do nothing: there is no graph of names."""
    yield


def manual_variable_initialization(value: bool) -> None:
    """Do nothing: a variable always has a value."""


def is_sparse(tensor: Any) -> bool:
    """False: there are no sparse tensors."""
    return False


def to_dense(tensor: Any) -> Any:
    """The tensor, which is always dense."""
    return tensor
