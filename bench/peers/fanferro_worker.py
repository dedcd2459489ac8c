"""fanferro: a Rust core under asyncio."""

from __future__ import annotations

import asyncio
import os

import fanferro

from contract import Job, main

IN_A_CALL = 500
"""Messages that one `send_batch` is given; it makes requests of ten of them, several at once."""
CONCURRENCY = 100
POLLERS = 4


def _client(job: Job) -> fanferro.Client:
    return fanferro.Client(
        endpoint_url=job.endpoint,
        region=os.environ["AWS_DEFAULT_REGION"],
        account_id="000000000000",
        logging=fanferro.LoggingConfig(enabled=False),
    )


def enqueue(job: Job) -> str:
    """Batches of ten, several at once."""
    asyncio.run(_enqueue(job))
    return f"send_batch of {IN_A_CALL}"


async def _enqueue(job: Job) -> None:
    async with _client(job) as client:
        queue = client.queue(url=job.url)
        await queue.resolve()
        job.begin()
        messages = [
            fanferro.OutgoingMessage(
                {"entity_id": entity, "task_name": task, "task_config": {}, "metadata": {}},
                group_id=f"{entity}-{task}",
                deduplication_id=f"{entity}-{task}",
            )
            for entity, task in job.entities()
        ]
        for first in range(0, len(messages), IN_A_CALL):
            result = await queue.send_batch(messages[first : first + IN_A_CALL])
            if not result.ok:
                raise RuntimeError(f"messages were refused: {result}")
        job.end()


def drain(job: Job) -> str:
    """One consumer."""
    asyncio.run(_drain(job))
    return f"concurrency {CONCURRENCY}, {POLLERS} pollers, heartbeat on"


async def _drain(job: Job) -> None:
    async with _client(job) as client:
        queue = client.queue(url=job.url)
        consumer = client.consumer(queue, concurrency=CONCURRENCY, pollers=POLLERS)

        @consumer.default
        async def nothing(message: fanferro.Message[dict]) -> None:
            job.done()

        await queue.resolve()
        job.begin()
        await consumer.start()
        await job.wait_async()
        await consumer.stop()


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["fanferro"])
