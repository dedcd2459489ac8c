"""`fanfold status`: the queue, the fan-outs, and the tasks of one."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.table import Table

from fanfold.app import Fanfold
from fanfold.cli.common import (
    addresses,
    app_option,
    as_json,
    load,
    one_line,
    print_table,
    require_file,
    to_people,
    to_scripts,
)
from fanfold.errors import ConfigurationError, NoLedgerError
from fanfold.model import FanOut, Json, QueueStatus, TaskState

STILL_OPEN: Final = 3
WITH_FAILURES: Final = 4

_COLOURS: Final = {
    TaskState.SUCCEEDED: "green",
    TaskState.DEAD: "red",
    TaskState.FAILED: "yellow",
    TaskState.RUNNING: "cyan",
}


@click.command(short_help="Show the queue and the newest fan-outs, or one's tasks.")
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
      fanfold status 01a3185c50007cec8e61feb5556ca079 --json

    \b
    With FAN_OUT_ID the exit code says how it stands:
      0  complete, and everything succeeded
      3  still open
      4  complete, but a task or the completion itself was set aside
      1  not found, or another error
    """
    with load(target, **overrides) as app:
        require_file(app)
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
    counts, fan_outs = app.status(), _fan_outs(app, limit=limit, open_only=open_only)
    if as_json:
        known = None if fan_outs is None else [_summary(fan_out) for fan_out in fan_outs]
        to_scripts({"queue": dataclasses.asdict(counts), "fan_outs": known})
        return
    to_people().print(_queue_line(app, counts), markup=False, soft_wrap=True)
    if fan_outs:
        print_table(_overview(app, fan_outs))
    elif fan_outs is None:
        click.echo("There is no ledger, so nobody knows the fan-outs; give --ledger.")
    else:
        click.echo("No fan-outs" + (" are open." if open_only else " yet."))


def _fan_outs(app: Fanfold, *, limit: int, open_only: bool) -> list[FanOut] | None:
    try:
        return app.fan_outs(limit=limit, open_only=open_only)
    except NoLedgerError:
        return None


def _queue_line(app: Fanfold, counts: QueueStatus) -> str:
    return (
        f"{app.settings.queue_url}: {counts.messages_available} available, {counts.messages_in_flight} in flight, "
        f"{counts.messages_delayed} delayed"
    )


def _overview(app: Fanfold, fan_outs: Sequence[FanOut]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("fan-out", app.words["entity_id"]):
        table.add_column(heading, no_wrap=True)
    for heading in ("tasks", "succeeded", "dead", "waiting", "running"):
        table.add_column(heading, justify="right")
    for heading in ("state", "created"):
        table.add_column(heading)
    for fan_out in fan_outs:
        p = fan_out.progress
        numbers = (fan_out.total_tasks, p.succeeded, p.dead, p.pending + p.failed, p.running)
        names = one_line(fan_out.fan_out_id), one_line(fan_out.entity_id)
        table.add_row(*names, *map(str, numbers), _state(fan_out), _time(fan_out.created_at))
    return table


def _show_one(app: Fanfold, fan_out: FanOut, *, as_json: bool) -> None:
    if as_json:
        to_scripts(_summary(fan_out) | {"tasks": [dataclasses.asdict(record) for record in fan_out.tasks]})
        return
    about = one_line(f"{fan_out.fan_out_id}  {app.words['entity_id']} {fan_out.entity_id}  {_state(fan_out)}")
    to_people().print(about, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column(app.words["task_name"], no_wrap=True)
    for heading in ("state", "attempts"):
        table.add_column(heading)
    table.add_column("result or reason", overflow="fold")
    for record in fan_out.tasks:
        said = record.failure or _said(record.result)
        state = one_line(record.state, style=_COLOURS.get(record.state, ""))
        table.add_row(one_line(record.task_name), state, str(record.attempts), one_line(said, length=100))
    print_table(table)


def _said(result: Json) -> str:
    if result is None or isinstance(result, str):
        return result or ""
    return json.dumps(result, ensure_ascii=False)


def _exit_code(fan_out: FanOut) -> int:
    if fan_out.completed_at is None:
        return STILL_OPEN
    whole = fan_out.progress.succeeded == fan_out.total_tasks and fan_out.fold_state is not TaskState.DEAD
    return 0 if whole else WITH_FAILURES


def _state(fan_out: FanOut) -> str:
    if fan_out.completed_at is None:
        return "open"
    if fan_out.fold_state in (None, TaskState.SUCCEEDED):
        return "complete"
    return f"complete, fold {fan_out.fold_state}"


def _summary(fan_out: FanOut) -> dict[str, Any]:
    record = dataclasses.asdict(fan_out)
    del record["tasks"]
    return record | {"state": _state(fan_out)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S")  # one word: never wrapped
