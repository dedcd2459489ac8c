"""What ReceiveMessage answers, as deliveries.

The lean transport leaves a message's attributes as the JSON text that they came as: they cost as much to decode as the
rest of the message, and a worker wants them only of what it buries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypedDict, cast

import msgspec

from fanfold.model import Delivery


class _Message(TypedDict, total=False):
    MessageId: str
    ReceiptHandle: str
    Body: str
    Attributes: dict[str, Any]
    MessageAttributes: msgspec.Raw


class _Answer(TypedDict, total=False):
    Messages: list[_Message] | None


decode: Final[Callable[[bytes], dict[str, Any]]] = cast("Any", msgspec.json.Decoder(_Answer).decode)
"""The answer of ReceiveMessage, of which only that is read which a delivery has. Raises msgspec.MsgspecError."""
_decode_attributes: Final = msgspec.json.Decoder(dict[str, dict[str, Any]] | None).decode


def delivery(message: Mapping[str, Any], now: float) -> Delivery:
    """A message of that answer, or of boto3's, as a delivery that was received at `now`."""
    system = message.get("Attributes") or {}
    attributes = message.get("MessageAttributes") or {}
    return Delivery(
        message_id=message["MessageId"],
        receipt_handle=message["ReceiptHandle"],
        body=message["Body"],
        group_id=system.get("MessageGroupId", ""),
        deduplication_id=system.get("MessageDeduplicationId", ""),
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        received_at=now,
        attributes=_Unread(attributes) if isinstance(attributes, msgspec.Raw) else _strings(attributes),
    )


class _Unread(Mapping[str, str]):
    """String attributes that are decoded when somebody asks for them, each time anew."""

    __slots__ = ("_text",)

    def __init__(self, text: msgspec.Raw) -> None:
        self._text = text.copy()  # which doesn't keep the whole answer in memory

    def __getitem__(self, name: str) -> str:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def _read(self) -> Mapping[str, str]:
        return _strings(_decode_attributes(self._text) or {})


def _strings(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        name: value["StringValue"]
        for name, value in attributes.items()
        if value.get("DataType", "").partition(".")[0] == "String"
    }
