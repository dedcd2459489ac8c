"""The options that choose dead letters, shared by the `dlq` commands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from fanfold.dead_letters.selection import Selection

F = TypeVar("F", bound=Callable[..., Any])

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_OPTIONS: Final = (
    click.option("--task", "tasks", multiple=True, metavar="NAME", help="Of this task; * and ? match. Repeatable."),
    click.option("--error", "errors", multiple=True, metavar="TYPE", help="Of this error type; * and ? match."),
    click.option("--entity", metavar="PATTERN", help="Of these entities: doc-12*"),
    click.option("--since", metavar="AGE", help="Set aside in the last 90s, 30m, 2h or 7d."),
    click.option("--tenant", help="Short for --metadata tenant=…"),
    click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="With this metadata; dots lead deeper."),
    click.option(
        "--id", "ids", multiple=True, metavar="MESSAGE_ID", help="This letter; a beginning of its id is enough."
    ),
    click.option("--limit", type=click.IntRange(1), metavar="NUMBER", help="At most so many."),
)


def choosing(command: F) -> F:
    """Add the options that choose dead letters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection(
    *,
    tasks: Sequence[str],
    errors: Sequence[str],
    entity: str | None,
    since: str | None,
    tenant: str | None,
    metadata: Sequence[str],
    ids: Sequence[str],
    limit: int | None,
) -> Selection:
    """The selection that the options make. Raises click.UsageError where one can't be read."""
    wanted = dict(_pair(text) for text in metadata) | ({"tenant": tenant} if tenant is not None else {})
    return Selection(
        tasks=tasks,
        errors=errors,
        entity=entity,
        since=time.time() - _age(since) if since is not None else None,
        metadata=wanted,
        id_prefixes=ids,
        limit=limit,
    )


def _age(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise click.UsageError(f"--since {text!r}: write an age such as 90s, 30m, 2h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--metadata {text!r}: write KEY=VALUE")
    return key, value
