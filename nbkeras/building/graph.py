"""Floor 2: the functional graph. Symbolic tensors, the Nodes that connect them, and Graph, which runs them in order.

A Node is one call of a layer: (layer, arguments, outputs). Only calls on symbolic tensors make nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nbkeras import ops
from nbkeras.engine import naming, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, shapes_only, unfilled
from nbkeras.ops.operators import attach_operators


class SymbolicTensor:
    """A tensor without a value, in a model that is being built: a shape, a dtype, and the call that made it.

    `Input` makes the first ones; layers and ops called on them make others.

    Args:
        shape: The sizes of the axes; None for any size.
        dtype: A dtype of numbers or booleans; None for `config.floatx()`.
        name: A name for messages; None makes one.
        record_history: Accepted and kept as an attribute: a graph always knows how its tensors are made.

    Example:
        >>> x = layers.Input((3,))
        >>> isinstance(x, keras.KerasTensor), ops.sum(x, axis=1).shape
        (True, (None,))
    """

    is_text = False  # whether it stands for strings

    def __init__(self, shape, dtype=None, name: str | None = None, record_history: bool = True):
        if not structures.is_shape(shape := structures.listed(shape)):
            raise TypeError(f"a shape is a tuple of integers, with None for unknown sizes, received {briefly(shape)}")
        self.shape: tuple[int | None, ...] = tuple(None if s is None else int(s) for s in shape)
        self.dtype = self.value_dtype = known_dtype(
            dtype
        )  # value_dtype: that of its values, if Keras's symbol has another
        self.name = naming.checked("symbolic tensor", name) or f"keras_tensor_{next(_numbers)}"
        self.node: Node | None = None
        self.index, self.record_history = 0, record_history
        self.mask: SymbolicTensor | None = None
        self.logits = None
        self.trials: tuple | None = None  # its shapes in the two trial runs that inferred its shape: see `infer`

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def _stand_in(self, sizes: list[int]) -> Any:
        """An unfilled tensor of these sizes, for dry runs."""
        return unfilled(tuple(sizes), self.dtype)

    def reshape(self, newshape) -> SymbolicTensor:
        """`ops.reshape` of this tensor.

        Args:
            newshape: The new shape.
        """
        return ops.reshape(self, newshape)  # type: ignore[return-value]

    def squeeze(self, axis=None) -> SymbolicTensor:
        """`ops.squeeze` of this tensor.

        Args:
            axis: The axis or axes of size 1 to remove; None for all.
        """
        return ops.squeeze(self, axis)  # type: ignore[return-value]

    def symbolic_op(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Add an op that was called on this tensor to the graph as a node; see nbkeras.engine.tensor.op.

        Args:
            function: The op.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        return _op_layer(function)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def _no_value(self, *args, **kwargs):
        raise TypeError(
            f"{self!r} has no value: it describes a model that is being built. Use nbkeras.ops or a Lambda layer on it "
            "instead of NumPy or Python control flow, or call the model on arrays to get values"
        )

    __array__ = __float__ = __int__ = __index__ = _no_value

    def __bool__(self) -> bool:
        """Raises TypeError, except for `x != y` of symbolic tensors: True if they are different objects."""
        if getattr(self.node and self.node.layer, "function", None) is ops.not_equal and len(self.node.inputs) == 2:  # type: ignore
            return self.node.inputs[0] is not self.node.inputs[1]  # type: ignore[union-attr]
        return self._no_value()

    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __len__(self) -> int:
        raise TypeError(f"{self!r} has no length")

    def __iter__(self):
        raise TypeError(f"{self!r} cannot be iterated over")


attach_operators(SymbolicTensor)
_op_layer: Callable[[Callable], Callable]  # makes a layer from an op


def op_layer(cls: Any) -> Any:
    """Decorator that registers the layer class for ops on symbolic tensors, since that class imports this module."""
    global _op_layer
    _op_layer = cls
    return cls


def is_op(layer: Any) -> bool:
    """Whether a layer stands for an op on symbolic tensors."""
    return getattr(layer, "_is_op", False)


def is_input(layer: Any) -> bool:
    """Whether a layer is an InputLayer: its symbolic tensor has no inputs."""
    nodes: list[Node] = getattr(layer, "_inbound_nodes", [])
    return bool(nodes) and not nodes[0].inputs


_numbers = itertools.count()


def is_symbolic(structure: Any) -> bool:
    """Whether any leaf is a SymbolicTensor."""
    return any(isinstance(leaf, SymbolicTensor) for leaf in structures.flatten(structure))


def name_of(symbol: SymbolicTensor) -> str:
    """The name of an input or output: the name of the layer that made it."""
    return symbol.node.layer.name if symbol.node else symbol.name


def masks(tensors: Any) -> Any:
    """The structure of the tensors' masks, None for a leaf without one. Tables and masked arrays have an unrelated `mask`."""
    return structures.map_leaves(lambda leaf: leaf.mask if isinstance(leaf, Tensor | SymbolicTensor) else None, tensors)


class Node:
    """One call of a layer on symbolic tensors; appends itself to the layer's nodes."""

    def __init__(self, layer: Any, args: tuple, kwargs: dict, outputs: Any):
        self.layer, self.outputs = layer, outputs
        self.args, self.kwargs = _own_lists(args), _own_lists(kwargs)
        self.takes_one = len(args) == 1 and not kwargs and isinstance(args[0], SymbolicTensor)  # and no other argument
        self.inputs: list[SymbolicTensor] = [
            leaf for leaf in structures.flatten([args, kwargs]) if isinstance(leaf, SymbolicTensor)
        ]
        for index, tensor in enumerate(structures.flatten(outputs)):
            tensor.node, tensor.index = self, index
        self.number = len(layer._inbound_nodes)
        layer._inbound_nodes.append(self)

    @property
    def call_inputs(self) -> Any:
        """The first argument, as the layer got it: a tensor or a structure of them."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    @property
    def layer_input(self) -> Any:
        """`call_inputs`; for an InputLayer, which got nothing, its own tensor, as in Keras 2."""
        return self.call_inputs if self.args or self.kwargs else self.outputs


# -------------------- shapes by dry run --------------------

Sizes = Callable[[SymbolicTensor, int], list[int]]  # the sizes of a tensor in the first trial and in the second


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
        return self._single("input").layer_input

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's only call. Raises AttributeError if there is none or more than one."""
        return self._single("output").outputs

    @OverridableProperty
    def input_mask(self) -> Any:
        """The mask of `input`, or None."""
        return masks(self._single("input mask").call_inputs)

    @OverridableProperty
    def output_mask(self) -> Any:
        """The mask of `output`, or None."""
        return masks(self._single("output mask").outputs)

    @OverridableProperty
    def input_shape(self) -> Any:
        """The input shape of all symbolic calls. Raises AttributeError if they differ."""
        return self._agreed("input shape", lambda node: structures.shapes(node.layer_input))

    @OverridableProperty
    def output_shape(self) -> Any:
        """The output shape of all symbolic calls. Raises AttributeError if they differ."""
        return self._agreed("output shape", lambda node: structures.shapes(node.outputs))

    def get_input_at(self, node_index: int) -> Any:
        """The input of a symbolic call.

        Args:
            node_index: The index of the call.
        """
        return self._node(node_index, "input").layer_input

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
        return masks(self.get_input_at(node_index))

    def get_output_mask_at(self, node_index: int) -> Any:
        """The mask of the output of a symbolic call, or None.

        Args:
            node_index: The index of the call.
        """
        return masks(self.get_output_at(node_index))


def _by_axis(batch: tuple[int, int], other: tuple[int, int]) -> Sizes:
    """All unknown first axes get one size, all other unknown axes another."""
    return lambda symbol, trial: [
        (other if axis else batch)[trial] if size is None else size for axis, size in enumerate(symbol.shape)
    ]


_small = _by_axis((2, 61), (3, 131))
_large = _by_axis((24, 48), (120, 240))  # sizes that are larger than windows and divisible by many numbers
_halved = _by_axis((2, 3), (64, 128))  # sizes that can be halved often, and of not so many elements as the large ones
_tiny = _by_axis((5, 7), (5, 7))  # small sizes, the same for all axes


def _inferred_sizes(symbol: SymbolicTensor, trial: int) -> list[int]:
    """The sizes that inferred the tensor's shape, so that a batch axis in another position is recognized."""
    return _small(symbol, trial) if symbol.trials is None else list(symbol.trials[trial])


def _fitted(leaves: list) -> Iterator[Sizes]:
    """Sizes where one unknown axis has a size known from the call, then sizes where all unknown axes broadcast."""
    found = [(leaf, getattr(leaf, "shape", None)) for leaf in leaves]
    shapes = [shape if isinstance(shape, tuple) else (leaf,) for leaf, shape in found]
    known = dict.fromkeys(size for shape in shapes for size in shape if isinstance(size, int) and size > 1)
    symbols = [leaf for leaf in leaves if isinstance(leaf, SymbolicTensor)]
    unknown = dict.fromkeys((id(each), axis) for each in symbols for axis, n in enumerate(each.shape) if n is None)

    def longer(changed: tuple[int, int], length: int) -> Sizes:
        return lambda symbol, trial: [
            length if changed == (id(symbol), axis) else size for axis, size in enumerate(_small(symbol, trial))
        ]

    for symbol_and_axis, length in itertools.islice(itertools.product(unknown, known), 24):
        yield longer(symbol_and_axis, length)

    def beside(symbol: SymbolicTensor, axis: int, size: int) -> int:
        others = {shape[axis - symbol.ndim] for shape in shapes if len(shape) >= symbol.ndim - axis} - {None, 1}
        return others.pop() if symbol.shape[axis] is None and len(others) == 1 else size

    yield lambda symbol, trial: [beside(symbol, axis, size) for axis, size in enumerate(_small(symbol, trial))]


def infer(function: Callable, args: tuple, kwargs: dict) -> Any:
    """Symbolic outputs of `function`, inferred by two runs on unfilled tensors that launch no kernel.

    Unknown sizes differ between the two runs; an output size that differs is unknown. If the function rejects the sizes, others
    are tried; if it rejects all, the first error is raised.
    """
    first, second = _trials(function, args, kwargs)
    if len(structures.flatten(first)) != len(structures.flatten(second)):
        raise ValueError(
            f"{getattr(function, '__name__', function)!r} gives as many tensors as an axis is long, and that size is not "
            "known (None): give it in the shape of the Input, or do this in the call of a layer"
        )

    def merge(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        symbol = SymbolicTensor((x if x == y else None for x, y in zip(a.shape, b.shape, strict=True)), a.dtype)
        symbol.trials = (a.shape, b.shape)
        return symbol

    others = iter(structures.flatten(second))
    return structures.map_leaves(lambda leaf: merge(leaf, next(others)), first)


def _trials(function: Callable, args: tuple, kwargs: dict) -> list:
    """The function's results for the first two sets of sizes that it accepts."""
    leaves = structures.flatten([args, kwargs])
    failure: Exception | None = None
    trials: Iterable[Sizes] = [_small]
    if any(isinstance(leaf, SymbolicTensor) and None in leaf.shape for leaf in leaves):
        trials = itertools.chain([_inferred_sizes, _small, _large, _halved, _tiny], _fitted(leaves))
    for sizes in trials:
        try:
            return [_dry_run(function, args, kwargs, sizes, trial) for trial in (0, 1)]
        except (ValueError, IndexError, MemoryError) as error:
            failure = failure or error
    raise failure  # type: ignore[misc]


def _dry_run(function: Callable, args: tuple, kwargs: dict, sizes: Sizes, trial: int) -> Any:
    made: dict[int, Any] = {}

    def stand_in(leaf: Any) -> Any:
        if not isinstance(leaf, SymbolicTensor):
            return leaf
        if id(leaf) not in made:
            tensor = made[id(leaf)] = leaf._stand_in(sizes(leaf, trial))
            if leaf.mask is not None:
                tensor.mask = stand_in(leaf.mask)
        return made[id(leaf)]

    with shapes_only():
        return function(*structures.map_leaves(stand_in, args), **structures.map_leaves(stand_in, kwargs))


# -------------------- running --------------------


class Graph:
    """The calls between `inputs` and `outputs` (structures of symbolic tensors), in an order that can be run."""

    def __init__(self, inputs: Any, outputs: Any):
        self.inputs, self.outputs = inputs, outputs
        self.input_list: list[SymbolicTensor] = structures.flatten(inputs)
        self.output_list: list[SymbolicTensor] = structures.flatten(outputs)
        for what, tensors in (("inputs", self.input_list), ("outputs", self.output_list)):
            for tensor in tensors:
                if not isinstance(tensor, SymbolicTensor):
                    raise ValueError(
                        f"a model's {what} must be symbolic tensors, made by Input() and by calling layers on them; "
                        f"received {briefly(tensor)} of type {type(tensor).__name__}"
                    )
        self.nodes, met = self._ordered()
        self.layers = self._layers(met)
        last = {symbol: number for number, node in enumerate(self.nodes) for symbol in node.inputs}
        # for each node, the tensors that no later node needs
        self._spent: list[list[SymbolicTensor]] = [[] for _ in self.nodes]
        for symbol in last.keys() - self.output_list:
            self._spent[last[symbol]].append(symbol)

    def _ordered(self) -> tuple[list[Node], dict[int, int]]:
        """Nodes in topological order, and for each layer's id its position in a walk from the outputs.

        A loop, so that the stack does not limit the depth.
        """
        known = {id(tensor) for tensor in self.input_list}
        order: list[Node] = []
        done: set[int] = set()
        met: dict[int, int] = {}
        stack: list[tuple[SymbolicTensor, bool]] = [(tensor, False) for tensor in reversed(self.output_list)]
        while stack:
            tensor, expanded = stack.pop()
            node = tensor.node
            if node is not None:
                met.setdefault(id(node.layer), len(met))
            if id(tensor) in known or node is None or id(node) in done:
                if node is None and id(tensor) not in known:
                    raise self._disconnected(tensor)
                continue
            if not node.inputs:  # an Input that is not among the model's inputs
                raise self._disconnected(tensor)
            if expanded:
                done.add(id(node))
                order.append(node)
            else:
                stack.append((tensor, True))
                stack.extend((parent, False) for parent in reversed(node.inputs))
        return order, met

    def _disconnected(self, tensor: SymbolicTensor) -> ValueError:
        names = [t.name for t in self.input_list]
        return ValueError(
            f"graph disconnected: the outputs depend on {tensor!r}, which is not among the model's inputs {names}"
        )

    def _layers(self, met: dict[int, int]) -> list[Any]:
        """Layers by decreasing depth, then in the order of a walk from the outputs: Keras's order of layers and weights."""
        depths: dict[int, int] = {}  # the longest distance from the outputs, of nodes and of layers
        for node in reversed(self.nodes):
            depth = depths.setdefault(id(node), 0)
            for parent in node.inputs:
                if parent.node is not None:
                    depths[id(parent.node)] = max(depths.get(id(parent.node), 0), depth + 1)
        layers: dict[int, Any] = {}
        for node in [*self.starts, *self.nodes]:
            key = id(node.layer)
            layers[key] = node.layer
            depths[key] = max(depths.get(id(node), 0), depths.get(key, 0))
        # an input that no output needs, which the walk does not meet, comes first at its depth
        return sorted(layers.values(), key=lambda each: (-depths[id(each)], met.get(id(each), -1)))

    @property
    def has_strings(self) -> bool:
        """Whether strings are among its tensors, or among those of a model in it."""
        tensors = [*self.input_list, *self.output_list, *(leaf for node in self.nodes for leaf in node.inputs)]
        return any(leaf.is_text for leaf in tensors) or any(
            getattr(node.layer, "_host_part", None) for node in self.nodes
        )

    @property
    def starts(self) -> list[Node]:
        """The nodes of those inputs that `Input` made."""
        return [t.node for t in self.input_list if t.node is not None and not t.node.inputs]

    def run(self, inputs: list[Tensor], call: Callable[[Node, tuple, dict], Any] | None = None) -> Any:
        """The structure of outputs for input tensors in the order of `input_list`.

        call: computes a node's outputs from its arguments; the default calls the layer.
        """
        values: dict[SymbolicTensor, Any] = dict(zip(self.input_list, inputs, strict=True))

        def value(leaf: Any) -> Any:
            return values[leaf] if isinstance(leaf, SymbolicTensor) else leaf

        for node, spent in zip(self.nodes, self._spent, strict=True):
            args, kwargs = (values[node.inputs[0]],), {}
            if not node.takes_one:
                args, kwargs = structures.map_leaves(value, node.args), structures.map_leaves(value, node.kwargs)
            results = node.layer(*args, **kwargs) if call is None else call(node, args, kwargs)
            del args, kwargs
            if type(results) is Tensor and type(node.outputs) is SymbolicTensor:
                values[node.outputs] = results
            else:
                symbols, found = structures.flatten(node.outputs), structures.flatten(results)
                if len(found) < len(symbols):
                    raise ValueError(
                        f"{node.layer.name}: call returned {len(found)} tensors, and {len(symbols)} on symbolic tensors: return "
                        "as many in each call"
                    )
                values.update(zip(symbols, found, strict=False))  # as in Keras, it may return more
            for symbol in spent:
                del values[symbol]
        return (
            value(self.outputs) if type(self.outputs) is SymbolicTensor else structures.map_leaves(value, self.outputs)
        )


def connect(layer: Any, args: tuple, kwargs: dict, outputs: Any) -> Any:
    """Make the Node of a symbolic call and return its outputs. An output that is also an input becomes a new tensor."""
    inputs = {id(leaf) for leaf in structures.flatten([args, kwargs])}

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, SymbolicTensor):
            raise TypeError(
                f"{layer.name}: a call on symbolic tensors must return tensors only, received {briefly(leaf)} among its outputs"
            )
        return twin_of(leaf) if id(leaf) in inputs or leaf.node is not None else leaf

    outputs = structures.map_leaves(own, outputs)
    Node(layer, args, kwargs, outputs)
    return _own_lists(outputs)


def twin_of(symbol: SymbolicTensor) -> SymbolicTensor:
    """A new symbolic tensor with everything but the call that made the other one."""
    twin = type(symbol)(symbol.shape, symbol.dtype)
    twin.mask, twin.trials = symbol.mask, symbol.trials
    return twin


def _own_lists(structure: Any) -> Any:
    """The same leaves in new lists and dicts, which the user cannot change."""
    return structures.map_leaves(lambda leaf: leaf, structure)


def symbols(shape: Any, dtype: Any) -> Any:
    """New symbolic tensors for an output shape or a structure of shapes."""
    return structures.map_shapes(lambda each: SymbolicTensor(each, dtype), shape)


def get_source_inputs(tensor: SymbolicTensor) -> list[SymbolicTensor]:
    """The model inputs that a symbolic tensor is computed from.

    Args:
        tensor: A symbolic tensor.

    Returns:
        A list of symbolic tensors, each once, in the order of the calls' arguments.

    Example:
        >>> a, b = layers.Input((3,), name="a"), layers.Input((3,), name="b")
        >>> [each.name for each in keras.utils.get_source_inputs(layers.Dense(2)(a + b))]
        ['a', 'b']
    """
    found: dict[int, SymbolicTensor] = {}
    seen: set[int] = set()
    todo = [tensor]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each.node is None or not each.node.inputs:
            found[id(each)] = each
        else:
            todo.extend(reversed(each.node.inputs))
    return list(found.values())
