"""Dead letters on the wire: a copy of the message whose attributes say why it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from fanfold import codec, limits
from fanfold.brokers.protocol import Burial
from fanfold.errors import MalformedMessageError
from fanfold.model import DeadLetter, Delivery, EntryError, Message, Task

REASON: Final = "fanfold_reason"
ERROR_TYPE: Final = "fanfold_error_type"
ATTEMPTS: Final = "fanfold_attempts"
ORIGIN: Final = "fanfold_origin"
TRACEBACK: Final = "fanfold_traceback"
_OURS: Final = frozenset({REASON, ERROR_TYPE, ATTEMPTS, ORIGIN, TRACEBACK})
_TRACEPARENT: Final = "traceparent"

_MAX_REASON: Final = 4_000
_MAX_TRACEBACK: Final = 8_000

_ATTRIBUTE_NAME: Final = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_-](?:[A-Za-z0-9_.-]{0,254}[A-Za-z0-9_-])?")


class _Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a dead letter was before: one attribute, since a message has room for ten."""

    message_id: str = ""
    group_id: str = ""
    sent_at: float | None = None
    worker: str = ""


def burial_copy(burial: Burial) -> Message:
    """The message for the dead letter queue.

    Its group and its deduplication id are the original's MessageId. As with what SQS moves itself, a repeated burial
    within five minutes is one copy, and two messages that happen to share a deduplication id are two. And as each is a
    group of its own, looking at one hides no other.

    It keeps the original's attributes as far as ten of them and 1 MiB allow; the reason has precedence, the body above
    all.
    """
    delivery = burial.delivery
    origin = _Origin(
        message_id=delivery.message_id, group_id=delivery.group_id, sent_at=delivery.sent_at, worker=burial.worker
    )
    said = {
        REASON: str(burial.failure)[:_MAX_REASON],
        ERROR_TYPE: burial.failure.type,
        ATTEMPTS: str(burial.attempts),
        ORIGIN: msgspec.json.encode(origin).decode(),
        TRACEBACK: burial.failure.traceback[-_MAX_TRACEBACK:],
    }
    body = delivery.body if burial.body is None else burial.body
    copy = Message(body=body, group_id=delivery.message_id, deduplication_id=delivery.message_id)
    return with_attributes(copy, said | original_attributes(delivery.attributes))


def with_attributes(message: Message, attributes: Mapping[str, str]) -> Message:
    """The message with as many of the attributes, in their order, as SQS takes."""
    for name, value in attributes.items():
        fuller = msgspec.structs.replace(message, attributes={**message.attributes, name: _representable(value)})
        if value and len(fuller.attributes) <= limits.MAX_ATTRIBUTES and fuller.size <= limits.MAX_REQUEST_BYTES:
            message = fuller
    return message


def original_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """A dead letter's attributes without those that say why it is one."""
    return {name: value for name, value in attributes.items() if name not in _OURS}


def letter_of(delivery: Delivery) -> DeadLetter:
    """The dead letter that a message of the dead letter queue is. What a body or an attribute doesn't say is empty."""
    attributes, task = delivery.attributes, _task(delivery.body)
    origin = _origin(attributes.get(ORIGIN, "{}"))
    attempts = attributes.get(ATTEMPTS, "")
    return DeadLetter(
        message_id=delivery.message_id,
        receipt_handle=delivery.receipt_handle,
        body=delivery.body,
        receive_count=delivery.receive_count,
        reason=attributes.get(REASON, ""),
        error_type=attributes.get(ERROR_TYPE, ""),
        task=task,
        traceback=attributes.get(TRACEBACK, ""),
        attempts=int(attempts) if attempts.isdecimal() else None,
        enqueued_at=(codec.parsed_timestamp(task.timestamp) if task else None) or origin.sent_at,
        set_aside_at=delivery.sent_at or None,
        worker=origin.worker,
        trace_id=_trace_id(attributes.get(_TRACEPARENT, "")),
        # What SQS moved itself keeps its group and its MessageId.
        group_id=origin.group_id or delivery.group_id,
        source_message_id=origin.message_id or delivery.message_id,
        attributes=original_attributes(attributes),
    )


def letter_message(letter: DeadLetter) -> Message:
    """A dead letter as the message that `letter_of` would read it from: to put an exported one back."""
    origin = _Origin(
        message_id=letter.source_message_id,
        group_id=letter.group_id,
        sent_at=letter.enqueued_at,
        worker=letter.worker,
    )
    said = {
        REASON: letter.reason,
        ERROR_TYPE: letter.error_type,
        ATTEMPTS: "" if letter.attempts is None else str(letter.attempts),
        ORIGIN: msgspec.json.encode(origin).decode(),
        TRACEBACK: letter.traceback,
    }
    copy = Message(body=letter.body, group_id=letter.source_message_id, deduplication_id=letter.source_message_id)
    return with_attributes(copy, said | dict(letter.attributes))


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


def _origin(text: str) -> _Origin:
    try:
        return msgspec.json.decode(text, type=_Origin)
    except msgspec.DecodeError:
        return _Origin()


def _trace_id(traceparent: str) -> str:
    """The trace id of a W3C `traceparent`: version, trace id, span id and flags, by hyphens."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) > 1 else ""
