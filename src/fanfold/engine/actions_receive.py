"""The SQS action ReceiveMessage."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from fanfold import limits
from fanfold.engine import attempts, errors, leases, messages, queues, receiving
from fanfold.engine.deferred import Write, settled
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name, within, without_empty
from fanfold.engine.drafts import sequence_number
from fanfold.engine.polling import Look, Source
from fanfold.engine.queues import Queue
from fanfold.engine.receiving import Receive, Received

_SYSTEM: Final = frozenset(
    (
        "All",
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    )
)
_MOST: Final = limits.MAX_BATCH_ENTRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A receive request, checked: `lease` in milliseconds, `wait` in seconds; None is the queue's."""

    name: str
    limit: int
    lease: int | None
    wait: int | None
    system: frozenset[str]
    attributes: Sequence[str]
    attempt: str | None


async def receive_message(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """ReceiveMessage, waiting as long as the request or the queue says for the first message."""
    wanted = _wanted(request)
    source = Source(
        queue=wanted.name,
        receive=lambda: desk.receive(
            lambda c, write: _look(desk, c, wanted, write), lambda look: _unattended(desk, wanted.name, look)
        ),
        ready_at=lambda: desk.read_messages(lambda c: _ready_at(desk, c, queues.load(c, wanted.name))),
        particular=wanted.attempt is not None,
    )
    return without_empty({"Messages": await desk.polls.receive(source, wanted.wait)})


def give_back(desk: Desk, name: str, handles: Sequence[str]) -> Future[None]:
    """Undo the receive of messages that nobody saw; from any thread."""

    def undo(connection: sqlite3.Connection) -> None:
        queue = queues.find(connection, name)
        if queue is not None:
            leases.take_back(connection, queue, handles, desk.now())

    undone = desk.database.write(settled(undo))
    undone.add_done_callback(lambda _: desk.doorbell.ring(name, len(handles)))
    return undone


def _unattended(desk: Desk, name: str, look: Look[Answer]) -> None:
    if look.found:
        give_back(desk, name, [message["ReceiptHandle"] for message in look.found])


def _wanted(request: Request) -> _Wanted:
    limit = within(request, "MaxNumberOfMessages", 1, _MOST, f"Must be between 1 and {_MOST}, if provided.")
    wait = within(request, "WaitTimeSeconds", 0, limits.MAX_WAIT, _range(limits.MAX_WAIT))
    lease = within(request, "VisibilityTimeout", 0, limits.MAX_VISIBILITY, _range(limits.MAX_VISIBILITY))
    names = (request.get("AttributeNames") or (), request.get("MessageSystemAttributeNames") or ())
    system = frozenset(name for asked in names for name in asked)
    for name in sorted(system - _SYSTEM):
        raise errors.unknown_attribute(name)
    attempt: str | None = request.get("ReceiveRequestAttemptId")
    if attempt is not None:
        messages.check_id(attempt, "ReceiveRequestAttemptId")
    return _Wanted(
        name=queue_name(request),
        limit=limit or 1,
        lease=None if lease is None else lease * 1000,
        wait=wait,
        system=system,
        attributes=request.get("MessageAttributeNames") or (),
        attempt=attempt,
    )


def _range(most: int) -> str:
    return f"Must be >= 0 and <= {most}, if provided."


def _look(desk: Desk, connection: sqlite3.Connection, wanted: _Wanted, write: Write) -> Look[Answer]:
    queue = queues.load(connection, wanted.name)
    lease = queue.settings.visibility if wanted.lease is None else wanted.lease
    request = Receive(limit=wanted.limit, lease=lease, now=desk.now())
    wait = queue.settings.wait / 1000
    patient = (wait if wanted.wait is None else wanted.wait) > 0
    if not queue.fifo and not patient and not receiving.room_in_flight(connection, queue, request.now):
        raise errors.over_limit(f"Too many messages are in flight: {limits.MAX_IN_FLIGHT} is the most.")
    attempt = wanted.attempt if queue.fifo else None  # a standard queue takes no notice
    found = attempts.receive(connection, queue, request, attempt, desk.new_receipt, write=write)
    ready_at = None if found else _ready_at(desk, connection, queue)
    return Look(found=[_told(desk, queue, message, wanted) for message in found], ready_at=ready_at, wait=wait)


def _ready_at(desk: Desk, connection: sqlite3.Connection, queue: Queue) -> float | None:
    ready_at = receiving.next_ready(connection, queue, desk.now())
    return None if ready_at is None else ready_at / 1000


def _told(desk: Desk, queue: Queue, message: Received, wanted: _Wanted) -> Answer:
    answer: Answer = {
        "MessageId": message.message_id,
        "ReceiptHandle": str(message.handle),
        "MD5OfBody": messages.md5(message.body),
        "Body": message.body,
    }
    if wanted.system:
        told = _system(desk, queue, message)
        chosen_system = told if "All" in wanted.system else {k: v for k, v in told.items() if k in wanted.system}
        if chosen_system:
            answer["Attributes"] = chosen_system
    if wanted.attributes and message.attributes != "{}":
        chosen = messages.chosen(messages.decode(message.attributes), wanted.attributes)
        if chosen:
            answer |= {"MessageAttributes": chosen, "MD5OfMessageAttributes": messages.md5_of_attributes(chosen)}
    return answer


def _system(desk: Desk, queue: Queue, message: Received) -> dict[str, str]:
    told: dict[str, Any] = {
        "SenderId": desk.account,
        "SentTimestamp": str(message.sent_at),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(message.first_received_at),
        "MessageGroupId": message.group_id,
        "AWSTraceHeader": message.trace,
        "DeadLetterQueueSourceArn": None if message.origin is None else desk.arn(message.origin),
    }
    if queue.fifo:
        told["MessageDeduplicationId"] = message.deduplication_id
        told["SequenceNumber"] = sequence_number(message.handle.seq)
    return {name: value for name, value in told.items() if value}
