"""`fanfold status`: the queue, the fan-outs, and the tasks of one; with `--watch`, as they change."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sys
from functools import partial
from typing import Any, Final

import click

from fanfold.app import Fanfold
from fanfold.cli import chain, shown
from fanfold.cli.acting import found
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
from fanfold.cli.watch import Seen, is_over, watch_here
from fanfold.errors import NoLedgerError
from fanfold.model import FanOut

STILL_OPEN: Final = 3
WITH_FAILURES: Final = 4

_FURTHEST: Final = 100_000
"""Newest fan-outs among which those that match a filter are looked for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which fan-outs to list."""

    open_only: bool
    failed_only: bool
    entity_id: str | None
    limit: int

    def matches(self, fan_out: FanOut) -> bool:
        """Whether a fan-out is among them."""
        if self.open_only and fan_out.completed_at is not None:
            return False
        return not self.failed_only or shown.has_failed(fan_out)


def _interval(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 < value < math.inf:
        raise click.BadParameter(f"{value}: write seconds as a number above 0")
    return value


@click.command(short_help="Show the queue and the newest fan-outs, or one's tasks.")
@click.argument("fan_out_id", required=False)
@app_option
@addresses
@click.option("--open", "open_only", is_flag=True, help="Only fan-outs that aren't complete.")
@click.option(
    "--failed",
    "failed_only",
    is_flag=True,
    help="Only those of which more tasks than are tolerated, or the completion, failed.",
)
@click.option("--entity", "entity_id", metavar="ID", help="Only fan-outs of this entity.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Fan-outs to list.")
@click.option("--watch", "watching", is_flag=True, help="Go on: redrawn in a terminal, a line a change in a pipe.")
@click.option(
    "--every",
    type=float,
    default=1.0,
    show_default=True,
    callback=_interval,
    metavar="SECONDS",
    help="Between two looks of --watch.",
)
@as_json
def status(
    fan_out_id: str | None, target: str | None, *, watching: bool, every: float, as_json: bool, **given: Any
) -> None:
    """Show the queue's counts and the newest fan-outs, or the tasks of one FAN_OUT_ID and the stages around it.

    \b
      fanfold status --queue-url sqlite:///tasks.db --failed
      fanfold status 01a3185c50007cec8e61feb5556ca079 --json
      fanfold status 01a3185c50007cec8e61feb5556ca079 --watch

    --watch of a fan-out ends when it has ended (with --app, when its completion has too); without one it goes on until
    Ctrl-C. With --json it prints an object on a line for each change.

    \b
    With FAN_OUT_ID the exit code says how it stands:
      0  complete, and everything succeeded
      3  still open
      4  complete, but a task or the completion itself was set aside
      1  not found, or another error
    """
    wanted = Wanted(**{name: given.pop(name) for name in ("open_only", "failed_only", "entity_id", "limit")})
    _check(fan_out_id, wanted)
    with load(target, **given) as app:
        require_file(app)
        if watching:
            fan_out = _watch(app, fan_out_id, wanted, every=every, as_json=as_json)
        elif fan_out_id is None:
            return _show_overview(app, wanted, as_json=as_json)
        else:
            fan_out = found(app, fan_out_id)
            _show_one(app, fan_out, as_json=as_json)
    sys.exit(_exit_code(fan_out))


def _check(fan_out_id: str | None, wanted: Wanted) -> None:
    if wanted.open_only and wanted.failed_only:
        raise click.UsageError("--open and --failed: no fan-out is both")
    if fan_out_id is not None and (wanted.open_only or wanted.failed_only or wanted.entity_id is not None):
        raise click.UsageError("--open, --failed and --entity choose among fan-outs; FAN_OUT_ID names one already")


def _show_overview(app: Fanfold, wanted: Wanted, *, as_json: bool) -> None:
    counts, fan_outs = app.status(), _fan_outs(app, wanted)
    if as_json:
        known = None if fan_outs is None else [shown.summary(fan_out) for fan_out in fan_outs]
        to_scripts({"queue": dataclasses.asdict(counts), "fan_outs": known})
        return
    to_people().print(shown.queue_line(app.settings.queue_url, counts), markup=False, soft_wrap=True)
    if fan_outs:
        print_table(shown.overview(app.words, fan_outs))
    elif fan_outs is None:
        click.echo("There is no ledger, so nobody knows the fan-outs; give --ledger.")
    else:
        click.echo(_none(wanted))


def _none(wanted: Wanted) -> str:
    of = f" of {wanted.entity_id}" if wanted.entity_id is not None else ""
    return f"No fan-outs{of} {'are open' if wanted.open_only else 'have failed' if wanted.failed_only else 'yet'}."


def _fan_outs(app: Fanfold, wanted: Wanted) -> list[FanOut] | None:
    try:
        return asyncio.run(_matching(app, wanted))
    except NoLedgerError:
        return None


async def _matching(app: Fanfold, wanted: Wanted) -> list[FanOut]:
    """The newest that match. The ledger knows open ones and an entity's; among those, the rest is looked for here."""
    open_only = wanted.open_only and wanted.entity_id is None
    asked = wanted.limit
    while True:
        newest = await app.fan_outs_async(limit=asked, open_only=open_only, entity_id=wanted.entity_id)
        matching = list(filter(wanted.matches, newest))[: wanted.limit]
        if len(matching) == wanted.limit or len(newest) < asked or asked >= _FURTHEST:
            return matching
        asked *= 4


def _watch(app: Fanfold, fan_out_id: str | None, wanted: Wanted, *, every: float, as_json: bool) -> FanOut:
    if fan_out_id is None:
        look, over = partial(_look_around, app, wanted), _never
    else:
        look, over = partial(_look_at, app, fan_out_id), partial(_one_is_over, folds=app.registry.folds)
    return asyncio.run(watch_here(app, look, every=every, as_json=as_json, over=over)).fan_outs[0]


async def _look_around(app: Fanfold, wanted: Wanted) -> Seen:
    return Seen(await app.status_async(), await _matching(app, wanted))


async def _look_at(app: Fanfold, fan_out_id: str) -> Seen:
    return Seen(None, [await app.fan_out(fan_out_id).summary_async()])


def _never(_: Seen) -> bool:
    return False


def _one_is_over(seen: Seen, *, folds: bool) -> bool:
    return is_over(seen.fan_outs[0], folds=folds)


def _show_one(app: Fanfold, fan_out: FanOut, *, as_json: bool) -> None:
    links = chain.chain(app, fan_out)
    if as_json:
        tasks = [dataclasses.asdict(record) for record in fan_out.tasks]
        to_scripts(shown.summary(fan_out) | {"chain": chain.records(links), "tasks": tasks})
        return
    about = f"{fan_out.fan_out_id}  {app.words['entity_id']} {fan_out.entity_id}  {shown.state(fan_out)}"
    to_people().print(one_line(about), soft_wrap=True)
    print_table(shown.tasks(app.words, fan_out))
    if len(links) > 1:
        to_people().print("stages:", chain.tree(links, fan_out), sep="\n", soft_wrap=True)


def _exit_code(fan_out: FanOut) -> int:
    if fan_out.completed_at is None:
        return STILL_OPEN
    return 0 if shown.is_whole(fan_out) else WITH_FAILURES
