"""Measure a large fan-out on the embedded engine: `python bench/fan_outs.py`, with the number of tasks as an argument.

A process of its own enqueues it, so that what it takes in memory is the producer's alone. Workers drain it, and it is
timed from the last task's record to the completion's start.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from fanfold import Event, Fanfold, TaskSpec
from fanfold.ledgers.protocol import Plan
from fanfold.ledgers.sqlite import SqliteLedger

TASKS: Final = 100_000
LOOKS: Final = 20
"""Reads of the progress, while the drain goes on and before it."""

_KIB: Final = 1024


def application(queue_url: str, tasks: int) -> Fanfold:
    """An application of so many tasks that do nothing."""
    made = Fanfold(queue_url, concurrency=100)
    for name in names(tasks):
        made.task(name)(nothing)
    made.on_complete(nothing)
    return made


async def nothing() -> None:
    """Do nothing."""


def names(tasks: int) -> list[str]:
    """The tasks' names."""
    return [f"field-{number:06}" for number in range(tasks)]


@dataclass(frozen=True, slots=True)
class Produced:
    """What the producer's process measured: seconds as they pass, and of CPU; MiB resident."""

    opened: float
    opened_cpu: float
    enqueued: float
    enqueued_cpu: float
    before: float
    most: float

    def __str__(self) -> str:
        return (
            f"opened in the ledger in {self.opened:.1f} s ({self.opened_cpu:.1f} of CPU); opened and sent in "
            f"{self.enqueued:.1f} s ({self.enqueued_cpu:.1f} of CPU); producer {self.before:.0f} MiB before, "
            f"{self.most:.0f} MiB at most"
        )


def enqueue(queue_url: str, tasks: int) -> None:
    """Be the producer, in a process of its own; prints what it measured."""
    planned = names(tasks)
    with Fanfold(queue_url) as app:
        app.enqueue("warm", planned[:1])
        gc.collect()
        before = _peak()
        enqueued = _timed(lambda: app.enqueue("large", planned, event_id="1"))
        most = _peak()
    opened = _timed(lambda: asyncio.run(_open(queue_url.replace("tasks.db", "ledger.db"), planned)))
    print(*opened, *enqueued, before, most)


async def _open(url: str, planned: Sequence[str]) -> None:
    ledger = SqliteLedger(url)
    await ledger.start()
    tasks = [TaskSpec(name) for name in planned]
    await ledger.open(Plan(fan_out_id="large", entity_id="large", event_id="1", metadata={}, tasks=tasks))
    await ledger.close()


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu


async def measure(queue_url: str, tasks: int, console: Console) -> None:
    """Enqueue, read, drain, and print."""
    console.print(f"{tasks:,} tasks: {await _producer(queue_url, tasks)}")
    async with application(queue_url, tasks) as app:
        app.telemetry.subscribe(marks := Marks())
        [fan_out] = await app.fan_outs_async(entity_id="large")
        console.print(f"progress, nothing done: {await _looks(app, fan_out.fan_out_id)}")
        worker = await app.worker()
        started, cpu = time.perf_counter(), time.process_time()
        await worker.start()
        await marks.half(tasks)
        console.print(f"progress, half done, while it is drained: {await _looks(app, fan_out.fan_out_id)}")
        await marks.folded.wait()
        drained = marks.last - started
        rate = f"{tasks / drained:,.0f} tasks/s"
        console.print(
            f"drain: {drained:.1f} s, {rate}; {time.process_time() - cpu:.1f} s of CPU in the worker's process"
        )
        console.print(f"from the last task's record to the completion's start: {marks.fold - marks.last:.3f} s")
        started = time.perf_counter()
        await app.fan_out(fan_out.fan_out_id).get_async()
        console.print(f"all of it read, with results: {time.perf_counter() - started:.2f} s")
        await worker.stop()


class Marks:
    """When the last task was recorded, and when the completion started."""

    def __init__(self) -> None:
        self.last = self.fold = 0.0
        self.done = 0
        self.folded = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Note an event's time."""
        of_fold = event.fields.get("task_name") == "fanfold.fold"
        if event.name == "task.completed" and not of_fold:
            self.done += 1
            self.last = time.perf_counter()
        elif event.name == "task.started" and of_fold and event.fields.get("entity_id") == "large":
            self.fold = time.perf_counter()
            self.folded.set()

    async def half(self, tasks: int) -> None:
        """Return when half is done."""
        while self.done < tasks / 2:  # noqa: ASYNC110 - a benchmark may look
            await asyncio.sleep(0.05)


async def _looks(app: Fanfold, fan_out_id: str) -> str:
    times = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        await app.fan_out(fan_out_id).progress_async()
        times.append((time.perf_counter() - started) * 1e3)
    return f"{statistics.median(times):.1f} ms median of {LOOKS}, worst {max(times):.1f}"


async def _producer(queue_url: str, tasks: int) -> Produced:
    arguments = sys.executable, __file__, "enqueue", queue_url, str(tasks)
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the producer failed; see above")
    return Produced(*map(float, said.split()))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB


async def main(tasks: int) -> None:
    """Measure and print."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.machine()}; synchronous=FULL, one worker, tasks that do nothing"
    )
    with tempfile.TemporaryDirectory() as folder:
        await measure(f"sqlite:///{Path(folder, 'tasks.db')}", tasks, console)


if __name__ == "__main__":
    if sys.argv[1:2] == ["enqueue"]:
        enqueue(sys.argv[2], int(sys.argv[3]))
    else:
        asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else TASKS))
