"""SQS actions on queues: create, find, list, delete, purge."""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fanfold.engine import attributes, errors, queues
from fanfold.engine.actions_attributes import check_tags, told_settings
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name, required, without_empty
from fanfold.engine.policies import Redrive, show_redrive
from fanfold.engine.queues import NewQueue, Queue

_MOST_RESULTS: Final = 1000
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{0,80}")
"""What a queue's name can begin with."""
_BAD_NAME: Final = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
_BAD_FIFO_NAME: Final = (
    "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo "
    "suffix and be 1 to 80 in length."
)


async def create_queue(desk: Desk, request: Request, context: CallContext) -> Answer:
    """CreateQueue: a new queue, or the one there is, if what is asked for doesn't differ from it."""
    name: str = request.get("QueueName", "")
    if "QueueName" not in request:
        raise errors.missing("QueueName")
    given: Mapping[str, str] = request.get("Attributes") or {}
    _check_name(name, given)
    fifo = queues.is_fifo(name)
    asked = attributes.read(given, fifo=fifo)
    tags: Mapping[str, str] = request.get("tags") or {}
    check_tags(tags, name)
    await desk.write(lambda c: _create(desk, c, name, asked, tags))
    return {"QueueUrl": desk.url(context, name)}


async def get_queue_url(desk: Desk, request: Request, context: CallContext) -> Answer:
    """GetQueueUrl."""
    name: str = required(request, "QueueName")
    await desk.read(lambda c: queues.load(c, name))
    return {"QueueUrl": desk.url(context, name)}


async def list_queues(desk: Desk, request: Request, context: CallContext) -> Answer:
    """ListQueues: in the order of names, in pages where MaxResults asks for them."""
    prefix: str = request.get("QueueNamePrefix") or ""
    if not _PREFIX.fullmatch(prefix):
        return {}

    def listed(connection: sqlite3.Connection, after: str | None, most: int) -> list[str]:
        return queues.names(connection, prefix, after, most)

    return await _page(desk, request, context, "QueueUrls", listed)


async def list_dead_letter_source_queues(desk: Desk, request: Request, context: CallContext) -> Answer:
    """ListDeadLetterSourceQueues: whose redrive policy leads here."""
    name = queue_name(request)

    def listed(connection: sqlite3.Connection, after: str | None, most: int) -> list[str]:
        queues.load(connection, name)
        return queues.sources(connection, name, after, most)

    return {"queueUrls": [], **await _page(desk, request, context, "queueUrls", listed)}


async def delete_queue(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """DeleteQueue, with all its messages."""
    name = queue_name(request)
    await desk.write(lambda c: queues.delete(c, queues.load(c, name), desk.now()))
    desk.doorbell.ring_all(name)
    desk.wake_mover()
    return {}


async def purge_queue(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """PurgeQueue: all messages, also those that are held or delayed, and what is remembered of sends."""
    name = queue_name(request)

    def purge(connection: sqlite3.Connection) -> None:
        queue, now = queues.load(connection, name), desk.now()
        if queues.purged_recently(queue, now):
            raise errors.purged_recently(name)
        queues.purge(connection, queue, now)

    await desk.write(purge)
    desk.wake_mover()
    return {}


def _check_name(name: str, given: Mapping[str, str]) -> None:
    wants_fifo = given.get("FifoQueue", "").lower() == "true"
    if wants_fifo and not (queues.is_name(name) and queues.is_fifo(name)):
        raise errors.invalid(_BAD_FIFO_NAME)
    if not queues.is_name(name) or (queues.is_fifo(name) and not wants_fifo):
        raise errors.invalid(_BAD_NAME)


def _create(
    desk: Desk, connection: sqlite3.Connection, name: str, asked: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    now = desk.now()
    redrive = queues.check_redrive(connection, name, asked["RedrivePolicy"]) if asked.get("RedrivePolicy") else None
    queue = queues.find(connection, name)
    if queue is not None:
        _check_same(desk, queue, asked, redrive)
        return
    if desk.recreate_delay and queues.deleted_recently(connection, name, now):
        raise errors.deleted_recently()
    stored = attributes.merged({}, {k: v for k, v in asked.items() if k != "RedrivePolicy"})
    queues.create(connection, NewQueue(name=name, attributes=stored, redrive=redrive, tags=tags), now)


def _check_same(desk: Desk, queue: Queue, asked: Mapping[str, str], redrive: Redrive | None) -> None:
    present = attributes.decode(queue.attributes) | told_settings(desk, queue)  # some are set and not told
    for name, value in asked.items():
        wanted = value
        if name == "RedrivePolicy" and redrive is not None:
            wanted = show_redrive(desk.arn(redrive.target), redrive.most)
        if present.get(name, "") != wanted:
            raise errors.queue_exists(name)


async def _page(
    desk: Desk,
    request: Request,
    context: CallContext,
    key: str,
    listed: Callable[[sqlite3.Connection, str | None, int], Sequence[str]],
) -> Answer:
    asked = request.get("MaxResults")
    if asked is not None and not 1 <= asked <= _MOST_RESULTS:
        reason = f"MaxResults must be an integer between 1 and {_MOST_RESULTS}."
        raise errors.invalid(f"Value for parameter MaxResults is invalid. Reason: {reason}")
    after = _read_token(request.get("NextToken"))
    most = asked or _MOST_RESULTS
    names = await desk.read(lambda c: listed(c, after, most + 1))
    answer: dict[str, Any] = {key: [desk.url(context, name) for name in names[:most]]}
    if asked is not None and len(names) > most:
        answer["NextToken"] = base64.urlsafe_b64encode(names[most - 1].encode()).decode()
    return without_empty(answer)


def _read_token(token: str | None) -> str | None:
    if token is None:
        return None
    try:
        name = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        name = ""
    if not queues.is_name(name):
        raise errors.invalid("Invalid or expired next token.")
    return name
