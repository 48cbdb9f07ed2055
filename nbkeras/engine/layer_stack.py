"""Floor 1: the layer that a thread is currently computing, and the direction, forward or backward.

Messages name the layer. A program stores the layer and direction of each launch while it is recorded, and a Record of the tape
stores the layer that made it, so that a profile can assign kernels to layers. Replays do not use this module.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

F = TypeVar("F", bound=Callable)


class LayerScope(NamedTuple):
    """The layer of a launch, and its direction. The layer is a path of names from the outermost layer, joined by '/'."""

    layer: str  # or a part of a step outside its layers: 'loss', 'metrics' or 'optimizer'; '' if unknown
    is_backward: bool


class _LayerStack(threading.local):
    def __init__(self) -> None:
        self.names: list[str] = []  # the names of the layers that are being called
        self.outside = ""  # the part of a step that is being run, if no layer is being called
        self.back: str | None = None  # the layer whose gradients are being computed

    @property
    def layer(self) -> str:
        """The layer, or part of a step, that an op belongs to."""
        if self.back is not None:
            return self.back
        return "/".join(self.names) or self.outside

    def place(self) -> LayerScope:
        """The LayerScope of launches that are made now."""
        return LayerScope(self.layer, self.back is not None)

    def part(self, name: str) -> Callable[[F], F]:
        """Decorator of functions: their launches outside of layers get this name."""

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
