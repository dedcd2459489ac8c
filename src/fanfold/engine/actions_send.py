"""SQS actions that send: SendMessage, SendMessageBatch."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from fanfold import limits
from fanfold.engine import batches, drafts, messages, queues, sending
from fanfold.engine.deferred import Write
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name
from fanfold.engine.drafts import Draft
from fanfold.engine.errors import SqsError

_ENTRY: Final = "SendMessageBatchRequestEntry"


async def send_message(desk: Desk, request: Request, context: CallContext) -> Answer:
    """SendMessage."""
    name = queue_name(request)
    draft = drafts.draft(request, desk.new_id(), trace_header=_trace_header(context))

    def send(connection: sqlite3.Connection, write: Write) -> Answer:
        queue = queues.load(connection, name)
        refusal = drafts.refusal(queue, draft)
        if refusal is not None:
            raise refusal
        return drafts.answer(queue, draft, sending.send(connection, queue, [draft.message], desk.now(), write)[0])

    answer = await desk.change(send)
    desk.doorbell.ring(name)
    return answer


async def send_message_batch(desk: Desk, request: Request, context: CallContext) -> Answer:
    """SendMessageBatch. A standard queue refuses bad entries one by one, a FIFO queue the whole batch."""
    name, entries = queue_name(request), batches.entries(request, _ENTRY)
    _check_total(entries)
    drafted = [_draft(desk, entry, context, number) for number, entry in enumerate(entries, 1)]
    results = await desk.change(lambda c, write: _send_all(desk, c, name, drafted, write))
    desk.doorbell.ring(name, len(results))
    return batches.answer(entries, results)


def _send_all(
    desk: Desk, connection: sqlite3.Connection, name: str, drafted: Sequence[Draft | SqsError], write: Write
) -> list[Answer | SqsError]:
    queue = queues.load(connection, name)
    checked = [one if isinstance(one, SqsError) else drafts.refusal(queue, one) or one for one in drafted]
    refused = [one for one in checked if isinstance(one, SqsError)]
    if refused and queue.fifo:
        raise refused[0]
    accepted = [one.message for one in checked if isinstance(one, Draft)]
    sent = iter(sending.send(connection, queue, accepted, desk.now(), write))
    return [one if isinstance(one, SqsError) else drafts.answer(queue, one, next(sent)) for one in checked]


def _draft(desk: Desk, entry: Request, context: CallContext, number: int) -> Draft | SqsError:
    try:
        return drafts.draft(entry, desk.new_id(), trace_header=_trace_header(context), entry=f"{_ENTRY}.{number}")
    except SqsError as error:
        return error


def _trace_header(context: CallContext) -> str | None:
    header = context.trace_header
    return header if header and limits.unrepresentable(header) is None else None


def _check_total(entries: Sequence[Request]) -> None:
    total = sum([messages.size(e.get("MessageBody") or "", e.get("MessageAttributes") or {}) for e in entries])
    if total > limits.MAX_REQUEST_BYTES:
        said = f"Batch requests cannot be longer than {limits.MAX_REQUEST_BYTES} bytes."
        raise SqsError("BatchRequestTooLong", f"{said} You have sent {total} bytes.")
