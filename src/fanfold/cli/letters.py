"""Dead letters as people and scripts see them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.table import Table

from fanfold.app import Fanfold
from fanfold.cli.common import one_line
from fanfold.model import DeadLetter, Json

_REASON: Final = 100


def table(app: Fanfold, letters: Sequence[DeadLetter]) -> Table:
    """A line for each letter, oldest first."""
    made = Table(box=None, pad_edge=False)
    for heading in ("id", "set aside", app.words["entity_id"], app.words["task_name"], "attempts"):
        made.add_column(heading, no_wrap=True)
    made.add_column("reason")
    for letter in sorted(letters, key=lambda letter: letter.set_aside_at or 0.0):
        names = (letter.task.entity_id, letter.task.task_name) if letter.task else ("unreadable", "")
        attempts = str(letter.attempts) if letter.attempts is not None else ""
        row = (letter.message_id[:8], _time(letter.set_aside_at), *names, attempts)
        made.add_row(*(one_line(cell) for cell in row), one_line(letter.reason, _REASON))
    return made


def show(app: Fanfold, letter: DeadLetter) -> None:
    """Print all that is known of one letter."""
    task = letter.task
    told = {
        "message id": letter.message_id,
        app.words["entity_id"]: task.entity_id if task else "unreadable",
        app.words["task_name"]: task.task_name if task else "",
        "config": _json(task.task_config) if task else "",
        "metadata": _json(task.metadata) if task else "",
        "reason": letter.reason,
        "error type": letter.error_type,
        "attempts": letter.attempts,
        "enqueued": _time(letter.enqueued_at),
        "set aside": _time(letter.set_aside_at),
        "worker": letter.worker,
        "trace id": letter.trace_id,
        "fan-out": task.fan_out_id if task else "",
        "state in the ledger": letter.state,
    }
    for name, value in told.items():
        if value not in (None, ""):
            click.echo(f"{name + ':':<20} {one_line(value)}")
    for text in (letter.traceback, "" if task else letter.body):
        click.echo("".join(f"\n{_printable(line)}" for line in text.splitlines()) if text else "", nl=bool(text))


def record(letter: DeadLetter) -> dict[str, Any]:
    """A letter for JSON."""
    return dataclasses.asdict(letter)


def _json(value: Mapping[str, Json]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def _printable(line: str) -> str:
    """A line with its indentation, control characters as escapes."""
    text = line.lstrip(" ")
    return line[: len(line) - len(text)] + str(one_line(text))
