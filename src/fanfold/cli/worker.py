"""`fanfold worker`: work on an application's tasks."""

from __future__ import annotations

from typing import Any

import click

from fanfold.cli import logs
from fanfold.cli.common import addresses, load
from fanfold.runner import run_worker


@click.command()
@click.argument("target", metavar="MODULE:NAME")
@addresses
@click.option("--concurrency", type=int, help="Tasks at once. [env: FANFOLD_CONCURRENCY; default: 10]")
@click.option(
    "--lease",
    type=float,
    metavar="SECONDS",
    help="How long a message is held before it must be extended; a crashed worker's tasks are back after it. "
    "[env: FANFOLD_LEASE; default: 60]",
)
@click.option("--grace", type=float, metavar="SECONDS", help="Time to stop in. [env: FANFOLD_GRACE; default: 30]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def worker(target: str, log_level: str, log_format: str, **overrides: Any) -> None:
    """Work on the tasks of the application MODULE:NAME until stopped.

    \b
      fanfold worker app:app
      fanfold worker app:app --concurrency 50 --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo

    SIGTERM or Ctrl-C stops it in order: no new messages, what hasn't started goes back, what runs gets the grace
    period. A second one stops it at once. Either way nothing is lost: what wasn't finished comes back.
    """
    logs.set_up(log_level, log_format)
    run_worker(load(target, **overrides))
