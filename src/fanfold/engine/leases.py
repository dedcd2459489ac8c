"""What the holder of a receipt handle can do: delete, change the visibility, bury. Operations on a connection.

Times are milliseconds since the epoch. A FIFO queue heeds only the newest handle of a message, and only while its lease
runs; a standard queue heeds every one as long as there is the message.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fanfold import limits, sql
from fanfold.engine import handles, sending, upkeep
from fanfold.engine.handles import Handle
from fanfold.engine.queues import Queue
from fanfold.engine.sending import NewMessage
from fanfold.model import EntryError

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_LONGEST: Final = limits.MAX_VISIBILITY * 1000


def delete(connection: sqlite3.Connection, queue: Queue, texts: Iterable[str], now: int) -> list[EntryError | None]:
    """Delete messages by receipt handle. A message that is gone already counts as deleted, as on SQS."""
    return [_delete(connection, queue, text, now) for text in texts]


def change_visibility(
    connection: sqlite3.Connection, queue: Queue, changes: Iterable[tuple[str, int]], now: int
) -> list[EntryError | None]:
    """Let each lease end so many milliseconds from now: 0 or more, and at most 12 hours after the receive."""
    return [_change(connection, queue, text, milliseconds, now) for text, milliseconds in changes]


def take_back(connection: sqlite3.Connection, queue: Queue, texts: Iterable[str], now: int) -> None:
    """Undo receives whose answers nobody saw: available again, and no receive the more."""
    parsed = (handles.parse(text, queue.id) for text in texts)
    visible_at = now if queue.fifo else 0
    taken = [(visible_at, h.seq, queue.stock, h.receipt, now) for h in parsed if isinstance(h, Handle)]
    connection.executemany(_SQL["take_back"], taken)


def bury(
    connection: sqlite3.Connection, queue: Queue, target: Queue, burials: Iterable[tuple[str, NewMessage]], now: int
) -> list[EntryError | None]:
    """Replace each message, by its handle, with a copy in the queue `target`."""
    errors = []
    for text, copy in burials:
        error = _delete(connection, queue, text, now, gone=handles.lost(f"{text}: the message does not exist."))
        if error is None:
            sending.add(connection, target, copy, now)
        errors.append(error)
    return errors


def _delete(
    connection: sqlite3.Connection, queue: Queue, text: str, now: int, gone: EntryError | None = None
) -> EntryError | None:
    handle = handles.parse(text, queue.id)
    if isinstance(handle, EntryError):
        return handle
    if not queue.fifo:
        return None if connection.execute(_SQL["delete_loose"], (handle.seq, queue.stock)).rowcount else gone
    row = connection.execute(_SQL["delete"], (handle.seq, queue.stock, handle.receipt, now)).fetchone()
    if row is None:
        return handles.expired(text) if _survives(connection, queue, handle) else gone
    if row[1]:
        upkeep.promote(connection, queue, row[0], now)
    return None


def _change(connection: sqlite3.Connection, queue: Queue, text: str, milliseconds: int, now: int) -> EntryError | None:
    handle = handles.parse(text, queue.id)
    if isinstance(handle, EntryError):
        return handle
    if not 0 <= milliseconds <= _LONGEST:
        return _out_of_range(milliseconds, f"Must be between 0 and {limits.MAX_VISIBILITY}.")
    values = {"seq": handle.seq, "stock": queue.stock, "until": now + milliseconds, "longest": _LONGEST, "now": now}
    if not queue.fifo:
        return (
            None if connection.execute(_SQL["change_loose"], values).rowcount else _refusal(connection, handle, values)
        )
    if connection.execute(_SQL["change"], values | {"receipt": handle.receipt}).rowcount:
        return None
    holder = handle.seq, queue.stock, handle.receipt, now
    if connection.execute(_SQL["held"], holder).fetchone():
        return _beyond(milliseconds)
    expired = handles.expired(text)
    return expired if _survives(connection, queue, handle) else handles.unavailable(text)


def _refusal(connection: sqlite3.Connection, handle: Handle, values: Mapping[str, Any]) -> EntryError:
    """Why a message of a standard queue did not change."""
    if connection.execute(_SQL["exists"], (handle.seq, values["stock"])).fetchone():
        return _beyond(values["until"] - values["now"])
    return handles.unavailable(str(handle))


def _survives(connection: sqlite3.Connection, queue: Queue, handle: Handle) -> bool:
    """Whether a message that this handle holds no longer is still somewhere: here, or where it was moved to."""
    here = connection.execute(_SQL["exists"], (handle.seq, queue.stock)).fetchone()
    return bool(here or connection.execute(_SQL["departed"], (handle.seq,)).fetchone())


def _beyond(milliseconds: int) -> EntryError:
    limit = f"[{limits.MAX_VISIBILITY} seconds]"
    return _out_of_range(milliseconds, f"Total VisibilityTimeout for the message is beyond the limit {limit}")


def _out_of_range(milliseconds: int, reason: str) -> EntryError:
    text = f"Value {math.ceil(milliseconds / 1000)} for parameter VisibilityTimeout is invalid. Reason: {reason}"
    return EntryError(code="InvalidParameterValue", text=text)
