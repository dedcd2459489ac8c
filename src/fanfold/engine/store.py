"""The rules of a FIFO queue, as operations on a connection. Times are milliseconds since the epoch.

Source of the rules: the Amazon SQS developer guide, and what public suites have recorded of it. An operation runs in a
transaction of its caller's, and runs again from the start if that is rolled back.

The wall clock may step. A group's order is its sequence numbers and knows no clock. What is available is so by its
state: a step back hides nothing, and what became available before the step is served before what comes after it. Leases
and windows end when the wall clock says so: a step back by an hour lengthens those that run by an hour, a step forward
ends them early, as if the hour had passed.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.engine import handles
from fanfold.engine.handles import Handle
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult

_SQL: Final = sql.load("fanfold.engine", "engine.sql")
SCHEMA: Final = tuple(sql.load("fanfold.engine", "schema.sql").values())

_WINDOW: Final = limits.DEDUPLICATION_WINDOW * 1000
_LONGEST: Final = limits.MAX_VISIBILITY * 1000
_AVAILABLE, _LEASED = 0, 1
_EVER: Final = 2**62

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
    state = _LEASED if request.lease > 0 else _AVAILABLE
    given = (_handle(delivery) for delivery in deliveries)
    leased = [(handle.receipt, request.now, state, until, handle.seq) for handle in given]
    connection.executemany(_SQL["lease"], leased)
    return deliveries


def delete(connection: sqlite3.Connection, queue: int, handles: Iterable[str], now: int) -> list[EntryError | None]:
    """Delete messages by receipt handle. A message that is gone already counts as deleted, as on SQS."""
    return [_delete(connection, queue, handle, now) for handle in handles]


def change_visibility(
    connection: sqlite3.Connection, queue: int, changes: Iterable[tuple[str, int]], now: int
) -> list[EntryError | None]:
    """Let each lease end so many milliseconds from now: 0 or more, and at most 12 hours after the receive."""
    return [_change(connection, queue, handle, milliseconds, now) for handle, milliseconds in changes]


def bury(
    connection: sqlite3.Connection, queue: int, burials: Iterable[tuple[str, Message, str]], now: int
) -> list[EntryError | None]:
    """Replace each message, by its handle, with a copy (and that one's MessageId) in the dead letter queue."""
    dead_letter_queue = connection.execute(_SQL["queue"], (queue,)).fetchone()[1]
    errors = []
    for handle, copy, message_id in burials:
        error = _delete(connection, queue, handle, now, gone=handles.lost(f"{handle}: the message does not exist."))
        if error is None:
            _add(connection, dead_letter_queue, copy, message_id, now)
        errors.append(error)
    return errors


def next_ready(connection: sqlite3.Connection, queue: int, now: int) -> int | None:
    """When a message can next be received, not after `now` if one can be already; None where there is none."""
    if connection.execute(_SQL["next_ready"], (queue, _AVAILABLE)).fetchone() is not None:
        return now
    row = connection.execute(_SQL["next_ready"], (queue, _LEASED)).fetchone()
    return row[0] if row else None


def status(connection: sqlite3.Connection, queue: int, now: int) -> QueueStatus:
    """Exact counts. Messages behind a held head count as available, as on SQS."""
    (total,) = connection.execute(_SQL["count"], (queue,)).fetchone()
    held = sum(connection.execute(_SQL["count_held"], (queue, head, _LEASED, now)).fetchone()[0] for head in (0, 1))
    return QueueStatus(messages_available=total - held, messages_in_flight=held, messages_delayed=0)


def peek(connection: sqlite3.Connection, queue: int, limit: int) -> list[tuple[DeadLetter, Mapping[str, str]]]:
    """The oldest messages with their attributes, oldest first, untouched."""
    rows = connection.execute(_SQL["peek"], (queue, limit))
    return [
        (
            DeadLetter(message_id=message_id, receipt_handle="", body=body, receive_count=receive_count),
            _decode_attributes(attributes),
        )
        for message_id, receive_count, body, attributes in rows
    ]


def read(connection: sqlite3.Connection, request: Receive, after: Delivery | None) -> list[Delivery]:
    """The oldest messages, oldest first, those after `after`; untouched, and without a receipt."""
    last = (round(after.sent_at * 1000), _handle(after).seq) if after is not None else (-_EVER, 0)
    rows = connection.execute(_SQL["read"], (request.queue, *last, request.limit))
    return [dataclasses.replace(_delivery(row, request, group_id, ""), receive_count=row[3]) for group_id, *row in rows]


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
    """Those available longest first. What is available since a time to come was so before the clock stepped back."""
    most, now = request.limit + len(seen), request.now
    earlier = _heads(connection, request.queue, _AVAILABLE, (now, _EVER), most)
    due = (*_heads(connection, request.queue, _AVAILABLE, (-_EVER, now), most),
           *_heads(connection, request.queue, _LEASED, (-_EVER, now), most))  # fmt: skip
    return [group_id for _, _, group_id in (*earlier, *sorted(due)) if group_id not in seen][: request.limit]


def _heads(
    connection: sqlite3.Connection, queue: int, state: int, between: tuple[int, int], limit: int
) -> list[tuple[int, int, str]]:
    return connection.execute(_SQL["ready_groups"], (queue, state, *between, limit)).fetchall()


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
            if row[1] != _AVAILABLE and row[2] > request.now:
                return deliveries
            if _received_too_often(row[3], redrive):
                _move(connection, request, group_id, row[0], redrive[1])
            else:
                deliveries.append(_delivery(row, request, group_id, new_receipt()))
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
    connection.execute(_SQL["forget_departures"], (request.now,))
    connection.execute(_SQL["depart"], (seq, request.now + _LONGEST))
    _promote(connection, request.queue, group_id, request.now)


def _promote(connection: sqlite3.Connection, queue: int, group_id: str, now: int) -> None:
    connection.execute(_SQL["promote"], {"queue": queue, "group_id": group_id, "now": now})


def _delivery(row: Sequence[Any], request: Receive, group_id: str, receipt: str) -> Delivery:
    seq, _, _, receive_count, message_id, body, deduplication_id, sent_at, attributes = row
    return Delivery(
        message_id=message_id,
        receipt_handle=str(Handle(request.queue, seq, receipt)),
        body=body,
        group_id=group_id,
        deduplication_id=deduplication_id,
        receive_count=receive_count + 1,
        sent_at=sent_at / 1000,
        received_at=request.now / 1000,
        attributes=_decode_attributes(attributes),
    )


def _handle(delivery: Delivery) -> Handle:
    queue, seq, receipt = delivery.receipt_handle.split(".")
    return Handle(int(queue), int(seq), receipt)


def _delete(
    connection: sqlite3.Connection, queue: int, text: str, now: int, gone: EntryError | None = None
) -> EntryError | None:
    handle = handles.parse(text, queue)
    if isinstance(handle, EntryError):
        return handle
    row = connection.execute(_SQL["delete"], (handle.seq, queue, handle.receipt, now)).fetchone()
    if row is None:
        return handles.expired(text) if _survives(connection, handle) else gone
    if row[1]:
        _promote(connection, queue, row[0], now)
    return None


def _change(connection: sqlite3.Connection, queue: int, text: str, milliseconds: int, now: int) -> EntryError | None:
    handle = handles.parse(text, queue)
    if isinstance(handle, EntryError):
        return handle
    if milliseconds < 0:
        return _out_of_range(milliseconds, f"Must be >= 0 and <= {limits.MAX_VISIBILITY}, if provided.")
    values = {
        "seq": handle.seq,
        "queue": queue,
        "receipt": handle.receipt,
        "until": now + milliseconds,
        "longest": _LONGEST,
        "now": now,
    }
    return None if connection.execute(_SQL["change"], values).rowcount else _unchanged(connection, handle, values)


def _unchanged(connection: sqlite3.Connection, handle: Handle, values: Mapping[str, Any]) -> EntryError:
    """Why a lease's end did not move."""
    holder = handle.seq, handle.queue, handle.receipt, values["now"]
    if connection.execute(_SQL["held"], holder).fetchone():
        limit = f"Total VisibilityTimeout for the message is beyond the limit [{limits.MAX_VISIBILITY} seconds]"
        return _out_of_range(values["until"] - values["now"], limit)
    text = str(handle)
    return handles.expired(text) if _survives(connection, handle) else handles.unavailable(text)


def _survives(connection: sqlite3.Connection, handle: Handle) -> bool:
    """Whether a message that this handle holds no longer is still somewhere: here, or where it was moved to."""
    here = connection.execute(_SQL["exists"], (handle.seq, handle.queue)).fetchone()
    return bool(here or connection.execute(_SQL["departed"], (handle.seq,)).fetchone())


def _out_of_range(milliseconds: int, reason: str) -> EntryError:
    text = f"Value {math.ceil(milliseconds / 1000)} for parameter VisibilityTimeout is invalid. Reason: {reason}"
    return EntryError(code="InvalidParameterValue", text=text)
