"""Internal methods and attributes of Keras 3's classes that released packages use.

`keras3.install` sets the members of each class here on the nbkeras class of the same name and removes them again.
"""

import functools
from typing import Any

from nbkeras.metrics import Metric


class Module:
    """Members of every layer."""

    @functools.cached_property
    def _metrics(self) -> list[Metric]:
        """The layer's own metrics: a list that may be extended."""
        return self._held(Metric)  # type: ignore[attr-defined]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Any]:
        """The layer and the layers in it, each once; recursive: also the layers in these."""
        parts = self._all_layers()[1:] if recursive else self._sublayers()  # type: ignore[attr-defined]
        return [self, *parts] if include_self else parts


class SymbolicTensor:
    """Members of symbolic tensors."""

    sparse = False
    ragged = False
