"""Handing out messages. Operations on a connection; times are milliseconds since the epoch.

The wall clock may step. A group's order is its sequence numbers and knows no clock. What is available is so by its
state: a step back hides nothing, and what became available before the step is served before what comes after it. Leases
and windows end when the wall clock says so: a step back by an hour lengthens those that run by an hour, a step forward
ends them early, as if the hour had passed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.engine import moving, stocks, upkeep
from fanfold.engine.deferred import Write, at_once
from fanfold.engine.handles import Handle
from fanfold.engine.queues import Queue
from fanfold.engine.stocks import AVAILABLE, DELAYED, LEASED

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_EVER: Final = 2**62
_SLICE: Final = 100
"""Messages whose time has run out that one receive deals with beside those that it looks at."""
_OWN: Final = 13
"""Columns of a message's row, before what `ready` says of its group: `since`, and whether that has more."""
_SINCE: Final = 13
_HAS_MORE: Final = 14
_TURN: Final = itemgetter(_SINCE, 2, 0)
"""When a head's group is served: `since`, the time, and the sequence number."""
_MOST_ASIDE: Final = 1000
"""Messages that one receive may move to the dead letter queue or delete for their age before it answers."""

_BODY: Final = 12
"""The column of a message's body."""
_MOST_BYTES: Final = limits.MAX_REQUEST_BYTES
"""Characters of bodies behind which a receive takes no more messages: SQS may always answer fewer than were asked for,
and ten of the largest, escaped, are more than a server can keep ready for each of many slow clients."""

NewId = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """One receive request: `limit` messages at most, each invisible for `lease` milliseconds."""

    limit: int
    lease: int
    now: int


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was handed out. `receive_count` counts this receive; `attributes` are as they are stored."""

    handle: Handle
    message_id: str
    body: str
    group_id: str
    deduplication_id: str
    receive_count: int
    sent_at: int
    received_at: int
    first_received_at: int
    origin: str | None
    trace: str | None
    attributes: str


def receive(
    connection: sqlite3.Connection,
    queue: Queue,
    request: Receive,
    new_receipt: NewId,
    write: Write | None = None,
) -> list[Received]:
    """Hand out messages; of a FIFO queue as many as can be had from one group, then from the next.

    One receipt serves for all of them: a handle has the message's number as well.
    """
    room = min(request.limit, room_in_flight(connection, queue, request.now))
    picker = _Picker(connection, queue, request.now, room)
    rows = picker.pick()
    if len(rows) < room and upkeep.expire(connection, queue, request.now, _SLICE):
        picker = _Picker(connection, queue, request.now, room)  # what is too old may have held others back
        rows = picker.pick()
    receipt = new_receipt() if rows else ""
    taken = [received(queue, row, receipt, request.now, row[4] + 1) for row in rows]
    if taken:
        _lease(queue, rows, receipt, request, write or at_once(connection), ran_out=picker.ran_out())
    return taken


def next_ready(connection: sqlite3.Connection, queue: Queue, now: int) -> int | None:
    """When a message can next be received, not after `now` if one can be already; None where there is none."""
    if not room_in_flight(connection, queue, now):
        return _earliest(connection, queue, LEASED)
    if _earliest(connection, queue, AVAILABLE) is not None:
        return now
    held = [_earliest(connection, queue, state) for state in (LEASED, DELAYED)]
    if queue.fifo:
        held.append(upkeep.next_expiry(connection, queue))  # the next of its group comes when a held message goes
    return min((at for at in held if at is not None), default=None)


def room_in_flight(connection: sqlite3.Connection, queue: Queue, now: int) -> int:
    """How many messages more may be in flight."""
    held = stocks.counts(connection, queue.stock)[1]
    if held + limits.MAX_BATCH_ENTRIES <= limits.MAX_IN_FLIGHT:
        return limits.MAX_IN_FLIGHT - held
    return max(0, limits.MAX_IN_FLIGHT - count_held(connection, queue, LEASED, now))


def count_held(connection: sqlite3.Connection, queue: Queue, state: int, now: int) -> int:
    """How many messages are held in a state beyond now."""
    rows = (connection.execute(_SQL["count_held"], (queue.stock, head, state, now)).fetchone() for head in (0, 1))
    return sum(row[0] for row in rows)


def _earliest(connection: sqlite3.Connection, queue: Queue, state: int) -> int | None:
    row = connection.execute(_SQL["next_ready"], (queue.stock, state)).fetchone()
    return row[0] if row else None


def received(queue: Queue, row: Sequence[Any], receipt: str, now: int, receive_count: int) -> Received:
    """A message's row as it is handed out."""
    seq, _, _, sent_at, _, first, message_id, group_id, deduplication_id, origin, trace, attributes, body = row[:_OWN]
    return Received(
        handle=Handle(queue.id, seq, receipt),
        message_id=message_id,
        body=body,
        group_id=group_id,
        deduplication_id=deduplication_id,
        receive_count=receive_count,
        sent_at=sent_at,
        received_at=now,
        first_received_at=now if first is None else first,
        origin=origin,
        trace=trace,
        attributes=attributes,
    )


def _lease(
    queue: Queue,
    rows: Sequence[Sequence[Any]],
    receipt: str,
    request: Receive,
    write: Write,
    *,
    ran_out: int,
) -> None:
    held = request.lease > 0
    values = {
        "receipt": receipt,
        "now": request.now,
        "state": LEASED if held else AVAILABLE,
        "until": request.now + request.lease if held or queue.fifo else 0,
        "seqs": sql.listed([row[0] for row in rows]),
    }
    write("lease", [values])
    stocks.count(write, queue.stock, leased=(len(rows) if held else 0) - ran_out)


class _Picker:
    """Picks the messages of one receive; those received too often move away, and those too old are deleted."""

    def __init__(self, connection: sqlite3.Connection, queue: Queue, now: int, room: int) -> None:
        self._connection = connection
        self._queue = queue
        self._now = now
        self._room = room
        self._aside = 0
        self._rows: list[Sequence[Any]] = []
        self._size = 0
        retention = queue.settings.retention
        self._oldest = -_EVER if retention is None else now - retention
        self._most_receives = _EVER if queue.target is None else (queue.max_receive_count or _EVER)

    def pick(self) -> list[Sequence[Any]]:
        """The messages' rows."""
        if self._queue.fifo:
            self._from_groups()
        else:
            self._loose()
        return self._rows

    def _from_groups(self) -> None:
        """Of a FIFO queue: group by group, each from the head up to the first message that is held."""
        seen: set[str] = set()
        # More than one round only where a group gave less than one message: its own were set aside.
        while self._wants_more() and (heads := self._heads(seen)):
            for row in heads:
                if not self._wants_more():
                    break
                self._take(row)
                if row[_HAS_MORE]:
                    self._from_group(row[7], row[0])
            seen.update([row[7] for row in heads])

    def _loose(self) -> None:
        """Of a standard queue: the oldest available ones."""
        for state in (LEASED, DELAYED):
            matured = self._connection.execute(_SQL["mature"], (self._queue.stock, state, self._now, _SLICE)).rowcount
            stocks.count(at_once(self._connection), self._queue.stock, leased=-matured if state == LEASED else 0)
        for page in self._pages("loose"):
            for row in page:
                if self._wants_more():
                    self._take(row)

    def ran_out(self) -> int:
        """How many of the picked messages are counted as leased: their leases have ended, and nobody has freed them."""
        if not self._aside:
            return [row[1] for row in self._rows].count(LEASED)
        # What made room for one has freed it, after its row was read.
        seqs = sql.listed([row[0] for row in self._rows])
        return int(self._connection.execute(_SQL["count_leased"], (seqs,)).fetchone()[0])

    def _from_group(self, group_id: str, after: int) -> None:
        for page in self._pages("of_group", group_id, after=after):
            for row in page:
                if not self._wants_more() or (row[1] != AVAILABLE and row[2] > self._now):
                    return
                self._take(row)

    def _pages(self, statement: str, *of: str, after: int = 0) -> Iterator[list[Sequence[Any]]]:
        last, full = after, True
        while full and self._wants_more():
            room = self._room - len(self._rows)
            rows = self._connection.execute(_SQL[statement], (self._queue.stock, *of, last, room)).fetchall()
            if rows:
                yield rows
                last = rows[-1][0]
            full = len(rows) == room

    def _take(self, row: Sequence[Any]) -> None:
        if row[3] <= self._oldest:
            self._aside += 1
            moving.remove(self._connection, self._queue, row[0], row[7], self._now)
        elif row[4] >= self._most_receives:
            self._aside += 1
            moving.set_aside(self._connection, self._queue, row[0], row[7], self._now)
        else:
            self._rows.append(row)
            self._size += len(row[_BODY])

    def _wants_more(self) -> bool:
        return len(self._rows) < self._room and self._size < _MOST_BYTES and self._aside < _MOST_ASIDE

    def _heads(self, seen: set[str]) -> list[Sequence[Any]]:
        """Of groups not yet seen, those available longest first.

        What is so since a time to come was so before the clock stepped back.
        """
        most = self._room - len(self._rows) + len(seen)
        values = {"stock": self._queue.stock, "now": self._now, "most": most}
        heads = self._connection.execute(_SQL["ready"], values).fetchall()
        heads.sort(key=_TURN)
        return [row for row in heads if row[7] not in seen][: self._room]
