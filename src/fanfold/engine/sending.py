"""Adding messages, each once. Operations on a connection; times are milliseconds since the epoch."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fanfold import limits, sql
from fanfold.engine import upkeep
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_WINDOW: Final = limits.DEDUPLICATION_WINDOW * 1000
_AVAILABLE, _DELAYED = 0, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to add, with the MessageId it gets if it isn't a duplicate.

    `attributes` are as `messages.encode` writes them. `delay` None is the queue's, as it always is in a FIFO queue. A
    deduplication id of None is the SHA-256 of the body. In a standard queue the group id is kept and means nothing.
    """

    body: str
    message_id: str
    group_id: str = ""
    deduplication_id: str | None = None
    attributes: str = "{}"
    trace: str | None = None
    delay: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a message: for a duplicate, the ids of the first one."""

    message_id: str
    seq: int
    duplicate: bool = False


def send(connection: sqlite3.Connection, queue: Queue, messages: Sequence[NewMessage], now: int) -> list[Sent]:
    """Add messages in order."""
    slack = 2 * len(messages) + 10
    upkeep.expire(connection, queue, now, slack)
    upkeep.clear(connection, slack)
    if not queue.fifo:
        return [_added(message, add(connection, queue, message, now)) for message in messages]
    upkeep.forget(connection, now, slack)
    return [_send_once(connection, queue, message, now) for message in messages]


def add(connection: sqlite3.Connection, queue: Queue, message: NewMessage, now: int) -> int:
    """Add a message without asking whether it was sent before; answers its sequence number."""
    return _add(connection, queue, message, message.deduplication_id or "", now)


def deduplication_id(message: NewMessage) -> str:
    """A message's own deduplication id, or the digest of its body."""
    if message.deduplication_id is not None:
        return message.deduplication_id
    return hashlib.sha256(message.body.encode()).hexdigest()


def _add(connection: sqlite3.Connection, queue: Queue, message: NewMessage, deduplication_id: str, now: int) -> int:
    delay = queue.settings.delay if message.delay is None or queue.fifo else message.delay
    values = (
        queue.stock,
        message.message_id,
        message.group_id,
        deduplication_id,
        message.body,
        message.attributes,
        message.trace,
        now,
        _DELAYED if delay else _AVAILABLE,
        now + delay if delay or queue.fifo else 0,
    )
    if queue.fifo:
        inserted = connection.execute(_SQL["add"], (*values, queue.stock, message.group_id))
    else:
        inserted = connection.execute(_SQL["add_loose"], values)
    added = inserted.lastrowid
    if added is None:
        raise RuntimeError("SQLite gave no row id for an insert")
    return added


def _send_once(connection: sqlite3.Connection, queue: Queue, message: NewMessage, now: int) -> Sent:
    own = deduplication_id(message)
    key = f"{message.group_id} {own}" if queue.scope == "messageGroup" else own  # neither has a space
    known = connection.execute(_SQL["known"], (queue.stock, key, now)).fetchone()
    if known is not None:
        return Sent(message_id=known[0], seq=known[1], duplicate=True)
    seq = _add(connection, queue, message, own, now)
    connection.execute(_SQL["remember"], (seq, queue.stock, key, message.message_id, now + _WINDOW))
    return _added(message, seq)


def _added(message: NewMessage, seq: int) -> Sent:
    return Sent(message_id=message.message_id, seq=seq)
