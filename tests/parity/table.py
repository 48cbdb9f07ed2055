"""The table of calls in tests/parity/calls: read, evaluated with one Keras, and results compared.

A line is `name: expression, expression`: each expression is a call. `f` is the object of that name in the namespace above it,
`[namespace]`, or `[namespace] on tensorflow` where Keras on TensorFlow gives the result, and not Keras on JAX. A
line that begins with spaces continues the line before it. `name ! reason: expression` is a call whose result of nbkeras
differs from Keras's, for that reason: a documented limit.
"""

import ast
import contextlib
import functools
import importlib
import io
import json
import math
import pathlib
import re
import shutil
import tempfile
import warnings
from typing import Any, NamedTuple

import given
import numpy as np

FOLDER = pathlib.Path(__file__).parent
RELATIVE, OF_LARGEST = 1e-5, 1e-6  # a float may differ by this part of itself, and by this part of the array's largest


class Call(NamedTuple):
    name: str  # "keras.ops.abs"
    expression: str
    limit: str  # the reason why nbkeras's result differs, or ""
    backend: str  # of the Keras that gives the expected result


@functools.cache
def calls() -> tuple[Call, ...]:
    """All calls, in the order of the files."""
    found: list[Call] = []
    for path in sorted((FOLDER / "calls").glob("*.txt")):
        lines: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                lines[-1] += " " + line.strip()
            elif line and not line.startswith("#"):
                lines.append(line)
        namespace, backend = "", "jax"
        for line in lines:
            if line.startswith("["):
                namespace, _, backend = line.removeprefix("[").partition("] on ")
                namespace, backend = namespace.rstrip("]"), backend or "jax"
                continue
            name, _, expressions = line.partition(":")
            name, _, limit = name.partition(" ! ")
            tree = ast.parse(expressions.strip(), mode="eval").body
            for each in tree.elts if isinstance(tree, ast.Tuple) else [tree]:
                found.append(Call(f"{namespace}.{name}", ast.unparse(each), limit.strip(), backend))
    return tuple(found)


@functools.cache
def calls_of(name: str) -> list[Call]:
    """The calls of a name, or of the name that means the same object in Keras."""
    name = stored()["aliases"].get(name, name)
    return [call for call in calls() if call.name == name]


def given_to(keras, call: Call) -> list[tuple[Any, tuple, dict]]:
    """The functions that a call calls, with the arguments that they get, after what the expression does to its arrays."""
    thing, found = find(keras.__name__, call.name), []

    def noted(*args, **kwargs):
        found.append((thing, args, kwargs))
        return thing(*args, **kwargs)

    eval(call.expression, given.names(keras, FOLDER) | {"f": noted})
    return found


def of_arrays(keras, thing, args: tuple, kwargs: dict, kinds: str) -> tuple[Any, list]:
    """A function with its arguments as a function of its arrays of some kinds, and these arrays."""
    leaves = keras.tree.flatten((args, kwargs))
    at = [i for i, x in enumerate(leaves) if isinstance(x, np.ndarray) and x.dtype.kind in kinds and x.ndim]

    def function(*arrays):
        given = dict(zip(at, arrays, strict=True))
        everything = [given.get(i, x) for i, x in enumerate(leaves)]
        given_args, given_kwargs = keras.tree.pack_sequence_as((args, kwargs), everything)
        return thing(*given_args, **given_kwargs)

    return function, [leaves[i] for i in at]


@functools.cache
def stored() -> dict[str, dict[str, Any]]:
    """'results': name -> expression -> the result of real Keras; 'aliases': name -> the name in the table of the same object."""
    return json.loads((FOLDER / "references.json").read_text(encoding="utf-8"))


def find(root: str, name: str):
    """The object of a public name of Keras in the package `root`; None if there is none."""
    path, _, own = name.rpartition(".")
    if root == "nbkeras" and path in ("keras.ops.nn", "keras.ops.numpy"):
        path = "keras.ops"
    try:
        return getattr(importlib.import_module(path.replace("keras", root, 1)), own, None)
    except ImportError:
        return None


def evaluate(root: str, thing, expression: str):
    """The result of an expression in canonical form; that of an exception is its type, with its message."""
    keras = importlib.import_module(root)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="parity-"))
    keras.utils.set_random_seed(1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return canonical(eval(expression, given.names(keras, folder) | {"f": thing}))
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)[:200]}
    finally:
        shutil.rmtree(folder)
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        keras.utils.clear_session(free_memory=False)  # the dtype policy


def canonical(value):
    """A value as JSON: arrays with dtype and shape, tuples and dicts marked, other objects by the name of their class."""
    if isinstance(value, np.float64 | np.int64 | np.bool_ | np.str_):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, given.Config):
        kept = {key: each for key, each in without_numbers(value).items() if each is not None}
        return {"config": {str(key): canonical(each) for key, each in kept.items()}}
    if isinstance(value, dict) and value.get("class_name") == "DTypePolicy":  # nbkeras writes the name
        return value["config"]["name"]
    if isinstance(value, dict):
        return {"dict": {str(key): canonical(each) for key, each in without_numbers(value).items()}}
    if isinstance(value, list | tuple):  # which of them, Keras's backends do not agree on
        return [canonical(each) for each in value]
    if isinstance(value, set | frozenset):
        return {"set": [canonical(each) for each in sorted(value)]}
    if isinstance(value, type) or callable(value) and hasattr(value, "__name__"):
        return {"named": value.__name__}
    if repr(value).startswith("<KerasTensor"):
        return {"symbolic": str(value.dtype), "shape": list(value.shape)}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        dtype = "string" if array.dtype.kind in "OSU" else np.dtype(array.dtype).name
        return {f"{dtype}[{','.join(map(str, array.shape))}]": values_of(array)}
    return {"object": type(value).__name__}


def without_numbers(value: dict) -> dict:
    """A configuration whose name does not depend on how many objects of the class were made before."""
    name = value.get("name")
    return value | {"name": re.sub(r"_\d+$", "", name)} if isinstance(name, str) else value


def values_of(array) -> list:
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    if array.dtype.kind in "OSU":
        return [each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel().tolist()]
    if array.dtype.kind in "biu":
        return array.ravel().tolist()
    return [float(f"{each:.6g}") for each in array.ravel().astype("float64").tolist()]


def difference(found, expected, where: str = "") -> str:
    """How a canonical result differs from the expected one, or ''.

    In a configuration, nbkeras may have more keys than Keras, and lack those that are None.
    """
    as_is = f"{where}: {brief(found)} instead of {brief(expected)}"
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (found, expected))
    if numbers and (type(found) is type(expected) or ".config" in where):
        return "" if close([found], [expected]) else as_is
    if type(found) is not type(expected):
        return as_is
    if isinstance(expected, dict) and next(iter(expected), "").endswith("]"):  # an array: {"float32[2,3]": values}
        same = found.keys() == expected.keys() and close(*found.values(), *expected.values())
        return "" if same else as_is
    if isinstance(expected, dict):
        if re.search(r"\.config(\.dict)?$", where):
            lacking = {key for key in expected.keys() - found.keys() if expected[key] is not None}
            if lacking:
                return f"{where}: without {sorted(lacking)}"
        elif found.keys() != expected.keys():
            return as_is
        pairs = [(f"{where}.{key}", found[key], expected[key]) for key in expected if key in found]
    elif isinstance(expected, list):
        if len(found) != len(expected):
            return as_is
        pairs = [(f"{where}[{n}]", *pair) for n, pair in enumerate(zip(found, expected, strict=True))]
    else:
        return "" if found == expected else as_is
    return next((text for place, *pair in pairs if (text := difference(*pair, place))), "")


def brief(value) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def close(found: list, expected: list) -> bool:
    """Whether numbers are equal, floats up to rounding."""
    if len(found) != len(expected):
        return False
    if not any(isinstance(each, float) for each in expected):
        return found == expected
    largest = max((abs(each) for each in expected if math.isfinite(each)), default=0.0)
    return np.allclose(found, expected, rtol=RELATIVE, atol=OF_LARGEST * largest, equal_nan=True)


def differences(name: str) -> list[str]:
    """How nbkeras's results for the calls of a name differ from Keras's, '' for each that does not."""
    thing = find("nbkeras", name)
    return [_difference(thing, call) for call in calls_of(name)]


@functools.cache
def _difference(thing, call: Call) -> str:
    result = evaluate("nbkeras", thing, call.expression)
    text = difference(result, stored()["results"][call.name][call.expression])
    if call.limit:
        text = "" if text else "there is no difference any more: take the limit out of the table"
    return text and f"{call.name}: {call.expression}: {text}"
