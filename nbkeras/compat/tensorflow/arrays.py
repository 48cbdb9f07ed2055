"""TensorFlow's functions that make, join, cut and rearrange tensors, and those that run functions."""

import builtins
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.compat.tensorflow.shapes import Sizes, takes_sizes
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.compat.tensorflow.texts import RaggedStrings, StringTensor, as_strings, holds_text, raw_of, takes_strings
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.strings import STRING
from nbkeras.engine.tensor import Tensor, as_tensor, is_shapes_only, is_step_recorded

broadcast_to = spelled(ops.broadcast_to, "input:x shape")
clip_by_value = spelled(ops.clip, "t:x clip_value_min:x_min clip_value_max:x_max")
cond = spelled(ops.cond, "pred true_fn false_fn")
convert_to_tensor = takes_strings(
    lambda value, dtype=None, dtype_hint=None, name=None: raw_of(value),
    spelled(ops.convert_to_tensor, "value:x dtype dtype_hint:"),
)
custom_gradient = ops.custom_gradient
einsum = ops.einsum
expand_dims = takes_strings(
    lambda input, axis, name=None: np.expand_dims(raw_of(input), axis), spelled(ops.expand_dims, "input:x axis")
)
fill = spelled(ops.full, "dims:shape value:fill_value")
guarantee_const = identity = takes_strings(lambda input, name=None: raw_of(input), spelled(ops.copy, "input:x"))
linspace = spelled(ops.linspace, "start stop num axis")
map_fn = spelled(
    ops.map,
    "fn:f elems:xs dtype: parallel_iterations: back_prop: swap_memory: infer_shape: name: fn_output_signature:",
)
ones = spelled(ops.ones, "shape dtype")
ones_like = spelled(ops.ones_like, "input:x dtype")
repeat = spelled(ops.repeat, "input:x repeats axis")
reshape = takes_strings(
    lambda tensor, shape, name=None: raw_of(tensor).reshape(shape), spelled(ops.reshape, "tensor:x shape:newshape")
)
roll = spelled(ops.roll, "input:x shift axis")
scatter_nd = spelled(ops.scatter, "indices updates:values shape")
squeeze = takes_strings(
    lambda input, axis=None, name=None: raw_of(input).squeeze(axis), spelled(ops.squeeze, "input:x axis")
)
stop_gradient = spelled(ops.stop_gradient, "input:variable")
tensor_scatter_nd_update = spelled(ops.scatter_update, "tensor:inputs indices updates")
tensordot = spelled(ops.tensordot, "a:x1 b:x2 axes")
tile = takes_strings(
    lambda input, multiples, name=None: np.tile(raw_of(input), multiples),
    spelled(ops.tile, "input:x multiples:repeats"),
)
transpose = takes_strings(
    lambda a, perm=None, conjugate=False, name=None: raw_of(a).transpose(perm),
    spelled(ops.transpose, "a:x perm:axes conjugate:"),
)
unstack = spelled(ops.unstack, "value:x num axis")
vectorized_map = spelled(ops.vectorized_map, "fn:function elems:elements fallback_to_while_loop: warn:")
while_loop = spelled(
    ops.while_loop,
    "cond body loop_vars shape_invariants: parallel_iterations: back_prop: swap_memory: maximum_iterations",
)
zeros = spelled(ops.zeros, "shape dtype")
zeros_like = spelled(ops.zeros_like, "input:x dtype layout:")


def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = "int32", name: Any = None
) -> Tensor:
    """The places of values in sorted rows of any number of leading axes: the count of smaller elements, or not larger ones."""
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', received {briefly(side)}")
    compare = ops.less if side == "left" else ops.less_equal
    rows, wanted = ops.expand_dims(as_tensor(sorted_sequence), -2), ops.expand_dims(as_tensor(values), -1)
    return ops.cast(ops.count_nonzero(compare(rows, wanted), axis=-1), out_type)


def argsort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False, name: Any = None
) -> Tensor:
    """The indices that sort along an axis."""
    return ops.argsort(ops.negative(values) if _descends(direction) else values, axis)


def _boolean_mask(tensor: Any, mask: Any, axis: Any = None, name: Any = None) -> Tensor:
    """The elements, or the rows at `axis`, where a mask of booleans is True. Its value is read."""
    mask, start = np.asarray(mask), axis or 0
    shape = ops.shape(tensor)
    merged = ops.reshape(tensor, (*shape[:start], mask.size, *shape[start + mask.ndim :]))
    return ops.take(merged, np.flatnonzero(mask), axis=start)


boolean_mask = takes_strings(
    lambda tensor, mask, axis=None, name=None: raw_of(tensor)[
        (builtins.slice(None),) * (axis or 0) + (np.asarray(mask),)
    ],
    _boolean_mask,
)


def clip_by_global_norm(t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: Any = None) -> Any:
    """Tensors scaled down so that their common norm is at most clip_norm, and their norm before; None stays None."""
    norm = global_norm(t_list) if use_norm is None else use_norm
    scale = ops.divide(clip_norm, ops.maximum(norm, clip_norm))
    return [None if each is None else each * scale for each in t_list], norm


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: Any = None) -> Tensor:
    """A tensor scaled down so that its Euclidean norm, along axes, is at most clip_norm."""
    norm = ops.sqrt(ops.sum(ops.square(t), axes, keepdims=True))
    return ops.multiply(t, ops.divide(clip_norm, ops.maximum(norm, clip_norm)))


def _concat(values: Any, axis: int, name: Any = None) -> Tensor:
    """Tensors joined along an axis."""
    return ops.concatenate(values, axis)


concat = takes_strings(
    lambda values, axis, name=None: np.concatenate([raw_of(each) for each in values], axis),
    takes_sizes(lambda values, axis, name=None: np.concatenate(values, axis), _concat),
)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: Any = None) -> Any:
    """A tensor of numbers, booleans or strings; with a shape, of one number or of the numbers in order."""
    if dtype == STRING or (dtype is None and holds_text(value)):
        texts = raw_of(value)
        if shape is not None:
            texts = np.broadcast_to(texts, shape) if texts.size == 1 else texts.reshape(shape)
        return StringTensor(texts)
    tensor = as_tensor(value, dtype)
    if shape is None:
        return tensor
    return ops.broadcast_to(tensor, shape) if tensor.size == 1 else ops.reshape(tensor, shape)


def device(device_name: Any) -> contextlib.AbstractContextManager:
    """`with tf.device(name):` changes nothing: `nbkeras.device` chooses the device."""
    return contextlib.nullcontext(device_name)


def ensure_shape(x: Any, shape: Any, name: Any = None) -> Any:
    """The tensor, if it has the shape; None in a shape is any size."""
    own = tuple(ops.shape(x))
    if len(own) != len(shape) or any(None not in pair and pair[0] != pair[1] for pair in zip(own, shape, strict=True)):
        raise ValueError(f"tf.ensure_shape: expected the shape {briefly(shape)}, received a tensor of shape {own}")
    return x


def executing_eagerly() -> bool:
    """True: every function computes at once, or is recorded by `tf.function`."""
    return True


def eye(num_rows: int, num_columns: Any = None, batch_shape: Any = None, dtype: Any = None, name: Any = None) -> Tensor:
    """An identity matrix, or one for each index of batch_shape."""
    matrix = ops.eye(num_rows, num_columns, dtype=dtype)
    return matrix if batch_shape is None else ops.broadcast_to(matrix, (*batch_shape, *matrix.shape))


def _gather(
    params: Any, indices: Any, validate_indices: Any = None, axis: Any = None, batch_dims: int = 0, name: Any = None
) -> Tensor:
    """The rows at indices along an axis; the first `batch_dims` axes of both go together."""
    axis = batch_dims if axis is None else axis
    if not batch_dims:
        return ops.take(params, indices, axis)
    if axis % len(ops.shape(params)) != batch_dims:
        raise ValueError(f"tf.gather: with batch_dims={batch_dims} the axis must be {batch_dims} too, received {axis}")
    indices = as_tensor(indices)
    places = [
        ops.reshape(ops.arange(n), [-1 if i == k else 1 for i in builtins.range(indices.ndim)])
        for k, n in enumerate(indices.shape[:batch_dims])
    ]
    return ops.convert_to_tensor(params)[(*places, indices)]


gather = takes_strings(
    lambda params, indices, validate_indices=None, axis=None, name=None: np.take(
        raw_of(params), np.asarray(indices), axis or 0
    ),
    _gather,
)


def gather_nd(params: Any, indices: Any, batch_dims: int = 0, name: Any = None) -> Tensor:
    """The elements, or rows, at the indices in the last axis of `indices`."""
    if batch_dims:
        raise ValueError(f"tf.gather_nd: batch_dims must be 0, received {batch_dims}: use tf.gather")
    return ops.convert_to_tensor(params)[tuple(ops.unstack(as_tensor(indices), axis=-1))]


def global_norm(t_list: Sequence[Any], name: Any = None) -> Tensor:
    """The Euclidean norm of all elements of several tensors."""
    return ops.sqrt(sum(ops.sum(ops.square(each)) for each in t_list if each is not None))


def is_tensor(x: Any) -> bool:
    """Whether an object is a tensor, symbolic or not, or a variable."""
    return isinstance(x, Tensor | SymbolicTensor | StringTensor | RaggedStrings | Sizes)


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    output_type: Any = None,
    name: Any = None,
) -> Tensor:
    """The product of matrices, or of each pair of matrices in two batches."""
    a = ops.swapaxes(a, -1, -2) if transpose_a or adjoint_a else a
    b = ops.swapaxes(b, -1, -2) if transpose_b or adjoint_b else b
    return ops.matmul(a, b)


def meshgrid(*args: Any, indexing: str = "xy", name: Any = None) -> list[Tensor]:
    """The coordinates of a grid, one tensor for each axis."""
    return ops.meshgrid(*args, indexing=indexing)


@contextlib.contextmanager
def name_scope(name: Any = None) -> Any:
    """`with tf.name_scope(name) as scope:` changes nothing: layers and variables are named by themselves."""
    yield f"{name}/"


def no_op(name: Any = None) -> None:
    """Do nothing."""


def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: Any = None, name: Any = None) -> Tensor:
    """The norm of vectors, or of matrices if axis is a pair; None: of all elements."""
    if ord == "euclidean" or (ord == "fro" and isinstance(axis, tuple | list)):
        return ops.sqrt(ops.sum(ops.square(ops.abs(tensor)), axis, builtins.bool(keepdims)))
    if axis is None:
        return ops.norm(ops.reshape(tensor, (-1,)), ord)
    return ops.norm(tensor, ord, axis, builtins.bool(keepdims))


def numpy_function(func: Callable, inp: Sequence[Any], Tout: Any, stateful: bool = True, name: Any = None) -> Any:
    """The results of a function of NumPy arrays, as tensors without a gradient. A step that calls it is not recorded."""
    results = func(*[each.numpy() if isinstance(each, StringTensor) else np.asarray(each) for each in inp])
    if isinstance(Tout, list | tuple):
        return [_result(each, dtype) for each, dtype in zip(results, Tout, strict=True)]
    return _result(results, Tout)


def _result(value: Any, dtype: Any) -> Any:
    return as_strings(value) if dtype == STRING else as_tensor(np.asarray(value), dtype)


def one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: Any = None,
    dtype: Any = None,
    name: Any = None,
) -> Tensor:
    """Vectors with on_value (1) at the index and off_value (0) elsewhere."""
    y = ops.one_hot(indices, int(depth), -1 if axis is None else axis, dtype)
    if on_value is None and off_value is None:
        return y
    on, off = (
        as_tensor(1 if on_value is None else on_value, dtype),
        as_tensor(0 if off_value is None else off_value, dtype),
    )
    return ops.where(ops.cast(y, "bool"), on, off)


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: Any = None) -> Tensor:
    """Elements added before and after each axis: paddings has a row (before, after) for each one."""
    mode = one_of("tf.pad", "mode", mode, ("constant", "reflect", "symmetric"), any_case=True)
    widths = [tuple(map(int, pair)) for pair in np.asarray(paddings)]
    return ops.pad(tensor, widths, mode, constant_values if mode == "constant" else None)


def print(
    *inputs: Any, output_stream: Any = None, sep: str = " ", end: str = "\n", name: Any = None, **kwargs: Any
) -> None:
    """Print tensors as arrays. In a recorded function they have no values yet, and it prints their shapes."""
    known = not (is_step_recorded() or is_shapes_only())
    shown = [np.asarray(each) if known and isinstance(each, Tensor) else each for each in inputs]
    shown = [each.array if isinstance(each, StringTensor) else each for each in shown]
    builtins.print(*shown, sep=sep, end=end, file=sys.stdout if output_stream is sys.stdout else sys.stderr)


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: Any = None) -> Tensor:
    """The numbers from start to limit, without it; from 0 if only one is given."""
    return ops.arange(start, limit, delta, dtype) if limit is not None else ops.arange(0, start, delta, dtype)


def rank(input: Any, name: Any = None) -> Any:
    """The number of axes."""
    return np.int32(len(shape(input)))


def recompute_grad(f: Callable) -> Callable:
    """The function itself: `nbkeras.autodiff.checkpoint` is the one that saves memory."""
    return f


def reverse(tensor: Any, axis: Any, name: Any = None) -> Tensor:
    """The elements in opposite order along axes."""
    return ops.flip(tensor, tuple(axis) if isinstance(axis, list | tuple) else axis)


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = "bool", name: Any = None) -> Tensor:
    """True for the first `lengths` of `maxlen` places; None: of as many as the greatest length."""
    lengths = as_tensor(lengths)
    places = ops.arange(int(ops.max(lengths)) if maxlen is None else int(maxlen))
    return ops.cast(ops.less(places, ops.expand_dims(lengths, -1)), dtype)


def shape(input: Any, out_type: Any = None, name: Any = None) -> Any:
    """The shape as integers that can be counted with: for a symbolic tensor a tuple, with None for unknown sizes."""
    own = as_strings(input).shape if holds_text(input) else ops.shape(input)
    return own if None in own else np.array(own, "int32" if out_type is None else out_type).view(Sizes)


def size(input: Any, out_type: Any = np.int32, name: Any = None) -> Tensor:
    """The number of elements."""
    return (
        as_tensor(np.asarray(as_strings(input).size, out_type))
        if holds_text(input)
        else ops.cast(ops.size(input), out_type)
    )


def slice(input_: Any, begin: Any, size: Any, name: Any = None) -> Tensor:
    """The block of a size from an index on; -1: to the end."""
    ends = [None if n == -1 else b + n for b, n in zip(map(int, begin), map(int, size), strict=True)]
    blocks = tuple(builtins.slice(b, e) for b, e in zip(map(int, begin), ends, strict=True))
    return ops.get_item(ops.convert_to_tensor(input_), blocks)


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: Any = None) -> Tensor:
    """The elements sorted along an axis."""
    ordered = ops.sort(values, axis)
    return ops.flip(ordered, axis) if _descends(direction) else ordered


def split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None, name: Any = None) -> list[Tensor]:
    """Parts along an axis: a number of equal ones, or ones of given sizes, of which one may be -1."""
    if np.ndim(num_or_size_splits) == 0:
        return ops.split(value, int(num_or_size_splits), axis)
    sizes = [int(each) for each in num_or_size_splits]
    if -1 in sizes:
        rest = ops.shape(value)[axis] - sum(each for each in sizes if each != -1)
        sizes[sizes.index(-1)] = rest
    return ops.split(value, np.cumsum(sizes)[:-1].tolist(), axis)


def _stack(values: Any, axis: int = 0, name: Any = None) -> Tensor:
    """Tensors of one shape, joined along a new axis."""
    return ops.stack([ops.convert_to_tensor(each) for each in values], axis)


stack = takes_strings(
    lambda values, axis=0, name=None: np.stack([raw_of(each) for each in values], axis),
    takes_sizes(lambda values, axis=0, name=None: np.stack(values, axis), _stack),
)


def switch_case(branch_index: Any, branch_fns: Any, default: Any = None, name: Any = None) -> Any:
    """The result of the function at an index; of the default, or of the last one, if there is none."""
    functions = [branch_fns[i] for i in builtins.range(len(branch_fns))] + ([default] if default is not None else [])
    index = as_tensor(branch_index)
    last = len(functions) - 1
    return ops.switch(ops.where((index < 0) | (index > last), last, index), functions)


def _scattered(reduction: str) -> Callable[..., Tensor]:
    def scatter(tensor: Any, indices: Any, updates: Any, name: Any = None) -> Tensor:
        """A tensor with each element at an index combined with its update: their sum, or the greater or smaller of them."""
        return ops.scatter_update(tensor, indices, updates, reduction)

    return scatter


tensor_scatter_nd_add, tensor_scatter_nd_max, tensor_scatter_nd_min = map(_scattered, ("add", "max", "min"))


def timestamp(name: Any = None) -> float:
    """The seconds since 1970."""
    return time.time()


def unique(x: Any, out_idx: Any = np.int32, name: Any = None) -> tuple[Tensor, Tensor]:
    """The different elements in the order of their first places, and for each element the index of its own."""
    _, first, inverse = np.unique(np.asarray(x), return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ops.take(x, np.sort(first), 0), as_tensor(ranks[inverse], out_idx)


def where(condition: Any, x: Any = None, y: Any = None, name: Any = None) -> Tensor:
    """x where a condition holds, else y. Without x and y: the indices where it holds, one row each; its value is read."""
    if x is None and y is None:
        return as_tensor(np.argwhere(np.asarray(condition)))
    return ops.where(condition, x, y)


def _descends(direction: str) -> bool:
    return one_of("tf.sort", "direction", direction, ("ASCENDING", "DESCENDING")) == "DESCENDING"
