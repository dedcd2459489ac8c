"""Task ⇄ message. The body's keys are fixed; a producer or consumer that knows only the first seven interoperates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from fanfold import ids, limits
from fanfold.errors import InvalidInputError, MalformedMessageError
from fanfold.model import Json, Message, Task

_decode: Final = msgspec.json.Decoder(Task).decode
_encode: Final = msgspec.json.Encoder().encode
_OWN: Final = '"task_name":"","task_config":{}'
"""What a body without a task of its own has in its place. No text within a body can look so: its quotes are escaped."""
_SURELY_TAKEN: Final = limits.MAX_REQUEST_BYTES // 8
"""Characters of a body that fits whatever they are, with its attributes: UTF-8 takes at most four bytes for each."""


def timestamp(now: float) -> str:
    """`now` (seconds since the epoch) as the wire writes it: ISO 8601 in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat()


def parsed_timestamp(text: str) -> float | None:
    """What `timestamp` wrote, as seconds since the epoch; None for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


class Encoder:
    """Makes the messages of one fan-out: what their bodies have in common is written once."""

    def __init__(self, header: Task, *, group_by: ids.GroupBy = ids.group_per_task) -> None:
        """Write what `header` says, whatever its task's name and configuration.

        Raises:
            InvalidInputError: it has no fan_out_id, or something that can't be written.
        """
        if header.fan_out_id is None:
            raise InvalidInputError(
                "a task without a fan_out_id has no deduplication id; give it the id of its fan-out"
            )
        self._header = header
        self._fan_out_id = header.fan_out_id
        self._group_by = group_by
        self._before, _, self._after = encode_body(replace(header, task_name="", task_config={})).partition(_OWN)

    def encode(self, task_name: str, task_config: Mapping[str, Json]) -> Message:
        """The message of one task.

        Raises:
            InvalidInputError: its body isn't JSON, has characters that SQS refuses, or the message is over 1 MiB.
        """
        entity_id = self._header.entity_id
        what = f"task {task_name!r}"
        own = f'"task_name":{to_json(task_name, what=what)},"task_config":{to_json(task_config, what=what)}'
        _check_representable(own, entity_id, task_name)
        message = Message(
            body=f"{self._before}{own}{self._after}",
            group_id=ids.group_id(entity_id, task_name, self._group_by),
            deduplication_id=ids.deduplication_id(entity_id, task_name, self._fan_out_id, self._header.generation),
            attributes={"entity_id": entity_id, "task_name": task_name},
        )
        if len(message.body) > _SURELY_TAKEN and message.size > limits.MAX_REQUEST_BYTES:
            raise InvalidInputError(
                f"task {task_name!r} of {entity_id!r} makes a message of {message.size:,} bytes; SQS takes at "
                f"most {limits.MAX_REQUEST_BYTES:,} (1 MiB). Put the data in a store and its address in task_config."
            )
        return message


def encode(task: Task, *, group_by: ids.GroupBy = ids.group_per_task) -> Message:
    """The message for a task.

    Raises:
        InvalidInputError: the body isn't JSON, has characters that SQS refuses, or the message is over 1 MiB.
    """
    return Encoder(task, group_by=group_by).encode(task.task_name, task.task_config)


def encode_body(task: Task) -> str:
    """The body, as JSON text.

    Raises:
        InvalidInputError: a value isn't JSON, or the text has a character that SQS refuses.
    """
    body = to_json(task, what=f"task {task.task_name!r}")
    _check_representable(body, task.entity_id, task.task_name)
    return body


def _check_representable(text: str, entity_id: str, task_name: str) -> None:
    if (bad := limits.unrepresentable(text)) is not None:
        raise InvalidInputError(
            f"task {task_name!r} of {entity_id!r} contains {bad!r}, which SQS refuses in a message body "
            "(allowed: #x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF); remove or escape it"
        )


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


def configs(of: Mapping[str, Mapping[str, Json]]) -> dict[str, str]:
    """Tasks' configurations, by their names, as JSON texts. Raises as `to_json`."""
    return {name: to_json(config, what=f"config of {name!r}") for name, config in of.items()}


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
