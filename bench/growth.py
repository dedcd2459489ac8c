"""What enqueueing and draining cost as the backlog grows: rates beside each other, rounds interleaved, medians."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

from rich.progress import Progress

from application import NAMES, application
from fanfold import Event, Fanfold

EVENTS: Final = 120
"""Fan-outs of 42 that each round enqueues and drains: 5,040 tasks."""

Rates = tuple[float, float]
RatesByBacklog = Mapping[int, Rates]


async def enqueue(app: Fanfold, events: int, prefix: str, *, names: Sequence[str] = NAMES, at_once: int = 16) -> float:
    """Fan out so many events, so many at once; answers tasks a second."""
    numbers = iter(range(events))

    async def some() -> None:
        for number in numbers:
            await app.enqueue_async(f"{prefix}-{number}", names, event_id=str(number))

    started = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return events * len(names) / (time.perf_counter() - started)


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


async def measure(backlogs: Sequence[int], fan_out: int, rounds: int, progress: Progress) -> RatesByBacklog:
    """Rates (enqueue, drain) by backlog: the median of the rounds, each of which visits every backlog.

    The backlog is of fan-outs of so many tasks: of one, it is as many groups and fan-outs as messages.
    """
    names = NAMES[:fan_out]
    rates: dict[int, list[Rates]] = {backlog: [] for backlog in backlogs}
    bar = progress.add_task("growth", total=len(backlogs) * (rounds + 1))
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            apps: dict[int, Fanfold] = {}
            for backlog in backlogs:
                apps[backlog] = await stack.enter_async_context(application(f"sqlite:///{Path(folder, str(backlog))}"))
                await enqueue(apps[backlog], -(-backlog // len(names)), "backlog", names=names, at_once=256)
                progress.advance(bar)
            for number in range(rounds):
                for backlog, app in apps.items():
                    rates[backlog].append(
                        (await enqueue(app, EVENTS, f"round-{number}"), await drain(app, EVENTS * len(NAMES)))
                    )
                    progress.advance(bar)
    return {backlog: (median(r[0] for r in of), median(r[1] for r in of)) for backlog, of in rates.items()}
