"""The handler that people write by hand: one boto3 client, one message a request."""

from __future__ import annotations

import json

import boto3

from contract import Job, main


def enqueue(job: Job) -> str:
    """One send a task."""
    sqs = boto3.client("sqs", endpoint_url=job.endpoint)
    job.begin()
    for entity, task in job.entities():
        sqs.send_message(
            QueueUrl=job.url,
            MessageBody=json.dumps({"entity_id": entity, "task_name": task, "task_config": {}, "metadata": {}}),
            MessageGroupId=f"{entity}-{task}",
            MessageDeduplicationId=f"{entity}-{task}",
        )
    job.end()
    return "one thread, one message a request"


def drain(job: Job) -> str:
    """One receive and one delete a task."""
    sqs = boto3.client("sqs", endpoint_url=job.endpoint)
    job.begin()
    left = job.tasks
    while left:
        for message in sqs.receive_message(QueueUrl=job.url, WaitTimeSeconds=5).get("Messages", []):
            json.loads(message["Body"])
            sqs.delete_message(QueueUrl=job.url, ReceiptHandle=message["ReceiptHandle"])
            left -= 1
    job.end()
    return "one thread, one message a request"


if __name__ == "__main__":
    main({"enqueue": enqueue, "drain": drain}, ["boto3"])
