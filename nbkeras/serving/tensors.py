"""Tensors of the Open Inference Protocol (version 2) <-> arrays: datatypes, JSON data, the binary extension, and their checks.

A request gives the shape and datatype of each input; the data is JSON, flat or nested, or bytes after the JSON. No allocation
depends on a size that a request merely claims, only on the number of received values and bytes. `cost_of_request` bounds the
memory for reading them beforehand.
"""

import functools
import gc
import itertools
import math
import struct
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from nbkeras.engine.strings import characters
from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving.budget import (
    JSON_COST,
    JSON_COSTS,
    MAX_AXES,
    MAX_ID,
    MAX_JSON,
    MAX_TEXT,
    MAX_VALUES,
    PIECE_VALUES,
    STRING_COST,
)
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.requests import InferRequest, InferResponse

DTYPES: dict[str, np.dtype] = {
    **{name.upper(): np.dtype(name) for name in "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64".split()},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype("object"),
}
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_ONLY = {"BYTES": (str, "strings"), "BOOL": (bool, "true or false")}  # datatypes of one kind of JSON values
_STANDARD_SIZES = {"l": "q", "L": "Q"}  # NumPy's codes for 64 bits -> struct's
_PIECE = 1 << 20


def datatype_of(dtype: np.dtype) -> str:
    """The protocol's name for a dtype."""
    if dtype.kind in "OUS":
        return "BYTES"
    try:
        return _DATATYPES[dtype]
    except KeyError:
        raise ValueError(f"the protocol has no datatype for {dtype}") from None


def metadata_of(spec: TensorSpec) -> dict[str, Any]:
    """A tensor in a model's metadata; -1 is any size."""
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": _sizes(spec.shape)}


def configuration_of(spec: TensorSpec) -> dict[str, Any]:
    """A tensor in a model's configuration: Triton's name of the datatype, and the shape without the rows."""
    datatype = datatype_of(spec.dtype).replace("BYTES", "STRING")
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": _sizes(spec.shape[1:])}


def _sizes(shape: Sequence[int | None]) -> list[int]:
    """A shape with -1 for any size."""
    return [-1 if size is None else size for size in shape]


# -------------------- requests --------------------


def read_request(
    request: InferRequest, json_bytes: int | None = None, model: str = "", specs: Sequence[TensorSpec] = ()
) -> bool | dict[str, bool]:
    """Read the body of an HTTP request. Returns whether its answer is binary: for all outputs, or by name.

    json_bytes: the value of Inference-Header-Content-Length, if given; tensors follow the JSON, and 0 means one tensor without
    JSON. specs: the model's inputs; data that does not match them is refused before it is converted.
    """
    body = request.body
    if json_bytes == 0:
        request.inputs = raw_input(specs, body)
        return True
    rest: memoryview | None = None
    head: bytes | bytearray | memoryview = body
    if json_bytes is not None:
        if json_bytes > len(body):
            raise refused(f"Inference-Header-Content-Length is {json_bytes}, but the body has {len(body)} bytes")
        head, rest = memoryview(body)[:json_bytes], memoryview(body)[json_bytes:]
    content = read_json(head)
    if type(content) is not dict:
        raise refused(f"the body must be a JSON object, received {shown(content)}")
    tensors = content.get("inputs")
    if type(tensors) is not list or not tensors:
        raise refused(f"'inputs' must be a list of tensors, received {shown(tensors)}")
    inputs: dict[str, np.ndarray] = {}
    for tensor in tensors:
        name = _name(tensor, "input")
        check_claim(model, specs, inputs, name, tensor.get("datatype"), tensor.get("shape"))
        inputs[name], rest = _input(name, tensor, rest, head)
    if rest:
        raise refused(f"the body has {len(rest)} bytes more than its inputs")
    parameters = _parameters(content, "the request")
    identity = content.get("id")
    if identity is not None:
        check_id(identity)
    is_binary = parameters.get("binary_data_output", False) is True
    request.outputs, binary = _requested_outputs(content.get("outputs"), is_binary)
    request.timeout = timeout_of(parameters)
    request.inputs, request.id, request.parameters, request.is_finite = inputs, identity, parameters, json_bytes is None
    return binary


def cost_of_json(text: bytes | bytearray | memoryview) -> int:
    """An upper bound of the memory for reading JSON, objects and arrays together, by its length and a few characters.

    A string of `[],[],` takes 30 times its length; numbers take 5 to 13 times.
    """
    found = JSON_COST * len(text)
    values = np.frombuffer(text, np.uint8)
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        for character, cost in JSON_COSTS.items():
            found += cost * int(np.count_nonzero(piece == ord(character)))
        if piece.max() > 127:  # one wide character makes all of a string's characters 4 bytes wide
            found += 4 * len(piece)
    return found


def cost_of_request(body: bytes | bytearray, json_bytes: int | None, specs: Sequence[TensorSpec]) -> int:
    """An upper bound of the memory for `read_request` or `raw_input` of a body. Refused if its JSON takes too much."""
    text = body if json_bytes is None else memoryview(body)[:json_bytes]
    found = cost_of_json(text)
    if found > MAX_JSON:
        raise ServingError(
            413,
            f"reading the JSON would take up to {found} bytes (limit: {MAX_JSON}); send large tensors as bytes "
            "(binary_data_size)",
        )
    has_texts = any(spec.dtype.kind == "O" for spec in specs)
    return found + (len(body) - len(text)) * (STRING_COST if has_texts else 1)


def read_json(text: bytes | bytearray | memoryview) -> Any:
    """Parse JSON. The garbage collector pauses, since it would traverse long content again and again."""
    is_long = len(text) > _PIECE and gc.isenabled()
    if is_long:
        gc.disable()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise refused(f"the body is not valid JSON: {error}") from None
    finally:
        if is_long:
            gc.enable()


def check_id(identity: Any) -> None:
    """Refuse a request id that is not a string, or is very long."""
    if type(identity) is not str or len(identity) > MAX_ID:
        received = f"{len(identity)} characters" if type(identity) is str else shown(identity)
        raise refused(f"'id' must be a string of at most {MAX_ID} characters, received {received}")


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout`, given in microseconds, in seconds."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) not in (int, float) or not 0 <= timeout < math.inf:  # NaN fails too
        raise refused(
            f"the parameter 'timeout' must be microseconds, a finite number of at least 0, received {shown(timeout)}"
        )
    return timeout / 1e6 or None  # 0 is no limit


def _requested_outputs(outputs: Any, default: bool) -> tuple[list[str] | None, bool | dict[str, bool]]:
    if outputs is None or outputs == []:
        return None, default
    if type(outputs) is not list:
        raise refused(f"'outputs' must be a list of objects, received {shown(outputs)}")
    binary: dict[str, bool] = {}
    for output in outputs:
        name = _name(output, "output")
        parameters = _parameters(output, f"output {name!r}")
        check_output(name, binary, parameters)
        binary[name] = parameters.get("binary_data", default) is True
    return list(binary), binary


def check_output(name: str, before: Container[str], parameters: Mapping[str, Any]) -> None:
    """Refuse an output that is requested twice, or in a form that is not offered."""
    if name in before:
        raise refused(f"output {name!r:.200} is given twice")
    if parameters.get("classification", 0) != 0:
        raise refused(
            f"output {name!r:.200}: the parameter 'classification' is not offered; leave it out for the numbers"
        )
    check_memory("output", name, parameters)


def check_memory(kind: str, name: str, parameters: Container[str]) -> None:
    """Refuse a tensor in shared memory of the client."""
    if "shared_memory_region" in parameters:
        raise refused(f"{kind} {name!r:.200}: shared memory is not offered")


def _name(tensor: Any, kind: str) -> str:
    if type(tensor) is not dict:
        raise refused(f"each of '{kind}s' must be an object, received {shown(tensor)}")
    name = tensor.get("name")
    if type(name) is not str or not 0 < len(name) <= MAX_ID:
        raise refused(f"each {kind} needs a 'name', a string of at most {MAX_ID} characters, received {shown(name)}")
    return name


def _parameters(content: dict, owner: str) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is not None and type(parameters) is not dict:
        raise refused(f"'parameters' of {owner} must be an object, received {shown(parameters)}")
    return parameters or {}


def _input(name: str, tensor: dict, rest: memoryview | None, head: Any) -> tuple[np.ndarray, memoryview | None]:
    """The array of a checked input, and the rest of the bytes after the JSON."""
    datatype, shape = tensor["datatype"], tensor["shape"]
    parameters = _parameters(tensor, f"input {name!r}")
    check_memory("input", name, parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise refused(f"input {name!r} has neither 'data' nor the parameter 'binary_data_size'")
        return from_json(name, datatype, shape, tensor["data"], may_hold_booleans(head)), rest
    if "data" in tensor:
        raise refused(f"input {name!r} has both 'data' and the parameter 'binary_data_size'")
    if rest is None:
        raise refused(
            f"input {name!r} has 'binary_data_size', but the header Inference-Header-Content-Length is missing"
        )
    if type(size) is not int or not 0 <= size <= len(rest):
        raise refused(
            f"input {name!r}: 'binary_data_size' is {shown(size)}, but {len(rest)} bytes are left in the body"
        )
    return from_bytes(name, datatype, shape, rest[:size]), rest[size:]


def check_shape(name: str, shape: Any) -> None:
    """Refuse a shape that is not a list of sizes. A size of 0 is refused: else other sizes could be huge without data."""
    if type(shape) is list and len(shape) > MAX_AXES:
        raise refused(f"input {name!r:.200}: 'shape' may have at most {MAX_AXES} axes, received {len(shape)}")
    if type(shape) is not list or not all(type(size) is int and size > 0 for size in shape):
        raise refused(f"input {name!r:.200}: 'shape' must be a list of positive integers, received {shown(shape)}")


def may_hold_booleans(text: Any) -> bool:
    """Whether JSON may hold true or false, which a conversion to numbers would accept as 1 and 0."""
    text = bytes(text) if isinstance(text, memoryview) else text
    return text.rfind(b"true") >= 0 or text.rfind(b"false") >= 0  # `in` takes three times as long


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any, booleans: bool = True) -> np.ndarray:
    """The array of JSON data, flat or nested as in the shape. booleans: whether the data may hold some."""
    if type(data) is not list:
        raise refused(f"input {name!r}: 'data' must be a list, received {shown(data)}")
    count = math.prod(shape)
    if data and type(data[0]) is list:
        data = _flat(name, shape, data)
    if len(data) != count:
        raise refused(f"input {name!r}: shape {list(shape)} has {count} values, received {len(data)}")
    dtype = DTYPES[datatype]
    if datatype in _ONLY:
        kind, words = _ONLY[datatype]
        if not set(map(type, data)) <= {kind}:
            raise refused(f"input {name!r}: data of {datatype} must be {words}, received {_odd(data, kind)}")
        return np.array(data, dtype).reshape(shape)
    if booleans and bool in set(map(type, data)):
        raise refused(f"input {name!r}: data of {datatype} must be numbers, received true or false")
    try:
        # struct converts a list of numbers faster than NumPy, and refuses values that are not numbers or do not fit
        made = np.frombuffer(_packer(count, dtype.char)(*data), dtype)
    except (struct.error, OverflowError):
        raise refused(f"input {name!r}: data of {datatype} {_misfit_reason(data, dtype)}") from None
    if dtype.kind == "f" and not np.isfinite(made).all():  # 1e300 becomes an infinite FP32
        raise refused(f"input {name!r}: data of {datatype} {_misfit_reason(data, dtype)}")
    return made.reshape(shape)


@functools.lru_cache(256)
def _packer(count: int, code: str) -> Callable[..., bytes]:
    return struct.Struct(f"={count}{_STANDARD_SIZES.get(code, code)}").pack


def _flat(name: str, shape: Sequence[int], data: list) -> list:
    """Flatten nested lists; each must have the length that the shape says."""
    parts = [data]
    for axis, size in enumerate(shape):
        if set(map(type, parts)) != {list}:
            raise refused(
                f"input {name!r}: nested data must have {len(shape)} levels as the shape {list(shape)}, "
                f"received {_odd(parts, list)} at level {axis}"
            )
        if set(map(len, parts)) != {size}:
            odd = next(len(part) for part in parts if len(part) != size)
            place = f"a list at level {axis + 1}" if axis else "the first axis"
            raise refused(f"input {name!r}: data does not have the shape {list(shape)}: {place} has {odd} values")
        parts = list(itertools.chain.from_iterable(parts)) if axis else data
    if parts and type(parts[0]) is list:
        raise refused(f"input {name!r}: data is nested deeper than the shape {list(shape)}")
    return parts


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: Any) -> np.ndarray:
    """An array that views bytes of the binary extension, little-endian as the protocol says."""
    count, dtype = math.prod(shape), DTYPES[datatype]
    if datatype == "BYTES":
        return _texts(name, shape, count, data)
    if len(data) != count * dtype.itemsize:
        raise refused(
            f"input {name!r}: {datatype} of shape {list(shape)} has {count * dtype.itemsize} bytes, received {len(data)}"
        )
    made = np.frombuffer(data, dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype)
    if datatype == "BOOL" and made.view("uint8").max() > 1:
        raise refused(f"input {name!r}: bytes of BOOL must be 0 or 1, received {made.view('uint8').max()}")
    return made.reshape(shape)


def _texts(name: str, shape: Sequence[int], count: int, data: Any) -> np.ndarray:
    """Strings, each after its length in 4 bytes."""
    if count > MAX_VALUES:
        raise refused(f"input {name!r}: shape {list(shape)} has {count} strings (limit: {MAX_VALUES})")
    found: list[str] = []
    at = 0
    while at < len(data) and len(found) <= count:
        left = len(data) - at - 4
        length = int.from_bytes(data[at : at + 4], "little")
        if length > left:
            said = f"claims {length} bytes, but {left} are left" if left >= 0 else "has no length in 4 bytes before it"
            raise refused(f"input {name!r}: string {len(found)} {said}")
        found.append(text_of(name, data[at + 4 : at + 4 + length]))
        at += 4 + length
    if len(found) != count:
        raise refused(f"input {name!r}: shape {list(shape)} has {count} strings, received {len(found)}")
    return array_of_texts(found, shape)


def array_of_texts(texts: Sequence[str], shape: Sequence[int]) -> np.ndarray:
    """The array of a BYTES input."""
    return np.array(texts, object).reshape(shape)


def text_of(name: str, data: Any) -> str:
    """The string of a BYTES element."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise refused(f"input {name!r}: a string is not UTF-8: {error.reason} at byte {error.start}") from None


def raw_input(specs: Sequence[TensorSpec], body: Any) -> dict[str, np.ndarray]:
    """The inputs of a request whose body is only the bytes of a model's single input (Inference-Header-Content-Length: 0)."""
    if len(specs) != 1:
        names = ", ".join(repr(spec.name) for spec in specs)
        raise refused(f"a body of bytes alone is for models with one input; this one has {names}")
    [spec] = specs
    datatype = datatype_of(spec.dtype)
    if datatype == "BYTES":
        return {spec.name: array_of_texts([text_of(spec.name, body)], (1,) * len(spec.shape))}
    shape = [1, *_sizes(spec.shape[1:])]
    row = math.prod(size for size in shape if size >= 0) * spec.dtype.itemsize
    if shape.count(-1) > 1:
        raise refused(
            f"input {spec.name!r} leaves several sizes open, so a body of bytes alone does not determine its shape"
        )
    if -1 in shape:
        shape[shape.index(-1)] = len(body) // max(row, 1)
    check_shape(spec.name, shape)
    return {spec.name: from_bytes(spec.name, datatype, shape, body)}


# -------------------- checks against the model --------------------


def ordered(model: str, specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray], nan: bool) -> list[np.ndarray]:
    """The arrays of a request in the order of a model's inputs, checked. nan: whether NaN and Infinity are allowed."""
    found: list[np.ndarray] = []
    rows = -1
    for spec in specs:
        name, shape, dtype = spec
        given = inputs.get(name)
        if given is None:
            raise _wrong_names(model, specs, inputs)
        own = given.shape
        if given.dtype != dtype or own[1:] != shape[1:] or not own:
            check_fit(model, spec, given.dtype, own)
        if own[0] != rows:
            if rows >= 0:
                first = specs[0].name
                raise refused(
                    f"input {name!r} has {own[0]} rows, but input {first!r} has {rows}: they must be the same number"
                )
            rows = own[0]
        if dtype.kind == "f" and not nan and not np.isfinite(given).all():
            raise refused(
                f"input {name!r} of model {model!r} holds NaN or Infinity, which this server refuses (allow_nan)"
            )
        found.append(given)
    if len(inputs) != len(specs):
        raise _wrong_names(model, specs, inputs)
    if rows == 0:
        raise refused(f"input {specs[0].name!r} of model {model!r} has no rows: at least one is needed")
    return found


def check_claim(
    model: str, specs: Sequence[TensorSpec], before: Mapping[str, Any], name: str, datatype: Any, shape: Any
) -> None:
    """Refuse an input that is unknown, given twice, or does not match the specs, before its data is converted."""
    if name in before:
        raise refused(f"input {name!r:.200} is given twice")
    if type(datatype) is not str or datatype not in DTYPES:
        raise refused(f"input {name!r:.200}: 'datatype' must be one of {', '.join(DTYPES)}, received {shown(datatype)}")
    check_shape(name, shape)
    if not specs:
        return
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None:
        raise _wrong_names(model, specs, {**before, name: None})
    if DTYPES[datatype] is not spec.dtype or tuple(shape[1:]) != spec.shape[1:]:
        check_fit(model, spec, DTYPES[datatype], shape)


def check_fit(model: str, spec: TensorSpec, dtype: np.dtype, shape: Sequence[int]) -> None:
    """Refuse a dtype or shape that does not match an input."""
    expected, received = datatype_of(spec.dtype), datatype_of(dtype)
    if expected != received:
        raise refused(f"input {spec.name!r} of model {model!r}: expected {expected}, received {received}")
    own = spec.shape
    if len(own) != len(shape) or not all(size is None or size == given for size, given in zip(own, shape, strict=True)):
        raise refused(f"input {spec.name!r} of model {model!r}: expected shape {_sizes(own)}, received {list(shape)}")


def _wrong_names(model: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Any]) -> ServingError:
    names = [spec.name for spec in specs]
    expected = ", ".join(map(repr, names))
    unknown = [name for name in inputs if name not in names]
    if unknown:
        return refused(f"model {model!r} has no input {unknown[0]!r:.200}; its inputs are {expected}")
    missing = ", ".join(repr(name) for name in names if name not in inputs)
    return refused(f"input {missing} of model {model!r} is missing; its inputs are {expected}")


# -------------------- the limits of strings --------------------

# Layers split strings and look them up in Python, so their length decides the time.


def check_texts(model: str, arrays: Sequence[np.ndarray]) -> None:
    """Refuse a request whose strings are very long: layers take about a second for MAX_TEXT characters."""
    count = sum(characters(array) for array in arrays if array.dtype == object)
    if count > MAX_TEXT:
        raise ServingError(
            413,
            f"the strings for model {model!r} have {count} characters together (limit: {MAX_TEXT}): send fewer rows",
        )


# -------------------- answers --------------------


def write_response(response: InferResponse, binary: bool | dict[str, bool]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON if tensors follow as bytes."""
    outputs, parts, left = [], [], MAX_VALUES
    for spec, values in response.outputs:
        entry: dict[str, Any] = {"name": spec.name, "datatype": datatype_of(values.dtype), "shape": list(values.shape)}
        is_binary = binary if type(binary) is bool else binary.get(spec.name, False)  # type: ignore[union-attr]
        left -= 0 if is_binary else values.size
        if left < 0:
            raise ServingError(
                413,
                f"an answer in JSON may have at most {MAX_VALUES} values: ask for bytes (binary_data_output), or "
                "send fewer rows",
            )
        if is_binary:
            data = to_bytes(values)
            entry["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        elif values.dtype.kind == "O":
            entry["data"] = values.ravel().tolist()
        else:
            flat = np.ascontiguousarray(values).reshape(-1)
            entry["data"] = flat if flat.size <= PIECE_VALUES else orjson.Fragment(json_of(flat))
        outputs.append(entry)
    content: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id is not None:
        content["id"] = response.id
    if response.parameters:
        content["parameters"] = response.parameters
    content["outputs"] = outputs
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def json_of(values: np.ndarray) -> bytes:
    """An array in JSON, written in pieces, so that other threads can run."""
    if values.size <= PIECE_VALUES:
        return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    rows = PIECE_VALUES // values[0].size
    if rows:
        pieces = [json_of(values[at : at + rows])[1:-1] for at in range(0, len(values), rows)]
    else:
        pieces = [json_of(row) for row in values]
    return b"[" + b",".join(pieces) + b"]"


def to_bytes(values: np.ndarray) -> bytes:
    """The bytes of an array in the binary extension."""
    if values.dtype.kind != "O":
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel()]
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


# -------------------- messages --------------------


def shown(value: Any) -> str:
    """A JSON value for a message, shortened, since a client may send anything."""
    if value is None:
        return "none"
    if isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        if len(parts) <= 16 and not any(isinstance(part, dict | list) or len(str(part)) > 20 for part in parts):
            return repr(value)
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value[:60] + "..." if isinstance(value, str) and len(value) > 60 else value)


def _odd(data: Sequence, allowed: type) -> str:
    return next((shown(value) for value in data if type(value) is not allowed), "another kind of value")


def _misfit_reason(data: Sequence[Any], dtype: np.dtype) -> str:
    """The first value that does not fit a dtype, and why."""
    kinds, words = ((int, float), "numbers") if dtype.kind == "f" else ((int,), "integers")
    high = float(np.finfo(dtype).max) if dtype.kind == "f" else np.iinfo(dtype).max
    low = -high if dtype.kind == "f" else np.iinfo(dtype).min
    for value in data:
        if type(value) not in kinds:
            return f"must be {words}, received {shown(value)}"
        if not low <= value <= high:
            return f"holds {value!r:.40}, which does not fit"
    return "does not fit"  # rounding gave infinity
