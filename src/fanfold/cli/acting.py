"""What commands about one fan-out share: finding it, which tasks are meant, being asked before anything happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from fanfold.app import Fanfold
from fanfold.cli.common import one_line, to_scripts
from fanfold.errors import InvalidInputError, UnknownFanOutError
from fanfold.model import FanOut, TaskRecord

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN: Final = 10

_OPTIONS: Final = (
    click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing."),
    click.option("--yes", "-y", is_flag=True, help="Don't ask first."),
)


def asked_first(command: F) -> F:
    """Add the options about being asked."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def found(app: Fanfold, fan_out_id: str) -> FanOut:
    """A fan-out with its tasks. Raises UnknownFanOutError where the ledger doesn't know it."""
    fan_out = app.fan_out(fan_out_id).get()
    if fan_out is None:
        raise UnknownFanOutError(f"fan-out {fan_out_id!r} isn't in the ledger; `fanfold status` lists those that are")
    return fan_out


def named(app: Fanfold, fan_out_id: str, task_names: Sequence[str]) -> tuple[FanOut, list[TaskRecord]]:
    """A fan-out and its tasks of these names, or all.

    Raises:
        UnknownFanOutError: the ledger doesn't know it.
        InvalidInputError: it has no task of such a name.
    """
    fan_out = found(app, fan_out_id)
    known = {record.task_name: record for record in fan_out.tasks}
    if unknown := sorted(set(task_names) - known.keys()):
        raise InvalidInputError(
            f"fan-out {fan_out_id} has no task {unknown[0]!r}; `fanfold status {fan_out_id}` lists those that it has"
        )
    return fan_out, [known[name] for name in dict.fromkeys(task_names)] if task_names else list(fan_out.tasks)


def agreed(what: str, tasks: Sequence[TaskRecord], *, dry_run: bool, yes: bool, quiet: bool) -> bool:
    """Say what is about to happen and to how many, and ask unless that was answered before; whether to go on.

    Raises:
        click.UsageError: there is nobody to ask.
        click.Abort: the answer was no.
    """
    if not quiet:
        click.echo(f"{what}: {_listed(tasks)}")
    if dry_run or not tasks or yes:
        return bool(tasks) and not dry_run
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask here: give --yes to do it, or --dry-run to see what it would be")
    click.confirm("Go on?", abort=True)
    return True


def report(text: str, record: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Say what was done, to a person or to a script."""
    if as_json:
        to_scripts({**record, "dry_run": dry_run})
    else:
        click.echo("Nothing was done." if dry_run else text)


def _listed(tasks: Sequence[TaskRecord]) -> str:
    names = ", ".join(str(one_line(task.task_name)) for task in tasks[:_SHOWN])
    more = f", and {len(tasks) - _SHOWN} more" if len(tasks) > _SHOWN else ""
    return f"{len(tasks)} task(s){': ' if tasks else ''}{names}{more}"
