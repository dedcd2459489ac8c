"""`fanfold enqueue`: one event from the command line, or many from a file."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

import click
import msgspec
from rich.progress import Progress as ProgressBar

from fanfold.app import Fanfold
from fanfold.cli.common import addresses, app_option, as_json, beside, load, to_scripts
from fanfold.errors import FanfoldError, InvalidInputError
from fanfold.model import Enqueued

_AT_ONCE: Final = 16
"""Events under way at once: enough to share commits and overlap requests, few enough to bound memory."""


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file."""

    entity_id: str
    tasks: list[str | dict[str, Any]]
    metadata: dict[str, Any] = {}
    event_id: str | None = None


@dataclass(slots=True)
class _Tally:
    """What became of the events so far."""

    done: list[Enqueued] = field(default_factory=list)
    failed: int = 0


@click.command()
@click.argument("entity_id", required=False)
@click.argument("tasks", nargs=-1)
@app_option
@addresses
@click.option("--event-id", help="An id that survives the event's redelivery: the same one is never enqueued twice.")
@click.option("--metadata", default="{}", help='JSON that all tasks share, for example \'{"tenant": "acme"}\'.')
@click.option(
    "--config", "configs", multiple=True, metavar="TASK=JSON", help="A task's own configuration; may be repeated."
)
@click.option(
    "--file",
    "lines",
    type=click.File("r", encoding="utf-8"),
    help="JSON Lines of events, - for standard input: entity_id, tasks, and, if wanted, metadata and event_id.",
)
@as_json
def enqueue(
    entity_id: str | None,
    tasks: Sequence[str],
    *,
    target: str | None,
    event_id: str | None,
    metadata: str,
    configs: Sequence[str],
    lines: IO[str] | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Enqueue the TASKS of one ENTITY_ID, or the events of a --file.

    \b
      fanfold enqueue doc-123 yearBuilt roofType --metadata '{"tenant": "acme"}' --event-id documents:3:1042
      fanfold enqueue --file events.jsonl
      echo '{"entity_id": "doc-1", "tasks": [{"name": "words", "config": {"min": 3}}]}' | fanfold enqueue --file -

    Interrupted or failed half-way: run it again. Events with an event_id are not enqueued twice. Exit code 1 when an
    event was refused; the others are enqueued all the same.
    """
    if (lines is None) == (entity_id is None):
        raise click.UsageError("give ENTITY_ID and TASKS, or --file with events")
    with load(target, **overrides) as app:
        if lines is not None:
            tally = asyncio.run(_enqueue_lines(app, lines))
        else:
            event = _event_of(str(entity_id), tasks, configs, metadata, event_id=event_id)
            tally = _Tally(
                [app.enqueue(event.entity_id, event.tasks, metadata=event.metadata, event_id=event.event_id)]
            )
    _report(tally, as_json=as_json)
    sys.exit(1 if tally.failed else 0)


def _event_of(
    entity_id: str, tasks: Sequence[str], configs: Sequence[str], metadata: str, *, event_id: str | None
) -> _Event:
    by_task = dict(_config(config) for config in configs)
    if stray := sorted(by_task.keys() - set(tasks)):
        raise click.UsageError(f"--config names {stray[0]!r}, which isn't among the tasks")
    specs: list[str | dict[str, Any]] = [
        {"name": name, "config": by_task[name]} if name in by_task else name for name in tasks
    ]
    return _Event(entity_id=entity_id, tasks=specs, metadata=_json("--metadata", metadata), event_id=event_id)


def _config(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--config {text!r}: write TASK=JSON")
    return name, _json(f"--config {name}", value)


def _json(option: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{option} {text!r} isn't JSON: {error}") from error


async def _enqueue_lines(app: Fanfold, lines: IO[str]) -> _Tally:
    tally, room = _Tally(), asyncio.Semaphore(_AT_ONCE)
    console = beside()
    async with app, asyncio.TaskGroup() as group:
        with ProgressBar(console=console, disable=not console.is_terminal, transient=True) as bar:
            row = bar.add_task("events", total=None)
            for number, line in _numbered(lines):
                await room.acquire()
                task = group.create_task(_enqueue_line(app, number, line, tally))
                task.add_done_callback(lambda _: room.release())
                task.add_done_callback(lambda _: bar.advance(row))
            for _ in range(_AT_ONCE):
                await room.acquire()
    return tally


def _numbered(lines: IO[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


async def _enqueue_line(app: Fanfold, number: int, line: str, tally: _Tally) -> None:
    try:
        event = _decode(line)
        done = await app.enqueue_async(event.entity_id, event.tasks, metadata=event.metadata, event_id=event.event_id)
        tally.done.append(done)
    except FanfoldError as error:
        tally.failed += 1
        beside().print(f"line {number}: {error}", style="red", markup=False)


def _decode(line: str) -> _Event:
    try:
        return msgspec.json.decode(line, type=_Event)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"not an event ({error}); write entity_id, tasks, metadata, event_id") from error


def _report(tally: _Tally, *, as_json: bool) -> None:
    if as_json:
        to_scripts({"events": [dataclasses.asdict(done) for done in tally.done], "failed": tally.failed})
        return
    sent, settled, known = (
        sum(getattr(done, name) for done in tally.done) for name in ("sent", "settled", "duplicates")
    )
    click.echo(
        f"{len(tally.done)} event(s): {sent - known} task(s) enqueued, {known} known to the queue already, "
        f"{settled} done before" + (f"; {tally.failed} event(s) refused" if tally.failed else "")
    )
    if len(tally.done) == 1:
        click.echo(f"fan-out {tally.done[0].fan_out_id}")
