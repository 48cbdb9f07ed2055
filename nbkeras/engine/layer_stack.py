"""Floor 1: the place in a model where a thread is: which layer it calls, and whether it goes forward or back.

Messages name the layer. A program notes the place of each launch while it is recorded, and a Record of the tape notes the
layer that made it, so that a profile can tell the layers' kernels apart. Replays ask for nothing here.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple


class Place(NamedTuple):
    """Where a launch belongs: the names of the layers from the outermost one, joined by '/', and a direction."""

    layer: str  # or a part of a step outside its layers: 'loss', 'metrics' or 'optimizer'; '' if nothing is known
    is_backward: bool


class _LayerStack(threading.local):
    def __init__(self) -> None:
        self.names: list[str] = []  # of the layers that are being called
        self.outside = ""  # the part of a step that is being run, if no layer is being called
        self.back: str | None = None  # the layer whose gradients are being computed

    @property
    def layer(self) -> str:
        """The layer, or part of a step, that an op belongs to."""
        if self.back is not None:
            return self.back
        return "/".join(self.names) or self.outside

    def place(self) -> Place:
        """The place of a launch that is made now."""
        return Place(self.layer, self.back is not None)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Call what the block does outside of layers by this name; also a decorator."""
        before, self.outside = self.outside, name
        try:
            yield
        finally:
            self.outside = before


layer_stack = _LayerStack()
