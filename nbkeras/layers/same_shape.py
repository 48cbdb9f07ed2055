"""SameShape: the base of layers that change values and keep shapes and masks."""

from nbkeras.building.layer import InputSpec, Layer
from nbkeras.engine import structures


class SameShape(Layer, registered=False):
    """A layer with one input and an output of the same shape and mask."""

    supports_masking = True
    input_spec = InputSpec()

    def compute_output_shape(self, input_shape):
        return structures.map_shapes(tuple, input_shape)
