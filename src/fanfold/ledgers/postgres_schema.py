"""Bringing the ledger's tables in PostgreSQL up to date; any number of workers may do it at once."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql as composing

from fanfold import sql
from fanfold.errors import LedgerError
from fanfold.ledgers import postgres_errors
from fanfold.ledgers.postgres_address import PostgresAddress
from fanfold.ledgers.postgres_connections import Connection, composed

_VERSIONS: Final = tuple(map(composing.SQL, sql.load("fanfold.ledgers", "postgres_schema.sql").values()))
_FUNCTIONS: Final = tuple(map(composing.SQL, sql.load("fanfold.ledgers", "postgres_functions.sql").values()))


def migrate(connection: Connection, address: PostgresAddress) -> None:
    """Make the schema and the tables, or bring them up to date; where they are, nothing is written.

    Raises:
        LedgerError: the role may not, or the tables are of a newer Fanfold's.
    """
    statements = composed(address.schema)
    try:
        if _version(connection, address) < len(_VERSIONS):
            with connection.transaction():
                connection.execute(statements["take_turn"], {"schema": address.schema})
                _bring_up_to_date(connection, address)
    except psycopg.Error as error:
        raise postgres_errors.told(error, address.shown) from error


def versions(connection: Connection, address: PostgresAddress) -> tuple[int, int]:
    """Which version the tables are of (0: there are none), and which this Fanfold wants. Nothing is changed.

    Raises:
        LedgerError: they are of a newer Fanfold's, or can't be read.
    """
    try:
        return _version(connection, address), len(_VERSIONS)
    except psycopg.Error as error:
        raise postgres_errors.told(error, address.shown) from error


def lacking(connection: Connection, address: PostgresAddress) -> list[str]:
    """Rights that this connection's role hasn't to what is in the schema, such as `UPDATE ON fanfold.tasks`.

    Raises:
        LedgerError: the server can't be asked.
    """
    try:
        rows = connection.execute(composed(address.schema)["lacking"], {"schema": address.schema}).fetchall()
    except psycopg.Error as error:
        raise postgres_errors.told(error, address.shown) from error
    return [f"{row['privilege']} ON {row['thing']}" for row in rows]


def _version(connection: Connection, address: PostgresAddress) -> int:
    """The tables' version; 0 where there are none."""
    statements = composed(address.schema)
    there = connection.execute(statements["installed"], {"schema": address.schema}).fetchall()[0]
    found = connection.execute(statements["version"]).fetchall() if there["tables"] else []
    version = int(found[0]["version"]) if found else 0
    if version > len(_VERSIONS):
        raise LedgerError(
            f"ledger {address.shown}: the tables in schema {address.schema} are of version {version}, this Fanfold "
            f"knows {len(_VERSIONS)}. Install the newer Fanfold here, too, or use another schema (?schema=...)."
        )
    return version


def _bring_up_to_date(connection: Connection, address: PostgresAddress) -> None:
    statements, values = composed(address.schema), {"schema": address.schema}
    version = _version(connection, address)  # somebody may have done it while we waited for our turn
    if version == len(_VERSIONS):
        return
    if not connection.execute(statements["installed"], values).fetchall()[0]["schema"]:
        connection.execute(statements["create_schema"])
    connection.execute(statements["enter_schema"])
    for script in (*_VERSIONS[version:], *_FUNCTIONS):
        connection.execute(script)
    connection.execute(statements["note_version"], {"version": len(_VERSIONS)})
