"""Bare boto3 in tens, in one thread: what its requests alone cost, without anything that a library does."""

from __future__ import annotations

import json
from itertools import batched

import boto3

from contract import Job, main


def enqueue(job: Job) -> str:
    """Ten tasks a send."""
    sqs = boto3.client("sqs", endpoint_url=job.endpoint)
    job.begin()
    for tasks in batched(job.entities(), 10):
        entries = [
            {
                "Id": str(place),
                "MessageBody": json.dumps({"entity_id": entity, "task_name": task, "task_config": {}, "metadata": {}}),
                "MessageGroupId": f"{entity}-{task}",
                "MessageDeduplicationId": f"{entity}-{task}",
            }
            for place, (entity, task) in enumerate(tasks)
        ]
        if sqs.send_message_batch(QueueUrl=job.url, Entries=entries).get("Failed"):
            raise RuntimeError("a message was refused")
    job.end()
    return "one thread, ten messages a request"


def drain(job: Job) -> str:
    """Ten tasks a receive and a delete."""
    sqs = boto3.client("sqs", endpoint_url=job.endpoint)
    job.begin()
    left = job.tasks
    while left:
        messages = sqs.receive_message(QueueUrl=job.url, MaxNumberOfMessages=10, WaitTimeSeconds=5).get("Messages", [])
        for message in messages:
            json.loads(message["Body"])
        if messages:
            handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=job.url, Entries=handles)
        left -= len(messages)
    job.end()
    return "one thread, ten messages a request"


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["boto3"])
