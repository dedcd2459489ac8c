"""What becomes of a dead letter that is sent back: decided here, done elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from fanfold import codec, ids
from fanfold.errors import InvalidInputError
from fanfold.model import FOLD_NAME, DeadLetter, Failure, Json, Message, Task, TaskRecord, TaskState

Edit = Callable[[Task], Task]
"""Changes a task's configuration or metadata before it is sent back; never its names."""

MOVED: Final = "MovedByQueue"
"""The error type of what the queue's own redrive policy set aside."""
_EDITABLE: Final = ("task_config", "metadata")


class Verdict(Enum):
    """What to do with a dead letter that was chosen for a redrive."""

    SEND = "send"
    """No ledger knows its task: send it in a generation of its own."""
    RERUN = "rerun"
    """Its task is dead, or the queue moved its message and no ledger heard of it: let it begin anew, and send it."""
    RESEND = "resend"
    """Its task waits in a later generation: a redrive may have ended before it had sent the message. Send it again."""
    LEFTOVER = "leftover"
    """Its task was sent back and has begun, or is over: only the letter was left behind."""


def verdict(letter: DeadLetter, record: TaskRecord | None) -> Verdict:
    """What to do, by where the ledger says that the task stands (None: it doesn't know)."""
    if record is None or letter.task is None:
        return Verdict.SEND
    if record.state in (TaskState.SUCCEEDED, TaskState.CANCELLED):
        return Verdict.LEFTOVER
    if record.generation > letter.task.generation:
        return Verdict.RESEND if record.state is TaskState.PENDING else Verdict.LEFTOVER
    return Verdict.RERUN


def message(letter: DeadLetter, edit: Edit | None = None, *, generation: int | None = None) -> Message:
    """The letter as its queue takes it back: in a later generation (None: the next), with attempts of its own.

    The same letter always makes the same deduplication id, so that an interrupted redrive can be repeated.

    Raises:
        InvalidInputError: the edit asks for something of a body that can't be read, or changes what must not change.
    """
    group_id, again = letter.group_id or letter.message_id, f"redrive-{letter.message_id}"
    if letter.task is None:
        if edit is not None:
            raise InvalidInputError(f"dead letter {letter.message_id} can't be edited: its body is not a task")
        return Message(body=letter.body, group_id=group_id, deduplication_id=again, attributes=letter.attributes)
    task = _anew(letter.task, edit, letter.task.generation + 1 if generation is None else generation)
    if task.fan_out_id is not None:
        again = ids.deduplication_id(task.entity_id, task.task_name, task.fan_out_id, task.generation)
    body = codec.encode_body(task)
    return Message(body=body, group_id=group_id, deduplication_id=again, attributes=letter.attributes)


def new_config(letter: DeadLetter, record: TaskRecord | None, edit: Edit | None) -> dict[str, Mapping[str, Json]]:
    """What the ledger is to be told of the configuration that a letter is sent with: nothing where it knows it."""
    task = letter.task
    if task is None or task.task_name == FOLD_NAME:
        return {}
    config = (edit(task) if edit is not None else task).task_config
    return {task.task_name: config} if record is not None and record.task_config != config else {}


def as_known(config: Mapping[str, Json] | None) -> Edit | None:
    """The edit that gives a task the configuration that the ledger has of it (None: no edit)."""
    return None if config is None else lambda task: dataclasses.replace(task, task_config=config)


def _anew(task: Task, edit: Edit | None, generation: int) -> Task:
    edited = edit(task) if edit is not None else task
    changed = [f for f in ("entity_id", "task_name", "fan_out_id") if getattr(edited, f) != getattr(task, f)]
    if changed:
        raise InvalidInputError(f"an edit can't change {changed[0]}: that would be another task; enqueue it instead")
    return dataclasses.replace(edited, generation=generation, retry_count=0)


def with_values(settings: Sequence[str]) -> Edit:
    """An edit from texts such as `task_config.model=small` or `metadata.depth=3`; values are JSON, else text.

    Raises:
        InvalidInputError: a text isn't of that form.
    """
    changes = [_change(text) for text in settings]

    def edit(task: Task) -> Task:
        for path, value in changes:
            changed: dict[str, Any] = {path[0]: _set(getattr(task, path[0]), path[1:], value)}
            task = dataclasses.replace(task, **changed)
        return task

    return edit


def movable(letter: DeadLetter) -> bool:
    """Whether its queue could take a letter back as it is: each task is a lane of its own, so that no order is lost."""
    task = letter.task
    return task is not None and letter.group_id == ids.group_id(task.entity_id, task.task_name)


def told(letter: DeadLetter, record: TaskRecord | None) -> DeadLetter:
    """The letter with what the ledger knows of its task; the letter's own word comes first."""
    if letter.reason and record is None:
        return letter
    moved = not letter.reason
    failure = record.failure if record is not None and record.failure is not None else None
    cause = f"; before that: {failure}" if failure else ""
    known: dict[str, Any] = {"state": record.state, "worker": letter.worker or record.worker} if record else {}
    if moved:
        known["reason"] = f"the queue set it aside after {letter.receive_count} receives: its workers died{cause}"
        known["error_type"] = failure.type if failure else MOVED
        known["traceback"] = failure.traceback if failure else ""
        known["attempts"] = record.attempts if record else None
    return dataclasses.replace(letter, **known)


def dropped(letter: DeadLetter) -> Failure:
    """Why a task is dead whose letter was dropped before the ledger knew that the queue had set it aside."""
    return Failure(type=letter.error_type or MOVED, message=letter.reason or "set aside by the queue, then dropped")


def _change(text: str) -> tuple[list[str], Json]:
    name, equals, value = text.partition("=")
    path = name.split(".")
    if not equals or path[0] not in _EDITABLE or len(path) < 2 or not all(path):  # noqa: PLR2004 - a root and a key
        raise InvalidInputError(f"{text!r}: write task_config.KEY=VALUE or metadata.KEY=VALUE")
    try:
        return path, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return path, value


def _set(whole: Mapping[str, Json], path: Sequence[str], value: Json) -> dict[str, Json]:
    if len(path) == 1:
        return {**whole, path[0]: value}
    inner = whole.get(path[0])
    return {**whole, path[0]: _set(inner if isinstance(inner, Mapping) else {}, path[1:], value)}
