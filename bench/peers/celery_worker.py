"""celery[sqs]; the mode names the worker's pool."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading

from celery import Celery
from celery.signals import worker_ready

from contract import Job, main

POOLS = {"threads": 8, "solo": 1, "prefork": 1}


def _application(job: Job):
    app = Celery("bench", broker=f"sqs://bench:bench@{job.endpoint.removeprefix('http://')}")
    app.conf.update(
        task_default_queue=job.queue,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=100 // POOLS.get(job.mode, 1),
        worker_send_task_events=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "region": os.environ["AWS_DEFAULT_REGION"],
            "is_secure": False,
            "wait_time_seconds": 5,
            "polling_interval": 0.01,
            "visibility_timeout": 600,
            "predefined_queues": {job.queue: {"url": job.url}},
        },
    )

    @app.task(name="nothing")
    def nothing(entity_id: str, task_name: str) -> None:
        job.done()

    return app, nothing


def enqueue(job: Job) -> str:
    """One send a task: there is no other way."""
    _, nothing = _application(job)
    nothing.apply_async(("warm", "up"), MessageGroupId="warm", MessageDeduplicationId=f"{job.prefix}-warm")
    job.tasks -= 1
    job.begin()
    for entity, task in job.entities():
        names = f"{entity}-{task}"
        nothing.apply_async((entity, task), MessageGroupId=names, MessageDeduplicationId=names)
    job.end()
    return "one thread, one message a request"


def drain(job: Job) -> str:
    """One worker."""
    app, _ = _application(job)
    concurrency = POOLS[job.mode]

    @worker_ready.connect
    def ready(**_: object) -> None:
        job.begin()

    def stop() -> None:
        job.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    options = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    worker = app.Worker(pool=job.mode, concurrency=concurrency, loglevel=logging.ERROR, quiet=True, **options)
    with contextlib.suppress(SystemExit):
        worker.start()
    return f"pool {job.mode} {concurrency}, prefetch of 100, polling_interval 0.01, results ignored, no heartbeat"


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["celery", "kombu", "boto3"], tuple(POOLS))
