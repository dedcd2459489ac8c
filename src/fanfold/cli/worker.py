"""`fanfold worker`: work on an application's tasks."""

from __future__ import annotations

from typing import Any

import click

from fanfold.cli import logs
from fanfold.cli.common import addresses, finite_seconds, load, until_stopped
from fanfold.runner import run_worker


@click.command(short_help="Work on an application's tasks until stopped.")
@click.argument("target", metavar="MODULE:NAME")
@addresses
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="Tasks at once. [else: the application's, FANFOLD_CONCURRENCY, 10]",
)
@click.option(
    "--lease",
    type=float,
    callback=finite_seconds,
    metavar="SECONDS",
    help="How long a message is held before it must be extended; a crashed worker's tasks are back after it. "
    "[else: the application's, FANFOLD_LEASE, 60]",
)
@until_stopped
def worker(target: str, log_level: str, log_format: str, **overrides: Any) -> None:
    """Work on the tasks of the application MODULE:NAME until stopped.

    \b
      fanfold worker app:app
      fanfold worker app:app --concurrency 50
      fanfold worker app:app --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo

    SIGTERM or Ctrl-C stops it in order: no new messages, what hasn't started goes back, what runs gets the grace
    period. A second one stops it at once. Either way nothing is lost: what wasn't finished comes back. Exit code 0
    when it was stopped, 1 when it couldn't start.
    """
    app = load(target, **overrides)
    logs.set_up(log_level, log_format)
    run_worker(app)
