"""The minimum work of a functional model (multiply-adds of its products, and bytes that are moved once) and its minimum time.

A forward product has one product for the gradient of its weights and one for the gradient of its input; the data's gradient is
not computed. A convolution includes multiply-adds at padded edges. Other work (activations, normalization, pooling, addition)
does not count, because it could be part of adjacent products. Bytes count for weights, in training also for gradients and the
optimizer's state, for the model's inputs and for the products' outputs; of an embedding's table only the rows of a batch count.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]
FLOAT = 4  # bytes


class Work(NamedTuple):
    """Multiply-adds of products, and bytes that are moved at least once."""

    multiply_adds: float
    bytes: float


class Store(NamedTuple):
    """A cache, or the memory: its bytes for all threads, and the bytes that they read a second."""

    name: str
    holds: float
    bandwidth: float


class Limits(NamedTuple):
    """The limits of a number of threads together. multiply_adds: per second; stores: the fastest first."""

    threads: int
    multiply_adds: float
    stores: Sequence[Store]


class Bounds(NamedTuple):
    """The minimum seconds of some work by each limit, and the store that holds its bytes."""

    by_arithmetic: float
    by_bytes: float
    store: str

    @property
    def seconds(self) -> float:
        """The larger one."""
        return max(self.by_arithmetic, self.by_bytes)


def bounds(work: Work, limits: Limits) -> Bounds:
    """The minimum seconds of some work: of its multiply-adds, and of its bytes, read from the smallest store that holds them."""
    store = next(store for store in limits.stores if work.bytes <= store.holds)
    return Bounds(work.multiply_adds / limits.multiply_adds, work.bytes / store.bandwidth, store.name)


class Products(NamedTuple):
    """Forward multiply-adds of a call of a layer, by the kind of operands.

    inputs: the layer's input with weights; inner: values that the layer computed, with weights; pairs: two computed values, which
    both have a gradient.
    """

    inputs: float = 0
    inner: float = 0
    pairs: float = 0


# -------------------- layers with products: (layer, shapes of inputs, shape of the output) -> Products --------------------


def dense(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    return Products(math.prod(output) * inputs[0][-1])


def einsum_dense(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    """Each number of the output is a sum over the kernel's axes that the output lacks."""
    of_kernel, of_output = layer.equation.split(",")[1].split("->")
    summed = [size for axis, size in zip(of_kernel, layer.kernel.shape, strict=True) if axis not in of_output]
    return Products(math.prod(output) * math.prod(summed))


def convolution(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    return Products(_places(output, layer.filters) * _size(layer.kernel))


def depthwise(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    kernel = layer.kernel
    return Products(_places(output, math.prod(kernel.shape[-2:])) * _size(kernel))


def transposed(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    return Products(_places(inputs[0], layer.kernel.shape[-1]) * _size(layer.kernel))


def separable(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    places = _places(output, layer.filters)
    return Products(places * _size(layer.depthwise_kernel), places * _size(layer.pointwise_kernel))


def _places(shape: Shape, channels: int) -> float:
    """The number of positions of a convolution: all axes except the channels, wherever they are."""
    return math.prod(shape) / channels


def _size(variable: Any) -> int:
    return math.prod(variable.shape)


def recurrent(gates: int) -> Callable:
    """A layer that multiplies its input and its state by weights for each gate, at each time step."""

    def count(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
        batch, length, features = inputs[0]
        rows = batch * length * gates * layer.units
        return Products(rows * features, rows * layer.units)

    return count


def bidirectional(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    ways = [count_of(way)(way, inputs, output) for way in (layer.forward_layer, layer.backward_layer)]
    return Products(*map(sum, zip(*ways, strict=True)))


def multi_head_attention(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    """For a query, a value, and a key if it is another tensor than the value."""
    query, value, key = (*inputs, inputs[1])[:3]
    sizes = layer.key_dim, layer.value_dim or layer.key_dim
    of_key, of_value = (layer.num_heads * size for size in sizes)
    batch, length, between = query[0], query[1], value[1]
    projected = batch * (length * query[-1] * of_key + between * (key[-1] * of_key + value[-1] * of_value))
    pairs = batch * length * between * (of_key + of_value)
    return Products(projected, batch * length * of_value * output[-1], pairs)


def attention(layer: Any, inputs: Sequence[Shape], output: Shape) -> Products:
    """Of a query, a value, and a key if it is another tensor than the value; it has no weights in its products."""
    query, value, key = (*inputs, inputs[1])[:3]
    return Products(pairs=math.prod(query[:-1]) * value[-2] * (key[-1] + value[-1]))


PRODUCTS: dict[str, Callable[[Any, Sequence[Shape], Shape], Products]] = {
    "Dense": dense,
    "EinsumDense": einsum_dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), separable),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), transposed),
    "SimpleRNN": recurrent(1),
    "GRU": recurrent(3),
    "LSTM": recurrent(4),
    "Bidirectional": bidirectional,
    "MultiHeadAttention": multi_head_attention,
    "Attention": attention,
}
TABLES = ("Embedding", "WordsAndPositions")  # the second one is run_keras.py's
OTHERS = (  # nothing is counted
    "InputLayer Activation ReLU LeakyReLU Softmax Dropout BatchNormalization LayerNormalization Flatten Reshape Add Concatenate "
    "MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D GlobalAveragePooling1D GlobalAveragePooling2D"
).split()
OPS = ("add",)  # between layers


def count_of(layer: Any) -> Callable[[Any, Sequence[Shape], Shape], Products]:
    """The function that counts a layer's products; ValueError if the layer is unknown."""
    name = type(layer).__name__
    if name in OTHERS or name in TABLES or getattr(getattr(layer, "function", None), "__name__", "") in OPS:
        return lambda *_: Products()
    if name not in PRODUCTS:
        raise ValueError(
            f"the layer {layer!r} is of a kind whose work is not known: add {name} to a table of benchmarks/work.py"
        )
    return PRODUCTS[name]


# -------------------- models --------------------


def calls(model: Any) -> Iterator[Any]:
    """The calls of layers (nodes) of a functional model in topological order; ValueError for other models."""
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"{type(model).__name__} is not a functional model: the work of its own `train_step` cannot be counted"
        )
    done: set[int] = set()

    def visit(node: Any) -> Iterator[Any]:
        if node is not None and id(node) not in done:
            done.add(id(node))
            for tensor in node.inputs:
                yield from visit(tensor.node)
            yield node

    for output in model.outputs:
        yield from visit(output.node)


def work_of(model: Any, batch: int, training: bool) -> Work:
    """The minimum work of a training step, or of a prediction, for this many samples."""
    multiply_adds, moved = 0.0, 0.0
    used: dict[int, tuple[Any, int]] = {}  # each weight and how many of its numbers are used
    have_gradients: set[int] = set()  # symbolic tensors that depend on weights
    for node in calls(model):
        layer = node.layer
        inputs, outputs = _shapes(node.inputs, batch), _shapes(_listed(node.outputs), batch)
        products = count_of(layer)(layer, inputs, outputs[0])
        is_table, is_trained = type(layer).__name__ in TABLES, bool(layer.trainable_weights)
        if is_table or any(products) or not inputs:
            moved += sum(map(math.prod, outputs))
        for variable in layer.weights:
            before, size = used.get(id(variable), (variable, 0))[1], _size(variable)
            used[id(variable)] = variable, min(size, before + math.prod(outputs[0])) if is_table else size
        below = any(id(tensor) in have_gradients for tensor in node.inputs)
        if below or is_trained:
            have_gradients.update(id(tensor) for tensor in _listed(node.outputs))
        multiply_adds += sum(products)
        if training:
            multiply_adds += (products.inputs + products.inner) * is_trained + products.inputs * below
            multiply_adds += (products.inner + 2 * products.pairs) * (below or is_trained)
    of_trained = 2 + slots(model) if training else 1  # with gradients and the optimizer's state
    moved += sum(size * (of_trained if variable.trainable else 1) for variable, size in used.values())
    return Work(multiply_adds, FLOAT * moved)


def slots(model: Any) -> int:
    """The number of values that the model's optimizer keeps for each weight."""
    model.optimizer.build(model.trainable_variables)
    kept = sum(_size(variable) for variable in model.optimizer.variables if variable.shape)
    return round(kept / sum(map(_size, model.trainable_variables)))


def _listed(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def _shapes(tensors: Sequence[Any], batch: int) -> list[Shape]:
    """Shapes with `batch` samples; ValueError if another axis is not known."""
    shapes = [(batch, *tensor.shape[1:]) for tensor in tensors]
    if any(None in shape for shape in shapes):
        raise ValueError(
            f"the work of a model is counted from full shapes, received {shapes}: give the Input all sizes"
        )
    return shapes
