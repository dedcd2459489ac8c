"""Dead letters on the wire: a copy of the message whose attributes say why it is there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from fanfold import codec, limits
from fanfold.brokers.protocol import Burial
from fanfold.errors import MalformedMessageError
from fanfold.model import DeadLetter, Delivery, EntryError, Message, Task

REASON: Final = "fanfold_reason"
ERROR_TYPE: Final = "fanfold_error_type"
ATTEMPTS: Final = "fanfold_attempts"
TRACEBACK: Final = "fanfold_traceback"
SOURCE_MESSAGE_ID: Final = "fanfold_source_message_id"

_MAX_REASON: Final = 4_000
_MAX_TRACEBACK: Final = 8_000

_ATTRIBUTE_NAME: Final = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_-](?:[A-Za-z0-9_.-]{0,254}[A-Za-z0-9_-])?")


def burial_copy(burial: Burial) -> Message:
    """The message for the dead letter queue.

    It keeps the group and the deduplication id (another queue, so a repeated burial within five minutes is one copy),
    and the original's attributes as far as ten of them and 1 MiB allow; the reason has precedence, the body above all.
    """
    delivery = burial.delivery
    said = {
        REASON: str(burial.failure)[:_MAX_REASON],
        ERROR_TYPE: burial.failure.type,
        ATTEMPTS: str(burial.attempts),
        SOURCE_MESSAGE_ID: delivery.message_id,
        TRACEBACK: burial.failure.traceback[-_MAX_TRACEBACK:],
    }
    body = delivery.body if burial.body is None else burial.body
    copy = Message(body=body, group_id=delivery.group_id, deduplication_id=delivery.deduplication_id)
    for name, value in (said | {k: v for k, v in delivery.attributes.items() if k not in said}).items():
        fuller = dataclasses.replace(copy, attributes={**copy.attributes, name: _representable(value)})
        if value and len(fuller.attributes) <= limits.MAX_ATTRIBUTES and fuller.size <= limits.MAX_REQUEST_BYTES:
            copy = fuller
    return copy


def letter_of(letter: DeadLetter, attributes: Mapping[str, str]) -> DeadLetter:
    """`letter` with what its attributes and body say; one that can't be read has no task."""
    return dataclasses.replace(
        letter,
        reason=attributes.get(REASON, ""),
        error_type=attributes.get(ERROR_TYPE, ""),
        task=_task(letter.body),
    )


def letter_of_delivery(delivery: Delivery) -> DeadLetter:
    """A dead letter that was received."""
    letter = DeadLetter(
        message_id=delivery.message_id,
        receipt_handle=delivery.receipt_handle,
        body=delivery.body,
        receive_count=delivery.receive_count,
    )
    return letter_of(letter, delivery.attributes)


def refusal(message: Message) -> EntryError | None:
    """Why SQS would refuse a message, or None."""
    for name, value in (("MessageGroupId", message.group_id), ("MessageDeduplicationId", message.deduplication_id)):
        if not limits.is_sqs_id(value):
            return _invalid(f"Value {value!r} for parameter {name} is invalid. Reason: {name} can only include "
                            "alphanumeric and punctuation characters. 1 to 128 in length.")  # fmt: skip
    for text in (message.body, *message.attributes.values()):
        if not text or limits.unrepresentable(text) is not None:
            code = "InvalidMessageContents" if text else "InvalidParameterValue"
            return EntryError(code=code, text="A body or attribute value is empty or has characters that SQS refuses.")
    if len(message.attributes) > limits.MAX_ATTRIBUTES:
        return _invalid(f"Number of message attributes [{len(message.attributes)}] exceeds the allowed maximum [10].")
    for name in message.attributes:
        if not _ATTRIBUTE_NAME.fullmatch(name):
            return _invalid(f"Message attribute name {name!r} is invalid.")
    if message.size > limits.MAX_REQUEST_BYTES:
        return _invalid(f"One or more parameters are invalid. Reason: Message must be shorter than "
                        f"{limits.MAX_REQUEST_BYTES} bytes.")  # fmt: skip
    return None


def _invalid(text: str) -> EntryError:
    return EntryError(code="InvalidParameterValue", text=text)


def _representable(text: str) -> str:
    while (bad := limits.unrepresentable(text)) is not None:
        text = text.replace(bad, "\N{REPLACEMENT CHARACTER}")
    return text


def _task(body: str) -> Task | None:
    try:
        return codec.decode(body)
    except MalformedMessageError:
        return None
