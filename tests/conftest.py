from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys

import boto3
import hypothesis
import pytest
from botocore.config import Config

from fanfold import Fanfold
from fanfold.ledgers.dynamodb.ledger import DynamoDBLedger
from fanfold.ledgers.dynamodb.table import create_table
from fanfold.testing import FakeClock
from kafka_broker import kafka_broker
from kafka_mock import mock_cluster
from postgres_server import postgres_server, schema_of
from servers import fanfold_server, moto_server, table_of

_NUMBERS = itertools.count()
_LOOK = 0.001
_MOST_FOR_WAITING = 8
"""Workers, each of half a gigabyte with its servers."""

# No test depends on how fast the machine is, and hypothesis' deadline for an example would be such a test.
hypothesis.settings.register_profile("fanfold", deadline=None)
hypothesis.settings.load_profile("fanfold")

# Many a container says so, and each of the hundreds of processes that the tests start would compile Fanfold anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what goes to the background like that, and the commands that the tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, optionalhook=True)  # xdist may be switched off
def pytest_xdist_auto_num_workers():
    """Two workers a core, since many tests wait for processes, servers and disks, up to eight; beyond, one a core."""
    cores = yield
    told = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return cores if told else max(cores, min(2 * cores, _MOST_FOR_WAITING))


@pytest.fixture(scope="session")
def sqs_endpoint():
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server, shared by the tests of one process; each takes a schema of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def schema(tmp_path):
    """The name of a schema that nobody else uses."""
    return schema_of(tmp_path)


@pytest.fixture
def postgres_url(postgres, schema):
    """A ledger's, in that schema of the shared server."""
    return f"{postgres.url}?schema={schema}"


@pytest.fixture(scope="session")
def mortal_postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture
def stoppable_postgres(mortal_postgres):
    """A PostgreSQL server that the test may stop; it runs, and has no ledger's tables in it."""
    yield mortal_postgres
    mortal_postgres.start()
    mortal_postgres.execute("DROP SCHEMA IF EXISTS fanfold CASCADE")


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


@pytest.fixture(scope="session")
def served_endpoint(tmp_path_factory):
    """`fanfold serve` on a fresh file."""
    with fanfold_server(tmp_path_factory.mktemp("serve") / "tasks.db") as server:
        yield server.url


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def app(tmp_path, clock):
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock) as made:
        yield made


@pytest.fixture
def until(clock):
    """Waits, on the event loop, until something holds; with `moving`, the clock goes on by a second at each look."""

    async def wait(holds, *, moving=False):
        while not holds():
            clock.advance(1 if moving else 0)
            await asyncio.sleep(_LOOK)

    return wait


@pytest.fixture(scope="session")
def dynamodb_client(sqs_endpoint):
    """A client for DynamoDB on moto's server, shared by the tests of one process; each takes a table of its own."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-1"}
    config = Config(max_pool_connections=64, retries={"mode": "standard", "max_attempts": 3})
    client = boto3.client("dynamodb", endpoint_url=sqs_endpoint, config=config, **keys)
    yield client
    client.close()


@pytest.fixture
def dynamodb_table(tmp_path, dynamodb_client):
    """The name of a fresh table for a ledger."""
    name = table_of(tmp_path)
    create_table(f"dynamodb://{name}", client=dynamodb_client)
    return name


@pytest.fixture
async def connect_dynamodb(dynamodb_table, clock):
    """Makes ledgers on that table, each with a client of its own kind."""
    async with contextlib.AsyncExitStack() as opened:

        async def connect(client):
            ledger = DynamoDBLedger(f"dynamodb://{dynamodb_table}", client=client, clock=clock)
            await ledger.start()
            opened.push_async_callback(ledger.close)
            return ledger

        yield connect


@pytest.fixture
def sqs_client(sqs_endpoint, monkeypatch):
    yield from a_client(sqs_endpoint, monkeypatch)


@pytest.fixture
def served_client(served_endpoint, monkeypatch):
    yield from a_client(served_endpoint, monkeypatch)


@pytest.fixture
def sqs_queue(sqs_client):
    """A fresh FIFO queue with its dead letter queue on moto's server: both URLs."""
    yield from a_queue(sqs_client)


@pytest.fixture
def served_queue(served_client):
    """The same on `fanfold serve`."""
    yield from a_queue(served_client)


def a_client(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = boto3.client("sqs", endpoint_url=endpoint)
    yield client
    client.close()


def a_queue(sqs_client):
    name = f"tasks{next(_NUMBERS)}"
    dlq = sqs_client.create_queue(QueueName=f"{name}-dlq.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs_client.get_queue_attributes(QueueUrl=dlq, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 10})
    attributes = {"FifoQueue": "true", "RedrivePolicy": policy}
    url = sqs_client.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
    yield url, dlq
    sqs_client.delete_queue(QueueUrl=url)
    sqs_client.delete_queue(QueueUrl=dlq)


@pytest.fixture
def no_aws(tmp_path, monkeypatch):
    """Nothing of this machine's own settings for AWS, and no keys."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
