"""`fanfold cancel`: what isn't over of a fan-out, or of some of its tasks, never runs."""

from __future__ import annotations

from typing import Any

import click

from fanfold.cli.acting import agreed, asked_first, named, report
from fanfold.cli.common import addresses, app_option, as_json, load, require_file


@click.command(short_help="Cancel a fan-out, or some of its tasks.")
@click.argument("fan_out_id", metavar="FAN_OUT")
@click.argument("task_names", metavar="[TASKS]...", nargs=-1)
@app_option
@addresses
@asked_first
@as_json
def cancel(
    fan_out_id: str,
    task_names: tuple[str, ...],
    target: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Cancel what isn't over of FAN_OUT: all of it, or only the TASKS. It says how many, and asks first.

    \b
      fanfold cancel 01a3185c50007cec8e61feb5556ca079 --dry-run
      fanfold cancel 01a3185c50007cec8e61feb5556ca079 roofType --yes

    What waits never runs; what runs is told within a third of its worker's lease. When nothing is left, the completion
    comes, once: at once with --app, otherwise sent by a worker within two minutes.

    Exit codes: 0 done, also where nothing was left to cancel; 1 not found, not agreed to, or another error; 2 wrong
    usage, or nobody to ask and no --yes.
    """
    with load(target, **overrides) as app:
        require_file(app)
        fan_out, chosen = named(app, fan_out_id, task_names)
        left = [task for task in chosen if not task.state.terminal]
        names: list[str] = []
        if agreed(f"to cancel of {fan_out.total_tasks}", left, dry_run=dry_run, yes=yes, quiet=as_json):
            names = list(app.fan_out(fan_out_id).cancel(*task_names))
    record = {"fan_out_id": fan_out_id, "to_cancel": [task.task_name for task in left], "cancelled": names}
    report(f"{len(names)} task(s) cancelled.", record, dry_run=dry_run, as_json=as_json)
