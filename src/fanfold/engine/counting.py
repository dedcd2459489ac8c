"""Looking at a queue without touching it. Operations on a connection; times are milliseconds since the epoch."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from fanfold import sql
from fanfold.engine import messages
from fanfold.engine.queues import Queue
from fanfold.engine.receiving import count_held
from fanfold.model import DeadLetter, QueueStatus

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_LEASED, _DELAYED = 1, 2


def status(connection: sqlite3.Connection, queue: Queue, now: int) -> QueueStatus:
    """Exact counts. Messages behind a held head count as available, as on SQS."""
    leased = count_held(connection, queue, _LEASED, now)
    delayed = count_held(connection, queue, _DELAYED, now)
    return QueueStatus(
        messages_available=total(connection, queue) - leased - delayed,
        messages_in_flight=leased,
        messages_delayed=delayed,
    )


def total(connection: sqlite3.Connection, queue: Queue) -> int:
    """How many messages a queue has, in whatever state."""
    count: int = connection.execute(_SQL["counts"], (queue.stock,)).fetchone()[0]
    return count


def peek(connection: sqlite3.Connection, queue: Queue, limit: int) -> list[tuple[DeadLetter, Mapping[str, str]]]:
    """The oldest messages with their String attributes, oldest first, untouched."""
    rows = connection.execute(_SQL["peek"], (queue.stock, limit))
    return [
        (
            DeadLetter(message_id=message_id, receipt_handle="", body=body, receive_count=receive_count),
            messages.strings(attributes),
        )
        for message_id, receive_count, body, attributes in rows
    ]
