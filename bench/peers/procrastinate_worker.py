"""procrastinate on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging

from procrastinate import App, PsycopgConnector

from contract import FAN_OUT, Job, main

CONCURRENCY = 100


def _declared(job: Job):
    app = App(connector=PsycopgConnector(conninfo=job.url))

    @app.task(name="nothing", queue="bench")
    async def nothing(entity_id: str, task_name: str) -> None:
        job.done()

    return app, nothing


def enqueue(job: Job) -> str:
    """An event's tasks in one statement."""
    asyncio.run(_enqueue(job))
    return f"batch_defer of {FAN_OUT}, fsync on"


async def _enqueue(job: Job) -> None:
    app, nothing = _declared(job)
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        tasks = [{"entity_id": entity, "task_name": task} for entity, task in job.entities()]
        job.begin()
        for first in range(0, len(tasks), FAN_OUT):
            await nothing.batch_defer_async(*tasks[first : first + FAN_OUT])
        job.end()


def drain(job: Job) -> str:
    """One worker."""
    logging.disable()
    asyncio.run(_drain(job))
    return f"concurrency {CONCURRENCY}, finished jobs deleted, fsync on"


async def _drain(job: Job) -> None:
    app, _ = _declared(job)
    async with app.open_async():
        job.begin()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="always", install_signal_handlers=False)
        )
        await job.wait_async()
        await asyncio.sleep(0.5)  # the last acknowledgements
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["procrastinate", "psycopg"])
