"""persist-queue: a queue on SQLite without a worker; the loop is what one writes around it."""

from __future__ import annotations

from pathlib import Path

from persistqueue import SQLiteAckQueue

from contract import Job, main

SETTINGS = "SQLiteAckQueue, synchronous FULL, WAL, one thread, a loop of get and ack"


def _queue(job: Job) -> SQLiteAckQueue:
    file = Path(job.url)
    return SQLiteAckQueue(str(file.parent), db_file_name=file.name, auto_commit=True)


def enqueue(job: Job) -> str:
    """One insert and commit a task."""
    queue = _queue(job)
    job.begin()
    for entity, task in job.entities():
        queue.put({"entity_id": entity, "task_name": task})
    job.end()
    return SETTINGS


def drain(job: Job) -> str:
    """Get and acknowledge."""
    queue = _queue(job)
    job.begin()
    for _ in range(job.tasks):
        queue.ack(queue.get())
    job.end()
    return SETTINGS


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["persist-queue"])
