"""Task ⇄ message. The body's keys are fixed; a producer or consumer that knows only the first seven interoperates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from fanfold import ids, limits
from fanfold.errors import InvalidInputError, MalformedMessageError
from fanfold.model import Json, Message, Task

_decode: Final = msgspec.json.Decoder(Task).decode
_encode: Final = msgspec.json.Encoder().encode


def timestamp(now: float) -> str:
    """`now` (seconds since the epoch) as the wire writes it: ISO 8601 in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat()


def parsed_timestamp(text: str) -> float | None:
    """What `timestamp` wrote, as seconds since the epoch; None for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def encode(task: Task, *, group_by: ids.GroupBy = ids.group_per_task) -> Message:
    """The message for a task.

    Raises:
        InvalidInputError: the body isn't JSON, has characters that SQS refuses, or the message is over 1 MiB.
    """
    if task.fan_out_id is None:
        raise InvalidInputError("a task without a fan_out_id has no deduplication id; give it the id of its fan-out")
    message = Message(
        body=encode_body(task),
        group_id=ids.group_id(task.entity_id, task.task_name, group_by),
        deduplication_id=ids.deduplication_id(task.entity_id, task.task_name, task.fan_out_id, task.generation),
        attributes={"entity_id": task.entity_id, "task_name": task.task_name},
    )
    if message.size > limits.MAX_REQUEST_BYTES:
        raise InvalidInputError(
            f"task {task.task_name!r} of {task.entity_id!r} makes a message of {message.size:,} bytes; SQS takes at "
            f"most {limits.MAX_REQUEST_BYTES:,} (1 MiB). Put the data in a store and its address in task_config."
        )
    return message


def encode_body(task: Task) -> str:
    """The body, as JSON text.

    Raises:
        InvalidInputError: a value isn't JSON, or the text has a character that SQS refuses.
    """
    body = to_json(task, what=f"task {task.task_name!r}")
    if (bad := limits.unrepresentable(body)) is not None:
        raise InvalidInputError(
            f"task {task.task_name!r} of {task.entity_id!r} contains {bad!r}, which SQS refuses in a message body "
            "(allowed: #x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF); remove or escape it"
        )
    return body


def decode(body: str) -> Task:
    """The task that a body carries.

    Raises:
        MalformedMessageError: it isn't JSON, or lacks a key, or a key has the wrong type; the text says which.
    """
    try:
        task = _decode(body)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedMessageError(f"the body is not a task: {error}. It begins {body[:80]!r}") from error
    if not task.entity_id or not task.task_name:
        raise MalformedMessageError("the body is not a task: entity_id and task_name must not be empty")
    return task


def to_json(value: Json, *, what: str) -> str:
    """`value` as compact JSON text.

    Raises:
        InvalidInputError: it holds something that JSON can't carry (NaN and infinities included).
    """
    if value is None:
        return "null"
    try:
        raw = _encode(value)
        text = raw.decode()
        if b"null" in raw:
            # msgspec writes NaN and infinities as null; a value must come out as it went in.
            _refuse_nonfinite(msgspec.to_builtins(value), what)
    except InvalidInputError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise InvalidInputError(
            f"{what} can't be written as JSON: {error}. Use strings, numbers, booleans, None, lists and dicts "
            "with string keys."
        ) from error
    return text


def from_json(text: str) -> Json:
    """The value of JSON text that `to_json` wrote."""
    return msgspec.json.decode(text)


def _refuse_nonfinite(value: Json, what: str) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not (item - item == 0.0):
            raise InvalidInputError(f"{what} holds {item!r}, which JSON can't carry; use None or a string")
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
