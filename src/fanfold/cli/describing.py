"""The options that describe a queue, shared by what sets it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from fanfold.deploy.description import DAY, SSE_SQS, Description
from fanfold.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_SHORTEST: Final = 60 / DAY
_LONGEST: Final = 14

_OPTIONS: Final = (
    click.argument("name", required=False),
    click.option("--dlq-name", default="", help="The dead letter queue's name. [default: NAME-dlq.fifo]"),
    click.option("--max-receive-count", type=int, default=100, show_default=True, help="The backstop for crash loops."),
    click.option("--max-attempts", type=int, default=5, show_default=True, help="The tasks' own, to compare with."),
    click.option(
        "--visibility", type=int, default=60, show_default=True, metavar="SECONDS", help="For other consumers."
    ),
    click.option(
        "--retention", type=float, default=14, show_default=True, metavar="DAYS", help="How long tasks may wait."
    ),
    click.option(
        "--high-throughput/--no-high-throughput",
        default=True,
        show_default=True,
        help="Deduplicate and limit by group.",
    ),
    click.option("--encryption", default=SSE_SQS, show_default=True, help="sse-sqs, or a KMS key's id, alias or ARN."),
)


def described(command: F) -> F:
    """Add the options that describe a queue."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def description(*, name: str | None, retention: float, **options: Any) -> Description:
    """The description that the options make. Raises ConfigurationError."""
    if not _SHORTEST <= retention <= _LONGEST:
        raise ConfigurationError(
            f"retention={retention:g}: SQS keeps messages from {_SHORTEST:.4f} (a minute) to 14 days"
        )
    return Description(name=name or "tasks.fifo", retention=round(retention * DAY), **options)
