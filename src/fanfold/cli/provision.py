"""`fanfold provision`: sets queue and dead letter queue up, and updates them."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import click

from fanfold.cli.common import as_json, load, to_scripts
from fanfold.cli.describing import described, description
from fanfold.deploy import provision as provisioning
from fanfold.deploy.description import Description, check_region, suffix_of
from fanfold.errors import ConfigurationError
from fanfold.urls import is_sqlite, parse_sqlite


@click.command(short_help="Create or update the queues; without --yes, show how.")
@described
@click.option("--region", help="The AWS region. [default: boto3's]")
@click.option("--endpoint-url", help="Something that speaks SQS instead of AWS: fanfold serve, for instance.")
@click.option("--queue-url", metavar="URL", help="sqlite:///… to set up an embedded queue and ledger instead.")
@click.option("--yes", "-y", is_flag=True, help="Make the changes; without it they are only shown.")
@as_json
def provision(
    *, region: str | None, endpoint_url: str | None, queue_url: str | None, yes: bool, as_json: bool, **options: Any
) -> None:
    """Create or update a FIFO queue NAME.fifo with its dead letter queue, redrive policies and encryption.

    \b
      fanfold provision tasks.fifo --region eu-west-1          show the difference
      fanfold provision tasks.fifo --region eu-west-1 --yes    make it so

    Running it again changes nothing. It never deletes, and leaves alone what it doesn't describe. Without --yes, exit
    code 3 says that there is something to change.
    """
    if queue_url is not None and is_sqlite(queue_url):
        _embedded(queue_url, yes=yes)
        return
    plan = asyncio.run(_provisioned(description(**options), region, endpoint_url, yes=yes))
    if as_json:
        to_scripts([dataclasses.asdict(change) for change in plan.changes])
    else:
        for change in plan.changes:
            click.echo(str(change))
        click.echo(_conclusion(plan, yes=yes))
    if plan.changes and not yes:
        raise SystemExit(3)


async def _provisioned(
    wanted: Description, region: str | None, endpoint_url: str | None, *, yes: bool
) -> provisioning.Plan:
    from fanfold.brokers.lean import LeanTransport  # noqa: PLC0415 - its parser is for those who use it

    transport = LeanTransport(_address(region, endpoint_url), region=region)
    try:
        plan = await provisioning.look(transport, wanted)
        if yes and plan.changes:
            await provisioning.apply(transport, plan)
        return plan
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


def _conclusion(plan: provisioning.Plan, *, yes: bool) -> str:
    if not plan.changes:
        return "Nothing to change."
    return (
        f"{len(plan.changes)} change(s) made." if yes else f"{len(plan.changes)} change(s) to make: run it with --yes."
    )


def _embedded(queue_url: str, *, yes: bool) -> None:
    address = parse_sqlite(queue_url)
    if Path(address.path).exists():
        click.echo(f"{address.path} is there; queues and tables are created where they are missing when it is opened")
    else:
        click.echo(
            f"create {address.path} with {address.queue} and {address.dead_letter_queue}, and the ledger's tables"
        )
    if not yes:
        click.echo("Run it with --yes.")
        return
    with load(None, queue_url=queue_url) as app:
        counts = app.status()
    click.echo(f"Ready: {counts.messages_available} message(s) available.")
