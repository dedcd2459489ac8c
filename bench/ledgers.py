"""What a ledger costs: drains of tasks that do nothing, by ledger and number of worker processes.

`.venv-3.11/bin/python bench/ledgers.py [postgresql://…]`; without a URL, PostgreSQL is left out. One that waits for
the disk, as it should, is `tests/postgres_server.py`. The queue is the embedded one, in a file of its own, so with
PostgreSQL two stores share the disk. Rounds are interleaved; each has a fresh queue and fresh fan-outs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier, Event
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

import alone
from application import NAMES, application
from fanfold import Event as Told
from growth import enqueue

ROUNDS: Final = 5
EVENTS: Final = 240
"""Fan-outs of 42 in each round: 10,080 tasks."""
TASKS: Final = EVENTS * len(NAMES)
PROCESSES: Final = (1, 2)
_SPAWN: Final = multiprocessing.get_context("spawn")

Case = tuple[str, str | None, int]
"""A ledger by its name and URL (None: the default), and a number of worker processes."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How a round went: tasks a second, and CPU seconds a task of the workers (with SQLite, ledger and all)."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What the processes of a round share: when they begin, when they are done, what they have done and spent."""

    ready: Barrier
    done: Event
    count: Synchronized[int]
    cpu: Synchronized[float]


def main(postgres: str | None) -> None:
    """Measure and print."""
    console = Console(soft_wrap=True)
    ledgers: dict[str, str | None] = {"none": "none", "SQLite, the queue's file": None} | (
        {"PostgreSQL": postgres} if postgres else {}
    )
    cases = [(name, url, processes) for name, url in ledgers.items() for processes in PROCESSES]
    rounds: dict[Case, list[Drain]] = {case: [] for case in cases}
    for number in track(range(ROUNDS), "drains", console=Console(stderr=True), transient=True):
        for case in cases:
            rounds[case].append(_round(case, number))
    console.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    console.print(_table({case: _medians(of) for case, of in rounds.items()}))
    if postgres:
        for processes in PROCESSES:
            console.print(
                f"the ledger alone, {processes} process(es): {alone.measure(postgres, processes):,.0f} tasks/s"
            )


def _table(drains: dict[Case, Drain]) -> Table:
    heads = "ledger", "worker processes", "tasks/s", "relative", "CPU of the workers, µs a task", "relative"
    table = Table(*heads, title=f"median of {ROUNDS} rounds")
    without = {processes: drain for (name, _, processes), drain in drains.items() if name == "none"}
    for (name, _, processes), drain in drains.items():
        base = without[processes]
        rate = f"{drain.rate:,.0f}", f"{drain.rate / base.rate:.0%}"
        table.add_row(name, str(processes), *rate, f"{drain.cpu * 1e6:.0f}", f"{drain.cpu / base.cpu:.0%}")
    return table


def _medians(of: list[Drain]) -> Drain:
    return Drain(rate=median(drain.rate for drain in of), cpu=median(drain.cpu for drain in of))


def _round(case: Case, number: int) -> Drain:
    """Enqueue a round's tasks, and let worker processes drain them."""
    _, ledger, processes = case
    with tempfile.TemporaryDirectory() as folder:
        urls = f"sqlite:///{folder}/queue", ledger
        asyncio.run(fill(*urls, f"round-{os.getpid()}-{processes}-{number}"))
        with working(*urls, processes) as meeting:
            meeting.ready.wait()
            started = time.perf_counter()
            meeting.done.wait()
            rate = TASKS / (time.perf_counter() - started)
    return Drain(rate=rate, cpu=meeting.cpu.value / TASKS)


@contextmanager
def working(queue: str, ledger: str | None, processes: int) -> Iterator[Meeting]:
    """So many worker processes, which begin when all have met, and have ended when the block is left."""
    meeting = Meeting(
        ready=_SPAWN.Barrier(processes + 1), done=_SPAWN.Event(), count=_SPAWN.Value("i"), cpu=_SPAWN.Value("d")
    )
    workers = [_SPAWN.Process(target=_work, args=(queue, ledger, meeting)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    yield meeting
    for worker in workers:
        worker.join()


async def fill(queue: str, ledger: str | None, prefix: str) -> None:
    """Enqueue a round's tasks."""
    async with application(queue, ledger) as app:
        await enqueue(app, EVENTS, prefix)


def _work(queue: str, ledger: str | None, meeting: Meeting) -> None:
    """A worker process: drains until all of them together have done what there is."""
    spent = asyncio.run(_drain(queue, ledger, meeting))
    with meeting.cpu.get_lock():
        meeting.cpu.value += spent


async def _drain(queue: str, ledger: str | None, meeting: Meeting) -> float:
    async with application(queue, ledger) as app:

        def completed(event: Told) -> None:
            if event.name == "task.completed":
                with meeting.count.get_lock():
                    meeting.count.value += 1
                    if meeting.count.value >= TASKS:
                        meeting.done.set()

        app.subscribe(completed)
        worker = await app.worker()
        await asyncio.to_thread(meeting.ready.wait)
        started = time.process_time()
        await worker.start()
        await asyncio.to_thread(meeting.done.wait)
        spent = time.process_time() - started
        await worker.stop()
    return spent


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)
