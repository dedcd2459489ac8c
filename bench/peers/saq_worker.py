"""SAQ on Redis, which keeps everything in memory."""

from __future__ import annotations

import asyncio
import logging

from saq import Queue, Worker

from contract import Job, main

CONCURRENCY = 100
AT_ONCE = 50


def enqueue(job: Job) -> str:
    """Several at once."""
    asyncio.run(_enqueue(job))
    return f"{AT_ONCE} at once; Redis without persistence"


async def _enqueue(job: Job) -> None:
    queue = Queue.from_url(job.url)
    await queue.connect()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(entity: str, task: str) -> None:
        async with room:
            await queue.enqueue("nothing", entity_id=entity, task_name=task, ttl=-1)

    await queue.count("queued")
    job.begin()
    await asyncio.gather(*(one(*names) for names in job.entities()))
    job.end()


def drain(job: Job) -> str:
    """One worker."""
    logging.disable()
    asyncio.run(_drain(job))
    return f"concurrency {CONCURRENCY}, results not kept; Redis without persistence"


async def _drain(job: Job) -> None:
    queue = Queue.from_url(job.url)
    await queue.connect()

    async def nothing(_: object, *, entity_id: str, task_name: str) -> None:
        job.done()

    worker = Worker(queue, [("nothing", nothing)], concurrency=CONCURRENCY, dequeue_timeout=1)
    job.begin()
    running = asyncio.create_task(worker.start())
    await job.wait_async()
    await asyncio.sleep(0.2)  # the last acknowledgements
    await worker.stop()
    running.cancel()


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["saq", "redis", "hiredis"])
