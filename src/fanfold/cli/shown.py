"""Fan-outs as people and scripts see them: tables, lines, trees and records. Nothing here asks for anything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table

from fanfold.cli.common import one_line
from fanfold.model import FanOut, Json, QueueStatus, TaskState

_COLOURS: Final = {
    TaskState.SUCCEEDED: "green",
    TaskState.DEAD: "red",
    TaskState.FAILED: "yellow",
    TaskState.RUNNING: "cyan",
}


def queue_line(queue_url: str, counts: QueueStatus) -> str:
    """The queue's counts in a line."""
    return (
        f"{queue_url}: {counts.messages_available} available, {counts.messages_in_flight} in flight, "
        f"{counts.messages_delayed} delayed"
    )


def overview(words: Mapping[str, str], fan_outs: Sequence[FanOut], *, fold: bool = False) -> Table:
    """A row for each fan-out; with `fold`, ids wrap where they don't fit, otherwise they make the table wider."""
    table = Table(box=None, pad_edge=False)
    for heading in ("fan-out", words["entity_id"]):
        table.add_column(heading, no_wrap=not fold, overflow="fold")
    for heading in ("tasks", "succeeded", "dead", "waiting", "running"):
        table.add_column(heading, justify="right")
    for heading in ("state", "created"):
        table.add_column(heading)
    for fan_out in fan_outs:
        p = fan_out.progress
        numbers = (fan_out.total_tasks, p.succeeded, p.dead, p.pending + p.failed, p.running)
        names = one_line(fan_out.fan_out_id), one_line(fan_out.entity_id)
        table.add_row(*names, *map(str, numbers), state(fan_out), time(fan_out.created_at))
    return table


def tasks(words: Mapping[str, str], fan_out: FanOut) -> Table:
    """A row for each task."""
    table = Table(box=None, pad_edge=False)
    table.add_column(words["task_name"], no_wrap=True)
    for heading in ("state", "attempts"):
        table.add_column(heading)
    table.add_column("result or reason", overflow="fold")
    for record in fan_out.tasks:
        said = record.failure or _said(record.result)
        stands = one_line(record.state, style=_COLOURS.get(record.state, ""))
        table.add_row(one_line(record.task_name), stands, str(record.attempts), one_line(said, length=100))
    return table


def progress_line(fan_out: FanOut) -> str:
    """One fan-out in a line: how it stands, and how many of its tasks are where."""
    p = fan_out.progress
    counts = {
        "succeeded": p.succeeded,
        "dead": p.dead,
        "cancelled": p.cancelled,
        "running": p.running,
        "waiting": p.pending + p.failed,
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{fan_out.fan_out_id}  {fan_out.entity_id}  {state(fan_out)}  {p.done} of {fan_out.total_tasks}: {told}"


def state(fan_out: FanOut) -> str:
    """How a fan-out stands, in a word or three."""
    if fan_out.completed_at is None:
        return "open"
    if fan_out.fold_state in (None, TaskState.SUCCEEDED):
        return "complete"
    return f"complete, fold {fan_out.fold_state}"


def is_whole(fan_out: FanOut) -> bool:
    """Whether every task of an ended fan-out, and its completion, went well as far as is known."""
    return fan_out.progress.succeeded == fan_out.total_tasks and fan_out.fold_state is not TaskState.DEAD


def has_failed(fan_out: FanOut) -> bool:
    """Whether a fan-out ended with more failures than it tolerates, or its completion was set aside."""
    return fan_out.succeeded is False or fan_out.fold_state is TaskState.DEAD


def summary(fan_out: FanOut) -> dict[str, Any]:
    """A fan-out without its tasks, for a script."""
    record = dataclasses.asdict(fan_out)
    del record["tasks"]
    return record | {"state": state(fan_out)}


def time(seconds: float) -> str:
    """A time as one word: it is never wrapped."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S")


def _said(result: Json) -> str:
    if result is None or isinstance(result, str):
        return result or ""
    return json.dumps(result, ensure_ascii=False)
