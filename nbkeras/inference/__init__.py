"""Inference with recorded programs, without the model; imported at first use."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.inference.bundle import TensorSpec as TensorSpec
    from nbkeras.inference.session import Frozen as Frozen
    from nbkeras.inference.stream import Stream as Stream
    from nbkeras.inference.streaming_graph import Form as Form
    from nbkeras.inference.streaming_graph import Part as Part

_lazy_names.attach(globals())
