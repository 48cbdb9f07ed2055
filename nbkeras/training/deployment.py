"""Floor 3: the methods of models that make objects for servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbkeras.engine.lazy_names import Later

if TYPE_CHECKING:
    from nbkeras.inference.stream import Stream

_stream = Later("nbkeras.inference.stream")


class Deployment:
    """A part of Model."""

    def stream(self, window: int | None = None, sequences: Sequence[str] | None = None) -> Stream:
        """The model as a predictor that goes on from step to step, with its state as an array: for data that come one by one.

        Args:
            window: The number of steps that a sequence may have, for models with causal attention.
            sequences: The names of the inputs that are sequences; None decides by their shapes.

        Returns:
            A `nbkeras.inference.Stream`: `y, state = stream(x, state)` from `state = stream.initial(batch)` on.

        Raises:
            ValueError: for a model that cannot go step by step: the message names the layer and says why.

        Example:
            >>> model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4)])
            >>> stream = model.stream()
            >>> state = stream.initial(batch=2)
            >>> y, state = stream(np.ones((2, 3)), state)  # one step of two sequences
            >>> y.shape, state.shape
            ((2, 4), (2, 8))
        """
        return _stream.Stream(self, window, sequences)
