"""What has to go: messages that are too old, stocks of queues that are gone, windows that have closed.

Each operation takes a slice, so that none waits for a million deletes; sends and receives take small ones along.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from fanfold import limits, sql
from fanfold.engine import queues, stocks
from fanfold.engine.deferred import Write, at_once
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "messages.sql")


def expire(connection: sqlite3.Connection, queue: Queue, now: int, most: int) -> int:
    """Delete messages that are older than the queue keeps them, the oldest first; answers how many."""
    retention = queue.settings.retention
    if retention is None or not _has_older(connection, queue, now - retention):
        return 0
    gone = connection.execute(_SQL["expire"], (queue.stock, now - retention, most)).fetchall()
    leased = sum(state == stocks.LEASED for _, _, state in gone)
    write = at_once(connection)
    stocks.count(write, queue.stock, messages=-len(gone), leased=-leased)
    if queue.fifo:
        promote(connection, queue, {group_id: 0 for group_id, head, _ in gone if head}, now, write)
    return len(gone)


def _has_older(connection: sqlite3.Connection, queue: Queue, at: int) -> bool:
    """Whether there is one to delete: to ask costs a seventh of a delete that finds nothing."""
    row = connection.execute(_SQL["oldest"], (queue.stock,)).fetchone()
    return row is not None and row[0] <= at


def next_expiry(connection: sqlite3.Connection, queue: Queue) -> int | None:
    """When a queue's oldest message becomes too old; None where it keeps them for ever, or has none."""
    retention = queue.settings.retention
    row = None if retention is None else connection.execute(_SQL["oldest"], (queue.stock,)).fetchone()
    return None if row is None or retention is None else row[0] + retention


def expire_unasked(connection: sqlite3.Connection, now: int, most: int) -> bool:
    """Delete messages that are too old of a queue that nobody may be asking; answers whether there may be more.

    Nobody has to be woken: who waits for what a held message hides minds `next_expiry`.
    """
    name = overdue(connection, now)
    queue = None if name is None else queues.find(connection, name)
    return queue is not None and expire(connection, queue, now, most) > 0


def overdue(connection: sqlite3.Connection, now: int) -> str | None:
    """The name of a queue that has messages older than it keeps them; None where there is no such queue."""
    row = connection.execute(_SQL["overdue"], {"now": now, "default": limits.DEFAULT_RETENTION}).fetchone()
    return None if row is None else str(row[0])


def forget(connection: sqlite3.Connection, now: int, most: int) -> None:
    """Forget deduplication ids whose window has closed."""
    oldest = connection.execute(_SQL["oldest_window"]).fetchone()
    if oldest is not None and oldest[0] <= now:
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


def promote(
    connection: sqlite3.Connection,
    queue: Queue,
    heads: Mapping[str, int],
    now: int,
    write: Write,
    *,
    going: Container[int] = (),
) -> None:
    """Make the message behind each head of a FIFO queue its group's head; if it isn't held, it is available now.

    `heads` are numbers of messages by group, 0 where the first that is left is meant. `going` are the numbers of
    messages that are there, and are about to be deleted.
    """
    found: list[Sequence[Any]] = []
    while heads:
        behind = connection.execute(_SQL["next"], (sql.listed(heads), queue.stock)).fetchall()
        found += [row for row in behind if row[0] not in going]
        heads = {row[3]: row[0] for row in behind if row[0] in going}
    if not found:
        return
    free = [(stocks.AVAILABLE, now, seq) for seq, state, at, _ in found if state == stocks.AVAILABLE or at <= now]
    held = [(state, at, seq) for seq, state, at, _ in found if state != stocks.AVAILABLE and at > now]
    write("promote", free + held)
    ended = sum(state == stocks.LEASED and at <= now for _, state, at, _ in found)
    stocks.count(write, queue.stock, leased=-ended)
