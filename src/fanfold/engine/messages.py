"""What a message may be, and what SQS computes of one: checks, sizes, MD5s. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from fanfold import limits
from fanfold.engine import errors
from fanfold.engine.errors import SqsError

Attribute = Mapping[str, Any]
"""A message attribute as SQS carries it: DataType, and StringValue or BinaryValue (bytes)."""

_ALLOWED: Final = "#x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."
_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*")
_RESERVED: Final = ("aws.", "amazon.")
_TYPE: Final = re.compile(r"(String|Number|Binary)(\.[\w.-]*)?")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_MOST_DIGITS: Final = 38
_SMALLEST: Final = Decimal("1e-128")
_GREATEST: Final = Decimal("1e126")
_TRACE: Final = "AWSTraceHeader"

_decode_strings: Final = msgspec.json.Decoder(dict[str, str]).decode
_decode_all: Final = msgspec.json.Decoder(dict[str, str | tuple[str, str]]).decode


def md5(text: str) -> str:
    """The MD5 of a body, in hexadecimal digits."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, Attribute]) -> str:
    """The MD5 of message attributes: each in the order of names, its parts preceded by their lengths."""
    hashed = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        kind, value = attributes[name]["DataType"], _value(attributes[name])
        for part in (name.encode(), kind.encode()):
            hashed.update(len(part).to_bytes(4, "big") + part)
        hashed.update((b"\2" if _is_binary(kind) else b"\1") + len(value).to_bytes(4, "big") + value)
    return hashed.hexdigest()


def size(body: str, attributes: Mapping[str, Attribute]) -> int:
    """Bytes of a message as SQS counts them: body, and names, types and values of the attributes; checked or not."""
    if not attributes:
        return len(body) if body.isascii() else _length(body)
    of_attributes = sum(
        _length(name) + sum(_length(attribute.get(part)) for part in ("DataType", "StringValue", "BinaryValue"))
        for name, attribute in attributes.items()
    )
    return _length(body) + of_attributes


def encode(attributes: Mapping[str, Attribute]) -> str:
    """Message attributes as they are stored."""
    if not attributes:
        return "{}"
    return msgspec.json.encode({name: _stored(attribute) for name, attribute in attributes.items()}).decode()


def encode_strings(attributes: Mapping[str, str]) -> str:
    """String attributes as they are stored."""
    return msgspec.json.encode(attributes).decode()


def decode(text: str) -> dict[str, dict[str, Any]]:
    """Message attributes as SQS carries them."""
    return {name: _carried(stored) for name, stored in _decode_all(text).items()}


def strings(text: str) -> dict[str, str]:
    """Those of the stored attributes that are Strings."""
    try:
        return _decode_strings(text)
    except msgspec.ValidationError:
        carried = decode(text).items()
    return {name: value["StringValue"] for name, value in carried if value["DataType"].startswith("String")}


def chosen(attributes: Mapping[str, Attribute], names: Iterable[str]) -> dict[str, Attribute]:
    """The attributes that MessageAttributeNames asks for: by name, `prefix.*`, or all with `All`, `*` or `.*`."""
    exact = set(names)
    if exact & {"All", "*", ".*"}:
        return dict(attributes)
    prefixes = tuple(name.removesuffix(".*") for name in exact if name.endswith(".*"))
    return {name: value for name, value in attributes.items() if name in exact or name.startswith(prefixes)}


def check_body(body: str) -> None:
    """Raises SqsError where a body has characters that SQS refuses."""
    bad = limits.unrepresentable(body)
    if bad is not None:
        text = f"{_bad_character(bad)} in the message body, the set of allowed characters is {_ALLOWED}"
        raise SqsError("InvalidMessageContents", text)


def check_attributes(attributes: Mapping[str, Attribute]) -> None:
    """Raises SqsError where message attributes break a rule."""
    if len(attributes) > limits.MAX_ATTRIBUTES:
        said = f"Number of message attributes [{len(attributes)}]"
        raise errors.invalid(f"{said} exceeds the allowed maximum [{limits.MAX_ATTRIBUTES}].")
    for name, attribute in attributes.items():
        _check_name(name)
        _check_value(name, attribute)


def check_system_attributes(attributes: Mapping[str, Attribute]) -> str | None:
    """The trace header among MessageSystemAttributes, the only one that can be sent.

    Raises:
        SqsError: another one, or not a String.
    """
    for name, attribute in attributes.items():
        if name != _TRACE:
            raise errors.invalid(f"Message system attribute name '{name}' is invalid.")
        _check_value(name, attribute)
        if attribute["DataType"] != "String":
            raise errors.invalid(f"The type of message system attribute '{name}' is invalid. It must be String.")
    found: str | None = attributes[_TRACE]["StringValue"] if attributes else None
    return found


def check_id(value: str, parameter: str) -> None:
    """Raises SqsError where a group, deduplication or attempt id breaks its rule."""
    if not limits.is_sqs_id(value):
        reason = f"{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
        raise errors.invalid_value(value, parameter, reason)


def _check_name(name: str) -> None:
    if not name:
        raise errors.invalid("The request must contain non-empty message (user) attribute names.")
    if len(name) > limits.MAX_NAME_LENGTH:
        raise errors.invalid(f"Message (user) attribute name must be shorter than {limits.MAX_NAME_LENGTH} bytes.")
    if name.lower().startswith(_RESERVED):
        told = "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'."
        raise errors.invalid(f"{told} These strings are reserved for internal use.")
    if not _NAME.fullmatch(name):
        can = "Attribute name can contain A-Z, a-z, 0-9, underscore (_), hyphen (-), and period (.) characters."
        raise errors.invalid(f"The message attribute name '{name}' is invalid. {can}")


def _check_value(name: str, attribute: Attribute) -> None:
    if attribute.get("StringListValues") or attribute.get("BinaryListValues"):
        raise errors.invalid("Message attribute list values in SendMessage operation are not supported.")
    kind = attribute.get("DataType") or ""
    _check_type(name, kind)
    given = "BinaryValue" if _is_binary(kind) else "StringValue"
    if not attribute.get(given):
        said = f"Message (user) attribute '{name}' must contain a non-empty value of type"
        raise errors.invalid(f"{said} '{given.removesuffix('Value')}'.")
    if not _is_binary(kind):
        _check_text(name, kind, attribute["StringValue"])


def _check_type(name: str, kind: str) -> None:
    if not kind:
        raise errors.invalid(f"The message attribute '{name}' must contain non-empty message attribute type.")
    if len(kind) > limits.MAX_NAME_LENGTH:
        raise errors.invalid(f"Message (user) attribute type must be shorter than {limits.MAX_NAME_LENGTH} bytes.")
    if not _TYPE.fullmatch(kind):
        use = "You must use only the following supported type prefixes: Binary, Number, String."
        raise errors.invalid(f"The type of message (user) attribute '{name}' is invalid. {use}")


def _check_text(name: str, kind: str, value: str) -> None:
    bad = limits.unrepresentable(value)
    if bad is not None:
        place = f"in the value of message attribute '{name}', the set of allowed characters is"
        raise errors.invalid(f"{_bad_character(bad)} {place} {_ALLOWED}")
    if kind.startswith("Number") and not _is_number(value):
        raise errors.invalid(f"Can't cast the value of message (user) attribute '{name}' to a number.")


def _is_number(value: str) -> bool:
    found = _NUMBER.fullmatch(value)
    if found is None or sum(character.isdecimal() for character in found[1]) > _MOST_DIGITS:
        return False
    number = abs(Decimal(value))
    return number == 0 or _SMALLEST <= number <= _GREATEST


def _bad_character(character: str) -> str:
    return f"Invalid binary character '#x{ord(character):X}' was found"


def _length(part: str | bytes | None) -> int:
    if isinstance(part, str) and not part.isascii():
        return len(part.encode("utf-8", "surrogatepass"))
    return len(part or "")


def _is_binary(kind: str) -> bool:
    return kind.startswith("Binary")


def _value(attribute: Attribute) -> bytes:
    value: bytes = attribute["BinaryValue"] if _is_binary(attribute["DataType"]) else attribute["StringValue"].encode()
    return value


def _stored(attribute: Attribute) -> str | tuple[str, str]:
    kind: str = attribute["DataType"]
    if _is_binary(kind):
        return kind, base64.b64encode(attribute["BinaryValue"]).decode()
    text: str = attribute["StringValue"]
    return text if kind == "String" else (kind, text)


def _carried(stored: str | tuple[str, str]) -> dict[str, Any]:
    if isinstance(stored, str):
        return {"StringValue": stored, "DataType": "String"}
    kind, text = stored
    if _is_binary(kind):
        return {"BinaryValue": base64.b64decode(text), "DataType": kind}
    return {"StringValue": text, "DataType": kind}
