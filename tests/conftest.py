from __future__ import annotations

import asyncio
import itertools
import json

import boto3
import hypothesis
import pytest

from servers import moto_server

_NUMBERS = itertools.count()

# No test depends on how fast the machine is, and hypothesis' deadline for an example would be such a test.
hypothesis.settings.register_profile("fanfold", deadline=None)
hypothesis.settings.load_profile("fanfold")


@pytest.fixture(scope="session")
def sqs_endpoint():
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def until():
    """Waits, on the event loop, until something holds."""

    async def wait(holds):
        while not holds():  # noqa: ASYNC110 - a state, not an event
            await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def sqs_client(sqs_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = boto3.client("sqs", endpoint_url=sqs_endpoint)
    yield client
    client.close()


@pytest.fixture
def sqs_queue(sqs_client):
    """A fresh FIFO queue with its dead letter queue on moto's server: both URLs."""
    name = f"tasks{next(_NUMBERS)}"
    dlq = sqs_client.create_queue(QueueName=f"{name}-dlq.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs_client.get_queue_attributes(QueueUrl=dlq, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 10})
    attributes = {"FifoQueue": "true", "RedrivePolicy": policy}
    url = sqs_client.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
    yield url, dlq
    sqs_client.delete_queue(QueueUrl=url)
    sqs_client.delete_queue(QueueUrl=dlq)
