"""What a waiting worker costs, and how soon it starts a task: in the same process, and in another."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, cast

import psutil

from application import application
from fanfold import Event, Fanfold
from growth import EVENTS, enqueue

STARTS: Final = 100


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker process that has drained its queue and waits."""

    cpu_percent: float
    """Of one core."""
    memory_mib: float
    """Resident, after 5,140 tasks."""
    wake_ups: float
    """Of all its threads, a second."""

    def __str__(self) -> str:
        rest = f"{self.memory_mib:.0f} MiB resident, woken {self.wake_ups:.1f} times a second"
        return f"{self.cpu_percent:.2f} % of a core while it waits, {rest}"


@dataclass(frozen=True, slots=True)
class Starts:
    """Milliseconds from the call of `enqueue` to the start of its task, with a worker that waits."""

    median: float
    worst: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ms (median of {STARTS}; worst {self.worst:.1f})"


async def in_process() -> Starts:
    """Enqueue one task at a time to a waiting worker of this process."""
    with tempfile.TemporaryDirectory() as folder:
        async with application(f"sqlite:///{folder}/queue") as app:
            started: asyncio.Queue[Event] = asyncio.Queue()
            app.subscribe(lambda event: started.put_nowait(event) if event.name == "task.started" else None)
            worker = await app.worker()
            await worker.start()
            starts = await _starts(app, started.get, "t0")
            await worker.stop()
    return starts


async def across_processes(seconds: float = 30.0) -> tuple[Starts, Idle]:
    """Enqueue one task at a time to a waiting worker of another process, which says so on its output; then watch it."""
    with tempfile.TemporaryDirectory() as folder:
        queue_url = f"sqlite:///{folder}/queue"
        async with application(queue_url) as app, worker_process(queue_url) as process:
            await enqueue(app, EVENTS, "before")
            await _drained(app)
            output = cast("asyncio.StreamReader", process.stdout)
            starts = await _starts(app, output.readline, "announce")
            idle = await _idle(psutil.Process(process.pid), seconds)
    return starts, idle


@asynccontextmanager
async def worker_process(queue_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`fanfold worker application:app` in another process until the block is left; its log goes nowhere."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fanfold", "worker", "application:app"),
        cwd=Path(__file__).parent,
        env=os.environ | {"FANFOLD_QUEUE_URL": queue_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _drained(app: Fanfold) -> None:
    while await app.fan_outs_async(limit=1, open_only=True):  # noqa: ASYNC110 - the worker is another process
        await asyncio.sleep(0.05)


async def _starts(app: Fanfold, started: Callable[[], Awaitable[object]], task: str) -> Starts:
    waits = []
    for number in range(STARTS):
        called = time.perf_counter()
        await app.enqueue_async(f"start-{number}", [task])
        await started()
        waits.append(1000 * (time.perf_counter() - called))
    return Starts(median=median(waits), worst=max(waits))


async def _idle(process: psutil.Process, seconds: float) -> Idle:
    await asyncio.sleep(2.0)  # it has just worked
    before, woken, since = _used(process), _woken(process), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - since
    return Idle(
        cpu_percent=100 * (_used(process) - before) / took,
        memory_mib=process.memory_info().rss / 2**20,
        wake_ups=(_woken(process) - woken) / took,
    )


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _woken(process: psutil.Process) -> int:
    """How often its threads have gone to sleep so far (Linux)."""
    statuses = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/status")]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[0]) for status in statuses)
