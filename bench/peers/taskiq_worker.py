"""taskiq-aio-sqs, on uvloop as its own worker command is where uvloop is there."""

from __future__ import annotations

import asyncio
import os

import uvloop
from taskiq.api import run_receiver_task
from taskiq_aio_sqs import SQSBroker

from contract import Job, main

CONCURRENCY = 100
AT_ONCE = 50


def _broker(job: Job) -> SQSBroker:
    return SQSBroker(
        job.queue,
        endpoint_url=job.endpoint,
        region_name=os.environ["AWS_DEFAULT_REGION"],
        use_task_id_for_deduplication=True,
        max_number_of_messages=10,
        wait_time_seconds=5,
    )


def enqueue(job: Job) -> str:
    """Several sends at once. Its batching isn't used: it counts a task as enqueued before it has been sent."""
    uvloop.run(_enqueue(job))
    return f"{AT_ONCE} sends at once"


async def _enqueue(job: Job) -> None:
    broker = _broker(job)
    task = _declared(broker, job)
    await broker.startup()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(entity: str, name: str) -> None:
        async with room:
            await task.kicker().with_labels(group_id=f"{entity}-{name}").kiq(entity, name)

    job.begin()
    await asyncio.gather(*(one(*names) for names in job.entities()))
    job.end()
    await broker.shutdown()


def _declared(broker: SQSBroker, job: Job):
    @broker.task(task_name="nothing")
    async def nothing(entity_id: str, task_name: str) -> None:
        job.done()

    return nothing


def drain(job: Job) -> str:
    """One receiver."""
    uvloop.run(_drain(job))
    return f"max_async_tasks {CONCURRENCY}, max_number_of_messages 10, uvloop, no heartbeat"


async def _drain(job: Job) -> None:
    broker = _broker(job)
    _declared(broker, job)
    broker.is_worker_process = True
    await broker.startup()
    job.begin()
    receiver = asyncio.create_task(run_receiver_task(broker, max_async_tasks=CONCURRENCY, max_prefetch=CONCURRENCY))
    await job.wait_async()
    await asyncio.sleep(0.2)  # the last acknowledgements
    receiver.cancel()
    await asyncio.gather(receiver, return_exceptions=True)


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["taskiq-aio-sqs", "taskiq", "aiobotocore", "uvloop"])
