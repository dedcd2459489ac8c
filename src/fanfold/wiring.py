"""URLs to parts: which broker and which ledger an address means."""

from __future__ import annotations

import random
from typing import Any

from fanfold.brokers.protocol import Broker
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.clock import Clock
from fanfold.database import Database
from fanfold.errors import ConfigurationError, MissingExtraError
from fanfold.ledgers.protocol import Ledger
from fanfold.ledgers.sqlite import SqliteLedger
from fanfold.settings import Settings
from fanfold.telemetry import Telemetry
from fanfold.urls import is_sqlite, parse_sqlite

NO_LEDGER = "none"


def connect(
    settings: Settings, *, sqs_client: Any, clock: Clock, rng: random.Random, telemetry: Telemetry
) -> tuple[Broker, Ledger | None]:
    """The broker and the ledger of these settings, not opened yet.

    Raises:
        ConfigurationError: an address of no known kind.
    """
    if is_sqlite(settings.queue_url):
        return _embedded(settings, clock=clock)
    if not settings.queue_url.startswith(("https://", "http://")):
        raise ConfigurationError(
            f"queue URL {settings.queue_url!r}: write sqlite:///tasks.db, or the https:// URL of an SQS FIFO queue"
        )
    from fanfold.brokers.sqs import SqsBroker  # noqa: PLC0415 - boto3 is imported only where SQS is used

    broker = SqsBroker(
        settings.queue_url,
        dlq_url=settings.dlq_url,
        region=settings.region,
        client=sqs_client,
        telemetry=telemetry,
        clock=clock,
        rng=rng,
    )
    return broker, ledger_at(settings.ledger, clock)


def _embedded(settings: Settings, *, clock: Clock) -> tuple[Broker, Ledger | None]:
    address = parse_sqlite(settings.queue_url)
    if settings.dlq_url is not None:
        raise ConfigurationError(
            f"dlq_url {settings.dlq_url!r}: the embedded queue has its own, {address.dead_letter_queue}; leave it out"
        )
    database = Database(address.path, synchronous=address.synchronous)
    broker = SqliteBroker(settings.queue_url, database=database, clock=clock)
    wanted = settings.ledger or settings.queue_url
    if is_sqlite(wanted) and parse_sqlite(wanted).path == address.path:
        return broker, SqliteLedger(settings.queue_url, database=database, clock=clock)
    return broker, ledger_at(wanted, clock)


def ledger_at(url: str | None, clock: Clock) -> Ledger | None:
    """The ledger at an address, not opened yet; None where there is to be none. Raises ConfigurationError."""
    if url is None or url == NO_LEDGER:
        return None
    if is_sqlite(url):
        return SqliteLedger(url, clock=clock)
    if url.startswith(("postgresql://", "postgres://")):
        return _postgres(url, clock)
    if url.startswith("dynamodb://"):
        from fanfold.ledgers.dynamodb.ledger import DynamoDBLedger  # noqa: PLC0415 - boto3 only where it is used

        return DynamoDBLedger(url, clock=clock)
    raise ConfigurationError(
        f"ledger {url!r}: write sqlite:///ledger.db, postgresql://user@host/database, dynamodb://table?region=…, or "
        f"{NO_LEDGER!r} for none"
    )


def _postgres(url: str, clock: Clock) -> Ledger:
    try:
        from fanfold.ledgers.postgres import PostgresLedger  # noqa: PLC0415 - psycopg is an extra
    except ImportError as error:
        raise MissingExtraError("a ledger on PostgreSQL needs psycopg: pip install 'fanfold[postgres]'") from error
    return PostgresLedger(url, clock=clock)
