"""What the commands share: options, loading an application, and talking to people and to scripts."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from rich.console import Console

from fanfold.app import Fanfold
from fanfold.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_PIPE_WIDTH: Final = 1_000

_ADDRESSES: Final = (
    click.option(
        "--queue-url",
        metavar="URL",
        help="The queue: sqlite:///tasks.db, or the URL of an SQS FIFO queue. [env: FANFOLD_QUEUE_URL, "
        "SQS_TASK_QUEUE_URL; default: the application's, else sqlite:///fanfold.db]",
    ),
    click.option(
        "--dlq-url",
        metavar="URL",
        help="The dead letter queue. [env: FANFOLD_DLQ_URL, SQS_DLQ_URL; default: as the redrive policy says]",
    ),
    click.option(
        "--ledger",
        metavar="URL",
        help="The ledger: sqlite:///ledger.db, or none. [env: FANFOLD_LEDGER; default: the embedded queue's file; "
        "with SQS none]",
    ),
    click.option(
        "--region", help="The queue's AWS region. [env: FANFOLD_REGION, AWS_DEFAULT_REGION; default: the URL's]"
    ),
)

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script instead of a table.")

app_option: Final = click.option(
    "--app",
    "target",
    metavar="MODULE:NAME",
    help="The application, as MODULE:NAME: its queue, ledger, tasks and words.",
)


def addresses(command: F) -> F:
    """Add the options that say where queue and ledger are."""
    for option in reversed(_ADDRESSES):
        command = option(command)
    return command


def load(target: str | None, **overrides: Any) -> Fanfold:
    """The application that `MODULE:NAME` names (None: one without tasks), with the command line's overrides.

    Raises:
        ConfigurationError: no such module or name, or what is there isn't an application.
    """
    app = _import(target) if target is not None else Fanfold()
    app.configure(**overrides)
    return app


def to_people() -> Console:
    """Standard output for tables. Without colour in a pipe and under NO_COLOR; in a pipe nothing is cut to a width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def beside() -> Console:
    """Standard error for progress and remarks, so that standard output stays clean for a script."""
    return Console(stderr=True, highlight=False)


def to_scripts(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _import(target: str) -> Fanfold:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigurationError(f"application {target!r}: write MODULE:NAME, for example app:app for app = Fanfold(…)")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigurationError(
            f"application {target!r}: no module {error.name!r} here or on the Python path; run the command from the "
            "folder that holds it"
        ) from error
    app = getattr(module, name, None)
    if not isinstance(app, Fanfold):
        there = [key for key, value in vars(module).items() if isinstance(value, Fanfold)]
        raise ConfigurationError(
            f"application {target!r}: {module_name}.{name} is not a Fanfold application"
            + (f"; there is {module_name}:{there[0]}" if there else f"; {module_name} has none")
        )
    return app
