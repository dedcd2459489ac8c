"""Looking at a queue without touching it. Operations on a connection; times are milliseconds since the epoch."""

from __future__ import annotations

import sqlite3
from typing import Final

from fanfold import sql
from fanfold.engine import receiving, stocks
from fanfold.engine.queues import Queue
from fanfold.engine.receiving import Received, count_held
from fanfold.model import QueueStatus

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_BEFORE_ALL: Final = (-(2**62), 0)


def status(connection: sqlite3.Connection, queue: Queue, now: int) -> QueueStatus:
    """Exact counts. Messages behind a held head count as available, as on SQS."""
    leased = count_held(connection, queue, stocks.LEASED, now)
    delayed = count_held(connection, queue, stocks.DELAYED, now)
    return QueueStatus(
        messages_available=total(connection, queue) - leased - delayed,
        messages_in_flight=leased,
        messages_delayed=delayed,
    )


def total(connection: sqlite3.Connection, queue: Queue) -> int:
    """How many messages a queue has, in whatever state."""
    return stocks.counts(connection, queue.stock)[0]


def read(
    connection: sqlite3.Connection, queue: Queue, limit: int, now: int, *, after: tuple[int, int] | None = None
) -> list[Received]:
    """The oldest messages, oldest first, those after a time of sending and a sequence number; without a receipt."""
    rows = connection.execute(_SQL["read"], (queue.stock, *(after or _BEFORE_ALL), limit))
    return [receiving.received(queue, row, "", now, row[4]) for row in rows]
