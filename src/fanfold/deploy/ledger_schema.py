"""The ledger's tables in PostgreSQL: what is missing of them, and which rights to them. Nothing is changed."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from fanfold.deploy.provision import Change
from fanfold.errors import MissingExtraError

_NEEDS: Final = "a ledger on PostgreSQL needs psycopg: pip install 'fanfold[postgres]'"


def look(url: str) -> list[Change]:
    """What has to change for this Fanfold: tables to make, or to bring up to date. Blocks.

    Raises:
        ConfigurationError: the URL can't be read.
        LedgerError: the server can't be asked, or the tables are of a newer Fanfold's.
        MissingExtraError: psycopg isn't installed.
    """
    try:
        from fanfold.ledgers import postgres_schema  # noqa: PLC0415 - psycopg is an extra
        from fanfold.ledgers.postgres_address import parse_postgres  # noqa: PLC0415
        from fanfold.ledgers.postgres_connections import Connections  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(_NEEDS) from error
    address = parse_postgres(url)
    with closing(Connections(address).connect()) as connection:
        there, wanted = postgres_schema.versions(connection, address)
    tables = f"tables in schema {address.schema} of {address.shown}"
    if there == 0:
        return [Change(target=tables)]
    if there < wanted:
        return [Change(target=tables, attribute="version", before=str(there), after=str(wanted))]
    return []


def lacking(url: str) -> list[str]:
    """The rights that whoever asks hasn't to tables that are there, as GRANT names them. Blocks; raises as `look`."""
    from fanfold.ledgers import postgres_schema  # noqa: PLC0415 - psycopg is an extra
    from fanfold.ledgers.postgres_address import parse_postgres  # noqa: PLC0415
    from fanfold.ledgers.postgres_connections import Connections  # noqa: PLC0415

    address = parse_postgres(url)
    with closing(Connections(address).connect()) as connection:
        return postgres_schema.lacking(connection, address)
