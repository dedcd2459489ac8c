"""Messages that a request asks to send: what each becomes, and why it may not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fanfold import limits
from fanfold.engine import errors, messages
from fanfold.engine.errors import SqsError
from fanfold.engine.queues import Queue
from fanfold.engine.sending import NewMessage, Sent

_OTHER_TYPE: Final = "The request include parameter that is not valid for this queue type."
_NO_DEDUPLICATION: Final = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
)
_NONE: Final[Mapping[str, Any]] = {}
_BEFORE_ALL_SEQUENCE_NUMBERS: Final = 2**64
"""20 digits from the first one on, and no run of zeros that a tool could take for something else."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it was asked for, its size in bytes, and the MD5s that the answer tells."""

    message: NewMessage
    size: int
    sums: Mapping[str, str]
    batched: bool


def draft(given: Mapping[str, Any], message_id: str, *, trace_header: str | None, entry: str | None = None) -> Draft:
    """The message that a request, or the entry of a batch of that name, asks for.

    Raises:
        SqsError: no queue would take it.
    """
    body: str = given.get("MessageBody") or ""
    if not body:
        raise _no_body(given, entry)
    messages.check_body(body)
    attributes: Mapping[str, Any] = given.get("MessageAttributes") or _NONE
    if attributes:
        messages.check_attributes(attributes)
    system: Mapping[str, Any] = given.get("MessageSystemAttributes") or _NONE
    trace = messages.check_system_attributes(system) if system else None
    group_id, deduplication_id = given.get("MessageGroupId"), given.get("MessageDeduplicationId")
    if group_id is not None:
        messages.check_id(group_id, "MessageGroupId")
    if deduplication_id is not None:
        messages.check_id(deduplication_id, "MessageDeduplicationId")
    delay: int | None = given.get("DelaySeconds")
    message = NewMessage(
        body=body,
        message_id=message_id,
        group_id=group_id or "",
        deduplication_id=deduplication_id,
        attributes=messages.encode(attributes) if attributes else "{}",
        trace=trace or trace_header,
        delay=None if delay is None else delay * 1000,
    )
    sums = {"MD5OfMessageBody": messages.md5(body)}
    if attributes:
        sums["MD5OfMessageAttributes"] = messages.md5_of_attributes(attributes)
    if system:
        sums["MD5OfMessageSystemAttributes"] = messages.md5_of_attributes(system)
    return Draft(message=message, size=messages.size(body, attributes), sums=sums, batched=entry is not None)


def refusal(queue: Queue, draft: Draft) -> SqsError | None:
    """Why this queue doesn't take the message, or None."""
    if draft.size > queue.settings.maximum_size:
        verb = "cannot be validated" if draft.batched and not queue.fifo else "are invalid"
        reason = f"Message must be shorter than {queue.settings.maximum_size} bytes."
        return errors.invalid(f"One or more parameters {verb}. Reason: {reason}")
    return _refusal_fifo(queue, draft) if queue.fifo else _refusal_standard(draft.message)


def answer(queue: Queue, draft: Draft, sent: Sent) -> dict[str, Any]:
    """What SQS tells of a message that was accepted."""
    told = {"MessageId": sent.message_id, **draft.sums}
    if queue.fifo:
        told["SequenceNumber"] = sequence_number(sent.seq)
    return told


def sequence_number(seq: int) -> str:
    """A SequenceNumber: 20 digits, growing."""
    return str(_BEFORE_ALL_SEQUENCE_NUMBERS + seq)


def _no_body(given: Mapping[str, Any], entry: str | None) -> SqsError:
    if entry is None:
        return errors.missing("MessageBody")
    missing = errors.missing(f"{entry}.MessageBody")
    return missing if given.get("MessageBody") is None else SqsError("EmptyValue", missing.message)


def _refusal_fifo(queue: Queue, draft: Draft) -> SqsError | None:
    message = draft.message
    if message.delay:
        return errors.invalid_value(message.delay // 1000, "DelaySeconds", _OTHER_TYPE)
    if not message.group_id:
        missing = errors.missing("MessageGroupId")
        return errors.invalid(missing.message) if draft.batched else missing
    if message.deduplication_id is None and not queue.settings.content_based:
        return errors.invalid(_NO_DEDUPLICATION)
    return None


def _refusal_standard(message: NewMessage) -> SqsError | None:
    if message.deduplication_id is not None:
        return errors.invalid_value(message.deduplication_id, "MessageDeduplicationId", _OTHER_TYPE)
    if message.delay is not None and not 0 <= message.delay <= limits.MAX_DELAY * 1000:
        reason = f"DelaySeconds must be >= 0 and <= {limits.MAX_DELAY}."
        return errors.invalid_value(message.delay // 1000, "DelaySeconds", reason)
    return None
