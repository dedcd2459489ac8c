"""SQS actions of whoever holds a receipt handle: DeleteMessage, ChangeMessageVisibility, and their batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fanfold import limits
from fanfold.engine import batches, errors, leases, queues
from fanfold.engine.deferred import Write
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name, required, within
from fanfold.engine.queues import Queue
from fanfold.model import EntryError

_DELETE: Final = "DeleteMessageBatchRequestEntry"
_CHANGE: Final = "ChangeMessageVisibilityBatchRequestEntry"

_Entry = Mapping[str, Any]
_Errors = list[EntryError | None]
Settle = Callable[[sqlite3.Connection, Queue, Write], list[EntryError | None]]


async def delete_message(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """DeleteMessage."""
    name, handle = queue_name(request), required(request, "ReceiptHandle")
    await _settle_one(desk, name, lambda c, queue, write: leases.delete(c, queue, [handle], desk.now(), write))
    return {}


async def delete_message_batch(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """DeleteMessageBatch."""
    name, entries = queue_name(request), batches.entries(request, _DELETE)

    def settle(connection: sqlite3.Connection, queue: Queue, good: Sequence[_Entry], write: Write) -> _Errors:
        return leases.delete(connection, queue, [entry["ReceiptHandle"] for entry in good], desk.now(), write)

    return await _settle_all(desk, name, entries, [_lacks_handle(entry) for entry in entries], settle)


async def change_message_visibility(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """ChangeMessageVisibility."""
    name, handle = queue_name(request), required(request, "ReceiptHandle")
    reason = f"Must be between 0 and {limits.MAX_VISIBILITY}."
    seconds = within(request, "VisibilityTimeout", 0, limits.MAX_VISIBILITY, reason)
    if seconds is None:
        raise errors.missing("VisibilityTimeout")
    changes = [(handle, seconds * 1000)]
    await _settle_one(desk, name, lambda c, queue, _: leases.change_visibility(c, queue, changes, desk.now()))
    return {}


async def change_message_visibility_batch(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """ChangeMessageVisibilityBatch."""
    name, entries = queue_name(request), batches.entries(request, _CHANGE)

    def settle(connection: sqlite3.Connection, queue: Queue, good: Sequence[_Entry], _write: Write) -> _Errors:
        changes = [(entry["ReceiptHandle"], entry["VisibilityTimeout"] * 1000) for entry in good]
        return leases.change_visibility(connection, queue, changes, desk.now())

    refused = [_lacks_handle(entry) or _bad_timeout(entry, number) for number, entry in enumerate(entries, 1)]
    return await _settle_all(desk, name, entries, refused, settle)


async def _settle_one(desk: Desk, name: str, settle: Settle) -> None:
    error = (await desk.change(lambda c, write: settle(c, queues.load(c, name), write)))[0]
    if error is not None:
        raise errors.of_entry(error)
    desk.doorbell.ring(name)


async def _settle_all(
    desk: Desk,
    name: str,
    entries: Sequence[_Entry],
    refused: Sequence[EntryError | None],
    settle: Callable[[sqlite3.Connection, Queue, Sequence[_Entry], Write], _Errors],
) -> Answer:
    good = [entry for entry, error in zip(entries, refused, strict=True) if error is None]
    settled = iter(await desk.change(lambda c, write: settle(c, queues.load(c, name), good, write)))
    desk.doorbell.ring(name, len(good))
    return batches.answer(entries, [error or next(settled) or {} for error in refused])


def _lacks_handle(entry: _Entry) -> EntryError | None:
    return None if entry.get("ReceiptHandle") else _missing("ReceiptHandle")


def _bad_timeout(entry: _Entry, number: int) -> EntryError | None:
    seconds = entry.get("VisibilityTimeout")
    if seconds is None:
        return _missing(f"{_CHANGE}.{number}.VisibilityTimeout")
    if not 0 <= seconds <= limits.MAX_VISIBILITY:
        reason = f"VisibilityTimeout must be an integer between 0 and {limits.MAX_VISIBILITY}."
        text = errors.invalid_value(seconds, "VisibilityTimeout", reason).message
        return EntryError(code="InvalidParameterValue", text=text)
    return None


def _missing(parameter: str) -> EntryError:
    error = errors.missing(parameter)
    return EntryError(code=error.code, text=error.message)
