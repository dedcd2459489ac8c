"""`fanfold template`: the same queues as infrastructure code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fanfold.cli.common import to_scripts
from fanfold.cli.describing import described, description
from fanfold.deploy import cloudformation as cfn
from fanfold.deploy import ledger_table, roles, scaling
from fanfold.deploy import terraform as hcl
from fanfold.deploy.description import check_key_place, check_place, partition_of
from fanfold.deploy.scaling import Service

F = TypeVar("F", bound=Callable[..., Any])


def _scaled(command: F) -> F:
    """Add the options that say how many workers there may be."""
    command = click.option("--backlog-per-worker", type=int, default=100, show_default=True, help="Messages for each.")(
        command
    )
    command = click.option("--max-workers", "most", type=int, default=20, show_default=True)(command)
    return click.option("--min-workers", "least", type=int, default=1, show_default=True)(command)


def _tabled(command: F) -> F:
    """Add the option that names the ledger's table."""
    return click.option("--ledger-table", metavar="NAME", default="", help="Also a ledger: a table on DynamoDB.")(
        command
    )


def _placed(command: F) -> F:
    """Add the options that exact ARNs need."""
    command = click.option("--region", required=True, help="The AWS region.")(command)
    return click.option("--account", required=True, help="The AWS account: 12 digits.")(command)


_served = click.option(
    "--service", "app", metavar="MODULE:NAME", help="Also an ECS service of workers for this application."
)


def _service(app: str | None, *, least: int, most: int, backlog_per_worker: int) -> Service | None:
    if app is None:
        return None
    return Service(app=app, least=least, most=most, backlog_per_worker=backlog_per_worker)


@click.group(short_help="Print infrastructure code for the queues.")
def template() -> None:
    """Print infrastructure code for a queue, its dead letter queue, alarms and roles. Nothing is asked or changed.

    \b
      fanfold template cloudformation tasks.fifo --service app:app > tasks.json
      fanfold template terraform tasks.fifo > tasks.tf
      fanfold template iam tasks.fifo --account 123456789012 --region eu-west-1 --role worker
    """


@template.command()
@described
@_tabled
@_served
@_scaled
def cloudformation(*, app: str | None, least: int, most: int, backlog_per_worker: int, **options: Any) -> None:
    """Print a CloudFormation template, as JSON.

    \b
      fanfold template cloudformation tasks.fifo > tasks.json
    """
    service = _service(app, least=least, most=most, backlog_per_worker=backlog_per_worker)
    to_scripts(cfn.template(description(**options), service))


@template.command()
@described
@_tabled
@_served
@_scaled
def terraform(*, app: str | None, least: int, most: int, backlog_per_worker: int, **options: Any) -> None:
    """Print a Terraform configuration for the AWS provider.

    \b
      fanfold template terraform tasks.fifo > tasks.tf
      fanfold template terraform tasks.fifo --service app:app > tasks.tf
    """
    service = _service(app, least=least, most=most, backlog_per_worker=backlog_per_worker)
    click.echo(hcl.configuration(description(**options), service), nl=False)


@template.command()
@described
@_tabled
@_placed
@click.option("--role", type=click.Choice(roles.ROLES), help="Only this role's policy. [default: all]")
def iam(*, account: str, region: str, role: str | None, **options: Any) -> None:
    """Print IAM policies with exact ARNs.

    \b
      fanfold template iam tasks.fifo --account 123456789012 --region eu-west-1 --role worker
    """
    check_place(account, region)
    wanted = description(**options)
    check_key_place(wanted.encryption, region)
    prefix = f"arn:{partition_of(region)}"
    queue, dead = (f"{prefix}:sqs:{region}:{account}:{name}" for name in (wanted.name, wanted.dlq_name))
    key = roles.kms_statements(wanted.encryption, lambda resource: f"{prefix}:kms:{region}:{account}:{resource}")
    table = f"{prefix}:dynamodb:{region}:{account}:table/{wanted.ledger_table}"
    made = {}
    for name in roles.ROLES:
        ledger = [ledger_table.statement(name, table, f"{table}/index/*")] if wanted.ledger_table else []
        made[name] = roles.policy(name, queue_arn=queue, dlq_arn=dead, extra=[*key, *ledger])
    to_scripts(made[role] if role is not None else made)


@template.command(short_help="Print a KEDA ScaledObject, as JSON.")
@described
@_placed
@click.option("--service", "app", metavar="MODULE:NAME", default="app:app", help="The application.")
@_scaled
def keda(
    *, account: str, region: str, app: str, least: int, most: int, backlog_per_worker: int, **options: Any
) -> None:
    """Print a KEDA ScaledObject and its TriggerAuthentication, as JSON, for a Deployment called fanfold-worker.

    \b
      fanfold template keda tasks.fifo --account 123456789012 --region eu-west-1 | kubectl apply -f -
    """
    check_place(account, region)
    service = Service(app=app, least=least, most=most, backlog_per_worker=backlog_per_worker)
    to_scripts(scaling.keda(description(**options), service, region=region, account=account))
