"""A worker's memory and speed over a million tasks: `PYTHONPATH=. python bench/long_run.py`, ten minutes or more.

One process enqueues them, another one works them off: an embedded queue at `synchronous=NORMAL`, with its ledger unless
`--no-ledger`. What it prints at each tenth is of that tenth alone, but for the memory, which is what is resident then.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

import growth
from application import NAMES, application
from fanfold import Event, Fanfold
from page import circumstances, figure, table

_TASKS: Final = 1_000_000
_PARTS: Final = 10


class Tenths:
    """What each tenth of the tasks took: tasks a second, CPU µs a task, MiB resident at its end."""

    def __init__(self, tasks: int) -> None:
        self._size = max(1, tasks // _PARTS)
        self._seen = 0
        self._begun, self._cpu = time.perf_counter(), time.process_time()
        self.done = asyncio.Event()
        self.rows: list[list[str]] = []

    def __call__(self, event: Event) -> None:
        """Count a task that is done."""
        if event.name != "task.completed":
            return
        self._seen += 1
        if self._seen % self._size == 0:
            self._note()
        if len(self.rows) == _PARTS:
            self.done.set()

    def _note(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        memory = psutil.Process().memory_info().rss / 2**20
        took = self._size / (now - self._begun), (cpu - self._cpu) / self._size * 1e6, memory
        self.rows.append([f"{self._seen:,}", *map(figure, took)])
        print(" ".join(self.rows[-1]), file=sys.stderr, flush=True)
        self._begun, self._cpu = now, cpu


async def fill(app: Fanfold, tasks: int) -> None:
    """Enqueue fan-outs of 42, and say how fast."""
    async with app:
        rate = await growth.enqueue(app, -(-tasks // len(NAMES)), "long")
    print(f"enqueued {tasks:,} tasks, {rate:,.0f}/s", flush=True)


async def work(app: Fanfold, tasks: int) -> None:
    """Work them off in this process, and print what each tenth took."""
    tenths = Tenths(tasks)
    app.subscribe(tenths)
    async with app:
        worker = await app.worker()
        await worker.start()
        await tenths.done.wait()
        await worker.stop()
    print("\n".join(table(["tasks done", "tasks/s", "CPU µs a task", "MiB"], tenths.rows)), flush=True)


def main() -> None:
    """Run from the command line: both steps, each in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=_TASKS, help="how many (%(default)s)")
    parser.add_argument("--no-ledger", action="store_true", help="measure the queue alone")
    parser.add_argument("--step", choices=("fill", "work"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        app = application(options.url, "none" if options.no_ledger else None)
        asyncio.run({"fill": fill, "work": work}[options.step](app, options.tasks))
        return
    print(circumstances(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'long.db')}?synchronous=normal"
        for step in ("fill", "work"):
            subprocess.run([sys.executable, *sys.argv, "--step", step, "--url", url], check=True)  # noqa: S603 - ourselves


if __name__ == "__main__":
    main()
