"""`fanfold rerun`: tasks of a fan-out that are over, again, as its next generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fanfold.cli.acting import agreed, asked_first, named, report
from fanfold.cli.common import addresses, app_option, as_json, load, require_file
from fanfold.model import TaskRecord, TaskState


@click.command(short_help="Run the failed tasks of a fan-out again, or others.")
@click.argument("fan_out_id", metavar="FAN_OUT")
@click.argument("task_names", metavar="[TASKS]...", nargs=-1)
@click.option("--failed", is_flag=True, help="Only what was set aside or cancelled. It is the default, but for TASKS.")
@click.option("--all", "everything", is_flag=True, help="What succeeded, too.")
@app_option
@addresses
@asked_first
@as_json
def rerun(
    fan_out_id: str,
    task_names: tuple[str, ...],
    target: str | None,
    *,
    failed: bool,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Run tasks of FAN_OUT that are over again: the failed ones, --all, or the TASKS. It says how many, and asks first.

    \b
      fanfold rerun 01a3185c50007cec8e61feb5556ca079
      fanfold rerun 01a3185c50007cec8e61feb5556ca079 roofType yearBuilt --yes

    It is the fan-out's next generation: attempts are counted anew, and its end has a completion of its own. Where the
    application has a group strategy of its own, give --app.

    Exit codes: 0 done, also where there was nothing to run; 1 not found, not agreed to, the queue didn't accept some
    (then the workers send them), or another error; 2 wrong usage, or nobody to ask and no --yes.
    """
    failed_only = _failed_only(task_names, failed=failed, everything=everything)
    with load(target, **overrides) as app:
        require_file(app)
        fan_out, chosen = named(app, fan_out_id, task_names)
        over = _over(chosen, failed_only=failed_only)
        sent = 0
        if agreed(f"to run again of {fan_out.total_tasks}", over, dry_run=dry_run, yes=yes, quiet=as_json):
            sent = app.fan_out(fan_out_id).rerun(*task_names, failed_only=failed_only)
    record = {"fan_out_id": fan_out_id, "to_run": [task.task_name for task in over], "sent": sent}
    waited = max(0, sent - len(over))
    text = f"{sent - waited} task(s) sent." + (f" {waited} that waited already were sent again, too." if waited else "")
    report(text, record, dry_run=dry_run, as_json=as_json)


def _failed_only(task_names: Sequence[str], *, failed: bool, everything: bool) -> bool:
    if everything and (failed or task_names):
        raise click.UsageError("--all runs everything again: leave out --failed and the TASKS")
    return failed or not (everything or task_names)


def _over(tasks: Sequence[TaskRecord], *, failed_only: bool) -> list[TaskRecord]:
    return [t for t in tasks if t.state.terminal and not (failed_only and t.state is TaskState.SUCCEEDED)]
