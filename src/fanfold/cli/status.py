"""`fanfold status`: the queue, the fan-outs, and the tasks of one."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.table import Table

from fanfold.app import Fanfold
from fanfold.cli.common import addresses, app_option, as_json, load, to_people, to_scripts
from fanfold.errors import ConfigurationError, NoLedgerError
from fanfold.model import FanOut, QueueStatus, TaskRecord, TaskState

STILL_OPEN: Final = 3
WITH_FAILURES: Final = 4

_COLOURS: Final = {
    TaskState.SUCCEEDED: "green",
    TaskState.DEAD: "red",
    TaskState.FAILED: "yellow",
    TaskState.RUNNING: "cyan",
}


@click.command()
@click.argument("fan_out_id", required=False)
@app_option
@addresses
@click.option("--open", "open_only", is_flag=True, help="Only fan-outs that aren't complete.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Fan-outs to list.")
@as_json
def status(
    fan_out_id: str | None, target: str | None, *, open_only: bool, limit: int, as_json: bool, **overrides: Any
) -> None:
    """Show the queue's counts and the newest fan-outs, or the tasks of one FAN_OUT_ID.

    \b
      fanfold status --queue-url sqlite:///tasks.db
      fanfold status 0d5c…  --json

    With FAN_OUT_ID the exit code says how it stands: 0 complete and all succeeded, 3 still open, 4 complete with
    failures, 1 not found.
    """
    with load(target, **overrides) as app:
        if fan_out_id is None:
            _show_overview(app, open_only=open_only, limit=limit, as_json=as_json)
            return
        fan_out = app.fan_out(fan_out_id).get()
        if fan_out is None:
            raise ConfigurationError(
                f"fan-out {fan_out_id!r} isn't in the ledger; `fanfold status` lists those that are"
            )
        _show_one(app, fan_out, as_json=as_json)
    sys.exit(_exit_code(fan_out))


def _show_overview(app: Fanfold, *, open_only: bool, limit: int, as_json: bool) -> None:
    counts = app.status()
    try:
        fan_outs = app.fan_outs(limit=limit, open_only=open_only)
    except NoLedgerError:
        fan_outs = []
    if as_json:
        to_scripts({"queue": dataclasses.asdict(counts), "fan_outs": [_summary(fan_out) for fan_out in fan_outs]})
        return
    console = to_people()
    console.print(_queue_line(app, counts))
    if fan_outs:
        console.print(_overview(app, fan_outs))
    else:
        console.print("No fan-outs" + (" are open." if open_only else " yet."))


def _queue_line(app: Fanfold, counts: QueueStatus) -> str:
    return (
        f"{app.settings.queue_url}: {counts.messages_available} available, {counts.messages_in_flight} in flight, "
        f"{counts.messages_delayed} delayed"
    )


def _overview(app: Fanfold, fan_outs: list[FanOut]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("fan-out", app.words["entity_id"], "created"):
        table.add_column(heading, no_wrap=True)
    for heading in ("tasks", "succeeded", "dead", "waiting", "running"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for fan_out in fan_outs:
        p = fan_out.progress
        numbers = (fan_out.total_tasks, p.succeeded, p.dead, p.pending + p.failed, p.running)
        table.add_row(
            fan_out.fan_out_id, fan_out.entity_id, _time(fan_out.created_at), *map(str, numbers), _state(fan_out)
        )
    return table


def _show_one(app: Fanfold, fan_out: FanOut, *, as_json: bool) -> None:
    if as_json:
        to_scripts(_summary(fan_out) | {"tasks": [_task(record) for record in fan_out.tasks]})
        return
    console = to_people()
    console.print(f"{fan_out.fan_out_id}  {app.words['entity_id']} {fan_out.entity_id}  {_state(fan_out)}")
    table = Table(box=None, pad_edge=False)
    table.add_column(app.words["task_name"], no_wrap=True)
    for heading in ("state", "attempts", "result or reason"):
        table.add_column(heading)
    for record in fan_out.tasks:
        said = str(record.failure) if record.failure else "" if record.result is None else str(record.result)
        colour = _COLOURS.get(record.state, "default")
        table.add_row(record.task_name, f"[{colour}]{record.state}[/]", str(record.attempts), _short(said))
    console.print(table)


def _exit_code(fan_out: FanOut) -> int:
    if fan_out.completed_at is None:
        return STILL_OPEN
    return 0 if fan_out.progress.succeeded == fan_out.total_tasks else WITH_FAILURES


def _state(fan_out: FanOut) -> str:
    if fan_out.completed_at is None:
        return "open"
    if fan_out.fold_state in (None, TaskState.SUCCEEDED):
        return "complete"
    return f"complete, fold {fan_out.fold_state}"


def _summary(fan_out: FanOut) -> dict[str, Any]:
    record = dataclasses.asdict(fan_out)
    del record["tasks"]
    return record


def _task(record: TaskRecord) -> dict[str, Any]:
    return dataclasses.asdict(record)


def _short(text: str, length: int = 100) -> str:
    line = " ".join(text.split())
    return (line[: length - 1] + "…" if len(line) > length else line).replace("[", r"\[")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
