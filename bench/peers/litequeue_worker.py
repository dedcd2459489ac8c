"""litequeue: a queue on SQLite without a worker; the loop is what one writes around it."""

from __future__ import annotations

import json

from litequeue import LiteQueue

from contract import Job, main

SETTINGS = "synchronous NORMAL, WAL, one thread, a loop of pop and done"


def enqueue(job: Job) -> str:
    """One insert and commit a task."""
    queue = LiteQueue(job.url)
    job.begin()
    for entity, task in job.entities():
        queue.put(json.dumps({"entity_id": entity, "task_name": task}))
    job.end()
    return SETTINGS


def drain(job: Job) -> str:
    """Pop and done."""
    queue = LiteQueue(job.url)
    job.begin()
    for _ in range(job.tasks):
        message = queue.pop()
        json.loads(message.data)
        queue.done(message.message_id, claim_id=message.claim_id)
    job.end()
    return SETTINGS


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["litequeue"])
