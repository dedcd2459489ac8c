"""What the commands share: options, loading an application, and talking to people and to scripts."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

import click
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fanfold.app import Fanfold
from fanfold.errors import ConfigurationError
from fanfold.urls import is_sqlite, parse_sqlite

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""

_PIPE_WIDTH: Final = 1_000

_ADDRESSES: Final = (
    click.option(
        "--queue-url",
        metavar="URL",
        help="The queue: sqlite:///tasks.db, or the URL of an SQS FIFO queue. [else: the application's, "
        "FANFOLD_QUEUE_URL, SQS_TASK_QUEUE_URL, sqlite:///fanfold.db]",
    ),
    click.option(
        "--dlq-url",
        metavar="URL",
        help="The dead letter queue on SQS. [else: the application's, FANFOLD_DLQ_URL, SQS_DLQ_URL, what the redrive "
        "policy names]",
    ),
    click.option(
        "--ledger",
        metavar="URL",
        help="The ledger: sqlite:///ledger.db, dynamodb://TABLE, postgresql://…, or none. [else: the application's, "
        "FANFOLD_LEDGER, the embedded queue's file, with SQS none]",
    ),
    click.option(
        "--region",
        metavar="NAME",
        help="The queue's AWS region. [else: the application's, FANFOLD_REGION, AWS_DEFAULT_REGION, what the URL says]",
    ),
)

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script instead of a table.")

app_option: Final = click.option(
    "--app",
    "target",
    metavar="MODULE:NAME",
    help="The application, as MODULE:NAME: its queue, ledger, tasks and words.",
)


def finite_seconds(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Check an option that says seconds, which may be neither negative nor infinite nor no number."""
    if value is not None and not 0 <= value < math.inf:
        raise click.BadParameter(f"{value}: write seconds as a number, at least 0")
    return value


_UNTIL_STOPPED: Final = (
    click.option(
        "--grace",
        type=float,
        callback=finite_seconds,
        metavar="SECONDS",
        help="Time to stop in. [else: the application's, FANFOLD_GRACE, 30]",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What goes to standard error; debug tells of every event.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Lines for people, or one JSON object a line.",
    ),
)


def addresses(command: F) -> F:
    """Add the options that say where queue and ledger are."""
    for option in reversed(_ADDRESSES):
        command = option(command)
    return command


def until_stopped(command: F) -> F:
    """Add the options of a command that runs until it is stopped: `--grace`, `--log-level` and `--log-format`."""
    for option in reversed(_UNTIL_STOPPED):
        command = option(command)
    return command


def load(target: str | None, **overrides: Any) -> Fanfold:
    """The application that `MODULE:NAME` names (None: one without tasks), with the command line's overrides.

    Raises:
        ConfigurationError: no such module or name, importing it failed, or what is there isn't an application.
    """
    app = _application(target) if target is not None else Fanfold()
    app.configure(**overrides)
    return app


def require_file(app: Fanfold) -> None:
    """Refuse to look into an embedded queue that nobody has made: opening it would, and show an empty one.

    Raises:
        ConfigurationError: there is no such file, or no such queue in it.
        StorageError: the file can't be read.
    """
    url = app.settings.queue_url
    if is_sqlite(url):
        from fanfold.deploy import file  # noqa: PLC0415 - only where a file is looked into

        file.require_queue(url, parse_sqlite(url))


def to_people() -> Console:
    """Standard output for tables. Without colour in a pipe and under NO_COLOR; in a pipe nothing is cut to a width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def beside() -> Console:
    """Standard error for progress and remarks, so that standard output stays clean for a script."""
    return Console(stderr=True, highlight=False)


def print_table(table: Table) -> None:
    """Print to people. Cells wrap to the terminal's width, but no word is cut: an id stays one that can be copied."""
    console = to_people()
    words = Measurement.get(console, console.options.update(width=_PIPE_WIDTH), table).minimum
    console.size = ConsoleDimensions(max(console.width, words), console.height)
    console.print(table)


def to_scripts(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def one_line(value: object, length: int | None = None, style: str = "") -> Text:
    """Any text as one line for people: not taken for markup, cut to `length`, control characters as escapes."""
    line = " ".join(str(value).split())
    if length is not None and len(line) > length:
        line = line[: length - 1] + "…"
    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line), style)


def _application(target: str) -> Fanfold:
    module_name, _, name = target.partition(":")
    if not name or not all(part.isidentifier() for part in module_name.split(".")) or module_name.endswith(".py"):
        raise ConfigurationError(
            f"application {target!r}: write MODULE:NAME, for example app:app for app = Fanfold(…) in app.py"
        )
    module = _module(module_name, target)
    app = getattr(module, name, None)
    if not isinstance(app, Fanfold):
        there = [key for key, value in vars(module).items() if isinstance(value, Fanfold)]
        raise ConfigurationError(
            f"application {target!r}: {module_name}.{name} is not a Fanfold application"
            + (f"; there is {module_name}:{there[0]}" if there else f"; {module_name} has none")
        )
    return app


def _module(name: str, target: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"application {target!r}: no module {error.name!r} here or on the Python path; run the command from "
                "the folder that holds it"
            ) from error
        raise ConfigurationError(
            f"application {target!r}: importing {name} raised {type(error).__name__}: {error}\n{_own_frames(error)}"
        ) from error


def _own_frames(error: BaseException) -> str:
    """Where the application's module failed, without the import machinery's frames and ours."""
    ours, frames = str(Path(__file__).parents[1]), traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(ours) and "importlib" not in frame.filename]
    return "".join(traceback.format_list(own)).rstrip()
