"""Protobuf messages as plain JSON values, and the grades by name."""

import math
import re
from base64 import b64encode
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

GRADES = ("N", "R", "SR", "SSR", "UR")


def plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it: snake_case names, numbers as numbers, enums by name, times as ISO 8601.

    Bytes are base64, and left out where there are none.
    """
    result: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if value == b"":
            continue  # what brings bytes says so by bringing some
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            result[field.name] = {key: _value(inner, item) for key, item in sorted(value.items())}
        elif field.is_repeated:
            result[field.name] = [_value(field, item) for item in value]
        else:
            result[field.name] = _value(field, value)
    return result


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
        return names[value].name.removeprefix(prefix) if value in names else str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()  # as the JSON form of protobuf has them
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no other word for "not a number"
    return value
