"""The gRPC messages, made from a table of their fields: `inference` of the Open Inference Protocol, and `grpc.health.v1`.

The field numbers are those of KServe's grpc_predict_v2.proto and Triton's grpc_service.proto. The two agree, except in
requests to load and unload: KServe has the model's name as field 1, Triton as field 2, after a repository name. `model_of`
reads both. The answers have KServe's fields, which Triton's clients skip.

The messages have their own descriptor pool, so a process may also import generated messages of other packages.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from nbkeras.serving.errors import ServingError

_INFERENCE = """
ServerLiveRequest
ServerLiveResponse: bool live 1
ServerReadyRequest
ServerReadyResponse: bool ready 1
ModelReadyRequest: string name 1; string version 2
ModelReadyResponse: bool ready 1
ServerMetadataRequest
ServerMetadataResponse: string name 1; string version 2; repeated string extensions 3
ModelMetadataRequest: string name 1; string version 2
ModelMetadataResponse: string name 1; repeated string versions 2; string platform 3;
    repeated ModelMetadataResponse.TensorMetadata inputs 4; repeated ModelMetadataResponse.TensorMetadata outputs 5
ModelMetadataResponse.TensorMetadata: string name 1; string datatype 2; repeated int64 shape 3
InferParameter: parameter_choice bool bool_param 1; parameter_choice int64 int64_param 2; parameter_choice string string_param 3;
    parameter_choice double double_param 4; parameter_choice uint64 uint64_param 5
InferTensorContents: repeated bool bool_contents 1; repeated int32 int_contents 2; repeated int64 int64_contents 3;
    repeated uint32 uint_contents 4; repeated uint64 uint64_contents 5; repeated float fp32_contents 6;
    repeated double fp64_contents 7; repeated bytes bytes_contents 8
enum DataType: TYPE_INVALID 0; TYPE_BOOL 1; TYPE_UINT8 2; TYPE_UINT16 3; TYPE_UINT32 4; TYPE_UINT64 5; TYPE_INT8 6;
    TYPE_INT16 7; TYPE_INT32 8; TYPE_INT64 9; TYPE_FP16 10; TYPE_FP32 11; TYPE_FP64 12; TYPE_STRING 13; TYPE_BF16 14
ModelInput: string name 1; DataType data_type 2; repeated int64 dims 4
ModelOutput: string name 1; DataType data_type 2; repeated int64 dims 3
ModelDynamicBatching: repeated int32 preferred_batch_size 1; uint64 max_queue_delay_microseconds 2
ModelSequenceBatching: uint64 max_sequence_idle_microseconds 1
ModelConfig: string name 1; string platform 2; int32 max_batch_size 4; repeated ModelInput input 5;
    repeated ModelOutput output 6; scheduling_choice ModelDynamicBatching dynamic_batching 11;
    scheduling_choice ModelSequenceBatching sequence_batching 13; string backend 17
ModelConfigRequest: string name 1; string version 2
ModelConfigResponse: ModelConfig config 1
ModelInferRequest: string model_name 1; string model_version 2; string id 3; map InferParameter parameters 4;
    repeated ModelInferRequest.InferInputTensor inputs 5;
    repeated ModelInferRequest.InferRequestedOutputTensor outputs 6; repeated bytes raw_input_contents 7
ModelInferRequest.InferInputTensor: string name 1; string datatype 2; repeated int64 shape 3;
    map InferParameter parameters 4; InferTensorContents contents 5
ModelInferRequest.InferRequestedOutputTensor: string name 1; map InferParameter parameters 2
ModelInferResponse: string model_name 1; string model_version 2; string id 3; map InferParameter parameters 4;
    repeated ModelInferResponse.InferOutputTensor outputs 5; repeated bytes raw_output_contents 6
ModelInferResponse.InferOutputTensor: string name 1; string datatype 2; repeated int64 shape 3;
    map InferParameter parameters 4; InferTensorContents contents 5
ModelStreamInferResponse: string error_message 1; ModelInferResponse infer_response 2
ModelRepositoryParameter: parameter_choice bool bool_param 1; parameter_choice int64 int64_param 2;
    parameter_choice string string_param 3; parameter_choice bytes bytes_param 4
RepositoryIndexRequest: string repository_name 1; bool ready 2
RepositoryIndexResponse: repeated RepositoryIndexResponse.ModelIndex models 1
RepositoryIndexResponse.ModelIndex: string name 1; string version 2; string state 3; string reason 4
RepositoryModelLoadRequest: string repository_name 1; string model_name 2; map ModelRepositoryParameter parameters 3
RepositoryModelLoadResponse: string model_name 1; bool isLoaded 2
RepositoryModelUnloadRequest: string repository_name 1; string model_name 2; map ModelRepositoryParameter parameters 3
RepositoryModelUnloadResponse: string model_name 1; bool isUnloaded 2
"""
_HEALTH = """
HealthCheckRequest: string service 1
HealthCheckResponse: HealthCheckResponse.ServingStatus status 1
enum HealthCheckResponse.ServingStatus: UNKNOWN 0; SERVING 1; NOT_SERVING 2; SERVICE_UNKNOWN 3
"""
SERVING, NOT_SERVING = 1, 2
_FIELD = re.compile(r"(?:(repeated|map|\w+_choice) )?([\w.]+) (\w+) (\d+)")
_Field = descriptor_pb2.FieldDescriptorProto


def _add(file: descriptor_pb2.FileDescriptorProto, line: str) -> None:
    """Add a message or an enumeration to a file."""
    name, _, rest = line.removeprefix("enum ").partition(":")
    parts = [part.strip() for part in rest.split(";") if part]
    *owners, name = name.split(".")
    place: Any = file
    for owner in owners:
        messages = place.message_type if place is file else place.nested_type
        place = next(message for message in messages if message.name == owner)
    if line.startswith("enum "):
        enumeration = place.enum_type.add(name=name)
        for part in parts:
            value, number = part.split()
            enumeration.value.add(name=value, number=int(number))
        return
    message = (place.message_type if place is file else place.nested_type).add(name=name)
    for text in parts:
        kind, type_name, field_name, number = _FIELD.fullmatch(text).groups()  # type: ignore[union-attr]
        field = message.field.add(name=field_name, number=int(number), label=_Field.LABEL_OPTIONAL)
        if kind == "map":
            entry = "".join(part.capitalize() for part in field_name.split("_")) + "Entry"
            made = message.nested_type.add(name=entry)
            made.options.map_entry = True
            made.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
            _type(file, made.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), type_name)
            kind, type_name = "repeated", ".".join([*owners, name, entry])
        if kind == "repeated":
            field.label = _Field.LABEL_REPEATED
        elif kind is not None:
            if not message.oneof_decl:
                message.oneof_decl.add(name=kind)
            field.oneof_index = 0
        _type(file, field, type_name)


def _type(file: descriptor_pb2.FileDescriptorProto, field: descriptor_pb2.FieldDescriptorProto, name: str) -> None:
    """Give a field its type: a scalar, or the name of a message or an enumeration of the file."""
    scalar = f"TYPE_{name.upper()}"
    if scalar in _Field.Type.keys():
        field.type = _Field.Type.Value(scalar)
    else:
        field.type_name = f".{file.package}.{name}"  # the pool determines which of the two it is


def _file(package: str, table: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"nbkeras/{package}.proto", package=package, syntax="proto3")
    for line in table.replace("\n    ", " ").strip().splitlines():
        _add(file, line)
    return file


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file("inference", _INFERENCE))
    pool.Add(_file("grpc.health.v1", _HEALTH))
    return pool


POOL = _pool()


# -------------------- the memory for reading a message --------------------

MOST_FIELDS = 1 << 20  # of a request; larger ones must use raw_input_contents
_FIELD_COST = 200  # bytes of memory for a field besides its content; encoded it has at least 2 bytes
# memory for each encoded byte: of strings, and of numbers by their encoding
_TEXT, _VARINTS, _SHAPE, _FIXED = (5, 40, 64, 8)

# The fields of a ModelInferRequest: for a message its fields, for others the memory for each encoded byte, if not 5.
_PARAMETER: dict[int, Any] = {2: {}}
_CONTENTS = {1: _FIXED, 2: _VARINTS, 3: _VARINTS, 4: _VARINTS, 5: _VARINTS, 6: _FIXED, 7: _FIXED}
_INPUT = {3: _SHAPE, 4: _PARAMETER, 5: _CONTENTS}
_REQUEST = {4: _PARAMETER, 5: _INPUT, 6: {2: _PARAMETER}, 7: 2}


class Unreadable(Exception):
    """The error for bytes that are not a message."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise Unreadable


def fields_of(data: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """(number, content) of each field in a message; the content is None for fields without a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, part = tag & 7, None
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            part = data[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:  # groups, which the protocol does not use
            raise Unreadable
        if at > len(data):
            raise Unreadable
        yield tag >> 3, part


def cost_of(data: bytes) -> int:
    """An upper bound of the memory for reading a ModelInferRequest, objects and arrays together, in bytes.

    An input of 2 bytes takes 50 times its size; raw contents are only copied. Raises Unreadable if the data is not a message,
    or has too many fields.
    """
    left = MOST_FIELDS

    def cost(part: memoryview, inside: dict[int, Any]) -> int:
        nonlocal left
        total = 0
        for number, value in fields_of(part):
            left -= 1
            if left < 0:
                raise ServingError(413, f"the message has more than {MOST_FIELDS} fields: send raw_input_contents")
            total += _FIELD_COST
            if value is not None:
                kind = inside.get(number, _TEXT)
                total += kind * len(value) if type(kind) is int else len(value) + cost(value, kind)
        return total

    return cost(memoryview(data), _REQUEST)


def id_of(data: bytes) -> str:
    """The id of a ModelInferRequest that could not be answered; "" if it is unreadable."""
    try:
        for number, value in itertools.islice(fields_of(memoryview(data)), 64):
            if number == 3 and value is not None and len(value) <= 4096:
                return str(value, "utf-8")
    except (Unreadable, UnicodeDecodeError):
        pass
    return ""


def message(name: str) -> Any:
    """The class of a message, by its full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def parameters_of(entries: Any) -> dict[str, Any]:
    """Parameters as Python values; those without a value are left out."""
    found = {}
    for name, parameter in entries.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            found[name] = getattr(parameter, kind)
    return found


def set_parameters(entries: Any, parameters: dict[str, Any]) -> None:
    """Write Python values as parameters."""
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double"}.get(type(value), "string")
        setattr(entries[name], f"{kind}_param", value if kind != "string" else str(value))


def model_of(request: Any) -> str:
    """The model of a request to load or unload, from a client of Triton or of KServe."""
    return request.model_name or request.repository_name
