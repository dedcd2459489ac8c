"""Changes that are carried out after their answer.

A change is decided by reading, and made by statements whose results nobody needs. Where it is alone in its commit, it
may defer them: they are written down in one row, which is committed and answered, and run a moment later. To commit a
row takes a page or two, to commit the change ten; a client that waits for each answer waits for the row only.

1. Every operation on queues begins with what was deferred, in its own transaction. So none sees the queues without it,
   in whichever process, and nothing comes between what a change has read and its statements.
2. Whoever deferred runs it when its answer is out; where its process dies before that, the next operation does.
3. A read that finds something deferred becomes a write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fanfold import sql
from fanfold.connection_thread import Operation, T
from fanfold.database import Database
from fanfold.errors import StorageCorruptError

DEFERRABLE: Final = ("add", "add_loose", "count", "delete", "lease", "promote", "remember")
"""The statements of `messages.sql` that may be deferred. They lie in files by these names, with their parameters."""
Rows = Sequence[Any]
"""What a statement is run with, once for each: tuples, or dictionaries where it has names."""
Write = Callable[[str, Rows], object]
"""Runs one of these statements for each of some rows: now, or later."""

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_RUN: Final = {name: _SQL[name] for name in DEFERRABLE}
_LARGEST: Final = 64 * 1024
"""Bytes that are worth writing twice."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[str, list[Any]]]).decode


def at_once(connection: sqlite3.Connection) -> Write:
    """Run statements as they come."""
    return lambda statement, rows: connection.executemany(_RUN[statement], rows)


class Later:
    """A `Write` that keeps statements for later, in the order in which they come."""

    __slots__ = ("_statements",)

    def __init__(self) -> None:
        self._statements: list[tuple[str, Rows]] = []

    def __call__(self, statement: str, rows: Rows) -> None:
        """Keep a statement."""
        self._statements.append((statement, rows))

    def defer(self, connection: sqlite3.Connection) -> None:
        """Write down what was kept, for `carry_out`; what is large is run now."""
        if not self._statements:
            return
        written = _encode(self._statements)
        if len(written) > _LARGEST:
            _run(connection, written)
        else:
            connection.execute(_SQL["defer"], (written,))


def carry_out(connection: sqlite3.Connection) -> None:
    """Run what was deferred."""
    for number, written in connection.execute(_SQL["deferred"]).fetchall():
        _run(connection, written)
        connection.execute(_SQL["drop_deferred"], (number,))


def is_any(connection: sqlite3.Connection) -> bool:
    """Whether something was deferred, and has not been run."""
    return connection.execute(_SQL["deferred"]).fetchone() is not None


def settled(operation: Operation[T]) -> Operation[T]:
    """An operation on queues as a write runs it: behind what was deferred."""

    def run(connection: sqlite3.Connection) -> T:
        carry_out(connection)
        return operation(connection)

    return run


async def read(database: Database, operation: Operation[T]) -> T:
    """Run an operation that changes nothing: on a snapshot, or as a write where something was deferred."""

    def unless_deferred(connection: sqlite3.Connection) -> tuple[T] | None:
        return None if is_any(connection) else (operation(connection),)

    found = await asyncio.wrap_future(database.read(unless_deferred))
    return await asyncio.wrap_future(database.write(settled(operation))) if found is None else found[0]


def _run(connection: sqlite3.Connection, written: bytes) -> None:
    try:
        statements = [(_RUN[name], rows) for name, rows in _decode(written)]
    except (KeyError, msgspec.DecodeError) as error:
        raise StorageCorruptError(
            f"a change left statements that this Fanfold doesn't know ({error!r}); upgrade Fanfold"
        ) from error
    for statement, rows in statements:
        connection.executemany(statement, rows)
