"""Floor 1: the place in a model where a thread is: which layer it calls, and whether it goes forward or back.

Messages name the layer. A program notes the place of each launch while it is recorded, and a Record of the tape notes the
layer that made it, so that a profile can tell the layers' kernels apart. Replays ask for nothing here.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

F = TypeVar("F", bound=Callable)


class LayerScope(NamedTuple):
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

    def place(self) -> LayerScope:
        """The place of a launch that is made now."""
        return LayerScope(self.layer, self.back is not None)

    def part(self, name: str) -> Callable[[F], F]:
        """Decorator of functions whose launches outside of layers have this name."""

        def decorate(function: F) -> F:
            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                before, self.outside = self.outside, name
                try:
                    return function(*args, **kwargs)
                finally:
                    self.outside = before

            return cast(F, call)

        return decorate


layer_stack = _LayerStack()
