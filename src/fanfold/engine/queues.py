"""Queues: their rows, and what changes them. Operations on a connection; times are milliseconds since the epoch."""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fanfold import limits, sql
from fanfold.engine import attributes, errors, policies
from fanfold.engine.attributes import Settings
from fanfold.engine.policies import Redrive

_SQL: Final = sql.load("fanfold.engine", "queues.sql")
SCHEMA: Final = tuple(sql.load("fanfold.engine", "schema.sql").values())

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LONGEST_NAME: Final = 80
_FIFO: Final = ".fifo"
_ABOVE_ALL_NAMES: Final = "~"
_RECENTLY: Final = limits.RECREATE_DELAY * 1000

_decode_tags: Final = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as it is now. `stock` is where its messages are, `target` the stock of its dead letter queue.

    `settings` are what its attributes mean.
    """

    id: int
    name: str
    fifo: bool
    stock: int
    scope: str
    attributes: str
    settings: Settings
    max_receive_count: int | None
    dead_letter_name: str | None
    target: int | None
    tags: str
    created_at: int
    modified_at: int
    purged_at: int | None

    @property
    def redrive(self) -> Redrive | None:
        """Where its redrive policy leads."""
        if self.dead_letter_name is None or self.max_receive_count is None:
            return None
        return Redrive(self.dead_letter_name, self.max_receive_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQueue:
    """A queue to create."""

    name: str
    attributes: Mapping[str, str]
    redrive: Redrive | None = None
    tags: Mapping[str, str] | None = None


@functools.lru_cache(maxsize=1024)
def is_name(name: str) -> bool:
    """Whether a queue can have this name."""
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name.removesuffix(_FIFO)) is not None


def is_fifo(name: str) -> bool:
    """Whether a queue of this name is a FIFO queue."""
    return name.endswith(_FIFO)


def find(connection: sqlite3.Connection, name: str) -> Queue | None:
    """The queue of that name, or None."""
    row = connection.execute(_SQL["load"], (name,)).fetchone() if is_name(name) else None
    return None if row is None else _queue(row)


def load(connection: sqlite3.Connection, name: str) -> Queue:
    """The queue of that name.

    Raises:
        SqsError: there is none.
    """
    queue = find(connection, name)
    if queue is None:
        raise errors.no_such_queue()
    return queue


def create(connection: sqlite3.Connection, new: NewQueue, now: int) -> None:
    """Add a queue; there must be none of its name."""
    values = {
        "name": new.name,
        "stock": _new_stock(connection),
        "attributes": attributes.encode(new.attributes),
        "tags": json.dumps(dict(new.tags or {})),
        "scope": new.attributes.get("DeduplicationScope", "queue"),
        **_redrive_values(new.redrive),
        "now": now,
    }
    connection.execute(_SQL["create"], values)


def change(
    connection: sqlite3.Connection, queue: Queue, stored: Mapping[str, str], redrive: Redrive | None, now: int
) -> None:
    """Give a queue other attributes: all of them."""
    values = {"id": queue.id, "attributes": attributes.encode(stored), **_redrive_values(redrive), "now": now}
    connection.execute(_SQL["change"], values)


def tags(queue: Queue) -> dict[str, str]:
    """A queue's tags."""
    return _decode_tags(queue.tags)


def tag(connection: sqlite3.Connection, queue: Queue, tags: Mapping[str, str]) -> None:
    """Give a queue other tags: all of them."""
    connection.execute(_SQL["tag"], (json.dumps(dict(tags)), queue.id))


def delete(connection: sqlite3.Connection, queue: Queue, now: int) -> None:
    """Take a queue away. Its messages are cleared away later, in slices."""
    connection.execute(_SQL["abandon"], (queue.stock,))
    connection.execute(_SQL["delete"], (queue.id,))
    connection.execute(_SQL["forget_names"], (now - _RECENTLY,))
    connection.execute(_SQL["delete_name"], (queue.name, now))


def deleted_recently(connection: sqlite3.Connection, name: str, now: int) -> bool:
    """Whether a queue of that name was deleted within the last 60 seconds."""
    return connection.execute(_SQL["deleted_since"], (name, now - _RECENTLY)).fetchone() is not None


def purge(connection: sqlite3.Connection, queue: Queue, now: int) -> None:
    """Take all messages away, held and delayed ones too, and forget what was sent; at the same cost for any number."""
    connection.execute(_SQL["abandon"], (queue.stock,))
    connection.execute(_SQL["restock"], (_new_stock(connection), now, queue.id))


def purged_recently(queue: Queue, now: int) -> bool:
    """Whether the last purge is less than 60 seconds ago."""
    return queue.purged_at is not None and queue.purged_at > now - _RECENTLY


def names(connection: sqlite3.Connection, prefix: str, after: str | None, most: int) -> list[str]:
    """Names that begin with a prefix, in order, those after one of them."""
    least = prefix if after is None else _next(after)
    rows = connection.execute(_SQL["names"], (max(prefix, least), prefix + _ABOVE_ALL_NAMES, most))
    return [name for (name,) in rows]


def sources(connection: sqlite3.Connection, name: str, after: str | None, most: int) -> list[str]:
    """The names of queues whose redrive policy leads to `name`, in order, those after one of them."""
    least = "" if after is None else _next(after)
    return [source for (source,) in connection.execute(_SQL["sources"], (name, least, most))]


def is_target(connection: sqlite3.Connection, name: str) -> bool:
    """Whether some queue's redrive policy leads to `name`."""
    return bool(sources(connection, name, None, 1))


def check_redrive(connection: sqlite3.Connection, source: str, text: str) -> Redrive:
    """The redrive policy that `text` is, for the queue of name `source`.

    Raises:
        SqsError: it is none, or leads nowhere.
    """
    redrive = policies.read_redrive(text)
    if is_fifo(redrive.target) != is_fifo(source):
        raise policies.redrive_error(text, "Dead-letter queue must be same type of queue as the source..")
    target = find(connection, redrive.target)
    if target is None and redrive.target != source:
        raise policies.redrive_error(text, "Dead letter target does not exist.")
    allow = None if target is None else attributes.decode(target.attributes).get("RedriveAllowPolicy")
    if not policies.allows(allow, source):
        raise policies.redrive_error(
            text, "The redrive allow policy of the dead letter target doesn't allow this queue."
        )
    return redrive


def _next(name: str) -> str:
    return name + "!"  # sorts before whatever a name can go on with


def _new_stock(connection: sqlite3.Connection) -> int:
    created = connection.execute(_SQL["new_stock"]).lastrowid
    if created is None:
        raise RuntimeError("SQLite gave no row id for an insert")
    return created


def _redrive_values(redrive: Redrive | None) -> dict[str, Any]:
    return {
        "max_receive_count": redrive.most if redrive else None,
        "dead_letter_name": redrive.target if redrive else None,
    }


@functools.lru_cache(maxsize=1024)
def _queue(row: tuple[Any, ...]) -> Queue:
    return Queue(
        id=row[0],
        name=row[1],
        fifo=is_fifo(row[1]),
        stock=row[2],
        scope=row[3],
        attributes=row[4],
        settings=attributes.settings(row[4]),
        max_receive_count=row[5],
        dead_letter_name=row[6],
        target=row[7],
        tags=row[8],
        created_at=row[9],
        modified_at=row[10],
        purged_at=row[11],
    )
