"""Computations that read a value and then overwrite it, in nbkeras and in Keras: for make_values.py and engine/test_values.py.

A case is a function of `k`, one of the two libraries: its modules by their names, and `Tape`, `now`, `vjp`, `checkpoint` and
`overwrite`. What was read before a write must stay as it was. A case by @step is a function of `k`, a tensor of shape (2, 3), and
what is made for the case; it runs several times and returns tensors; it can be recorded, if it is not `eager`. A case by @whole
returns its results; `eagerly` is for `compile`.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from arrays import normal

RUNS = 4  # of a step: the first one may move weights, the second one is recorded then, the others are replays
INPUTS = [normal(2, 3, seed=seed) for seed in range(RUNS)]
START = np.array([[0.7, -1.3, 0.4], [1.9, 0.6, -0.8]])


class Case(NamedTuple):
    make: Any
    is_step: bool
    is_recorded: bool = True


CASES: dict[str, Case] = {}


def add(name, make, is_step=True, is_recorded=True):
    if name in CASES:
        raise ValueError(f"two cases named {name}")
    CASES[name] = Case(make, is_step, is_recorded)


def add_step(name, run, *starts, is_recorded=True):
    """A case that makes a variable of each array in starts, calls each function there with k, and calls run(k, x, *made)."""

    def make(k):
        made = [start(k) if callable(start) else k.Variable(start) for start in starts]
        return lambda x: run(k, x, *made)

    add(name, make, is_recorded=is_recorded)


def step(*starts, is_recorded=True):
    """run(k, x, *made) is a step, which runs eagerly and recorded."""
    return lambda run: add_step(run.__name__, run, *starts, is_recorded=is_recorded)


eager = functools.partial(step, is_recorded=False)  # it reads values, or writes a NumPy array


def prepared(make):
    """make(k) prepares more than variables, and returns the function of x that is a step."""
    add(make.__name__, make)


def whole(make):
    """make(k, eagerly) is the result: it trains a model, eagerly or not."""
    add(make.__name__, make, is_step=False)


# -------------------- a write between an op and its gradient --------------------

WRITES = {
    "assign": lambda v: v.assign(v * 0.5 + 0.1),
    "assign_add": lambda v: v.assign_add(v * 0.3),
    "assign_sub": lambda v: v.assign_sub(v * 0.4 - 0.1),
}

OPS = {  # name: (a shape, or None for that of x; a function of k, a variable and x)
    "multiply": (None, lambda k, v, x: v * x),
    "divide": (None, lambda k, v, x: x / v),
    "power": (None, lambda k, v, x: v**3),
    "power_of": (None, lambda k, v, x: k.ops.power(k.ops.abs(x) + 0.5, v)),
    "square": (None, lambda k, v, x: k.ops.square(v)),
    "reciprocal": (None, lambda k, v, x: k.ops.reciprocal(v)),
    "exp": (None, lambda k, v, x: k.ops.exp(v)),
    "log": (None, lambda k, v, x: k.ops.log(v * v)),
    "sin": (None, lambda k, v, x: k.ops.sin(v)),
    "tanh": (None, lambda k, v, x: k.ops.tanh(v)),
    "sigmoid": (None, lambda k, v, x: k.ops.sigmoid(v)),
    "softplus": (None, lambda k, v, x: k.ops.softplus(v)),
    "relu": (None, lambda k, v, x: k.ops.relu(v)),
    "elu": (None, lambda k, v, x: k.ops.elu(v)),
    "silu": (None, lambda k, v, x: k.ops.silu(v)),
    "selu": (None, lambda k, v, x: k.ops.selu(v)),
    "softsign": (None, lambda k, v, x: k.ops.softsign(v)),
    "arctan2": (None, lambda k, v, x: k.ops.arctan2(v, x)),
    "maximum": (None, lambda k, v, x: k.ops.maximum(v, x)),
    "clip": (None, lambda k, v, x: k.ops.clip(v, -0.9, 0.9)),
    "where": (None, lambda k, v, x: k.ops.where(v > 0, v * x, v)),
    "where_of_input": (None, lambda k, v, x: k.ops.where(x > 0, v, v * v)),
    "select": (None, lambda k, v, x: k.ops.select([v > 0.5, x > 0], [v * v, x], v)),
    "softmax": (None, lambda k, v, x: k.ops.softmax(v)),
    "log_softmax": (None, lambda k, v, x: k.ops.log_softmax(v)),
    "logsumexp": (None, lambda k, v, x: k.ops.logsumexp(v, axis=1)),
    "max": (None, lambda k, v, x: k.ops.max(v, axis=1)),
    "prod": (None, lambda k, v, x: k.ops.prod(v, axis=1)),
    "var": (None, lambda k, v, x: k.ops.var(v, axis=1)),
    "norm": (None, lambda k, v, x: k.ops.norm(v, axis=1)),
    "sort": (None, lambda k, v, x: k.ops.sort(v, axis=1) * x),
    "cumprod": (None, lambda k, v, x: k.ops.cumprod(v, axis=1)),
    "take": (None, lambda k, v, x: k.ops.take(v, [1, 0, 1], axis=0)),
    "take_along_axis": (None, lambda k, v, x: k.ops.take_along_axis(v, k.ops.argsort(v, axis=1), axis=1) * x),
    "getitem": (None, lambda k, v, x: v[1] * x[0]),
    "concatenate": (None, lambda k, v, x: k.ops.concatenate([v, x], axis=1)),
    "stack": (None, lambda k, v, x: k.ops.stack([k.now(v.value), v * x])),
    "pad": (None, lambda k, v, x: k.ops.pad(v, ((1, 0), (0, 1)))),
    "tile": (None, lambda k, v, x: k.ops.tile(v, (2, 1))),
    "scatter_update": (None, lambda k, v, x: k.ops.scatter_update(x, [[0], [1]], v)),
    "segment_sum": (None, lambda k, v, x: k.ops.segment_sum(v, np.array([0, 0]), 2)),
    "matmul": ((3, 2), lambda k, v, x: k.ops.matmul(x, v)),
    "matmul_left": (None, lambda k, v, x: k.ops.matmul(v, k.ops.transpose(x))),
    "einsum": (None, lambda k, v, x: k.ops.einsum("ij,kj->ik", v, x)),
    "tensordot": ((3, 2), lambda k, v, x: k.ops.tensordot(x, v, 1)),
    "outer": ((3,), lambda k, v, x: k.ops.outer(v, x[0])),
    "conv1d": ((2, 3, 2), lambda k, v, x: k.ops.conv(x[None], v, padding="same")),
    "conv2d": ((2, 2, 1, 2), lambda k, v, x: k.ops.conv(k.ops.reshape(x, (1, 2, 3, 1)), v, padding="valid")),
    "conv2d_of_variable": ((1, 2, 3, 1), lambda k, v, x: k.ops.conv(v, k.ops.reshape(x, (2, 3, 1, 1)), padding="same")),
    "conv_transpose": ((2, 2, 1, 1), lambda k, v, x: k.ops.conv_transpose(k.ops.reshape(x, (1, 2, 3, 1)), v, 2)),
    "depthwise_conv": ((2, 3, 1), lambda k, v, x: k.ops.depthwise_conv(x[None], v, padding="valid")),
    "max_pool": ((1, 3, 4, 1), lambda k, v, x: k.ops.max_pool(v, 2, 1)),
    "average_pool": ((1, 3, 4, 1), lambda k, v, x: k.ops.average_pool(v, 2, 1)),
    "layer_normalization": (None, lambda k, v, x: k.ops.layer_normalization(x, v[0], v[1])),
    "layer_normalization_of_variable": (None, lambda k, v, x: k.ops.layer_normalization(v, x[0], x[1])),
    "batch_normalization": (None, lambda k, v, x: k.ops.batch_normalization(x, v[0], v[1] * v[1], -1)),
    "attention": ((1, 2, 1, 3), lambda k, v, x: k.ops.dot_product_attention(v, x[None, :, None], v, scale=0.5)),
    "inv": ((3, 3), lambda k, v, x: k.ops.inv(v)),
    "solve": ((3, 3), lambda k, v, x: k.ops.solve(v, k.ops.transpose(x))),
    "crossentropy": (None, lambda k, v, x: k.ops.categorical_crossentropy(np.eye(3)[:2], v, from_logits=True)),
    "binary_crossentropy": (None, lambda k, v, x: k.ops.binary_crossentropy(k.ops.sigmoid(x), v, from_logits=True)),
}


def after(k, x, v, function, write):
    """The output of an op on a variable, and the gradients that are asked for when the variable was written."""
    with k.Tape() as tape:
        tape.watch(x)
        y = function(k, v, x)
        total = k.ops.sum(k.ops.sin(y))
    write(v)
    found = tape.gradient(total, {"v": v, "x": x})
    return {"y": y} | {name: gradient for name, gradient in found.items() if gradient is not None}


for number, (name, (shape, function)) in enumerate(OPS.items()):
    start = START if shape is None else normal(*shape, seed=7)
    start = start + 3 * np.eye(3) if shape == (3, 3) else start
    for write in WRITES if name in ("multiply", "exp", "matmul", "conv2d") else [list(WRITES)[number % 3]]:
        add_step(f"{name}_then_{write}", functools.partial(after, function=function, write=WRITES[write]), start)

# -------------------- views and copies --------------------

VIEWS = {  # of a variable of shape (2, 3), or of a tensor
    "slice": lambda k, v: v[:1],
    "row": lambda k, v: v[1],
    "element": lambda k, v: v[1, 2],
    "reversed": lambda k, v: v[::-1],
    "every_second": lambda k, v: v[:, ::2],
    "new_axis": lambda k, v: v[:, None],
    "ellipsis": lambda k, v: v[...],
    "all": lambda k, v: v[:],
    "view_of_a_view": lambda k, v: k.ops.transpose(v[:, 1:])[0],
    "reshape": lambda k, v: k.ops.reshape(v, (3, 2)),
    "reshape_to_the_same": lambda k, v: k.ops.reshape(v, (2, 3)),
    "ravel": lambda k, v: k.ops.ravel(v),
    "transpose": lambda k, v: k.ops.transpose(v),
    "transpose_to_the_same": lambda k, v: k.ops.transpose(v, (0, 1)),
    "swapaxes": lambda k, v: k.ops.swapaxes(v, 0, 1),
    "moveaxis": lambda k, v: k.ops.moveaxis(v, 0, 1),
    "expand_dims": lambda k, v: k.ops.expand_dims(v, 1),
    "squeeze": lambda k, v: k.ops.squeeze(v[:1], 0),
    "broadcast_to": lambda k, v: k.ops.broadcast_to(v, (2, 2, 3)),
    "broadcast_to_the_same": lambda k, v: k.ops.broadcast_to(v, (2, 3)),
    "flip": lambda k, v: k.ops.flip(v, 1),
    "rot90": lambda k, v: k.ops.rot90(v),
    "roll": lambda k, v: k.ops.roll(v, 1, 1),
    "split": lambda k, v: k.ops.split(v, [1], axis=1)[1],
    "unstack": lambda k, v: k.ops.unstack(v)[1],
    "diagonal": lambda k, v: k.ops.diagonal(v),
    "tril": lambda k, v: k.ops.tril(v),
    "slice_op": lambda k, v: k.ops.slice(v, (0, 1), (2, 2)),
    "cast": lambda k, v: k.ops.cast(v, "float64"),
    "copy": lambda k, v: k.ops.copy(v),
    "array": lambda k, v: k.now(k.ops.array(v)),
    "convert_to_tensor": lambda k, v: k.now(k.ops.convert_to_tensor(v)),
    "value": lambda k, v: k.now(v.value),
    "stop_gradient": lambda k, v: k.ops.stop_gradient(v),
    "concatenate_one": lambda k, v: k.ops.concatenate([v], axis=0),
    "add_zero": lambda k, v: v + 0,
    "multiply_by_one": lambda k, v: v * 1,
    "power_of_one": lambda k, v: v**1,
    "repeat_once": lambda k, v: k.ops.repeat(v, 1, axis=0),
    "tile_once": lambda k, v: k.ops.tile(v, (1, 1)),
    "pad_nothing": lambda k, v: k.ops.pad(v, ((0, 0), (0, 0))),
    "sum_over_no_axis": lambda k, v: k.ops.sum(v[:, :, None], axis=2),
    "max_over_an_axis_of_one": lambda k, v: k.ops.max(v[:, :, None], axis=2),
    "mean_over_an_axis_of_one": lambda k, v: k.ops.mean(v[None], axis=0),
    "nan_to_num": lambda k, v: k.ops.nan_to_num(k.now(v.value)),
    "relu_of_squares": lambda k, v: k.ops.relu(v * v),
    "absolute_of_itself": lambda k, v: k.ops.maximum(v, v),
    "einsum_transpose": lambda k, v: k.ops.einsum("ij->ji", v),
    "cond": lambda k, v: k.ops.cond(True, lambda: v * 1.0, lambda: v * 2.0),
    "identity_layer": lambda k, v: k.layers.Identity()(k.now(k.ops.convert_to_tensor(v))),
    "linear_layer": lambda k, v: k.layers.Activation("linear")(k.now(k.ops.convert_to_tensor(v))),
    "reshape_layer": lambda k, v: k.layers.Reshape((3, 1))(k.now(k.ops.convert_to_tensor(v))),
    "flatten_layer": lambda k, v: k.layers.Flatten()(k.now(k.ops.convert_to_tensor(v))),
    "dropout_layer": lambda k, v: k.layers.Dropout(0.5)(k.now(k.ops.convert_to_tensor(v)), training=False),
}


def viewed(k, x, v, view, write):
    """A view, written after: its value, and a gradient through it that is asked for after another write."""
    with k.Tape() as tape:
        t = view(k, v)
        write(v)
        y = k.ops.sum(t * t) * k.ops.sum(x * v)
    v.assign(v * 0.8)
    return {"view": t, "gradient": tape.gradient(y, v)}


for number, (name, view) in enumerate(VIEWS.items()):
    write = list(WRITES.values())[number % 3]
    add_step(f"view_{name}", functools.partial(viewed, view=view, write=write), START)


def read_by(k, x, v, read):
    """What a function reads of a variable, held when the variable is written in all ways."""
    first = read(v)
    v.assign(v * 0.5)
    second = read(v)
    v.assign_add(v * 0.5)
    third = read(v)
    v.assign_sub(np.ones((2, 3)))
    return [first, second, third, read(v)]


READS = {
    "numpy": lambda v: v.numpy(),
    "asarray": lambda v: np.asarray(v),
    "asarray_of_a_view": lambda v: np.asarray(v[1]),
    "array_of_numpy": lambda v: np.array(v, copy=True),
}
for name, read in READS.items():
    add_step(f"read_{name}", functools.partial(read_by, read=read), START, is_recorded=False)


@step(START)
def views_of_a_tensor_that_is_a_view(k, x, v):
    """A chain of views, of which only the last one is held."""
    t = v[1:]
    t = k.ops.reshape(t, (3,))[::-1]
    t = k.ops.expand_dims(t, 0)
    v.assign(v * 0.5 + x)
    return [t, t * t, v[:1]]


@step(START)
def a_reading_for_each_write(k, x, v):
    held = []
    for factor in (0.5, -1.5, 0.9):
        held.append(k.now(v.value))
        v.assign(v * factor + x * 0.1)
        held.append(v[0])
    return held


@step(START, START * 2)
def a_variable_assigned_to_another(k, x, a, b):
    before = k.ops.copy(b)
    b.assign(k.now(a.value))
    between = k.now(b.value)
    a.assign(a * 0.5 + x)
    return [before, between, k.ops.copy(a), k.ops.copy(b)]


@step(START, START[::-1] * 3)
def variables_that_swap_values(k, x, a, b):
    held = k.now(a.value)
    a.assign(k.now(b.value) + x * 0.1)
    b.assign(held)
    return [k.ops.copy(a), k.ops.copy(b), held]


@step(START, normal(3, 3))
def a_variable_assigned_a_view_of_itself(k, x, v, square):
    held = k.now(v.value)
    v.assign(v[::-1])
    square.assign(k.ops.transpose(square))
    v.assign_add(v[:, ::-1] * 0.5)
    square.assign_sub(k.ops.transpose(square)[::-1] * 0.5)
    return [held, k.ops.copy(v), k.ops.copy(square)]


@step(START)
def a_variable_assigned_from_a_view_held_earlier(k, x, v):
    t = v[::-1]
    v.assign(v * 0.5 + x)
    v.assign(t)
    return [t, k.ops.copy(v)]


@step(lambda k: k.Variable(np.arange(3), dtype="int32"), lambda k: k.Variable([True, False], dtype="bool"))
def integers_and_booleans(k, x, count, flag):
    a, b, c = k.now(count.value), count[1:], k.now(flag.value)
    mask = flag[::-1]
    count.assign_add([1, 1, 1])
    flag.assign(k.ops.logical_not(flag))
    return [k.ops.cast(each, "float64") for each in (a, b, c, mask, count * 1)]


@step(START, lambda k: k.Variable([1, 0, 1], dtype="int32"))
def an_index_that_is_a_variable(k, x, table, index):
    """The index that take saves for its gradient is overwritten."""
    with k.Tape() as tape:
        rows = k.ops.take(table, k.now(index.value), axis=0)
        y = k.ops.sum(rows * rows[::-1] * x[0])
    index.assign(1 - index)
    table.assign(table * 0.9)
    return [rows, k.ops.convert_to_tensor(tape.gradient(y, table))]


@step(START, lambda k: k.Variable([[True, False, True], [False, True, True]], dtype="bool"))
def a_mask_that_is_a_variable(k, x, v, mask):
    with k.Tape() as tape:
        y = k.ops.where(k.now(mask.value), v * v, x * v)
    mask.assign(k.ops.logical_not(mask))
    return [y, tape.gradient(y, v)]


# -------------------- tapes --------------------


@step(START)
def two_assignments_in_one_tape(k, x, v):
    """The gradient with respect to the variable is the sum over all of its readings; assignments pass none on."""
    with k.Tape() as tape:
        y = v * v * x
        v.assign(v * 0.5)
        z = v**3
        v.assign_add(x * 0.1)
        total = k.ops.sum(y + z * v)
    v.assign_sub(x * 0.2)
    return [y, z, tape.gradient(total, v)]


@step(START, START * 0.5 + 1)
def an_assignment_passes_no_gradient(k, x, v, w):
    with k.Tape(persistent=True) as tape:
        v.assign(w * w)
        y = k.ops.sum(v * v * x)
    w.assign(w * 0.5 + 1)
    v.assign(v * 0)
    return [tape.gradient(y, v), *(g for g in tape.gradient(y, [w]) if g is not None)]


@step(START)
def a_gradient_through_a_value_of_the_moment(k, x, v):
    with k.Tape() as tape:
        t = k.now(v.value)
        v.assign(v * 0.5)
        y = k.ops.sum(t * t * v * x)
    return [tape.gradient(y, v), t]


@step(START)
def a_value_read_outside_the_tape(k, x, v):
    t = k.ops.copy(v)
    with k.Tape() as tape:
        tape.watch(t)
        y = k.ops.sum(t * t * v)
    v.assign(v * 0.5 + x)
    return [*tape.gradient(y, [t, v]), t]


@step(START, START * 0.5 + 1)
def a_persistent_tape(k, x, v, w):
    with k.Tape(persistent=True) as tape:
        y = v * w
        z = k.ops.exp(y) * v * x
    found = [tape.gradient(z, v)]
    v.assign(v * 0.5)
    found.append(tape.gradient(z, [v, w, y])[1])
    w.assign_sub(w * 0.2)
    return [*found, *tape.gradient(z, [v, w, y]), *tape.gradient(y, [v, w])]


@step(START, START + 2)
def output_gradients_of_a_variable(k, x, v, seed):
    with k.Tape() as tape:
        y = v * v * x
    held = k.now(seed.value)
    seed.assign(seed * 0.5 + 1)
    v.assign(v * 0.9)
    return [tape.gradient(y, v, output_gradients=held)]


@step(START)
def a_target_that_is_a_reading(k, x, v):
    with k.Tape() as tape:
        t = v[:1]
    v.assign(v * 0.5)
    return [tape.gradient(t, v), t]


@step(START)
def stopped_recording(k, x, v):
    with k.Tape() as tape:
        with tape.stop_recording():
            factor = v * v
            held = k.ops.copy(v)
            v.assign(v * 0.5 + x * 0.1)
        y = k.ops.sum(factor * v * v * held)
    v.assign(v * 2)
    return [tape.gradient(y, v), factor, held]


@step(START)
def a_jacobian(k, x, v):
    with k.Tape(persistent=True) as tape:
        y = k.ops.sum(v * v * x, axis=1)
    v.assign(v * 0.5 + 0.1)
    return [tape.jacobian(y, v)]


@step(normal(3, 2))
def a_batch_jacobian(k, x, v):
    with k.Tape(persistent=True) as tape:
        tape.watch(x)
        y = k.ops.tanh(k.ops.matmul(x, v))
    v.assign(v * 0.5 + 0.1)
    return [tape.batch_jacobian(y, x)]


@step(START)
def a_watched_tensor_that_is_a_view(k, x, v):
    t = v[:1]
    with k.Tape(watch_accessed_variables=False) as tape:
        tape.watch(t)
        y = k.ops.sum(t**3 * v)
    v.assign(v * 0.5 + x)
    return [tape.gradient(y, t), t]


@step(START, START * 0.5 + 1)
def a_tape_that_watches_only_what_it_is_told(k, x, v, w):
    with k.Tape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = k.ops.sum(v * w * v)
        v.assign(v * 0.5 + x * 0.1)
        y = y + k.ops.sum(v * w)
    w.assign(w * 0.9)
    return [tape.gradient(y, v)]


@step(START)
def two_tapes_side_by_side(k, x, v):
    with k.Tape() as first:
        y = k.ops.sum(v * v * x)
    v.assign(v * 0.5)
    with k.Tape() as second:
        z = k.ops.sum(v * v * v)
    v.assign(v + 0.1)
    return [second.gradient(z, v), first.gradient(y, v)]


@step(START, lambda k: k.optimizers.SGD(0.125))
def a_gradient_held_over_updates(k, x, v, optimizer):
    """The gradients of three passes, which an optimizer applied meanwhile."""
    held = []
    for _ in range(3):
        with k.Tape() as tape:
            y = k.ops.sum(v * v * x)
        gradient = tape.gradient(y, v)
        optimizer.apply_gradients([(gradient, v)])
        held += [gradient, k.now(v.value)]
    return held


@step(START, START * 0)
def gradients_that_are_added_up(k, x, v, total):
    held = []
    for factor in (1.0, 2.0):
        with k.Tape() as tape:
            y = k.ops.sum(k.ops.sin(v * factor) * x)
        gradient = tape.gradient(y, v)
        held.append(k.now(total.value))
        total.assign_add(gradient)
        v.assign_sub(total * 0.1)
    return [*held, k.ops.copy(total), k.ops.copy(v)]


# -------------------- higher orders --------------------


@step(START)
def a_second_derivative(k, x, v):
    """Writes within the inner tape, between the tapes, and after both."""
    with k.Tape() as outer:
        with k.Tape() as inner:
            y = k.ops.sum(v**3 * x)
            v.assign(v * 0.5 + 0.3)
            y = y + k.ops.sum(k.ops.exp(v))
        v.assign(v * 0.9)
        slope = inner.gradient(y, v)
        v.assign(v + 0.2)
        z = k.ops.sum(slope * slope) + k.ops.sum(v * v)
    v.assign(v * 0.5)
    return [slope, outer.gradient(z, v)]


@step(normal(3, 2), normal(2))
def a_gradient_penalty(k, x, kernel, bias):
    with k.Tape() as outer:
        with k.Tape() as inner:
            inner.watch(x)
            y = k.ops.tanh(k.ops.matmul(x, kernel) + bias)
        kernel.assign(kernel * 0.9)
        slope = inner.gradient(y, x)
        bias.assign(bias * 0.9)
        penalty = k.ops.sum(k.ops.square(slope))
    kernel.assign(kernel + 0.1)
    return [penalty, *outer.gradient(penalty, [kernel, bias])]


@step(START)
def a_persistent_inner_tape(k, x, v):
    with k.Tape() as outer:
        with k.Tape(persistent=True) as inner:
            y = v * v * v * x
            z = k.ops.sin(y)
        first = inner.gradient(y, v)
        v.assign(v * 0.5)
        second = inner.gradient(z, v)
        total = k.ops.sum(first * second * v)
    v.assign(v * 0.7 + 0.3)
    return [first, second, outer.gradient(total, v)]


@step(normal(3, 2))
def a_step_in_a_step(k, x, w):
    """Adapted weights as in MAML: the value is changed meanwhile."""
    with k.Tape() as outer:
        with k.Tape() as inner:
            loss = k.ops.sum(k.ops.square(k.ops.matmul(x, w)))
        slope = inner.gradient(loss, w)
        adapted = w - 0.1 * slope
        w.assign(w * 0.5)
        after = k.ops.sum(k.ops.sin(k.ops.matmul(x, adapted)))
    w.assign(w * 0.5 + 0.1)
    return [after, outer.gradient(after, w)]


@step(START)
def a_third_derivative(k, x, v):
    with k.Tape() as first:
        with k.Tape() as second:
            with k.Tape() as third:
                y = k.ops.sum(k.ops.sin(v) * v * x)
            v.assign(v * 0.9)
            a = third.gradient(y, v)
        v.assign(v * 0.9)
        b = second.gradient(a, v)
    v.assign(v * 0.9)
    return [a, b, first.gradient(b, v)]


# -------------------- optimizers --------------------

OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.125),
    "momentum": lambda k: k.optimizers.SGD(0.125, momentum=0.5),
    "nesterov": lambda k: k.optimizers.SGD(0.125, momentum=0.5, nesterov=True),
    "adam": lambda k: k.optimizers.Adam(0.125, 0.5, 0.75),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.125),
    "adamw": lambda k: k.optimizers.AdamW(0.125, 0.25, 0.5, 0.75),
    "average": lambda k: k.optimizers.SGD(0.125, use_ema=True, ema_momentum=0.5),
}


def updated_between(k, x, optimizer, v, w):
    """Two gradients by one persistent tape, with an update between; what was read before each update is held."""
    held = [v[:1], k.now(w.value), k.ops.transpose(w)]
    with k.Tape(persistent=True) as tape:
        y = k.ops.matmul(v * x, w)
        loss, other = k.ops.sum(k.ops.square(y)), k.ops.sum(k.ops.exp(y * 0.1))
    optimizer.apply_gradients(zip(tape.gradient(loss, [v, w]), [v, w], strict=True))
    held += [v[:1], k.now(w.value), *tape.gradient(other, [v, w])]
    optimizer.apply_gradients(zip(tape.gradient(other, [v, w]), [v, w], strict=True))
    return [*held, *tape.gradient(loss, [v, w]), k.now(v.value)]


for name, optimizer in OPTIMIZERS.items():
    add_step(f"updated_between_{name}", updated_between, optimizer, START, normal(3, 2))


@prepared
def an_optimizers_variables(k):
    """The moments and the step count, read and then updated."""
    optimizer, v = k.optimizers.Adam(0.125, 0.5, 0.75), k.Variable(START)
    optimizer.build([v])

    def run(x):
        own = [each for each in optimizer.variables if each.shape == (2, 3)]
        held = [k.now(each.value) for each in own] + [each[0] for each in own]
        count, rate = k.now(optimizer.iterations.value), k.now(optimizer.learning_rate.value)
        optimizer.apply_gradients([(v * x, v)])
        optimizer.learning_rate.assign(optimizer.learning_rate * 0.5)
        return [*held, k.ops.cast(count, "float64"), rate, *(k.now(each.value) for each in own)]

    return run


@step(lambda k: k.optimizers.SGD(0.125), lambda k: k.optimizers.SGD(0.25), START)
def weights_in_an_optimizer_of_their_own_later(k, x, first, second, v):
    """Views that were read before a weight moves into another optimizer's memory, and after."""
    held = []
    for optimizer in (first, second, first):
        held += [v[::-1], k.now(v.value)]
        optimizer.apply_gradients([(v * x, v)])
    return held


@step(normal(3, 3), normal(3, 1), OPTIMIZERS["sgd"], OPTIMIZERS["adam"])
def an_adversary(k, x, generator, critic, of_generator, of_critic):
    """The order of a GAN: the discriminator is updated before the generator's gradients are asked for."""
    with k.Tape() as g_tape, k.Tape() as d_tape:
        fake = k.ops.tanh(k.ops.matmul(x, generator))
        right, wrong = k.ops.matmul(x * x, critic), k.ops.matmul(fake, critic)
        d_loss = k.ops.mean(k.ops.softplus(-right)) + k.ops.mean(k.ops.softplus(wrong))
        g_loss = k.ops.mean(k.ops.softplus(-wrong))
    of_critic.apply_gradients([(d_tape.gradient(d_loss, critic), critic)])
    gradient = g_tape.gradient(g_loss, generator)
    of_generator.apply_gradients([(gradient, generator)])
    return [d_loss, g_loss, gradient, k.ops.copy(critic), k.ops.copy(generator)]


@step(normal(3, 3), normal(3, 1), OPTIMIZERS["adam"], OPTIMIZERS["momentum"])
def an_adversary_with_one_persistent_tape(k, x, generator, critic, of_generator, of_critic):
    with k.Tape(persistent=True) as tape:
        fake = k.ops.tanh(k.ops.matmul(x, generator))
        right, wrong = k.ops.matmul(x * x, critic), k.ops.matmul(fake, critic)
        d_loss = k.ops.mean(k.ops.softplus(-right)) + k.ops.mean(k.ops.softplus(wrong))
        g_loss = k.ops.mean(k.ops.softplus(-wrong))
    of_critic.apply_gradients([(tape.gradient(d_loss, critic), critic)])
    of_generator.apply_gradients([(tape.gradient(g_loss, generator), generator)])
    return [d_loss, g_loss, k.ops.copy(critic), k.ops.copy(generator)]


@step(normal(3, 2), normal(3, 2, seed=1), normal(3, 2, seed=2), OPTIMIZERS["adam"])
def a_target_network(k, x, online, target, slow, optimizer):
    """Networks of reinforcement learning: one gets the values of the other, all at once and a little at a time."""
    before = k.now(target.value)
    with k.Tape() as tape:
        wanted = k.ops.stop_gradient(k.ops.matmul(x, target)) * 0.9 + 1
        loss = k.ops.sum(k.ops.square(k.ops.matmul(x, online) - wanted))
    target.assign(k.now(online.value))
    slow.assign(0.75 * slow + 0.25 * online)
    optimizer.apply_gradients([(tape.gradient(loss, online), online)])
    return [before, loss, wanted, k.ops.copy(target), k.ops.copy(slow), k.ops.copy(online)]


@step(START, START * 0, START, lambda k: k.optimizers.SGD(0.125))
def an_average_of_weights(k, x, v, mean, moving, optimizer):
    """The means of stochastic weight averaging and of moving averages, and the weights before the step."""
    old = [k.ops.copy(each) for each in (v, mean, moving)]
    with k.Tape() as tape:
        loss = k.ops.sum(k.ops.sin(v * x))
    optimizer.apply_gradients([(tape.gradient(loss, v), v)])
    mean.assign_add((v - mean) / 3)
    moving.assign(moving * 0.75 + v * 0.25)
    return [*old, *(k.now(each.value) - before for each, before in zip((v, mean, moving), old, strict=True))]


# -------------------- functions that run or go back later --------------------


@step(START, START * 0.5 + 1)
def a_pull_back(k, x, v, w):
    y, pull = k.vjp(lambda x: k.ops.exp(x * v) * w, x)
    v.assign(v * 0.5)
    first = pull(k.ops.ones((2, 3)))[0]
    w.assign(w * 0.9)
    return [y, first, pull(k.ops.sin(x))[0]]


@step(START)
def a_pull_back_to_a_variable(k, x, v):
    y, pull = k.vjp(lambda v, x: v * v * x, k.now(v.value), x)
    v.assign(v * 0.5 + 0.1)
    return [y, *pull(k.ops.ones((2, 3)))]


@prepared
def a_checkpoint(k):
    """The function runs again on the way back: with the values that it had."""
    v = k.Variable(START)
    block = k.checkpoint(lambda x: k.ops.sin(x * v) * v)

    def run(x):
        with k.Tape() as tape:
            tape.watch(x)
            y = k.ops.sum(block(x * 2) * v)
        v.assign(v * 0.5 + 0.1)
        return [y, *tape.gradient(y, [x, v])]

    return run


@prepared
def a_checkpoint_and_an_optimizer(k):
    v, optimizer = k.Variable(normal(3, 3)), k.optimizers.SGD(0.125)
    block = k.checkpoint(lambda x: k.ops.tanh(k.ops.matmul(x, v)))

    def run(x):
        with k.Tape(persistent=True) as tape:
            y = block(block(x))
            a, b = k.ops.sum(y * y), k.ops.sum(y)
        optimizer.apply_gradients([(tape.gradient(a, v), v)])
        gradient = tape.gradient(b, v)
        optimizer.apply_gradients([(gradient, v)])
        return [y, gradient, k.ops.copy(v)]

    return run


@step(START)
def a_checkpoint_of_a_value_read_before(k, x, v):
    t = v[::-1]
    block = k.checkpoint(lambda x: k.ops.sin(x * t) * t)
    v.assign(v * 0.5 + 0.1)
    with k.Tape() as tape:
        tape.watch(x)
        y = k.ops.sum(block(x))
    v.assign(v * 0.5 + 0.1)
    return [y, tape.gradient(y, x)]


@step(START)
def a_gradient_of_ones_own(k, x, v):
    """The function that goes back holds a view and a value of the moment."""
    held, t = k.ops.reshape(v, (3, 2)), k.now(v.value)

    @k.ops.custom_gradient
    def scaled(x):
        def back(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            return dy * t * 2 + k.ops.reshape(held, (2, 3))

        return x * t, back

    with k.Tape() as tape:
        tape.watch(x)
        y = k.ops.sum(scaled(x))
    v.assign(v * 0.5 + 0.1)
    return [y, tape.gradient(y, x)]


@step(START)
def loops(k, x, v):
    """Ops that call a function which reads a variable."""
    with k.Tape() as tape:
        a = k.ops.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y * v), (0, x))[1]
        b = k.ops.scan(lambda carry, row: (carry * row * v[0], carry + row), x[0], x)[1]
        c = k.ops.fori_loop(0, 2, lambda i, y: k.ops.sin(y * v), x)
        total = k.ops.sum(a) + k.ops.sum(b) + k.ops.sum(c)
    v.assign(v * 0.5 + 0.1)
    return [a, b, c, tape.gradient(total, v)]


# -------------------- arrays of NumPy --------------------

NUMPY_READS = {
    "operand": lambda k, v, a: v * a,
    "left_operand": lambda k, v, a: k.ops.multiply(a, v),
    "matmul": lambda k, v, a: k.ops.matmul(a, k.ops.transpose(v)),
    "einsum": lambda k, v, a: k.ops.einsum("ij,kj->ik", v, a),
    "tensor": lambda k, v, a: v * k.ops.convert_to_tensor(a),
    "array": lambda k, v, a: v * k.ops.array(a),
    "copy": lambda k, v, a: v * k.ops.copy(a),
    "view": lambda k, v, a: v[::-1] * k.ops.reshape(a, (2, 3))[::-1],
    "transpose": lambda k, v, a: k.ops.transpose(v) * k.ops.transpose(a),
    "where": lambda k, v, a: k.ops.where(a > 0, v * a, v),
    "stack": lambda k, v, a: k.ops.stack([v * v, v * a]),
}


def overwritten(k, x, v, read):
    """A batch that is overwritten before the gradient is asked for."""
    batch = x.copy()
    with k.Tape() as tape:
        y = k.ops.sum(k.ops.exp(0.1 * read(k, v, batch)))
    k.overwrite(batch)
    return [y, tape.gradient(y, v)]


for name, read in NUMPY_READS.items():
    add_step(f"batch_overwritten_{name}", functools.partial(overwritten, read=read), START, is_recorded=False)


@eager()
def tensors_of_a_batch_that_is_overwritten(k, x):
    batch = x.copy()
    held = [k.ops.convert_to_tensor(batch), k.ops.array(batch), k.ops.convert_to_tensor(batch)[1:]]
    held += [k.ops.transpose(batch), k.ops.reshape(batch, (3, 2)), k.ops.copy(batch), k.ops.cast(batch, "float64")]
    held += [k.ops.stop_gradient(batch), k.ops.expand_dims(batch, 0), k.ops.broadcast_to(batch, (2, 2, 3))]
    k.overwrite(batch)
    return held


@eager(START)
def a_watched_batch_that_is_overwritten(k, x, v):
    batch = x.copy()
    t = k.ops.convert_to_tensor(batch)
    with k.Tape() as tape:
        tape.watch(t)
        y = k.ops.sum(t**3 * v)
    k.overwrite(batch)
    return [*tape.gradient(y, [t, v]), t]


@eager(
    lambda k: with_weights(k.layers.Dense(2, activation="tanh"), (2, 3)),
    lambda k: with_weights(k.layers.LSTM(2), (1, 2, 3)),
)
def a_batch_of_a_layer_that_is_overwritten(k, x, layer, recurrent):
    batch = x.copy()
    with k.Tape() as tape:
        y = k.ops.sum(layer(batch)) + k.ops.sum(recurrent(batch[None]))
    k.overwrite(batch)
    return [y, *tape.gradient(y, [*layer.trainable_weights, *recurrent.trainable_weights])]


@eager(START)
def a_variable_assigned_an_array_that_is_overwritten(k, x, v):
    batch = x.copy()
    made = k.Variable(batch)
    v.assign(batch)
    held = v[:1]
    k.overwrite(batch)
    return [k.ops.copy(v), k.ops.copy(made), held]


# -------------------- layers --------------------


def with_weights(layer, shape=None, scale=0.5, shift=0.1):
    """A layer, which is built for inputs of a shape, with fixed weights, as large as are usual."""
    if not layer.built:
        layer.build(shape)
    layer.set_weights([scale * normal(*w.shape, seed=i) + shift for i, w in enumerate(layer.get_weights())])
    return layer


def two_layers(k):
    return [with_weights(k.layers.Dense(3, activation="tanh"), (None, 3)), with_weights(k.layers.Dense(2), (None, 3))]


def layer_of(k, call, weights, states=None, output_shape=lambda shape: shape):
    """A layer with a call of its own, and with weights and states that start with the given values."""

    class Made(k.layers.Layer):
        def build(self, shape):
            for values, is_trainable in ((weights, True), (states or {}, False)):
                for name, start in values.items():
                    made = self.add_weight(np.shape(start), initializer="ones", trainable=is_trainable, name=name)
                    made.assign(start)
                    setattr(self, name, made)

        def call(self, x, training=False):
            return call(self, x, training)

        def compute_output_shape(self, shape):
            return output_shape(shape)

    return Made()


def scaled(k, write):
    """A layer whose state is used, and then assigned."""

    def call(self, x, training):
        y = x * self.w * self.t
        write(k, self.t, x)
        return k.ops.sin(y)

    return layer_of(k, call, {"w": [0.5, -1.0, 2.0]}, {"t": [1.5, 0.7, -0.4]})


STATE_WRITES = {
    "assign": lambda k, t, x: t.assign(t * 0.5 + 0.1 * k.ops.mean(x, 0)),
    "assign_add": lambda k, t, x: t.assign_add(k.ops.mean(x, 0)),
    "assign_sub": lambda k, t, x: t.assign_sub(k.ops.mean(x, 0) * 0.5),
}


def fitted(k, eagerly, layers):
    """The weights and the losses of three epochs with batches of two sizes."""
    model = k.Sequential([k.Input((3,)), *layers])
    model.compile(k.optimizers.SGD(0.125), k.losses.MeanSquaredError(), run_eagerly=eagerly)
    history = model.fit(normal(5, 3), normal(5, model.output_shape[-1]), 3, 3, verbose=0, shuffle=False)
    return [*model.get_weights(), np.array(history.history["loss"])]


for name, write in STATE_WRITES.items():
    add(
        f"fit_a_layer_with_a_state_then_{name}",
        lambda k, eagerly, write=write: fitted(k, eagerly, [scaled(k, write)]),
        is_step=False,
    )


@whole
def fit_a_layer_with_a_state_between_others(k, eagerly):
    first, last = two_layers(k)
    return fitted(k, eagerly, [first, scaled(k, STATE_WRITES["assign"]), last])


@whole
def fit_with_a_state_used_before_and_after(k, eagerly):
    def call(self, x, training):
        y = x * self.w * self.t
        held = self.t[::-1]
        self.t.assign(self.t * 0.5 + k.ops.mean(k.ops.stop_gradient(y), 0))
        return y * self.t * self.w + held

    return fitted(k, eagerly, [layer_of(k, call, {"w": np.ones(3)}, {"t": np.ones(3)})])


@whole
def fit_with_a_weight_written_by_its_layer(k, eagerly):
    """A weight that is normalized in place after its use, as a constraint within the call."""

    def call(self, x, training):
        y = k.ops.matmul(x, self.w)
        self.w.assign(self.w / k.ops.norm(self.w))
        return y

    layer = layer_of(k, call, {"w": normal(3, 2)}, output_shape=lambda shape: (*shape[:-1], 2))
    return fitted(k, eagerly, [layer])


@whole
def fit_spectral_normalization(k, eagerly):
    """The kernel and the vector are assigned in the call."""
    layer = k.layers.SpectralNormalization(k.layers.Dense(2))
    return fitted(k, eagerly, [with_weights(layer, (None, 3), 1.0, 0.0)])


@whole
def fit_batch_normalization_that_uses_its_statistics(k, eagerly):
    """As in batch renormalization: the moving statistics are read in the forward pass and updated in it."""

    def call(self, x, training):
        y = (x - self.mean) / k.ops.sqrt(self.var + 1e-3) * self.scale
        if training:
            mean, var = k.ops.moments(x, 0)
            self.mean.assign(self.mean * 0.75 + mean * 0.25)
            self.var.assign(self.var * 0.75 + var * 0.25)
        return y

    layer = layer_of(k, call, {"scale": np.ones(3)}, {"mean": np.zeros(3), "var": np.ones(3)})
    return fitted(k, eagerly, [layer, k.layers.BatchNormalization(momentum=0.75)])


def training(train_step):
    """train_step(k, model, x, y) returns logs: the result is the weights after two epochs, and what the logs say."""

    def trained(k, eagerly):
        class Trained(k.Model):
            def __init__(self):
                super().__init__()
                self.first, self.last = two_layers(k)

            def call(self, x):
                return self.last(self.first(x))

            def train_step(self, data):
                return train_step(k, self, *data)

        model = Trained()
        model.compile(k.optimizers.SGD(0.125, momentum=0.5), k.losses.MeanSquaredError(), run_eagerly=eagerly)
        history = model.fit(normal(5, 3), normal(5, 2), 3, 2, verbose=0, shuffle=False)
        return [*model.get_weights(), *(np.array(history.history[name]) for name in sorted(history.history))]

    add(train_step.__name__, trained, is_step=False)


@training
def weights_assigned_between_forward_and_gradient(k, model, x, y):
    with k.Tape() as tape:
        loss = k.ops.mean(k.ops.square(model(x, training=True) - y))
    for weight in model.trainable_weights:
        weight.assign(weight * 0.75)
    gradients = tape.gradient(loss, model.trainable_weights)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    return {"loss": loss, "size": k.ops.sum(k.ops.square(gradients[0]))}


@training
def sharpness_aware_training(k, model, x, y):
    """Weights are moved uphill for the gradient and moved back by the values that were read before."""
    weights = model.trainable_weights
    with k.Tape() as tape:
        loss = k.ops.mean(k.ops.square(model(x, training=True) - y))
    gradients = tape.gradient(loss, weights)
    before = [k.now(weight.value) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_add(gradient * 0.1)
    with k.Tape() as tape:
        worse = k.ops.mean(k.ops.square(model(x, training=True) - y))
    gradients = tape.gradient(worse, weights)
    for weight, value in zip(weights, before, strict=True):
        weight.assign(value)
    model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
    return {"loss": loss, "worse": worse}


@training
def a_second_update_in_a_step(k, model, x, y):
    """Both losses are of the same forward pass; the second gradient comes after the first update."""
    with k.Tape(persistent=True) as tape:
        output = model(x, training=True)
        loss, size = k.ops.mean(k.ops.square(output - y)), k.ops.mean(k.ops.square(output))
    held = output * 1.0, model.last.kernel[:1]
    for target in (loss, size):
        gradients = tape.gradient(target, model.trainable_weights)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    return {"loss": loss, "held": k.ops.sum(held[0]), "row": k.ops.sum(held[1])}


def moving_averages(k):
    layer = k.layers.BatchNormalization(momentum=0.75)
    layer.build((None, 3))
    layer.set_weights([np.abs(normal(3, seed=i)) + 0.1 for i in range(4)])
    return layer


@step(moving_averages, START)
def batch_normalization_used_and_then_trained(k, x, layer, v):
    """The statistics that a prediction used are updated before its gradient is asked for."""
    mean, var = k.now(layer.moving_mean.value), layer.moving_variance[::-1]
    with k.Tape() as tape:
        y = layer(x * v, training=False)
        z = layer(x * v * 2, training=True)
        total = k.ops.sum(y * y) + k.ops.sum(k.ops.sin(z))
    layer(x, training=True)
    return [y, z, *tape.gradient(total, [v, layer.gamma]), mean, var, k.ops.copy(layer.moving_mean)]


RECURRENT = {
    "lstm": lambda k: k.layers.LSTM(2, stateful=True),
    "gru": lambda k: k.layers.GRU(2, stateful=True),
    "gru_reset_before": lambda k: k.layers.GRU(2, stateful=True, reset_after=False),
    "simple_rnn": lambda k: k.layers.SimpleRNN(2, stateful=True),
    "cells": lambda k: k.layers.RNN([k.layers.LSTMCell(2), k.layers.GRUCell(2)], stateful=True),
}


def stateful(k, x, layer, order):
    """A stateful layer is called twice in a row, and a state is held; derivatives of the first or the second order."""
    states = k.flatten(layer.states)
    held = [k.now(states[0].value), states[-1][:, ::-1]]
    with k.Tape() as outer:
        with k.Tape() as inner:
            inner.watch(x)
            y = k.ops.sum(k.ops.sin(layer(x[None]))) + k.ops.sum(layer(x[None, ::-1]) ** 2)
        if order == 1:
            return [y, *inner.gradient(y, [x, *layer.trainable_weights]), *held]
        slope = inner.gradient(y, x)
        penalty = k.ops.sum(k.ops.square(slope))
    layer(x[None])
    return [slope, *outer.gradient(penalty, layer.trainable_weights[:3]), *held]


for name, layer in RECURRENT.items():
    for order in (1, 2):
        run = functools.partial(stateful, order=order)
        add_step(
            f"stateful_{name}_order_{order}", run, lambda k, layer=layer: with_weights(layer(k), (1, 2, 3), shift=0.0)
        )


@whole
def fit_a_stateful_layer(k, eagerly):
    model = k.Sequential([k.Input(batch_shape=(2, 4, 3)), k.layers.LSTM(2, stateful=True), k.layers.Dense(1)])
    for layer in model.layers:
        with_weights(layer)
    model.layers[0].reset_states()
    model.compile(k.optimizers.SGD(0.125), k.losses.MeanSquaredError(), run_eagerly=eagerly)
    history = model.fit(normal(6, 4, 3), normal(6, 1), 2, 2, verbose=0, shuffle=False)
    return [*model.get_weights(), np.array(history.history["loss"]), *map(np.array, k.flatten(model.layers[0].states))]


@step(lambda k: k.random.SeedGenerator(3))
def the_state_of_a_seed(k, x, generator):
    """Whether a state that was read is still the one that was read: numbers of libraries differ."""
    first, copy = k.now(generator.state.value), k.ops.copy(generator.state)
    key = generator.next()
    second, parts = k.now(generator.state.value), generator.state[:1]
    generator.next()
    same = [k.ops.all(first == copy), k.ops.any(second != first), k.ops.any(k.now(generator.state.value) != second)]
    same.append(k.ops.all(parts == second[:1]) if key is not None else None)
    return [k.ops.cast(each, "float64") for each in same]


@step(lambda k: k.metrics.Mean(), lambda k: k.metrics.MeanSquaredError())
def the_states_of_metrics(k, x, mean, error):
    held = [k.now(v.value) for metric in (mean, error) for v in metric.variables] + [mean.result(), error.result()]
    mean.update_state(x)
    error.update_state(x, x * x)
    held += [k.now(v.value) for v in mean.variables] + [mean.result(), error.result()]
    mean.update_state(x * 2)
    error.reset_state()
    return [*held, mean.result(), *(k.now(v.value) for v in error.variables)]


@whole
def results_held_over_training(k, eagerly):
    """Outputs of a model, its weights and gradients, all read before a training step; weights may move in the first one."""

    def its_weight(self, x, training):
        return k.ops.reshape(self.w, (2, 3)) + 0 * k.ops.sum(x)

    table = layer_of(k, its_weight, {"w": START}, output_shape=lambda shape: (2, 3))
    model = k.Sequential([k.Input((3,)), k.layers.Dense(3), table])
    with_weights(model.layers[0])
    model.compile(k.optimizers.Adam(0.125, 0.5, 0.75), k.losses.MeanSquaredError(), run_eagerly=eagerly)
    x, y, held = normal(2, 3), normal(2, 3, seed=1), []
    for _ in range(3):
        with k.Tape(persistent=True) as tape:
            output = model(x, training=True)
            loss = k.ops.sum(k.ops.square(output))
        held += [output, model.predict(x, verbose=0), model.predict_on_batch(x), *model.get_weights()]
        held += [k.now(w.value) for w in model.weights] + [k.ops.copy(w) for w in model.weights]
        held += [w[:1] for w in model.weights] + [w.numpy() for w in model.weights]
        model.train_on_batch(x, y)
        held += [g for g in tape.gradient(loss, model.trainable_weights) if g is not None]
        model.fit(x, y, verbose=0, shuffle=False)
    return held


@whole
def a_table_that_is_its_output(k, eagerly):
    """A layer that returns its weight: the output is held while the weight is trained."""

    def its_weight(self, x, training):
        return k.now(k.ops.convert_to_tensor(self.w))

    layer, optimizer, held = layer_of(k, its_weight, {"w": START}), k.optimizers.Adam(0.125, 0.5, 0.75), []
    for _ in range(3):
        with k.Tape() as tape:
            output = layer(normal(2, 3))
            loss = k.ops.sum(k.ops.square(output))
        held.append(output)
        optimizer.apply_gradients([(tape.gradient(loss, layer.w), layer.w)])
    return held


@whole
def weights_before_and_after(k, eagerly):
    """Old weights beside the new ones, by each way to read them; then the old ones are given back."""
    model = k.Sequential([k.Input((3,)), k.layers.Dense(2, activation="tanh"), k.layers.BatchNormalization()])
    with_weights(model.layers[0])
    model.compile(k.optimizers.SGD(0.125, momentum=0.5), k.losses.MeanSquaredError(), run_eagerly=eagerly)
    x, y, found = normal(4, 3), normal(4, 2), []
    for _ in range(2):
        old, copies = model.get_weights(), [k.ops.copy(w) for w in model.weights]
        values, rows = [k.now(w.value) for w in model.weights], [w[..., :1] for w in model.weights]
        state = [k.now(v.value) for v in model.optimizer.variables if v.dtype in ("float64", np.float64)]
        model.fit(x, y, 4, 2, verbose=0, shuffle=False)
        found += [*old, *copies, *values, *rows, *state[-1:], *model.get_weights()]
        model.set_weights(old)
        found += model.get_weights()
        model.set_weights([np.array(value) for value in values])
        found += [k.ops.copy(w) for w in model.weights]
    return found


@whole
def a_clone_gets_the_weights(k, eagerly):
    """The target network of reinforcement learning, by `set_weights` and by `assign`."""
    online = k.Sequential([k.Input((3,)), k.layers.Dense(2, activation="tanh"), k.layers.Dense(1)])
    for layer in online.layers:
        with_weights(layer)
    target, found = k.clone_model(online), []
    target.set_weights(online.get_weights())
    optimizer = k.optimizers.Adam(0.125, 0.5, 0.75)
    for number in range(4):
        x = normal(4, 3, seed=number)
        with k.Tape() as tape:
            wanted = target(x) * 0.9 + 1.0
            loss = k.ops.mean(k.ops.square(online(x) - k.ops.stop_gradient(wanted)))
        if number % 2:
            for to, source in zip(target.weights, online.weights, strict=True):
                to.assign(k.now(source.value))
        gradients = tape.gradient(loss, online.trainable_weights)
        optimizer.apply_gradients(zip(gradients, online.trainable_weights, strict=True))
        found += [wanted, loss, *gradients]
    return [*found, *target.get_weights(), *online.get_weights()]
