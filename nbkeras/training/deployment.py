"""Floor 3: the methods of models that make of their inference what other programs and servers use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbkeras import export
from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import Later

if TYPE_CHECKING:
    from nbkeras.inference.frozen import Frozen
    from nbkeras.inference.stream import Stream

_frozen, _stream = Later("nbkeras.inference.frozen"), Later("nbkeras.inference.stream")


class Deployment:
    """A part of Model: its inference for other programs, and for servers."""

    def export(
        self,
        filepath: Any,
        format: str | None = None,
        verbose: bool | None = None,
        input_signature: Any = None,
        **options: Any,
    ) -> None:
        """Write the model's inference with its weights to a file: ONNX, or a shared library with a C header and a Python module.

        See `nbkeras.export.export_onnx` and `nbkeras.export.export_library`.

        Args:
            filepath: The name of the file.
            format: 'onnx' or 'library'; None for a library if the name ends in .so, else ONNX.
            verbose: False prints nothing; None and True print the file's name.
            input_signature: The shape of each input, for models without a graph and to fix sizes.
            **options: Of a library: `batch`, `target`, `weights` and `state`.

        Raises:
            ImportError: if the package onnx is not installed, for ONNX.
            TypeError: for an option that the format does not have.
            ValueError: for another format, and for a model that cannot be written in this format.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.export("model.onnx")
            Saved the ONNX model at 'model.onnx'.
            >>> model.export("libmodel.so", batch=[1, 32])
            Saved the library at 'libmodel.so', with model.h and model.py.
        """
        if format is None:
            format = "library" if str(filepath).endswith((".so", ".dylib", ".dll")) else "onnx"
        if format == "library":
            export.export_library(self, filepath, input_signature, verbose, **options)
        elif format == "onnx":
            if options:
                raise TypeError(f"an ONNX file has no options {', '.join(options)}: these are of format='library'")
            export.export_onnx(self, filepath, input_signature, verbose)
        else:
            raise ValueError(
                f"format must be 'onnx' or 'library', received {briefly(format)}: nbkeras writes no other format for inference"
            )

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
