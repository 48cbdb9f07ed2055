"""Family: ops, and the functions of losses, metrics, activations and `K`, with arrays and arguments of every kind.

Where NumPy has a function of the same name, and for all ops that take indices, the result is compared with NumPy's.
"""

import inspect

import numpy as np
from fuzz_values import absurd, any_of, array, described, named, shape, tensor_like
from fuzz_verdict import Fault

import nbkeras as keras
from nbkeras import activations, losses, metrics, ops, random
from nbkeras import backend as K
from nbkeras.engine.tensor import Tensor, as_tensor

SPACES = {"ops": ops, "ops.image": ops.image, "random": random, "K": K, "losses": losses, "metrics": metrics}
SPACES |= {"activations": activations, "ops.linalg": ops.linalg, "ops.nn": ops.nn}
SETTINGS = (
    "clear_session set_floatx set_epsilon set_image_data_format set_image_dim_ordering set_learning_phase print_tensor "
    "function_config is_sharing squeeze_or_expand_to_same_rank resolve_accuracy manual_variable_initialization"
).split()
NAMES = [
    (space, name)
    for space, module in SPACES.items()
    for name in sorted(dir(module))
    if callable(getattr(module, name))
    and not isinstance(getattr(module, name), type)
    and not name.startswith("_")
    and name not in SETTINGS
]
ARRAYS = set(
    "x x1 x2 y inputs a b xs y_true y_pred output target query value key tensor array data v condition condlist choicelist "
    "variance moving_mean moving_variance images elements operands loss logits predictions updates u coordinates kernel bias "
    "table recurrent_kernel initial_h initial_c mask recurrent_dropout_mask depthwise_kernel pointwise_kernel matrix m1 m2 "
    "sorted_sequence transform start_points end_points log_prob params reference elems init counts probabilities".split()
)
INTEGERS = set("indices segment_ids targets index start_indices labels target_lengths sequence_lengths".split())


def cases_of_orders():
    """The ops with derivatives, with inputs that they accept: changed a little here."""
    try:
        import order_cases
    except ImportError:  # where tests/reference is not on the path
        return []
    return sorted(order_cases.CASES.items())


ORDERS = cases_of_orders()


def passed(function):
    """A function of this file that calls another: what fails in it, be it `int`, fails in the user's function."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def call(chance, say):
    """Any function with values that fit its parameters' names, more or less."""
    space, name = NAMES[chance.randrange(len(NAMES))]
    function = getattr(SPACES[space], name)
    odd = 0.2 if chance.random() < 0.3 else 0.03
    base = shape(chance)
    args, kwargs = [], {}
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.VAR_POSITIONAL:
            args += [tensor_like(chance, base) for _ in range(chance.randrange(3))]
            continue
        if each.kind is each.VAR_KEYWORD:
            continue
        needed = each.default is each.empty
        if not needed and chance.random() > 0.15:
            continue
        if chance.random() < odd:
            value = absurd(chance)
        elif each.name in ARRAYS:
            value = tensor_like(chance, base)
            if each.name in ("xs", "elems", "operands", "arrays") or (
                name in ("concatenate", "stack") and each.name == "x"
            ):
                value = [value, tensor_like(chance, base)]
        elif each.name in INTEGERS:
            value = tensor_like(chance, base, integers=True)
        else:
            value = named(chance, each.name, odd)
        if callable(value) and "Callable" in str(each.annotation):
            value = passed(value)
        if needed and each.kind is not each.KEYWORD_ONLY:
            args.append(value)
        else:
            kwargs[each.name] = value
    if name == "while_loop":  # a condition of the case may be true for ever
        kwargs["maximum_iterations"] = 3
    say(f"{space}.{name}(*{described(args)}, **{described(kwargs)})")
    given = [each for each in (*args, *kwargs.values()) if isinstance(each, np.ndarray) and each.dtype.kind in "fiub"]
    before = [each.copy() for each in given]
    function(*args, **kwargs)
    for each, copy in zip(given, before, strict=True):
        if not np.array_equal(each, copy, equal_nan=each.dtype.kind == "f"):
            raise Fault("changes its argument")


def changed_case(chance, say):
    """An op with inputs that it accepts, one of them replaced or of another shape, dtype or layout."""
    name, (function, arrays) = ORDERS[chance.randrange(len(ORDERS))]
    given = [np.asarray(each) for each in arrays]
    given = [each.astype("float32") if each.dtype == np.float64 else each for each in given]
    if given and chance.random() < 0.9:
        at = chance.randrange(len(given))
        kind = chance.randrange(6)
        if kind == 0:
            given[at] = tensor_like(chance, given[at].shape)
        elif kind == 1:
            given[at] = array(chance)
        elif kind == 2 and given[at].ndim:
            given[at] = given[at][..., :0]
        elif kind == 3 and given[at].ndim:
            given[at] = given[at][::-1]
        elif kind == 4 and given[at].dtype.kind in "iu":
            given[at] = given[at] + chance.choice([-1, 1, 5, -5, 1000, 2**31 - 9])
        else:
            given[at] = array(chance, given[at].shape)
    say(f"the case {name} of tests/reference/order_cases.py with {described(given)}")
    if chance.random() < 0.25 and all(isinstance(each, np.ndarray) and each.dtype.kind in "fiub" for each in given):
        say("and its gradient")
        with keras.GradientTape() as tape:
            tensors = [as_tensor(each) for each in given]
            for each in tensors:
                tape.watch(each)
            result = function(*tensors)
            floats = [
                each for each in keras.tree.flatten(result) if isinstance(each, Tensor) and each.dtype.kind == "f"
            ]
            loss = sum((ops.sum(each) for each in floats), as_tensor(0.0))
        tape.gradient(loss, tensors)
        return
    function(*given)


# -------------------- compared with NumPy --------------------

UNARY = (
    "abs square sqrt exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh sign floor ceil "
    "trunc negative reciprocal isnan isinf isfinite logical_not rint cbrt exp2 fabs signbit deg2rad rad2deg"
).split()
FLOATS = (
    "sqrt exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh cbrt exp2 deg2rad rad2deg"
).split()
BINARY = (
    "add subtract multiply maximum minimum floor_divide mod fmod arctan2 hypot equal not_equal less less_equal greater "
    "greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift right_shift gcd lcm "
    "true_divide power logaddexp copysign heaviside"
).split()
REDUCE = "sum prod max min mean std var all any argmax argmin median nansum nanmax nanmin nanmean count_nonzero".split()
AXIS = "cumsum cumprod sort argsort flip diff".split()


def numbers(value):
    return np.asarray(value.numpy() if isinstance(value, Tensor) else value)


def same(name, result, expected, tolerance=2e-4):
    """Fault unless a result is NumPy's, but for rounding and for what does not fit into the result's dtype."""
    result, expected = numbers(result), np.asarray(expected)
    if result.shape != expected.shape:
        raise Fault(f"{name}: shape {result.shape}, NumPy's is {expected.shape}")
    if expected.dtype.kind == "f" or result.dtype.kind == "f":
        with np.errstate(all="ignore"):
            mine, wanted = result.astype("float64"), expected.astype("float64")
            limit = np.finfo(result.dtype).max if result.dtype.kind == "f" else 2.0**31
            fine = np.isclose(mine, wanted, rtol=tolerance, atol=tolerance, equal_nan=True) | (
                np.abs(wanted) >= limit * 0.99
            )
            fine |= np.abs(mine) >= limit * 0.99
    elif result.dtype.kind == "b" or expected.dtype.kind == "b":
        fine = result.astype(bool) == expected.astype(bool)
    else:
        bits = min(result.dtype.itemsize, expected.dtype.itemsize) * 8
        fine = np.asarray((result.astype(object) - expected.astype(object)) % 2**bits == 0)
    if not np.all(fine):
        raise Fault(f"{name}: {str(result)[:150]}, NumPy's are {str(expected)[:150]}".replace("\n", " "))


def real_array(chance, base, integers=False):
    while True:
        values = array(chance, base, integers, odd=0.1)
        if values.dtype.kind in "fiub" and values.dtype.itemsize <= 8 and values.dtype != np.float16:
            return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def wide(values, floats=False):
    """The numbers in float64 if they are floats; with `floats` integers too, rounded as ops round them."""
    if floats and values.dtype.kind != "f":
        values = values.astype("float32")
    return values.astype("float64") if values.dtype == np.float32 else values


def compare(chance, say):
    kind = chance.random()
    base = shape(chance)
    if kind < 0.25:
        name = any_of(chance, UNARY)
        x = real_array(chance, base)
        say(f"ops.{name}({described(x)})")
        result = getattr(ops, name)(x)
        if np.asarray(x).size and not (x.dtype.kind in "iub" and name in ("reciprocal", "negative", "sign")):
            same(name, result, getattr(np, name)(wide(x, name in FLOATS)))
    elif kind < 0.5:
        name = any_of(chance, BINARY)
        integer = name in ("gcd", "lcm") or "shift" in name or "bitwise" in name
        x, y = (real_array(chance, base, integer) for _ in range(2))
        say(f"ops.{name}({described(x)}, {described(y)})")
        result = getattr(ops, name)(x, y)
        if x.dtype == y.dtype or (x.dtype.kind == y.dtype.kind == "f"):
            shifts = "shift" in name and np.any((y < 0) | (y >= 8 * x.dtype.itemsize))
            # a quotient that is nearly an integer
            near = name in ("floor_divide", "mod", "fmod") and x.dtype.kind == "f"
            if not shifts and not near and x.dtype.kind != "b":
                wanted = getattr(np, name)(wide(x), wide(y))
                if wanted.dtype == np.float16:  # NumPy's type for small integers; three digits are no reference
                    wanted = getattr(np, name)(x.astype("float64"), y.astype("float64"))
                same(name, result, wanted)
    elif kind < 0.65:
        name = any_of(chance, REDUCE)
        x, axis, keep = real_array(chance, base), named(chance, "axis", 0.03), chance.random() < 0.3
        if name in ("argmax", "argmin"):
            axis = axis if not isinstance(axis, tuple) else next(iter(axis), None)
        axis = tuple(axis) if isinstance(axis, list) else axis
        options = {"axis": axis} if name in ("median", "count_nonzero") else {"axis": axis, "keepdims": keep}
        say(f"ops.{name}({described(x)}, **{described(options)})")
        result = getattr(ops, name)(x, **options)
        usual = not np.issubdtype(x.dtype, np.floating) or np.all(np.isfinite(x) & (np.abs(x) < 1e10))
        if usual and x.size:
            same(name, result, getattr(np, name)(wide(x), **options), 2e-3)
    elif kind < 0.75:
        name = any_of(chance, AXIS)
        x, axis = real_array(chance, base), chance.choice([0, -1, 1, 2, None, -3, 2**40, 1.0])
        say(f"ops.{name}({described(x)}, axis={axis})")
        result = getattr(ops, name)(x, axis=axis)
        usual = x.dtype.kind != "f" or np.all(np.isfinite(x) & (np.abs(x) < 1e10))
        if usual and name != "argsort":
            same(name, result, getattr(np, name)(wide(x), axis=axis), 2e-3)
        elif usual:
            same(
                name,
                np.take_along_axis(x, numbers(result), axis) if axis is not None else x.ravel()[numbers(result)],
                np.sort(x, axis),
            )
    elif kind < 0.85:
        cast(chance, say)
    else:
        indexed(chance, say)


def cast(chance, say):
    """Casts are NumPy's where the number fits, and never give another number that fits."""
    x = real_array(chance, shape(chance))
    dtype = any_of(
        chance, ["int32", "float32", "float64", "uint8", "int8", "int64", "bool", "uint16", "uint32", "int16"]
    )
    way = chance.choice(["cast", "convert_to_tensor", "array"])
    say(f"ops.{way}({described(x)}, {dtype!r})")
    result = numbers(getattr(ops, way)(x, dtype))
    with np.errstate(all="ignore"):
        expected = x.astype(dtype)
        if np.dtype(dtype).kind in "iu" and x.dtype.kind == "f":
            limits = np.iinfo(dtype)
            fits = np.isfinite(x) & (x > float(limits.min) - 1) & (x < float(limits.max))
            result, expected = result[fits], expected[fits]
    if result.dtype != expected.dtype or not np.array_equal(result, expected, equal_nan=expected.dtype.kind == "f"):
        raise Fault(f"{way}: {result}, NumPy's are {expected}"[:400])


def indexed(chance, say):
    """Ops that take positions: a position that does not exist is an error or a row of NaN or zeros, as the op says."""
    rows, columns = chance.choice([1, 2, 3, 5]), chance.choice([1, 2, 3])
    x = np.random.default_rng(chance.randrange(1 << 30)).standard_normal((rows, columns)).astype("float32")
    if chance.random() < 0.3:
        x = (x * 10).astype("int32")
    dtype = chance.choice(["int32", "int32", "int64", "uint8", "int8", "uint32", "float32", "bool"])
    pool = [0, 0, 1, rows - 1, rows - 1, -1, -rows, rows, -rows - 1, 255, 2**31 - 1, 2**32, -(2**31), 2**63 - 1]
    if chance.random() < 0.5:
        pool = pool[:5]
    pick = [any_of(chance, pool) for _ in range(chance.choice([0, 1, 2, 4]))]
    with np.errstate(all="ignore"):
        indices = np.array(pick, "int64").astype(dtype)
    if dtype == "float32" and chance.random() < 0.5:
        indices = indices + np.float32(chance.choice([0.5, np.nan, np.inf]))
    name = chance.choice(
        (
            "take take_along_axis one_hot segment_sum segment_max scatter scatter_update embedding multi_hot getitem "
            "sparse_categorical_crossentropy in_top_k bincount slice repeat top_k sparse_accuracy slice_update "
            "unravel_index"
        ).split()
    )
    say(f"{name} of {described(x)} at {described(indices)}")
    whole = indices.dtype.kind in "iu"
    exact = indices.astype(object)
    valid = whole and all(-rows <= each < rows for each in exact)
    if name in ("take", "getitem"):
        if name == "take":
            result = ops.take(x, indices, axis=0)
        elif chance.random() < 0.5:
            result = as_tensor(x)[as_tensor(indices)]
        else:
            result = as_tensor(x)[indices]
        if indices.dtype.kind == "b":
            return
        if not valid:
            raise Fault(f"{name}: no error for a position that does not exist")
        same(name, result, x[indices.astype("int64")])
    elif name == "take_along_axis":
        if not len(indices):
            return
        at = np.repeat(indices[:, None], columns, 1)
        result = ops.take_along_axis(x, at, axis=0)
        if not valid:
            raise Fault("no error for a position that does not exist")
        same(name, result, np.take_along_axis(x, at.astype("int64"), 0))
    elif name in ("one_hot", "multi_hot"):
        result = getattr(ops, name)(indices, rows)
        if whole:
            hot = np.array([[each == number for number in range(rows)] for each in exact]).reshape(len(indices), rows)
            same(name, result, hot if name == "one_hot" else hot.any(0))
    elif name in ("segment_sum", "segment_max"):
        data = x[np.arange(len(indices)) % rows]
        number = chance.choice([rows, 1, rows + 2])
        result = getattr(ops, name)(data, indices, number)
        expected = np.zeros((number, columns), x.dtype)
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        if name == "segment_max":
            expected[:] = lowest
        for at, row in zip(exact, data, strict=True):
            if 0 <= at < number:
                expected[at] = expected[at] + row if name == "segment_sum" else np.maximum(expected[at], row)
        same(name, result, expected)
    elif name in ("scatter", "scatter_update"):
        values = x[np.arange(len(indices)) % rows]
        if name == "scatter":
            result = ops.scatter(indices[:, None], values, (rows, columns))
            expected = np.zeros_like(x)
        else:
            result, expected = ops.scatter_update(x, indices[:, None], values), x.copy()
        if not valid:
            raise Fault(f"{name}: no error for a position that does not exist")
        for at, row in zip(indices.astype("int64"), values, strict=True):
            expected[at] = expected[at] + row if name == "scatter" else row
        same(name, result, expected)
    elif name == "embedding":
        if x.dtype.kind != "f":
            x = x.astype("float32")
        result = numbers(ops.embedding(indices, x))
        exists = np.array([each == each and abs(each) != np.inf and -rows <= int(each) < rows for each in exact], bool)
        if exact.size and not np.array_equal(np.isnan(result).any(-1), ~exists):
            raise Fault(f"rows {result} for positions that do not exist")
        same(name, result[exists], x[indices[exists].astype("int64")])
    elif name == "sparse_categorical_crossentropy":
        output = np.abs(x[np.arange(len(indices)) % rows].astype("float32")) + 0.1
        result = numbers(ops.sparse_categorical_crossentropy(indices, output))
        for at, loss, row in zip(exact, result, output, strict=True):
            exists = at == at and abs(at) != np.inf and 0 <= int(at) < columns
            if exists != bool(np.isfinite(loss)):
                raise Fault(f"loss {loss} for the class {at} of {columns}")
            if exists and not np.isclose(loss, -np.log(row[int(at)] / row.sum()), rtol=1e-3, atol=1e-4):
                raise Fault(f"loss {loss} for the class {at} of {row}")
    elif name in ("in_top_k", "sparse_accuracy"):
        output = x[np.arange(len(indices)) % rows].astype("float32")
        if name == "in_top_k":
            result, k = numbers(ops.in_top_k(indices, output, 1)), 1
        else:
            result = numbers(metrics.sparse_categorical_accuracy(indices, output))
        for at, hit, row in zip(exact, result, output, strict=True):
            is_top = 0 <= at < columns and row[int(at)] == row.max()
            if name == "sparse_accuracy":  # of equal numbers the first
                is_top = at == row.argmax()
            if whole and bool(hit) != bool(is_top):
                raise Fault(f"{name} is {hit} for the class {at} of {row}")
    elif name == "bincount":
        result = numbers(ops.bincount(indices, minlength=rows))
        if whole and all(0 <= each < 10**6 for each in exact):
            same(name, result, np.bincount(indices.astype("int64"), minlength=rows))
    elif name in ("slice", "slice_update"):
        if not len(indices):
            return
        start, size = indices[0], chance.choice([1, rows, 0, -1, rows + 1])
        if name == "slice":
            result = ops.slice(x, (start, 0), (size, columns))
            first = min(max(int(start), 0), max(rows - size, 0))
            if whole and size >= 0:
                same(name, result, x[first : first + size])
        else:
            result = ops.slice_update(x, (start, 0), x[:1])
            expected = x.copy()
            expected[min(max(int(start), 0), rows - 1)] = x[0]
            same(name, result, expected)
    elif name == "repeat":
        result = ops.repeat(x, indices[:1] if len(indices) else 2, axis=0)
        if len(indices) and whole:
            same(name, result, np.repeat(x, int(indices[0]), 0))
    elif name == "top_k":
        k = int(indices[0]) if len(indices) and whole else 1
        values, at = ops.top_k(x, k)
        same(name, values, -np.sort(-x, -1)[:, :k])
        same(name, np.take_along_axis(x, numbers(at), -1), numbers(values))
    elif name == "unravel_index":
        result = ops.unravel_index(indices, (rows, columns))
        if whole and all(0 <= each < rows * columns for each in exact):
            for mine, wanted in zip(result, np.unravel_index(indices.astype("int64"), (rows, columns)), strict=True):
                same(name, mine, wanted)


def case(chance, say):
    kind = chance.random()
    if kind < 0.45:
        call(chance, say)
    elif kind < 0.6 and ORDERS:
        changed_case(chance, say)
    else:
        compare(chance, say)
