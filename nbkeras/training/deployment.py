"""Floor 3: the methods of models that make objects for servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbkeras.engine.lazy_names import Later

if TYPE_CHECKING:
    from nbkeras.inference.frozen import Frozen

_frozen = Later("nbkeras.inference.frozen")


class Deployment:
    """A part of Model."""

    def frozen(self, batch_sizes: int | Sequence[int] = (1, 32), input_signature: Any = None) -> Frozen:
        """The model's inference with the weights that it has now, ready to answer: without Python's layers, for many threads.

        It computes what `predict` computes, bit for bit in batches of the recorded sizes. Later training has no effect
        on it.

        Args:
            batch_sizes: The numbers of rows for which a program is recorded. A batch of another size is split, and its last
                part is padded.
            input_signature: The shape of each input (a tuple, an InputSpec or an Input), for models without a graph
                and to fix sizes; its first axis is ignored.

        Returns:
            A `nbkeras.inference.Frozen`, which is called like `predict`; pickle and `save` take it to other processes.

        Raises:
            ValueError: for a model that is on a GPU, keeps states, or needs Python to predict, and for sizes that are open: the
                message names the layer or the input.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> frozen = model.frozen(batch_sizes=(1, 8))
            >>> frozen(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        return _frozen.freeze(self, batch_sizes, input_signature)
