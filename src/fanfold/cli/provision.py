"""`fanfold provision`: sets queue, dead letter queue and ledger up, and updates them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from fanfold.cli.common import as_json, to_scripts
from fanfold.cli.describing import described, description
from fanfold.deploy import embedded, file
from fanfold.deploy import ledger as ledgers
from fanfold.deploy import provision as provisioning
from fanfold.deploy.description import Description, check_key_place, check_region, suffix_of
from fanfold.deploy.provision import Call, Change
from fanfold.errors import ConfigurationError
from fanfold.urls import is_sqlite, parse_sqlite


@click.command(short_help="Create or update the queues; without --yes, show how.")
@described
@click.option("--ledger", metavar="URL", help="Also a ledger: dynamodb://TABLE, postgresql://…, sqlite:///ledger.db.")
@click.option("--region", metavar="NAME", help="The AWS region. [else: boto3's]")
@click.option("--endpoint-url", metavar="URL", help="What speaks SQS instead of AWS: fanfold serve, for instance.")
@click.option("--queue-url", metavar="URL", help="sqlite:///… to set up an embedded queue, with its ledger, instead.")
@click.option("--yes", "-y", is_flag=True, help="Make the changes; without it they are only shown.")
@as_json
def provision(
    *,
    name: str | None,
    ledger: str | None,
    region: str | None,
    endpoint_url: str | None,
    queue_url: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create or update a FIFO queue NAME (else tasks.fifo) with its dead letter queue, policies, encryption and ledger.

    \b
      fanfold provision tasks.fifo --region eu-west-1          show the difference
      fanfold provision tasks.fifo --region eu-west-1 --yes    make it so
      fanfold provision tasks.fifo --ledger dynamodb://fanfold --yes
      fanfold provision --queue-url sqlite:///tasks.db --yes

    Running it again changes nothing. It never deletes, and leaves alone what it doesn't describe. Without --yes, exit
    code 3 says that there is something to change.
    """
    if queue_url is not None:
        changes = asyncio.run(_embedded(queue_url, name, ledger, options, yes=yes))
    else:
        wanted, address = description(name=name, **options), _address(region, endpoint_url)
        from fanfold.brokers.boto import region_of  # noqa: PLC0415 - boto3 only where it is used

        if (there := region_of(address)) is not None:
            check_key_place(wanted.encryption, there)
        changes = asyncio.run(_on_sqs(wanted, address, region, ledger, yes=yes))
    _tell(changes, yes=yes, as_json=as_json)
    if changes and not yes:
        raise SystemExit(3)


async def _on_sqs(
    wanted: Description, address: str, region: str | None, ledger: str | None, *, yes: bool
) -> list[Change]:
    missing = await ledgers.look(ledger) if ledger is not None else []
    async with _transport(address, region) as transport:
        changes = await _queues(transport, wanted, yes=yes)
    if yes and ledger is not None:
        await ledgers.apply(ledger)
    return [*changes, *missing]


async def _embedded(
    url: str, name: str | None, ledger: str | None, options: dict[str, Any], *, yes: bool
) -> list[Change]:
    if not is_sqlite(url):
        raise ConfigurationError(
            f"--queue-url {url!r}: that is for an embedded queue, sqlite:///…; on SQS, give the queue's NAME.fifo and "
            "--region, or --endpoint-url"
        )
    address = parse_sqlite(url)
    wanted = description(name=address.queue, **options)
    if name not in (None, wanted.name) or wanted.dlq_name != address.dead_letter_queue:
        raise ConfigurationError(
            f"{url}: the queues in it are {address.queue} and {address.dead_letter_queue}; leave NAME and --dlq-name "
            "out, or write ?queue=NAME.fifo"
        )
    ledger = ledger or url
    missing = await ledgers.look(ledger)
    contents = file.look(address.path)
    if contents is None and not yes:
        created = [] if missing and ledger == url else [Change(target=str(address.path))]
        return [*created, *missing, *provisioning.plan(wanted).changes]
    if contents is not None and (outdated := contents.outdated([file.ENGINE])):
        missing = [*outdated, *missing]
        if not yes:  # what its queues lack shows once it is up to date: nobody else reads them as they are
            return missing if contents.queues else [*missing, *provisioning.plan(wanted).changes]
    async with embedded.opened(address) as engine:
        changes = await _queues(engine, wanted, yes=yes)
    if yes:
        await ledgers.apply(ledger)
    return [*missing, *changes]


async def _queues(transport: Call, wanted: Description, *, yes: bool) -> list[Change]:
    plan = await provisioning.look(transport, wanted)
    if yes and plan.changes:
        for left in (await provisioning.apply(transport, plan)).changes:
            click.echo(f"not taken, or changed by somebody else meanwhile: {left}", err=True)
    return list(plan.changes)


@asynccontextmanager
async def _transport(address: str, region: str | None) -> AsyncIterator[Call]:
    from fanfold.brokers.lean import LeanTransport  # noqa: PLC0415 - its parser is for those who use it

    transport = LeanTransport(address, region=region)
    try:
        yield transport
    finally:
        transport.close()


def _address(region: str | None, endpoint_url: str | None) -> str:
    """An address in the region, or what speaks SQS instead."""
    from fanfold.brokers.boto import make_session  # noqa: PLC0415 - boto3 only where it is used

    if endpoint_url is not None:
        if not endpoint_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"endpoint {endpoint_url!r}: write http://… or https://…")
        return endpoint_url
    name = region or make_session("", region=None).get_config_variable("region")
    if not name:
        raise ConfigurationError("no AWS region is known; give --region eu-west-1, or AWS_DEFAULT_REGION")
    check_region(name)
    return f"https://sqs.{name}.{suffix_of(name)}/"


def _tell(changes: list[Change], *, yes: bool, as_json: bool) -> None:
    if as_json:
        to_scripts([dataclasses.asdict(change) for change in changes])
        return
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo("Nothing to change.")
    else:
        click.echo(
            f"{len(changes)} change(s) made." if yes else f"{len(changes)} change(s) to make: run it with --yes."
        )
