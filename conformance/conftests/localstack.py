"""Takes the place of the conftests of LocalStack's repository: fixtures, markers and transformers from its package.

Loaded by `pytest -p localstack_suite` beside test files that stay as they were shipped.
"""

from __future__ import annotations

from typing import Any

import pytest
from localstack.testing.aws.util import (
    base_aws_client_factory,
    base_aws_session,
    base_testing_aws_client,
    secondary_aws_session,
)
from localstack.testing.snapshots.transformer_utility import SNAPSHOT_BASIC_TRANSFORMER, TransformerUtility
from localstack.utils.aws.arns import get_partition
from localstack_snapshot.snapshots.transformer import RegexTransformer

pytest_plugins = [
    "localstack.testing.pytest.fixtures",
    "localstack.testing.pytest.marking",
    "localstack_snapshot.pytest.snapshot",
]

_RECORDED_ACCOUNT = "1" * 12


def pytest_configure(config: pytest.Config) -> None:
    """A snapshot that differs is a failure, as in LocalStack's own runs."""
    config.option.snapshot_verify = True


@pytest.fixture(scope="session")
def aws_session() -> Any:
    """A session with the test credentials."""
    return base_aws_session()


@pytest.fixture(scope="session")
def secondary_aws_session_fixture() -> Any:
    """As above, of another account."""
    return secondary_aws_session()


@pytest.fixture(scope="session")
def aws_client_factory(aws_session: Any) -> Any:
    """Makes clients against the endpoint under test."""
    return base_aws_client_factory(aws_session)


@pytest.fixture(scope="session")
def secondary_aws_client_factory(secondary_aws_session_fixture: Any) -> Any:
    """As above, of another account."""
    return base_aws_client_factory(secondary_aws_session_fixture)


@pytest.fixture(scope="session")
def aws_client(aws_client_factory: Any) -> Any:
    """Clients of both protocols, as `aws_client.sqs` and `aws_client.sqs_query`."""
    return base_testing_aws_client(aws_client_factory)


@pytest.fixture(scope="session")
def secondary_aws_client(secondary_aws_client_factory: Any) -> Any:
    """As above, of another account."""
    return base_testing_aws_client(secondary_aws_client_factory)


@pytest.fixture
def snapshot(_snapshot_session: Any, account_id: str, region_name: str) -> Any:
    """What AWS answered when the case was recorded, with the same things replaced as in LocalStack's own runs."""
    session = _snapshot_session
    session.transform = TransformerUtility
    session.add_transformer(RegexTransformer(account_id, _RECORDED_ACCOUNT), priority=2)
    session.add_transformer(RegexTransformer(region_name, "<region>"), priority=2)
    session.add_transformer(RegexTransformer(f"arn:{get_partition(region_name)}:", "arn:<partition>:"), priority=2)
    session.add_transformer(SNAPSHOT_BASIC_TRANSFORMER, priority=2)
    return session
