"""Floor 3: converting TensorFlow's ops in models of tf.keras to ops of nbkeras.

tf.keras writes `x + y` and `tf.concat([x, y], axis=-1)` on symbolic tensors as TFOpLambda layers that name a TensorFlow
function, and an index as SlicingOpLambda.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbkeras.engine.annotations import briefly

KINDS = ("TFOpLambda", "SlicingOpLambda")

_TABLE = {  # TensorFlow's module -> its functions, each with nbkeras's name if that differs
    "": "abs add argmax cast clip_by_value:clip concat:concatenate exp expand_dims maximum minimum multiply ones_like "
    "reduce_max:max reduce_mean:mean reduce_min:min reduce_prod:prod reduce_sum:sum reshape round sqrt square squeeze stack "
    "subtract tanh tile transpose where zeros_like",
    "__operators__.": "add getitem",
    "linalg.": "matmul",
    "math.": "abs add argmax argmin ceil cos divide equal erf exp expm1 floor floordiv:floor_divide floormod:mod greater "
    "greater_equal less less_equal log log1p logical_and logical_not logical_or maximum minimum multiply negative not_equal "
    "pow:power reciprocal reduce_all:all reduce_any:any reduce_max:max reduce_mean:mean reduce_min:min reduce_prod:prod "
    "reduce_sum:sum round rsqrt sigmoid sign sin softplus sqrt square subtract tanh truediv:true_divide",
    "nn.": "elu gelu leaky_relu relu relu6 selu sigmoid silu softmax softplus softsign swish:silu tanh",
}
_FUNCTIONS = {}
for _module, _names in _TABLE.items():
    for _name, _, _own in (entry.partition(":") for entry in _names.split()):
        _FUNCTIONS[_module + _name] = _own or _name
_ARGUMENTS = {  # TensorFlow's names -> nbkeras's names
    **{name: name for name in ("axis", "keepdims", "dtype", "approximate")},
    **{"y": "x2", "b": "x2", "shape": "newshape", "perm": "axes", "multiples": "repeats", "alpha": "negative_slope"},
    **{"clip_value_min": "x_min", "clip_value_max": "x_max", "slice_spec": "key"},
}
_DEFAULTS: dict[str, dict[str, Any]] = {  # TensorFlow's defaults that differ from nbkeras's
    **{"gelu": {"approximate": False}, "argmax": {"axis": 0}, "argmin": {"axis": 0}},
}
_WHERE = {"x": "x1", "y": "x2"}


def translated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a layer's entry, with nodes in Keras 3's form, to an op's entry. Raises ValueError for an unknown function."""
    config = entry["config"]
    function = _FUNCTIONS.get(str(config.get("function")).removeprefix("compat.v1."))
    if function is None:
        raise ValueError(
            f"the model has an op of TensorFlow that nbkeras does not know: {briefly(config.get('function'))}"
        )
    op = {"class_name": "Operation", "config": {"function": function, "name": entry["name"]}}
    return {**entry, **op, "inbound_nodes": [_node(function, node) for node in entry["inbound_nodes"]]}


def _node(function: str, node: Mapping[str, Any]) -> dict[str, Any]:
    names = {**_ARGUMENTS, **_WHERE} if function == "where" else _ARGUMENTS
    kwargs = dict(_DEFAULTS.get(function, {}))
    for key, value in node["kwargs"].items():
        if key == "name" or value is None or value is False:  # TensorFlow's defaults
            continue
        if key not in names:
            raise ValueError(
                f"the model calls TensorFlow's {function} with {key}={briefly(value)}, which nbkeras does not know"
            )
        kwargs[names[key]] = _constant(value) if names[key] in ("x1", "x2") else value
    args = [_constant(value) for value in node["args"]]
    if function == "getitem":
        key = kwargs.pop("key")
        items = [_slice(item) for item in (key if isinstance(key, list) else [key])]
        args.append({"class_name": "__tuple__", "items": items})
    return {"args": args, "kwargs": kwargs}


def _constant(value: Any) -> Any:
    """A constant array for lists of numbers; other values unchanged."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    if not isinstance(value, list) or not isinstance(first, int | float):
        return value
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}


def _slice(value: Any) -> Any:
    return {"class_name": "__slice__", "config": value} if isinstance(value, dict) and "start" in value else value
