"""The demo's run: workers as processes, events in, progress, and one description of everything out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from fanfold.app import Fanfold
from fanfold.demo.distribution import Installed, installed
from fanfold.demo.fields import FIELDS
from fanfold.errors import FanfoldError
from fanfold.model import Enqueued, FanOut, TaskSpec, TaskState

_LOOK: Final = 0.1
"""Seconds between two looks at the ledger while a person watches the bars."""
_GRACE: Final = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run keeps what it makes: the queue and ledger files, worker logs, descriptions."""

    folder: Path
    queue_url: str
    ledger: str
    region: str | None = None

    @property
    def results(self) -> Path:
        """The folder of one description a distribution."""
        return self.folder / "results"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process needs to know."""
        said = {
            "FANFOLD_QUEUE_URL": self.queue_url,
            "FANFOLD_LEDGER": self.ledger,
            "FANFOLD_DEMO_RESULTS": str(self.results),
        }
        return os.environ | said | ({"FANFOLD_REGION": self.region} if self.region else {})


@dataclass(slots=True)
class Report:
    """What a run came to."""

    enqueued: list[Enqueued] = field(default_factory=list)
    fan_outs: list[FanOut] = field(default_factory=list)

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


def run(app: Fanfold, place: Place, *, documents: int | None, workers: int, console: Console) -> Report:
    """Describe up to `documents` installed distributions (None: all) with so many worker processes.

    Raises:
        FanfoldError: queue or ledger failed, or a worker ended before its work did.
    """
    found = installed()[:documents]
    return asyncio.run(_run(app, place, found, workers, console))


def write_results(report: Report, target: Path) -> None:
    """All descriptions in one file, in the order of the entities' names."""
    described = {
        fan_out.entity_id: {
            "fields": fan_out.results,
            "set_aside": {name: failure.message or failure.type for name, failure in fan_out.failures.items()},
        }
        for fan_out in report.fan_outs
    }
    target.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


async def _run(
    app: Fanfold, place: Place, distributions: Sequence[Installed], workers: int, console: Console
) -> Report:
    report = Report()
    async with app:
        with _worker_processes(place, workers) as processes, _bars(console) as bars:
            report.enqueued = await _enqueue(app, distributions, bars)
            await _watch(app, report, processes, bars)
        ids = [done.fan_out_id for done in report.enqueued]
        report.fan_outs = [
            f for f in [await app.fan_out(fan_out_id).get_async() for fan_out_id in ids] if f is not None
        ]
    return report


async def _enqueue(app: Fanfold, distributions: Sequence[Installed], bars: Bars) -> list[Enqueued]:
    row = bars.add_task("events enqueued", total=len(distributions))
    done = []
    for distribution in distributions:
        tasks = [TaskSpec(f.name, distribution.task_config) for f in FIELDS]
        done.append(
            await app.enqueue_async(
                distribution.entity_id,
                tasks,
                event_id=f"installed:{distribution.key}:{distribution.version}",
            )
        )
        bars.advance(row)
    return done


async def _watch(app: Fanfold, report: Report, processes: Sequence[subprocess.Popen[bytes]], bars: Bars) -> None:
    tasks = bars.add_task("fields done", total=sum(done.total_tasks for done in report.enqueued))
    folds = bars.add_task("distributions described", total=len(report.enqueued))
    waiting = {done.fan_out_id for done in report.enqueued}
    settled = 0
    while waiting:
        for fan_out_id in sorted(waiting):
            fan_out = await app.fan_out(fan_out_id).get_async()
            if fan_out is not None and fan_out.fold_state in (TaskState.SUCCEEDED, TaskState.DEAD):
                waiting.discard(fan_out_id)
                settled += fan_out.total_tasks
        open_ones = [f for f in await app.fan_outs_async(limit=1_000) if f.fan_out_id in waiting]
        bars.update(tasks, completed=settled + sum(fan_out.progress.done for fan_out in open_ones))
        bars.update(folds, completed=len(report.enqueued) - len(waiting))
        _check_alive(processes)
        await asyncio.sleep(_LOOK)


def _check_alive(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for number, process in enumerate(processes, 1):
        if process.poll() is not None:
            raise FanfoldError(
                f"worker {number} ended with exit code {process.returncode}; its log says why. What is done is kept: "
                "run the demo again to go on."
            )


@contextmanager
def _worker_processes(place: Place, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many workers, stopped in order on the way out, whatever the way."""
    processes: list[subprocess.Popen[bytes]] = []
    logs: list[IO[Any]] = []
    try:
        for number in range(1, count + 1):
            logs.append((place.folder / f"worker-{number}.log").open("ab"))
            command = [sys.executable, "-m", "fanfold", "worker", "fanfold.demo.app:app"]
            # A session of its own: Ctrl-C is for us, who then stop the workers in order.
            processes.append(
                subprocess.Popen(  # noqa: S603 - our own command line
                    command, env=place.environment, stdout=logs[-1], stderr=logs[-1], start_new_session=True
                )
            )
        yield processes
    finally:
        _stop(processes)
        for log in logs:
            log.close()


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
