"""Floor 2: CallHistory, the symbolic calls of a layer, with their inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkeras.building import graph
from nbkeras.building.graph import Node
from nbkeras.engine import structures


class OverridableProperty:
    """A property that an instance may replace by an attribute: in Keras 3, users may set these names."""

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._function(instance)


class CallHistory:
    """The nodes of a layer, one for each symbolic call; attributes and methods read them."""

    name: str

    def __init__(self) -> None:
        self._inbound_nodes: list[Node] = []

    def _node(self, index: int, what: str) -> Node:
        if not self._inbound_nodes:
            raise AttributeError(f"Layer {self.name} has no inbound nodes: it was never called on a symbolic tensor")
        if not -len(self._inbound_nodes) <= index < len(self._inbound_nodes):
            raise ValueError(
                f"asked to get {what} at node {index}, but layer {self.name} has only {len(self._inbound_nodes)} inbound nodes"
            )
        return self._inbound_nodes[index]

    def _single(self, what: str) -> Node:
        if len(self._inbound_nodes) > 1:
            raise AttributeError(
                f'Layer {self.name} has multiple inbound nodes, hence the notion of "layer {what}" is ill-defined. '
                f"Use `get_{what.replace(' ', '_')}_at(node_index)` instead."
            )
        return self._node(0, what)

    def _agreed(self, what: str, get: Callable[[Node], Any]) -> Any:
        if not self._inbound_nodes:
            raise AttributeError(f"Layer {self.name} has never been called and thus has no defined {what}.")
        shapes = [get(node) for node in self._inbound_nodes]
        if any(shape != shapes[0] for shape in shapes):
            raise AttributeError(
                f'Layer {self.name} has multiple inbound nodes, with different {what}s. Hence the notion of "{what}" '
                f"is ill-defined for the layer. Use `get_{what.replace(' ', '_')}_at(node_index)` instead."
            )
        return shapes[0]

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's only call. Raises AttributeError if there is none or more than one."""
        return self._single("input").call_inputs

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's only call. Raises AttributeError if there is none or more than one."""
        return self._single("output").outputs

    @OverridableProperty
    def input_mask(self) -> Any:
        """The mask of `input`, or None."""
        return graph.masks(self._single("input mask").call_inputs)

    @OverridableProperty
    def output_mask(self) -> Any:
        """The mask of `output`, or None."""
        return graph.masks(self._single("output mask").outputs)

    @OverridableProperty
    def input_shape(self) -> Any:
        """The input shape of all symbolic calls. Raises AttributeError if they differ."""
        return self._agreed("input shape", lambda node: structures.shapes(node.call_inputs))

    @OverridableProperty
    def output_shape(self) -> Any:
        """The output shape of all symbolic calls. Raises AttributeError if they differ."""
        return self._agreed("output shape", lambda node: structures.shapes(node.outputs))

    def get_input_at(self, node_index: int) -> Any:
        """The input of a symbolic call.

        Args:
            node_index: The index of the call.
        """
        return self._node(node_index, "input").call_inputs

    def get_output_at(self, node_index: int) -> Any:
        """The output of a symbolic call.

        Args:
            node_index: The index of the call.

        Example:
            >>> layer = layers.Dense(4)
            >>> first, second = layer(keras.Input((3,))), layer(keras.Input((3,)))
            >>> layer.get_output_at(1) is second
            True
        """
        return self._node(node_index, "output").outputs

    def get_input_shape_at(self, node_index: int) -> Any:
        """The shape of the input of a symbolic call.

        Args:
            node_index: The index of the call.
        """
        return structures.shapes(self.get_input_at(node_index))

    def get_output_shape_at(self, node_index: int) -> Any:
        """The shape of the output of a symbolic call.

        Args:
            node_index: The index of the call.
        """
        return structures.shapes(self.get_output_at(node_index))

    def get_input_mask_at(self, node_index: int) -> Any:
        """The mask of the input of a symbolic call, or None.

        Args:
            node_index: The index of the call.
        """
        return graph.masks(self.get_input_at(node_index))

    def get_output_mask_at(self, node_index: int) -> Any:
        """The mask of the output of a symbolic call, or None.

        Args:
            node_index: The index of the call.
        """
        return graph.masks(self.get_output_at(node_index))
