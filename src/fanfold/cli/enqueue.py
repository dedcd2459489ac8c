"""`fanfold enqueue`: one event from the command line, or many from a file."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, Final

import click
import msgspec
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from fanfold.app import Fanfold
from fanfold.cli.common import INTERRUPTED, addresses, app_option, as_json, beside, load, one_line, to_scripts
from fanfold.errors import FanOutIncompleteError, FanOutSealedError, InvalidInputError
from fanfold.model import Enqueued, TaskSpec

_AT_ONCE: Final = 16
"""Events under way at once: enough to share commits and overlap requests, few enough to bound memory."""
_OF_ONE_EVENT: Final = (InvalidInputError, FanOutSealedError, FanOutIncompleteError)
"""Errors that say nothing about the next event. Any other is the queue's or the ledger's, and ends the command."""
_BOM: Final = b"\xef\xbb\xbf"


class _Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task with its configuration, as a line writes it."""

    name: str
    config: dict[str, Any] = {}


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event, as a line writes it."""

    entity_id: str
    tasks: list[str | _Task]
    metadata: dict[str, Any] = {}
    event_id: str | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class _Refused:
    """A line that didn't become an event, and why."""

    line: int
    error: str


@dataclass(slots=True)
class _Tally:
    """What became of the events so far."""

    done: list[Enqueued] = field(default_factory=list)
    refused: list[_Refused] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return INTERRUPTED if self.interrupted else 1 if self.refused else 0


@click.command(short_help="Enqueue an event, or a file of events.")
@click.argument("entity_id", required=False)
@click.argument("tasks", nargs=-1)
@app_option
@addresses
@click.option(
    "--event-id", metavar="ID", help="An id that survives the event's redelivery: the same one is never enqueued twice."
)
@click.option(
    "--metadata",
    metavar="JSON",
    help='An object that all tasks share, for example \'{"tenant": "acme"}\'. [default: {}]',
)
@click.option(
    "--config", "configs", multiple=True, metavar="TASK=JSON", help="A task's own configuration; may be repeated."
)
@click.option(
    "--file",
    "lines",
    type=click.File("rb"),
    help="JSON Lines of events, - for standard input: entity_id, tasks, and, if wanted, metadata and event_id.",
)
@as_json
def enqueue(
    entity_id: str | None,
    tasks: Sequence[str],
    *,
    target: str | None,
    event_id: str | None,
    metadata: str | None,
    configs: Sequence[str],
    lines: IO[bytes] | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Enqueue the TASKS of one ENTITY_ID, or the events of a --file.

    \b
      fanfold enqueue doc-123 yearBuilt roofType --metadata '{"tenant": "acme"}' --event-id documents:3:1042
      fanfold enqueue --file events.jsonl
      echo '{"entity_id": "doc-1", "tasks": [{"name": "words", "config": {"min": 3}}]}' | fanfold enqueue --file -

    A line that is no event, or that the queue refuses, is named on standard error with its number; the others are
    enqueued all the same. Interrupted or failed half-way: run it again. Events with an event_id are not enqueued twice.

    \b
    Exit codes:
      0    every event is in the queue, or was before
      1    an event was refused, or queue or ledger failed
      2    wrong usage
      130  interrupted by Ctrl-C
    """
    if lines is not None and entity_id is None and not (event_id or metadata or configs):
        work: Callable[[Fanfold], _Tally] = partial(_enqueue_lines, lines=lines)
    elif lines is None and entity_id is not None:
        work = partial(_enqueue_one, event=_event(entity_id, tasks, configs, metadata or "{}", event_id=event_id))
    else:
        raise click.UsageError("give ENTITY_ID and TASKS with their options, or --file with events and nothing else")
    with load(target, **overrides) as app:
        tally = work(app)
    _report(tally, as_json=as_json)
    sys.exit(tally.exit_code)


def _event(
    entity_id: str, tasks: Sequence[str], configs: Sequence[str], metadata: str, *, event_id: str | None
) -> _Event:
    by_task: dict[str, dict[str, Any]] = {}
    for text in configs:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--config {text!r}: write TASK=JSON")
        if name not in tasks:
            raise click.UsageError(f"--config {text!r}: {name!r} isn't among the tasks")
        if name in by_task:
            raise click.UsageError(f"--config {text!r}: {name!r} has a configuration already")
        by_task[name] = _object(f"--config {name}", value)
    specs: list[str | _Task] = [_Task(name, by_task[name]) if name in by_task else name for name in tasks]
    return _Event(entity_id, specs, _object("--metadata", metadata), event_id)


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        return _decode_object(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise click.UsageError(f"{option} {text!r} isn't a JSON object: {error}") from error


def _enqueue(app: Fanfold, event: _Event) -> Enqueued:
    tasks = [task if isinstance(task, str) else TaskSpec(task.name, task.config) for task in event.tasks]
    return app.enqueue(event.entity_id, tasks, metadata=event.metadata, event_id=event.event_id)


def _enqueue_one(app: Fanfold, event: _Event) -> _Tally:
    return _Tally([_enqueue(app, event)])


def _enqueue_lines(app: Fanfold, lines: IO[bytes]) -> _Tally:
    with _bar(lines) as bar:
        feed = _Feed(app, bar)
        try:
            feed.run(lines)
        except KeyboardInterrupt:
            feed.tally.interrupted = True
        except Exception:
            _report(feed.tally, as_json=False, err=True)
            raise
    return feed.tally


@contextmanager
def _bar(lines: IO[bytes]) -> Iterator[ProgressBar]:
    """A count of events on a person's terminal, but not where that person types them."""
    console = beside()
    columns = SpinnerColumn(), TextColumn("{task.completed:,} events"), TimeElapsedColumn()
    with ProgressBar(
        *columns, console=console, disable=not console.is_terminal or lines.isatty(), transient=True
    ) as bar:
        yield bar


class _Feed:
    """Enqueues lines, several at once.

    1. The caller's thread reads, so that Ctrl-C reaches it while it waits for a line, and no line waits for the next.
    2. Threads enqueue; a line's own error is told and remembered, and the others go on.
    3. An error of queue or ledger, or Ctrl-C, ends the reading; what is under way is finished and counted.
    """

    def __init__(self, app: Fanfold, bar: ProgressBar) -> None:
        self.tally = _Tally()
        self._app = app
        self._bar = bar
        self._row = bar.add_task("events", total=None)
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._guard = threading.Lock()
        self._failure: Exception | None = None

    def run(self, lines: Iterable[bytes]) -> None:
        """Enqueue until the lines end. Raises what ended it before: queue or ledger failed."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fanfold-enqueue") as threads:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                self._room.acquire()
                if self._failure is not None:
                    break
                threads.submit(self._line, number, line.removeprefix(_BOM) if number == 1 else line)
        if self._failure is not None:
            raise self._failure

    def _line(self, number: int, line: bytes) -> None:
        try:
            done = _enqueue(self._app, _decoded(line))
            with self._guard:
                self.tally.done.append(done)
            self._bar.advance(self._row)
        except Exception as error:  # noqa: BLE001 - told here, and raised by `run`
            self._bar.console.print(one_line(f"line {number}: {error}", style="red"), soft_wrap=True)
            self._note(number, error)
        finally:
            self._room.release()

    def _note(self, number: int, error: Exception) -> None:
        if isinstance(error, _OF_ONE_EVENT):
            with self._guard:
                self.tally.refused.append(_Refused(number, str(error)))
        else:
            self._failure = self._failure or error


def _decoded(line: bytes) -> _Event:
    try:
        return _decode_event(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"not an event ({error}); write entity_id, tasks, metadata, event_id") from error


def _report(tally: _Tally, *, as_json: bool, err: bool = False) -> None:
    if as_json:
        refused = sorted(tally.refused, key=lambda refused: refused.line)
        to_scripts(
            {"events": list(map(dataclasses.asdict, tally.done)), "refused": list(map(dataclasses.asdict, refused))}
        )
        return
    sent, settled, known = (
        sum(getattr(done, name) for done in tally.done) for name in ("sent", "settled", "duplicates")
    )
    click.echo(
        f"{len(tally.done)} event(s): {sent - known} task(s) enqueued, {known} known to the queue already, "
        f"{settled} done before"
        + (f"; {len(tally.refused)} event(s) refused" if tally.refused else "")
        + ("; interrupted, run it again for the rest" if tally.interrupted else ""),
        err=err,
    )
    if len(tally.done) == 1:
        click.echo(f"fan-out {tally.done[0].fan_out_id}", err=err)


def _records(values: Iterable[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(value) for value in values]
