"""Adding messages, each once. Operations on a connection; times are milliseconds since the epoch."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.engine import stocks, upkeep
from fanfold.engine.deferred import Write, at_once
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_WINDOW: Final = limits.DEDUPLICATION_WINDOW * 1000
_UPKEEP: Final = 64
"""Messages between two looks for what has grown too old: to ask costs as much as to send one."""


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
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


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message: for a duplicate, the ids of the first one."""

    message_id: str
    seq: int
    duplicate: bool = False


def send(
    connection: sqlite3.Connection,
    queue: Queue,
    messages: Sequence[NewMessage],
    now: int,
    write: Write | None = None,
) -> list[Sent]:
    """Add messages in order."""
    write, first = write or at_once(connection), last_seq(connection) + 1
    if first // _UPKEEP != (first + len(messages)) // _UPKEEP:
        _tidy(connection, queue, now, 2 * max(_UPKEEP, len(messages)))
    if queue.fifo:
        return _send_once(connection, queue, messages, now, write, first=first)
    return _add(queue, messages, now, write, first=first)


def add(
    connection: sqlite3.Connection, queue: Queue, messages: Sequence[NewMessage], now: int, write: Write
) -> list[Sent]:
    """Add messages without asking whether they were sent before."""
    return _add(queue, messages, now, write, first=last_seq(connection) + 1)


def _add(queue: Queue, messages: Sequence[NewMessage], now: int, write: Write, *, first: int) -> list[Sent]:
    rows = [
        _row(queue, seq, message, message.deduplication_id or "", now) for seq, message in enumerate(messages, first)
    ]
    _insert(queue, rows, write)
    return [Sent(message_id=message.message_id, seq=seq) for seq, message in enumerate(messages, first)]


def deduplication_id(message: NewMessage) -> str:
    """A message's own deduplication id, or the digest of its body."""
    if message.deduplication_id is not None:
        return message.deduplication_id
    return hashlib.sha256(message.body.encode()).hexdigest()


def _tidy(connection: sqlite3.Connection, queue: Queue, now: int, most: int) -> None:
    """Take along some of what has to go: at least twice as much as can have come since the last time."""
    upkeep.expire(connection, queue, now, most)
    upkeep.clear(connection, most)
    if queue.fifo:
        upkeep.forget(connection, now, most)


def _send_once(
    connection: sqlite3.Connection,
    queue: Queue,
    messages: Sequence[NewMessage],
    now: int,
    write: Write,
    *,
    first: int,
) -> list[Sent]:
    ids = [deduplication_id(message) for message in messages]
    keys = (
        [f"{m.group_id} {own}" for m, own in zip(messages, ids, strict=True)] if queue.scope == "messageGroup" else ids
    )
    found = connection.execute(_SQL["known"], (sql.listed(keys), queue.stock, now))
    known = {key: Sent(message_id=message_id, seq=seq) for key, message_id, seq in found}
    rows, windows, sent, seq = [], [], [], first
    for message, own, key in zip(messages, ids, keys, strict=True):
        before = known.get(key)
        if before is not None:
            sent.append(Sent(message_id=before.message_id, seq=before.seq, duplicate=True))
            continue
        rows.append(_row(queue, seq, message, own, now))
        windows.append((seq, queue.stock, key, message.message_id, now + _WINDOW))
        known[key] = Sent(message_id=message.message_id, seq=seq)
        sent.append(known[key])
        seq += 1
    if rows:
        write("remember", windows)
        _insert(queue, rows, write)
    return sent


def _insert(queue: Queue, rows: Sequence[Sequence[Any]], write: Write) -> None:
    write("add" if queue.fifo else "add_loose", rows)
    stocks.count(write, queue.stock, messages=len(rows))


def _row(queue: Queue, seq: int, message: NewMessage, deduplication_id: str, now: int) -> tuple[Any, ...]:
    delay = queue.settings.delay if message.delay is None or queue.fifo else message.delay
    return (
        seq,
        queue.stock,
        message.message_id,
        message.group_id,
        deduplication_id,
        message.body,
        message.attributes,
        message.trace,
        now,
        stocks.DELAYED if delay else stocks.AVAILABLE,
        now + delay if delay or queue.fifo else 0,
    )


def last_seq(connection: sqlite3.Connection) -> int:
    """The last sequence number that was given; the transaction has the file to itself."""
    row = connection.execute(_SQL["last"]).fetchone()
    return 0 if row is None else int(row[0])
