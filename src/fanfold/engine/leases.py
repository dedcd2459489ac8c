"""What the holder of a receipt handle can do: delete, change the visibility, bury. Operations on a connection.

Times are milliseconds since the epoch. A FIFO queue heeds only the newest handle of a message, and only while its lease
runs; a standard queue heeds every one as long as there is the message.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fanfold import limits, sql
from fanfold.engine import handles, sending, stocks, upkeep
from fanfold.engine.deferred import Write, at_once
from fanfold.engine.handles import Handle
from fanfold.engine.queues import Queue
from fanfold.engine.sending import NewMessage
from fanfold.model import EntryError

_SQL: Final = sql.load("fanfold.engine", "messages.sql")
_LONGEST: Final = limits.MAX_VISIBILITY * 1000


def delete(
    connection: sqlite3.Connection, queue: Queue, texts: Iterable[str], now: int, write: Write | None = None
) -> list[EntryError | None]:
    """Delete messages by receipt handle. A message that is gone already counts as deleted, as on SQS."""
    return _delete(connection, queue, list(texts), now, write or at_once(connection))


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
    freed = connection.executemany(_SQL["take_back"], taken).rowcount
    stocks.count(at_once(connection), queue.stock, leased=-max(0, freed))


def bury(
    connection: sqlite3.Connection, queue: Queue, target: Queue, burials: Iterable[tuple[str, NewMessage]], now: int
) -> list[EntryError | None]:
    """Replace each message, by its handle, with a copy in the queue `target`."""
    errors, write = [], at_once(connection)
    for text, copy in burials:
        gone = handles.lost(f"{text}: the message does not exist.")
        error = _delete(connection, queue, [text], now, write, gone=gone)[0]
        if error is None:
            sending.add(connection, target, [copy], now, write)
        errors.append(error)
    return errors


def _delete(
    connection: sqlite3.Connection,
    queue: Queue,
    texts: Sequence[str],
    now: int,
    write: Write,
    *,
    gone: EntryError | None = None,
) -> list[EntryError | None]:
    """Delete; `gone` is what becomes of a handle whose message isn't there."""
    parsed = [handles.parse(text, queue.id) for text in texts]
    asked = [handle.seq for handle in parsed if isinstance(handle, Handle)]
    found = connection.execute(_SQL["holders"], (sql.listed(asked), queue.stock)).fetchall()
    holders = {row[0]: row for row in found}
    errors: list[EntryError | None] = []
    going: dict[int, Sequence[Any]] = {}
    for text, handle in zip(texts, parsed, strict=True):
        if isinstance(handle, EntryError):
            errors.append(handle)
            continue
        holder = None if handle.seq in going else holders.get(handle.seq)
        if holder is None:
            errors.append(gone if handle.seq in going else _absent(connection, queue, text, handle) or gone)
        elif holder[1] is None and not queue.fifo:
            errors.append(handles.forged(text))
        elif queue.fifo and not _holds(handle, holder, now):
            errors.append(handles.expired(text))
        else:
            errors.append(None)
            going[handle.seq] = holder
    _remove(connection, queue, going, now, write)
    return errors


def _holds(handle: Handle, holder: Sequence[Any], now: int) -> bool:
    _, receipt, state, visible_at = holder[:4]
    return bool(receipt == handle.receipt and state == stocks.LEASED and visible_at > now)


def _remove(
    connection: sqlite3.Connection, queue: Queue, going: Mapping[int, Sequence[Any]], now: int, write: Write
) -> None:
    """Delete messages, by their numbers, and let the next ones of their groups follow."""
    if not going:
        return
    write("delete", [(sql.listed(list(going)),)])
    leased = sum(holder[2] == stocks.LEASED for holder in going.values())
    stocks.count(write, queue.stock, messages=-len(going), leased=-leased)
    if queue.fifo:
        heads = {holder[4]: holder[0] for holder in going.values() if holder[5]}
        upkeep.promote(connection, queue, heads, now, write, going=going)


def _change(connection: sqlite3.Connection, queue: Queue, text: str, milliseconds: int, now: int) -> EntryError | None:
    handle = handles.parse(text, queue.id)
    if isinstance(handle, EntryError):
        return handle
    if not 0 <= milliseconds <= _LONGEST:
        return _out_of_range(milliseconds, f"Must be between 0 and {limits.MAX_VISIBILITY}.")
    values = {"seq": handle.seq, "stock": queue.stock, "until": now + milliseconds, "longest": _LONGEST, "now": now}
    if not queue.fifo:
        return _change_loose(connection, queue, handle, values)
    if connection.execute(_SQL["change"], values | {"receipt": handle.receipt}).rowcount:
        stocks.count(at_once(connection), queue.stock, leased=0 if milliseconds else -1)
        return None
    holder = handle.seq, queue.stock, handle.receipt, now
    if connection.execute(_SQL["held"], holder).fetchone():
        return _beyond(milliseconds)
    expired = handles.expired(text)
    return expired if _survives(connection, queue, handle) else handles.unavailable(text)


def _change_loose(
    connection: sqlite3.Connection, queue: Queue, handle: Handle, values: Mapping[str, Any]
) -> EntryError | None:
    before = connection.execute(_SQL["state"], (handle.seq, queue.stock)).fetchone()
    if before is None:
        return handles.unavailable(str(handle))
    if before[1] is None:
        return handles.forged(str(handle))
    if not connection.execute(_SQL["change_loose"], values).rowcount:
        return _beyond(values["until"] - values["now"])
    held = values["until"] > values["now"]
    stocks.count(at_once(connection), queue.stock, leased=held - (before[0] == stocks.LEASED))
    return None


def _survives(connection: sqlite3.Connection, queue: Queue, handle: Handle) -> bool:
    """Whether a message that this handle holds no longer is still somewhere: here, or where it was moved to."""
    here = connection.execute(_SQL["exists"], (handle.seq, queue.stock)).fetchone()
    return bool(here or _departed(connection, handle))


def _absent(connection: sqlite3.Connection, queue: Queue, text: str, handle: Handle) -> EntryError | None:
    """What is wrong with a handle whose message isn't there, if anything."""
    if queue.fifo and _departed(connection, handle):
        return handles.expired(text)
    return handles.forged(text) if handle.seq > sending.last_seq(connection) else None


def _departed(connection: sqlite3.Connection, handle: Handle) -> bool:
    """Whether the message left for another queue."""
    return connection.execute(_SQL["departed"], (handle.seq,)).fetchone() is not None


def _beyond(milliseconds: int) -> EntryError:
    limit = f"[{limits.MAX_VISIBILITY} seconds]"
    return _out_of_range(milliseconds, f"Total VisibilityTimeout for the message is beyond the limit {limit}")


def _out_of_range(milliseconds: int, reason: str) -> EntryError:
    text = f"Value {math.ceil(milliseconds / 1000)} for parameter VisibilityTimeout is invalid. Reason: {reason}"
    return EntryError(code="InvalidParameterValue", text=text)
