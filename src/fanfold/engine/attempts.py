"""Receives that may be repeated: ReceiveRequestAttemptId. Operations on a connection; times are milliseconds.

A repetition within five minutes gives the same messages with the same handles, and starts their leases anew, as long as
each is still held as it was handed out. Where one was deleted, changed or has become visible again, it is a new
receive.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.engine import receiving
from fanfold.engine.deferred import Write
from fanfold.engine.queues import Queue
from fanfold.engine.receiving import NewId, Receive, Received

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_WINDOW: Final = limits.DEDUPLICATION_WINDOW * 1000

_decode: Final = msgspec.json.Decoder(list[tuple[int, str, int]]).decode


def receive(
    connection: sqlite3.Connection,
    queue: Queue,
    request: Receive,
    attempt: str | None,
    new_receipt: NewId,
    *,
    write: Write | None = None,
) -> list[Received]:
    """Receive, or repeat an earlier receive of that attempt."""
    if attempt is None:
        return receiving.receive(connection, queue, request, new_receipt, write)
    connection.execute(_SQL["forget_attempts"], (request.now,))
    found = _repeated(connection, queue, request, attempt)
    found = found or receiving.receive(connection, queue, request, new_receipt)
    if found and request.lease > 0:
        _note(connection, queue, attempt, found, request)
    return found


def _repeated(connection: sqlite3.Connection, queue: Queue, request: Receive, attempt: str) -> list[Received]:
    noted = connection.execute(_SQL["attempt"], (queue.stock, attempt, request.now)).fetchone()
    handed_out = _decode(noted[0]) if noted else []
    rows = [_still_held(connection, queue, one, request.now) for one in handed_out]
    if None in rows:
        return []
    renewed = [(request.now, request.now + request.lease, seq) for seq, _, _ in handed_out]
    connection.executemany(_SQL["renew"], renewed)
    return [
        receiving.received(queue, row, receipt, request.now, row[4])
        for row, (_, receipt, _) in zip(rows, handed_out, strict=True)
    ]


def _still_held(connection: sqlite3.Connection, queue: Queue, one: tuple[int, str, int], now: int) -> Any:
    """The message's row, unless it was deleted or changed since."""
    seq, receipt, until = one
    row = connection.execute(_SQL["one"], (seq, queue.stock, receipt, now)).fetchone()
    return row if row is not None and row[2] == until else None


def _note(connection: sqlite3.Connection, queue: Queue, attempt: str, found: list[Received], request: Receive) -> None:
    until = request.now + request.lease
    noted = msgspec.json.encode([(message.handle.seq, message.handle.receipt, until) for message in found])
    connection.execute(_SQL["note_attempt"], (queue.stock, attempt, noted.decode(), request.now + _WINDOW))
