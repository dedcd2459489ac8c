"""The ledgers that the contract is held against: each made on a folder, which stands for one store."""

from __future__ import annotations

from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.sqlite import SqliteLedger
from postgres_server import schema_of


def sqlite(_request, folder, clock):
    return SqliteLedger(f"sqlite:///{folder}/ledger.db", clock=clock)


def postgres(request, folder, clock):
    server = request.getfixturevalue("postgres")
    return PostgresLedger(f"{server.url}?schema={schema_of(folder)}", clock=clock)


LEDGERS = {"sqlite": sqlite, "postgres": postgres}
