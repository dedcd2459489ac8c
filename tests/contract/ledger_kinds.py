"""The ledgers that the contract is held against: each made on a folder, which stands for one store."""

from __future__ import annotations

from fanfold.ledgers.dynamodb.ledger import DynamoDBLedger
from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.sqlite import SqliteLedger
from postgres_server import schema_of
from servers import table_of


def sqlite(_request, folder, clock):
    return SqliteLedger(f"sqlite:///{folder}/ledger.db", clock=clock)


def postgres(request, folder, clock):
    server = request.getfixturevalue("postgres")
    return PostgresLedger(f"{server.url}?schema={schema_of(folder)}", clock=clock)


def dynamodb(request, folder, clock):
    client = request.getfixturevalue("dynamodb_client")
    return DynamoDBLedger(f"dynamodb://{table_of(folder)}?create=true", client=client, clock=clock)


LEDGERS = {"sqlite": sqlite, "postgres": postgres, "dynamodb": dynamodb}
LARGE = {"sqlite": 2_500, "postgres": 2_500, "dynamodb": 250}
"""Tasks of a large plan: more than one statement writes, and for DynamoDB than one bucket holds or one batch writes."""
