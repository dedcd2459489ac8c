"""The rules of a FIFO queue, as operations on a connection. Times are milliseconds since the epoch.

Source of the rules: the Amazon SQS developer guide, and what public suites have recorded of it. An operation runs in a
transaction of its caller's, and runs again from the start if that is rolled back.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult

_SQL: Final = sql.load("fanfold.engine", "engine.sql")
SCHEMA: Final = tuple(sql.load("fanfold.engine", "schema.sql").values())

_WINDOW: Final = limits.DEDUPLICATION_WINDOW * 1000
_LONGEST: Final = limits.MAX_VISIBILITY * 1000

_decode_attributes: Final = msgspec.json.Decoder(dict[str, str]).decode

NewId = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """One receive request: `limit` messages at most, each invisible for `lease` milliseconds."""

    queue: int
    limit: int
    lease: int
    now: int


def create_queue(
    connection: sqlite3.Connection, name: str, now: int, *, dead_letter_queue: int | None, max_receive_count: int | None
) -> int:
    """Create a queue, or set an existing one's redrive policy; answers its id."""
    values = (name, max_receive_count, dead_letter_queue, now)
    found: int = connection.execute(_SQL["create_queue"], values).fetchone()[0]
    return found


def send(
    connection: sqlite3.Connection, queue: int, messages: Sequence[tuple[Message, str]], now: int
) -> list[SendResult]:
    """Add messages, each with the MessageId it gets if it isn't a duplicate."""
    connection.execute(_SQL["forget"], (now, 2 * len(messages) + 10))
    return [_send(connection, queue, message, message_id, now) for message, message_id in messages]


def receive(connection: sqlite3.Connection, request: Receive, new_receipt: NewId) -> list[Delivery]:
    """Hand out messages: as many as can be had from one group, then from the next."""
    redrive = connection.execute(_SQL["queue"], (request.queue,)).fetchone()
    deliveries: list[Delivery] = []
    seen: set[str] = set()
    # More than one round only where a group gave less than one message: its own were received too often, and moved.
    while len(deliveries) < request.limit and (groups := _ready_groups(connection, request, seen)):
        for group_id in groups:
            room = request.limit - len(deliveries)
            deliveries += _receive_group(connection, request, group_id, room, redrive=redrive, new_receipt=new_receipt)
        seen.update(groups)
    until = request.now + request.lease
    leased = [(_receipt(d), request.now, until, _seq(d.receipt_handle)) for d in deliveries]
    connection.executemany(_SQL["lease"], leased)
    return deliveries


def delete(connection: sqlite3.Connection, queue: int, handles: Iterable[str], now: int) -> list[EntryError | None]:
    """Delete messages by receipt handle. A message that is gone already counts as deleted, as on SQS."""
    return [_delete(connection, queue, handle, now) for handle in handles]


def change_visibility(
    connection: sqlite3.Connection, queue: int, changes: Iterable[tuple[str, int]], now: int
) -> list[EntryError | None]:
    """Let each lease end so many milliseconds from now."""
    return [_change(connection, queue, handle, milliseconds, now) for handle, milliseconds in changes]


def bury(
    connection: sqlite3.Connection, queue: int, burials: Iterable[tuple[str, Message, str]], now: int
) -> list[EntryError | None]:
    """Replace each message, by its handle, with a copy (and that one's MessageId) in the dead letter queue."""
    dead_letter_queue = connection.execute(_SQL["queue"], (queue,)).fetchone()[1]
    errors = []
    for handle, copy, message_id in burials:
        gone = not _exists(connection, queue, handle)
        error = _lost(f"{handle}: the message does not exist.") if gone else _delete(connection, queue, handle, now)
        if error is None:
            _add(connection, dead_letter_queue, copy, message_id, now)
        errors.append(error)
    return errors


def next_ready(connection: sqlite3.Connection, queue: int) -> int | None:
    """When a message can next be received (in the past: now); None where there is nothing to wait for."""
    row = connection.execute(_SQL["next_ready"], (queue,)).fetchone()
    return row[0] if row else None


def status(connection: sqlite3.Connection, queue: int, now: int) -> QueueStatus:
    """Exact counts. Messages behind a held head count as available, as on SQS."""
    (total,) = connection.execute(_SQL["count"], (queue,)).fetchone()
    held = sum(connection.execute(_SQL["count_invisible"], (queue, head, now)).fetchone()[0] for head in (0, 1))
    return QueueStatus(messages_available=total - held, messages_in_flight=held, messages_delayed=0)


def peek(connection: sqlite3.Connection, queue: int, limit: int) -> list[tuple[DeadLetter, Mapping[str, str]]]:
    """Some messages with their attributes, oldest first, untouched."""
    rows = sorted(connection.execute(_SQL["peek"], (queue, limit)))
    return [
        (
            DeadLetter(message_id=message_id, receipt_handle="", body=body, receive_count=receive_count),
            _decode_attributes(attributes),
        )
        for _, message_id, receive_count, body, attributes in rows
    ]


def read(connection: sqlite3.Connection, queue: int, limit: int, after: Delivery | None, now: int) -> list[Delivery]:
    """Some messages in the order of group and sequence number, after one of them; untouched and without a receipt."""
    last = (after.group_id, _seq(after.receipt_handle)) if after is not None else ("", 0)
    rows = connection.execute(_SQL["read"], (queue, *last, limit))
    return [dataclasses.replace(_delivery(row, group_id, now, ""), receive_count=row[2]) for group_id, *row in rows]


def _send(connection: sqlite3.Connection, queue: int, message: Message, message_id: str, now: int) -> SendResult:
    known = connection.execute(_SQL["known"], (queue, message.deduplication_id, now)).fetchone()
    if known is not None:
        return SendResult(message_id=known[0], duplicate=True)
    seq = _add(connection, queue, message, message_id, now)
    connection.execute(_SQL["remember"], (seq, queue, message.deduplication_id, message_id, now + _WINDOW))
    return SendResult(message_id=message_id, duplicate=False)


def _add(connection: sqlite3.Connection, queue: int, message: Message, message_id: str, now: int) -> int | None:
    values = {
        "queue": queue,
        "message_id": message_id,
        "group_id": message.group_id,
        "deduplication_id": message.deduplication_id,
        "body": message.body,
        "attributes": msgspec.json.encode(message.attributes).decode(),
        "now": now,
    }
    return connection.execute(_SQL["add"], values).lastrowid


def _ready_groups(connection: sqlite3.Connection, request: Receive, seen: Collection[str]) -> list[str]:
    rows = connection.execute(_SQL["ready_groups"], (request.queue, request.now, request.limit + len(seen)))
    return [group_id for (group_id,) in rows if group_id not in seen]


def _receive_group(
    connection: sqlite3.Connection,
    request: Receive,
    group_id: str,
    room: int,
    *,
    redrive: tuple[int | None, int | None],
    new_receipt: NewId,
) -> list[Delivery]:
    """A group's messages from the head up to the first that is held; those received too often move on the way."""
    deliveries: list[Delivery] = []
    last = 0
    while room > len(deliveries):
        rows = connection.execute(_SQL["of_group"], (request.queue, group_id, last, room - len(deliveries))).fetchall()
        for row in rows:
            if row[1] > request.now:
                return deliveries
            if _received_too_often(row[2], redrive):
                _move(connection, request, group_id, row[0], redrive[1])
            else:
                deliveries.append(_delivery(row, group_id, request.now, new_receipt()))
        if len(deliveries) == room or not rows:
            break
        last = rows[-1][0]
    return deliveries


def _received_too_often(receive_count: int, redrive: tuple[int | None, int | None]) -> bool:
    most, dead_letter_queue = redrive
    return most is not None and dead_letter_queue is not None and receive_count >= most


def _move(connection: sqlite3.Connection, request: Receive, group_id: str, seq: int, target: int | None) -> None:
    connection.execute(_SQL["move"], {"dead_letter_queue": target, "now": request.now, "seq": seq})
    connection.execute(_SQL["remove"], (seq,))
    _promote(connection, request.queue, group_id, request.now)


def _promote(connection: sqlite3.Connection, queue: int, group_id: str, now: int) -> None:
    connection.execute(_SQL["promote"], {"queue": queue, "group_id": group_id, "now": now})


def _delivery(row: Sequence[Any], group_id: str, now: int, receipt: str) -> Delivery:
    seq, _, receive_count, message_id, body, deduplication_id, sent_at, attributes = row
    return Delivery(
        message_id=message_id,
        receipt_handle=f"{seq}.{receipt}",
        body=body,
        group_id=group_id,
        deduplication_id=deduplication_id,
        receive_count=receive_count + 1,
        sent_at=sent_at / 1000,
        received_at=now / 1000,
        attributes=_decode_attributes(attributes),
    )


def _delete(connection: sqlite3.Connection, queue: int, handle: str, now: int) -> EntryError | None:
    seq, _, receipt = handle.partition(".")
    if not seq.isdecimal():
        return _invalid(handle)
    row = connection.execute(_SQL["delete"], (int(seq), queue, receipt, now)).fetchone()
    if row is None:
        return _expired(handle) if _exists(connection, queue, handle) else None
    if row[1]:
        _promote(connection, queue, row[0], now)
    return None


def _change(connection: sqlite3.Connection, queue: int, handle: str, milliseconds: int, now: int) -> EntryError | None:
    seq, _, receipt = handle.partition(".")
    if not seq.isdecimal():
        return _invalid(handle)
    values = {
        "seq": int(seq),
        "queue": queue,
        "receipt": receipt,
        "until": now + milliseconds,
        "longest": _LONGEST,
        "now": now,
    }
    if connection.execute(_SQL["change"], values).rowcount:
        return None
    if _exists(connection, queue, handle):
        return _expired(handle)
    return _lost(
        f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available "
        "for visibility timeout change."
    )


def _exists(connection: sqlite3.Connection, queue: int, handle: str) -> bool:
    seq = handle.partition(".")[0]
    return seq.isdecimal() and connection.execute(_SQL["exists"], (int(seq), queue)).fetchone() is not None


def _seq(handle: str) -> int:
    return int(handle.partition(".")[0])


def _receipt(delivery: Delivery) -> str:
    return delivery.receipt_handle.partition(".")[2]


def _expired(handle: str) -> EntryError:
    return _lost(f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")


def _lost(text: str) -> EntryError:
    return EntryError(code="InvalidParameterValue", text=text, lease_lost=True)


def _invalid(handle: str) -> EntryError:
    text = f'The input receipt handle "{handle}" is not a valid receipt handle.'
    return EntryError(code="ReceiptHandleIsInvalid", text=text, lease_lost=True)
