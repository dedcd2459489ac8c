"""SQS actions on what queues say of themselves: attributes, permissions, tags."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from fanfold import limits
from fanfold.engine import attributes, counting, errors, policies, queues, upkeep
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name, required, storable, without_empty
from fanfold.engine.queues import Queue
from fanfold.model import QueueStatus

_ALL: Final = "All"
_LONGEST_KEY: Final = 128
_LONGEST_TAG: Final = 256
_SLICE: Final = 1000


async def get_queue_attributes(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """GetQueueAttributes. Counts are exact and current."""
    name = queue_name(request)
    names: Sequence[str] = request.get("AttributeNames") or ()
    unknown = [asked for asked in names if asked != _ALL and asked not in attributes.NAMES]
    if unknown:
        raise errors.unknown_attribute(unknown[0])
    told = await desk.write(lambda c: _told(desk, c, name)) if names else await _nothing(desk, name)
    wanted = told if _ALL in names else {asked: told[asked] for asked in names if asked in told}
    return without_empty({"Attributes": wanted})


async def set_queue_attributes(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """SetQueueAttributes. An empty Policy, RedrivePolicy, RedriveAllowPolicy or KmsMasterKeyId removes it."""
    name = queue_name(request)
    given: Mapping[str, str] = request.get("Attributes") or {}
    if not given:
        raise errors.missing("Attribute.Name")
    await desk.write(lambda c: _set(desk, c, name, given))
    desk.doorbell.ring(name)
    return {}


async def add_permission(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """AddPermission: a statement in the queue's Policy, which is stored and never applied."""
    name, label = queue_name(request), required(request, "Label")
    accounts: Sequence[str] = request.get("AWSAccountIds") or ()
    actions: Sequence[str] = request.get("Actions") or ()
    if not actions:
        raise errors.missing("Actions")

    def add(policy: str | None) -> str:
        return policies.with_permission(policy, desk.arn(name), label, accounts, actions)

    await desk.write(lambda c: _change_policy(desk, c, name, add(_policy(c, name))))
    return {}


async def remove_permission(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """RemovePermission: takes a statement out of the queue's Policy."""
    name, label = queue_name(request), required(request, "Label")
    await desk.write(lambda c: _change_policy(desk, c, name, policies.without_permission(_policy(c, name), label)))
    return {}


async def tag_queue(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """TagQueue: adds tags, or gives them other values."""
    name, added = queue_name(request), request.get("Tags") or {}
    if not added:
        raise errors.missing("Tags")

    def tag(connection: sqlite3.Connection) -> None:
        queue = queues.load(connection, name)
        together = {**queues.tags(queue), **added}
        check_tags(together, name)
        queues.tag(connection, queue, together)

    await desk.write(tag)
    return {}


async def untag_queue(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """UntagQueue. A key that isn't there doesn't matter."""
    name, keys = queue_name(request), request.get("TagKeys") or []
    if not keys or not all(1 <= len(key) <= _LONGEST_KEY for key in keys):
        raise errors.invalid("Tag keys must be between 1 and 128 characters in length.")

    def untag(connection: sqlite3.Connection) -> None:
        queue = queues.load(connection, name)
        queues.tag(connection, queue, {k: v for k, v in queues.tags(queue).items() if k not in keys})

    await desk.write(untag)
    return {}


async def list_queue_tags(desk: Desk, request: Request, context: CallContext) -> Answer:  # noqa: ARG001
    """ListQueueTags."""
    name = queue_name(request)
    return without_empty({"Tags": await desk.read(lambda c: queues.tags(queues.load(c, name)))})


def told_settings(desk: Desk, queue: Queue) -> dict[str, str]:
    """What can be set of a queue, as SQS tells it."""
    told = attributes.shown(attributes.decode(queue.attributes), fifo=queue.fifo)
    if queue.redrive is not None:
        told["RedrivePolicy"] = policies.show_redrive(desk.arn(queue.redrive.target), queue.redrive.most)
    return told


def check_tags(tags: Mapping[str, str], name: str) -> None:
    """Raises SqsError where tags break a rule."""
    if len(tags) > limits.MAX_TAGS:
        raise errors.invalid(f"Too many tags added for queue {name}.")
    for key, value in tags.items():
        if not 1 <= len(key) <= _LONGEST_KEY or not storable(key):
            raise errors.invalid("Tag keys must be between 1 and 128 characters in length.")
        if len(value) > _LONGEST_TAG or not storable(value):
            raise errors.invalid("Tag values must be between 0 and 256 characters in length.")
        if key.lower().startswith("aws:"):
            raise errors.invalid(f"Tag key {key} is invalid. Keys that begin with aws: are reserved.")


async def _nothing(desk: Desk, name: str) -> dict[str, str]:
    await desk.read(lambda c: queues.load(c, name))
    return {}


def _told(desk: Desk, connection: sqlite3.Connection, name: str) -> dict[str, str]:
    queue, now = queues.load(connection, name), desk.now()
    upkeep.expire(connection, queue, now, _SLICE)
    return told_settings(desk, queue) | _computed(desk, queue, counting.status(connection, queue, now))


def _computed(desk: Desk, queue: Queue, counts: QueueStatus) -> dict[str, str]:
    return {
        "ApproximateNumberOfMessages": str(counts.messages_available),
        "ApproximateNumberOfMessagesDelayed": str(counts.messages_delayed),
        "ApproximateNumberOfMessagesNotVisible": str(counts.messages_in_flight),
        "CreatedTimestamp": str(queue.created_at // 1000),
        "LastModifiedTimestamp": str(queue.modified_at // 1000),
        "QueueArn": desk.arn(queue.name),
    }


def _set(desk: Desk, connection: sqlite3.Connection, name: str, given: Mapping[str, str]) -> None:
    queue = queues.load(connection, name)
    changes = attributes.read(given, fifo=queue.fifo)
    if changes.pop("FifoQueue", "true") != "true":
        raise errors.invalid_attribute("FifoQueue", "Modifying queue type is not supported.")
    redrive, policy = queue.redrive, changes.pop("RedrivePolicy", None)
    if policy is not None:
        redrive = queues.check_redrive(connection, name, policy) if policy else None
    stored = attributes.merged(attributes.decode(queue.attributes), changes)
    queues.change(connection, queue, stored, redrive, desk.now())


def _policy(connection: sqlite3.Connection, name: str) -> str | None:
    return attributes.decode(queues.load(connection, name).attributes).get("Policy")


def _change_policy(desk: Desk, connection: sqlite3.Connection, name: str, policy: str) -> None:
    queue = queues.load(connection, name)
    stored = attributes.merged(attributes.decode(queue.attributes), {"Policy": policy})
    queues.change(connection, queue, stored, queue.redrive, desk.now())
