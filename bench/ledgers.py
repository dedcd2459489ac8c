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


def main(postgres: str | None) -> None:
    """Measure and print."""
    console = Console(soft_wrap=True)
    ledgers: dict[str, str | None] = {"none": "none", "SQLite, the queue's file": None} | (
        {"PostgreSQL": postgres} if postgres else {}
    )
    cases = [(name, url, processes) for name, url in ledgers.items() for processes in PROCESSES]
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    for number in track(range(ROUNDS), "drains", console=Console(stderr=True), transient=True):
        for case in cases:
            rates[case].append(_round(case, number))
    console.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    console.print(_table({case: median(of) for case, of in rates.items()}))
    if postgres:
        for processes in PROCESSES:
            console.print(
                f"the ledger alone, {processes} process(es): {alone.measure(postgres, processes):,.0f} tasks/s"
            )


def _table(rates: dict[Case, float]) -> Table:
    table = Table("ledger", "worker processes", "tasks/s", "of those without one", title=f"median of {ROUNDS} rounds")
    without = {processes: rate for (name, _, processes), rate in rates.items() if name == "none"}
    for (name, _, processes), rate in rates.items():
        table.add_row(name, str(processes), f"{rate:,.0f}", f"{rate / without[processes]:.0%}")
    return table


def _round(case: Case, number: int) -> float:
    """Enqueue a round's tasks, and let worker processes drain them; answers tasks a second."""
    _, ledger, processes = case
    with tempfile.TemporaryDirectory() as folder:
        urls = f"sqlite:///{folder}/queue", ledger
        asyncio.run(_fill(*urls, f"round-{os.getpid()}-{processes}-{number}"))
        ready, done, count = _SPAWN.Barrier(processes + 1), _SPAWN.Event(), _SPAWN.Value("i", 0)
        workers = [_SPAWN.Process(target=_work, args=(*urls, ready, done, count)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        ready.wait()
        started = time.perf_counter()
        done.wait()
        rate = TASKS / (time.perf_counter() - started)
        for worker in workers:
            worker.join()
    return rate


async def _fill(queue: str, ledger: str | None, prefix: str) -> None:
    async with application(queue, ledger) as app:
        await enqueue(app, EVENTS, prefix)


def _work(queue: str, ledger: str | None, ready: Barrier, done: Event, count: Synchronized[int]) -> None:
    """A worker process: drains until all of them together have done what there is."""
    asyncio.run(_drain(queue, ledger, ready, done, count))


async def _drain(queue: str, ledger: str | None, ready: Barrier, done: Event, count: Synchronized[int]) -> None:
    async with application(queue, ledger) as app:

        def completed(event: Told) -> None:
            if event.name == "task.completed":
                with count.get_lock():
                    count.value += 1
                    if count.value >= TASKS:
                        done.set()

        app.subscribe(completed)
        worker = await app.worker()
        await asyncio.to_thread(ready.wait)
        await worker.start()
        await asyncio.to_thread(done.wait)
        await worker.stop()


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)
