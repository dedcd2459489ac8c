"""Two endpoints, the same requests, the same answers. `make conformance` says where the endpoints are."""

from __future__ import annotations

import os

import boto3
import pytest
from botocore.config import Config

OURS, PEER = "FANFOLD_ENDPOINT", "FANFOLD_PEER_ENDPOINT"

# Without two endpoints there is nothing to compare: `make test` doesn't start another implementation.
collect_ignore_glob = [] if OURS in os.environ and PEER in os.environ else ["test_*.py"]


def _client(variable):
    # Illegal requests are the point: botocore must let them out, and an error of the server's is an answer too.
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return boto3.client("sqs", endpoint_url=os.environ[variable], config=config)


@pytest.fixture(scope="session")
def clients():
    """Our endpoint's and the other one's."""
    pair = (_client(OURS), _client(PEER))
    yield pair
    for client in pair:
        client.close()
