"""TextInputs, the base of Keras's layers that take strings."""

from __future__ import annotations

from nbkeras.building.graph import SymbolicTensor, infer
from nbkeras.building.layer import Layer
from nbkeras.engine import option, structures
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.strings import holds_strings


class TextInputs(option.Declared, Layer, registered=False):
    """Base of layers that take strings: `call` gets them unconverted, because they are not tensors.

    `_encoded` makes the output from an int64 tensor of numbers, in a subclass.
    """

    _takes_strings = True
    _symbolic_dtype: str | None = None  # the dtype of symbolic outputs; None for that of the outputs
    text_cost = 16  # bytes of memory for each character of a string, at most; measured

    def __init__(self, *, dtype=None, **kwargs):
        super().__init__(dtype=None if isinstance(dtype, str) and dtype == "string" else dtype, **kwargs)

    def __call__(self, *args, **kwargs):
        given = args[0] if args else kwargs.get("inputs")
        return self.call(given) if holds_strings(given) else super().__call__(*args, **kwargs)

    def compute_output_spec(self, inputs):
        """Symbolic outputs; those for strings have the shape and dtype of their numbers, encoded.

        Args:
            inputs: Symbolic tensors of strings or integers.
        """
        leaves = structures.flatten(inputs)
        if any(getattr(leaf, "is_text", False) for leaf in leaves):
            made = infer(self._encoded, (SymbolicTensor(self._shape_of_numbers(leaves[0].shape), "int64"),), {})
        else:
            made = super().compute_output_spec(inputs)
        if self._symbolic_dtype is not None:
            made.dtype = known_dtype(self._symbolic_dtype)
        return made

    def _shape_of_numbers(self, shape):
        return shape
