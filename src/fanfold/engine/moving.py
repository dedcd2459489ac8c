"""Messages that leave their queue without having been settled. Operations on a connection; times are milliseconds."""

from __future__ import annotations

import sqlite3
from typing import Final

from fanfold import limits, sql
from fanfold.engine import stocks, upkeep
from fanfold.engine.deferred import at_once
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_LONGEST: Final = limits.MAX_VISIBILITY * 1000


def set_aside(connection: sqlite3.Connection, queue: Queue, seq: int, group_id: str, now: int) -> None:
    """Move a message that was received too often to its queue's dead letter queue."""
    values = {"target": queue.target, "origin": queue.name, "now": now, "seq": seq}
    connection.execute(_SQL["set_aside" if queue.fifo else "set_aside_loose"], values)
    if queue.target is not None:
        stocks.count(at_once(connection), queue.target, messages=1)
    depart(connection, seq, now)
    remove(connection, queue, seq, group_id, now)


def depart(connection: sqlite3.Connection, seq: int, now: int) -> None:
    """Remember that a message left for another queue: its old handles must not pass for having deleted it."""
    connection.execute(_SQL["forget_departures"], (now,))
    connection.execute(_SQL["depart"], (seq, now + _LONGEST))


def remove(connection: sqlite3.Connection, queue: Queue, seq: int, group_id: str, now: int) -> None:
    """Take a message out of its queue, whoever holds it."""
    gone = connection.execute(_SQL["remove"], (seq,)).fetchall()
    write = at_once(connection)
    stocks.count(write, queue.stock, messages=-len(gone), leased=-gone.count((stocks.LEASED,)))
    if queue.fifo:
        upkeep.promote(connection, queue, {group_id: 0}, now, write)
