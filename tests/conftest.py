from __future__ import annotations

import itertools
import json

import boto3
import hypothesis
import pytest

from kafka_broker import kafka_broker
from kafka_mock import mock_cluster
from servers import moto_server

_NUMBERS = itertools.count()

# No test depends on how fast the machine is, and hypothesis' deadline for an example would be such a test.
hypothesis.settings.register_profile("fanfold", deadline=None)
hypothesis.settings.load_profile("fanfold")


@pytest.fixture(scope="session")
def sqs_endpoint():
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def kafka():
    """A Kafka broker of the real kind."""
    with kafka_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_mock():
    """A mock cluster that answers with the errors that it is told."""
    with mock_cluster() as cluster:
        yield cluster


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
