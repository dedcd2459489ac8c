"""Takes the place of the conftests of moto's repository. Test files stay as they were shipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
import moto.core
import pytest

# Before the cases are imported: they take the account from here.
moto.core.DEFAULT_ACCOUNT_ID = os.environ["MOTO_ACCOUNT_ID"]
_ENDPOINT = os.environ["TEST_SERVER_MODE_ENDPOINT"]


def pytest_configure(config: pytest.Config) -> None:
    """Know moto's own marker."""
    config.addinivalue_line("markers", "aws_verified: moto's maintainers have seen it pass against AWS")


@pytest.fixture
def account_id() -> str:
    """The account, without a question to STS."""
    return os.environ["MOTO_ACCOUNT_ID"]


@pytest.fixture(scope="session")
def direct_client() -> Any:
    """A client that no mock touches."""
    return boto3.client("sqs", endpoint_url=_ENDPOINT)


@pytest.fixture(autouse=True)
def nothing_left(direct_client: Any) -> Iterator[None]:
    """Each case finds no queue: moto's own runs throw its state away between two cases."""
    yield
    for url in direct_client.list_queues().get("QueueUrls", ()):
        with suppress(direct_client.exceptions.QueueDoesNotExist):  # some list the queues of other regions too
            direct_client.delete_queue(QueueUrl=url)
