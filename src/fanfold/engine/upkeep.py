"""What has to go: messages that are too old, stocks of queues that are gone, windows that have closed.

Each operation takes a slice, so that none waits for a million deletes; sends and receives take small ones along.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from fanfold import sql
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "messages.sql")


def expire(connection: sqlite3.Connection, queue: Queue, now: int, most: int) -> int:
    """Delete messages that are older than the queue keeps them, the oldest first; answers how many."""
    retention = queue.settings.retention
    if retention is None:
        return 0
    gone = connection.execute(_SQL["expire"], (queue.stock, now - retention, most)).fetchall()
    if queue.fifo:
        for group_id in {group_id for group_id, head in gone if head}:
            promote(connection, queue, group_id, now)
    return len(gone)


def forget(connection: sqlite3.Connection, now: int, most: int) -> None:
    """Forget deduplication ids whose window has closed."""
    connection.execute(_SQL["forget"], (now, most))


def clear(connection: sqlite3.Connection, most: int) -> bool:
    """Clear away what purged and deleted queues left behind; answers whether there may be more."""
    row = connection.execute(_SQL["abandoned"]).fetchone()
    if row is None:
        return False
    if connection.execute(_SQL["clear"], (row[0], most)).rowcount < most:
        connection.execute(_SQL["drop_stock"], (row[0],))
    return True


def has_abandoned(connection: sqlite3.Connection) -> bool:
    """Whether purged or deleted queues left something behind."""
    return connection.execute(_SQL["abandoned"]).fetchone() is not None


def promote(connection: sqlite3.Connection, queue: Queue, group_id: str, now: int) -> None:
    """Make the next message of a FIFO queue's group its head."""
    connection.execute(_SQL["promote"], (queue.stock, group_id, now))
