"""The demo's run: workers as processes, events in, progress, and one description of everything out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from fanfold import settings
from fanfold.app import Fanfold
from fanfold.demo import workers
from fanfold.demo.descriptions import described, write
from fanfold.demo.environment import Installed
from fanfold.demo.fields import EDITION, FIELDS
from fanfold.demo.workers import Workers
from fanfold.model import Enqueued, FanOut, TaskSpec, TaskState

_LOOK: Final = 0.1
"""Seconds between two looks at the ledger while a person watches the bars."""
_ALL: Final = 1_000_000
_ADDRESSES: Final = ("queue_url", "dlq_url", "ledger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run keeps what it makes: the queue and ledger, worker logs, descriptions."""

    folder: Path
    queue_url: str
    ledger: str
    dlq_url: str | None = None
    region: str | None = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Say it in this process's environment, which the workers inherit, and take it back afterwards.

        Addresses that stood there are left out: they may be those of a queue that does real work.
        """
        before = dict(os.environ)
        for name in _ADDRESSES:
            for variable in settings.VARIABLES[name]:
                os.environ.pop(variable, None)
        os.environ.update(self._variables())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _variables(self) -> dict[str, str]:
        said = {
            "FANFOLD_QUEUE_URL": self.queue_url,
            "FANFOLD_DLQ_URL": self.dlq_url,
            "FANFOLD_LEDGER": self.ledger,
            "FANFOLD_REGION": self.region,
            "FANFOLD_DEMO_RESULTS": str(self.folder / "results"),
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(slots=True)
class Report:
    """What a run came to."""

    enqueued: list[Enqueued] = field(default_factory=list)
    fan_outs: list[FanOut] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Tasks of all events."""
        return sum(done.total_tasks for done in self.enqueued)

    @property
    def fresh(self) -> int:
        """Tasks that this run put into the queue."""
        return sum(done.sent - done.duplicates for done in self.enqueued)

    @property
    def set_aside(self) -> list[tuple[str, str, str]]:
        """Distribution, field and reason of every task that ended without a result."""
        return [
            (fan_out.entity_id, name, failure.message or failure.type)
            for fan_out in self.fan_outs
            for name, failure in fan_out.failures.items()
        ]

    @property
    def retried(self) -> list[tuple[str, str, int]]:
        """Distribution, field and attempts of every task that ran more than once."""
        return [
            (fan_out.entity_id, task.task_name, task.attempts)
            for fan_out in self.fan_outs
            for task in fan_out.tasks
            if task.attempts > 1
        ]


def run(app: Fanfold, place: Place, found: Sequence[Installed], *, processes: int, console: Console) -> Report:
    """Describe these distributions with so many worker processes; `results.json` has all descriptions.

    Raises:
        FanfoldError: queue or ledger failed, or a worker ended before its work did.
        KeyboardInterrupt: Ctrl-C. The workers have stopped; the same run again goes on.
    """
    with place.in_force():
        report = asyncio.run(_run(app, place, found, processes, console))
    write(place.folder / "results.json", {fan_out.entity_id: described(fan_out) for fan_out in report.fan_outs})
    return report


async def _run(app: Fanfold, place: Place, found: Sequence[Installed], processes: int, console: Console) -> Report:
    report = Report()
    async with app:
        with _bars(console) as bars, workers.standing_by(place.folder, processes) as team:
            report.enqueued = await _enqueue(app, found, team, bars)
            await _watch(app, report, team, bars)
            bars.add_task("stopping the workers", total=None)
        ids = [done.fan_out_id for done in report.enqueued]
        report.fan_outs = [
            f for f in [await app.fan_out(fan_out_id).get_async() for fan_out_id in ids] if f is not None
        ]
    return report


async def _enqueue(app: Fanfold, found: Sequence[Installed], team: Workers, bars: Bars) -> list[Enqueued]:
    row = bars.add_task("events enqueued", total=len(found))
    done = []
    for distribution in found:
        tasks = [TaskSpec(f.name, distribution.task_config) for f in FIELDS]
        place = distribution.folder or "here"
        event_id = f"installed:{EDITION}:{distribution.key}:{distribution.version}:{place}"
        done.append(await app.enqueue_async(distribution.entity_id, tasks, event_id=event_id))
        if done[-1].sent:
            team.start()
        bars.advance(row)
    return done


async def _watch(app: Fanfold, report: Report, team: Workers, bars: Bars) -> None:
    """Return when every distribution is described, or its description was set aside."""
    fields = bars.add_task("fields done", total=report.total)
    folds = bars.add_task("distributions described", total=len(report.enqueued))
    waiting = {done.fan_out_id for done in report.enqueued}
    while waiting:
        still_open = {f.fan_out_id: f for f in await app.fan_outs_async(limit=_ALL, open_only=True)}
        for fan_out_id in sorted(waiting - still_open.keys()):
            if await _is_over(app, fan_out_id):
                waiting.discard(fan_out_id)
        left = sum(f.total_tasks - f.progress.done for f in still_open.values() if f.fan_out_id in waiting)
        bars.update(fields, completed=report.total - left)
        bars.update(folds, completed=len(report.enqueued) - len(waiting))
        if waiting:
            team.start()
            team.require_alive()
            await asyncio.sleep(_LOOK)


async def _is_over(app: Fanfold, fan_out_id: str) -> bool:
    fan_out = await app.fan_out(fan_out_id).get_async()
    return fan_out is not None and fan_out.fold_state in (TaskState.SUCCEEDED, TaskState.DEAD)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
