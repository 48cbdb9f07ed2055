"""The gRPC messages of open_inference.proto and of the standard services for health and reflection, and the cost of reading them.

The messages have their own descriptor pool, so a process may also import generated messages of other packages.
"""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from nbkeras.serving.budget import FIELD_COST, FIXED_COST, MAX_FIELDS, SHAPE_COST, TEXT_COST, VARINTS_COST
from nbkeras.serving.errors import ServingError, refused

POOL = descriptor_pool.DescriptorPool()
for _file in (
    importlib.resources.files("nbkeras.serving").joinpath("open_inference.binpb").read_bytes(),
    health_pb2.DESCRIPTOR.serialized_pb,
    reflection_pb2.DESCRIPTOR.serialized_pb,
):
    POOL.AddSerializedFile(_file)


# -------------------- the memory for reading a message --------------------

# The fields of a ModelInferRequest: for a message its fields, for others the memory for each encoded byte, if not 5.
_PARAMETER: dict[int, Any] = {2: {}}
_CONTENTS = dict.fromkeys((1, 6, 7), FIXED_COST) | dict.fromkeys((2, 3, 4, 5), VARINTS_COST)
_INPUT = {3: SHAPE_COST, 4: _PARAMETER, 5: _CONTENTS}
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

    An input of 2 bytes takes 50 times its size; raw contents are only copied. Raises ServingError if the data is not a message,
    or has too many fields.
    """
    left = MAX_FIELDS

    def cost(part: memoryview, inside: dict[int, Any]) -> int:
        nonlocal left
        total = 0
        for number, value in fields_of(part):
            left -= 1
            if left < 0:
                raise ServingError(413, f"the message has more than {MAX_FIELDS} fields: send raw_input_contents")
            total += FIELD_COST
            if value is not None:
                kind = inside.get(number, TEXT_COST)
                total += kind * len(value) if type(kind) is int else len(value) + cost(value, kind)
        return total

    try:
        return cost(memoryview(data), _REQUEST)
    except Unreadable:
        raise _no_message("inference.ModelInferRequest") from None


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


def decoded(kind: Any, data: bytes) -> Any:
    """The message that the bytes hold."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise _no_message(kind.DESCRIPTOR.full_name) from None


def _no_message(name: str) -> ServingError:
    return refused(f"the bytes are not a message {name}")


def parameters_of(entries: Any) -> dict[str, Any]:
    """Parameters as Python values; those without a value are left out."""
    kinds = {name: entry.WhichOneof("parameter_choice") for name, entry in entries.items()}
    return {name: getattr(entries[name], kind) for name, kind in kinds.items() if kind is not None}


def set_parameters(entries: Any, parameters: dict[str, Any]) -> None:
    """Write Python values as parameters."""
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double"}.get(type(value), "string")
        setattr(entries[name], f"{kind}_param", value if kind != "string" else str(value))


def model_of(request: Any) -> str:
    """The model of a request to load or unload, from a client of Triton or of KServe, whose fields differ."""
    return request.model_name or request.repository_name
