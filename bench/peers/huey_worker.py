"""huey on SQLite; the mode is SQLite's `synchronous`. It pops: a crash loses the task that runs."""

from __future__ import annotations

import logging

from huey import SqliteHuey

from contract import Job, main

THREADS = {"off": 1, "full": 8}


def _declared(job: Job):
    huey = SqliteHuey(
        "bench", filename=job.url, fsync=job.mode == "full", results=False, cache_mb=64, journal_mode="wal"
    )

    @huey.task(name="nothing")
    def nothing(entity_id: str, task_name: str) -> None:
        job.done()

    return huey, nothing


def enqueue(job: Job) -> str:
    """One insert and commit a task."""
    _, nothing = _declared(job)
    job.begin()
    for entity, task in job.entities():
        nothing(entity, task)
    job.end()
    return f"synchronous {job.mode.upper()}, WAL, one thread"


def drain(job: Job) -> str:
    """One consumer."""
    logging.getLogger("huey").setLevel(logging.ERROR)
    huey, _ = _declared(job)
    consumer = huey.create_consumer(
        workers=THREADS[job.mode], worker_type="thread", periodic=False, initial_delay=0.001
    )
    job.begin()
    consumer.start()
    job.wait()
    consumer.stop(graceful=True)
    return f"synchronous {job.mode.upper()}, WAL, {THREADS[job.mode]} threads, no results, pops (at most once)"


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["huey"], tuple(THREADS))
