"""The REST form of TensorFlow Serving: JSON with `instances` or `inputs` <-> requests and answers; descriptions of models.

A body gives the values of the inputs alone; names, datatypes and numbers of axes are the model's. In rows, `instances` is a list
of values, or of objects by input; in columns, `inputs` is the value of the only input, or an object by input. Reading and
writing have the signatures of those in tensors.py, whose checks they use.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving import tensors
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.repository import LOADING, READY, UNLOADED, Version, version_order
from nbkeras.serving.requests import InferRequest, InferResponse
from nbkeras.serving.tensors import MAX_VALUES, datatype_of, json_of, shown

SIGNATURE = "serving_default"
_VERB = ":predict"
_STATES = {READY: "AVAILABLE", LOADING: "LOADING"}  # others are END
_TYPES = {"FP16": "DT_HALF", "FP32": "DT_FLOAT", "FP64": "DT_DOUBLE"}  # others keep their name


def target_of(path: str) -> tuple[str | None, str | None] | None:
    """The model and version whose prediction a path asks for; a model of None is the only one. None for other paths."""
    if path == "/predict":
        return None, None
    parts = path.removesuffix(_VERB).split("/")
    if not path.endswith(_VERB) or parts[:3] != ["", "v1", "models"]:
        return None
    if len(parts) == 4:
        return parts[3], None
    return (parts[3], parts[5]) if len(parts) == 6 and parts[4] == "versions" else None


def only_model(index: Sequence[Mapping[str, str]]) -> str:
    """The name of a server's only model, from its index."""
    found = {each["name"] for each in index if each["state"] in _STATES} or {each["name"] for each in index}
    if len(found) == 1:
        return found.pop()
    if not found:
        raise ServingError(404, "this server has no model")
    names = ", ".join(sorted(found)[:20])
    raise refused(f"this server has several models, so use /v1/models/NAME:predict with one of these names: {names}")


# -------------------- requests --------------------


def read_request(request: InferRequest, json_bytes: int | None, model: str, specs: Sequence[TensorSpec]) -> bool:
    """Read the body of a request. Returns whether it is in rows, as its answer will be.

    json_bytes: the value of Inference-Header-Content-Length, which is refused. specs: the model's inputs.
    """
    if json_bytes is not None:
        raise refused("Inference-Header-Content-Length is not offered here; /v2/models/NAME/infer takes binary tensors")
    content = tensors.read_json(request.body)
    if type(content) is not dict:
        raise refused(f"the body must be a JSON object with 'instances' or 'inputs', received {shown(content)}")
    if ("instances" in content) == ("inputs" in content):
        received = "both" if "inputs" in content else shown(list(content))
        raise refused(f"the body must have either 'instances' (rows) or 'inputs' (columns), received {received}")
    if content.get("signature_name", SIGNATURE) != SIGNATURE:
        received = shown(content["signature_name"])
        raise refused(f"'signature_name' must be {SIGNATURE!r}, the only signature, or absent, received {received}")
    in_rows = "instances" in content
    if in_rows:
        columns = _of_rows(model, specs, content["instances"])
    else:
        columns = _by_name(model, specs, "'inputs'", content["inputs"])
    may_hold_booleans = tensors.may_hold_booleans(request.body)
    request.inputs = {spec.name: _array(model, spec, columns[spec.name], may_hold_booleans) for spec in specs}
    request.is_finite = True
    return in_rows


def _of_rows(model: str, specs: Sequence[TensorSpec], rows: Any) -> Mapping[str, Any]:
    """The values of each input from a list with an entry for each row."""
    if type(rows) is not list or not rows:
        raise refused(f"'instances' must be a list with an entry for each row, received {shown(rows)}")
    kinds = {type(row) is dict for row in rows}
    if len(kinds) == 2:
        raise refused("'instances' must be all objects by input or all values, received both")
    if len(specs) == 1 and kinds == {False}:
        return {specs[0].name: rows}
    found = [_by_name(model, specs, "each of 'instances'", row) for row in rows]
    return {spec.name: [row[spec.name] for row in found] for spec in specs}


def _by_name(model: str, specs: Sequence[TensorSpec], where: str, value: Any) -> Mapping[str, Any]:
    """The value of each input from an object by input, or from the value of the only input."""
    is_named, names = type(value) is dict, [spec.name for spec in specs]
    if not is_named and len(specs) == 1:
        return {names[0]: value}
    if is_named and value.keys() == set(names):
        return value
    expected, received = ", ".join(map(repr, names)), shown(list(value) if is_named else value)
    raise refused(f"{where} must be an object with the inputs of model {model!r}, {expected}, received {received}")


def _array(model: str, spec: TensorSpec, data: Any, may_hold_booleans: bool) -> np.ndarray:
    """The array of an input from nested lists, whose first entries say its shape."""
    shape, first = list[int](), data
    while type(first) is list:
        if not first:
            raise refused(f"input {spec.name!r} of model {model!r} holds an empty list at level {len(shape) + 1}")
        shape.append(len(first))
        first = first[0]
    datatype = datatype_of(spec.dtype)
    tensors.check_claim(model, (spec,), {}, spec.name, datatype, shape)
    return tensors.from_json(spec.name, datatype, shape, data, may_hold_booleans)


# -------------------- answers --------------------


def extra_bytes(response: InferResponse, in_rows: bool) -> int:
    """An upper bound of the memory for the names and texts of each row, if an answer in rows has several outputs."""
    if not in_rows or len(response.outputs) == 1:
        return 0
    # escapes such as \u0001 have 6 characters; an answer is held up to three times while it is written
    row = sum(3 * (6 * len(spec.name) + 8) + 100 for spec, _ in response.outputs)
    return row * len(response.outputs[0][1])


def write_response(response: InferResponse, in_rows: bool) -> tuple[bytes, None]:
    """The body of an answer. The second value says that no tensors follow as bytes."""
    if sum(values.size for _, values in response.outputs) > MAX_VALUES:
        raise ServingError(
            413,
            f"an answer in JSON may have at most {MAX_VALUES} values: send fewer rows, or ask /v2/models/NAME/infer "
            "for bytes (binary_data_output)",
        )
    if len(response.outputs) == 1:
        text = json_of(response.outputs[0][1])
    elif in_rows:
        text = b"[" + b",".join(_rows(response.outputs)) + b"]"
    else:
        text = orjson.dumps({spec.name: orjson.Fragment(json_of(values)) for spec, values in response.outputs})
    return b'{"%b":%b}' % (b"predictions" if in_rows else b"outputs", text), None


def _rows(outputs: Sequence[tuple[TensorSpec, np.ndarray]]) -> Iterable[bytes]:
    """An object of outputs for each row, in JSON."""
    entries, columns = [], []
    for spec, values in outputs:
        name, axes = orjson.dumps(spec.name).replace(b"%", b"%%"), values.ndim - 1
        entries.append(name + b":" + b"[" * axes + b"%b" + b"]" * axes)
        # numbers hold no brackets, so those between two rows separate them
        columns.append(json_of(values)[1 + axes : -1 - axes].split(b"]" * axes + b"," + b"[" * axes))
    entry = b"{" + b",".join(entries) + b"}"
    return (entry % row for row in zip(*columns, strict=True))


# -------------------- descriptions of models --------------------


def status_of(index: Iterable[Mapping[str, str]], name: str, version: str | None = None) -> dict[str, Any] | None:
    """The states of a model's versions, newest first, from a server's index; None if there are none."""
    found = [each for each in index if each["name"] == name and version in (None, each["version"])]
    found.sort(key=lambda each: version_order(each["version"]), reverse=True)
    states = []
    for each in found:
        state = _STATES.get(each["state"], "END")
        code = "UNKNOWN" if state == "END" and each["reason"] != UNLOADED else "OK"
        status = {"error_code": code, "error_message": each["reason"]}
        states.append({"version": each["version"], "state": state, "status": status})
    return {"model_version_status": states} if states else None


def metadata_of(model: Version) -> dict[str, Any]:
    """A model's inputs and outputs, as its signature."""
    signature = {
        "inputs": {spec.name: _tensor(spec) for spec in model.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in model.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape]
    datatype = datatype_of(spec.dtype)
    shape = {"dim": dims, "unknown_rank": False}
    return {"dtype": _TYPES.get(datatype, f"DT_{datatype}"), "tensor_shape": shape, "name": spec.name}
