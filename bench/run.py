"""Enqueue, drain, growth and latency of the embedded engine, in one run: `make bench`.

Ratios within one run mean something; absolute figures depend on the machine and the hour.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from fanfold import Event, Fanfold

T = TypeVar("T")

TASKS: Final = 5_000
FAN_OUT: Final = 42
BACKLOGS: Final = (1_000, 50_000, 200_000)


def application(folder: Path) -> Fanfold:
    """An application with no-op tasks, durable at synchronous=FULL."""
    app = Fanfold(f"sqlite:///{folder}/bench.db", concurrency=100)
    for number in range(FAN_OUT):
        app.task(f"t{number}")(_nothing)
    return app


async def _nothing() -> None:
    return None


async def enqueue(app: Fanfold, tasks: int, prefix: str) -> float:
    """Fan out so many tasks, 16 events at once; answers tasks a second."""
    names = [f"t{number}" for number in range(FAN_OUT)]
    room = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with room:
            await app.enqueue_async(f"{prefix}-{number}", names, event_id=str(number))

    events = -(-tasks // FAN_OUT)
    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(events)))
    return events * FAN_OUT / (time.perf_counter() - started)


async def drain(app: Fanfold, tasks: int) -> float:
    """Run so many of the waiting tasks in one worker; answers tasks a second."""
    done = asyncio.Event()
    seen = 0

    def count(event: Event) -> None:
        nonlocal seen
        seen += event.name == "task.completed"
        if seen >= tasks:
            done.set()

    app.subscribe(count)
    worker = await app.worker()
    started = time.perf_counter()
    await worker.start()
    await done.wait()
    rate = seen / (time.perf_counter() - started)
    await worker.stop()
    return rate


async def latency(app: Fanfold) -> float:
    """Milliseconds from an enqueue to its task's start in the same process, with an idle worker: the median of 50."""
    waits: list[float] = []
    begun = asyncio.Event()

    def note(event: Event) -> None:
        if event.name == "task.started":
            begun.set()

    app.subscribe(note)
    worker = await app.worker()
    await worker.start()
    for number in range(50):
        begun.clear()
        started = time.perf_counter()
        await app.enqueue_async(f"latency-{number}", ["t0"])
        await begun.wait()
        waits.append(time.perf_counter() - started)
    await worker.stop()
    return sorted(waits)[len(waits) // 2] * 1000


async def growth(backlog: int, app: Fanfold) -> tuple[float, float]:
    """Enqueue and drain rates with so many tasks waiting."""
    return await enqueue(app, backlog, "backlog"), await drain(app, min(TASKS, backlog))


async def on_a_fresh_file(measure: Callable[[Fanfold], Awaitable[T]]) -> T:
    """Run one measurement on a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with application(Path(folder)) as app:
            return await measure(app)


async def main() -> None:
    """Measure and print."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}")
    base = None
    for backlog in BACKLOGS:
        sent, drained = await on_a_fresh_file(partial(growth, backlog))
        base = base or drained
        print(f"{backlog:>9,} waiting: enqueue {sent:>7,.0f}/s  drain {drained:>7,.0f}/s  x{drained / base:.2f}")
    median = await on_a_fresh_file(latency)
    print(f"enqueue to start, same process, idle worker: {median:.1f} ms (median of 50)")


if __name__ == "__main__":
    asyncio.run(main())
