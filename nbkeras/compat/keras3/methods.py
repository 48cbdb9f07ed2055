"""Internal methods and attributes of Keras 3's classes that released packages use.

`keras3.install` sets the members of each class here on the nbkeras class of the same name and removes them again.
"""

from collections.abc import Iterator
from typing import Any


class Module:
    """Members of every layer."""

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> Iterator[Any]:
        """The layer and the layers in it, each once; recursive: also the layers in these."""
        if include_self:
            yield self
        parts = self._all_layers() if recursive else self._own_layers()  # type: ignore[attr-defined]
        yield from (each for each in parts if each is not self)


class SymbolicTensor:
    """Members of symbolic tensors."""

    sparse = False
    ragged = False
