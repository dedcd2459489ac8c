"""`fanfold doctor`: looks a set-up over, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import Any, Final

import click

from fanfold.app import Fanfold
from fanfold.cli.common import addresses, app_option, as_json, load, to_scripts
from fanfold.deploy.doctor import Application, Finding, Grade, judge, judge_tasks, worst
from fanfold.errors import FanfoldError, NoLedgerError
from fanfold.settings import Settings
from fanfold.urls import is_sqlite

_EXIT: Final = {Grade.OK: 0, Grade.WARNING: 3, Grade.ERROR: 1}
_MARKS: Final = {Grade.OK: "ok     ", Grade.WARNING: "warning", Grade.ERROR: "ERROR  "}


@click.command(short_help="Look a set-up over: what is wrong, why, and the cure.")
@app_option
@addresses
@as_json
def doctor(target: str | None, *, as_json: bool, **overrides: Any) -> None:
    """Look queue, dead letter queue, ledger, permissions, clock and tasks over. Nothing is changed.

    \b
      fanfold doctor --app app:app

    Each finding says what it is, why it matters and what cures it. Exit code: 0 all is well, 3 warnings, 1 errors.
    """
    findings = _examine(load(target, **overrides))
    if as_json:
        to_scripts([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    sys.exit(_EXIT[worst(findings)])


def _examine(app: Fanfold) -> list[Finding]:
    settings = app.settings
    found = [_ledger(app)]
    if is_sqlite(settings.queue_url):
        found += judge_tasks(_application(app))  # the embedded queue itself is always right
    else:
        found += asyncio.run(_on_sqs(app, settings))
    return found


async def _on_sqs(app: Fanfold, settings: Settings) -> list[Finding]:
    from fanfold.brokers.sqs import SqsBroker  # noqa: PLC0415 - boto3 only where it is used
    from fanfold.deploy import probes  # noqa: PLC0415 - as above

    broker = SqsBroker(settings.queue_url, dlq_url=settings.dlq_url, region=settings.region)
    try:
        await broker.open()
        kind = await asyncio.to_thread(probes.key_kind, settings.queue_url, settings.region)
        seen = await probes.look(broker, settings.queue_url, broker.dlq_url, key_kind=kind)
    except FanfoldError as error:
        return [Finding(grade=Grade.ERROR, what=str(error), why="nothing works without the queue", cure="as it says")]
    finally:
        await broker.close()
    return judge(seen, _application(app))


def _ledger(app: Fanfold) -> Finding:
    try:
        with app:
            app.fan_outs(limit=1)
    except NoLedgerError:
        why = "attempts are the queue's receive counts, and there is no on_complete"
        return Finding(grade=Grade.WARNING, what="there is no ledger", why=why, cure="FANFOLD_LEDGER=sqlite:///…")
    except FanfoldError as error:
        return Finding(grade=Grade.ERROR, what=str(error), why="workers can't record anything", cure="as it says")
    return Finding(grade=Grade.OK, what="the ledger answers, and its tables are up to date")


def _application(app: Fanfold) -> Application:
    settings = app.settings
    return Application(
        lease=settings.lease,
        max_attempts=settings.max_attempts,
        timeouts={task.name: task.timeout for task in app.registry},
        attempts={task.name: task.max_attempts for task in app.registry if task.max_attempts is not None},
        folds=app.registry.fold is not None,
        has_ledger=settings.ledger not in (None, "none") or is_sqlite(settings.queue_url),
    )


def _print(finding: Finding) -> None:
    click.echo(f"{_MARKS[finding.grade]}  {finding.what}")
    for label, text in (("why", finding.why), ("cure", finding.cure)):
        if text:
            click.echo(f"         {label + ':':<6}{text}")
