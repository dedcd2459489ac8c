"""`fanfold doctor`: looks a set-up over, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import click

from fanfold import wiring
from fanfold.app import Fanfold
from fanfold.brokers.protocol import Broker
from fanfold.cli.common import addresses, app_option, as_json, load, to_scripts
from fanfold.clock import SystemClock
from fanfold.deploy import file, file_findings
from fanfold.deploy import ledger as ledgers
from fanfold.deploy.description import check_dlq_url
from fanfold.deploy.doctor import judge, judge_tasks
from fanfold.deploy.findings import Application, Finding, Grade, Seen, error, fine, warning, worst
from fanfold.deploy.roles import ROLES
from fanfold.errors import BrokerUnavailableError, ConfigurationError, CredentialsError, FanfoldError, NotFifoError
from fanfold.ledgers.protocol import Ledger
from fanfold.settings import Settings
from fanfold.telemetry import Telemetry
from fanfold.urls import is_sqlite, parse_sqlite

_EXIT: Final = {Grade.OK: 0, Grade.WARNING: 3, Grade.ERROR: 1}
_LEDGER: Final = (
    "FANFOLD_LEDGER=dynamodb://TABLE, set up by `fanfold provision --ledger dynamodb://TABLE`; or "
    "postgresql://USER@HOST/DATABASE"
)
_CURES: Final[Mapping[type[FanfoldError], str]] = {
    BrokerUnavailableError: "try again; if it stays: the address, and the network between here and there: proxies, "
    "security groups, a VPC endpoint for SQS",
    CredentialsError: "run with a role, AWS_PROFILE, or `aws sso login`",
    NotFifoError: "fanfold provision NAME.fifo --yes, and --queue-url with that name",
    ConfigurationError: "--queue-url, --dlq-url and --ledger, or the application's settings",
}
_OTHERWISE: Final = "what it says has to be otherwise"
_MARKS: Final = {Grade.OK: "ok     ", Grade.WARNING: "warning", Grade.ERROR: "ERROR  "}


@click.command(short_help="Look a set-up over: what is wrong, why, and the cure.")
@app_option
@addresses
@click.option("--role", type=click.Choice(ROLES), default="worker", show_default=True, help="Whose rights to look at.")
@as_json
def doctor(target: str | None, *, role: str, as_json: bool, **overrides: Any) -> None:
    """Look queue, dead letter queue, ledger, rights, credentials, clock, tasks and Kafka over. Nothing is changed.

    \b
      fanfold doctor --app app:app
      fanfold doctor --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo --role producer

    \b
    Each finding says what it is, why it matters and what cures it. Exit codes:
      0  all is well
      3  something is worth a thought
      1  something is broken
    """
    app = load(target, **overrides)
    findings = [*asyncio.run(_examine(app, role)), *_kafka(app)]
    if as_json:
        to_scripts([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    sys.exit(_EXIT[worst(findings)])


async def _examine(app: Fanfold, role: str) -> list[Finding]:
    settings, application = app.settings, _application(app)
    try:
        if is_sqlite(settings.queue_url):
            return [*await _embedded(settings, role, application), *judge_tasks(application)]
        broker, ledger = _connected(app)
    except FanfoldError as refused:
        return [_broken("configuration", refused, "nothing works without queue and ledger")]
    found = await _ledger(ledger, settings, role)
    try:
        await broker.open()
        return [*found, *await _on_sqs(broker, settings, role, application)]
    except FanfoldError as refused:
        return [*found, _broken("queue", refused, "nothing works without the queue"), *judge_tasks(application)]
    finally:
        await broker.close()


def _connected(app: Fanfold) -> tuple[Broker, Ledger | None]:
    if app.settings.dlq_url is not None:
        check_dlq_url(app.settings.queue_url, app.settings.dlq_url)
    return wiring.connect(
        app.settings,
        sqs_client=None,
        clock=app.clock,
        rng=random.Random(),  # noqa: S311 - jitter
        telemetry=Telemetry(),  # what is denied is told as a finding
    )


async def _embedded(settings: Settings, role: str, application: Application) -> list[Finding]:
    url, ledger = settings.queue_url, settings.ledger or settings.queue_url
    shared = is_sqlite(ledger) and parse_sqlite(ledger).path == parse_sqlite(url).path
    found = file_findings.examine(url, [file.ENGINE, file.LEDGER] if shared else [file.ENGINE], application)
    if shared and worst(found) is not Grade.OK:
        return found
    return [*found, *await _ledger(wiring.ledger_at(ledger, SystemClock()), settings, role)]


async def _on_sqs(broker: Any, settings: Settings, role: str, application: Application) -> list[Finding]:
    from fanfold.deploy import probes  # noqa: PLC0415 - boto3 only where it is used

    url = settings.queue_url
    region = await asyncio.to_thread(probes.region_used, url, settings.region)
    seen = await probes.look(broker, url, broker.dlq_url, region=region, role=role)
    skew = await asyncio.to_thread(probes.clock_skew, url, settings.region)
    kind = await asyncio.to_thread(probes.key_kind, url, settings.region)
    return judge(dataclasses.replace(seen, skew=skew, key_kind=kind), application)


def _kafka(app: Fanfold) -> list[Finding]:
    """What the application needs of Kafka; nothing, where it has no events and publishes no completions."""
    completions = [app.completions.topic] if app.completions is not None else []
    if not len(app.events) and not completions:
        return []
    from fanfold.deploy import kafka  # noqa: PLC0415 - the library is an extra
    from fanfold.sources import settings  # noqa: PLC0415 - as above

    try:
        client = settings.client_config(app.kafka)
        wanted = os.environ.get("FANFOLD_KAFKA_TOPICS", "").replace(",", " ").split()
        topics = settings.topics(app.events, wanted) if len(app.events) else {}
        return kafka.look(client, [*topics, *completions])
    except FanfoldError as refused:
        return [_broken("kafka", refused, "no event is enqueued, and no completion is published")]


async def _ledger(ledger: Ledger | None, settings: Settings, role: str) -> list[Finding]:
    if ledger is None:
        return [_without_ledger()]
    url = settings.queue_url
    name = parse_sqlite(url).queue if is_sqlite(url) else url.rsplit("/", 1)[-1]
    try:
        lacking = await ledgers.examine(settings.ledger or url, role, queue=name, provision=_provision(settings))
        return lacking or [await _opened(ledger, settings)]
    except FanfoldError as refused:
        return [_broken("ledger", refused, "workers can't record anything, so they settle nothing")]


def _provision(settings: Settings) -> Callable[..., str]:
    """What makes the command that provisions the queue."""
    url = settings.queue_url
    if is_sqlite(url):
        return partial(file_findings.provision, url)
    from fanfold.deploy import probes  # noqa: PLC0415 - boto3 only where it is used

    region = probes.region_used(url, settings.region) or ""
    return Seen(queue_url=url, dlq_url=settings.dlq_url, region=region, endpoint=probes.endpoint_used(url)).provision


def _without_ledger() -> Finding:
    return warning(
        "ledger",
        "there is no ledger",
        why="attempts are the queue's receive counts, nobody knows when a fan-out is done, and events that come "
        "again after five minutes are worked on again",
        cure=_LEDGER,
    )


async def _opened(ledger: Ledger, settings: Settings) -> Finding:
    try:
        await ledger.start()
        await ledger.list(limit=1)
    finally:
        await ledger.close()
    if is_sqlite(settings.ledger or settings.queue_url) and not is_sqlite(settings.queue_url):
        return warning(
            "ledger",
            f"the ledger is a file on this machine: {settings.ledger}",
            why="a worker on another machine has another ledger, and neither knows when a fan-out is done",
            cure=f"for more than one machine, {_LEDGER}",
        )
    return fine("ledger", "the ledger answers, and its tables are up to date")


def _application(app: Fanfold) -> Application:
    settings = app.settings
    return Application(
        lease=settings.lease,
        max_attempts=settings.max_attempts,
        timeouts={task.name: task.timeout for task in app.registry},
        attempts={task.name: task.max_attempts for task in app.registry if task.max_attempts is not None},
        folds=app.registry.folds,
        has_ledger=(settings.ledger or settings.queue_url) != wiring.NO_LEDGER
        and (settings.ledger is not None or is_sqlite(settings.queue_url)),
    )


def _broken(check: str, refused: FanfoldError, why: str) -> Finding:
    what, _, cure = str(refused).partition("; ")
    known = next((text for kind, text in _CURES.items() if isinstance(refused, kind)), _OTHERWISE)
    return error(check, what, why=why, cure=cure or known)


def _print(finding: Finding) -> None:
    click.echo(f"{_MARKS[finding.grade]}  {finding.what}")
    for label, text in (("why", finding.why), ("cure", finding.cure)):
        if text:
            click.echo(f"         {label + ':':<6}{text}")
