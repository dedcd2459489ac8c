"""dramatiq-sqs: standard queues only, it has no FIFO."""

from __future__ import annotations

import os

import dramatiq
from dramatiq_sqs import SQSBroker

from contract import Job, main

THREADS = 8


def _declared(job: Job):
    broker = SQSBroker(endpoint_url=job.endpoint, region_name=os.environ["AWS_DEFAULT_REGION"])
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name=job.queue, actor_name="nothing")
    def nothing(entity_id: str, task_name: str) -> None:
        job.done()

    return broker, nothing


def enqueue(job: Job) -> str:
    """One send a task: there is no other way."""
    _, nothing = _declared(job)
    nothing.send("warm", "up")
    job.tasks -= 1
    job.begin()
    for entity, task in job.entities():
        nothing.send(entity, task)
    job.end()
    return "standard queue (no FIFO), one thread, one message a request"


def drain(job: Job) -> str:
    """One worker."""
    broker, _ = _declared(job)
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=1000)
    job.begin()
    worker.start()
    job.wait()
    worker.stop()
    return f"standard queue (no FIFO), {THREADS} threads, prefetch 10, no heartbeat"


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["dramatiq-sqs", "dramatiq", "boto3"])
