"""Dead letters as JSON Lines: to keep them, look at them elsewhere, and put them back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from fanfold import codec
from fanfold.errors import InvalidInputError, MalformedMessageError
from fanfold.model import DeadLetter, Task, TaskState


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    message_id: str
    body: str
    entity_id: str | None = None
    task_name: str | None = None
    reason: str = ""
    error_type: str = ""
    traceback: str = ""
    attempts: int | None = None
    receive_count: int = 0
    enqueued_at: float | None = None
    set_aside_at: float | None = None
    worker: str = ""
    trace_id: str = ""
    group_id: str = ""
    source_message_id: str = ""
    attributes: dict[str, str] = {}
    state: TaskState | None = None


_decode: Final = msgspec.json.Decoder(_Line).decode
_DERIVED: Final = ("entity_id", "task_name")


def write(letter: DeadLetter) -> str:
    """One line, without its end. Everything but the receipt handle, which is of use to nobody else."""
    task = letter.task
    names = {"entity_id": task.entity_id if task else None, "task_name": task.task_name if task else None}
    values = {name: getattr(letter, name) for name in _Line.__struct_fields__ if name not in _DERIVED}
    return msgspec.json.encode(_Line(**values | names)).decode()


def read(line: str, number: int) -> DeadLetter:
    """The letter that a line holds.

    Raises:
        InvalidInputError: it isn't one; the text names the line by its `number`.
    """
    try:
        raw = _decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidInputError(
            f"line {number} is no dead letter ({error}); `fanfold dlq export` writes them"
        ) from error
    values = {name: getattr(raw, name) for name in _Line.__struct_fields__ if name not in _DERIVED}
    source = raw.source_message_id or raw.message_id
    return DeadLetter(**values | {"receipt_handle": "", "task": _task(raw.body), "source_message_id": source})


def read_all(lines: Iterable[str]) -> list[DeadLetter]:
    """The letters that lines hold, but for empty ones. Raises InvalidInputError where one holds none."""
    return [read(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def _task(body: str) -> Task | None:
    try:
        return codec.decode(body)
    except MalformedMessageError:
        return None
