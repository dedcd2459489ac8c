"""Fanfold: fan-outs of 42, the lean transport or the embedded queue; the mode names the ledger."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from contract import FAN_OUT, Job, main
from fanfold import Fanfold
from fanfold.loops import new_event_loop

CONCURRENCY = 100
AT_ONCE = 16
"""Fan-outs that are enqueued at once."""
NAMES = [f"t{number}" for number in range(FAN_OUT)]
MODES = ("none", "same", "file")


def _application(job: Job) -> Fanfold:
    ledger = {"none": "none", "same": None, "file": os.environ.get("FANFOLD_BENCH_LEDGER")}[job.mode]
    app = Fanfold(job.url, ledger=ledger, concurrency=CONCURRENCY, grace=1.0)  # a stop ends the idle poll

    async def nothing() -> None:
        job.done()

    for name in NAMES:
        app.task(name)(nothing)
    return app


def _settings(job: Job) -> str:
    ledger = {"none": "no ledger", "same": "ledger in the queue's file", "file": "ledger in an SQLite file"}[job.mode]
    return f"concurrency {CONCURRENCY}, {AT_ONCE} fan-outs at once, heartbeat on, uvloop, {ledger}"


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # as `fanfold worker` does
        runner.run(work)


def enqueue(job: Job) -> str:
    """Fan out."""
    _run(_enqueue(job))
    return _settings(job)


async def _enqueue(job: Job) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    async with _application(job) as app:
        await app.status_async()

        async def one(number: int) -> None:
            names = NAMES[: job.tasks - number * FAN_OUT]
            async with room:
                await app.enqueue_async(f"{job.prefix}-{number}", names, event_id=str(number))

        job.begin()
        await asyncio.gather(*(one(number) for number in range(-(-job.tasks // FAN_OUT))))
        job.end()


def drain(job: Job) -> str:
    """One worker."""
    _run(_drain(job))
    return _settings(job)


async def _drain(job: Job) -> None:
    async with _application(job) as app:
        await app.status_async()
        worker = await app.worker()
        job.begin()
        await worker.start()
        await job.wait_async()
        await worker.stop()


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["msgspec", "httptools", "uvloop"], MODES)
